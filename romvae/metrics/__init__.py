"""Skill and calibration of forecasts against the truth.

Every function takes `DataArray`s of one field, or `Dataset`s whose variables are fields. Then the result is
per field: fields have different units, so nothing adds them up; `over_fields` averages unitless results.

Truth and forecast must have the same dims and exactly the same coordinates: a value is compared at its own
place and time, nothing is interpolated or silently dropped (`SchemaError` names the first difference).

The first snapshot of a rollout (lead 0) is its input, not a forecast. These functions take what they are
given: leave the initial time out first, as `romvae.compare` does.

Reductions are in float64; `dims=None` reduces over all dims, `dims=()` over none. NaN in gives NaN out:
nothing is skipped.
"""

from __future__ import annotations

from romvae.metrics.accuracy import nrmse, relative_l2, rmse, vrmse, worst_relative_l2
from romvae.metrics.intervals import coverage, coverage_fifths, interval_score, reliability
from romvae.metrics.matching import over_fields
from romvae.metrics.predictive import (
    gaussian_crps,
    gaussian_nll,
    pit,
    spearman,
    spearman_over_trajectories,
    spread_skill,
)
from romvae.metrics.resampling import Interval, bootstrap_over_trajectories, standard_error

__all__ = [
    "Interval",
    "bootstrap_over_trajectories",
    "coverage",
    "coverage_fifths",
    "gaussian_crps",
    "gaussian_nll",
    "interval_score",
    "nrmse",
    "over_fields",
    "pit",
    "relative_l2",
    "reliability",
    "rmse",
    "spearman",
    "spearman_over_trajectories",
    "spread_skill",
    "standard_error",
    "vrmse",
    "worst_relative_l2",
]
