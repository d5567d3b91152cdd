"""The canonical Dataset: its dimension names, what it holds and how to build one.

One variable per scalar field with dims `(trajectory, time, [z, [y,]] x)`, coordinates for every dim, physical
parameters as coordinates on `trajectory` with the attribute `romvae_role="parameter"`, units in attributes.

Beside the fields it may hold variables without time (`romvae_role="static"`), among them `mask`, which is 1 where the
domain is and 0 outside of it, numbers that vary in time alone (`romvae_role="forcing"`), and the coordinate
`n_steps(trajectory)` (`romvae_role="valid_length"`) where trajectories differ in length: beyond it there is NaN.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, DTypeLike

from romvae.boundary import BoundaryEntry, boundaries_to_json
from romvae.errors import SchemaError

__all__ = [
    "BLOCK_BYTES",
    "CONVENTIONS",
    "LATENT",
    "MASK",
    "MASK_ATTRS",
    "MEMBER",
    "N_STEPS",
    "ORDER",
    "SPACE",
    "TIME",
    "TRAJECTORY",
    "blocks",
    "canonical",
    "controls_of",
    "did_you_mean",
    "fields_of",
    "lengths_of",
    "mask_of",
    "parameters_of",
    "require_mask",
    "snapshots",
    "space_of",
    "statics_of",
    "undeclared_of",
]

TRAJECTORY = "trajectory"
TIME = "time"
SPACE = ("z", "y", "x")
MEMBER = "member"
LATENT = "latent"
MASK = "mask"
MASK_ATTRS: dict[str, Any] = {
    "long_name": "whether a grid point belongs to the domain",
    "flag_values": np.array([0, 1], dtype=np.int8),
    "flag_meanings": "outside inside",
}
N_STEPS = "n_steps"
CONVENTIONS = "CF-1.11 romvae-1"

ORDER = (MEMBER, TRAJECTORY, TIME, *SPACE, LATENT)
BLOCK_BYTES = 2**23
"""How much of one variable passes through memory at once, where snapshots are not larger."""


def space_of(ds: xr.Dataset) -> tuple[str, ...]:
    """The spatial dims of a Dataset in the order z, y, x."""
    return tuple(dim for dim in SPACE if dim in ds.dims)


def fields_of(ds: xr.Dataset) -> list[str]:
    """The variables that live on the whole grid (and on every trajectory and time that the Dataset has)."""
    wanted = {dim for dim in (TRAJECTORY, TIME) if dim in ds.dims} | set(space_of(ds))
    if not space_of(ds):
        return []
    beside = set(statics_of(ds))
    return [str(name) for name, variable in ds.data_vars.items() if set(variable.dims) == wanted and name not in beside]


def statics_of(ds: xr.Dataset) -> list[str]:
    """The variables that are no fields: the mask, what does not vary in time, and what varies in time alone.

    A variable without time is static by its dims; where the Dataset itself has no time, by its declared role.
    """
    return [str(name) for name, variable in ds.data_vars.items() if _is_static(str(name), variable, set(ds.dims))]


def mask_of(ds: xr.Dataset) -> np.ndarray | None:
    """Where the domain is, `(*space)` in the order z, y, x: True inside; None where all points belong to it."""
    if MASK not in ds.data_vars:
        return None
    others = {dim: 0 for dim in ds[MASK].dims if dim not in SPACE}  # expand_dims adds them to every variable
    return np.asarray(ds[MASK].isel(others).transpose(*space_of(ds)).values) != 0


def require_mask(ds: xr.Dataset, expected: np.ndarray | None) -> None:
    """Raises where the mask of the data is not the one that a ROM was trained with; data without one pass.

    Raises:
        SchemaError: The masks differ.
    """
    found = mask_of(ds)
    if found is None:
        return
    if expected is None:
        outside = int((~found).sum())
        raise SchemaError(
            f"{MASK!r} leaves {outside} points out of the domain, but this ROM was trained without a mask. Drop "
            "the mask if the fields are given there, or retrain"
        )
    if not np.array_equal(found, expected):
        index = tuple(int(i) for i in np.argwhere(found != expected)[0])
        place = ", ".join(f"{d}={i}" for d, i in zip(space_of(ds), index, strict=True))
        raise SchemaError(
            f"{MASK!r} differs from the training data's at {int((found != expected).sum())} points, first at "
            f"{place}. Use data with the obstacle that this ROM was trained with, or retrain"
        )


def lengths_of(ds: xr.Dataset) -> np.ndarray | None:
    """Times of every trajectory, `(trajectory,)`, from the coordinate `n_steps`; None where all have all of them."""
    if N_STEPS not in ds.coords or ds[N_STEPS].dims != (TRAJECTORY,):
        return None
    return np.asarray(ds[N_STEPS].values, dtype=np.int64)


def parameters_of(ds: xr.Dataset) -> list[str]:
    """The coordinates that are declared as physical parameters of a trajectory."""
    return [str(name) for name, c in ds.coords.items() if c.attrs.get("romvae_role") == "parameter"]


def controls_of(ds: xr.Dataset) -> list[str]:
    """The variables that vary in time alone and act on the solution, such as a forcing (`romvae_role="forcing"`)."""
    return [
        str(name)
        for name, variable in ds.data_vars.items()
        if variable.attrs.get("romvae_role") == "forcing" and {TIME} <= set(variable.dims) <= {TRAJECTORY, TIME}
    ]


def undeclared_of(ds: xr.Dataset) -> list[str]:
    """Numbers that belong to trajectories, such as a parameter would, but that have no declared role."""
    return [
        str(name)
        for name, c in ds.coords.items()
        if c.dims == (TRAJECTORY,) and c.dtype.kind == "f" and "romvae_role" not in c.attrs
    ]


def canonical(ds: xr.Dataset) -> xr.Dataset:
    """The same Dataset with its dims in canonical order, by name, and trajectories numbered if they were not.

    Dims that romvae does not know follow at the end. Values are neither loaded nor converted.
    """
    ordered = ds.transpose(*(dim for dim in ORDER if dim in ds.dims), ...)
    if TRAJECTORY in ds.dims and TRAJECTORY not in ds.coords:
        ordered = ordered.assign_coords({TRAJECTORY: np.arange(ds.sizes[TRAJECTORY], dtype=np.int64)})
    return ordered


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """` Did you mean 'velocity'?` where a known name is near, and otherwise nothing."""
    near = get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def snapshots(
    fields: Mapping[str, ArrayLike],
    axes: Mapping[str, ArrayLike],
    times: ArrayLike,
    parameters: Mapping[str, ArrayLike] | None = None,
    boundaries: Mapping[str, tuple[BoundaryEntry, BoundaryEntry] | BoundaryEntry] | None = None,
    units: Mapping[str, str] | None = None,
    attrs: Mapping[str, Any] | None = None,
    dtype: DTypeLike = np.float32,
) -> xr.Dataset:
    """Builds a canonical Dataset from arrays.

    Arguments:
        fields: Name to values, `(trajectory, time, *space)` with space in the order z, y, x.
        axes: Name (`x`, `y`, `z`) to coordinates `(size,)`, increasing, in length units.
        times: The stored times `(time,)`, increasing and uniform.
        parameters: Name to one value per trajectory, `(trajectory,)`.
        boundaries: Axis to (lower, upper), or to one condition for both; an axis that is left out stays undeclared, and
            is taken as `open` with a warning.
        units: Units of fields, axes, parameters and `time`; dimensionless ("1") where left out.
        attrs: Further attributes of the Dataset, such as its solver.
        dtype: Type in which the fields are kept; coordinates are always float64.

    Raises:
        SchemaError: A name is unknown or stands for two things, or a shape does not follow from the coordinates.
    """
    units, parameters, boundaries = units or {}, parameters or {}, boundaries or {}
    unknown = [axis for axis in axes if axis not in SPACE]
    if unknown or not axes:
        raise SchemaError(f"axes: found {', '.join(unknown) or 'none'}, expected some of {', '.join(SPACE)}")
    space = tuple(axis for axis in SPACE if axis in axes)
    _check_given(fields, space, parameters, boundaries, units)
    sizes = {TIME: np.size(times), **{axis: np.size(axes[axis]) for axis in space}}
    values = {name: _field(name, each, sizes, dtype) for name, each in fields.items()}
    n = len(next(iter(values.values()))) if values else 0
    for name, each in values.items():
        if len(each) != n:
            raise SchemaError(
                f"field {name!r}: holds {len(each)} trajectories, field {next(iter(values))!r} holds {n}. Give the "
                "same trajectories in all fields"
            )
    coords: dict[str, Any] = {
        TRAJECTORY: (TRAJECTORY, np.arange(n, dtype=np.int64), {"standard_name": "realization"}),
        TIME: (TIME, np.asarray(times, dtype=np.float64), {"units": units.get(TIME, "1"), "axis": "T"}),
    }
    for axis in space:
        about = {"units": units.get(axis, "1"), "axis": axis.upper()}
        coords[axis] = (axis, np.asarray(axes[axis], dtype=np.float64), about)
    for name, given in parameters.items():
        about = {"units": units.get(name, "1"), "romvae_role": "parameter"}
        coords[name] = (TRAJECTORY, _parameter(name, given, n), about)
    dims = (TRAJECTORY, TIME, *space)
    variables = {
        name: (dims, each, {"units": units.get(name, "1"), "long_name": name}) for name, each in values.items()
    }
    declared = {"Conventions": CONVENTIONS}
    if boundaries:
        declared["boundary_conditions"] = boundaries_to_json({a: boundaries[a] for a in space if a in boundaries})
    return xr.Dataset(variables, coords=coords, attrs={**declared, **(attrs or {})})


def blocks(
    ds: xr.Dataset, name: str, limit: int = BLOCK_BYTES, trajectories: Sequence[int] | None = None
) -> Iterator[dict[str, slice]]:
    """Selections that cover one variable, or some of its trajectories: one trajectory and about `limit` bytes each."""
    variable = ds[name]
    count = variable.sizes.get(TRAJECTORY, 1)
    times = variable.sizes.get(TIME, 1)
    snapshot = max(1, variable.nbytes // max(1, count * times))
    length = max(1, min(times, limit // snapshot))
    for i in range(count) if trajectories is None else trajectories:
        for start in range(0, times, length):
            chosen = {TRAJECTORY: slice(i, i + 1), TIME: slice(start, min(times, start + length))}
            yield {dim: part for dim, part in chosen.items() if dim in variable.dims}


def _is_static(name: str, variable: xr.DataArray, dims: set[Hashable]) -> bool:
    own, role = set(variable.dims), variable.attrs.get("romvae_role")
    if name == MASK or role == "static":
        return True
    if role == "forcing":
        return own <= {TRAJECTORY, TIME}
    return TIME in dims and bool(own & set(SPACE)) and own <= {TRAJECTORY, *SPACE}


def _check_given(
    fields: Mapping[str, Any],
    space: Sequence[str],
    parameters: Mapping[str, Any],
    boundaries: Mapping[str, Any],
    units: Mapping[str, str],
) -> None:
    """Refuses names that stand for two things, and boundaries and units of what there is not."""
    known = {TRAJECTORY: "a dim", TIME: "a dim", **dict.fromkeys(SPACE, "a dim")}
    for what, names in (("field", fields), ("parameter", parameters)):
        for name in names:
            if name in known:
                raise SchemaError(f"{what} {name!r}: is the name of {known[name]} too. Rename one of them")
            known[name] = f"a {what}"
    for what, given, expected in (
        ("boundaries", boundaries, list(space)),
        ("units", units, [*fields, *space, *parameters, TIME]),
    ):
        for name in given:
            if name not in expected:
                raise SchemaError(
                    f"{what}: found {name!r}, expected some of {', '.join(expected)}."
                    f"{did_you_mean(str(name), expected)} Correct or remove it"
                )


def _field(name: str, values: ArrayLike, sizes: Mapping[str, int], dtype: DTypeLike) -> np.ndarray:
    """Values of a field `(trajectory, *sizes)`; the first axis may be of any size."""
    array = _numbers(f"field {name!r}", values, dtype)
    dims = (TRAJECTORY, *sizes)
    if array.ndim == len(dims) and array.shape[1:] == tuple(sizes.values()):
        return array
    wanted = ", ".join([TRAJECTORY, *(f"{dim}={size}" for dim, size in sizes.items())])
    if array.ndim != len(dims):
        raise SchemaError(
            f"field {name!r}: shape is {array.shape}, with {array.ndim} axes, expected {len(dims)} ({wanted}). Add or "
            "remove axes: a single trajectory has one of length 1"
        )
    found = ", ".join(f"{dim}={size}" for dim, size in zip(dims, array.shape, strict=True))
    raise SchemaError(
        f"field {name!r}: shape is ({found}), expected ({wanted}). Order its axes ({', '.join(dims)}), or correct "
        "times and axes"
    )


def _parameter(name: str, values: ArrayLike, n: int) -> np.ndarray:
    array = _numbers(f"parameter {name!r}", values, np.float64)
    if array.shape != (n,):
        constant = f"{array.flat[0]:.6g}" if array.size else "0.1"
        raise SchemaError(
            f"parameter {name!r}: shape is {array.shape}, expected ({n},): one number for each of the {n} "
            f"trajectories; for a constant np.full({n}, {constant})"
        )
    return array


def _numbers(what: str, values: ArrayLike, dtype: DTypeLike) -> np.ndarray:
    try:
        return np.asarray(values, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"{what}: cannot be read as an array of numbers ({error}). Give numbers") from error
