"""The cheapest run of a solver that is accurate enough, searched over resolution and step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from romvae.cost.clock import process_seconds
from romvae.cost.coarser import coarser_settings, longer_step
from romvae.cost.workload import Workload
from romvae.errors import NumericsError
from romvae.solvers.base import Solver

__all__ = ["Run", "Sweep", "cheapest", "sweep"]

SHARES = (1 / 32, 1 / 16, 1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0)
"""Points per axis that are tried, as shares of the solver's own: from the cheapest to the most accurate."""
_STEPS = 6  # doublings of the step that are tried
_BATCH_SHARE = 0.3  # of the time cap that may go into timing batches


@dataclass(frozen=True)
class Run:
    """One way to run the solver.

    Arguments:
        settings: What differs from the reference's own settings.
        every: The solver is asked for every so many stored times, and a spline gives those in between.
        linear: Whether its values were brought to the grid of the data linearly.
        error: Relative L2 error against the held-out truth; infinite where the computation failed.
        seconds: Process time per trajectory, one by one, delivered on the grid and at the times of the data.
        seconds_batch: The same in one batch; equal where the solver has no way to compute many at once.
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


@dataclass(frozen=True)
class Sweep:
    """All runs that were tried, the reference as it is first, and whether the time cap ended the search."""

    runs: tuple[Run, ...]
    complete: bool


def cheapest(found: Sweep, target: float, batch: bool = False) -> Run | None:
    """The run that reaches the error `target` at the least cost; None where none does."""
    good = [run for run in found.runs if run.error <= target]
    return min(good, key=lambda run: run.seconds_batch if batch else run.seconds) if good else None


def sweep(
    work: Workload,
    targets: Sequence[float],
    batch: int = 64,
    cap: float = 60.0,
    tried: Callable[[Run], None] | None = None,
) -> Sweep:
    """Runs the solver coarser and with longer steps, from the coarsest up to what reaches the targets.

    Errors fall with the resolution and with the step, so the search goes up from the coarsest grid: the first that is
    accurate enough is made cheaper by doubling the step until it no longer is; the next finer grid is tried with the
    longest of those steps and beyond, since it may stand a longer one; and there the search ends.

    Arguments:
        work: Trajectories, and the solver.
        targets: Relative L2 errors to be reached; each is searched for, and no run is made twice.
        batch: Size of the batch that is timed, where the solver can compute many at once.
        cap: Process seconds after which no other run is begun.
        tried: Called with every run.
    """
    search = _Search(work, batch, cap, tried or (lambda run: None))
    search.own()
    for target in sorted(set(targets), reverse=True):
        search.upwards(target)
    return Sweep(tuple(search.runs), not search.over)


class _Search:
    """The state of one sweep."""

    def __init__(self, work: Workload, batch: int, cap: float, tried: Callable[[Run], None]) -> None:
        self.work, self.batch, self.cap, self.tried = work, batch, cap, tried
        self.target = float("inf")
        self.begin = time.process_time()
        self.runs: list[Run] = []
        self.seen: set[str] = set()

    @property
    def over(self) -> bool:
        """Whether the time is used up."""
        return time.process_time() - self.begin > self.cap

    def own(self) -> None:
        """The reference as it is, on one trajectory: that it repeats the data was paid for when they were made."""
        self._try({}, 1, rows=[0])

    def upwards(self, target: float) -> None:
        """From the coarsest grid to the one after the first that reaches the target."""
        self.target = target
        found_at: int | None = None
        longest = 0
        for k, share in enumerate(SHARES):
            if self.over or (found_at is not None and k > found_at + 1):
                return
            reached = self.at(share, longest)
            if reached is not None:
                longest = reached
                found_at = k if found_at is None else found_at

    def at(self, share: float, doublings: int) -> int | None:
        """The most doublings of the step at which this share of the points is accurate enough; None if at none."""
        for settings in self._settings(share):
            steps = doublings
            while (run := self._stepped(settings, steps)) is not None and run.error > self.target and steps > 0:
                steps -= 1
            if run is None or run.error > self.target:
                continue
            while steps < _STEPS and (run := self._stepped(settings, steps + 1)) and run.error <= self.target:
                steps += 1
            return steps
        return None

    def _settings(self, share: float) -> list[dict[str, Any]]:
        maker = self.work.maker
        if maker is None:
            return []
        return [{}] if share == 1 else list(coarser_settings(maker, self.work.solvers[0], share))

    def _stepped(self, settings: Mapping[str, Any], doublings: int) -> Run | None:
        """The run with the step doubled so often; where the solver sets its own, fewer times are asked for instead."""
        maker, own, times = self.work.maker, self.work.solvers[0], self.work.times
        if maker is None or self.over:
            return None
        longer = longer_step(maker, own, 2.0**doublings) if doublings else {}
        stored = float((times[1:] - times[:-1]).min())
        step = longer.get("step")
        every = 1 if doublings == 0 else max(1, int(step / stored * (1 + 1e-9))) if step else 2**doublings
        return self._try({**settings, **longer}, min(every, max(1, (times.size - 1) // 3)))

    def _try(self, settings: Mapping[str, Any], every: int, rows: list[int] | None = None) -> Run | None:
        key = repr((sorted(settings.items(), key=str), every))
        if key in self.seen:
            return next((run for run in self.runs if _key(run) == key), None)
        solvers = self.work.made(settings)
        if solvers is None:
            return None
        self.seen.add(key)
        run = self._measured(solvers, settings, every, rows or list(range(self.work.trajectories)))
        self.runs.append(run)
        self.tried(run)
        return run

    def _measured(self, solvers: list[Solver], settings: Mapping[str, Any], every: int, rows: list[int]) -> Run:
        work, infinite = self.work, float("inf")
        other_grid = solvers[0].grid != work.grid
        best = Run(settings, every, False, infinite, infinite, infinite)
        try:
            for linear in (False, True) if other_grid else (False,):
                seconds, u = process_seconds(partial(work.delivered, solvers, rows, every, linear, False))
                error = work.error(u, rows)
                if error < best.error:
                    best = Run(settings, every, linear, error, seconds / len(rows), seconds / len(rows))
        except NumericsError as failure:
            return replace(best, failed=str(failure)) if best.error == infinite else best
        if solvers[0].batched and best.error <= self.target and not self.over:
            many = [i % work.trajectories for i in range(self._batch_size(best.seconds))]
            try:
                taken, _ = process_seconds(lambda: work.delivered(solvers, many, every, best.linear, True))
            except NumericsError:
                return best
            best = replace(best, seconds_batch=min(best.seconds, taken / len(many)))
        return best

    def _batch_size(self, seconds: float) -> int:
        """Not more than a share of the time cap would take one by one."""
        return max(1, min(self.batch, int(_BATCH_SHARE * self.cap / max(seconds, 1e-6))))


def _key(run: Run) -> str:
    return repr((sorted(run.settings.items(), key=str), run.every))
