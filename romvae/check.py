"""What a canonical Dataset must fulfil before anything is learnt from it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from romvae.boundary import boundaries_of
from romvae.canonical import (
    LATENT,
    MEMBER,
    ORDER,
    SPACE,
    TIME,
    TRAJECTORY,
    blocks,
    did_you_mean,
    fields_of,
    parameters_of,
    space_of,
    undeclared_of,
)
from romvae.errors import AssumptionWarning, DataError, SchemaError

__all__ = ["LARGEST", "check_dims", "check_snapshots", "read_block", "uniform_step"]

LARGEST = 1e30  # netCDF marks values never written by 9.97e36


def check_snapshots(ds: xr.Dataset, source: str = "", *, values: bool = True) -> None:
    """Raises unless the Dataset is canonical and finite; dims count by name, their order is free.

    Arguments:
        ds: Snapshots, in memory or lazily opened; they are read block by block.
        source: File that the messages name.
        values: Whether to scan the values for NaN and infinity; the rest costs nothing.

    Raises:
        SchemaError: Dims, dtypes or coordinates are not those of the canonical Dataset.
        DataError: A value is not finite; the message names its first index.
    """
    where = f"{source}: " if source else ""
    check_dims(ds, source)
    for name in (TRAJECTORY, TIME, *space_of(ds), *parameters_of(ds)):
        _check_coordinate(ds, name, source)
    uniform_step(ds[TIME], source)
    boundaries = boundaries_of(ds, source)
    _warn_missing(ds, boundaries, where)
    if values:
        for name in map(str, ds.data_vars):
            _check_finite(ds, name, source)


def uniform_step(time: xr.DataArray, source: str = "") -> float:
    """The spacing of a strictly increasing, uniform time; NaN for a single time.

    Uniform means within 1e-6 of the step, or the rounding of the stored type if that is more.

    Raises:
        SchemaError: Time repeats, decreases or has steps of different length.
    """
    where = f"{source}: " if source else ""
    t = np.asarray(time.values, dtype=np.float64)
    if t.size < 2:
        return float("nan")
    steps = np.diff(t)
    if (steps <= 0).any():
        i = int(np.argmax(steps <= 0)) + 1
        what = "repeats" if steps[i - 1] == 0 else "decreases"
        raise SchemaError(
            f"{where}time {what} at index {i} ({t[i]:.10g} after {t[i - 1]:.10g}), expected strictly "
            "increasing times. Drop repeated times or sort by time"
        )
    dt = float(t[-1] - t[0]) / (t.size - 1)
    usual = float(np.median(steps))
    rounding = np.finfo(time.dtype).eps if time.dtype.kind == "f" else 0.0
    wrong = np.abs(steps - usual) > max(1e-6 * usual, 4 * rounding * np.abs(t).max())
    if wrong.any():
        i = int(np.argmax(wrong)) + 1
        raise SchemaError(
            f"{where}time is not uniform: step {steps[i - 1]:.10g} before index {i} (time {t[i]:.10g}), "
            f"expected {usual:.10g}. Interpolate the data to uniform times"
        )
    return dt


def read_block(ds: xr.Dataset, name: str, chosen: Mapping[str, slice], source: str = "") -> np.ndarray:
    """The values of one of `romvae.canonical.blocks`.

    Raises:
        DataError: The file is damaged there: a checksum or a length is wrong.
    """
    try:
        return ds[name].isel(chosen).values
    except (OSError, ValueError, RuntimeError) as error:
        where, at = f"{source}: " if source else "", f" at {_selected(chosen)}" if chosen else ""
        raise DataError(
            f"{where}{name!r} cannot be read{at}: the data are damaged (checksum or length). "
            "Copy or simulate the file again"
        ) from error


def check_dims(ds: xr.Dataset, source: str = "") -> None:
    """The first part of `check_snapshots`: names of dims, dtypes, and that there is a field.

    Raises:
        SchemaError: The message names the variable, its dims and those expected.
    """
    where = f"{source}: " if source else ""
    space = space_of(ds)
    if any(str(dim).startswith("phony_dim") for dim in ds.dims):
        raise SchemaError(
            f"{where}the dims of {str(next(iter(ds.data_vars)))!r} have no names (no HDF5 dimension scales). "
            f"Name them {TRAJECTORY}, {TIME}, [z, [y,]] x with xarray and write with romvae.write_snapshots"
        )
    expected = (TRAJECTORY, TIME, *(space or ("x",)))
    if not ds.data_vars:
        raise SchemaError(f"{where}holds no variable, expected fields with dims ({', '.join(expected)})")
    for name, variable in ds.data_vars.items():
        dims = set(variable.dims)
        if {LATENT, MEMBER} & dims and dims <= set(ORDER):
            continue
        if not space or dims != set(expected):
            missing = [dim for dim in expected if dim not in dims]
            hint = did_you_mean(missing[0], [str(d) for d in variable.dims]) if missing else ""
            raise SchemaError(
                f"{where}{name!r} has dims ({', '.join(map(str, variable.dims))}), "
                f"expected ({', '.join(expected)}).{hint} Rename or add dims with xarray "
                "(rename, expand_dims), or drop the variable"
            )
        if variable.dtype.kind != "f" or variable.dtype.itemsize not in (4, 8):
            raise SchemaError(
                f"{where}{name!r} has dtype {variable.dtype}, expected float32 or float64. Convert it with astype"
            )
    if not fields_of(ds):
        raise SchemaError(f"{where}no variable has dims ({', '.join(expected)}): there is no field")
    if space != SPACE[-len(space) :]:
        raise SchemaError(f"{where}spatial dims are ({', '.join(space)}), expected x, or y and x, or z, y and x")
    for dim in expected:
        if ds.sizes[dim] == 0:
            raise SchemaError(f"{where}dim {dim!r} is empty, expected at least one entry")


def _check_coordinate(ds: xr.Dataset, name: str, source: str) -> None:
    where = f"{source}: " if source else ""
    if name not in ds.coords:
        if name == TRAJECTORY:
            return
        raise SchemaError(f"{where}dim {name!r} has no coordinate. Add it with ds.assign_coords({name}=...)")
    dims = (name,) if name in (TRAJECTORY, TIME, *SPACE) else (TRAJECTORY,)
    if ds[name].dims != dims:
        raise SchemaError(
            f"{where}coordinate {name!r} has dims ({', '.join(map(str, ds[name].dims))}), expected ({dims[0]})"
        )
    values = read_block(ds, name, {}, source)
    if name == TRAJECTORY:
        labels, counts = np.unique(values, return_counts=True)
        if (counts > 1).any():
            label = labels[np.argmax(counts > 1)]
            raise SchemaError(f"{where}trajectory {label} occurs more than once. Number the trajectories uniquely")
        return
    if values.dtype.kind not in "fiu":
        raise SchemaError(f"{where}coordinate {name!r} has dtype {values.dtype}, expected float64. Convert it")
    if not np.isfinite(values).all():
        i = int(np.argmax(~np.isfinite(values)))
        raise DataError(f"{where}coordinate {name!r} is {values.ravel()[i]} at index {i}. Remove or repair that entry")
    if name in SPACE and (np.diff(values) <= 0).any():
        i = int(np.argmax(np.diff(values) <= 0)) + 1
        raise SchemaError(
            f"{where}coordinate {name!r} does not increase at index {i} "
            f"({values[i]:.10g} after {values[i - 1]:.10g}). Sort with ds.sortby({name!r}) and drop "
            "duplicates"
        )


def _check_finite(ds: xr.Dataset, name: str, source: str) -> None:
    """Reads a variable in blocks; minimum and maximum are NaN or huge exactly if some value is."""
    where = f"{source}: " if source else ""
    dims = list(map(str, ds[name].dims))
    for chosen in blocks(ds, name):
        values = read_block(ds, name, chosen, source)
        if values.min() > -LARGEST and values.max() < LARGEST:
            continue
        local = tuple(np.argwhere(~(np.abs(values) < LARGEST))[0])
        what = "NaN" if np.isnan(values[local]) else "infinite" if np.isinf(values[local]) else "a fill value"
        found = f"{values[local]:.6g}" if what == "a fill value" else what
        starts = [chosen[dim].start if dim in chosen else 0 for dim in dims]
        index = [start + int(i) for start, i in zip(starts, local, strict=True)]
        at = ", ".join(f"{dim} {i}{_coordinate(ds, dim, i)}" for dim, i in zip(dims, index, strict=True))
        raise DataError(
            f"{where}{name!r} is {found}, first at {at}; expected finite values below {LARGEST:g}. "
            "Repair or drop that trajectory"
        )


def _coordinate(ds: xr.Dataset, dim: Any, i: int) -> str:
    if dim not in ds.coords or ds[dim].dtype.kind != "f":
        return ""
    return f" ({dim}={ds[dim].values[i]:.6g})"


def _selected(chosen: Mapping[str, slice]) -> str:
    return ", ".join(f"{dim} {part.start} to {part.stop - 1}" for dim, part in chosen.items())


def _warn_missing(ds: xr.Dataset, boundaries: Mapping[str, object], where: str) -> None:
    unitless = [n for n in (*fields_of(ds), TIME, *space_of(ds), *parameters_of(ds)) if "units" not in ds[n].attrs]
    if unitless:
        warnings.warn(
            f"{where}no units for {', '.join(unitless)}: taken as dimensionless. Set the attribute 'units'",
            AssumptionWarning,
            stacklevel=3,
        )
    unbounded = [axis for axis in space_of(ds) if axis not in boundaries]
    if unbounded:
        warnings.warn(
            f"{where}no boundary condition for {', '.join(unbounded)}: taken as open. Set the attribute "
            "'boundary_conditions'",
            AssumptionWarning,
            stacklevel=3,
        )
    undeclared = undeclared_of(ds)
    if undeclared:
        warnings.warn(
            f"{where}no role declared for {', '.join(undeclared)}: taken as no parameter. Set the attribute "
            "romvae_role='parameter' where the dynamics depend on it",
            AssumptionWarning,
            stacklevel=3,
        )
