"""Time steppers: exponential Runge-Kutta for a stiff linear part, strong-stability-preserving Runge-Kutta."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from romvae.solvers.base import Array

__all__ = ["ETDRK4", "ssp_rk3", "substeps"]

_CONTOUR = 32


def substeps(interval: float, step: float) -> int:
    """The least number of equal steps, none longer than `step`, that fill `interval`."""
    return max(1, int(np.ceil(interval / step * (1 - 1e-9))))


class ETDRK4:
    """Exponential time differencing, fourth order, for v' = c v + N(v) with a real diagonal c.

    The linear part is exact, so that no step is too long for diffusion; with z = c h,

        a       = e^(z/2) v + q N(v)          b = e^(z/2) v + q N(a)         q = h (e^(z/2) - 1) / z
        d       = e^(z/2) a + q (2 N(b) - N(v))
        v(t+h)  = e^z v + f1 N(v) + f2 (N(a) + N(b)) + f3 N(d)

    The coefficients are means over a circle around z, which avoids their cancellation near z = 0.

    Arguments:
        linear: The diagonal c, real, any shape that broadcasts against v.
        nonlinear: N; must not keep or change its argument.
        step: h.

    References:
        Cox and Matthews (2002), Exponential time differencing for stiff systems, J. Comput. Phys. 176, 430.
        Kassam and Trefethen (2005), Fourth-order time-stepping for stiff PDEs, SIAM J. Sci. Comput. 26, 1214.
    """

    def __init__(self, linear: Array, nonlinear: Callable[[NDArray[Any]], NDArray[Any]], step: float) -> None:
        self.nonlinear = nonlinear
        self.step = step
        z = np.asarray(linear, dtype=np.float64) * step
        self.full, self.half = np.exp(z), np.exp(z / 2)
        # c is real: the lower half of the circle is the complex conjugate of the upper one.
        r = z[..., None] + np.exp(1j * np.pi * (np.arange(_CONTOUR) + 0.5) / _CONTOUR)
        e = np.exp(r)
        self.q = step * ((np.exp(r / 2) - 1) / r).mean(-1).real
        self.f1 = step * ((-4 - r + e * (4 - 3 * r + r**2)) / r**3).mean(-1).real
        self.f2 = step * ((2 + r + e * (r - 2)) / r**3).mean(-1).real * 2
        self.f3 = step * ((-4 - 3 * r - r**2 + e * (4 - r)) / r**3).mean(-1).real

    def __call__(self, v: NDArray[Any]) -> NDArray[Any]:
        """The state one step later."""
        n_v = self.nonlinear(v)
        half = self.half * v
        a = half + self.q * n_v
        n_a = self.nonlinear(a)
        n_b = self.nonlinear(half + self.q * n_a)
        n_d = self.nonlinear(self.half * a + self.q * (2 * n_b - n_v))
        return self.full * v + self.f1 * n_v + self.f2 * (n_a + n_b) + self.f3 * n_d


def ssp_rk3(rate: Callable[[Array], Array], u: Array, step: float) -> Array:
    """One step of the third-order strong-stability-preserving Runge-Kutta scheme for u' = rate(u).

    It is a convex combination of Euler steps: what one Euler step does not increase (total variation,
    extrema), it does not increase either.

    References:
        Shu and Osher (1988), Efficient implementation of essentially non-oscillatory schemes, J. Comput.
        Phys. 77.
    """
    first = u + step * rate(u)
    second = 0.75 * u + 0.25 * (first + step * rate(first))
    return u / 3 + 2 / 3 * (second + step * rate(second))
