"""A part of snapshots: some fields, trajectories, times and a region, every n-th of them; lazily."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from romvae.boundary import Boundary, BoundaryEntry, boundaries_of, boundaries_to_json
from romvae.canonical import N_STEPS, SPACE, TIME, TRAJECTORY, did_you_mean, fields_of, lengths_of, space_of
from romvae.errors import ConfigError, DataError

__all__ = ["Range", "subset", "with_history"]

Range = tuple[float | None, float | None]
"""Lowest and highest value that is kept, both included; None leaves that end open."""

_ROUNDING = 1e-6  # of the local spacing: a bound that was typed with few digits still meets its point


def subset(
    ds: xr.Dataset,
    fields: Sequence[str] | None = None,
    trajectories: slice | None = None,
    ranges: Mapping[str, Range] | None = None,
    strides: Mapping[str, int] | None = None,
    min_steps: int | None = None,
    trim: bool = False,
) -> xr.Dataset:
    """Cuts snapshots; nothing is read but coordinates.

    Where an axis is cut its side becomes open, on both sides if it was periodic. Every n-th point of a periodic axis
    has to leave it periodic. What was done is added to the attribute `history`.

    Arguments:
        ds: Canonical snapshots.
        fields: Names of the fields to keep, in the order of `ds`; None keeps all. What is no field is always kept.
        trajectories: Positions of the trajectories to keep.
        ranges: Dim (`time`, `x`, `y`, `z`) to the range of its coordinate.
        strides: Dim to n: every n-th entry is kept, from the first.
        min_steps: Trajectories with fewer times are dropped.
        trim: Cuts all trajectories to the times of the shortest, so that none is padded.

    Raises:
        ConfigError: An unknown field or dim, an empty range, or a stride that breaks a periodic axis.
        DataError: A trajectory has no time left.
    """
    done: list[str] = []
    if fields is not None:
        ds = _with_fields(ds, fields)
        done.append(f"fields {', '.join(fields)}")
    if trajectories is not None:
        ds = ds.isel({TRAJECTORY: trajectories})
        if not ds.sizes[TRAJECTORY]:
            raise ConfigError(f"trajectories {_sliced(trajectories)}: none is left. Choose other positions")
        done.append(f"trajectories {_sliced(trajectories)}")
    for dim, bounds in (ranges or {}).items():
        ds = _cut(ds, dim, bounds)
        done.append(f"{dim} {_number(bounds[0])}:{_number(bounds[1])}")
    for dim, n in (strides or {}).items():
        ds = _thinned(ds, dim, n)
        done.append(f"every {n} of {dim}")
    if min_steps is not None:
        lengths = lengths_of(ds)
        kept = np.flatnonzero(
            (np.full(ds.sizes[TRAJECTORY], ds.sizes[TIME]) if lengths is None else lengths) >= min_steps
        )
        if not kept.size:
            raise ConfigError(f"min_steps = {min_steps}: no trajectory has so many times. Choose fewer")
        done.append(f"{ds.sizes[TRAJECTORY] - kept.size} trajectories shorter than {min_steps} times dropped")
        ds = ds.isel({TRAJECTORY: kept})
    lengths = lengths_of(ds)
    if lengths is not None and (lengths < 1).any():
        i = int(np.argmax(lengths < 1))
        raise DataError(
            f"trajectory {i} has no time left in the chosen range. Drop such trajectories with --min-steps 1"
        )
    if trim and lengths is not None:
        ds = ds.isel({TIME: slice(int(lengths.min()))}).drop_vars(N_STEPS)
        done.append(f"all trajectories cut to {int(lengths.min())} times")
    return with_history(ds, f"subset: {'; '.join(done)}") if done else ds


def with_history(ds: xr.Dataset, what: str) -> xr.Dataset:
    """The same with a line added to the attribute `history`."""
    before = str(ds.attrs.get("history", ""))
    return ds.assign_attrs(history=f"{before}; {what}" if before else what)


def _with_fields(ds: xr.Dataset, fields: Sequence[str]) -> xr.Dataset:
    known = fields_of(ds)
    for name in fields:
        if name not in known:
            raise ConfigError(f"field {name!r} is unknown, found {', '.join(known)}.{did_you_mean(name, known)}")
    kept = ds.drop_vars([name for name in known if name not in fields])
    sides = {
        axis: tuple(Boundary(side.kind, tuple(v for v in side.value if v[0] in fields)) for side in pair)
        for axis, pair in boundaries_of(ds).items()
    }
    entries = {axis: (pair[0], pair[1]) for axis, pair in sides.items()}
    return kept.assign_attrs(boundary_conditions=boundaries_to_json(entries)) if entries else kept


def _cut(ds: xr.Dataset, dim: str, bounds: Range) -> xr.Dataset:
    values = _coordinate(ds, dim)
    slack = _ROUNDING * float(np.diff(values).min()) if values.size > 1 else 0.0
    low = -np.inf if bounds[0] is None else bounds[0] - slack
    high = np.inf if bounds[1] is None else bounds[1] + slack
    kept = np.flatnonzero((values >= low) & (values <= high))
    if not kept.size:
        raise ConfigError(
            f"{dim} {_number(bounds[0])}:{_number(bounds[1])}: no point of {dim!r} lies there, it goes from "
            f"{values[0]:.6g} to {values[-1]:.6g}"
        )
    first, last = int(kept[0]), int(kept[-1])
    cut = _with_lengths(ds, dim, slice(first, last + 1))
    return _opened(cut, dim, first > 0, last < values.size - 1) if dim in SPACE else cut


def _thinned(ds: xr.Dataset, dim: str, n: int) -> xr.Dataset:
    size = _coordinate(ds, dim).size
    if n < 1:
        raise ConfigError(f"stride of {dim} is {n}, expected 1 or more")
    sides = boundaries_of(ds).get(dim) if dim in SPACE else None
    if sides and sides[0].kind == "periodic" and size % n:
        raise ConfigError(
            f"stride {n} of {dim}: the axis is periodic with {size} points, which {n} does not divide. Choose a "
            f"divisor, or --interpolate-{dim}"
        )
    return _with_lengths(ds, dim, slice(None, None, n))


def _with_lengths(ds: xr.Dataset, dim: str, part: slice) -> xr.Dataset:
    """A part along one dim; the lengths of trajectories follow the times that are left."""
    lengths = lengths_of(ds)
    result = ds.isel({dim: part})
    if dim != TIME or lengths is None:
        return result
    kept = np.arange(ds.sizes[TIME])[part]
    left = (kept[None, :] < lengths[:, None]).sum(1)
    return result.assign_coords({N_STEPS: (TRAJECTORY, left.astype(np.int32), ds[N_STEPS].attrs)})


def _opened(ds: xr.Dataset, dim: str, lower: bool, upper: bool) -> xr.Dataset:
    """Boundary conditions after a cut: what was cut off is open, and a cut period is none."""
    sides = boundaries_of(ds)
    if dim not in sides or not (lower or upper):
        return ds
    one, other = sides[dim]
    both = one.kind == "periodic"
    open_side = Boundary("open")
    entries: dict[str, tuple[BoundaryEntry, BoundaryEntry]] = dict(sides)
    entries[dim] = (open_side if lower or both else one, open_side if upper or both else other)
    return ds.assign_attrs(boundary_conditions=boundaries_to_json(entries))


def _coordinate(ds: xr.Dataset, dim: str) -> np.ndarray:
    known = (TIME, *space_of(ds))
    if dim not in known:
        raise ConfigError(f"dim {dim!r} is unknown, found {', '.join(known)}")
    return np.asarray(ds[dim].values, dtype=np.float64)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


def _sliced(part: slice) -> str:
    return ":".join("" if v is None else str(v) for v in (part.start, part.stop))
