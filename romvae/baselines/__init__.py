"""Baselines that a ROM has to beat, all behind `fit` and `rollout`."""

from __future__ import annotations

import xarray as xr

from romvae.baselines.base import Baseline
from romvae.baselines.persistence import Persistence
from romvae.baselines.pod import POD
from romvae.baselines.pod_interpolation import PODInterpolation
from romvae.baselines.pod_linear import PODLinear
from romvae.ragged import ragged_lengths

__all__ = ["POD", "Baseline", "PODInterpolation", "PODLinear", "Persistence", "default_baselines"]


def default_baselines(train: xr.Dataset, latent: int) -> list[Baseline]:
    """The baselines that apply to these training trajectories, not fitted yet.

    Arguments:
        train: Training trajectories, dims `(trajectory, time, *space)`.
        latent: Latent dimension of the ROM, which the linear ROM gets too.

    Returns:
        Persistence, POD with linear dynamics and, where initial fields follow from the parameters alone, POD
        with interpolation; the last needs whole trajectories, so that it is left out where they differ in length.
    """
    baselines: list[Baseline] = [Persistence(), PODLinear(latent)]
    if ragged_lengths(train) is None and PODInterpolation.applies(train):
        baselines.append(PODInterpolation())
    return baselines
