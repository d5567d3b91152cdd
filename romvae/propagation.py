"""What the networks of the dynamics disagree on: their own paths, and the variance between what these decode to."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from romvae.distributions import moments
from romvae.dynamics.base import EnsembleDynamics
from romvae.memory import snapshots_at_once
from romvae.nn.observation import Observation
from romvae.vae import VAE

__all__ = ["between_networks", "network_parts", "network_paths", "networks_at"]


@torch.no_grad()
def network_paths(
    vae: VAE,
    dynamics: EnsembleDynamics,
    x0: Tensor,
    c: Tensor,
    steps: int,
    *,
    past: Tensor | None = None,
    controls: Tensor | None = None,
) -> Tensor:
    """Latent trajectory of each network from the mean of the posterior, `(time, network, trajectory, latent)`.

    Between them lies what the networks disagree on and nothing else: no sample is drawn.

    The arguments are those of `romvae.rollout.latent_members`.
    """
    return next(network_parts(vae, dynamics, x0, c, steps, max(1, steps), past=past, controls=controls))[1]


@torch.no_grad()
def network_parts(
    vae: VAE,
    dynamics: EnsembleDynamics,
    x0: Tensor,
    c: Tensor,
    steps: int,
    length: int,
    *,
    past: Tensor | None = None,
    controls: Tensor | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """The same `length` steps at once, as `EnsembleDynamics.passing` has it."""
    z0, earlier = _codes(vae, dynamics, x0, past)
    yield from dynamics.passing(z0, c, steps, length, past=earlier, controls=controls)


@torch.no_grad()
def networks_at(
    vae: VAE,
    dynamics: EnsembleDynamics,
    x0: Tensor,
    c: Tensor,
    leads: Tensor,
    *,
    past: Tensor | None = None,
    controls: Tensor | None = None,
) -> Tensor:
    """The same at any times, `(lead, network, trajectory, latent)`; `leads` as for `romvae.rollout.latents_at`."""
    z0, earlier = _codes(vae, dynamics, x0, past)
    return dynamics.at_times(z0, c, leads.double() * float(dynamics.dt), past=earlier, controls=controls)


def _codes(vae: VAE, dynamics: EnsembleDynamics, x0: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Posterior means `(network, trajectory, latent)`, and those of earlier fields `(trajectory, earlier, latent)`."""
    z0 = moments(vae.encoder(x0))[0]
    earlier = None if past is None else moments(vae.encoder(past.flatten(0, 1)))[0].unflatten(0, past.shape[:2])
    return z0.expand(dynamics.members, *z0.shape), earlier


@torch.no_grad()
def between_networks(vae: VAE, path: Tensor, lead: Tensor, members: int, decoder: Observation | None = None) -> Tensor:
    """Variance between the networks' decoded means, as it enters the spread of a forecast of `members` members.

    Member m follows network m modulo their number. Among M members the unbiased variance of the networks' own means
    is the weighted variance between them times M / (M - 1).

    Arguments:
        vae: The trained VAE.
        path: From `network_paths`.
        lead: Lead times to decode.
        members: Members of the forecast.
        decoder: What decodes instead of the VAE's own, such as a window of it.

    Returns:
        Shape `(lead, trajectory, channel, *space)`, normalised units.
    """
    decoder = vae.decoder if decoder is None else decoder
    shape = (decoder.mean.layout.fields, *decoder.mean.layout.shape)
    if members == 1:  # a single member knows no disagreement, and need not pay for decoding the others
        return path.new_zeros(len(lead), path.shape[2], *shape)
    path = path[:, :members]  # networks that no member follows have no weight
    networks, n = path.shape[1:3]
    counts = torch.bincount(torch.arange(members) % networks, minlength=networks)
    weights = (counts / members).to(path)
    z = path[lead].reshape(-1, path.shape[-1])
    at_once = snapshots_at_once(math.prod(shape[1:]))
    mean = torch.cat([decoder.mean_of(part) for part in z.split(at_once)]).reshape(len(lead), networks, n, *shape)
    weights = weights.reshape(-1, *[1] * (mean.ndim - 2))
    centre = (weights * mean).sum(1, keepdim=True)
    return members / (members - 1) * (weights * (mean - centre).square()).sum(1)
