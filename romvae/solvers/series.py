"""Fourier and cosine series on one axis: from grid values to coefficients and back, on any number of points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from romvae.solvers.base import Array
from romvae.solvers.operators import synthesise

__all__ = ["Series"]


@dataclass(frozen=True)
class Series:
    """Trigonometric series for rows of values on one axis: periodic nodes, or cell centres between no-flux ends.

    Periodic fields have the functions exp(2 pi i m x / L) on the nodes i L / n, fields without flux through
    the ends cos(m pi x / L) on the centres (i + 1/2) L / n. Coefficients do not depend on the number of points:
    taking a field from a coarse to a fine grid through them is interpolation without error for what the coarse
    grid resolves.

    Arguments:
        length: L.
        modes: Coefficients 0 .. modes are kept.
        resolution: Points of the internal grid of `values` and `coefficients`; more than `modes` (cosine) or
            than 2 `modes` (periodic).
        periodic: Fourier series; otherwise cosine series.
    """

    length: float
    modes: int
    resolution: int
    periodic: bool = True

    @property
    def k(self) -> Array:
        """Wavenumbers `(modes + 1,)`."""
        return np.arange(self.modes + 1, dtype=np.float64) * ((2 if self.periodic else 1) * np.pi / self.length)

    def values(self, v: NDArray[Any]) -> Array:
        """Values on the internal grid, `(..., resolution)`."""
        if self.periodic:
            return scipy.fft.irfft(v, n=self.resolution, norm="forward")
        return scipy.fft.idct(v, n=self.resolution, norm="forward")

    def coefficients(self, u: Array) -> NDArray[Any]:
        """The kept coefficients of values on the internal grid, `(..., modes + 1)`."""
        if self.periodic:
            return scipy.fft.rfft(u, norm="forward")[..., : self.modes + 1]
        return scipy.fft.dct(u, norm="forward")[..., : self.modes + 1]

    def analyse(self, u: Array) -> NDArray[Any]:
        """The kept coefficients of values on a grid of any size; those that this grid does not hold are zero."""
        if self.periodic:
            raw = scipy.fft.rfft(u, norm="forward")
            if u.shape[-1] % 2 == 0:
                raw[..., -1] /= 2  # the sawtooth stands for the modes +n/2 and -n/2 in equal parts
        else:
            raw = scipy.fft.dct(u, norm="forward")
        v = np.zeros((*u.shape[:-1], self.modes + 1), dtype=raw.dtype)
        kept = min(raw.shape[-1], self.modes + 1)
        v[..., :kept] = raw[..., :kept]
        return v

    def synthesise(self, v: NDArray[Any], points: int) -> Array:
        """The series' true values on a grid of `points`, also where that grid is too coarse for it."""
        if self.periodic:
            return synthesise(v, points)
        # The centres of n cells are among those of 3 n, 5 n, ... cells.
        stride = -(-(self.modes + 1) // points) | 1
        return scipy.fft.idct(v, n=stride * points, norm="forward")[..., stride // 2 :: stride]
