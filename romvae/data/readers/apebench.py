"""APEBench: `.npy` arrays (trajectory, time, channel, x, y, z) beside a `.json` that describes the scenario.

Training and test arrays of a scenario are read together; the shorter trajectories are then NaN beyond their end.
The first frame is the initial field. Domains are periodic.

Limitations: scenarios stated by difficulty have no physical time or length. Time then counts steps, with a warning,
and the box has length one.

References:
    Koehler et al. (2024), APEBench: a benchmark for autoregressive neural emulators of PDEs, arXiv:2411.00180.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from romvae.canonical import TIME, TRAJECTORY
from romvae.data.mapping import Mapping
from romvae.data.readers.arrays import npy_array
from romvae.data.readers.axes import counted
from romvae.data.readers.files import Files, json_file
from romvae.data.readers.part import About, Part
from romvae.data.readers.piece import Piece
from romvae.errors import DataError

__all__ = ["read", "recognises"]

_SPLITS = ("train", "test")


def recognises(files: Files) -> bool:
    """A `.npy` file beside a `.json` of the same name that has an entry `info`."""
    for path in files.ending(".npy"):
        about = _description(path)
        if about.is_file() and "info" in json_file(about, str(about)):
            return True
    return False


def read(files: Files, mapping: Mapping) -> tuple[list[Part], About]:
    """Reads the arrays of one scenario."""
    paths = [p for p in files.ending(".npy") if mapping.part in (None, _split(p))]
    if not paths:
        raise DataError(f"{files.source}: has no .npy file of part {mapping.part!r}. Check part in the mapping")
    about = json_file(_description(paths[0]), str(_description(paths[0])))
    info = about.get("info", {})
    parts = [_part(path, str(path), info if isinstance(info, dict) else {}) for path in paths]
    axes = tuple(parts[0].axes)
    facts = {"title": str(about.get("name", paths[0].stem)), "source_info": json.dumps(info)}
    sides = dict.fromkeys(axes, ("periodic", "periodic"))
    return parts, About("apebench", ", ".join((TRAJECTORY, TIME, "channel", *axes)), {}, {}, sides, facts)


def _part(path: Path, where: str, info: dict[str, Any]) -> Part:
    array = npy_array(path, where)
    if not 4 <= len(array.shape) <= 6:
        raise DataError(f"{where}: has shape {array.shape}, expected (trajectory, time, channel, x[, y[, z]])")
    count, frames, channels, *space = array.shape
    if len(set(space)) > 1 or info.get("num_points", space[0]) != space[0]:
        raise DataError(
            f"{where}: has {space} points in space, but APEBench grids have equal sides"
            f"{_points(info)}. Check that the axes are (trajectory, time, channel, x, y, z)"
        )
    stored = ("x", "y", "z")[: len(space)]
    length = float(info.get("domain_extent", 1.0))
    step = info.get("dt")
    times = counted(frames, TIME, where) if step is None else float(step) * np.arange(frames)
    axes = {axis: length * np.arange(n) / n for axis, n in zip(stored, space, strict=True)}
    names = ["u"] if channels == 1 else [f"u{i}" for i in range(channels)]
    fields = {name: [Piece(array, (TRAJECTORY, TIME, i, *stored))] for i, name in enumerate(names)}
    return Part(where, fields, times, axes, count, labels={"source_split": _split(path)})


def _points(info: dict[str, Any]) -> str:
    return f" ({info['num_points']} by the .json)" if "num_points" in info else ""


def _split(path: Path) -> str:
    ending = path.stem.rpartition("_")[2]
    return ending if ending in _SPLITS else ""


def _description(path: Path) -> Path:
    stem = path.stem.removesuffix("_train").removesuffix("_test")
    return path.with_name(f"{stem}.json")
