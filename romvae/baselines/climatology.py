"""Climatology: what the fields are on average at this time."""

from __future__ import annotations

from typing import Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from romvae.baselines.base import Baseline, State, check_times, register
from romvae.baselines.keeping import expect_shape
from romvae.baselines.stack import FieldStack
from romvae.progress import Progress
from romvae.ragged import existing, ragged_lengths
from romvae.schema import TIME

__all__ = ["Climatology"]


@register
class Climatology(Baseline):
    r"""Forecast :math:`u(t) = \overline{u(t)}`, the mean of the training trajectories at each stored time.

    The start is ignored. It is the best forecast of all that know nothing of the start, in the squared error, and what
    every forecast of a chaotic problem should end at. Between stored times it is interpolated linearly; after the last
    one it stays.

    Attributes:
        mean: Mean fields, `(time, field, point)`, float64.
        times: Stored times.
    """

    name = "climatology"

    def fit(
        self,
        train: xr.Dataset,
        *,
        validation: xr.Dataset | None = None,
        seed: int = 0,
        budget: float | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Takes the mean over trajectories; of trajectories that end early, over those that reach the time."""
        self.stack = FieldStack.of(train)
        u = self.stack.array(train)
        self.times = check_times(train[TIME].values)
        lengths = ragged_lengths(train)
        if lengths is None:
            self.mean: NDArray[np.float64] = u.mean(axis=0, dtype=np.float64)
            return self
        kept = existing(lengths, u.shape[1])
        there = kept.sum(0) > 0
        self.times = self.times[there]
        total = np.where(kept[..., None, None], u, 0).sum(axis=0, dtype=np.float64)
        self.mean = total[there] / kept.sum(0)[there, None, None]
        return self

    def rollout(self, start: xr.Dataset, times: ArrayLike) -> xr.Dataset:
        """The mean at each time, the same for every trajectory; see `Baseline.rollout`."""
        times = check_times(times)
        start = self.stack.start(start)
        place = np.interp(times, self.times, np.arange(len(self.times), dtype=np.float64))
        nearest = np.round(place)
        # Times in single precision are those that they stand for.
        place = np.where(np.abs(place - nearest) < 1e-5, nearest, place)
        below = np.minimum(place.astype(int), max(0, len(self.times) - 2))
        share = (place - below)[:, None, None]
        above = np.minimum(below + 1, len(self.times) - 1)
        path = (1 - share) * self.mean[below] + share * self.mean[above]
        count = len(self.stack.array(start))
        return self.stack.dataset(np.broadcast_to(path, (count, *path.shape)), start, times)

    def _state(self) -> State:
        return State({}, {"mean": self.mean, "times": self.times})

    def _restore(self, state: State) -> None:
        self.times = check_times(state.arrays["times"])
        shape = (len(self.times), len(self.stack.fields), int(np.prod(self.stack.shape)))
        self.mean = expect_shape("mean", state.arrays["mean"], *shape)
