"""Forecasts of held-out trajectories, some of them at a time: what is kept of them is small, they themselves are not.

    forecasts.each(lambda rows, forecast: tally.add(test.isel(trajectory=rows), forecast))

A forecast has eight variables for each field, and scores make double precision copies of them. So trajectories are
rolled out, scored and let go, and memory holds the same few of them however many there are.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import xarray as xr

from romvae.baselines.model import BaselineModel
from romvae.errors import FewMembersWarning
from romvae.forecast import BLOCK, Request, forecast, together
from romvae.schema import TIME, TRAJECTORY
from romvae.start import start_of

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["Forecasts", "portions", "rolled"]

SCORED, ROLLED = 2**21, 2**23
"""Values of the truth that are scored at once, about 100 bytes each, and that are forecast at once, about 32 bytes."""

Take = Callable[[slice, xr.Dataset], None]


def portions(test: xr.Dataset, names: Sequence[str], first: int = 0, last: int | None = None) -> Iterator[slice]:
    """Neighbouring trajectories that may be scored together, one after the other.

    Arguments:
        test: Trajectories.
        names: Fields.
        first: Number of the first trajectory.
        last: Number after the last one; None takes all.
    """
    last = test.sizes[TRAJECTORY] if last is None else last
    size = max(1, SCORED // _values(test, names))
    for begin in range(first, last, size):
        yield slice(begin, min(begin + size, last))


@dataclass
class Forecasts:
    """A model's forecasts of all trajectories from their first fields, see `romvae.start`.

    Blocks are whole multiples of those in which `ROM.rollout` computes, and members follow from a trajectory's place:
    every forecast is that of one rollout of all, to the bit.

    Arguments:
        model: What forecasts.
        test: Whole trajectories, with all times that a forecast starts from.
        ask: Steps, members, seed and level.
        progress: Called with the number of trajectories that are done.

    Attributes:
        seconds: Wall-clock that the rollouts took so far.
    """

    model: Model
    test: xr.Dataset
    ask: Request
    progress: Callable[[int], None] = field(default=lambda done: None)
    seconds: float = 0.0
    _whole: xr.Dataset | None = None

    def each(self, take: Take) -> None:
        """Calls `take` with the numbers of some trajectories and their forecast, which it must not keep."""
        count, size = self.test.sizes[TRAJECTORY], self._together()
        names = list(self.model.schema.field_names)
        for first in range(0, count, size):
            last = min(first + size, count)
            made = self._made(slice(first, last), quiet=first > 0)
            if size >= count:
                self._whole = made
            self.progress(last)
            for rows in portions(self.test, names, first, last):
                take(rows, made.isel({TRAJECTORY: slice(rows.start - first, rows.stop - first)}))
            del made  # before the next is computed

    def of(self, rows: Sequence[int]) -> xr.Dataset:
        """Forecasts of a few trajectories, which are computed again, one by one, where they were let go."""
        if self._whole is not None:
            return self._whole.isel({TRAJECTORY: list(rows)})
        each = [self._made(slice(row, row + 1), quiet=True) for row in rows]
        return xr.concat(each, TRAJECTORY, data_vars="minimal", coords="minimal", compat="override", join="override")

    def again(self, rows: slice) -> Iterator[xr.Dataset]:
        """Forecasts of neighbouring trajectories once more, as many at once as before."""
        size = self._together()
        for first in range(rows.start, rows.stop, size):
            yield self._made(slice(first, min(first + size, rows.stop)), quiet=True)

    def _together(self) -> int:
        least = BLOCK if isinstance(self.model, BaselineModel) else together(self.model, self.ask)
        values = _values(self.test, list(self.model.schema.field_names))
        return least * max(1, ROLLED // (least * values))

    def _made(self, rows: slice, quiet: bool) -> xr.Dataset:
        some = self.test.isel({TRAJECTORY: rows})
        begin = time.perf_counter()
        with warnings.catch_warnings():
            if quiet:  # said of the first block already
                warnings.simplefilter("ignore", FewMembersWarning)
            made = rolled(self.model, some, replace(self.ask, first=rows.start))
        self.seconds += time.perf_counter() - begin
        return made.assign_coords({TIME: self.test[TIME][self.model.start_times - 1 :]})


def rolled(model: Model, some: xr.Dataset, ask: Request) -> xr.Dataset:
    """The forecast of whole trajectories that are driven by their own controls, if there are any."""
    start = start_of(model, some)
    if isinstance(model, BaselineModel):
        return model.rollout(start, ask.steps, level=ask.level)
    return forecast(model, start, ask, some if model.schema.controls else None)


def _values(test: xr.Dataset, names: Sequence[str]) -> int:
    """Values of a trajectory."""
    return len(names) * math.prod(size for dim, size in test[names[0]].sizes.items() if dim != TRAJECTORY)
