"""How sure a score is: trajectories are the independent samples."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple, SupportsFloat

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from romvae.errors import ConfigError
from romvae.metrics.matching import Fields
from romvae.schema import TRAJECTORY

__all__ = [
    "Interval",
    "Statistic",
    "bootstrap_curves",
    "bootstrap_over_trajectories",
    "bootstrap_rows",
    "sign_flip_p_value",
    "standard_error",
]

Statistic = Callable[[NDArray[np.intp]], NDArray[np.float64]]
"""From numbers of trajectories `(..., trajectory)`, repetitions allowed, to one value for each row of them `(...)`."""

_EXACT = 12  # up to so many trajectories all 2^n exchanges are counted instead of drawn


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


def bootstrap_rows(
    statistic: Statistic, count: int, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """BCa bootstrap interval of a statistic of numbered trajectories, all samples computed in one go.

    BCa (bias-corrected and accelerated) shifts the percentiles by what the jackknife says of bias and skewness, which
    errors over trajectories have. Where it is not defined (a statistic that hardly varies) the percentiles are given,
    and bounds are NaN for a single trajectory, of which nothing can be drawn. Both kinds are too narrow for fewer
    than about ten trajectories.

    Arguments:
        statistic: See `Statistic`. Differences between forecasts are paired if it computes both from the same rows.
        count: Number of trajectories.
        level: Confidence level.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.

    Raises:
        ConfigError: `level` is not between 0 and 1.

    References:
        Efron (1987), Better bootstrap confidence intervals, doi:10.1080/01621459.1987.10478410.
    """
    if not 0 < level < 1:
        raise ConfigError(f"bootstrap: level is {level}, expected between 0 and 1. Pass 0.95 for 95 %.")
    rows = np.arange(count)
    estimate = float(statistic(rows))
    if count < 2 or not np.isfinite(estimate):
        return Interval(estimate, float("nan"), float("nan"))
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (rows,),
            lambda chosen, axis: statistic(np.moveaxis(chosen, axis, -1)),
            vectorized=True,
            confidence_level=level,
            n_resamples=resamples,
            method="BCa",
            rng=np.random.default_rng(seed),
        )
    low, high = found.confidence_interval
    if not (np.isfinite(low) and np.isfinite(high)):
        low, high = np.nanquantile(found.bootstrap_distribution, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def bootstrap_curves(
    wrong: NDArray[np.float64], size: NDArray[np.float64], level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile bootstrap band of the pooled relative error over time.

    Arguments:
        wrong: Squared error of each trajectory, summed over space, `(field, trajectory, time)`.
        size: Squared truth, likewise.
        level: Confidence level at each time.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.

    Returns:
        Lower and upper bounds `(time,)`; NaN for a single trajectory.
    """
    count = wrong.shape[1]
    if count < 2:
        blank = np.full(wrong.shape[2], np.nan)
        return blank, blank
    # How often each trajectory was drawn: a sample's sums are then one product of matrices.
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        curves = np.sqrt(((weights @ wrong) / (weights @ size)).mean(axis=0))
    low, high = np.quantile(curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def sign_flip_p_value(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    draws: int = 10000,
    seed: int = 0,
) -> float:
    r"""Two-sided p-value of the difference of two paired forecasts, by exchanging them within trajectories.

    If neither were better, exchanging the two within any trajectory would change nothing but chance. The p-value is
    the share of exchanges with at least the difference that was found; all :math:`2^n` are counted for up to 12
    trajectories, else `draws` random ones, itself among them, so that it is never zero.

    Arguments:
        first: What the statistic of the first forecast is made of, `(..., trajectory)`, such as squared errors.
        second: The same of the second.
        statistic: From such values, with rows of exchanges before them `(exchange, ..., trajectory)`, to `(exchange,)`.
        draws: Number of random exchanges.
        seed: Seed of the exchanges.

    References:
        Good (2005), Permutation, Parametric and Bootstrap Tests of Hypotheses, doi:10.1007/b138696.
    """
    count = first.shape[-1]
    if count <= _EXACT:
        swap = (np.arange(2**count)[:, None] >> np.arange(count)) & 1 == 1
    else:
        swap = np.random.default_rng(seed).random((draws, count)) < 0.5
        swap[0] = False
    swap = swap.reshape(len(swap), *(1,) * (first.ndim - 1), count)
    gaps = statistic(np.where(swap, second, first)) - statistic(np.where(swap, first, second))
    # The exchange of nothing is gaps[0]; round-off must not make an equal difference look smaller.
    return float(np.mean(np.abs(gaps) >= abs(gaps[0]) * (1 - 1e-9)))
