"""What a canonical Dataset must fulfil before anything is learnt from it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from romvae.boundary import boundaries_of
from romvae.canonical import (
    LATENT,
    MASK,
    MEMBER,
    N_STEPS,
    ORDER,
    SPACE,
    TIME,
    TRAJECTORY,
    blocks,
    did_you_mean,
    fields_of,
    lengths_of,
    mask_of,
    parameters_of,
    space_of,
    statics_of,
    undeclared_of,
)
from romvae.errors import AssumptionWarning, DataError, SchemaError

__all__ = [
    "LARGEST",
    "Watch",
    "check_coordinate",
    "check_dims",
    "check_snapshots",
    "check_values",
    "read_block",
    "require_equal_lengths",
    "structure_checks",
    "uniform_step",
    "unused",
]

LARGEST = 1e30  # netCDF marks values never written by 9.97e36

Watch = Callable[[str, Mapping[str, slice], np.ndarray], None]
"""Sees every block that a check reads: name of the variable, selection, values."""


def check_snapshots(
    ds: xr.Dataset, source: str = "", *, values: bool = True, uniform: bool = True, watch: Watch | None = None
) -> None:
    """Raises unless the Dataset is canonical and finite; dims count by name, their order is free.

    Outside of the mask a field may be NaN; beyond `n_steps` of its trajectory it has to be.

    Arguments:
        ds: Snapshots, in memory or lazily opened; they are read block by block.
        source: File that the messages name.
        values: Whether to scan the values for NaN and infinity; the rest costs nothing.
        uniform: Whether the time step has to be the same throughout.
        watch: Called with every block of values that is scanned, so that one pass serves several ends.

    Raises:
        SchemaError: Dims, dtypes or coordinates are not those of the canonical Dataset.
        DataError: A value is not finite; the message names its first index.
    """
    check_dims(ds, source)
    for check in structure_checks(ds, source, uniform=uniform):
        check()
    _warn_missing(ds, f"{source}: " if source else "", source)
    if values:
        for name in map(str, ds.data_vars):
            check_values(ds, name, source, watch)


def structure_checks(ds: xr.Dataset, source: str = "", *, uniform: bool = True) -> list[Callable[[], object]]:
    """The checks that need no field's values, one by one, for who wants to go on after the first that fails.

    The dims have to be in order already, see `check_dims`.
    """
    where = f"{source}: " if source else ""
    checks: list[Callable[[], object]] = [
        partial(check_coordinate, ds, name, source) for name in (TRAJECTORY, TIME, *space_of(ds), *parameters_of(ds))
    ]
    checks += [partial(_check_lengths, ds, where), partial(_check_mask, ds, where)]
    if uniform:
        checks.append(lambda: uniform_step(ds[TIME], source))
    return [*checks, partial(boundaries_of, ds, source)]


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
            f"expected {usual:.10g}. Interpolate the data to uniform times: romvae pack {source or 'DATA'} NEW.zarr "
            f"--interpolate-time {usual:.10g}"
        )
    return dt


def read_block(ds: xr.Dataset, name: str, chosen: Mapping[str, slice], source: str = "") -> np.ndarray:
    """The values of one of `romvae.canonical.blocks`.

    Raises:
        DataError: The file is damaged there: a checksum or a length is wrong.
    """
    try:
        return np.asarray(ds.variables[name].isel(chosen).values)
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
    beside = set(statics_of(ds))
    if not ds.data_vars:
        raise SchemaError(f"{where}holds no variable, expected fields with dims ({', '.join(expected)})")
    for name, variable in ds.data_vars.items():
        dims = set(variable.dims)
        if {LATENT, MEMBER} & dims and dims <= set(ORDER):
            continue
        if space and name in beside:
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


def check_coordinate(ds: xr.Dataset, name: str, source: str = "") -> None:
    """The part of `check_snapshots` that looks at one coordinate: its dims, type, finite and in order.

    Raises:
        SchemaError: It is missing, not a number, not in order, or belongs to another dim.
        DataError: An entry is not finite.
    """
    where = f"{source}: " if source else ""
    if name not in ds.coords:
        if name == TRAJECTORY:
            return
        raise SchemaError(f"{where}dim {name!r} has no coordinate. Add it with ds.assign_coords({name}=...)")
    dims = (name,) if name in (TRAJECTORY, TIME, *SPACE) else (TRAJECTORY,)
    if ds[name].dims != dims:
        advice = ""
        if name == TIME:
            advice = ". Times that differ per trajectory need one uniform time: romvae pack --interpolate-time DT"
        raise SchemaError(
            f"{where}coordinate {name!r} has dims ({', '.join(map(str, ds[name].dims))}), expected ({dims[0]}){advice}"
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


def check_values(
    ds: xr.Dataset,
    name: str,
    source: str = "",
    watch: Watch | None = None,
    parts: Iterable[Mapping[str, slice]] | None = None,
) -> None:
    """The part of `check_snapshots` that scans one variable, block by block.

    Minimum and maximum are NaN or huge exactly if some value is.

    Arguments:
        ds: Snapshots.
        name: The variable.
        source: File that the messages name.
        watch: Called with every block.
        parts: The blocks to scan; None takes all.

    Raises:
        DataError: A value is not finite, or there is one beyond the end of its trajectory.
    """
    where = f"{source}: " if source else ""
    dims = list(map(str, ds[name].dims))
    ragged = lengths_of(ds) is not None
    for chosen in blocks(ds, name) if parts is None else parts:
        values = read_block(ds, name, chosen, source)
        if watch is not None:
            watch(name, chosen, values)
        if not ragged and values.min() > -LARGEST and values.max() < LARGEST:
            continue
        wrong = ~(np.abs(values) < LARGEST)
        outside, beyond = unused(ds, name, chosen)
        late = np.argwhere(beyond & ~np.isnan(values))
        if late.size:
            at = _position(ds, dims, chosen, late[0])
            raise DataError(
                f"{where}{name!r} has a value at {at}, beyond {N_STEPS!r} of its trajectory; expected NaN there. "
                f"Correct {N_STEPS!r} or the values"
            )
        wrong &= ~(outside | beyond)
        if not wrong.any():
            continue
        local = np.argwhere(wrong)[0]
        value = values[tuple(local)]
        what = "NaN" if np.isnan(value) else "infinite" if np.isinf(value) else "a fill value"
        found = f"{value:.6g}" if what == "a fill value" else what
        raise DataError(
            f"{where}{name!r} is {found}, first at {_position(ds, dims, chosen, local)}; expected finite values below "
            f"{LARGEST:g}. Repair or drop that trajectory"
        )


def unused(ds: xr.Dataset, name: str, chosen: Mapping[str, slice]) -> tuple[np.ndarray, np.ndarray]:
    """Which values of a block are outside of the mask, and which beyond the end of their trajectory.

    Arguments:
        ds: Snapshots.
        name: A variable.
        chosen: The block, one of `romvae.canonical.blocks`.

    Returns:
        Two boolean arrays that broadcast to the block.
    """
    dims = list(map(str, ds[name].dims))
    none = np.zeros((1,) * len(dims), dtype=bool)
    outside, beyond = none, none
    space, mask, lengths = space_of(ds), mask_of(ds), lengths_of(ds)
    if mask is not None and name != MASK and set(space) <= set(dims):
        order = sorted(range(len(space)), key=lambda k: dims.index(space[k]))
        sizes = dict(zip(space, mask.shape, strict=True))
        outside = ~mask.transpose(order).reshape([sizes.get(dim, 1) for dim in dims])
    if lengths is not None and {TRAJECTORY, TIME} <= set(dims):
        times = np.arange(ds.sizes[TIME])[chosen.get(TIME, slice(None))]
        late = times[None, :] >= lengths[chosen.get(TRAJECTORY, slice(None))][:, None]
        late = late if dims.index(TRAJECTORY) < dims.index(TIME) else late.T
        beyond = late.reshape([{TRAJECTORY: -1, TIME: times.size}.get(dim, 1) for dim in dims])
    return outside, beyond


def require_equal_lengths(ds: xr.Dataset, where: str = "") -> None:
    """Raises where trajectories differ in length.

    Raises:
        DataError: The message says how to make them equal.
    """
    lengths = lengths_of(ds)
    if lengths is not None and (lengths < ds.sizes[TIME]).any():
        i = int(np.argmax(lengths < ds.sizes[TIME]))
        raise DataError(
            f"{where}trajectory {i} has {lengths[i]} of {ds.sizes[TIME]} times, but trajectories of one length are "
            "needed here. Cut them with romvae pack --trim, or drop short ones with romvae pack --min-steps "
            f"{ds.sizes[TIME]}"
        )


def _check_lengths(ds: xr.Dataset, where: str) -> None:
    if N_STEPS not in ds.coords:
        return
    if ds[N_STEPS].dims != (TRAJECTORY,) or ds[N_STEPS].dtype.kind not in "iu":
        raise SchemaError(
            f"{where}coordinate {N_STEPS!r} has dims ({', '.join(map(str, ds[N_STEPS].dims))}) and dtype "
            f"{ds[N_STEPS].dtype}, expected one integer per trajectory"
        )
    lengths = np.asarray(ds[N_STEPS].values)
    wrong = (lengths < 1) | (lengths > ds.sizes[TIME])
    if wrong.any():
        i = int(np.argmax(wrong))
        raise SchemaError(
            f"{where}{N_STEPS!r} is {lengths[i]} at trajectory {i}, expected 1 to {ds.sizes[TIME]}, the number of times"
        )


def _check_mask(ds: xr.Dataset, where: str) -> None:
    if MASK not in ds.data_vars:
        return
    mask, space = ds[MASK], space_of(ds)
    if set(mask.dims) != set(space) or mask.dtype.kind not in "iu":
        raise SchemaError(
            f"{where}{MASK!r} has dims ({', '.join(map(str, mask.dims))}) and dtype {mask.dtype}, expected int8 with "
            f"dims ({', '.join(space)}): 1 inside, 0 outside"
        )
    values = read_block(ds, MASK, {}, where.removesuffix(": "))
    if not np.isin(values, (0, 1)).all() or not values.any():
        i = tuple(int(k) for k in np.argwhere(~np.isin(values, (0, 1)))[0]) if values.any() else None
        found = "is 0 everywhere" if i is None else f"is {values[i]} at index {i}"
        raise DataError(f"{where}{MASK!r} {found}, expected 1 inside the domain and 0 outside. Correct it")


def _position(ds: xr.Dataset, dims: list[str], chosen: Mapping[str, slice], local: np.ndarray) -> str:
    starts = [chosen[dim].start if dim in chosen else 0 for dim in dims]
    index = [start + int(i) for start, i in zip(starts, local, strict=True)]
    return ", ".join(f"{dim} {i}{_coordinate(ds, dim, i)}" for dim, i in zip(dims, index, strict=True))


def _coordinate(ds: xr.Dataset, dim: Any, i: int) -> str:
    if dim not in ds.coords or ds[dim].dtype.kind != "f":
        return ""
    return f" ({dim}={ds[dim].values[i]:.6g})"


def _selected(chosen: Mapping[str, slice]) -> str:
    return ", ".join(f"{dim} {part.start} to {part.stop - 1}" for dim, part in chosen.items())


def _warn_missing(ds: xr.Dataset, where: str, source: str) -> None:
    boundaries = boundaries_of(ds, source)
    unitless = [n for n in (*fields_of(ds), TIME, *space_of(ds), *parameters_of(ds)) if "units" not in ds[n].attrs]
    if unitless:
        warnings.warn(
            f"{where}no units for {', '.join(unitless)}: taken as dimensionless. Set the attribute 'units', or state "
            "them in a mapping (--reader)",
            AssumptionWarning,
            stacklevel=3,
        )
    unbounded = [axis for axis in space_of(ds) if axis not in boundaries]
    if unbounded:
        warnings.warn(
            f"{where}no boundary condition for {', '.join(unbounded)}: taken as open. Set the attribute "
            "'boundary_conditions', or state it in a mapping (--reader)",
            AssumptionWarning,
            stacklevel=3,
        )
    plain = [n for n in statics_of(ds) if n != MASK and "romvae_role" not in ds[n].attrs]
    if plain:
        warnings.warn(
            f"{where}{', '.join(plain)} without time: kept, and not learnt. Set the attribute romvae_role='static'",
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
