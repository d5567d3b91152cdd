"""Forecast: latent members, decoded in bounded memory, their moments by the law of total variance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from romvae.calibration import Calibration
from romvae.distributions import mixture_moments
from romvae.dynamics.residual import ResidualDynamics
from romvae.errors import NumericsError
from romvae.vae import VAE

__all__ = ["Moments", "calibrated", "forecast_moments", "latent_members"]


@dataclass(frozen=True)
class Moments:
    """Moments of the forecast at some lead times, normalised units, before calibration.

    Shapes: `mean`, `decoder_var`, `dynamics_var` are `(lead, trajectory, channel, *space)`; `lead` holds step numbers.
    """

    lead: Tensor
    mean: Tensor
    decoder_var: Tensor
    dynamics_var: Tensor


@torch.no_grad()
def latent_members(
    vae: VAE, dynamics: ResidualDynamics, x0: Tensor, c: Tensor, steps: int, members: int, seed: int, first: int = 0
) -> Tensor:
    """Latent trajectories of an ensemble.

    Every member starts from its own sample of the encoder's posterior (a single member from its mean) and follows one
    network of the dynamics ensemble, in turn.

    Arguments:
        vae: The trained encoder and decoder.
        dynamics: The trained time evolution.
        x0: Normalised initial fields `(trajectory, channel, *space)`.
        c: Normalised parameters `(trajectory, parameter)`.
        steps: Stored steps to roll out.
        members: Members of the forecast, 1 or more.
        seed: Seed; the members of a trajectory depend on it and on the trajectory's position only.
        first: Position of the first trajectory, where a forecast is computed in blocks.

    Returns:
        Latents `(steps + 1, member, trajectory, latent)`.

    Raises:
        NumericsError: A latent stopped being finite, with the first such step.
    """
    q = vae.encoder(x0).base_dist
    n, latent = q.mean.shape
    networks = dynamics.members
    rounds = -(-members // networks)
    offsets = q.mean.new_zeros(rounds, networks, n, latent)
    if members > 1:
        for i in range(n):
            generator = torch.Generator().manual_seed((seed * 1_000_003 + first + i) % (1 << 63))
            for k in range(rounds):  # one draw per round: more members leave the first ones as they are
                offsets[k, :, i] = torch.randn(networks, latent, generator=generator).to(q.mean)
    z0 = q.mean + q.stddev * offsets
    z0 = z0.transpose(0, 1).reshape(networks, rounds * n, latent)
    path = dynamics.rollout(z0, c.repeat(rounds, 1), float(dynamics.dt), steps)
    path = path.reshape(steps + 1, networks, rounds, n, latent).transpose(1, 2).flatten(1, 2)[:, :members]
    finite = path.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        step = int((~finite).nonzero()[0])
        raise NumericsError(
            f"rollout: the latent state stopped being finite at step {step} of {steps}. Roll out fewer steps, or train "
            "on longer windows (--training.horizon)."
        )
    return path


@torch.no_grad()
def forecast_moments(vae: VAE, path: Tensor, leads: Tensor, frames: int = 1024) -> Iterator[Moments]:
    """Decodes latent members and yields the moments in chunks of lead times.

    Arguments:
        vae: The trained VAE.
        path: Latents `(time, member, trajectory, latent)`.
        leads: Which times of `path` to decode, shape `(lead,)`.
        frames: Snapshots decoded at once; bounds the memory.
    """
    _, members, n, latent = path.shape
    shape = (vae.encoder.layout.fields, *vae.encoder.layout.shape)
    per_chunk = max(1, frames // (members * n))
    for lead in leads.split(per_chunk):
        z = path[lead].reshape(-1, latent)
        means, variances = [], []
        for part in z.split(frames):
            p = vae.decoder(part).base_dist
            means.append(p.mean)
            variances.append(p.variance)
        mean = torch.cat(means).reshape(len(lead), members, n, *shape)
        var = torch.cat(variances).reshape(len(lead), members, n, *shape)
        yield Moments(lead, *mixture_moments(mean, var, dim=1))


def calibrated(moments: Moments, calibration: Calibration, level: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Standard deviations after calibration and the interval's half-width, normalised units.

    Returns:
        Total, decoder and dynamics standard deviation and the half-width, each like `moments.mean`.
    """
    factor, width = calibration.at(moments.lead, level)
    trailing = [1] * (moments.mean.ndim - 3)
    factor = factor.to(moments.mean).reshape(len(moments.lead), 1, -1, *trailing)
    width = width.to(moments.mean).reshape(factor.shape)
    total = factor * (moments.decoder_var + moments.dynamics_var).sqrt()
    return total, factor * moments.decoder_var.sqrt(), factor * moments.dynamics_var.sqrt(), width * total
