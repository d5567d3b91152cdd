"""BubbleML: boiling simulations, a HDF5 file each, with arrays (time, y, x) and coordinates of the same shape.

The coordinates are checked to be the same at all times and to form a tensor product before they are reduced to axes.
Settings of the simulation become parameters where they differ between the files; the wall temperature comes from the
file's name (`Twall-100.hdf5`).

Limitations: times are not stored. They follow from the interval of plot files among the settings, or count frames, with
a warning. Some simulations hold NaN, which is kept and refused; choose another file, or state a mask.

References:
    Hassan et al. (2023), BubbleML: a multi-physics dataset and benchmarks for machine learning, arXiv:2307.14623.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from romvae.canonical import TIME
from romvae.data.inspect_hdf5 import inspect
from romvae.data.mapping import Mapping
from romvae.data.readers.axes import counted, vector_attrs
from romvae.data.readers.files import Files, hdf5_array
from romvae.data.readers.part import About, Part
from romvae.data.readers.piece import Piece
from romvae.errors import DataError, SchemaError

__all__ = ["read", "recognises"]

_INTERVALS = ("plotfileintervaltime", "checkpointfileintervaltime")
_WALL = re.compile(r"Twall[-_](\d+(?:\.\d+)?)")


def recognises(files: Files) -> bool:
    """Datasets `temperature`, `velx`, `vely`, `x`, `y`, the coordinates with as many axes as the fields."""
    outline = files.outline
    if outline is None or not outline.has("temperature", "velx", "vely", "x", "y"):
        return False
    return outline.shapes.get("/x") == outline.shapes.get("/temperature") and len(outline.shapes["/x"]) == 3


def read(files: Files, mapping: Mapping) -> tuple[list[Part], About]:
    """Reads one simulation per file."""
    settings, parts = [], []
    for path in files.require_hdf5():
        where = files.name(path)
        inspect(path, where)
        with h5py.File(path, "r") as file:
            settings.append(_settings(file, where))
            parts.append(_part(file, path, where, settings[-1]))
    varying = {name for name in settings[0] if len({one.get(name) for one in settings}) > 1 and name not in _INTERVALS}
    for part, one in zip(parts, settings, strict=True):
        missing = sorted(varying - set(one))
        if missing:
            raise SchemaError(f"{part.where}: setting {missing[0]!r} is missing. Open simulations of one kind together")
    parts = [
        replace(part, parameters={**part.parameters, **{name: one[name] for name in sorted(varying)}})
        for part, one in zip(parts, settings, strict=True)
    ]
    attrs = {"velx": vector_attrs("velocity", "x", "x"), "vely": vector_attrs("velocity", "y", "y")}
    attrs |= {"dfun": {"long_name": "signed distance to the interface"}, "pressure": {"long_name": "pressure gradient"}}
    return parts, About("bubbleml", "time, y, x", {}, attrs)


def _part(file: h5py.File, path: Path, where: str, settings: dict[str, float]) -> Part:
    shape = file["temperature"].shape
    names = [n for n in file if isinstance(file[n], h5py.Dataset) and n not in ("x", "y") and file[n].shape == shape]
    fields = {n: [Piece(hdf5_array(path, file[n], f"{where}: {n}"), (TIME, "y", "x"))] for n in names}
    axes = {"y": _axis(file["y"], where, "y", 1), "x": _axis(file["x"], where, "x", 2)}
    interval = next((settings[name] for name in _INTERVALS if settings.get(name, 0) > 0), None)
    times = counted(shape[0], TIME, where) if interval is None else interval * np.arange(shape[0])
    wall = _WALL.search(path.name)
    parameters = {"wall_temperature": float(wall.group(1))} if wall else {}
    return Part(where, fields, times, axes, 1, parameters)


def _axis(dataset: h5py.Dataset, where: str, name: str, axis: int) -> np.ndarray:
    """The coordinate along one axis of an array (time, y, x) that must not depend on the others."""
    hdf5_array(Path(dataset.file.filename), dataset, f"{where}: {name}")
    line: np.ndarray | None = None
    for step in range(dataset.shape[0]):
        frame = np.asarray(dataset[step])
        found = frame[:, 0] if axis == 1 else frame[0, :]
        line = found if line is None else line
        whole = line[:, None] if axis == 1 else line[None, :]
        if not (frame == whole).all():
            j, i = np.argwhere(frame != whole)[0]
            raise SchemaError(
                f"{where}: {name!r} is {frame[j, i]:.10g} at time {step}, y {j}, x {i}, expected the same at all times "
                "and along the other axis. Interpolate to a fixed rectangular grid"
            )
    if line is None:
        raise DataError(f"{where}: {name!r} is empty. Copy the file again")
    return line


def _settings(file: h5py.File, where: str) -> dict[str, float]:
    """Names (bytes filled up with blanks) and numbers of the run."""
    found: dict[str, float] = {}
    for name in ("real-runtime-params", "int-runtime-params"):
        if name not in file:
            continue
        table = np.asarray(file[name][()])
        if table.dtype.names is None or len(table.dtype.names) != 2:
            raise DataError(f"{where}: {name!r} is no table of names and values. Copy the file again")
        for row in table.reshape(-1):
            key = row[0].decode(errors="replace").strip() if isinstance(row[0], bytes) else str(row[0]).strip()
            found[key] = float(row[1])
    return found
