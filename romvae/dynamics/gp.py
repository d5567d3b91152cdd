"""Linear dynamics of every training trajectory, interpolated over the parameters by a Gaussian process."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from romvae.batched_solve import solve
from romvae.dynamics.affine import AffineDynamics, affine_features, fitted
from romvae.dynamics.gaussian_process import GaussianProcess, kernel
from romvae.dynamics.groups import Groups
from romvae.errors import ConfigError

__all__ = ["GpDynamics"]

LARGEST = 256
"""Rows that are used; of more, evenly chosen trajectories with as many copies of each as there is room for."""
RIDGES = (1e-6, 1e-3, 1e-1)
"""Penalties on a trajectory's own part, among which the held-out trajectories choose."""


class GpDynamics(AffineDynamics):
    r"""Affine dynamics :math:`z' = (A(c) + \delta A(c))\, z + b(c) + \delta b(c)`, the deltas from a Gaussian process.

    The common part depends linearly on the parameters, by least squares over all trajectories. What one trajectory
    adds to it, :math:`\delta A, \delta b`, is fitted to that trajectory and its copies alone (with a ridge penalty,
    because a single trajectory seldom visits all directions) and interpolated over the parameters, one point for each.
    The members are samples of the process, moved so that their mean is that of the process (and widened by
    sqrt(M / (M - 1)), since M members share that mean; a single one is that mean): their disagreement grows away from
    the training parameters.

    This is right where trajectories differ by their parameters, initial fields included; where initial fields are
    random, the parameters do not determine the trajectory and the process finds noise. At most 256 trajectories are
    used, and more than one copy of each where there are fewer.

    Arguments:
        latent, parameters, dt, stride, members, controls, stable: As in `AffineDynamics`; at least one parameter.
        seed: Seed of the samples.

    References:
        Bonneville et al. (2024), GPLaSDI: Gaussian process-based interpretable latent space dynamics identification
        through deep autoencoder, arXiv:2308.05882.
    """

    sample: Tensor
    common: Tensor
    points: Tensor
    weights: Tensor
    amplitude: Tensor
    inverse: Tensor
    length: Tensor

    def __init__(
        self,
        latent: int,
        parameters: int,
        dt: float,
        stride: int = 1,
        members: int = 4,
        seed: int = 0,
        *,
        controls: int = 0,
        stable: bool = True,
    ) -> None:
        super().__init__(latent, parameters, dt, stride, members, controls, stable)
        if self.fixed < 1:
            raise ConfigError(
                "GpDynamics: the data have no parameter to interpolate over. Choose dynamics='linear', or declare the "
                "parameter with romvae_role='parameter'."
            )
        generator = torch.Generator().manual_seed(seed)
        sample = torch.randn(members, latent + 1, latent, generator=generator, dtype=torch.float64)
        features = latent + parameters + self.fixed * latent + 1
        for name, shape in {
            "common": (stride, features, latent),
            "points": (1, self.fixed),
            "weights": (stride, 1, latent + 1, latent),
            "amplitude": (stride, latent + 1, latent),
            "inverse": (1, 1),
        }.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("sample", _centred(sample))
        self.register_buffer("length", torch.ones(self.fixed, dtype=torch.float64))

    def operators(self, c: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        d, p, common = self.latent, self.parameters_in, self.common[step - 1]
        c = c.to(common).expand(self.members, -1, -1)
        near = kernel(c, self.points, self.length)  # (member, batch, point)
        delta = torch.einsum("mbn,nfi->mbfi", near, self.weights[step - 1])
        left = (1 - (near @ self.inverse * near).sum(-1)).clamp_min(0.0)
        delta = delta + left.sqrt()[..., None, None] * (self.amplitude[step - 1].sqrt() * self.sample)[:, None]
        eye = torch.eye(d).to(common)
        linear = common[:d] + torch.einsum("mbp,pij->mbij", c, common[d + p : -1].reshape(self.fixed, d, d))
        offset = c @ common[d : d + self.fixed] + common[-1] + delta[..., -1, :]
        forced = common[d + self.fixed : d + p].expand(self.members, -1, -1)
        return (eye + linear + delta[..., :-1, :]).mT, offset, forced

    @torch.no_grad()
    def start_from_linear(
        self,
        z: Tensor,
        c: Tensor,
        controls: Tensor | None = None,
        *,
        group: Tensor | None = None,
        precision: Tensor | None = None,
        log_range: Tensor | None = None,
    ) -> None:
        """The whole fit, in float64 on the CPU."""
        groups = Groups.read(group, len(z))
        rows = groups.thinned(LARGEST)
        z, c, groups = z[rows].detach().cpu().double(), c[rows].detach().cpu().double(), groups.among(rows)
        controls = None if controls is None else controls[rows].detach().cpu().double()
        points = c[groups.first]
        common, residual = self._common(z, c, controls, self.stride)
        ridge = self._choice(z, points, residual, groups)
        process = GaussianProcess(points, _deltas(z[:, : -self.stride], residual, ridge, groups).flatten(1))
        weights, amplitude, commons = [], [], []
        for step in range(1, self.stride + 1):
            common, residual = self._common(z, c, controls, step)
            deltas = _deltas(z[:, :-step], residual, ridge, groups)
            solved = torch.cholesky_solve(deltas.flatten(1), process.factor).reshape(deltas.shape)
            commons.append(common)
            weights.append(solved)
            amplitude.append((deltas * solved).mean(0).clamp_min(0.0))
        self.common, self.points, self.length = torch.stack(commons), points, process.length
        self.weights, self.amplitude = torch.stack(weights), torch.stack(amplitude)
        self.inverse = torch.cholesky_inverse(process.factor)

    def _common(self, z: Tensor, c: Tensor, controls: Tensor | None, step: int) -> tuple[Tensor, Tensor]:
        """Weights of the common part with the offset as last row, and what it leaves of the increments."""
        features, increments = affine_features(z, c, controls, step, self.fixed)
        weights, offset = fitted(features, increments, 1e-12)
        return torch.cat([weights, offset[None]]), increments - features @ weights - offset

    def _choice(self, z: Tensor, points: Tensor, residual: Tensor, groups: Groups) -> float:
        """The penalty with the smallest error of one step on trajectories that the process has not seen."""
        held = groups.held_out()
        if held is None:
            return RIDGES[1]
        unseen = held[groups.first]
        seen, theirs = groups.among(~held), groups.among(held).of
        now = z[:, : -self.stride]
        errors = []
        for ridge in RIDGES:
            deltas = _deltas(now[~held], residual[~held], ridge, seen)
            process = GaussianProcess(points[~unseen], deltas.flatten(1))
            near = kernel(points[unseen], process.c, process.length)
            guess = (near @ process.weights).reshape(-1, *deltas.shape[1:])[theirs]
            errors.append(float((residual[held] - _with_one(now[held]) @ guess).square().mean()))
        return RIDGES[errors.index(min(errors))]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        d, count = self.latent, len(state_dict.get(prefix + "points", self.points))
        expected = {
            "points": (count, self.fixed),
            "weights": (self.stride, count, d + 1, d),
            "inverse": (count, count),
        }
        for name, shape in expected.items():  # the number of trajectories is free, the rest must fit
            if prefix + name in state_dict and tuple(state_dict[prefix + name].shape) == shape:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _with_one(z: Tensor) -> Tensor:
    return torch.cat([z, torch.ones_like(z[..., :1])], -1)


def _centred(sample: Tensor) -> Tensor:
    """Samples `(member, ...)` moved so that their mean is zero, and widened so that their spread is unbiased."""
    count = len(sample)
    return (count / max(1, count - 1)) ** 0.5 * (sample - sample.mean(0))


def _deltas(now: Tensor, residual: Tensor, ridge: float, groups: Groups) -> Tensor:
    """Per trajectory the ridge regression of the residual on [z, 1], `(trajectory, latent + 1, latent)`.

    Copies of a trajectory are one regression. The penalty counts relative to the latents' mean square over all rows.
    """
    features = _with_one(now)
    width = features.square().mean((0, 1)).sqrt().clamp_min(1e-12)
    scaled = features / width
    gram, right = (_mean_of_rows(scaled.mT @ part / now.shape[1], groups) for part in (scaled, residual))
    return solve(gram + ridge * torch.eye(scaled.shape[-1], dtype=now.dtype), right) / width[:, None]


def _mean_of_rows(values: Tensor, groups: Groups) -> Tensor:
    """Means over the copies of each trajectory, `(trajectory, ...)`."""
    total = values.new_zeros(len(groups), *values.shape[1:]).index_add(0, groups.of, values)
    return total / groups.of.bincount().reshape(-1, *[1] * (values.ndim - 1))
