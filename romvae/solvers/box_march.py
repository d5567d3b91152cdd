"""Fields on a box under v' = c v + N(v) for their coefficients v: the diagonal c exact, ETDRK4 for N."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from romvae.solvers.base import Array, Solver
from romvae.solvers.integrators import ETDRK4, march

__all__ = ["Box", "check_decayed", "solve_on_box"]

Coefficients = NDArray[Any]


class Box(Protocol):
    """A basis of functions on a box: `FourierBox` (periodic) or `CosineBox` (no flux through the sides)."""

    def coefficients(self, u: Array) -> Coefficients:
        """Coefficients of values on any grid of the box."""
        ...

    def values(self, v: Coefficients, points: Sequence[int] | None = None) -> Array:
        """Values on a grid of the box."""
        ...

    def tail(self, v: Coefficients) -> Array:
        """The largest of the highest coefficients over the largest of all."""
        ...


def solve_on_box(
    solver: Solver,
    box: Box,
    linear: Coefficients,
    nonlinear: Callable[[Coefficients], Coefficients],
    u0: Array,
    times: Array,
    longest: float,
    least_decay: float | None,
) -> Array:
    """The solution `(time, field, *space)` on the grid of `u0`.

    Arguments:
        solver: Named by errors.
        box: Basis.
        linear: Diagonal c, broadcasts against the coefficients `(field, *mode)`.
        nonlinear: N, from coefficients to coefficients.
        u0: Initial fields `(field, *space)` on the output grid.
        times: The first belongs to `u0`.
        longest: No internal step is longer.
        least_decay: See `check_decayed`; None checks nothing but that the numbers are finite.

    Raises:
        NumericsError: The numbers overflow, or the highest modes hold too much.
    """
    points = u0.shape[1:]
    out = np.empty((times.size, *u0.shape))
    out[0] = u0
    v = box.coefficients(u0)
    for i, later in march(lambda step: ETDRK4(linear, nonlinear, step), v, times, longest):
        check_decayed(solver, box, later, times[i], least_decay, longest)
        out[i] = box.values(later, points)
    return out


def check_decayed(
    solver: Solver, box: Box, v: Coefficients, time: float, least_decay: float | None, step: float
) -> None:
    """Refuses a state that is not finite, or whose highest modes exceed `least_decay` times the largest one.

    Raises:
        NumericsError: With time, parameters and what to change.
    """
    if not np.isfinite(v).all():
        raise solver.failed(time, f"the field is not finite. Use a smaller step than step={step:g}")
    if least_decay is None or solver.unresolved_allowed:
        return
    worst = float(np.max(box.tail(v)))
    if worst > least_decay:
        raise solver.failed(
            time,
            f"the field is not resolved: its highest modes reach {worst:.1g} of the largest one, expected at most "
            f"{least_decay:g}. Raise resolution, or lower step={step:g}",
        )
