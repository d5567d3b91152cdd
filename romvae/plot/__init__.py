"""Figures: every function takes arrays or xarray objects and returns a matplotlib `Figure`.

Nothing here touches pyplot or a display. A figure belongs to the caller: save it with `svg`, `webp` or
`figure.savefig`, then `release` it.
"""

from __future__ import annotations

from romvae.plot.fields import FieldScale, forecast_maps, interval_lines, map_panel
from romvae.plot.skill import coverage_over_time, error_over_time, reliability, spread_skill
from romvae.plot.style import baseline_title, plain, release, svg, webp
from romvae.plot.training import kl_per_dimension, stage_seconds, training_curves

__all__ = [
    "FieldScale",
    "baseline_title",
    "coverage_over_time",
    "error_over_time",
    "forecast_maps",
    "interval_lines",
    "kl_per_dimension",
    "map_panel",
    "plain",
    "release",
    "reliability",
    "spread_skill",
    "stage_seconds",
    "svg",
    "training_curves",
    "webp",
]
