"""Whether intervals hold what they promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from scipy import stats

from romvae.errors import DataError
from romvae.metrics.matching import Dims, Fields, mean_over, over_fields, per_field, space_dims
from romvae.metrics.resampling import standard_error
from romvae.schema import TIME, TRAJECTORY

__all__ = ["LEVELS", "coverage", "coverage_fifths", "fifths_of", "interval_score", "reliability"]

LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Nominal levels 0.05, 0.10, ..., 0.95."""


def coverage(truth: Fields, lower: Fields, upper: Fields, dims: Dims = None) -> Fields:
    r"""Fraction of truth values with :math:`lower \le u \le upper`, mean over `dims`; NaN is outside."""

    def one(u: xr.DataArray, low: xr.DataArray, high: xr.DataArray) -> xr.DataArray:
        return mean_over(((low <= u) & (u <= high)).astype(np.float64), dims)

    return per_field("coverage", one, truth, lower, upper)


def coverage_fifths(truth: Fields, lower: Fields, upper: Fields, parts: int = 5) -> xr.Dataset:
    r"""Coverage in equal parts of the horizon, with the standard error over trajectories.

    First the coverage of each trajectory over space and over the times of a part (and its mean over fields);
    then the mean over the n trajectories and :math:`\mathrm{std} / \sqrt n`, because values of one trajectory
    are not independent.

    Arguments:
        truth: Reference fields, without the initial time.
        lower: Lower bounds.
        upper: Upper bounds.
        parts: Number of parts; if it does not divide the number of times, the first parts get one more.

    Returns:
        `coverage` and `standard_error`, dims `(part,)`; coords `first_time` and `last_time` of each part.

    Raises:
        DataError: There are fewer times than parts.
    """
    return fifths_of(over_fields(coverage(truth, lower, upper, space_dims(truth))), parts)


def fifths_of(inside: xr.DataArray, parts: int = 5) -> xr.Dataset:
    """As `coverage_fifths`, of the coverage of every snapshot, dims `(trajectory, time)`; times are optional."""
    count = inside.sizes.get(TIME, 0)
    if count < parts:
        raise DataError(f"coverage_fifths: {count} times, expected {parts} or more. Roll out further.")
    windows = np.array_split(np.arange(count), parts)
    per_trajectory = xr.concat([mean_over(inside.isel({TIME: window}), TIME) for window in windows], "part")
    times = inside[TIME].values
    return xr.Dataset(
        {"coverage": mean_over(per_trajectory, TRAJECTORY), "standard_error": standard_error(per_trajectory)},
        coords={
            "first_time": ("part", [times[window[0]] for window in windows]),
            "last_time": ("part", [times[window[-1]] for window in windows]),
        },
    )


def interval_score(truth: Fields, lower: Fields, upper: Fields, level: float, dims: Dims = None) -> Fields:
    r"""Width of the interval plus :math:`2 / (1 - level)` times how far the truth lies outside.

    Mean over `dims`, in the field's units. Proper: least for the central interval of the true distribution.

    Arguments:
        truth: Reference fields.
        lower: Lower bounds.
        upper: Upper bounds.
        level: Nominal level, 0.9 for a 90 % interval.
        dims: Dims to reduce over.

    Raises:
        DataError: `level` is not between 0 and 1.

    References:
        Gneiting and Raftery (2007), Strictly proper scoring rules, prediction, and estimation,
        doi:10.1198/016214506000001437.
    """
    if not 0 < level < 1:
        raise DataError(f"interval_score: level is {level}, expected between 0 and 1. Pass 0.9 for 90 %.")

    def one(u: xr.DataArray, low: xr.DataArray, high: xr.DataArray) -> xr.DataArray:
        outside = (low - u).clip(min=0) + (u - high).clip(min=0)
        return mean_over(high - low + 2 / (1 - level) * outside, dims)

    return per_field("interval_score", one, truth, lower, upper)


def gaussian_half_width(level: float) -> float:
    """Half width of the central interval of a Gaussian in standard deviations."""
    return float(stats.norm.ppf(0.5 + level / 2))


def reliability(
    truth: Fields,
    mean: Fields,
    std: Fields,
    dims: Dims = None,
    levels: Sequence[float] = LEVELS,
    half_width: Callable[[float], float] = gaussian_half_width,
) -> Fields:
    """Empirical coverage of central intervals against their nominal level; calibrated on the diagonal.

    Arguments:
        truth: Reference fields.
        mean: Forecast mean.
        std: Forecast standard deviation.
        dims: Dims to reduce over.
        levels: Nominal levels.
        half_width: Half width of an interval in standard deviations as a function of its level: the Gaussian
            quantile, or a calibrated model's own.

    Returns:
        Coverage with a leading dim `level`.
    """

    def one(u: xr.DataArray, m: xr.DataArray, s: xr.DataArray) -> xr.DataArray:
        distance = abs(u - m)
        inside = [mean_over((distance <= half_width(level) * s).astype(np.float64), dims) for level in levels]
        return xr.concat(inside, xr.DataArray(list(levels), dims="level", name="level"))

    return per_field("reliability", one, truth, mean, std)
