"""Parts: the trajectories of one file, and the canonical Dataset that the parts of a data set make.

A reader says what is where. That all parts share one grid, one time axis, the same fields and parameters is settled
here, for all layouts alike; nothing is interpolated, cut or filled silently.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from romvae.boundary import BoundaryEntry, boundaries_to_json
from romvae.canonical import CONVENTIONS, MASK, MASK_ATTRS, N_STEPS, ORDER, SPACE, TIME, TRAJECTORY
from romvae.data.readers.files import safe_name
from romvae.data.readers.piece import Piece, lazy, real_dtype
from romvae.errors import DataError, SchemaError

__all__ = ["About", "Part", "joined", "only"]


@dataclass(frozen=True, eq=False)
class Part:
    """Trajectories that share file, grid and times.

    Arguments:
        where: File, and group in it, as the messages name it.
        fields: Name to the pieces that follow each other in time, with dims out of `trajectory, time, z, y, x`.
        times: The stored times, `(time,)`.
        axes: `x`, `y`, `z` to coordinates, in the order in which they are stored (falling ones are turned).
        count: Number of trajectories.
        parameters: Name to a value, or to one per trajectory.
        statics: Fields without time, with dims out of `trajectory, z, y, x`.
        series: Numbers that vary in time only, with dims out of `trajectory, time`.
        labels: Further text per part, such as the split that it came from.
        inside: Which points belong to the domain, with the dims of `axes` in the order z, y, x; None for all.
    """

    where: str
    fields: Mapping[str, Sequence[Piece]]
    times: np.ndarray
    axes: Mapping[str, np.ndarray]
    count: int = 1
    parameters: Mapping[str, Any] = field(default_factory=dict)
    statics: Mapping[str, Piece] = field(default_factory=dict)
    series: Mapping[str, Piece] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    inside: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class About:
    """What holds for a whole data set.

    Arguments:
        layout: Name of the reader.
        order: Dims as they are stored, for the record.
        units: Of fields, axes, parameters and `time`, where the data state them.
        attrs: Attributes of variables, by name.
        boundaries: (lower, upper) of every axis that the data state.
        facts: Attributes of the Dataset.
    """

    layout: str
    order: str
    units: Mapping[str, str] = field(default_factory=dict)
    attrs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    boundaries: Mapping[str, tuple[BoundaryEntry, BoundaryEntry]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def joined(parts: Sequence[Part], about: About) -> xr.Dataset:
    """The canonical Dataset, one trajectory after another; values stay in their files.

    Trajectories that end earlier, but agree in all times they have, are NaN beyond their end, and the coordinate
    `n_steps` counts the times of each.

    Raises:
        DataError: There is nothing to read, or an array does not have the shape that the coordinates imply.
        SchemaError: Parts differ in fields, parameters, grid or times.
    """
    if not parts:
        raise DataError(f"no trajectory was found in layout {about.layout!r}. Check the path")
    parts = [_turned(part) for part in parts]
    first = max(parts, key=lambda part: part.times.size)
    for part in parts:
        _check_shapes(part)
        _check_same(part, first)
    space = tuple(axis for axis in SPACE if axis in first.axes)
    starts = np.concatenate([[0], np.cumsum([part.count for part in parts])]).astype(int)
    n = int(starts[-1])
    spans = [range(int(a), int(b)) for a, b in itertools.pairwise(starts)]
    sizes = {TRAJECTORY: n, TIME: first.times.size, **{axis: first.axes[axis].size for axis in space}}
    coords = _coordinates(parts, first, about, space, n)
    data = {}
    for name in first.fields:
        placed = [item for part, span in zip(parts, spans, strict=True) for item in _placed(part, name, span)]
        attrs = {"units": about.units[name]} if name in about.units else {}
        attrs |= {"long_name": name, **about.attrs.get(name, {})}
        data[safe_name(name)] = lazy((TRAJECTORY, TIME, *space), sizes, placed, _dtype(placed), attrs)
    data |= _beside(parts, first, about, spans, sizes) | _masks(parts, space)
    facts = {"Conventions": CONVENTIONS, "source_format": about.layout, "source_dim_order": about.order, **about.facts}
    if about.boundaries:
        stated = {axis: pair for axis, pair in about.boundaries.items() if axis in space}
        facts["boundary_conditions"] = boundaries_to_json(stated)
    _check_names([*first.fields, *first.statics, *first.series, *first.parameters], first.where)
    ds = xr.Dataset(data, coords=coords, attrs=facts)
    ds.set_close(lambda: _close(parts))
    return ds


def only(values: np.ndarray, where: str, what: str) -> np.ndarray:
    """The one row that all rows of `(n, size)` are equal to.

    Raises:
        SchemaError: Rows differ; the message names the first that does.
    """
    rows = values.reshape(values.shape[0], -1)
    differs = ~(rows == rows[0]).all(axis=1)
    if differs.any():
        i = int(np.argmax(differs))
        j = int(np.argmax(rows[i] != rows[0]))
        raise SchemaError(
            f"{where}: {what} of trajectory {i} differs from that of trajectory 0 (index {j}: {rows[i, j]:.10g}, "
            f"not {rows[0, j]:.10g}), expected one for all. Open trajectories of equal {what} separately"
        )
    return rows[0]


def _check_names(names: Sequence[str], where: str) -> None:
    """Refuses names that cannot be kept apart once they are harmless."""
    known: dict[str, str] = {}
    for name in names:
        clean = safe_name(name)
        if clean in known or clean in (TRAJECTORY, TIME, *SPACE):
            other = known.get(clean, f"the dim {clean}")
            raise SchemaError(f"{where}: {other!r} and {name!r} would both be called {clean!r}. Rename one of them")
        known[clean] = name


def _close(parts: Sequence[Part]) -> None:
    for part in parts:
        pieces = [piece for group in part.fields.values() for piece in group]
        for piece in (*pieces, *part.statics.values(), *part.series.values()):
            if hasattr(piece.array, "close"):
                piece.array.close()


def _turned(part: Part) -> Part:
    """The part with rising coordinates."""
    falling = frozenset(
        axis for axis, values in part.axes.items() if values.size > 1 and bool((np.diff(values) < 0).all())
    )
    if not falling:
        return part

    def turn(piece: Piece) -> Piece:
        return Piece(piece.array, piece.dims, piece.window, falling & set(piece.sizes))

    order = [axis for axis in SPACE if axis in part.axes]
    turned = tuple(order.index(axis) for axis in falling)
    return replace(
        part,
        fields={name: [turn(piece) for piece in pieces] for name, pieces in part.fields.items()},
        axes={axis: values[::-1] if axis in falling else values for axis, values in part.axes.items()},
        statics={name: turn(piece) for name, piece in part.statics.items()},
        inside=None if part.inside is None else np.flip(part.inside, turned),
    )


def _check_shapes(part: Part) -> None:
    sizes = {TRAJECTORY: part.count, **{axis: values.size for axis, values in part.axes.items()}}
    if not part.fields:
        raise DataError(f"{part.where}: holds no field that varies in time and space. Choose another file")
    for name, pieces in part.fields.items():
        total = sum(piece.sizes.get(TIME, part.times.size if len(pieces) == 1 else 1) for piece in pieces)
        if total != part.times.size:
            raise DataError(
                f"{part.where}: {name!r} has {total} times, but there are {part.times.size} time coordinates"
            )
    for name, piece in ((n, p) for group in (part.statics, part.series) for n, p in group.items()):
        _check_piece(part.where, name, piece, {**sizes, TIME: part.times.size})
    for name, pieces in part.fields.items():
        for piece in pieces:
            _check_piece(part.where, name, piece, sizes)


def _check_piece(where: str, name: str, piece: Piece, sizes: Mapping[str, int]) -> None:
    for dim, size in piece.sizes.items():
        if dim in sizes and size != sizes[dim]:
            raise DataError(
                f"{where}: {name!r} has {size} entries along {dim} (shape {piece.array.shape}), but {sizes[dim]} are "
                f"expected from the coordinates. The axes may be in another order"
            )


def _check_same(part: Part, first: Part) -> None:
    if part is first:
        return
    for what, one, other in (
        ("fields", sorted(part.fields), sorted(first.fields)),
        ("parameters", sorted(part.parameters), sorted(first.parameters)),
        ("static fields", sorted(part.statics), sorted(first.statics)),
        ("time series", sorted(part.series), sorted(first.series)),
        ("axes", sorted(part.axes), sorted(first.axes)),
    ):
        if one != other:
            raise SchemaError(
                f"{part.where}: {what} are {', '.join(one) or 'none'}, but {first.where} has "
                f"{', '.join(other) or 'none'}. Open files of one kind together"
            )
    for axis, values in part.axes.items():
        _check_coordinate(axis, values, first.axes[axis], part.where, first.where, "Interpolate to one grid")
    n = part.times.size
    advice = "Interpolate to one time axis, or open them separately"
    _check_coordinate(TIME, part.times, first.times[:n], part.where, first.where, advice)


def _check_coordinate(name: str, one: np.ndarray, other: np.ndarray, where: str, there: str, advice: str) -> None:
    if one.size != other.size:
        raise SchemaError(f"{where}: {name!r} has {one.size} points, but {there} has {other.size}. {advice}")
    differs = one != other
    if differs.any():
        i = int(np.argmax(differs))
        raise SchemaError(f"{where}: {name!r} is {one[i]:.10g} at index {i}, but {other[i]:.10g} in {there}. {advice}")


def _placed(part: Part, name: str, span: range) -> list[tuple[Mapping[str, range], Piece]]:
    pieces, start = part.fields[name], 0
    found: list[tuple[Mapping[str, range], Piece]] = []
    for piece in pieces:
        length = piece.sizes.get(TIME, part.times.size if len(pieces) == 1 else 1)
        found.append(({TRAJECTORY: span, TIME: range(start, start + length)}, piece))
        start += length
    return found


def _beside(
    parts: Sequence[Part], first: Part, about: About, spans: Sequence[range], sizes: Mapping[str, int]
) -> dict[str, Any]:
    """What is no field: values without time, and numbers that vary in time alone."""
    found = {}
    for role, group in (("static", "statics"), ("forcing", "series")):
        for name in getattr(first, group):
            pieces = [getattr(part, group)[name] for part in parts]
            own = {dim for piece in pieces for dim in piece.sizes} | ({TRAJECTORY} if len(parts) > 1 else set())
            placed = [
                ({TRAJECTORY: span, TIME: range(part.times.size)}, piece)
                for part, span, piece in zip(parts, spans, pieces, strict=True)
            ]
            dims = [dim for dim in ORDER if dim in own]
            attrs = {**_about(about, name), "romvae_role": role}
            whole = {piece.array.dtype for piece in pieces}
            kind = np.result_type(*whole) if all(t.kind in "iu" for t in whole) else _dtype(placed)
            found[safe_name(name)] = lazy(dims, sizes, placed, kind, attrs)
    return found


def _masks(parts: Sequence[Part], space: tuple[str, ...]) -> dict[str, Any]:
    """The points of the domain: a variable `mask` where all trajectories share them, else a static field."""
    known = [part.inside for part in parts if part.inside is not None]
    if not known:
        return {}
    shape = tuple(parts[0].axes[axis].size for axis in space)
    masks = [np.ones(shape, bool) if part.inside is None else part.inside for part in parts]
    if all((mask == masks[0]).all() for mask in masks):
        return {MASK: (space, masks[0].astype(np.int8), MASK_ATTRS)}
    rows = np.stack([mask for part, mask in zip(parts, masks, strict=True) for _ in range(part.count)])
    return {"inside": ((TRAJECTORY, *space), rows.astype(np.int8), MASK_ATTRS | {"romvae_role": "static"})}


def _dtype(placed: Sequence[tuple[Mapping[str, range], Piece]]) -> np.dtype:
    return np.result_type(*{real_dtype(piece.array.dtype) for _, piece in placed})


def _coordinates(
    parts: Sequence[Part],
    first: Part,
    about: About,
    space: tuple[str, ...],
    n: int,
) -> dict[str, Any]:
    coords: dict[str, Any] = {
        TRAJECTORY: (TRAJECTORY, np.arange(n, dtype=np.int64), {"standard_name": "realization"}),
        TIME: (TIME, first.times, _about(about, TIME) | {"axis": "T"}),
    }
    for axis in space:
        coords[axis] = (axis, first.axes[axis], _about(about, axis) | {"axis": axis.upper()})
    for name in first.parameters:
        values = np.concatenate([_per_trajectory(part, name) for part in parts])
        coords[safe_name(name)] = (TRAJECTORY, values, _about(about, name) | {"romvae_role": "parameter"})
    files = [part.where for part in parts for _ in range(part.count)]
    coords["source_file"] = (TRAJECTORY, np.asarray(files, dtype=np.str_))
    coords["source_index"] = (TRAJECTORY, np.concatenate([np.arange(part.count) for part in parts]))
    for label in first.labels:
        texts = [part.labels.get(label, "") for part in parts for _ in range(part.count)]
        coords[label] = (TRAJECTORY, np.asarray(texts, dtype=np.str_))
    lengths = [part.times.size for part in parts for _ in range(part.count)]
    if min(lengths) < first.times.size:
        attrs = {"units": "1", "long_name": "times before the end", "romvae_role": "valid_length"}
        coords[N_STEPS] = (TRAJECTORY, np.asarray(lengths, dtype=np.int32), attrs)
    return coords


def _about(about: About, name: str) -> dict[str, Any]:
    units = {"units": about.units[name]} if name in about.units else {}
    return {**units, **about.attrs.get(name, {})}


def _per_trajectory(part: Part, name: str) -> np.ndarray:
    values = np.asarray(part.parameters[name], dtype=np.float64)
    if values.shape not in ((), (part.count,)):
        raise DataError(
            f"{part.where}: parameter {name!r} has shape {values.shape}, expected a value for each of the "
            f"{part.count} trajectories"
        )
    return np.broadcast_to(values, (part.count,))
