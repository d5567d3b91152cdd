"""Which part of a forecast is wanted: some times, some fields, a region of the grid. No more than that is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from romvae.canonical import did_you_mean
from romvae.errors import ConfigError
from romvae.grid import Axis
from romvae.schema import Schema

__all__ = ["Excerpt", "excerpt_of"]

_ROUND = 1e-6  # of a time step: how far a time may be from a stored one


@dataclass(frozen=True)
class Excerpt:
    """A part of a forecast.

    Arguments:
        leads: Stored steps after the start, increasing, `(lead,)`; whole numbers unless a time lies between two.
        fields: Positions of the fields in the schema.
        window: Points along each axis; None for all of the grid.
    """

    leads: tuple[float, ...]
    fields: tuple[int, ...]
    window: tuple[slice, ...] | None = None

    @property
    def stored(self) -> bool:
        """Whether all times are stored ones."""
        return all(float(lead).is_integer() for lead in self.leads)

    def shape(self, grid: Sequence[int]) -> tuple[int, ...]:
        """Points along each axis, out of those of the grid."""
        if self.window is None:
            return tuple(grid)
        return tuple(each.stop - each.start for each in self.window)


def excerpt_of(
    schema: Schema,
    begin: float,
    steps: int,
    times: Sequence[float] | np.ndarray | None = None,
    fields: Sequence[str] | None = None,
    region: Mapping[str, Any] | None = None,
    between: bool = False,
) -> Excerpt:
    """The part that is meant by times, names and coordinates.

    Arguments:
        schema: Of the model.
        begin: Time of the start.
        steps: Stored steps of the forecast.
        times: In the data's units, among the stored times from `begin` on, or any up to the last; None takes all.
        fields: Names; None takes all.
        region: By axis, its two ends as `slice(low, high)` or a pair in the axis's units, both included; an axis that
            is not named is taken whole.
        between: Whether times between stored ones can be had, see `EnsembleDynamics.continuous`.

    Raises:
        ConfigError: A time is none of the forecast's, a field or an axis is unknown, or the region holds no point.
    """
    leads = tuple(range(steps + 1)) if times is None else _leads(schema, begin, steps, times, between)
    names = schema.field_names
    for name in fields or ():
        if name not in names:
            raise ConfigError(
                f"rollout: there is no field {name!r}.{did_you_mean(name, names)} Choose from {', '.join(names)}."
            )
    if fields is not None and not fields:
        raise ConfigError("rollout: fields is empty. Name one, or leave it out.")
    chosen = tuple(k for k, name in enumerate(names) if fields is None or name in fields)
    return Excerpt(leads, chosen, None if region is None else _window(schema, region))


def _leads(
    schema: Schema, begin: float, steps: int, times: Sequence[float] | np.ndarray, between: bool
) -> tuple[float, ...]:
    wanted = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if wanted.ndim != 1 or not wanted.size:
        raise ConfigError("rollout: times is empty or not one-dimensional. Give a list of times.")
    position = (wanted - begin) / schema.dt
    nearest = np.round(position)
    stored = np.abs(position - nearest) <= _ROUND * np.maximum(1, np.abs(nearest))
    position = np.where(stored, nearest, position)
    outside = ~((position >= 0) & (position <= steps))
    off = outside if between else outside | ~stored
    if off.any():
        last, first = begin + steps * schema.dt, int(np.argmax(off))
        known = ", at any time" if between else f" in steps of {schema.dt:g}"
        advice = "Choose among them, or roll out more steps."
        if not outside[first]:
            below = begin + schema.dt * np.floor(position[first])
            advice = (
                f"The nearest are {below:.10g} and {below + schema.dt:.10g}. Choose one of them, or train with "
                "dynamics='ode', which knows all times."
            )
        raise ConfigError(
            f"rollout: time {wanted[first]:g} is none of the forecast's, which go from {begin:g} to {last:g}{known}. "
            f"{advice}"
        )
    return tuple(int(k) if k.is_integer() else float(k) for k in np.unique(position).tolist())


def _window(schema: Schema, region: Mapping[str, Any]) -> tuple[slice, ...]:
    names = schema.grid.names
    for name in region:
        if name not in names:
            raise ConfigError(f"rollout: there is no axis {name!r} for a region. Choose from {', '.join(names)}.")
    return tuple(
        _range(axis, region[axis.name]) if axis.name in region else slice(0, axis.size) for axis in schema.grid.axes
    )


def _range(axis: Axis, wanted: Any) -> slice:
    if isinstance(wanted, slice):
        ends = (wanted.start, wanted.stop) if wanted.step is None else ()
    else:
        ends = tuple(wanted) if isinstance(wanted, Sequence) and not isinstance(wanted, str) else ()
    x = np.asarray(axis.coordinates, dtype=np.float64)
    if len(ends) != 2:
        raise ConfigError(
            f"rollout: region {axis.name} = {wanted!r}, expected two ends, such as ({x[0]:g}, {x[-1]:g})."
        )
    low, high = sorted(
        float(x.min() if k == 0 and e is None else x.max() if e is None else e) for k, e in enumerate(ends)
    )
    inside = np.flatnonzero((x >= low) & (x <= high))
    if not inside.size:
        raise ConfigError(
            f"rollout: region {axis.name} from {low:g} to {high:g} holds no grid point; the axis goes from {x.min():g} "
            f"to {x.max():g}. Widen it."
        )
    return slice(int(inside[0]), int(inside[-1]) + 1)
