"""Eigenfunctions of the second derivative on an interval, for every pair of ends, by fast transforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from romvae.solvers.base import Array

__all__ = ["Eigenbasis"]

# (lower, upper) -> transform, its type on cell centres, offset of the wavenumber k = (m + offset) pi / L
_TRANSFORMS = {
    ("reflecting", "reflecting"): ("dct", 2, 0.0),
    ("value", "value"): ("dst", 2, 1.0),
    ("value", "reflecting"): ("dst", 4, 0.5),
    ("reflecting", "value"): ("dct", 4, 0.5),
}


@dataclass(frozen=True)
class Eigenbasis:
    """Solutions of phi'' = -k^2 phi on [0, L]; phi = 0 at a `value` end, phi' = 0 at a `reflecting` one.

    | ends | phi_m(x) | k_m |
    |---|---|---|
    | periodic | exp(i k x) | 2 pi m / L |
    | reflecting, reflecting | cos(k x) | m pi / L |
    | value, value | sin(k x) | (m + 1) pi / L |
    | value, reflecting | sin(k x) | (m + 1/2) pi / L |
    | reflecting, value | cos(k x) | (m + 1/2) pi / L |

    Arguments:
        points: Number of grid points: nodes if periodic, else cell centres.
        length: L.
        ends: Kinds of the lower and the upper end.
    """

    points: int
    length: float
    ends: tuple[str, str]

    @property
    def periodic(self) -> bool:
        """Whether the transform is complex."""
        return self.ends == ("periodic", "periodic")

    @property
    def wavenumbers(self) -> Array:
        """k_m in the order of the coefficients, `(points,)`."""
        if self.periodic:
            return 2 * np.pi * scipy.fft.fftfreq(self.points, self.length / self.points)
        return (np.arange(self.points, dtype=np.float64) + _TRANSFORMS[self.ends][2]) * (np.pi / self.length)

    def forward(self, u: NDArray[Any], axis: int) -> NDArray[Any]:
        """Values to coefficients along `axis`."""
        if self.periodic:
            return scipy.fft.fft(u, axis=axis)
        name, kind, _ = _TRANSFORMS[self.ends]
        return (scipy.fft.dct if name == "dct" else scipy.fft.dst)(u, type=kind, axis=axis)

    def inverse(self, v: NDArray[Any], axis: int) -> NDArray[Any]:
        """Coefficients to values along `axis`."""
        if self.periodic:
            return scipy.fft.ifft(v, axis=axis)
        name, kind, _ = _TRANSFORMS[self.ends]
        return (scipy.fft.idct if name == "dct" else scipy.fft.idst)(v, type=kind, axis=axis)

    def modes(self, number: int, x: Array) -> tuple[Array, Array]:
        """The `number` smoothest real eigenfunctions at `x`, `(number, len(x))`, and their wavenumbers."""
        m = np.arange(number, dtype=np.float64)
        if self.periodic:
            k = ((m + 1) // 2) * (2 * np.pi / self.length)
            sine = m % 2 == 0
        else:
            name, _, offset = _TRANSFORMS[self.ends]
            k = (m + offset) * (np.pi / self.length)
            sine = np.full(number, name == "dst")
        # sin(k x + pi/2) = cos(k x); the periodic m = 0 is the constant.
        return np.sin(k[:, None] * x + np.where(sine & (k > 0), 0.0, np.pi / 2)[:, None]), k
