"""Axis and Grid: where the values of a field sit, and what holds at the ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from romvae.boundary import Boundary

__all__ = ["Axis", "Grid"]

_UNIFORM = 1e-4  # of the spacing: coordinates that were rounded to float32 still count as uniform
_OPEN = Boundary("open")


@dataclass(frozen=True)
class Axis:
    """A spatial axis: increasing coordinates and what holds at its two ends.

    A periodic axis does not store its upper end: its period is `size * spacing`.
    """

    name: str
    coordinates: tuple[float, ...]
    units: str = "1"
    lower: Boundary = _OPEN
    upper: Boundary = _OPEN

    @property
    def size(self) -> int:
        """The number of grid points."""
        return len(self.coordinates)

    @property
    def uniform(self) -> bool:
        """Whether all steps are equal within 1e-4."""
        steps = np.diff(self.coordinates)
        return bool(steps.size and np.ptp(steps) <= _UNIFORM * abs(float(steps.mean())))

    @property
    def spacing(self) -> float:
        """The distance of neighbouring points, in `units`; NaN where it is not uniform."""
        if not self.uniform:
            return math.nan
        return (self.coordinates[-1] - self.coordinates[0]) / (self.size - 1)

    @property
    def periodic(self) -> bool:
        """Whether the axis wraps around."""
        return self.lower.kind == "periodic"


@dataclass(frozen=True)
class Grid:
    """A tensor product of axes, in the order z, y, x."""

    axes: tuple[Axis, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the axes."""
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points along each axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.axes)

    @property
    def points(self) -> int:
        """The number of grid points."""
        return math.prod(self.shape)

    @property
    def symmetries(self) -> tuple[str, ...]:
        """Reflections and quarter turns that take the grid to itself; an equation without direction has them all."""
        found = [f"reflect_{axis.name}" for axis in self.axes if axis.lower == axis.upper]
        for i, one in enumerate(self.axes):
            for other in self.axes[i + 1 :]:
                if one.size == other.size and {one.lower, one.upper} == {other.lower} == {other.upper}:
                    steps = np.diff(one.coordinates), np.diff(other.coordinates)
                    if np.abs(steps[0] - steps[1]).max() <= _UNIFORM * np.abs(steps[0]).max():
                        found.append(f"rotate_{other.name}{one.name}")
        return tuple(found)
