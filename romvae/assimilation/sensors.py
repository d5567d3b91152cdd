"""What sensors see: values at places between grid points, or weighted sums of a field.

Observations are a Dataset:

| name | is | dims |
|---|---|---|
| `value` | what was measured, NaN where nothing was; physical units | `([trajectory,] time, sensor)` |
| `std` | standard deviation of its noise, positive | any of those dims, or none |
| `x`, `y`, `z` | coordinates: where each sensor is | `(sensor,)` |
| `field` | coordinate: name of the field it sees; may be left out where there is one field | `(sensor,)` |
| `weights` | instead of places: a sensor reads the sum of weight times field over the grid | `(sensor, *space)` |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from romvae.canonical import TIME, TRAJECTORY, canonical
from romvae.errors import DataError, SchemaError
from romvae.grid import Axis, Grid
from romvae.schema import Schema

__all__ = ["SENSOR", "Sensors", "observe"]

SENSOR = "sensor"


@dataclass(frozen=True)
class Sensors:
    r"""Linear functionals of snapshots: :math:`y_s = b_s + \sum_k w_{sk} x_{i(s,k)}`.

    Arguments:
        index: Places in a snapshot flattened over `(field, *space)`, `(sensor, term)`.
        weight: Their weights, `(sensor, term)`, float64.
        offset: `(sensor,)`, float64.
    """

    index: Tensor
    weight: Tensor
    offset: Tensor

    @classmethod
    def of(cls, observations: xr.Dataset, schema: Schema, mask: np.ndarray | None = None) -> Sensors:
        """Sensors of observations, acting on fields in physical units.

        Places between grid points are interpolated linearly along each axis, across the end of a periodic one; up to
        half a cell beyond the last point of another the nearest value counts.

        Arguments:
            observations: See the module.
            schema: Fields and grid.
            mask: True inside of the domain, `(*space)`.

        Raises:
            SchemaError: A sensor is outside of the grid or of the domain, or sees an unknown field.
        """
        if SENSOR not in observations.dims:
            raise SchemaError("assimilate: observations have no dim 'sensor'. Give value with (time, sensor).")
        count, grid = observations.sizes[SENSOR], schema.grid
        channel = _channels(observations, schema, count)
        if "weights" in observations:
            space = np.asarray(observations["weights"].transpose(SENSOR, *grid.names).values, dtype=np.float64)
            if space.shape[1:] != grid.shape:
                raise SchemaError(
                    f"assimilate: weights are on a grid {space.shape[1:]}, expected {grid.shape}. Give the ROM's grid."
                )
            inside = np.broadcast_to(np.arange(grid.points), (count, grid.points))
            weight = space.reshape(count, -1) if mask is None else np.where(mask, space, 0.0).reshape(count, -1)
        else:
            inside, weight = _interpolation(observations, grid, count)
            outside = None if mask is None else (~mask.ravel())[inside] & (weight > 0)
            if outside is not None and outside.any():
                s = int(np.flatnonzero(outside.any(1))[0])
                raise SchemaError(
                    f"assimilate: sensor {s} needs values outside of the domain (mask). Move it at least a cell inside."
                )
        index = inside + channel[:, None] * grid.points
        return cls(torch.from_numpy(index.copy()), torch.from_numpy(weight.copy()), torch.zeros(count).double())

    def normalised(self, mean: Tensor, std: Tensor, points: int) -> Sensors:
        """The same sensors acting on normalised fields (u - mean) / std, still with physical readings.

        Arguments:
            mean: Mean of each field, `(field,)`.
            std: Standard deviation of each field, `(field,)`.
            points: Grid points of a field.
        """
        channel = torch.div(self.index, points, rounding_mode="floor")
        offset = self.offset + (self.weight * mean.double()[channel]).sum(-1)
        return Sensors(self.index, self.weight * std.double()[channel], offset)

    def __call__(self, x: Tensor) -> Tensor:
        """Readings `(..., sensor)` of snapshots `(..., point)`, float64, with gradients."""
        return (x.double()[..., self.index] * self.weight).sum(-1) + self.offset

    def variance(self, var: Tensor) -> Tensor:
        """Variance of the readings where points vary independently of each other with `var`, `(..., point)`."""
        return (var.double()[..., self.index] * self.weight.square()).sum(-1)


def observe(
    truth: xr.Dataset,
    places: Mapping[str, ArrayLike],
    std: float,
    *,
    field: str | None = None,
    every: int = 1,
    seed: int = 0,
) -> xr.Dataset:
    """Observations of a known truth, for twin experiments: values at places with Gaussian noise.

    Arguments:
        truth: Snapshots.
        places: Axis to the coordinates of the sensors, `(sensor,)`.
        std: Standard deviation of the noise, physical units.
        field: Field that is seen; None takes the first.
        every: Stored steps between two observations; the first time is left out.
        seed: Seed of the noise.
    """
    truth = canonical(truth)
    schema = Schema.of(truth)
    name = schema.field_names[0] if field is None else field
    count = np.size(next(iter(places.values())))
    coords = {axis: (SENSOR, np.asarray(values, dtype=np.float64)) for axis, values in places.items()}
    described = xr.Dataset(coords={**coords, "field": (SENSOR, [name] * count)})
    sensors = Sensors.of(described, schema)
    chosen = truth.isel({TIME: slice(every, None, every)})
    u = np.stack([chosen[f].values for f in schema.field_names], 2).astype(np.float64)
    exact = sensors(torch.from_numpy(u.reshape(*u.shape[:2], -1))).numpy()
    noise = std * np.random.default_rng(seed).standard_normal(exact.shape)
    kept = [TRAJECTORY, TIME, *schema.parameter_names]
    units = {"units": str(truth[name].attrs.get("units", "1"))}
    labels = {n: chosen[n].variable for n in kept if n in chosen.coords}
    value = ((TRAJECTORY, TIME, SENSOR), exact + noise, units)
    return described.assign(value=value, std=((), std, units)).assign_coords(labels)


def _channels(observations: xr.Dataset, schema: Schema, count: int) -> np.ndarray:
    names = list(schema.field_names)
    if "field" not in observations.coords:
        if len(names) > 1:
            raise SchemaError(
                f"assimilate: observations have no coordinate 'field'. Say which of {', '.join(names)} each sensor "
                "sees."
            )
        return np.zeros(count, dtype=np.int64)
    seen = [str(name) for name in np.broadcast_to(observations["field"].values, (count,))]
    unknown = [name for name in seen if name not in names]
    if unknown:
        raise SchemaError(
            f"assimilate: a sensor sees {unknown[0]!r}, but the fields are {', '.join(names)}. Correct it."
        )
    return np.array([names.index(name) for name in seen], dtype=np.int64)


def _interpolation(observations: xr.Dataset, grid: Grid, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Grid points (flattened over space) and weights of every sensor, both `(sensor, 2 ** ndim)`."""
    sides = []
    for axis in grid.axes:
        if axis.name not in observations.coords:
            raise SchemaError(
                f"assimilate: observations have no coordinate {axis.name!r} on sensor. Say where the sensors are, or "
                "give weights."
            )
        place = np.broadcast_to(np.asarray(observations[axis.name].values, dtype=np.float64), (count,))
        sides.append(_along(axis, place))
    index, weight = [], []
    for corner in product((0, 1), repeat=grid.ndim):
        chosen = [side[c][0] for side, c in zip(sides, corner, strict=True)]
        index.append(np.ravel_multi_index(chosen, grid.shape))
        weight.append(np.prod([side[c][1] for side, c in zip(sides, corner, strict=True)], axis=0))
    return np.stack(index, 1), np.stack(weight, 1)


def _along(axis: Axis, place: np.ndarray) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """Lower and upper neighbour along an axis, each with its weight."""
    x = np.array(axis.coordinates)
    if axis.periodic:
        period = axis.size * axis.spacing
        place = x[0] + np.mod(place - x[0], period)
        x = np.append(x, x[0] + period)
    else:
        margin = 0.5 * max(x[1] - x[0], x[-1] - x[-2]) * (1 + 1e-9)
        bad = ~((place >= x[0] - margin) & (place <= x[-1] + margin))
        if bad.any():
            s = int(np.flatnonzero(bad)[0])
            raise SchemaError(
                f"assimilate: sensor {s} is at {axis.name}={place[s]:g}, the grid reaches from {x[0]:g} to {x[-1]:g}. "
                "Move it, or leave it out."
            )
        place = np.clip(place, x[0], x[-1])
    low = np.clip(np.searchsorted(x, place, side="right") - 1, 0, len(x) - 2)
    share = (place - x[low]) / (x[low + 1] - x[low])
    return (low, 1 - share), ((low + 1) % axis.size, share)


def checked_values(observations: xr.Dataset, trajectories: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and variances of the noise, both `(trajectory, time, sensor)`; NaN and infinity where nothing was seen.

    Raises:
        SchemaError: A variable is missing, or trajectories do not fit.
        DataError: A standard deviation is not positive.
    """
    for name in ("value", "std"):
        if name not in observations:
            raise SchemaError(f"assimilate: observations have no variable {name!r}. See romvae.assimilation.sensors.")
    value, std = xr.broadcast(observations["value"], observations["std"])
    dims = [d for d in (TRAJECTORY, TIME, SENSOR) if d in value.dims]
    if {TIME, SENSOR} - set(dims) or set(value.dims) - set(dims):
        raise SchemaError(
            f"assimilate: value has dims {value.dims}, expected (trajectory, time, sensor) or (time, sensor). "
            "Rename or expand them."
        )
    y, s = (np.asarray(a.transpose(*dims).values, dtype=np.float64) for a in (value, std))
    if TRAJECTORY not in dims:
        y, s = y[None], s[None]
    if len(y) not in (1, trajectories):
        raise SchemaError(
            f"assimilate: observations of {len(y)} trajectories, the start has {trajectories}. Give those of the start."
        )
    if not (s[np.isfinite(y)] > 0).all():
        raise DataError("assimilate: std holds values that are not positive. Give the standard deviation of the noise.")
    shape = (trajectories, *y.shape[1:])
    var = np.where(np.isfinite(y), s**2, np.inf)
    return np.broadcast_to(y, shape), np.broadcast_to(var, shape)
