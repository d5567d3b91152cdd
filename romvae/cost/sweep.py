"""The cheapest run of a solver that is accurate enough, searched over resolution and step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from romvae.cost.clock import Clock
from romvae.cost.coarser import Family, Knobs, longer_step, nearest
from romvae.cost.runs import Run, measured, measured_in_batch
from romvae.cost.workload import VERSION, Workload
from romvae.solvers.base import Solver

__all__ = ["SHARES", "Run", "Sweep", "cheapest", "sweep"]

SHARES = (1 / 32, 1 / 16, 1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0)
"""Points per axis that are tried, as shares of the solver's own: from the cheapest to the most accurate."""
_STEPS = 6  # doublings of the step that are tried
_BATCH_SHARE = 0.3  # of the time cap that may go into timing batches
_HALVINGS = 2  # of the gap between the last share that failed and the first that is accurate enough
_CLEARLY = 1.25  # times the target: what a finer run misses by more, a coarser one will not reach
_UNSTABLE = 1.0  # an error as large as the field itself may come from too long a step, which a coarser run may stand
_NOISE = 1.2  # by which two timings of equal work may differ
_DEARER = 2.0  # times the cheapest: a kind of settings that costs as much and still fails is given up


@dataclass(frozen=True)
class Sweep:
    """What a search has found.

    Arguments:
        runs: All that were tried, the reference as it is first.
        complete: Whether the search came to its end before the time cap.
        coarsened: Whether the solver has settings that make it cheaper; where not, there is no equal accuracy.
    """

    runs: tuple[Run, ...]
    complete: bool
    coarsened: bool = True


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
    clock: Clock = time.process_time,
) -> Sweep:
    """Runs the solver coarser and with longer steps, from the coarsest up to what reaches the targets.

    Errors fall with the resolution and with the step. All kinds of settings that a solver has (`Knobs.families`) are
    followed side by side from the coarsest share of the points up, so that cheap runs come first. The first share of a
    kind that is accurate enough is made cheaper by doubling the step until it no longer is; the next finer one has to
    stand a longer step than that to be cheaper, and where it does not, this kind ends. Then the gap between the last
    share that failed and the first that did not is halved twice, and the cheapest run is tried with half a doubling of
    the step more. A run that cannot be cheaper than one that is accurate enough, or that is coarser than one that
    clearly fails, is left out. Sizes that a solver refuses are replaced by the nearest that it accepts. Versions that a
    solver gives itself (`Solver.coarsened`) are one more kind of settings, from the cheapest up.

    Arguments:
        work: Trajectories, and the solver.
        targets: Relative L2 errors to be reached; each is searched for, and no run is made twice.
        batch: Size of the batch that is timed, where the solver can compute many at once.
        cap: Process seconds after which no other run is begun.
        tried: Called with every run.
        clock: What all is timed by.
    """
    search = _Search(work, batch, cap, tried or (lambda run: None), clock, min(targets, default=0.0))
    search.own()
    for target in sorted(set(targets), reverse=True):
        search.upwards(target)
    runs = tuple(each.run for each in search.runs)
    coarsened = any(run.settings for run in runs) or (search.over and search.has_settings)
    return Sweep(runs, not search.over, coarsened)


@dataclass(frozen=True)
class _Tried:
    """A run, the settings that it has beside a longer step, their sizes, and how often the step was doubled."""

    run: Run
    base: Mapping[str, Any]
    sizes: tuple[float, ...]
    doublings: float

    def is_within(self, sizes: tuple[float, ...]) -> bool:
        """Whether it is nowhere finer."""
        return all(own <= other for own, other in zip(self.sizes, sizes, strict=True))

    def holds(self, sizes: tuple[float, ...]) -> bool:
        """Whether it is nowhere coarser."""
        return all(own >= other for own, other in zip(self.sizes, sizes, strict=True))


@dataclass
class _Chain:
    """One kind of settings on its way up: what failed, what was first accurate enough, and the cheapest so far."""

    family: Family | None = None
    failed: float | None = None
    first: float | None = None
    best: Run | None = None
    ended: bool = False

    def takes(self, share: float, run: Run) -> None:
        """Notes a run that is accurate enough; the kind ends with one that is no cheaper than those before."""
        if self.best is not None and run.seconds >= self.best.seconds and run.seconds_batch >= self.best.seconds_batch:
            self.ended = True
            return
        self.first = share if self.first is None else self.first
        self.best = run if self.best is None or run.seconds < self.best.seconds else self.best


class _Search:
    """The state of one sweep."""

    def __init__(
        self, work: Workload, batch: int, cap: float, tried: Callable[[Run], None], clock: Clock, strictest: float
    ) -> None:
        self.work, self.batch, self.cap, self.tried, self.clock = work, batch, cap, tried, clock
        self.target, self.strictest = float("inf"), strictest
        self.begin = clock()
        self.runs: list[_Tried] = []
        self.seen: dict[str, _Tried] = {}
        maker, own = work.maker, work.solvers[0]
        self.knobs = None if maker is None else Knobs.of(maker, own)
        self.has_step = maker is not None and bool(longer_step(maker, own, 2.0))
        self.versions = tuple(own.coarsened())

    @property
    def has_settings(self) -> bool:
        """Whether there is a way to make the solver cheaper."""
        return bool(self.versions) or self.has_step or (self.knobs is not None and self.knobs.known)

    @property
    def over(self) -> bool:
        """Whether the time is used up."""
        return self.clock() - self.begin > self.cap

    @property
    def best(self) -> _Tried | None:
        """The cheapest run for one trajectory that reaches the target."""
        return min((each for each in self.runs if self._good(each)), key=lambda each: each.run.seconds, default=None)

    def own(self) -> None:
        """The reference as it is, on one trajectory: that it repeats the data was paid for when they were made."""
        self._try(self.work.solvers, {}, {}, 1, 0.0, rows=[0])

    def upwards(self, target: float) -> None:
        """All kinds of settings from the coarsest share up, then between shares, then between doublings."""
        self.target = target
        self._own_versions()
        chains = [] if self.knobs is None else [_Chain(family) for family in self.knobs.families]
        around = (0.0, *SHARES, 2.0)
        for k, share in enumerate(SHARES):
            for chain in chains:
                if not chain.ended and not self.over:
                    found = self._nearest(chain, share, (around[k], around[k + 2]))
                    if found is not None:
                        self._climb(chain, share, *found)
        for chain in chains:
            self._between(chain)
        best = self.best
        if best is not None and self.has_step and (solvers := self.work.made(best.base)) is not None:
            self._stepped(solvers, best.base, best.doublings + 0.5)

    def _own_versions(self) -> None:
        """Those that the solver gives itself, from the cheapest up, and last the solver as it is.

        Where it has other settings, the last is one of those.
        """
        chain, count = _Chain(), len(self.versions) + 1
        bases: list[dict[str, str]] = [{VERSION: name} for name in reversed(self.versions)]
        for rank, base in enumerate([*bases, *([{}] if self.knobs is None else [])], start=1):
            solvers = None if chain.ended or self.over else self.work.made(base)
            if solvers is not None:
                self._climb(chain, rank / count, base, solvers)

    def _sizes(self, settings: Mapping[str, Any]) -> tuple[float, ...]:
        """Place among the solver's own versions, and points: settings are finer where none is smaller."""
        places = [*reversed(self.versions), None]
        points = () if self.knobs is None else self.knobs.sizes(settings)
        return (float(places.index(settings.get(VERSION))), *points)

    def _nearest(
        self, chain: _Chain, share: float, between: tuple[float, float]
    ) -> tuple[Mapping[str, Any], list[Solver]] | None:
        """Settings of a kind that come nearest to a share, and their solvers."""
        if self.knobs is None or chain.family is None:
            return None
        return nearest(self.knobs, chain.family, share, between, self.work.made)

    def _climb(self, chain: _Chain, share: float, base: Mapping[str, Any], solvers: Sequence[Solver]) -> None:
        """The next share of a kind of settings; the kind ends where finer cannot be cheaper."""
        last, best = self._longest(base, solvers), self.best
        if last is not None and self._good(last):
            chain.takes(share, last.run)
            return
        dear = last is not None and best is not None and _DEARER * best.run.seconds < last.run.seconds < math.inf
        chain.ended = dear or chain.first is not None
        chain.failed = share if chain.first is None else chain.failed

    def _between(self, chain: _Chain) -> None:
        """Shares between the last that failed and the first that did not, where the best can be found among them."""
        low, high, best = chain.failed or 0.0, chain.first, self.best
        if not 0 < low < (high or 0.0) or high is None or best is None or chain.best is None:
            return
        fall = (high / low) ** (self.work.grid.ndim + 2)  # of cost over the gap; the most has an explicit step
        if chain.best.seconds > fall * best.run.seconds and chain.best.seconds_batch > fall * best.run.seconds_batch:
            return
        for _ in range(_HALVINGS):
            share = math.sqrt(low * high)
            found = None if self.over else self._nearest(chain, share, (low, high))
            if found is None:
                return
            last = self._longest(*found)
            low, high = (low, share) if last is not None and self._good(last) else (share, high)

    def _longest(self, base: Mapping[str, Any], solvers: Sequence[Solver]) -> _Tried | None:
        """The longest step that is accurate enough; else the last that is not, or None where it was left out.

        It begins with that of the cheapest run so far: a shorter one has to pay.
        """
        least, best = self._least_doublings(self._sizes(base)), self.best
        steps = max(least, 0 if best is None else math.floor(best.doublings))
        last = self._stepped(solvers, base, steps)
        while last is not None and not self._good(last) and steps > least and self._shorter_pays(last.run):
            steps -= 1
            last = self._stepped(solvers, base, steps)
        while last is not None and self._good(last) and steps < _STEPS:
            longer = self._stepped(solvers, base, steps + 1)
            if longer is None or not self._good(longer):
                break
            last, steps = longer, steps + 1
        return last

    def _least_doublings(self, sizes: tuple[float, ...]) -> int:
        """Doublings with which these sizes can be cheaper than coarser ones that are accurate enough already."""
        good = [each for each in self.runs if self._good(each) and each.sizes != sizes and each.is_within(sizes)]
        return max((math.floor(each.doublings) + 1 for each in good), default=0)

    def _shorter_pays(self, failed: Run) -> bool:
        """Whether the next shorter step could still be cheaper than the best; of an unstable run that is not known."""
        best, factor = self.best, 2.0 if self.has_step else 1.0
        return best is None or not failed.error < _UNSTABLE or factor * failed.seconds < best.run.seconds

    def _hopeless(self, sizes: tuple[float, ...], doublings: float) -> bool:
        """Whether a run that is nowhere coarser, with no longer step, fails clearly; the first is of one trajectory."""
        failed = [each for each in self.runs[1:] if _CLEARLY * self.target < each.run.error < _UNSTABLE]
        return any(each.doublings <= doublings and each.holds(sizes) for each in failed)

    def _too_dear(self, sizes: tuple[float, ...], doublings: float) -> bool:
        """Whether a run that is nowhere finer took more than the cheapest, a longer step allowed for.

        Batches have an order of their own, which a larger margin leaves room for.
        """
        best, margin = self.best, _DEARER if self.work.solvers[0].batched else _NOISE
        if best is None:
            return False
        for each in (each for each in self.runs[1:] if each.is_within(sizes) and each.run.seconds < math.inf):
            gain = 2.0 ** max(0.0, doublings - each.doublings) if self.has_step else 1.0
            if each.run.seconds > margin * gain * best.run.seconds:
                return True
        return False

    def _good(self, tried: _Tried) -> bool:
        return tried.run.error <= self.target

    def _stepped(self, solvers: Sequence[Solver], base: Mapping[str, Any], doublings: float) -> _Tried | None:
        """The run with the step doubled so often; where the solver sets its own, fewer times are asked for instead."""
        maker, own, times = self.work.maker, self.work.solvers[0], self.work.times
        sizes = self._sizes(base)
        if self.over or self._hopeless(sizes, doublings) or self._too_dear(sizes, doublings):
            return None
        settable = maker is not None and doublings > 0 and VERSION not in base
        longer = longer_step(maker, own, 2.0**doublings) if settable and maker is not None else {}
        stored = float((times[1:] - times[:-1]).min())
        step = longer.get("step")
        every = 1 if doublings == 0 else max(1, int(step / stored * (1 + 1e-9))) if step else int(2**doublings)
        settings = {**base, **longer}
        made = self.work.made(settings) if longer else solvers
        return None if made is None else self._try(made, settings, base, min(every, self._most_apart), doublings)

    @property
    def _most_apart(self) -> int:
        """Stored times that a spline may leave out."""
        return max(1, (self.work.times.size - 1) // 3)

    def _try(
        self,
        solvers: Sequence[Solver],
        settings: Mapping[str, Any],
        base: Mapping[str, Any],
        every: int,
        doublings: float,
        rows: Sequence[int] = (),
    ) -> _Tried:
        key = repr((sorted(settings.items(), key=str), every))
        if key in self.seen:
            return self.seen[key]
        which, targets = rows or range(self.work.trajectories), (self.target, self.strictest)
        run = measured(self.work, solvers, settings, every, which, targets, self.clock)
        if solvers[0].batched and run.error <= self.target and not self.over:
            at_most = max(1, int(_BATCH_SHARE * self.cap / max(run.seconds, 1e-6)))
            run = measured_in_batch(self.work, solvers, run, min(self.batch, at_most), self.clock)
        tried = _Tried(run, dict(base), self._sizes(base), doublings)
        self.seen[key] = tried
        self.runs.append(tried)
        self.tried(run)
        return tried
