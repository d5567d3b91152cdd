"""Comparison of a ROM with held-out reference solutions, baselines, and the reference solver at equal accuracy."""

from __future__ import annotations

from romvae.comparison.measure import compare
from romvae.comparison.ranking import Ranking, rank
from romvae.comparison.result import Comparison

__all__ = ["Comparison", "Ranking", "compare", "rank"]
