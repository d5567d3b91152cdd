"""Latent time evolution: one model per file behind `LatentDynamics`."""

from __future__ import annotations

from romvae.dynamics.base import LatentDynamics
from romvae.dynamics.linear import LinearDynamics
from romvae.dynamics.residual import ResidualDynamics

__all__ = ["LatentDynamics", "LinearDynamics", "ResidualDynamics"]
