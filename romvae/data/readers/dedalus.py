"""Dedalus v3: snapshots in sets `name_s1.h5`, `name_s2.h5`, with grids and times among the `scales`.

Sets are put in order by their number and joined on the write number. After a restart writes repeat; the later set then
holds. Every folder of sets is a trajectory. Components come before space: `u_x` is entry 0 of the axis after time.

Limitations: tasks in coefficient space are left out with a warning, or refused if there are no others. Sets of virtual
datasets (parallel output that was never gathered) are refused: missing processes would read as zeros.

References:
    Burns et al. (2020), Dedalus: a flexible framework for numerical simulations with spectral methods,
    Physical Review Research 2, 023068, doi:10.1103/PhysRevResearch.2.023068.
"""

from __future__ import annotations

import itertools
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from romvae.canonical import TIME
from romvae.data.inspect_hdf5 import inspect
from romvae.data.mapping import Mapping
from romvae.data.readers.axes import canonical_axes, vector_attrs
from romvae.data.readers.files import Files, attribute, hdf5_array, values_of
from romvae.data.readers.part import About, Part
from romvae.data.readers.piece import Piece
from romvae.errors import AssumptionWarning, DataError, SchemaError

__all__ = ["read", "recognises"]


@dataclass(frozen=True, eq=False)
class _Set:
    """One file of a handler, with its writes."""

    path: Path
    where: str
    number: int
    writes: np.ndarray
    times: np.ndarray


def recognises(files: Files) -> bool:
    """Groups `tasks` and `scales`."""
    return files.outline is not None and files.outline.has("tasks", "scales")


def read(files: Files, mapping: Mapping) -> tuple[list[Part], About]:
    """Reads the sets of one run, or of one run per folder."""
    runs: dict[Path, list[_Set]] = defaultdict(list)
    handlers: set[str] = set()
    for path in files.require_hdf5():
        inspect(path, files.name(path))
        with h5py.File(path, "r") as file:
            if "tasks" not in file or "scales" not in file:
                raise DataError(f"{path}: has no groups 'tasks' and 'scales', expected both. Give the sets only")
            handlers.add(str(attribute(file, "handler_name") or ""))
            runs[path.parent].append(_set(file, path, files.name(path)))
    if len(handlers) > 1:
        raise SchemaError(f"{files.source}: holds sets of several handlers ({', '.join(sorted(handlers))}). Give one")
    attrs: dict[str, dict] = {}
    parts, order = [], ""
    for folder, sets in runs.items():
        part, order = _run(sorted(sets, key=lambda one: one.number), str(folder), attrs)
        parts.append(part)
    return parts, About("dedalus", order, {}, attrs, {}, {"title": next(iter(handlers))} if any(handlers) else {})


def _set(file: h5py.File, path: Path, where: str) -> _Set:
    scales = file["scales"]
    for name in ("write_number", "sim_time"):
        if not isinstance(scales.get(name), h5py.Dataset):
            raise DataError(f"{where}: scales/{name} is missing. Copy the set again")
    writes = values_of(scales["write_number"], f"{where}: scales/write_number").reshape(-1)
    if (np.diff(writes) <= 0).any():
        raise DataError(f"{where}: write_number does not increase within the set. Simulate it again")
    digits = path.stem.rpartition("_s")[2]
    number = attribute(file, "set_number")
    number = int(number) if number is not None else int(digits) if digits.isdigit() else 0
    return _Set(path, where, number, writes, values_of(scales["sim_time"], f"{where}: scales/sim_time").reshape(-1))


def _run(sets: list[_Set], where: str, attrs: dict[str, dict]) -> tuple[Part, str]:
    fields: dict[str, list[Piece]] = defaultdict(list)
    times: list[np.ndarray] = []
    axes: dict[str, np.ndarray] = {}
    order = ""
    for one, after in itertools.zip_longest(sets, sets[1:]):
        later = after.writes[0] if after is not None and after.writes.size else np.inf
        stop = int(np.searchsorted(one.writes, later))
        if not stop:
            continue
        times.append(one.times[:stop])
        with h5py.File(one.path, "r") as file:
            found, here, order = _tasks(file, one, stop, attrs)
        for axis, values in axes.items():
            if not np.array_equal(values, here[axis]):
                raise SchemaError(f"{one.where}: grid {axis!r} differs from that of {sets[0].where}. Open them apart")
        missing = sorted(set(fields) ^ set(found)) if fields else []
        if missing:
            raise SchemaError(f"{one.where}: task {missing[0]!r} is not in all sets. Save the same tasks in each")
        axes = here
        for name, piece in found.items():
            fields[name].append(piece)
    if not times:
        raise DataError(f"{where}: the sets hold no write. Simulate them again")
    return Part(where, fields, np.concatenate(times), axes), order


def _tasks(file: h5py.File, one: _Set, stop: int, attrs: dict[str, dict]) -> tuple[dict[str, Piece], dict, str]:
    found: dict[str, Piece] = {}
    axes: dict[str, np.ndarray] = {}
    order, spectral = "", []
    for name, task in file["tasks"].items():
        where = f"{one.where}: tasks/{name}"
        labels = [str(dim.label) for dim in task.dims]
        if not np.all(task.attrs.get("grid_space", True)):
            spectral.append(name)
            continue
        if labels[0] != "t" or task.shape[0] != one.times.size:
            raise DataError(f"{where}: has shape {task.shape}, expected {one.times.size} writes along axis 't'")
        space = {i: label for i, label in enumerate(labels) if i and label and label != "constant"}
        if not space:
            continue  # a number per write, no field
        names = canonical_axes(list(space.values()), where)
        ranks = [i for i, label in enumerate(labels) if i and not label]
        order = ", ".join(label or "component" for label in labels)
        for i, label in space.items():
            axis = names[label]
            values = _grid(task, i, where)
            attrs.setdefault(axis, {"long_name": label} if label != axis else {})
            if axis in axes and not np.array_equal(axes[axis], values):
                raise SchemaError(f"{where}: lives on another grid {label!r} than the other tasks. Save one layout")
            axes[axis] = values
        array = hdf5_array(one.path, task, where)
        letters = list(space.values())
        for component in itertools.product(*(range(task.shape[i]) for i in ranks)):
            label, about = _component(name, component, letters, names)
            dims = [names.get(space.get(i, ""), 0) for i in range(len(labels))]
            dims[0] = TIME
            for i, j in zip(ranks, component, strict=True):
                dims[i] = j
            found[label] = Piece(array, tuple(dims), {TIME: slice(0, stop)})
            attrs[label] = about
    _report_spectral(spectral, bool(found), one.where)
    return found, axes, order


def _report_spectral(tasks: list[str], others: bool, where: str) -> None:
    if not tasks:
        return
    what = f"{where}: tasks in coefficient space ({', '.join(tasks)})"
    if not others:
        raise SchemaError(f"{what}, expected values on the grid. Save them with layout='g'")
    warnings.warn(f"{what} are left out. Save them with layout='g'", AssumptionWarning, stacklevel=4)


def _component(name: str, component: tuple[int, ...], letters: list[str], names: dict[str, str]) -> tuple[str, dict]:
    if not component:
        return name, {"long_name": name}
    known = all(i < len(letters) for i in component)
    text = "".join(letters[i] if known else str(i) for i in component)
    if len(component) == 1 and known:
        return f"{name}_{text}", vector_attrs(name, text, names[text])
    return f"{name}_{text}", {"long_name": f"{name} {text}"}


def _grid(task: h5py.Dataset, axis: int, where: str) -> np.ndarray:
    grids = [scale for scale in task.dims[axis].values() if scale.shape == (task.shape[axis],)]
    if not grids:
        raise DataError(f"{where}: axis {axis} has no grid of {task.shape[axis]} points attached. Copy the set again")
    return values_of(grids[0], f"{where}: {grids[0].name}")
