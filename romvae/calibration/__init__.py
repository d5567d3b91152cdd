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
from romvae.calibration.exponent import EXPONENTS, raised_largest, scaled
from romvae.calibration.scalars import ScalarScores

__all__ = [
    "EXPONENTS",
    "LEVELS",
    "SHARES",
    "Bands",
    "Calibration",
    "Guarantee",
    "Interval",
    "ScalarScores",
    "conformal_quantile",
    "coverage_law",
    "raised_largest",
    "rank_of",
    "scaled",
    "share_quantile",
    "trajectories_needed",
]
