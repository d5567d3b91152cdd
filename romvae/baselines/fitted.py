"""A baseline that was fitted before, in the place of one that is still to be fitted."""

from __future__ import annotations

from typing import Any, Self

import xarray as xr
from numpy.typing import ArrayLike

from romvae.baselines.base import Baseline, State

__all__ = ["Fitted"]


class Fitted(Baseline):
    """A baseline that was fitted before: `fit` gives it as it is.

    Arguments:
        baseline: The fitted baseline.
        name: Another name than its own.
    """

    def __init__(self, baseline: Baseline, name: str = "") -> None:
        super().__init__()
        self.name, self.choice, self._baseline = name or baseline.name, baseline.choice, baseline  # type: ignore[misc]

    def fit(self, train: xr.Dataset, **options: Any) -> Self:
        """Itself, whatever is given."""
        return self

    def rollout(self, start: xr.Dataset, times: ArrayLike) -> xr.Dataset:
        """The baseline's forecast."""
        return self._baseline.rollout(start, times)

    def _state(self) -> State:
        return self._baseline._state()

    def _restore(self, state: State) -> None:
        self._baseline._restore(state)
