"""Cut-outs of the Johns Hopkins turbulence database: a dataset per variable and time index, axes z, y, x, component.

The order of the axes is checked against the lengths of `xcoor`, `ycoor`, `zcoor`. Where sides are equal it cannot be
checked, and the user has to state it: public readers disagree. An axis with one point is dropped.

Limitations: times are not stored. Time counts the database's indices, with a warning; state start and step in a
mapping. The axis order was not verified against a file of the database itself.

References:
    Li et al. (2008), A public turbulence database cluster and applications, Journal of Turbulence 9, N31,
    doi:10.1080/14685240802376389.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections import defaultdict
from pathlib import Path

import h5py
import numpy as np

from romvae.canonical import SPACE
from romvae.data.inspect_hdf5 import inspect
from romvae.data.mapping import Mapping
from romvae.data.readers.axes import canonical_axes, vector_attrs
from romvae.data.readers.files import Files, hdf5_array, values_of
from romvae.data.readers.part import About, Part
from romvae.data.readers.piece import Piece
from romvae.errors import AssumptionWarning, DataError, SchemaError

__all__ = ["read", "recognises"]

_NAME = re.compile(r"([A-Za-z]+)_(\d{4,})")
_COORDINATES = {"x": "xcoor", "y": "ycoor", "z": "zcoor"}


def recognises(files: Files) -> bool:
    """Coordinates `xcoor`, `ycoor`, `zcoor` and datasets such as `Velocity_0001`."""
    outline = files.outline
    return outline is not None and outline.has(*_COORDINATES.values()) and any(map(_NAME.fullmatch, outline.members))


def read(files: Files, mapping: Mapping) -> tuple[list[Part], About]:
    """Reads one box; files of the same box continue each other in time."""
    steps: dict[str, dict[int, list[tuple[str, Piece]]]] = defaultdict(dict)
    axes: dict[str, np.ndarray] = {}
    attrs: dict[str, dict] = {}
    order: tuple[str, ...] = ()
    for path in files.require_hdf5():
        where = files.name(path)
        inspect(path, where)
        with h5py.File(path, "r") as file:
            found = {a: values_of(file[name], f"{where}: {name}").reshape(-1) for a, name in _COORDINATES.items()}
            for axis, values in axes.items():
                if not np.array_equal(values, found[axis]):
                    raise SchemaError(
                        f"{where}: {_COORDINATES[axis]!r} differs from that of the first file. Open boxes apart"
                    )
            axes = found
            for name in sorted(n for n in file if _NAME.fullmatch(n)):
                variable, index = _NAME.fullmatch(name).groups()  # type: ignore[union-attr]
                order = _order(file[name].shape, axes, tuple(mapping.axes), f"{where}: {name}")
                if int(index) in steps[variable]:
                    raise SchemaError(f"{where}: {name} is in two files. Give each time once")
                steps[variable][int(index)] = _components(file[name], path, variable, order, axes, attrs, where)
    part, stored = _part(steps, axes, files.source), ", ".join((*order, "component"))
    return [part], About("jhtdb", stored, {}, attrs)


def _part(steps: dict[str, dict[int, list[tuple[str, Piece]]]], axes: dict[str, np.ndarray], where: str) -> Part:
    indices = {variable: sorted(found) for variable, found in steps.items()}
    first, *others = indices
    for other in others:
        if indices[other] != indices[first]:
            odd = sorted(set(indices[other]) ^ set(indices[first]))[0]
            raise DataError(
                f"{where}: index {odd:04d} is stored of one of {first} and {other} only. Copy the other too"
            )
    fields: dict[str, list[Piece]] = defaultdict(list)
    for found in steps.values():
        for index in sorted(found):
            for name, piece in found[index]:
                fields[name].append(piece)
    warnings.warn(
        f"{where}: has no times: counted in the database's indices. State coordinates.time in a mapping file",
        AssumptionWarning,
        stacklevel=2,
    )
    kept = [axis for axis in SPACE if axes[axis].size > 1]
    names = canonical_axes(kept, where)
    return Part(where, fields, np.asarray(indices[first], float), {names[a]: axes[a].astype(float) for a in kept})


def _order(shape: tuple[int, ...], axes: dict[str, np.ndarray], stated: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The one order of x, y and z that fits the shape, or the one that the user stated if it fits."""
    sizes = {axis: values.size for axis, values in axes.items()}
    fitting = [p for p in itertools.permutations("zyx") if tuple(sizes[a] for a in p) == tuple(shape[:3])]
    different = {tuple(a for a in p if sizes[a] > 1) for p in fitting}
    if stated:
        if stated not in fitting:
            raise DataError(f"{where}: has shape {shape}, which is not ({', '.join(stated)}) with sizes {sizes}")
        return stated
    if not fitting or not 3 <= len(shape) <= 4:
        raise DataError(f"{where}: has shape {shape}, but the coordinates have sizes {sizes}. Copy the file again")
    if len(different) > 1:
        raise SchemaError(
            f"{where}: has shape {shape}: which axis is which? Sides of equal length cannot tell. Save a file with the "
            "lines 'reader: jhtdb' and 'axes: [z, y, x]' (slowest first) and give it with --reader"
        )
    return fitting[0]


def _components(
    dataset: h5py.Dataset,
    path: Path,
    variable: str,
    order: tuple[str, ...],
    axes: dict[str, np.ndarray],
    attrs: dict[str, dict],
    where: str,
) -> list[tuple[str, Piece]]:
    array = hdf5_array(path, dataset, f"{where}: {dataset.name}")
    names = canonical_axes([a for a in order if axes[a].size > 1], where)
    dims = tuple(names[a] if axes[a].size > 1 else 0 for a in order)
    name = variable.lower()
    if dataset.ndim == 3 or dataset.shape[3] == 1:
        return [(name, Piece(array, (*dims, 0)[: dataset.ndim]))]
    if dataset.shape[3] != 3:
        raise DataError(f"{where}: {dataset.name} has {dataset.shape[3]} components, expected 1 or 3")
    for axis in "xyz":
        attrs[f"{name}_{axis}"] = vector_attrs(name, axis, names.get(axis, axis))
    return [(f"{name}_{axis}", Piece(array, (*dims, i))) for i, axis in enumerate("xyz")]
