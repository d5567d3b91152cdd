"""Assimilation: sparse noisy observations taken into the latent state, by ensemble Kalman filters and 4D-Var."""

from __future__ import annotations

from romvae.assimilation.analysis import Method, assimilate
from romvae.assimilation.filters import etkf, perturbed_observations
from romvae.assimilation.sensors import Sensors, observe
from romvae.assimilation.table import read_observations
from romvae.assimilation.variational import Variational

__all__ = [
    "Method",
    "Sensors",
    "Variational",
    "assimilate",
    "etkf",
    "observe",
    "perturbed_observations",
    "read_observations",
]
