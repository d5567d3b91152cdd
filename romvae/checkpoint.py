"""A saved ROM: JSON and safetensors with a checksum manifest. Loading executes nothing from the files."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from romvae.atomic import atomic_folder
from romvae.errors import CheckpointError
from romvae.kinds import DEFAULTS
from romvae.version import __version__

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["FORMAT", "MIGRATIONS", "Content", "file_sha256", "load_rom", "restored", "save_rom"]

FORMAT = 2
"""Version of the layout of a saved ROM; a reader refuses newer ones."""


@dataclass(frozen=True)
class Content:
    """What a saved ROM holds: its description as JSON types and its weights by name."""

    description: dict[str, Any]
    weights: dict[str, torch.Tensor]


def _with_choices(content: Content) -> Content:
    """Format 1 knew one kind of each part, which is the default now."""
    model = {**DEFAULTS, **content.description["model"]}
    return Content({**content.description, "model": model}, content.weights)


MIGRATIONS: dict[int, Callable[[Content], Content]] = {1: _with_choices}
"""For each older format, what turns its content into that of the next one."""

WEIGHTS, CONFIG, MANIFEST = "model.safetensors", "config.json", "manifest.json"


def save_rom(rom: ROM, path: Path, overwrite: bool = False) -> Path:
    """Writes `config.json`, `model.safetensors` and `manifest.json` into the folder `path`."""
    with atomic_folder(path, overwrite) as folder:
        save_file(rom.state_arrays(), folder / WEIGHTS)
        (folder / CONFIG).write_text(rom.description(), encoding="utf-8")
        manifest = {
            "format": FORMAT,
            "romvae": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "data_sha256": rom.data_hash,
            "sha256": {name: file_sha256(folder / name) for name in (WEIGHTS, CONFIG)},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    return path


def load_rom(path: Path) -> ROM:
    """Reads a folder written by `save_rom`; a run folder that holds it as `model/` will do."""
    if (path / "model" / MANIFEST).is_file():
        path = path / "model"
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise CheckpointError(
            f"{path}: found {found}, expected the folder of a saved ROM. Give a run of `romvae train`."
        )
    manifest = _json(path / MANIFEST)
    if manifest.get("kind") == "baseline":
        raise CheckpointError(
            f"{path}: holds a baseline, expected a ROM. Train one with --model vae; romvae rollout takes both."
        )
    version = manifest.get("format")
    if isinstance(version, bool) or not isinstance(version, int) or not _readable(version):
        oldest = min((*MIGRATIONS, FORMAT))
        raise CheckpointError(
            f"{path / MANIFEST}: format is {version!r}, this romvae {__version__} reads {oldest} up to {FORMAT} "
            f"(written by romvae {manifest.get('romvae', 'unknown')}). Install that version."
        )
    sums = manifest.get("sha256")
    for name in (WEIGHTS, CONFIG):
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{file}: missing, the saved ROM is incomplete. Copy it whole, or retrain.")
        if not isinstance(sums, dict) or file_sha256(file) != sums.get(name):
            raise CheckpointError(
                f"{file}: its SHA-256 differs from the one in {MANIFEST}: damaged or changed. Copy it again."
            )
    try:
        description = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        content = _migrated(Content(description, load_file(path / WEIGHTS)), version)
        rom = restored(json.dumps(content.description), content.weights)
        rom.data_hash = str(manifest.get("data_sha256", ""))
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        message = f"{path}: weights and configuration do not fit together: {reason}. Train again."
        raise CheckpointError(message) from error
    return rom


def restored(description: str, weights: dict[str, torch.Tensor]) -> ROM:
    """A ROM from `ROM.description` and `ROM.state_arrays`.

    Raises:
        ValueError: The description asks for more than the weights can fill.
        RuntimeError: They do not fit together.
    """
    from romvae.rom import ROM

    _refuse_bomb(Content(json.loads(description), weights))
    rom = ROM.from_description(description)
    rom.load_state_dict(weights)
    return rom.eval()


def _readable(version: int) -> bool:
    return version <= FORMAT and all(older in MIGRATIONS for older in range(version, FORMAT))


def _migrated(content: Content, version: int) -> Content:
    """Content of an older format as that of the present one, one format after the other."""
    for older in range(version, FORMAT):
        content = MIGRATIONS[older](content)
    return content


def _refuse_bomb(content: Content) -> None:
    """Raises where the configuration asks for more than the weights can fill, before anything is allocated."""
    stored = sum(value.numel() for value in content.weights.values())
    for name in ("latent", "patch", "channels", "blocks", "hidden", "depth", "members"):
        size = content.description["model"].get(name)
        if isinstance(size, int) and size > stored:
            raise ValueError(f"{name} is {size}, with {stored} weights in all")


def _json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing, the saved ROM is incomplete. Give a run of `romvae train`.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}. Copy it again, or train again.") from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__}, expected an object. Copy it again, or retrain."
        )
    return content


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as the manifest has it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
