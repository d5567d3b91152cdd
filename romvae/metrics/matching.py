"""Only like is compared with like: dims, coordinates and fields are checked before any metric."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from romvae.errors import SchemaError
from romvae.schema import SPACE

__all__ = ["Dims", "Fields", "mean_over", "over_fields", "per_field", "space_dims"]

Fields = TypeVar("Fields", xr.DataArray, xr.Dataset)
Dims = str | Sequence[Hashable] | None
Metric = Callable[..., xr.DataArray]


def per_field(where: str, function: Metric, truth: Fields, *others: Fields) -> Fields:
    """Applies a function of DataArrays to one field, or to each field of Datasets, after the checks.

    Arguments:
        where: Name of the metric, for messages.
        function: Gets the arrays in float64, in the truth's order of dims, without coordinates off the dims.
        truth: A DataArray, or a Dataset of fields.
        others: The same kind, with the same fields, dims and coordinates.

    Raises:
        SchemaError: They differ in kind, fields, dims, sizes or a coordinate.
    """
    given: Any = (truth, *others)
    result: Any = (_one_field if isinstance(truth, xr.DataArray) else _each_field)(where, function, given)
    return result


def over_fields(result: xr.DataArray | xr.Dataset, root_mean_square: bool = False) -> xr.DataArray:
    """Mean over the fields of a unitless result (coverage, relative errors); one field's result is unchanged.

    Arguments:
        result: What a metric returned.
        root_mean_square: Root mean square instead of the mean: for relative errors.
    """
    if isinstance(result, xr.DataArray):
        return result
    stacked = result.to_dataarray("field")
    return mean_over(stacked**2, "field") ** 0.5 if root_mean_square else mean_over(stacked, "field")


def mean_over(array: xr.DataArray, dims: Dims) -> xr.DataArray:
    """Mean that lets NaN through."""
    return array.mean(dims, skipna=False)


def space_dims(array: xr.DataArray | xr.Dataset) -> list[str]:
    """Spatial dims that an array has."""
    return [dim for dim in SPACE if dim in array.dims]


def _one_field(where: str, function: Metric, given: Sequence[Any]) -> xr.DataArray:
    if not all(isinstance(array, xr.DataArray) for array in given):
        raise SchemaError(f"{where}: a Dataset stands beside a DataArray. Select one field of it.")
    return function(*_matched(where, given[0], given[1:]))


def _each_field(where: str, function: Metric, given: Sequence[Any]) -> xr.Dataset:
    names = sorted(map(str, given[0].data_vars))
    for other in given[1:]:
        found = sorted(map(str, other.data_vars)) if isinstance(other, xr.Dataset) else "one DataArray"
        if found != names:
            raise SchemaError(f"{where}: fields are {found}, expected {names}. Select and rename them.")
    return xr.Dataset({name: _one_field(where, function, [ds[name] for ds in given]) for name in names})


def _matched(where: str, truth: xr.DataArray, others: Sequence[xr.DataArray]) -> list[xr.DataArray]:
    for other in others:
        if set(other.dims) != set(truth.dims):
            raise SchemaError(f"{where}: dims are {other.dims}, expected {truth.dims}. Select or expand them.")
        for dim in truth.dims:
            _check_coordinate(where, dim, truth, other)
    bare = [array.drop_vars(set(array.coords) - set(array.dims)) for array in (truth, *others)]
    return [array.transpose(*truth.dims).astype(np.float64) for array in bare]


def _check_coordinate(where: str, dim: Hashable, truth: xr.DataArray, other: xr.DataArray) -> None:
    if truth.sizes[dim] != other.sizes[dim]:
        raise SchemaError(
            f"{where}: {dim} has {other.sizes[dim]} values, expected {truth.sizes[dim]}. "
            f"Select the {dim} values of the truth first."
        )
    if (dim in truth.coords) != (dim in other.coords):
        raise SchemaError(f"{where}: {dim} has coordinates on one side only. Add them, or drop them on both.")
    if dim not in truth.coords:
        return
    found, expected = other[dim].values, truth[dim].values
    differs = np.flatnonzero(found != expected)
    if differs.size:
        i = int(differs[0])
        raise SchemaError(
            f"{where}: {dim}[{i}] is {found[i]}, expected {expected[i]}. "
            f"Bring both onto the same {dim} values; nothing is interpolated here."
        )
