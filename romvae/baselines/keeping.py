"""A fitted baseline as a folder: JSON, safetensors and checksums. Loading executes nothing from the files."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from romvae.atomic import atomic_folder
from romvae.baselines.base import Baseline, State, registered
from romvae.baselines.stack import FieldStack
from romvae.checkpoint import file_sha256
from romvae.errors import CheckpointError, ConfigError
from romvae.version import __version__

__all__ = ["FORMAT", "expect_shape", "is_baseline", "load_baseline", "save_baseline"]

FORMAT = 1
"""Version of the layout; a reader refuses others."""

ARRAYS, FACTS, MANIFEST = "arrays.safetensors", "baseline.json", "manifest.json"
MODEL = "model."
GRID = "grid."


def save_baseline(baseline: Baseline, path: Path, overwrite: bool = False) -> Path:
    """Writes `baseline.json`, `arrays.safetensors` and `manifest.json` into the folder `path`.

    Raises:
        CheckpointError: The baseline is not fitted.
    """
    if getattr(baseline, "stack", None) is None:
        raise CheckpointError(f"{path}: {baseline.name} is not fitted, there is nothing to save. Call fit first.")
    state = baseline._state()
    grid = _grid_state(baseline.stack)
    arrays = {MODEL + name: a for name, a in state.arrays.items()} | {GRID + name: a for name, a in grid.arrays.items()}
    facts = {"name": baseline.name, "choice": baseline.choice, "model": state.facts, "grid": grid.facts}
    with atomic_folder(path, overwrite) as folder:
        save_file({name: np.array(a, order="C") for name, a in arrays.items()}, folder / ARRAYS)
        (folder / FACTS).write_text(json.dumps(_plain(facts), indent=1), encoding="utf-8")
        manifest = {
            "format": FORMAT,
            "kind": "baseline",
            "romvae": __version__,
            "python": platform.python_version(),
            "sha256": {name: file_sha256(folder / name) for name in (ARRAYS, FACTS)},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    return path


def is_baseline(path: Path) -> bool:
    """Whether the folder holds a saved baseline."""
    return (path / FACTS).is_file()


def load_baseline(path: Path) -> Baseline:
    """Reads a folder written by `save_baseline`.

    Raises:
        CheckpointError: Something is missing, damaged, or of another format.
    """
    manifest, facts = _json(path / MANIFEST), _json(path / FACTS)
    if manifest.get("format") != FORMAT or isinstance(manifest.get("format"), bool):
        raise CheckpointError(
            f"{path / MANIFEST}: format is {manifest.get('format')!r}, this romvae {__version__} reads {FORMAT} "
            f"(written by romvae {manifest.get('romvae', 'unknown')}). Install that version."
        )
    sums = manifest.get("sha256")
    for name in (ARRAYS, FACTS):
        file = path / name
        if not file.is_file() or not isinstance(sums, dict) or file_sha256(file) != sums.get(name):
            raise CheckpointError(f"{file}: is missing, damaged or changed. Copy the whole folder again.")
    known = registered()
    if facts.get("name") not in known:
        raise CheckpointError(
            f"{path / FACTS}: the baseline {facts.get('name')!r} is not known, expected one of {', '.join(known)}. "
            "Import the module that registers it."
        )
    try:
        arrays = load_file(path / ARRAYS)
        baseline = known[facts["name"]].__new__(known[facts["name"]])
        baseline.choice = dict(facts["choice"])
        baseline.stack = _grid(State(facts["grid"], _named(arrays, GRID)))
        baseline._restore(State(facts["model"], _named(arrays, MODEL)))
    except (CheckpointError, ConfigError):
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: its parts do not fit together: {reason}. Train again.") from error
    return baseline


def expect_shape(name: str, array: NDArray[Any], *shape: int) -> NDArray[Any]:
    """The array, if it has this shape and is finite.

    Raises:
        ValueError: It has another one.
    """
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name} has shape {array.shape}, expected finite numbers of shape {shape}")
    return array


def _grid_state(stack: FieldStack) -> State:
    template = stack.template
    facts = {
        "fields": list(stack.fields),
        "space": list(stack.space),
        "parameters": list(stack.parameters),
        "dtypes": {name: template[name].dtype.str for name in stack.fields},
        "field_attrs": {name: dict(template[name].attrs) for name in stack.fields},
        "space_attrs": {dim: dict(template[dim].attrs) for dim in stack.space},
        "attrs": dict(template.attrs),
        "time_attrs": dict(stack.time_attrs),
    }
    arrays: dict[str, NDArray[Any]] = {dim: np.asarray(template[dim].values) for dim in stack.space}
    if stack.inside is not None:
        arrays["inside"] = stack.inside
    return State(facts, arrays)


def _grid(state: State) -> FieldStack:
    facts = state.facts
    fields, space = tuple(map(str, facts["fields"])), tuple(map(str, facts["space"]))
    axes = {dim: state.arrays[dim] for dim in space}
    if any(axis.ndim != 1 for axis in axes.values()) or not fields or not space:
        raise ValueError("the grid needs fields and an axis of one dimension for each of its dims")
    shape = tuple(len(axis) for axis in axes.values())
    # Only types and attributes of the template count, not its values: a view of one zero takes no memory.
    values = {name: (space, np.broadcast_to(np.zeros((), facts["dtypes"][name]), shape)) for name in fields}
    coords = {dim: (dim, axis, facts["space_attrs"][dim]) for dim, axis in axes.items()}
    template = xr.Dataset(values, coords, facts["attrs"])
    for name in fields:
        template[name].attrs = dict(facts["field_attrs"][name])
    inside = state.arrays.get("inside")
    if inside is not None and inside.shape != (int(np.prod(shape)),):
        raise ValueError(f"the mask has shape {inside.shape}, expected one value for each of {np.prod(shape)} points")
    return FieldStack(fields, space, tuple(map(str, facts["parameters"])), template, facts["time_attrs"], inside)


def _named(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _plain(value: Any) -> Any:
    """Numbers of NumPy as those of Python, all else as it is."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return value


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error}). Give a folder of Baseline.save.") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected an object. Copy it again.")
    return content
