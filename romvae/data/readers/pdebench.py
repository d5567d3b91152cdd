"""PDEBench: scalar equations, compressible flow, a group per seed, and incompressible flow with forcing.

The file's own traps are met here: one time too many in `t-coordinate`, coordinates in every group, frames that were
allocated but never computed (`latestIndex`). Steady problems (Darcy) are refused: there is no dynamics in them.

Limitations: boundary conditions are stated for compressible flow only, where the file's name tells them; state others
in a mapping. Text in the attribute `config` is not read.

References:
    Takamoto et al. (2022), PDEBench: an extensive benchmark for scientific machine learning, arXiv:2210.07182.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from romvae.canonical import TIME, TRAJECTORY
from romvae.data.mapping import Mapping
from romvae.data.readers.axes import cell_centres, vector_attrs
from romvae.data.readers.files import Files, Outline, attribute, hdf5_array, hdf5_frames, outline_of, values_of
from romvae.data.readers.part import About, Part, only
from romvae.data.readers.piece import Piece
from romvae.errors import DataError, SchemaError

__all__ = ["read", "recognises"]

_AXES = ("x", "y", "z")
_FLOW = ("density", "pressure", "Vx", "Vy", "Vz")
_SEED = re.compile(r"\d{4}")
_NAMED = re.compile(r"(beta|Nu|Rho|Eta|Zeta|M)(\d[\d.]*(?:e-?\d+)?)")
_PARAMETERS = {"beta": "beta", "nu": "nu", "rho": "rho", "eta": "eta", "zeta": "zeta", "m": "mach"}


def recognises(files: Files) -> bool:
    """`tensor` or `density` with `x-coordinate`, groups of four digits with `data`, or `velocity` and `particles`."""
    outline = files.outline
    return outline is not None and _kind(outline) is not None


def read(files: Files, mapping: Mapping) -> tuple[list[Part], About]:
    """Reads one or several files of the same kind."""
    parts: list[Part] = []
    abouts: list[tuple[str, About]] = []
    for path in files.require_hdf5():
        where = files.name(path)
        kind = _kind(outline_of(path, where))
        if kind is None:
            raise DataError(
                f"{where}: holds neither tensor, density, velocity with particles, nor a group per seed, expected a "
                "layout of PDEBench. Leave it out"
            )
        with h5py.File(path, "r") as file:
            found, about = _READ[kind](file, path, where)
        parts += found
        abouts.append((where, about))
    first, about = abouts[0]
    for where, other in abouts:
        if dict(other.boundaries) != dict(about.boundaries):
            raise SchemaError(
                f"{where}: its name says the boundaries are {_sides(other)}, that of {first} {_sides(about)}. "
                "Open files of one kind together"
            )
    return parts, about


def _sides(about: About) -> str:
    return ", ".join(sorted({str(side) for pair in about.boundaries.values() for side in pair})) or "not stated"


def _kind(outline: Outline) -> str | None:
    if outline.has("velocity", "particles", "t"):
        return "incompressible"
    if outline.has("density", "t-coordinate", "x-coordinate"):
        return "flow"
    if outline.has("tensor", "x-coordinate"):
        return "scalar"
    seeds = [name for name in outline.members if _SEED.fullmatch(name)]
    if seeds and len(seeds) == len(outline.members) and f"/{seeds[0]}/data" in outline.shapes:
        return "seeds"
    return None


def _scalar(file: h5py.File, path: Path, where: str) -> tuple[list[Part], About]:
    tensor = file["tensor"]
    if "nu" in file or (tensor.ndim > 2 and tensor.shape[1] == 1):
        raise SchemaError(f"{where}: 'tensor' has one time (a steady problem), expected a series. There is no dynamics")
    return _gridded(file, path, where, {"u": "tensor"})


def _flow(file: h5py.File, path: Path, where: str) -> tuple[list[Part], About]:
    return _gridded(file, path, where, {name: name for name in _FLOW if name in file})


def _gridded(file: h5py.File, path: Path, where: str, names: dict[str, str]) -> tuple[list[Part], About]:
    first = file[next(iter(names.values()))]
    stored = _AXES[: first.ndim - 2]
    if not stored:
        raise DataError(f"{where}: {first.name} has shape {first.shape}, expected (trajectory, time, x, ...)")
    axes = {axis: _floats(_member(file, f"{axis}-coordinate", where), where) for axis in stored}
    times = _times(_floats(_member(file, "t-coordinate", where), where), first.shape[1], where)
    fields = {
        name: [Piece(hdf5_array(path, file[key], f"{where}: {key}"), (TRAJECTORY, TIME, *stored))]
        for name, key in names.items()
    }
    sides: dict[str, Any] = {}
    if "_periodic" in path.name or "_trans" in path.name:
        side = "periodic" if "_periodic" in path.name else "open"
        sides = dict.fromkeys(stored, (side, side))
    attrs = {f"V{axis}": vector_attrs("V", axis, axis) for axis in stored} if "Vx" in names else {}
    about = About("pdebench", ", ".join((TRAJECTORY, TIME, *stored)), {}, attrs, sides)
    return [Part(where, fields, times, axes, first.shape[0], _parameters(file, path))], about


def _seeds(file: h5py.File, path: Path, where: str) -> tuple[list[Part], About]:
    parts: list[Part] = []
    stored: tuple[str, ...] = ()
    for seed in sorted(file):
        here = f"{where}: {seed}"
        group = file[seed]
        if not isinstance(group, h5py.Group) or "data" not in group or "grid" not in group:
            raise DataError(f"{here}: has no 'data' and 'grid', expected both in every group. Copy the file again")
        data = group["data"]
        stored = _AXES[: data.ndim - 2]
        axes = {axis: _floats(_member(group["grid"], axis, here), here) for axis in stored}
        array = hdf5_array(path, data, f"{here}/data")
        names = _channels(data.shape[-1], path)
        fields = {name: [Piece(array, (TIME, *stored, i))] for i, name in enumerate(names)}
        parts.append(Part(here, fields, _floats(_member(group["grid"], "t", here), here), axes))
    return parts, About("pdebench", ", ".join((TIME, *stored, "channel")))


def _incompressible(file: h5py.File, path: Path, where: str) -> tuple[list[Part], About]:
    velocity, particles = file["velocity"], file["particles"]
    if velocity.ndim != 5 or velocity.shape[-1] != 2:
        raise DataError(f"{where}: velocity has shape {velocity.shape}, expected (batch, time, x, y, 2)")
    count, frames, *space = velocity.shape[:4]
    latest = attribute(file, "latestIndex")
    stop = frames if latest is None else int(latest) + 1
    if not 0 < stop <= frames:
        raise DataError(f"{where}: latestIndex is {latest}, but there are {frames} frames. Copy the file again")
    keep = {TIME: slice(0, stop)}
    times = only(_floats(_member(file, "t", where), where), where, "'t'")[:stop]
    arrays = {key: hdf5_frames(path, file[key], f"{where}: {key}", 1, stop) for key in ("velocity", "particles")}
    dims = (TRAJECTORY, TIME, "x", "y")
    fields = {f"velocity_{axis}": [Piece(arrays["velocity"], (*dims, i), keep)] for i, axis in enumerate("xy")}
    names = ["particles"] if particles.shape[-1] == 1 else [f"particles_{i}" for i in range(particles.shape[-1])]
    fields |= {name: [Piece(arrays["particles"], (*dims, i), keep)] for i, name in enumerate(names)}
    statics = {}
    if "force" in file:
        force = hdf5_array(path, file["force"], f"{where}: force")
        statics = {f"force_{axis}": Piece(force, (TRAJECTORY, "x", "y", i)) for i, axis in enumerate("xy")}
    attrs = {f"{v}_{axis}": vector_attrs(v, axis, axis) for v in ("velocity", "force") for axis in "xy"}
    axes = {axis: cell_centres(n) for axis, n in zip("xy", space, strict=True)}
    part = Part(where, fields, times, axes, count, {}, statics)
    return [part], About("pdebench", ", ".join((*dims, "component")), {}, attrs)


_READ = {"scalar": _scalar, "flow": _flow, "seeds": _seeds, "incompressible": _incompressible}


def _member(group: h5py.Group, name: str, where: str) -> h5py.Dataset:
    if not isinstance(group.get(name), h5py.Dataset):
        raise DataError(f"{where}: {name!r} is missing. Copy the file again, or state it in a mapping")
    return group[name]


def _floats(dataset: h5py.Dataset, where: str) -> np.ndarray:
    values = values_of(dataset, f"{where}: {dataset.name}")
    return values if values.dtype.kind == "f" else values.astype(np.float64)


def _times(times: np.ndarray, frames: int, where: str) -> np.ndarray:
    """The generator writes one time more than there are frames; anything else is not understood."""
    if times.shape not in ((frames,), (frames + 1,)):
        raise DataError(
            f"{where}: 't-coordinate' has shape {times.shape}, expected {frames} times for {frames} frames, or one "
            "more. Copy the file again, or state the times in a mapping"
        )
    return times[:frames]


def _parameters(file: h5py.File, path: Path) -> dict[str, float]:
    """Attributes of the file, else what its name says (`1D_Burgers_Sols_Nu0.01.hdf5`)."""
    stored = {key: attribute(file, key) for key in file.attrs}
    found = {str(k).lower(): v for k, v in stored.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    named = {key.lower(): float(value.rstrip(".")) for key, value in _NAMED.findall(path.stem)}
    both = {**named, **found}
    return {_PARAMETERS[key]: float(both[key]) for key in _PARAMETERS if key in both}


def _channels(count: int, path: Path) -> list[str]:
    if count == 1:
        return ["h" if "rdb" in path.name else "u"]
    return ["u", "v"] if count == 2 else [f"u{i}" for i in range(count)]
