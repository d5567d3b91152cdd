"""Where the spread of a forecast comes from, and its first-order propagation without sampling."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.autograd.forward_ad as forward_mode
from torch import Tensor
from torch.distributions import MultivariateNormal

from romvae.distributions import moments
from romvae.dynamics.base import EnsembleDynamics
from romvae.errors import NumericsError
from romvae.memory import snapshots_at_once
from romvae.nn.observation import Observation
from romvae.rollout import Moments
from romvae.vae import VAE

__all__ = ["between_networks", "linear_moments", "network_paths"]


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
    z0 = moments(vae.encoder(x0))[0]
    earlier = None if past is None else moments(vae.encoder(past.flatten(0, 1)))[0].unflatten(0, past.shape[:2])
    z0 = z0.expand(dynamics.members, *z0.shape)
    return dynamics.rollout(z0, c, float(dynamics.dt), steps, past=earlier, controls=controls)


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


@torch.no_grad()
def linear_moments(
    vae: VAE,
    dynamics: EnsembleDynamics,
    x0: Tensor,
    c: Tensor,
    steps: int,
    leads: Tensor,
    *,
    past: Tensor | None = None,
    controls: Tensor | None = None,
    frames: int = 1024,
    decoder: Observation | None = None,
) -> Iterator[Moments]:
    r"""Moments of the forecast to first order in the spread of the initial code, without sampling.

    With the posterior :math:`N(\bar z, L L^T)` and the map :math:`g_m` from the initial code to the field by network m,

    .. math:: \mathrm{var}\,x = \overline{\sigma^2(z_m)} + \overline{\textstyle\sum_j (\partial g_m\, L e_j)^2}
        + \mathrm{var}_m\, g_m(\bar z),

    with bars over networks and the derivatives as forward-mode Jacobian-vector products, one for each latent. Exact
    where dynamics and decoder are linear; right while the spread is small against the scale on which they bend, and
    useless after trajectories have parted in a chaotic flow. A posterior that is no Gaussian counts by its standard
    deviations; the noise of stochastic dynamics is left out.

    Arguments and result are those of `romvae.rollout.latent_members` and `forecast_moments`; `decoder` decodes instead
    of the VAE's own.

    Raises:
        NumericsError: A latent stopped being finite, with the first such step.
    """
    q = vae.encoder(x0)
    centre, std = moments(q)
    n, latent = centre.shape
    factor = q.scale_tril if isinstance(q, MultivariateNormal) else torch.diag_embed(std)
    directions = factor.permute(2, 0, 1).reshape(latent * n, latent)
    earlier = None if past is None else moments(vae.encoder(past.flatten(0, 1)))[0].unflatten(0, past.shape[:2])
    with forward_mode.dual_level():
        z0 = forward_mode.make_dual(centre.repeat(latent, 1), directions)
        path = dynamics.rollout(
            z0.expand(dynamics.members, *z0.shape),
            c.repeat(latent, 1),
            float(dynamics.dt),
            steps,
            past=None if earlier is None else earlier.repeat(latent, 1, 1),
            controls=None if controls is None else controls.repeat(latent, 1, 1),
        )
        value, slope = forward_mode.unpack_dual(path)
    slope = torch.zeros_like(value) if slope is None else slope
    shape = (steps + 1, dynamics.members, latent, n, latent)
    value, slope = value.reshape(shape)[:, :, 0], slope.reshape(shape)
    _finite(value, slope, steps)
    decoder = vae.decoder if decoder is None else decoder
    at_once = min(frames, snapshots_at_once(math.prod(decoder.mean.layout.shape)))
    for lead in leads.split(max(1, at_once // (dynamics.members * n))):
        groups = torch.arange(n).split(max(1, at_once // dynamics.members))
        parts = [_decoded(decoder, value[lead][:, :, i], slope[lead][:, :, :, i]) for i in groups]
        mean, within, spread, ensemble = (torch.cat(each, 1) for each in zip(*parts, strict=True))
        yield Moments(lead, mean, within, spread, ensemble)


def _decoded(decoder: Observation, z: Tensor, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Moments of codes `(lead, network, trajectory, latent)` with their `latent` derivatives on axis 2."""
    flat = z.reshape(-1, z.shape[-1])
    shape = (*z.shape[:3], decoder.mean.layout.fields, *decoder.mean.layout.shape)
    p = decoder(flat)
    mean, var = p.mean.reshape(shape), p.variance.reshape(shape)
    posterior = torch.zeros_like(mean)
    for j in range(slope.shape[2]):
        with forward_mode.dual_level():
            dual = forward_mode.make_dual(flat, slope[:, :, j].reshape(flat.shape))
            tangent = forward_mode.unpack_dual(decoder.mean_of(dual)).tangent
        posterior += tangent.reshape(shape).square()
    ensemble = mean.var(1, correction=0)
    return mean.mean(1), var.mean(1), posterior.mean(1) + ensemble, ensemble


def _finite(value: Tensor, slope: Tensor, steps: int) -> None:
    finite = value.isfinite().flatten(1).all(1) & slope.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        step = int((~finite).nonzero()[0])
        raise NumericsError(
            f"rollout: the latent state or its derivative stopped being finite at step {step} of {steps}. Roll out "
            "fewer steps, or use propagation='members'."
        )
