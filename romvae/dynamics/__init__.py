"""Latent time evolution: one model per file behind `LatentDynamics`; `EnsembleDynamics` is what a ROM rolls out."""

from __future__ import annotations

from romvae.dynamics.base import EnsembleDynamics, LatentDynamics
from romvae.dynamics.fourier import FourierDynamics
from romvae.dynamics.gp import GpDynamics
from romvae.dynamics.gru import GruDynamics
from romvae.dynamics.linear import LinearDynamics
from romvae.dynamics.linear_ensemble import LinearEnsemble
from romvae.dynamics.ode import OdeDynamics
from romvae.dynamics.residual import ResidualDynamics
from romvae.dynamics.transformer import TransformerDynamics
from romvae.dynamics.transition import GaussianTransition

__all__ = [
    "EnsembleDynamics",
    "FourierDynamics",
    "GaussianTransition",
    "GpDynamics",
    "GruDynamics",
    "LatentDynamics",
    "LinearDynamics",
    "LinearEnsemble",
    "OdeDynamics",
    "ResidualDynamics",
    "TransformerDynamics",
]
