"""Interpolation to a uniform time or another grid: only where it is asked for, and said in the attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from scipy.interpolate import CubicSpline, interp1d

from romvae.boundary import boundaries_of
from romvae.canonical import MASK, N_STEPS, TIME, TRAJECTORY, lengths_of, space_of
from romvae.data.lazy import Key, lazy_variable
from romvae.data.subset import with_history
from romvae.errors import ConfigError

__all__ = ["Method", "interpolate"]

Method = Literal["linear", "cubic"]

_END = 1e-9  # of the step: the last time belongs to the new times also where dt was typed with rounding


@dataclass(frozen=True)
class _Change:
    """Values on `old` to values on `new`, along one dim; `period` is the length of a periodic axis."""

    dim: str
    old: np.ndarray
    new: np.ndarray
    method: Method
    period: float | None = None

    def __call__(self, values: np.ndarray, axis: int, new: np.ndarray) -> np.ndarray:
        """Values along an axis at new coordinates, which lie within the old ones; in float64."""
        old = self.old[: values.shape[axis]]
        u = values.astype(np.float64)
        if self.period is not None:
            old = np.append(old, old[0] + self.period)
            u = np.concatenate([u, u.take([0], axis)], axis)
        if self.method == "linear":
            return np.asarray(interp1d(old, u, axis=axis, copy=False, assume_sorted=True)(new))
        ends = "not-a-knot" if self.period is None else "periodic"
        lost = np.isnan(u).any(axis, keepdims=True)  # outside of the mask: NaN before and after
        spline = CubicSpline(old, np.where(lost, 0.0, u), axis=axis, bc_type=ends)
        return np.where(lost, np.nan, spline(new))


def interpolate(
    ds: xr.Dataset, dt: float | None = None, points: Mapping[str, int] | None = None, method: Method = "linear"
) -> xr.Dataset:
    """Brings snapshots to a uniform time step or to another number of points per axis; lazily.

    New times start at the first stored one and end at or before the last: nothing is extrapolated. A periodic axis
    is interpolated across its ends and keeps its period; any other one keeps its first and last point. Values are
    computed in float64 and kept in the type of the data. A whole trajectory (in time) or axis is read at once.

    Arguments:
        ds: Canonical snapshots; their times have to increase, uniform or not.
        dt: New time step, in units of time.
        points: Axis to its new number of points.
        method: `linear`; `cubic` for smooth data, it overshoots at jumps.

    Raises:
        ConfigError: A step or number of points that makes no sense, or an obstacle in the way: values on its two sides
            have nothing to do with each other.
    """
    changes: list[_Change] = []
    if dt is not None:
        changes.append(_in_time(ds, dt, method))
    changes += [_in_space(ds, axis, n, method) for axis, n in (points or {}).items()]
    if not changes:
        return ds
    if points and MASK in ds.data_vars:
        raise ConfigError("interpolation in space: the data have a mask, across which no value can be interpolated")
    lengths = lengths_of(ds)
    result = ds
    for change in changes:
        _require_old(change, method)
        result = result.drop_vars([n for n in result.variables if change.dim in result[n].dims])
    coords = {c.dim: (c.dim, c.new, ds[c.dim].attrs) for c in changes}
    result = result.assign_coords(coords)
    ends = None
    if dt is not None and lengths is not None:
        time = changes[0]
        ends = np.searchsorted(time.new, time.old[lengths - 1] + _END * dt, side="right")
        result = result.assign_coords({N_STEPS: (TRAJECTORY, ends.astype(np.int32), ds[N_STEPS].attrs)})
    for name in map(str, ds.variables):
        if name in result.variables or name in coords:
            continue
        own = [c for c in changes if c.dim in ds[name].dims]
        ragged = (lengths, ends) if lengths is not None and TIME in ds[name].dims else None
        changed = _changed(ds[name].variable, own, ragged)
        result = result.assign({name: changed}) if name in ds.data_vars else result.assign_coords({name: changed})
    result = result[list(ds.data_vars)]
    result.set_close(ds.close)
    said = "; ".join(
        f"{c.dim} {method} to every {dt:.10g}" if c.dim == TIME else f"{c.dim} {method} to {c.new.size} points"
        for c in changes
    )
    return with_history(result.assign_attrs(interpolation=said), f"interpolated: {said}")


def _in_time(ds: xr.Dataset, dt: float, method: Method) -> _Change:
    old = np.asarray(ds[TIME].values, dtype=np.float64)
    if not dt > 0 or old.size < 2:
        raise ConfigError(f"interpolate: dt is {dt:g} for {old.size} times, expected a positive step and two times")
    steps = int(np.floor((old[-1] - old[0]) / dt + _END))
    if steps < 1:
        raise ConfigError(f"interpolate: dt is {dt:g}, longer than the {old[-1] - old[0]:g} that the data cover")
    return _Change(TIME, old, np.minimum(old[0] + dt * np.arange(steps + 1), old[-1]), method)


def _in_space(ds: xr.Dataset, axis: str, n: int, method: Method) -> _Change:
    if axis not in space_of(ds):
        raise ConfigError(f"interpolate: axis {axis!r} is unknown, found {', '.join(space_of(ds))}")
    old = np.asarray(ds[axis].values, dtype=np.float64)
    if n < 2 or old.size < 2:
        raise ConfigError(f"interpolate: {axis} to {n} points from {old.size}, expected 2 or more of both")
    sides = boundaries_of(ds).get(axis)
    if sides and sides[0].kind == "periodic":
        period = (old[-1] - old[0]) * old.size / (old.size - 1)
        return _Change(axis, old, old[0] + period * np.arange(n) / n, method, period)
    return _Change(axis, old, np.linspace(old[0], old[-1], n), method)


def _require_old(change: _Change, method: Method) -> None:
    if method == "cubic" and change.old.size < 4:
        raise ConfigError(f"interpolate: {change.dim} has {change.old.size} points, cubic needs 4. Use linear")


def _changed(
    variable: xr.Variable, changes: list[_Change], ragged: tuple[np.ndarray, np.ndarray | None] | None
) -> xr.Variable:
    dims = [str(dim) for dim in variable.dims]
    of_dim = {c.dim: c for c in changes}
    shape = [of_dim[d].new.size if d in of_dim else n for d, n in zip(dims, variable.shape, strict=True)]

    def read(key: Key) -> np.ndarray:
        wanted = dict(zip(dims, key, strict=True))
        part = np.asarray(variable.isel({d: k for d, k in wanted.items() if d not in of_dim}).values)
        if ragged is None:
            return _applied(part, dims, of_dim, wanted).astype(variable.dtype)
        lengths, ends = ragged
        numbers = np.arange(lengths.size)[wanted[TRAJECTORY]]
        axis = dims.index(TRAJECTORY)
        rows = []
        for k, i in enumerate(numbers):
            row = part.take([k], axis)
            rows.append(_padded(row, dims, of_dim, wanted, int(lengths[i]), None if ends is None else int(ends[i])))
        return np.concatenate(rows, axis).astype(variable.dtype)

    return lazy_variable(dims, shape, variable.dtype, variable.attrs, read)


def _applied(
    part: np.ndarray, dims: list[str], changes: Mapping[str, _Change], wanted: Mapping[str, slice | np.ndarray]
) -> np.ndarray:
    for dim, change in changes.items():
        part = change(part, dims.index(dim), change.new[wanted[dim]])
    return part


def _padded(
    row: np.ndarray,
    dims: list[str],
    changes: Mapping[str, _Change],
    wanted: Mapping[str, slice | np.ndarray],
    length: int,
    end: int | None,
) -> np.ndarray:
    """One trajectory that ends early: interpolated as far as it goes, NaN beyond."""
    at = dims.index(TIME)
    new = changes[TIME].new if TIME in changes else None
    if new is None or end is None:
        space = {d: c for d, c in changes.items() if d != TIME}
        return _applied(row, dims, space, wanted)  # NaN along whole snapshots stays NaN
    index = np.arange(new.size)[wanted[TIME]]
    valid = row.take(np.arange(length), at)
    inside = index < end
    some = changes[TIME](valid, at, np.minimum(new[index[inside]], changes[TIME].old[length - 1]))
    some = _applied(some, dims, {d: c for d, c in changes.items() if d != TIME}, wanted)
    result = np.full([index.size if k == at else n for k, n in enumerate(some.shape)], np.nan)
    result[tuple(inside if k == at else slice(None) for k in range(result.ndim))] = some
    return result
