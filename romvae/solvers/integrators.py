"""Time steppers: exponential Runge-Kutta for a stiff linear part, strong-stability-preserving Runge-Kutta."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from romvae.solvers.base import Array

__all__ = ["ETDRK4", "march", "ssp_rk3", "substeps"]

_CONTOUR = 32
# Coefficients are computed in pieces: numpy works in place on temporaries from 256 kB on, which turns the factors
# of complex products round and changes their last bit: a row's coefficients would depend on how many rows there are.
_CHUNK = 128


def substeps(interval: float, step: float) -> int:
    """The least number of equal steps, none longer than `step`, that fill `interval`."""
    return max(1, int(np.ceil(interval / step * (1 - 1e-9))))


class ETDRK4:
    """Exponential time differencing, fourth order, for v' = c v + N(v) with a diagonal c.

    The linear part is exact, so that no step is too long for diffusion (c real and negative) or for dispersion
    (c imaginary); with z = c h,

        a       = e^(z/2) v + q N(v)          b = e^(z/2) v + q N(a)         q = h (e^(z/2) - 1) / z
        d       = e^(z/2) a + q (2 N(b) - N(v))
        v(t+h)  = e^z v + f1 N(v) + f2 (N(a) + N(b)) + f3 N(d)

    The coefficients are means over a circle around z, which avoids their cancellation near z = 0.

    Arguments:
        linear: The diagonal c, real or complex, any shape that broadcasts against v.
        nonlinear: N; must not keep or change its argument.
        step: h.

    References:
        Cox and Matthews (2002), Exponential time differencing for stiff systems, J. Comput. Phys. 176, 430.
        Kassam and Trefethen (2005), Fourth-order time-stepping for stiff PDEs, SIAM J. Sci. Comput. 26, 1214.
    """

    def __init__(self, linear: NDArray[Any], nonlinear: Callable[[NDArray[Any]], NDArray[Any]], step: float) -> None:
        self.nonlinear = nonlinear
        self.step = step
        z = np.asarray(linear) * float(step)
        self.full, self.half = np.exp(z), np.exp(z / 2)
        # Wavenumbers of either sign, and along either axis, share their values: an eighth of those in a square differ.
        values, places = np.unique(z, return_inverse=True)
        parts = [_coefficients(values[i : i + _CHUNK]) for i in range(0, values.size, _CHUNK)]
        self.q, self.f1, self.f2, self.f3 = (
            (step * np.concatenate(part))[places].reshape(z.shape) for part in zip(*parts, strict=True)
        )

    def __call__(self, v: NDArray[Any]) -> NDArray[Any]:
        """The state one step later."""
        n_v = self.nonlinear(v)
        half = self.half * v
        a = half + self.q * n_v
        n_a = self.nonlinear(a)
        n_b = self.nonlinear(half + self.q * n_a)
        n_d = self.nonlinear(self.half * a + self.q * (2 * n_b - n_v))
        return self.full * v + self.f1 * n_v + self.f2 * (n_a + n_b) + self.f3 * n_d


def _coefficients(z: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """q, f1, f2 and f3 of `ETDRK4` for h = 1, from z `(mode,)`."""
    # For a real z the lower half of the circle is the complex conjugate of the upper one.
    turn = 2 if np.iscomplexobj(z) else 1
    r = z[..., None] + np.exp(1j * turn * np.pi * (np.arange(turn * _CONTOUR) + 0.5) / (turn * _CONTOUR))
    e = np.exp(r)
    means = (
        ((np.exp(r / 2) - 1) / r).mean(-1),
        ((-4 - r + (4 - 3 * r + r**2) * e) / r**3).mean(-1),
        ((2 + r + (r - 2) * e) / r**3).mean(-1) * 2,
        ((-4 - 3 * r - r**2 + (4 - r) * e) / r**3).mean(-1),
    )
    return means if turn == 2 else tuple(mean.real for mean in means)


def march(
    make: Callable[[float], ETDRK4], v: NDArray[Any], times: Array, longest: float
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Advances v from `times[0]` and yields (i, v) at `times[1]`, `times[2]`, ...; equal steps in each interval.

    Arguments:
        make: Makes the stepper for a step; called again only where the step changes.
        v: State at `times[0]`.
        times: Increasing.
        longest: No step is longer.
    """
    stepper: ETDRK4 | None = None
    for i, interval in enumerate(np.diff(times)):
        steps = substeps(interval, longest)
        if stepper is None or abs(stepper.step * steps - interval) > 1e-10 * interval:
            stepper = make(interval / steps)
        for _ in range(steps):
            v = stepper(v)
        yield i + 1, v


def ssp_rk3(rate: Callable[[Array], Array], u: Array, step: float | Array) -> Array:
    """One step of the third-order strong-stability-preserving Runge-Kutta scheme for u' = rate(u).

    `step` is one for all, or broadcasts against u.

    It is a convex combination of Euler steps: what one Euler step does not increase (total variation,
    extrema), it does not increase either.

    References:
        Shu and Osher (1988), Efficient implementation of essentially non-oscillatory schemes, J. Comput.
        Phys. 77.
    """
    first = u + step * rate(u)
    second = 0.75 * u + 0.25 * (first + step * rate(first))
    return u / 3 + 2 / 3 * (second + step * rate(second))
