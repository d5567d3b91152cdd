"""Fields of a Dataset as plain arrays by name, and the way back."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from romvae.canonical import mask_of
from romvae.errors import SchemaError
from romvae.schema import SPACE, TIME, TRAJECTORY, fields_of, parameters_of

__all__ = ["FieldStack"]

KEPT_ATTRS = ("Conventions", "boundary_conditions")
"""What is as true of a forecast as of the data it was fitted to; the rest is about their solver."""


@dataclass(frozen=True)
class FieldStack:
    """How fields become arrays `(..., field, point)` and arrays become fields.

    Everything is by name: a Dataset with another order of variables or dims gives the same numbers.

    Attributes:
        fields: Names of the fields.
        space: Spatial dims, in the order of `romvae.schema.SPACE`.
        parameters: Names of the physical parameters.
        template: The fields without trajectories and times, for coordinates and attributes.
        time_attrs: Attributes of the time coordinate (units).
        inside: Which points belong to the domain, `(point,)`; None where all do. Outside of it arrays hold zeros, and
            forecasts what stands in the start.
    """

    fields: tuple[str, ...]
    space: tuple[str, ...]
    parameters: tuple[str, ...]
    template: xr.Dataset
    time_attrs: dict[Hashable, Any] = field(default_factory=dict)
    inside: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, ds: xr.Dataset) -> FieldStack:
        """Reads names and coordinates from snapshots with a `trajectory` and a `time` dim."""
        fields = tuple(sorted(fields_of(ds)))
        space = tuple(dim for dim in SPACE if dim in ds[fields[0]].dims)
        template = ds[list(fields)].isel({TRAJECTORY: 0, TIME: 0}, drop=True).load()
        mask = mask_of(ds)
        inside = None if mask is None else mask.reshape(-1)
        return cls(fields, space, tuple(parameters_of(ds)), template, dict(ds[TIME].attrs), inside)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of grid points along each spatial dim."""
        return tuple(self.template.sizes[dim] for dim in self.space)

    def start(self, ds: xr.Dataset) -> xr.Dataset:
        """The start with a `trajectory` dim and no `time` dim, checked against the training data.

        Raises:
            SchemaError: A field or parameter is missing, the grid differs, or there are several times.
        """
        for kind, names, found in (
            ("field", self.fields, ds.data_vars),
            ("parameter", self.parameters, ds.coords),
        ):
            missing = [name for name in names if name not in found]
            if missing:
                raise SchemaError(
                    f"baseline: the start has no {kind} {missing[0]!r}, expected {', '.join(names)}. "
                    f"Give every {kind} of the training data."
                )
        if TIME in ds.dims:
            if ds.sizes[TIME] != 1:
                raise SchemaError(f"baseline: the start has {ds.sizes[TIME]} times, expected 1. Select isel(time=0).")
            ds = ds.isel({TIME: 0})
        if TRAJECTORY not in ds.dims:
            ds = ds.expand_dims(TRAJECTORY)
        for dim in self.space:
            expected = self.template[dim].values
            if dim not in ds.coords or not np.array_equal(ds[dim].values, expected):
                raise SchemaError(
                    f"baseline: {dim} of the start ({ds.sizes.get(dim, 0)} points) differs from the training "
                    f"data's ({expected.size} points). Interpolate the start to the training grid."
                )
        count = ds.sizes[TRAJECTORY]
        scalars = [name for name in self.parameters if ds[name].ndim == 0]
        return ds.assign_coords({name: (TRAJECTORY, np.full(count, ds[name].item())) for name in scalars})

    def array(self, ds: xr.Dataset) -> NDArray[np.floating]:
        """Fields as an array `(trajectory, [time,] field, point)` in the Dataset's own precision; zero outside."""
        found = self._values(ds)
        return found if self.inside is None else np.where(self.inside, found, found.dtype.type(0))

    def _values(self, ds: xr.Dataset) -> NDArray[np.floating]:
        leading = [dim for dim in (TRAJECTORY, TIME) if dim in ds[self.fields[0]].dims]
        blocks = [ds[name].transpose(*leading, *self.space).values for name in self.fields]
        return np.stack([block.reshape(*block.shape[: len(leading)], -1) for block in blocks], axis=-2)

    def parameter_array(self, ds: xr.Dataset) -> NDArray[np.float64]:
        """Parameters, shape `(trajectory, parameter)`, float64."""
        columns = [ds[name].values for name in self.parameters]
        if not columns:
            return np.zeros((ds.sizes[TRAJECTORY], 0))
        return np.stack(columns, axis=-1).astype(np.float64)

    def dataset(self, values: NDArray[np.floating], start: xr.Dataset, times: NDArray[np.float64]) -> xr.Dataset:
        """An array `(trajectory, time, field, point)` as fields on the start's trajectories and `times`."""
        dims = (TRAJECTORY, TIME, *self.space)
        if self.inside is not None:
            values = np.where(self.inside, values, self._values(start)[:, None])
        shaped = values.reshape(*values.shape[:3], *self.shape)
        variables = {
            name: (dims, shaped[:, :, i].astype(self.template[name].dtype), self.template[name].attrs)
            for i, name in enumerate(self.fields)
        }
        coords: dict[Hashable, Any] = {dim: self.template[dim] for dim in self.space}
        coords |= {name: c.variable for name, c in start.coords.items() if c.dims == (TRAJECTORY,)}
        coords[TIME] = (TIME, times, self.time_attrs)
        kept = {key: self.template.attrs[key] for key in KEPT_ATTRS if key in self.template.attrs}
        return xr.Dataset(variables, coords=coords, attrs=kept)
