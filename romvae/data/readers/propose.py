"""A mapping to start from, for files of unknown layout: what is there, with a question mark wherever it must be said.

Nothing is guessed: an axis gets a name only if exactly one coordinate of the file has its length and a telling name.
Other lists of numbers stand as comments beside what they may be, by their length.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from collections.abc import Mapping as Named
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from romvae.canonical import SPACE, TIME
from romvae.data import zarr_store
from romvae.data.mapping import Mapping
from romvae.data.readers.arrays import FileArray
from romvae.data.readers.files import Files, proposed_name
from romvae.data.readers.mapped import _OPEN, containers, numbers_in
from romvae.errors import DataError

__all__ = ["made_up", "proposal", "unused"]

_TELLING = {
    TIME: ("t", "time", "times", "sim_time", "t-coordinate", "tcoor"),
    "x": ("x", "lon", "longitude", "x-coordinate", "xcoor"),
    "y": ("y", "lat", "latitude", "y-coordinate", "ycoor"),
    "z": ("z", "lev", "depth", "height", "z-coordinate", "zcoor"),
}
_OPEN_AXIS = '"?"'
_MOST, _LONGEST = 12, 40
_OF_STORAGE = ("add_offset", "scale_factor", "missing_value", "valid_min", "valid_max", "valid_range", "actual_range")
"""Attributes that say how numbers are stored."""


def proposal(files: Files) -> str:
    """YAML that describes the first file as far as it describes itself, ready to be saved and completed.

    Raises:
        DataError: There is nothing that a mapping could describe.
    """
    reader = _reader(files)
    if reader is None:
        raise DataError(
            f"{files.source}: is no layout that romvae knows, and no HDF5, netCDF, Zarr, .npy or .npz that a mapping "
            "could describe. Convert it with xarray and romvae.write_snapshots"
        )
    path = containers(files, reader)[0]
    with ExitStack() as stack:
        container = _OPEN[reader](path, str(path), stack)
        arrays = {name: _shape(container.array, name, str(path)) for name in container.names()}
        shapes = {name: shape for name, shape in arrays.items() if shape is not None}
        attributes = {name: container.attributes(name) for name in ("/", *shapes)}
    return _text(files, reader, shapes, attributes)


def made_up(mapping: Mapping) -> list[str]:
    """Coordinates that do not come from the files: those of a start and a step, and those that nobody states."""
    found = []
    dims = {dim for entry in mapping.fields.values() for dim in entry.dims}
    for axis in (TIME, *reversed(SPACE)):
        entry = mapping.coordinates.get(axis)
        if entry is not None and entry.start is not None:
            found.append(f"{axis} (the mapping's start {entry.start:g} and step {entry.step or 1:g})")
        elif mapping.generic and axis in dims and (entry is None or not entry.given):
            found.append(f"{axis} (stated nowhere: counted in steps of one)")
    return found


def unused(files: Files, mapping: Mapping) -> list[str]:
    """Arrays of the first file that a mapping of a generic layout does not mention, with their shapes."""
    if not mapping.generic:
        return []
    entries = (mapping.fields, mapping.statics, mapping.coordinates, mapping.parameters)
    used = {(entry.path or "").strip("/") for group in entries for entry in group.values()}
    used |= {mapping.mask.path.strip("/")} if mapping.mask is not None else set()
    path = containers(files, mapping.reader)[0]
    with ExitStack() as stack:
        container = _OPEN[mapping.reader](path, str(path), stack)
        shapes = {n: _shape(container.array, n, str(path)) for n in container.names() if n.strip("/") not in used}
    return [f"{name} {shape}" for name, shape in shapes.items() if shape is not None]


def _reader(files: Files) -> str | None:
    path = files.paths[0] if files.paths else Path()
    if path.is_dir():
        return "zarr" if _is_zarr(path) else None
    if files.hdf5:
        return "hdf5"
    with path.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"CDF"):
        return "netcdf"
    return "npy" if head == b"\x93NUMPY" else "npz" if path.suffix == ".npz" else None


def _is_zarr(path: Path) -> bool:
    return zarr_store.is_store(path) or (path / ".zarray").is_file()


def _shape(array: object, name: str, where: str) -> tuple[int, ...] | None:
    """The shape of an array of numbers; None for anything else."""
    try:
        found: FileArray = array(name, f"{where}: {name}")  # type: ignore[operator]
    except DataError:
        return None
    return tuple(found.shape)


def _text(
    files: Files, reader: str, shapes: Named[str, tuple[int, ...]], attributes: Named[str, Named[str, Any]]
) -> str:
    deepest = max((len(shape) for shape in shapes.values()), default=0)
    fields = [n for n, s in shapes.items() if len(s) == deepest and deepest >= 2]
    if not fields:
        raise DataError(f"{files.source}: holds no array with at least two axes. Give the file that has the fields")
    lines = {name: _line(name, shapes) for name in shapes}
    coordinates = {
        axis: names for axis in (TIME, *reversed(SPACE)) if (names := [n for n, a in lines.items() if a == axis])
    }
    sizes = {axis: shapes[names[0]][0] for axis, names in coordinates.items() if len(names) == 1}
    text = [
        f"# Mapping of {files.source}. Put a name for every '?': trajectory, time, z, y, x, or a name of your own with",
        "# an index that says which entry is meant (index: {component: 0}). Axes are in the order of the file.",
        f"reader: {reader}",
        "fields:",
    ]
    labels: dict[str, str] = {}
    unnamed: set[int] = set()
    for name in fields[:_MOST]:
        axes = [_axis(size, shapes[name], sizes) for size in shapes[name]]
        unnamed |= {size for size, axis in zip(shapes[name], axes, strict=True) if axis == _OPEN_AXIS}
        label = proposed_name(name, (*labels.values(), TIME, *SPACE))  # a .npy file by itself has no names
        labels[name] = label
        text.append(
            f'  {label}: {{path: "{name}", dims: [{", ".join(axes)}], units: {_units(attributes[name])}}}'
            f"  # shape {shapes[name]}"
        )
    fitting = [n for n, s in shapes.items() if n not in fields and lines[n] is None and len(s) == 1 and s[0] in unnamed]
    if len(fields) > _MOST:
        text.append(f"  # and {len(fields) - _MOST} more of the same number of axes")
    text.append("coordinates:")
    for axis in (TIME, "x", "y", "z"):
        if axis in sizes:
            place = coordinates[axis][0]
            text.append(f'  {axis}: {{path: "{place}", units: {_units(attributes[place])}}}')
        elif axis in (TIME, *SPACE[-min(len(SPACE), max(1, deepest - 2)) :]):
            text.append(f'  {axis}: {{start: 0.0, step: "?", units: "1"}}  # or path: {_some(fitting, shapes)}')
    space = [axis for axis in reversed(SPACE) if any(line.startswith(f"  {axis}:") for line in text)]
    sides = ", ".join(f"{axis}: [open, open]" for axis in space)
    text.append(f"# boundaries: {{{sides}}}  # or periodic, wall, reflecting")
    text += _parameters(attributes, [(n, shapes[n][0], _units(attributes[n])) for n in fitting], labels.values())
    used = [place for names in coordinates.values() if len(names) == 1 for place in names]
    others = [n for n in shapes if n not in (*fields, *fitting, *used)]
    if others:
        text.append("# not used (parameters: {name: {path: ...}}, statics: {name: {path: ..., dims: [...]}}):")
        text += [f"#   {name} {shapes[name]}" for name in others[:_MOST]]
    return "\n".join(text) + "\n"


def _units(attributes: Named[str, Any]) -> str:
    """The units that an array states under `units` or `unit`, quoted; those of a number where it states none."""
    stated = next((attributes[key] for key in ("units", "unit") if isinstance(attributes.get(key), str)), "")
    clean = " ".join(stated.split())
    return json.dumps(clean if 0 < len(clean) <= _LONGEST else "1")


def _some(names: Sequence[str], shapes: Named[str, tuple[int, ...]]) -> str:
    """Lists of numbers that an axis without a name may belong to."""
    return ", ".join(f'"{name}" {shapes[name]}' for name in names[:_MOST]) or "..."


def _parameters(
    attributes: Named[str, Named[str, Any]], lists: Sequence[tuple[str, int, str]], taken: Collection[str]
) -> list[str]:
    """What may be parameters: attributes that are numbers, of the file and of its arrays, and lists by their length.

    A row of an attribute may be one per trajectory.

    Arguments:
        attributes: Of the file and of its arrays.
        lists: Arrays as long as an axis that has no name: what they are called, their length and units.
        taken: Names of the fields.
    """
    lines = []
    known = [*taken, TIME, *SPACE]
    for place, size, units in lists:
        known.append(proposed_name(place, known))
        lines.append(
            f'  # {known[-1]}: {{path: "{place}", units: {units}}}  # {size} numbers, if that axis is the trajectory'
        )
    for of, each in attributes.items():
        for name, value in each.items():
            numbers = numbers_in(value)
            if numbers is None or name.lower() in _OF_STORAGE or name.startswith("_"):
                continue
            label = proposed_name(name if of == "/" else f"{of.rpartition('/')[2]}_{name}", known)
            known.append(label)
            where = "" if of == "/" else f", of: {json.dumps(of)}"
            entry = f'{label}: {{attribute: {json.dumps(name)}{where}, units: "1"}}'
            if numbers.size == 1:
                lines.append(f"  {entry}  # {float(numbers.reshape(-1)[0]):.6g}")
            else:
                lines.append(f"  # {entry}  # {numbers.size} numbers, if they are one per trajectory")
    if not lines:
        return []
    head = "parameters:" if any(not line.startswith("  #") for line in lines) else "# parameters:"
    what = "attributes that are numbers" if not lists else "numbers"
    return [f"{head}  # {what}: take out what is no physical parameter", *lines[:_MOST]]


def _line(name: str, shapes: Named[str, tuple[int, ...]]) -> str | None:
    """The axis that a list of numbers is the coordinate of, by its name."""
    if len(shapes[name]) != 1:
        return None
    last = name.rpartition("/")[2].lower()
    return next((axis for axis, names in _TELLING.items() if last in names), None)


def _axis(size: int, shape: tuple[int, ...], sizes: Named[str, int]) -> str:
    """The name of an axis whose length occurs once in the array and once among the coordinates."""
    fitting = [axis for axis, n in sizes.items() if n == size]
    return fitting[0] if len(fitting) == 1 and shape.count(size) == 1 else _OPEN_AXIS
