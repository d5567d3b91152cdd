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
    solvers: Sequence[Solver],
    box: Box,
    linear: Coefficients,
    nonlinear: Callable[[Coefficients], Coefficients],
    u0: Array,
    times: Array,
    longest: float,
    least_decay: float | None,
) -> Array:
    """Solutions `(row, time, field, *space)` on the grid of `u0`, all advanced with the same steps.

    Arguments:
        solvers: One per row, named by errors.
        box: Basis.
        linear: Diagonal c, broadcasts against the coefficients `(row, field, *mode)`.
        nonlinear: N, from coefficients to coefficients.
        u0: Initial fields `(row, field, *space)` on the output grid.
        times: The first belongs to `u0`.
        longest: No internal step is longer.
        least_decay: See `check_decayed`; None checks nothing but that the numbers are finite.

    Raises:
        NumericsError: The numbers overflow, or the highest modes hold too much.
    """
    points = u0.shape[2:]
    out = np.empty((u0.shape[0], times.size, *u0.shape[1:]))
    out[:, 0] = u0
    v = box.coefficients(u0)
    for i, later in march(lambda step: ETDRK4(linear, nonlinear, step), v, times, longest):
        check_decayed(solvers, box, later, times[i], least_decay, longest)
        out[:, i] = box.values(later, points)
    return out


def check_decayed(
    solvers: Sequence[Solver], box: Box, v: Coefficients, time: float, least_decay: float | None, step: float
) -> None:
    """Refuses rows `(row, field, *mode)` that are not finite, or whose highest modes exceed `least_decay`.

    Arguments:
        solvers: One per row.
        box: Basis.
        v: Coefficients.
        time: For the message.
        least_decay: The highest modes must lie below this fraction of the largest one; None checks no decay.
        step: For the message.

    Raises:
        NumericsError: With time, the parameters of the first such row, and what to change.
    """
    finite = np.isfinite(v).reshape(v.shape[0], -1).all(axis=1)
    if not finite.all():
        why = f"the field is not finite. Use a smaller step than step={step:g}"
        raise solvers[int(np.argmin(finite))].failed(time, why)
    if least_decay is None or solvers[0].unresolved_allowed:
        return
    tail = box.tail(v).max(axis=1)
    if tail.max() > least_decay:
        row = int(np.argmax(tail > least_decay))
        raise solvers[row].failed(
            time,
            f"the field is not resolved: its highest modes reach {tail[row]:.1g} of the largest one, expected at most "
            f"{least_decay:g}. Raise resolution, or lower step={step:g}",
        )
