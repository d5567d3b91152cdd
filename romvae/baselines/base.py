"""What every baseline is: fitted to training trajectories, it forecasts from a start like a ROM does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from romvae.errors import DataError

__all__ = ["Baseline", "check_times"]


class Baseline(ABC):
    """A forecast that a ROM has to beat.

    A subclass sets `name` (the key in `metrics.json`) and writes `fit` and `rollout`.
    """

    name: str

    @abstractmethod
    def fit(self, train: xr.Dataset) -> Self:
        """Fits to training trajectories, dims `(trajectory, time, *space)`; returns itself."""

    @abstractmethod
    def rollout(self, start: xr.Dataset, times: ArrayLike) -> xr.Dataset:
        """Forecasts from a start.

        Arguments:
            start: Fields at `times[0]`, dims `(trajectory, *space)`, with parameters as coordinates; a `time`
                dim of size 1 and a missing `trajectory` dim (one trajectory) are accepted.
            times: Times of the forecast, the start's own first, in the data's time units.

        Returns:
            Mean fields in physical units, dims `(trajectory, time, *space)`; the first time is the start as
            the baseline represents it.
        """


def check_times(times: ArrayLike) -> NDArray[np.float64]:
    """Times of a forecast as float64: one or more, finite and increasing.

    Raises:
        DataError: They are not.
    """
    values = np.asarray(times, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all() or (np.diff(values) <= 0).any():
        raise DataError(
            f"baseline: times of shape {values.shape} are not one or more finite, increasing numbers. "
            "Pass the times of the forecast, the start's own first."
        )
    return values
