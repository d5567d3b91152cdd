"""Persistence: the field stays as it is."""

from __future__ import annotations

from typing import Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from romvae.baselines.base import Baseline, State, check_times, register
from romvae.baselines.stack import FieldStack
from romvae.progress import Progress

__all__ = ["Persistence"]


@register
class Persistence(Baseline):
    r"""Forecast :math:`u(t) = u(0)`: exact for a steady field, and hard to beat at short leads."""

    name = "persistence"

    def fit(
        self,
        train: xr.Dataset,
        *,
        validation: xr.Dataset | None = None,
        seed: int = 0,
        budget: float | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Remembers names and grid; there is nothing to fit."""
        self.stack = FieldStack.of(train)
        return self

    def rollout(self, start: xr.Dataset, times: ArrayLike) -> xr.Dataset:
        """The start at all times; see `Baseline.rollout`."""
        times = check_times(times)
        start = self.stack.start(start)
        return self.stack.dataset(np.repeat(self.stack.array(start)[:, None], len(times), axis=1), start, times)

    def _state(self) -> State:
        return State()

    def _restore(self, state: State) -> None:
        pass
