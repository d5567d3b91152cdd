"""POD with linear dynamics: the linear ROM of the same latent dimension."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from itertools import product
from typing import Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from romvae.baselines.base import Baseline, check_times
from romvae.baselines.pod import POD
from romvae.baselines.stack import FieldStack
from romvae.check import uniform_step
from romvae.dynamics.linear import LinearDynamics
from romvae.errors import SchemaError
from romvae.ragged import existing, ragged_lengths
from romvae.schema import TIME

__all__ = ["PODLinear"]

logger = logging.getLogger("romvae.baselines")

RIDGES = (0.0, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class _Settings:
    """Settings of `LinearDynamics`."""

    ridge: float = 1e-6
    parametric: bool = False
    stable: bool = True


class PODLinear(Baseline):
    r"""POD coefficients :math:`a' = A(c)\, a + B c + b`, decoded by the modes.

    The ridge, whether A depends on the parameters and whether eigenvalues are kept inside the unit circle are
    chosen by the rollout error on a held-out fifth of the training trajectories; then all are used to fit. Trajectories
    may differ in length: what lies beyond an end is neither fitted nor scored.

    Arguments:
        rank: Number of modes; a fair comparison gives it the latent dimension of the ROM.

    Attributes:
        pod: The fitted `POD`.
        dynamics: The fitted `LinearDynamics`, float64.
        choice: The chosen settings and the held-out relative rollout error.
    """

    name = "pod_linear"

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def fit(self, train: xr.Dataset) -> Self:
        """Chooses the settings on a held-out fifth, then fits to all trajectories."""
        self.stack = FieldStack.of(train)
        u, c = self.stack.array(train), self.stack.parameter_array(train)
        self.dt = _uniform_dt(train[TIME].values)
        lengths = ragged_lengths(train)
        kept = np.ones(u.shape[:2], dtype=bool) if lengths is None else existing(lengths, u.shape[1])
        if lengths is not None:
            u = np.where(kept[..., None, None], u, u.dtype.type(0))  # whatever stands there is no value of the field
        settings = self._chosen(u, c, kept)
        self.pod = POD(self.rank).fit(_snapshots(u, kept))
        z = torch.from_numpy(self.pod.project(u))
        self.dynamics = LinearDynamics(self.pod.rank, c.shape[1], **asdict(settings)).double()
        self.dynamics.fit(*_paths(z, torch.from_numpy(c), kept), self.dt)
        return self

    def rollout(self, start: xr.Dataset, times: ArrayLike) -> xr.Dataset:
        """Forecast of the mean; see `Baseline.rollout`.

        Raises:
            SchemaError: Times are not uniform, or the start does not fit the training data.
            NumericsError: The linear map has no real power for this time step.
        """
        stored, times = times, check_times(times)
        dt = _uniform_dt(stored) if len(times) > 1 else self.dt
        start = self.stack.start(start)
        z0 = torch.from_numpy(self.pod.project(self.stack.array(start)))
        c = torch.from_numpy(self.stack.parameter_array(start))
        path = self.dynamics.rollout(z0, c, dt, len(times) - 1).numpy()
        return self.stack.dataset(self.pod.reconstruct(path.swapaxes(0, 1)), start, times)

    def _chosen(self, u: NDArray[np.floating], c: NDArray[np.float64], there: NDArray[np.bool_]) -> _Settings:
        """Settings with the least pooled rollout error on a fifth of the trajectories."""
        order = np.random.default_rng(0).permutation(len(u))
        fifth = max(1, round(len(u) / 5))
        held, kept = (order[:fifth], order[fifth:]) if len(u) > 1 else (order, order)
        pod = POD(self.rank).fit(_snapshots(u[kept], there[kept]))
        kept_z, held_z = torch.from_numpy(pod.project(u[kept])), torch.from_numpy(pod.project(u[held]))
        kept_c, held_c = torch.from_numpy(c[kept]), torch.from_numpy(c[held])
        best, least = _Settings(), np.inf
        for ridge, parametric in product(RIDGES, (False, True) if c.shape[1] else (False,)):
            dynamics = LinearDynamics(pod.rank, c.shape[1], parametric=parametric, ridge=ridge).double()
            dynamics.fit(*_paths(kept_z, kept_c, there[kept]), self.dt)
            for stable in (False, True):
                dynamics.stable = stable
                path = dynamics.rollout(held_z[:, 0], held_c, self.dt, held_z.shape[1] - 1).transpose(0, 1)
                if there[held].all():
                    error = float((path - held_z).norm() / held_z.norm())
                else:
                    some = torch.from_numpy(there[held])
                    error = float((path[some] - held_z[some]).norm() / held_z[some].norm())
                if error < least:
                    best, least = _Settings(ridge, parametric, stable), error
        self.choice = {**asdict(best), "held_out_error": least}
        logger.info("pod_linear: %s", self.choice)
        return best


def _snapshots(u: NDArray[np.floating], kept: NDArray[np.bool_]) -> NDArray[np.floating]:
    """All snapshots that there are, in a row."""
    return u.reshape(-1, *u.shape[2:]) if kept.all() else u[kept]


def _paths(z: torch.Tensor, c: torch.Tensor, kept: NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients and parameters to fit to: whole trajectories, or all pairs of neighbours where they are ragged."""
    if kept.all():
        return z, c
    trajectory, time = torch.from_numpy(kept[:, 1:]).nonzero(as_tuple=True)
    return torch.stack([z[trajectory, time], z[trajectory, time + 1]], 1), c[trajectory]


def _uniform_dt(times: ArrayLike) -> float:
    """The time step; times are taken in the type they are stored in, whose rounding is no fault of theirs."""
    stored = np.asarray(times)
    check_times(stored)
    if stored.size < 2:
        raise SchemaError("pod_linear: has one time only, expected two or more. Give a longer series.")
    return uniform_step(xr.DataArray(stored, dims=TIME), "pod_linear")
