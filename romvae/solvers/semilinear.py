"""Rows of one-dimensional fields under u_t = c(k) u + N(u): the linear part exact in each mode, ETDRK4 for N."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from romvae.solvers.base import Array, Solver
from romvae.solvers.integrators import ETDRK4, march
from romvae.solvers.series import Series

__all__ = ["SelfAdvection", "check_resolved", "solve_semilinear"]

Rows = NDArray[Any]


class SelfAdvection:
    """The term -(u^2 / 2)_x for rows of Fourier coefficients `(row, mode)`, free of aliasing by the 2/3 rule.

    Arguments:
        series: Periodic, with `resolution` above three times `modes`.
    """

    def __init__(self, series: Series) -> None:
        self.series = series
        self.derivative = -0.5j * series.k

    def __call__(self, v: Rows) -> Rows:
        u = self.series.values(v)
        return self.derivative * self.series.coefficients(u * u)


def solve_semilinear(
    series: Series,
    linear: Rows,
    nonlinear: Callable[[Rows], Rows],
    u0: Array,
    times: Array,
    longest: float,
    check: Callable[[Rows, float], None],
) -> Array:
    """Solutions `(row, time, 1, x)` of v' = linear v + nonlinear(v) for the coefficients v of rows of fields.

    Arguments:
        series: Modes and internal grid.
        linear: Diagonal, broadcasts against `(row, mode)`.
        nonlinear: From coefficients to coefficients, `(row, mode)`.
        u0: Initial fields `(row, 1, x)` on the output grid.
        times: The first belongs to `u0`.
        longest: No internal step is longer.
        check: `check(v, time)` raises where v cannot be trusted; called at every stored time.
    """
    out = np.empty((u0.shape[0], times.size, *u0.shape[1:]))
    out[:, 0] = u0
    start = series.analyse(u0[:, 0])
    for i, v in march(lambda step: ETDRK4(linear, nonlinear, step), start, times, longest):
        check(v, times[i])
        out[:, i, 0] = series.synthesise(v, u0.shape[-1])
    return out


def check_resolved(solvers: Sequence[Solver], v: Rows, time: float, least_decay: float, why: str) -> None:
    """Raises for the first row that is not finite or whose spectrum does not decay.

    Arguments:
        solvers: One per row.
        v: Coefficients `(row, mode)`.
        time: For the message.
        least_decay: The highest twentieth of the modes must lie below this fraction of the largest one.
        why: For the message.

    Raises:
        NumericsError: A row is refused.
    """
    if solvers[0].unresolved_allowed and np.isfinite(v).all():
        return
    size = np.abs(v)
    tail = size[:, -max(1, size.shape[1] // 20) :].max(axis=1)
    # Round-off, and nothing else, may be left beside the mean.
    bad = ~(tail <= least_decay * size[:, 1:].max(axis=1) + 1e-13 * (1 + size[:, 0]))
    if bad.any():
        raise solvers[int(np.argmax(bad))].failed(time, why)
