"""Cosine series on boxes without flux through their sides, in any dimension: transforms between grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy.fft

from romvae.solvers.base import Array

__all__ = ["CosineBox"]


@dataclass(frozen=True)
class CosineBox:
    """The functions product over d of cos(m_d pi x_d / L_d), m_d < points_d: even at every side, without slope there.

    Grids have the centres (i + 1/2) L / n of n equal cells per axis. Coefficients are those of
    u = sum over all integers m of v_|m| exp(i m pi x / L), as for `FourierBox` on the box mirrored at its sides: v_0
    is the mean, and they do not depend on the grid. Leading dimensions (rows, fields) pass through.

    Arguments:
        points: Collocation points per axis, in the order (z,) (y,) x, and as many modes.
        lengths: Extents per axis.
    """

    points: tuple[int, ...]
    lengths: tuple[float, ...]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.points)

    def laplacian(self, kind: Literal["exact", "five_point"] = "exact") -> Array:
        """What the Laplacian multiplies each coefficient with, `(*points)`; never above zero.

        Arguments:
            kind: `exact` is -|k|^2. `five_point` is the symbol -sum over d of (2 sin(k_d h_d / 2) / h_d)^2 of central
                differences between cells of width h_d, without flux through the sides: cosines on centres are
                the eigenvectors of that matrix too.
        """
        symbols = []
        for n, length in zip(self.points, self.lengths, strict=True):
            k, h = np.arange(n) * (np.pi / length), length / n
            symbols.append(-(k**2) if kind == "exact" else -((2 * np.sin(k * h / 2) / h) ** 2))
        total = np.zeros(self.points)
        for symbol in np.ix_(*symbols):
            total += symbol
        return total

    def coefficients(self, u: Array) -> Array:
        """Coefficients of the cosine interpolant of values on any grid of the box, `(..., *points)`.

        Modes that the grid does not hold are zero, and those beyond this box's are dropped.
        """
        v = u
        for axis in range(-1, -self.ndim - 1, -1):
            n = self.points[axis]
            v = scipy.fft.dct(v, axis=axis, norm="forward")
            kept = min(n, v.shape[axis])
            v = v[_along(axis, slice(0, kept))]
            if kept < n:
                widths = [(0, 0)] * v.ndim
                widths[axis] = (0, n - kept)
                v = np.pad(v, widths)
        return v

    def values(self, v: Array, points: Sequence[int] | None = None) -> Array:
        """The series at the centres of a grid, `(..., *points)`; None takes the collocation points.

        On a grid too coarse for the modes these still are the series' true values: nothing is cut off.
        """
        sizes = self.points if points is None else tuple(points)
        u = v
        for axis in range(-self.ndim, 0):
            # The centres of n cells are among those of 3 n, 5 n, .. cells.
            stride = -(-self.points[axis] // sizes[axis]) | 1
            u = scipy.fft.idct(u, n=stride * sizes[axis], axis=axis, norm="forward")
            u = u[_along(axis, slice(stride // 2, None, stride))]
        return u

    @cached_property
    def _outer(self) -> Array:
        """1 for the outer tenth of the modes of any axis, else 0."""
        outer = np.zeros(self.points)
        for along in np.ix_(*(np.arange(n) // (n - max(1, n // 10)) for n in self.points)):
            np.maximum(outer, along, out=outer)
        return outer

    def tail(self, v: Array) -> Array:
        """The largest coefficient in the outer tenth of the modes of any axis over the largest of all but the mean.

        Coefficients below 1e-12 of the largest one (here with the mean) are round-off and taken as zero.
        """
        size = np.abs(v)
        axes = tuple(range(-self.ndim, 0))
        size[size < 1e-12 * size.max(axis=axes, keepdims=True)] = 0.0
        mean: tuple[Any, ...] = (..., *[0] * self.ndim)
        size[mean] = 0.0
        largest = size.max(axis=axes)
        return np.divide((size * self._outer).max(axis=axes), largest, out=np.zeros_like(largest), where=largest > 0)


def _along(axis: int, index: slice) -> tuple[Any, ...]:
    """The index that selects along a negative `axis` and takes all of the others."""
    return (..., index, *[slice(None)] * (-axis - 1))
