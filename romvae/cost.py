"""What the reference solver costs, to stand beside the ROM."""

from __future__ import annotations

import time

import numpy as np
import xarray as xr

from romvae.schema import TIME, TRAJECTORY
from romvae.solvers.base import Case, Solver

__all__ = ["solver_seconds"]


def solver_seconds(reference: Case | Solver, test: xr.Dataset, trajectories: int = 16) -> float:
    """Wall-clock of the reference solver per trajectory: the cheaper of one by one and many at once.

    Arguments:
        reference: A case, whose ensemble is solved at the case's own resolution, or a solver, started from the first
            test trajectory.
        test: Trajectories whose times are asked for.
        trajectories: Size of the batch.
    """
    times = np.asarray(test[TIME].values, dtype=np.float64)
    if isinstance(reference, Solver):
        names = [f.name for f in reference.fields]
        first = test.isel({TRAJECTORY: 0, TIME: 0})
        u0 = np.stack([np.asarray(first[n].values, dtype=np.float64) for n in names])
        begin = time.perf_counter()
        reference.solve(u0, times)
        return time.perf_counter() - begin
    draws = [reference.draw(i, seed=1) for i in range(trajectories)]
    begin = time.perf_counter()
    for draw in draws[:3]:
        draw.solver.solve(draw.u0, times)
    single = (time.perf_counter() - begin) / 3
    if not draws[0].solver.batched:
        return single
    begin = time.perf_counter()
    type(draws[0].solver).solve_many([d.solver for d in draws], np.stack([d.u0 for d in draws]), times)
    return min(single, (time.perf_counter() - begin) / trajectories)
