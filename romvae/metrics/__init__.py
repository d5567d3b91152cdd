"""Skill and calibration of forecasts against the truth.

Every function takes `DataArray`s of one field, or `Dataset`s whose variables are fields. Then the result is
per field: fields have different units, so nothing adds them up; `over_fields` averages unitless results.

Truth and forecast must have the same dims and exactly the same coordinates: a value is compared at its own
place and time, nothing is interpolated or silently dropped (`SchemaError` names the first difference).

The first snapshot of a rollout (lead 0) is its input, not a forecast. These functions take what they are
given: leave the initial time out first, as `romvae.compare` does.

Points outside of the domain are no data: `in_domain` takes them out of all arguments first; `ssim` has a mask of its
own, and spectra want zero there.

Reductions are in float64; `dims=None` reduces over all dims, `dims=()` over none. NaN in gives NaN out:
nothing is skipped.
"""

from __future__ import annotations

from romvae.metrics.accuracy import nrmse, relative_l2, rmse, vrmse, worst_relative_l2
from romvae.metrics.attractors import FieldStatistics, attractor, attractor_differences, long_run
from romvae.metrics.ensembles import energy_score, ensemble_crps, rank_histogram
from romvae.metrics.horizon import conservation, valid_prediction_time
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
from romvae.metrics.resampling import (
    Interval,
    bootstrap_curves,
    bootstrap_over_trajectories,
    bootstrap_rows,
    sign_flip_p_value,
    standard_error,
)
from romvae.metrics.sharpness import ause, in_domain, pit_histogram, sparsification
from romvae.metrics.similarity import ssim
from romvae.metrics.spectra import spectral_error, spectrum

__all__ = [
    "FieldStatistics",
    "Interval",
    "attractor",
    "attractor_differences",
    "ause",
    "bootstrap_curves",
    "bootstrap_over_trajectories",
    "bootstrap_rows",
    "conservation",
    "coverage",
    "coverage_fifths",
    "energy_score",
    "ensemble_crps",
    "gaussian_crps",
    "gaussian_nll",
    "in_domain",
    "interval_score",
    "long_run",
    "nrmse",
    "over_fields",
    "pit",
    "pit_histogram",
    "rank_histogram",
    "relative_l2",
    "reliability",
    "rmse",
    "sign_flip_p_value",
    "sparsification",
    "spearman",
    "spearman_over_trajectories",
    "spectral_error",
    "spectrum",
    "spread_skill",
    "ssim",
    "standard_error",
    "valid_prediction_time",
    "vrmse",
    "worst_relative_l2",
]
