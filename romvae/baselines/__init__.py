"""Baselines that a ROM has to beat, all behind `fit`, `rollout`, `save` and `load`."""

from __future__ import annotations

import xarray as xr

from romvae.baselines.base import Baseline, register, registered
from romvae.baselines.climatology import Climatology
from romvae.baselines.dmd import DMD
from romvae.baselines.fno import FourierNeuralOperator
from romvae.baselines.opinf import OperatorInference
from romvae.baselines.persistence import Persistence
from romvae.baselines.pod import POD
from romvae.baselines.pod_gp import PODGaussianProcess
from romvae.baselines.pod_interpolation import PODInterpolation
from romvae.baselines.pod_linear import PODLinear
from romvae.baselines.pod_network import PODNetwork
from romvae.baselines.pod_rbf import PODRBF

__all__ = [
    "DMD",
    "POD",
    "Baseline",
    "Climatology",
    "FourierNeuralOperator",
    "OperatorInference",
    "PODGaussianProcess",
    "PODInterpolation",
    "PODLinear",
    "PODNetwork",
    "PODRBF",
    "Persistence",
    "default_baselines",
    "reasons_against",
    "register",
    "registered",
]

CHEAP = (Persistence, Climatology, PODLinear, PODRBF)
"""Baselines that need no extra and cost seconds: those of every comparison."""


def default_baselines(train: xr.Dataset, latent: int | None = None) -> list[Baseline]:
    """The baselines of every comparison that apply to these training trajectories, not fitted yet.

    Arguments:
        train: Training trajectories, dims `(trajectory, time, *space)`.
        latent: Number of modes of the linear ROM; None lets it choose, which makes it a stronger opponent.

    Returns:
        Persistence, climatology, POD with linear dynamics and, where initial fields follow from the parameters alone,
        POD with interpolation.
    """
    baselines = [PODLinear(latent) if kind is PODLinear else kind() for kind in CHEAP if kind.applies(train)]
    return list(baselines)


def reasons_against(train: xr.Dataset) -> dict[str, str]:
    """Why some of the baselines of every comparison do not apply to these trajectories, by name."""
    reasons = {kind.name: kind.reason_against(train) for kind in CHEAP}
    return {name: reason for name, reason in reasons.items() if reason}
