"""Which numbers of modes are tried, and when a larger one is worth trying: by arithmetic, not by the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from romvae.baselines.paths import Snapshots
from romvae.baselines.pod import POD

__all__ = ["MOST_OPERATIONS", "RankSearch", "modes_of"]

MOST_OPERATIONS = 1.5e11
"""Of all candidates of a family at a number of modes beyond the usual ones: some fifteen seconds on one slow core."""
MOST_FOR_MODES = 2e11
"""Of a randomised POD of more modes than the usual ones; snapshots are thinned out evenly until it is met."""
GAIN = 1e-3
"""By what share of the error the largest number of modes has to be better, for larger ones to be tried."""


class RankSearch:
    """Numbers of modes to try, for each family of settings that cost alike (such as one kind of DMD).

    All of a grid are tried first. A family whose least held-out error is at the largest number of modes that it was
    tried with, by a thousandth at least, is then tried with the next two: 48, 64, 96, 128, 192, ... And so on, until
    the error no longer falls, the candidates of a number of modes would take more than `MOST_OPERATIONS`, the data have
    no further modes, or the budget is used up. The bound counts operations, so that the same data give the same choice
    on a slow machine and on a fast one, as long as the budget suffices.

    Arguments:
        ranks: The grid.
        operations: How many a family takes with a number of modes, called as `operations(family, rank)`.

    Attributes:
        best: Settings of the least error, the number of modes among them; None before the first that is finite.
        least: That error.
    """

    def __init__(self, ranks: Sequence[int], operations: Callable[[str, int], float]) -> None:
        self.ranks, self.operations = sorted(ranks), operations
        self.errors: dict[str, dict[int, float]] = {}
        self.best: dict[str, Any] | None = None
        self.least = np.inf

    def note(self, family: str, rank: int, error: float, settings: dict[str, Any]) -> None:
        """Takes down the error of a candidate, infinite where it diverged."""
        known = self.errors.setdefault(family, {})
        known[rank] = min(error, known.get(rank, np.inf))
        if error < self.least:
            self.best, self.least = settings, error

    def further(self) -> dict[str, list[int]]:
        """The next numbers of modes by family; none where all is done."""
        found = {family: self._next(family) for family in self.errors if self._rising(family)}
        return {family: ranks for family, ranks in found.items() if ranks}

    def untried(self, todo: dict[str, list[int]], most: int) -> dict[str, list[int]]:
        """What is left of it where there are no more than so many modes."""
        found = {
            family: sorted({min(rank, most) for rank in ranks} - set(self.errors[family]))
            for family, ranks in todo.items()
        }
        return {family: ranks for family, ranks in found.items() if ranks}

    def _rising(self, family: str) -> bool:
        errors = dict(self.errors[family])
        last = errors.pop(max(errors))
        return last < (1 - GAIN) * min(errors.values(), default=np.inf)

    def _next(self, family: str) -> list[int]:
        largest = max(self.errors[family])
        ladder = [rank for rank in self.ranks if rank > largest]
        power = 4
        while len(ladder) < 2:
            ladder += [rank for rank in (power, power + power // 2) if rank > max(largest, *self.ranks)]
            power *= 2
        return [rank for rank in ladder[:2] if self.operations(family, rank) <= MOST_OPERATIONS]


def modes_of(snapshots: Snapshots, rank: int, seed: int, usual: int) -> POD:
    """The POD of snapshots.

    Arguments:
        snapshots: Of the training trajectories.
        rank: Number of modes; of more than `usual`, those that are no more than the rounding of the data are left out.
        seed: Of the randomised POD.
        usual: Number of modes up to which all snapshots are taken, however many there are.
    """
    samples = snapshots.flat()
    if rank <= usual:
        return POD(rank).fit(samples, seed)
    every = int(POD.operations(len(samples), samples[0].size, rank) / MOST_FOR_MODES) + 1
    thinned = samples[:: max(1, min(every, len(samples) // (2 * rank)))]
    pod = POD(rank).fit(thinned, seed)
    return pod.truncate(max(usual, pod.resolved(thinned)))
