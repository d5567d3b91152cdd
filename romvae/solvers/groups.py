"""Trajectories advanced together: those that share their steps, as many at a time as stay in the cache."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from romvae.solvers.base import Array
from romvae.solvers.integrators import substeps

__all__ = ["advance_in_groups", "step_counts"]

_CACHE = 2**18  # bytes of the states that are advanced together; what a step makes of them is several times as much


def advance_in_groups(
    advance: Callable[[list[int]], Array], plans: Sequence[Hashable], values: int, u0: Array, times: Array
) -> Array:
    """Solutions `(trajectory, time, field, *space)` of trajectories that not all can be advanced together.

    Small states gain by company, since a call of NumPy costs more than what it computes; large ones lose, since they
    push each other out of the cache. So those with equal plans go together, in blocks of about `_CACHE` bytes.

    Arguments:
        advance: From the numbers of some trajectories to their solutions, in that order.
        plans: What has to be equal for that, one per trajectory: settings, and the steps that are taken.
        values: float64 values in the state of one trajectory.
        u0: Initial fields `(trajectory, field, *space)`.
        times: The first belongs to `u0`.
    """
    groups: dict[Hashable, list[int]] = {}
    for row, plan in enumerate(plans):
        groups.setdefault(plan, []).append(row)
    most = max(1, _CACHE // (8 * values))
    out = np.empty((u0.shape[0], times.size, *u0.shape[1:]))
    for rows in groups.values():
        for block in np.array_split(rows, -(-len(rows) // most)):
            out[block] = advance(block.tolist())
    return out


def step_counts(times: Array, longest: float) -> tuple[int, ...]:
    """Equal steps in each interval between `times`, none longer than `longest`: the plan of `integrators.march`."""
    return tuple(substeps(interval, longest) for interval in np.diff(times))
