"""Exact time stepping of linear wave equations u_tt = -A u: one Chebyshev expansion for all times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from romvae.solvers.base import Array

__all__ = ["bessel", "wave_motion"]

_CHUNK = 64  # polynomials collected before one matrix product adds them to all times
_NEGLIGIBLE = 1e-18


def wave_motion(
    operator: Callable[[NDArray[Any]], NDArray[Any]],
    bound: float,
    u0: NDArray[Any],
    v0: NDArray[Any],
    times: Array,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """U and v = u_t at all times, for u_tt = -A u from u(0) = u0, u_t(0) = v0, to round-off.

    With w = sqrt(bound), R = w t and T_k(Y) the Chebyshev polynomials of Y = 2 A / bound - 1,

        cos(t sqrt A)            = J_0(R) + 2 sum_{k>0} (-1)^k J_2k(R) T_k(Y)
        sin(t sqrt A) / sqrt A   = 2/w sum_{k>=0} (-1)^k c_k (J_2k+1(R) + J_2k+3(R) + ...) T_k(Y),  c_0 = 1, else 2

    where J are Bessel functions, which vanish faster than exponentially for orders above R. So R / 2 and a few
    products with A carry the solution to any number of times: as many as the leapfrog scheme takes at the limit
    of its stability, and no error is left. Twice as many if v0 is not zero.

    Arguments:
        operator: u -> A u, A symmetric with eigenvalues from 0 to `bound`; must not keep or change its argument.
        bound: No eigenvalue is larger; the cost grows with its root.
        u0: Any shape, real or complex.
        v0: Same.
        times: At least 0, `(time,)`.

    Returns:
        u and v, each `(time, *shape)`.

    References:
        Tal-Ezer and Kosloff (1984), An accurate and efficient scheme for propagating the time dependent
        Schroedinger equation, J. Chem. Phys. 81, 3967.
        Kosloff, Filho, Tessmer and Behle (1989), Numerical solution of the acoustic and elastic wave equations
        by a new rapid expansion method, Geophys. Prospect. 37, 383.
    """
    w = np.sqrt(bound)
    cosine, cosine_rate, sine = _coefficients(w * np.asarray(times, dtype=np.float64))
    n_times = cosine.shape[0]
    collected = _expand(operator, bound, u0, np.concatenate([cosine, w * cosine_rate]))
    if v0.any():
        collected = collected + _expand(operator, bound, v0, np.concatenate([sine / w, cosine]))
    return collected[:n_times], collected[n_times:]


def _coefficients(r: Array) -> tuple[Array, Array, Array]:
    """Coefficients of T_k(2 s^2 - 1), `(len(r), k)`, of cos(r s), of its r-derivative and of sin(r s) / s."""
    largest = float(r.max())
    half = int(np.ceil((largest + 10 * largest ** (1 / 3) + 24) / 2))
    j = bessel(2 * half, r)
    sign = (-1.0) ** np.arange(half)
    even, odd = j[:, 0 : 2 * half : 2], j[:, 1 : 2 * half : 2]
    cosine = 2 * sign * even
    cosine[:, 0] /= 2
    rate = -sign * odd
    rate[:, 1:] += sign[1:] * odd[:, :-1]  # 2 J'_2k = J_2k-1 - J_2k+1
    sine = 4 * sign * np.cumsum(odd[:, ::-1], axis=1)[:, ::-1]
    sine[:, 0] /= 2
    return cosine, rate, sine


def bessel(orders: int, r: Array) -> Array:
    """J_0(r) .. J_orders(r), `(len(r), orders + 1)`, to round-off of 1: Fourier coefficients of exp(i r sin a)."""
    # The trapezoidal rule on `points` nodes aliases order n - points onto n; above r + .. those are negligible.
    points = scipy.fft.next_fast_len(2 * orders + 16)
    angle = 2 * np.pi * np.arange(points) / points
    waves = np.exp(1j * r[:, None] * np.sin(angle))
    return np.ascontiguousarray(scipy.fft.fft(waves, axis=1, norm="forward")[:, : orders + 1].real)


def _expand(
    operator: Callable[[NDArray[Any]], NDArray[Any]], bound: float, u: NDArray[Any], coefficients: Array
) -> NDArray[Any]:
    """sum_k coefficients[:, k] T_k(2 A / bound - 1) u, `(len(coefficients), *u.shape)`."""
    number = coefficients.shape[1]
    chunk = np.empty((min(_CHUNK, number), u.size), dtype=u.dtype)
    total = np.zeros((coefficients.shape[0], u.size), dtype=u.dtype)
    before = now = u
    for k in range(number):
        if k == 1:
            before, now = u, (2 / bound) * operator(u) - u
        elif k > 1:
            later = operator(now)
            later *= 4 / bound
            later -= 2 * now
            later -= before
            before, now = now, later
        place = k % _CHUNK
        chunk[place] = now.ravel()
        if place == _CHUNK - 1 or k == number - 1:
            weights = coefficients[:, k - place : k + 1]
            reached = np.abs(weights).max(axis=1) > _NEGLIGIBLE * np.abs(coefficients).max(axis=1)  # not early times
            total[reached] += weights[reached].astype(u.dtype) @ chunk[: place + 1]
    return total.reshape(-1, *u.shape)
