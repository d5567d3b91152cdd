"""Baselines that a ROM has to beat, all behind `fit`, `rollout`, `save` and `load`."""

from __future__ import annotations

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
from romvae.baselines.selection import default_baselines

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
    "register",
    "registered",
]
