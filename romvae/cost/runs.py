"""One way to run a solver: its error against held-out trajectories, and its process time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from romvae.cost.clock import Clock, process_seconds
from romvae.cost.workload import Workload
from romvae.errors import NumericsError
from romvae.solvers.base import Solver

__all__ = ["Run", "measured", "measured_in_batch"]


@dataclass(frozen=True)
class Run:
    """One way to run the solver.

    Arguments:
        settings: What differs from the reference's own settings.
        every: The solver is asked for every so many stored times, and a spline gives those in between.
        linear: Whether its values were brought to the grid of the data linearly.
        error: Relative L2 error against the held-out truth; infinite where the computation failed.
        seconds: Process time per trajectory, one by one, delivered on the grid and at the times of the data; of a run
            that misses the target it is measured once.
        seconds_batch: The same in one batch; equal where the solver has no way to compute many at once, NaN of a run
            that misses the target where it has one.
        failed: Why it failed.
    """

    settings: Mapping[str, Any]
    every: int
    linear: bool
    error: float
    seconds: float
    seconds_batch: float
    failed: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; what is not finite is None."""
        settings = {name: list(v) if isinstance(v, tuple) else v for name, v in self.settings.items()}
        numbers = {name: getattr(self, name) for name in ("error", "seconds", "seconds_batch")}
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        return {**vars(self), "settings": settings, **finite}


def measured(
    work: Workload,
    solvers: Sequence[Solver],
    settings: Mapping[str, Any],
    every: int,
    rows: Sequence[int],
    targets: tuple[float, float],
    clock: Clock,
) -> Run:
    """Runs solvers one by one, and says how wrong they are and how long they take.

    Arguments:
        work: Trajectories.
        solvers: One for each of them.
        settings: What differs from the reference's own settings, for the record.
        every: The solver is asked for every so many stored times.
        rows: Trajectories to run.
        targets: A run that reaches the first is timed with repetitions; one that reaches the second is not tried with
            linear interpolation too.
        clock: What it is timed by.
    """
    infinite = math.inf
    best = Run(settings, every, False, infinite, infinite, infinite)
    try:
        for linear in (False, True) if solvers[0].grid != work.grid else (False,):
            deliver = partial(work.delivered, solvers, rows, every, linear, False)
            seconds, u = process_seconds(deliver, clock, lambda u: work.error(u, rows) <= targets[0])
            error = work.error(u, rows)
            if error < best.error:
                alone = seconds / len(rows)
                untimed = solvers[0].batched and error > targets[0]
                best = Run(settings, every, linear, error, alone, math.nan if untimed else alone)
            if error <= targets[1]:
                break
    except NumericsError as failure:
        return replace(best, failed=str(failure)) if best.error == infinite else best
    return best


def measured_in_batch(work: Workload, solvers: Sequence[Solver], run: Run, batch: int, clock: Clock) -> Run:
    """The run with its time per trajectory in a batch of so many, which is not more than that of one alone."""
    many = [i % work.trajectories for i in range(batch)]
    try:
        taken, _ = process_seconds(lambda: work.delivered(solvers, many, run.every, run.linear, True), clock)
    except NumericsError:
        return run
    return replace(run, seconds_batch=min(run.seconds, taken / len(many)))
