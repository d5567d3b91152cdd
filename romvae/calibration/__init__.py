"""Calibration of forecast variances and intervals on trajectories of their own."""

from __future__ import annotations

from romvae.calibration.bands import SHARES, Bands, Interval
from romvae.calibration.calibration import LEVELS, Calibration
from romvae.calibration.conformal import (
    Guarantee,
    conformal_quantile,
    coverage_law,
    rank_of,
    share_quantile,
    trajectories_needed,
)
from romvae.calibration.parts import PartWeights
from romvae.calibration.reach import calibrated_steps, warn_beyond
from romvae.calibration.runs import RunFactor, graded, run_features
from romvae.calibration.scalars import ScalarScores
from romvae.calibration.spread import frontier, scaled

__all__ = [
    "LEVELS",
    "SHARES",
    "Bands",
    "Calibration",
    "Guarantee",
    "Interval",
    "PartWeights",
    "RunFactor",
    "ScalarScores",
    "calibrated_steps",
    "conformal_quantile",
    "coverage_law",
    "frontier",
    "graded",
    "rank_of",
    "run_features",
    "scaled",
    "share_quantile",
    "trajectories_needed",
    "warn_beyond",
]
