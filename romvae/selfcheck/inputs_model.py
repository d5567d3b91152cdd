"""Data that do not fit a model (8), and bad saved models and training states (9)."""

from __future__ import annotations

import json
import os
import shutil
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from romvae.selfcheck.hooks import at_step, kill
from romvae.selfcheck.record import Case
from romvae.selfcheck.trial import accepted, refused
from romvae.selfcheck.workshop import Workshop

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["checkpoint_inputs", "mismatch_inputs"]


def mismatch_inputs(shop: Workshop, quick: bool) -> list[Case]:
    """All of them, whether `quick` or not."""
    run = shop.run
    words = ("rollout", run, "--start", "HERE/a.h5", "--out", "HERE/f.h5", "--members", 8)

    def start(change: Callable[[xr.Dataset], xr.Dataset]) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            from romvae.data import write_snapshots
            from romvae.testing import mock_snapshots

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                write_snapshots(change(mock_snapshots(1, trajectories=12, times=8)), folder / "a.h5")

        return make

    def bad(name: str, change: Callable[[xr.Dataset], xr.Dataset], pattern: str) -> Case:
        return refused(shop, name, start(change), words, rf"a\.h5: .*(?:{pattern})")

    two = _two_fields(shop)
    return [
        bad("other fields", lambda d: d.rename(u="v"), "field 'u' is missing, found v"),
        bad("other grid", lambda d: d.isel(x=slice(None, None, 2)), "'x' has 8 points"),
        bad("other time step", lambda d: d.isel(time=slice(None, None, 2)), r"time step is 0\.2 s, but .* 0\.1 s"),
        bad("parameter missing", lambda d: d.drop_vars("viscosity"), "parameter 'viscosity' is missing"),
        accepted(shop, "parameter outside the training range", start(_far), words, "outside the trained range"),
        accepted(shop, "other order of variables", _reordered, ("rollout", two, *words[2:]), ""),
        bad("other units", lambda d: _units(d, "km"), "'u' is in 'km'"),
        refused(
            shop,
            "fewer snapshots than a window",
            start(lambda d: d.isel(time=[0])),
            ("train", "HERE/a.h5", "--out", "HERE/run"),
            r"a\.h5: holds a single time",
        ),
    ]


def _two_fields(shop: Workshop) -> Path:
    """A run with the fields u and v."""
    from romvae.selfcheck.child import forked
    from romvae.selfcheck.record import require

    folder = shop.new()

    def write() -> None:
        from romvae.data import write_snapshots
        from romvae.testing import mock_snapshots

        write_snapshots(mock_snapshots(1, ("u", "v"), trajectories=12, times=8), folder / "two.h5")

    require((ended := forked(write)).code == 0, ended.brief)
    ended = shop.train(folder / "run", store=folder / "two.h5")
    require(ended.code == 0, ended.brief)
    return folder / "run"


def _reordered(folder: Path) -> None:
    from romvae.data import write_snapshots
    from romvae.testing import mock_snapshots

    data = mock_snapshots(1, ("u", "v"), trajectories=12, times=8)
    write_snapshots(data[["v", "u"]], folder / "a.h5")


def _far(data: xr.Dataset) -> xr.Dataset:
    attrs = data["viscosity"].attrs
    return data.assign_coords(viscosity=("trajectory", data["viscosity"].values + 50, attrs))


def _units(data: xr.Dataset, units: str) -> xr.Dataset:
    data["u"].attrs["units"] = units
    return data


def checkpoint_inputs(shop: Workshop, quick: bool) -> list[Case]:
    """All of them, whether `quick` or not."""
    run = shop.run
    stopped = shop.new() / "stopped"
    shop.train(stopped, hook=at_step(6, kill))

    def bad(name: str, damage: Callable[[Path], None], pattern: str) -> Case:
        def make(folder: Path) -> None:
            shutil.copytree(run, folder / "run")
            damage(folder / "run" / "model")

        return refused(shop, name, make, ("info", "HERE/run"), rf"run/model.*: .*(?:{pattern})")

    def state(name: str, damage: Callable[[Path], None], pattern: str) -> Case:
        def make(folder: Path) -> None:
            shutil.copytree(stopped, folder / "run")
            for name in ("training.state.previous", "running.json"):  # the second: the lock of what was killed
                (folder / "run" / name).unlink(missing_ok=True)
            damage(folder / "run" / "training.state")

        return refused(shop, name, make, ("train", "--resume", "HERE/run", "-q"), rf"training\.state: .*(?:{pattern})")

    file = "model.safetensors"
    return [
        bad("empty", lambda p: os.truncate(p / file, 0), "SHA-256 differs"),
        bad("truncated", lambda p: os.truncate(p / file, 1000), "SHA-256 differs"),
        bad("flipped byte", lambda p: _flip(p / file, -9), "SHA-256 differs"),
        state("pickle that runs code", _hostile, "without executing code"),
        state("checkpoint of another program", _foreign, "is no training state"),
        bad("missing weight", lambda p: _forged(p, lambda w, c: w.pop(next(iter(w)))), "do not fit together|Missing"),
        bad("wrong shape", lambda p: _forged(p, _reshaped), "do not fit together"),
        bad("latent of 1e9", lambda p: _forged(p, _huge), "do not fit together|latent"),
        bad("header of 2^60 bytes", _length_bomb, "do not fit together|header"),
    ]


def _flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(bytes(content))


def _hostile(path: Path) -> None:
    from romvae.training.session import History, TrainingState, write_state

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(path.with_name("executed")),)

    path.unlink()
    write_state(TrainingState({}, "vae", 0, {}, {"x": Hostile()}, History().to_dict()), path)


def _foreign(path: Path) -> None:
    import torch

    torch.save({"state_dict": {"w": torch.zeros(3)}}, path)


def _forged(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """A model that was changed together with its checksums, as somebody hostile would."""
    from safetensors.numpy import load_file, save_file

    weights, config = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    change(weights, config)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _sealed(folder)


def _sealed(folder: Path) -> None:
    from romvae.checkpoint import file_sha256

    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"] = {name: file_sha256(folder / name) for name in manifest["sha256"]}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _reshaped(weights: dict[str, Any], config: dict[str, Any]) -> None:
    name = next(name for name, value in weights.items() if value.ndim == 2)
    weights[name] = np.zeros((3, 5), weights[name].dtype)


def _huge(weights: dict[str, Any], config: dict[str, Any]) -> None:
    config["model"]["latent"] = 10**9


def _length_bomb(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(struct.pack("<Q", 2**60) + file.read_bytes()[8:])
    _sealed(folder)
