"""Several files as one: their trajectories one after the other, lazily, where everything else agrees."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import xarray as xr

from romvae.boundary import boundaries_of
from romvae.canonical import N_STEPS, TIME, TRAJECTORY, fields_of, lengths_of, parameters_of, space_of
from romvae.data.lazy import Key, lazy_variable
from romvae.errors import SchemaError

__all__ = ["concatenate"]


def concatenate(datasets: Sequence[xr.Dataset], sources: Sequence[str]) -> xr.Dataset:
    """Joins snapshots along `trajectory`; values are read when they are used.

    Fields, grid, units, boundaries and time step have to agree. Where trajectories end at different times the shorter
    ones are padded with NaN, and `n_steps` says where each ends. Trajectories are numbered anew; where they come from
    is kept in `source_file` and `source_index`. Attributes that differ are dropped.

    Arguments:
        datasets: Canonical snapshots.
        sources: Their names.

    Raises:
        SchemaError: Something differs; the message names both files and the difference.
    """
    if len(datasets) == 1:
        return datasets[0]
    first = datasets[0]
    for ds, source in zip(datasets[1:], sources[1:], strict=True):
        _require_same(first, ds, sources[0], source)
    longest = max(datasets, key=lambda ds: ds.sizes[TIME])
    counts = [ds.sizes[TRAJECTORY] for ds in datasets]
    joined: dict[str, xr.Variable] = {}
    for name in map(str, first.variables):
        variable = first[name].variable
        if name in (TIME, TRAJECTORY, N_STEPS):
            continue
        if TRAJECTORY not in variable.dims:
            joined[name] = variable
        elif set(variable.dims) == {TRAJECTORY}:
            joined[name] = _stacked([ds[name].variable for ds in datasets])
        else:
            joined[name] = _joined([ds[name].variable for ds in datasets], longest.sizes[TIME])
    steps = np.concatenate([_lengths(ds) for ds in datasets])
    total = sum(counts)
    coords = {
        TRAJECTORY: (TRAJECTORY, np.arange(total, dtype=np.int64), {"standard_name": "realization"}),
        TIME: longest[TIME].variable,
        "source_file": (TRAJECTORY, np.repeat(list(sources), counts)),
        "source_index": (TRAJECTORY, np.concatenate([np.arange(n, dtype=np.int64) for n in counts])),
    }
    if (steps < longest.sizes[TIME]).any():
        coords[N_STEPS] = (TRAJECTORY, steps.astype(np.int32), {"romvae_role": "valid_length"})
    data = {name: variable for name, variable in joined.items() if name in first.data_vars}
    coords |= {name: variable for name, variable in joined.items() if name not in first.data_vars}
    attrs = {
        key: value for key, value in first.attrs.items() if all(_same(value, ds.attrs.get(key)) for ds in datasets)
    }
    result = xr.Dataset(data, coords, attrs)
    result.set_close(partial(_close, datasets))
    return result


def _close(datasets: Sequence[xr.Dataset]) -> None:
    for ds in datasets:
        ds.close()


def _lengths(ds: xr.Dataset) -> np.ndarray:
    lengths = lengths_of(ds)
    return np.full(ds.sizes[TRAJECTORY], ds.sizes[TIME]) if lengths is None else lengths


def _stacked(variables: Sequence[xr.Variable]) -> xr.Variable:
    values = np.concatenate([np.asarray(variable.values) for variable in variables])
    return xr.Variable((TRAJECTORY,), values, variables[0].attrs)


def _joined(variables: Sequence[xr.Variable], times: int) -> xr.Variable:
    """Variables one after the other along `trajectory`, each padded with NaN to `times`."""
    one = variables[0]
    dims = [str(dim) for dim in one.dims]
    at = dims.index(TRAJECTORY)
    ends = np.cumsum([variable.sizes[TRAJECTORY] for variable in variables])
    shape = [int(ends[-1]) if d == TRAJECTORY else times if d == TIME else n for d, n in one.sizes.items()]

    def read(key: Key) -> np.ndarray:
        numbers = np.arange(int(ends[-1]))[key[at]]
        rows = []
        for i in numbers:
            k = int(np.searchsorted(ends, i, side="right"))
            local = int(i - (ends[k - 1] if k else 0))
            wanted = {**dict(zip(dims, key, strict=True)), TRAJECTORY: slice(local, local + 1)}
            rows.append(_row(variables[k], dims, wanted))
        if not rows:
            return np.empty([0 if d == at else n for d, n in enumerate(shape)], dtype=one.dtype)
        return rows[0] if len(rows) == 1 else np.concatenate(rows, at)

    def _row(variable: xr.Variable, dims: list[str], wanted: dict[str, slice | np.ndarray]) -> np.ndarray:
        stored = variable.sizes.get(TIME, times)
        if TIME not in dims or stored == times:
            return np.asarray(variable.isel(wanted).values)
        index = np.arange(times)[wanted[TIME]]
        inside = index < stored
        some = np.asarray(variable.isel({**wanted, TIME: index[inside]}).values)
        axis = dims.index(TIME)
        result = np.full([index.size if k == axis else n for k, n in enumerate(some.shape)], np.nan, dtype=some.dtype)
        result[tuple(inside if k == axis else slice(None) for k in range(some.ndim))] = some
        return result

    return lazy_variable(dims, shape, one.dtype, one.attrs, read)


def _require_same(one: xr.Dataset, other: xr.Dataset, name: str, source: str) -> None:
    def differ(what: str, found: object, expected: object, advice: str) -> SchemaError:
        return SchemaError(f"{source}: {what} {found}, expected {expected} as in {name}. {advice}")

    for kind, names in (("fields are", fields_of), ("parameters are", parameters_of), ("axes are", space_of)):
        if list(names(one)) != list(names(other)):
            found, expected = (", ".join(names(ds)) or "none" for ds in (other, one))
            raise differ(kind, found, expected, "Choose --fields, or rename them")
    if set(one.variables) - {N_STEPS} != set(other.variables) - {N_STEPS}:
        odd = sorted(map(str, set(one.variables) ^ set(other.variables)))[0]
        raise SchemaError(f"{source}: {odd!r} is in one of {name} and {source} only. Add or drop it")
    for n in map(str, one.variables):
        if n in (TRAJECTORY, N_STEPS):
            continue
        a, b = one[n].variable, other[n].variable
        if a.attrs.get("units", "1") != b.attrs.get("units", "1"):
            raise differ(f"{n!r} is in", repr(b.attrs.get("units", "1")), repr(a.attrs.get("units", "1")), "Convert it")
        if a.dims != b.dims or (a.dtype != b.dtype and a.dtype.kind in "fiu"):
            raise differ(f"{n!r} has dims and type", f"{b.dims} {b.dtype}", f"{a.dims} {a.dtype}", "Convert it")
        if TRAJECTORY in a.dims or n == TIME:
            continue
        if a.shape != b.shape or not np.array_equal(a.values, b.values):
            advice = f"Bring them to one with --interpolate-{n}" if n in space_of(one) else "Choose files of one kind"
            raise differ(f"{n!r} has other", f"values ({b.size} of them)", f"those ({a.size})", advice)
    _require_same_times(one, other, name, source)
    if boundaries_of(one) != boundaries_of(other):
        found, expected = (str(ds.attrs.get("boundary_conditions")) for ds in (other, one))
        raise differ("boundary conditions are", found, expected, "Pack files of one kind")


def _require_same_times(one: xr.Dataset, other: xr.Dataset, name: str, source: str) -> None:
    a, b = (np.asarray(ds[TIME].values, dtype=np.float64) for ds in (one, other))
    n = min(a.size, b.size)
    steps = [float(t[1] - t[0]) if t.size > 1 else 0.0 for t in (a, b)]
    slack = 1e-6 * max(steps)
    if n > 1 and abs(steps[0] - steps[1]) > slack:
        raise SchemaError(
            f"{source}: time step is {steps[1]:.10g}, in {name} it is {steps[0]:.10g}. Bring them to one with "
            f"romvae pack --interpolate-time {max(steps):.10g}"
        )
    wrong = np.abs(a[:n] - b[:n]) > slack
    if wrong.any():
        i = int(np.argmax(wrong))
        raise SchemaError(
            f"{source}: time is {b[i]:.10g} at index {i}, in {name} it is {a[i]:.10g}. Choose a common --time range"
        )


def _same(one: object, other: object) -> bool:
    return other is not None and bool(np.array_equal(np.asarray(one), np.asarray(other)))
