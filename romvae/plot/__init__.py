"""Figures: every function takes arrays or xarray objects and returns a matplotlib `Figure`.

Nothing here touches pyplot or a display. A figure belongs to the caller: save it with `svg`, `webp` or
`figure.savefig`, then `release` it.
"""

from __future__ import annotations

from romvae.plot.calibration import pit_histogram, sparsification, spectra
from romvae.plot.cost import cost_accuracy, differences
from romvae.plot.fields import FieldScale, forecast_maps, interval_lines, map_panel
from romvae.plot.gallery import gallery, manifold, traversal
from romvae.plot.latent import (
    activity_bars,
    interpolation,
    latent_size,
    latent_trajectories,
    projection,
    typicality,
)
from romvae.plot.skill import (
    coverage_over_time,
    error_of_runs,
    error_over_time,
    reliability,
    scores_over_time,
    spread_skill,
)
from romvae.plot.study import study_figure
from romvae.plot.style import baseline_title, plain, release, svg, webp
from romvae.plot.training import kl_per_dimension, stage_seconds, training_curves

__all__ = [
    "FieldScale",
    "activity_bars",
    "baseline_title",
    "cost_accuracy",
    "coverage_over_time",
    "differences",
    "error_of_runs",
    "error_over_time",
    "forecast_maps",
    "gallery",
    "interpolation",
    "interval_lines",
    "kl_per_dimension",
    "latent_size",
    "latent_trajectories",
    "manifold",
    "map_panel",
    "pit_histogram",
    "plain",
    "projection",
    "release",
    "reliability",
    "scores_over_time",
    "sparsification",
    "spectra",
    "spread_skill",
    "stage_seconds",
    "study_figure",
    "svg",
    "training_curves",
    "traversal",
    "typicality",
    "webp",
]
