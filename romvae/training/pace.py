"""How long the steps of a stage take, and how many of them fit into a budget of process time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from romvae.training.runner import StageOptions
from romvae.training.stages import Stage

if TYPE_CHECKING:
    import xarray as xr

    from romvae.rom import ROM

__all__ = ["Pace", "seconds_per_step"]

WARM_UP, PIECES = 10, 6
SHARE = 0.95
"""Of what is left that a training is planned to take; the rest is for what a measurement cannot know."""


class Pace:
    """Measures a short training, given as the `watch` of `romvae.fit`: a stage's steps, and all that is done beside it.

    Arguments:
        stage: Name of the stage whose steps are measured.
        clock: Process time in seconds.

    Attributes:
        ends: When the stage began, and when each of its steps ended.
    """

    def __init__(self, stage: str, clock: Callable[[], float] = time.process_time) -> None:
        self.stage, self.clock, self.ends = stage, clock, list[float]()
        self._began = clock()

    def options(self, stage: Stage, rom: ROM, held: xr.Dataset, start: int = 0) -> StageOptions:
        """What the Trainer of a stage gets: see `Watch.options`."""
        return StageOptions([_Clocked(self)] if stage.name == self.stage else [])

    def affordable(self, budget: float) -> int | None:
        """Steps of the stage in a training that takes so many seconds, what is done beside the stage included.

        None where the stage was not there, or took no time.
        """
        if len(self.ends) < 2:
            return None
        spent = self.clock() - self._began
        beside = spent - (self.ends[-1] - self.ends[0])
        per_step = seconds_per_step([after - before for before, after in pairwise(self.ends)])
        return int(max(0.0, SHARE * (budget - spent) - beside) / per_step) if per_step > 0 else None


def seconds_per_step(seconds: Sequence[float]) -> float:
    """Mean over the pieces of a schedule of the median step in each: warm-up and single pauses do not count.

    The windows of the dynamics grow along the schedule, and steps get slower; a short training has all of them, as a
    long one has. The first steps, up to ten, count as those that follow them.
    """
    warm = min(WARM_UP, len(seconds) // 3)
    settled = [*([median(seconds[warm : 2 * warm])] * warm if warm else []), *seconds[warm:]]
    pieces = min(PIECES, len(settled))
    cuts = [round(k * len(settled) / pieces) for k in range(pieces + 1)]
    return fmean(median(settled[first:last]) for first, last in pairwise(cuts))


class _Clocked(Callback):
    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def on_train_start(self, *args: Any) -> None:
        self.pace.ends.append(self.pace.clock())

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.pace.ends.append(self.pace.clock())
