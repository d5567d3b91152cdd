"""An axis with fine cells around the origin and coarse ones far away, and differences on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import cumulative_simpson
from scipy.interpolate import CubicHermiteSpline

from romvae.solvers.base import Array

__all__ = ["Parity", "StretchedAxis"]

Parity = Literal["even", "odd"]
"""How a field continues behind both ends of an axis: mirrored, or mirrored with the other sign (zero at the end)."""

_CENTRED = (3 / 4, -3 / 20, 1 / 60)  # sixth order: weights of the neighbours 1, 2, 3 cells away
_STAGGERED = (75 / 64, -25 / 384, 3 / 640)  # sixth order: weights of the neighbours 1/2, 3/2, 5/2 cells away
_TABLE = 10_001  # points on which the law of spacing is integrated
_SMOOTH = 0.15  # length over which the growth of the cells sets in


@dataclass(frozen=True)
class StretchedAxis:
    """`points` cells between `low` and `high`, of equal size near 0, that grow smoothly towards both ends.

    The size of a cell at x is proportional to

        1 + s(growth_low r(-x - core)) + s(growth_high r(x - core)),    s(q) = q / (1 + q / limit),

    with r(z) = max(z, 0), rounded over 0.15. A cell's index is a smooth coordinate: differences are of sixth order
    in it, and fields of odd or even parity at both ends need no one-sided formula. (At an end where cells still
    grow the mirrored map has a kink, and the order there is 2.) Axes that differ in `points` alone are the same map
    on another number of cells.

    Arguments:
        points: Number of cells, at least 8.
        low: Lower end.
        high: Upper end.
        growth: Growth towards the lower and the upper end, per unit length; 0 is uniform.
        core: Distance from 0 at which growth sets in.
        limit: Most that a cell may be larger than the smallest, less 1.
    """

    points: int
    low: float
    high: float
    growth: tuple[float, float] = (0.0, 0.0)
    core: float = 0.75
    limit: float = 4.0

    @cached_property
    def centres(self) -> Array:
        """Coordinates of the cells' centres, increasing, `(points,)`."""
        return self._at(np.arange(self.points) + 0.5)

    @cached_property
    def sizes(self) -> Array:
        """dx/di at the centres, for the index i: the sizes of the cells, `(points,)`."""
        return self._law(self.centres) * (self._map[1] / self.points)

    def derivative(self, parity: Parity) -> Array:
        """The matrix `(points, points)` of d/dx for fields of this parity; the result has the other one.

        With the sizes w of the cells, sum(w p (D_odd u)) = -sum(w u (D_even p)) exactly.
        """
        i = np.arange(self.points)
        matrix = np.zeros((self.points, self.points))
        for distance, weight in enumerate(_CENTRED, start=1):
            _add_mirrored(matrix, i + distance, weight, parity)
            _add_mirrored(matrix, i - distance, -weight, parity)
        return matrix / self.sizes[:, None]

    def second_derivative(self, parity: Parity) -> Array:
        """The matrix `(points, points)` of d^2/dx^2, which damps every wave that the grid can hold.

        It takes the slope at the faces of the cells and the slope of that; the derivative applied twice would
        not see a wave of two cells.
        """
        to_faces = np.zeros((self.points + 1, self.points))
        to_centres = np.zeros((self.points, self.points + 1))
        face, cell = np.arange(self.points + 1), np.arange(self.points)
        other: Parity = "odd" if parity == "even" else "even"
        for distance, weight in enumerate(_STAGGERED):
            _add_mirrored(to_faces, face + distance, weight, parity)
            _add_mirrored(to_faces, face - 1 - distance, -weight, parity)
            _add_mirrored(to_centres, cell + 1 + distance, weight, other)
            _add_mirrored(to_centres, cell - distance, -weight, other)
        at_faces = self._law(self._at(face)) * (self._map[1] / self.points)
        return (to_centres / self.sizes[:, None]) @ (to_faces / at_faces[:, None])

    def interpolation(self, points: int, parity: Parity) -> Array:
        """The matrix `(points, self.points)` that takes values to the same axis with another number of cells.

        Through the six nearest values in the index, sixth order; the identity where the number is the same.
        """
        index = (np.arange(points) + 0.5) * (self.points / points) - 0.5
        first = np.floor(index).astype(int) - 2
        offset = index - first
        matrix = np.zeros((points, self.points))
        for k in range(6):
            others = [j for j in range(6) if j != k]
            weight = np.prod([(offset - j) / (k - j) for j in others], axis=0)
            _add_mirrored(matrix, first + k, weight, parity)
        return matrix

    def _law(self, x: Array) -> Array:
        size = np.ones_like(x)
        for growth, z in zip(self.growth, (-x, x), strict=True):
            grown = growth * _SMOOTH * np.logaddexp(0.0, (z - self.core) / _SMOOTH)
            size += grown / (1 + grown / self.limit)
        return size

    def _at(self, index: NDArray[Any]) -> Array:
        place, total = self._map
        return np.asarray(place(index * (total / self.points)))

    @cached_property
    def _map(self) -> tuple[CubicHermiteSpline, float]:
        """The place x as a function of the integral of 1 / law from `low` to x, whose slope is the law, and its end."""
        x = np.linspace(self.low, self.high, _TABLE)
        law = self._law(x)
        number = cumulative_simpson(1 / law, x=x, initial=0.0)
        return CubicHermiteSpline(number, x, law), float(number[-1])


def _add_mirrored(matrix: Array, column: NDArray[Any], weight: Array | float, parity: Parity) -> None:
    """Adds `weight` at (row, column of that row); columns behind an end are mirrored into the axis.

    Values at faces, one more than cells, are mirrored about the end faces, values at centres half a cell beside.
    """
    rows, columns = matrix.shape
    faces = columns > rows
    below, above = (0, 2 * columns - 2) if faces else (-1, 2 * columns - 1)
    outside = (column < 0) | (column >= columns)
    sign = np.where(outside & (parity == "odd"), -1.0, 1.0)
    inside = np.where(column < 0, below - column, np.where(column >= columns, above - column, column))
    np.add.at(matrix, (np.arange(rows), inside), sign * weight)
