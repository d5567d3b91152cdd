"""How sure a score is: trajectories are the independent samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, SupportsFloat

import numpy as np
import xarray as xr

from romvae.errors import ConfigError
from romvae.metrics.matching import Fields
from romvae.schema import TRAJECTORY

__all__ = ["Interval", "bootstrap_over_trajectories", "standard_error"]


def standard_error(per_trajectory: Fields) -> Fields:
    r"""Standard error :math:`\mathrm{std} / \sqrt n` of a mean over n trajectories; NaN for a single one."""
    count = per_trajectory.sizes[TRAJECTORY]
    if count < 2:
        return per_trajectory.isel({TRAJECTORY: 0}, drop=True) * np.nan
    return per_trajectory.std(TRAJECTORY, ddof=1, skipna=False) / count**0.5


class Interval(NamedTuple):
    """An estimate with its confidence bounds."""

    estimate: float
    low: float
    high: float


def bootstrap_over_trajectories(
    statistic: Callable[..., SupportsFloat],
    *arrays: xr.DataArray | xr.Dataset,
    level: float = 0.9,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic: whole trajectories are drawn with replacement.

    Quick where `arrays` are reduced to one value per trajectory first (sums of squares, coverages). With
    fewer than ten trajectories percentile intervals are too narrow.

    Arguments:
        statistic: Function of the arrays that returns one number.
        arrays: Data with a `trajectory` dim, all resampled alike.
        level: Confidence level.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.

    Raises:
        ConfigError: `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ConfigError(f"bootstrap: level is {level}, expected between 0 and 1. Pass 0.9 for 90 %.")
    count = arrays[0].sizes[TRAJECTORY]
    choices = np.random.default_rng(seed).integers(count, size=(resamples, count))
    draws = [float(statistic(*(array.isel({TRAJECTORY: chosen}) for array in arrays))) for chosen in choices]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(*arrays)), float(low), float(high))
