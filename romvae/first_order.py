"""Moments of a forecast to first order in the spread of its initial code: a few decoded directions for all members."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from romvae.distributions import moments
from romvae.dynamics.base import EnsembleDynamics
from romvae.errors import NumericsError
from romvae.memory import snapshots_at_once
from romvae.nn.observation import Observation
from romvae.rollout import Moments
from romvae.vae import VAE

__all__ = ["Directions", "directional", "leading_directions", "linear_moments", "posterior_factor", "tangents"]

KEPT = 0.95
"""Share of the decoded variance whose directions are decoded one by one; the rest is added by one more."""
_STEP, _LEAST = 2.0**-4, 1e-2
"""Step of the decoder's differences, in units of the direction, and its least length in the latent space: shorter ones
would drown in the round-off of float32. On that length, a hundredth of the prior's, a decoder is straight."""
_RIDGE = 1e-6
_VALUES = 2**19
"""Values of a moment that are in memory at once; those of one lead time always are."""


@torch.no_grad()
def posterior_factor(vae: VAE, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the posterior `(trajectory, latent)` and a factor L of its covariance L L^T.

    A posterior that is no Gaussian counts by its standard deviations.
    """
    q = vae.encoder(x0)
    centre, std = moments(q)
    return centre, q.scale_tril if isinstance(q, MultivariateNormal) else torch.diag_embed(std)


@torch.no_grad()
def tangents(
    vae: VAE,
    dynamics: EnsembleDynamics,
    x0: Tensor,
    c: Tensor,
    steps: int,
    *,
    past: Tensor | None = None,
    controls: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Latents of each network from the posterior's mean, and their derivatives along the columns of its factor.

    The arguments are those of `romvae.rollout.latent_members`.

    Returns:
        `(time, network, trajectory, latent)` and `(time, network, column, trajectory, latent)`.

    Raises:
        NumericsError: One of them stopped being finite, with the first such step.
    """
    centre, factor = posterior_factor(vae, x0)
    earlier = None if past is None else moments(vae.encoder(past.flatten(0, 1)))[0].unflatten(0, past.shape[:2])

    def rolled(z: Tensor) -> Tensor:
        z0 = z.expand(dynamics.members, *z.shape)
        return dynamics.rollout(z0, c, float(dynamics.dt), steps, past=earlier, controls=controls)

    def along(column: Tensor) -> tuple[Tensor, Tensor]:
        path, derivative, *_ = torch.func.jvp(rolled, (centre,), (column,))
        return path, derivative

    # The path itself is the same for all columns and computed once.
    places: Any = (None, 2)
    value, slope = torch.func.vmap(along, out_dims=places)(factor.permute(2, 0, 1))
    _finite(value, slope, steps)
    return value, slope


@dataclass(frozen=True)
class Directions:
    """The latent covariance C of each trajectory at each time as a sum of outer products of directions.

    Arguments:
        vectors: `(time, trajectory, direction, latent)`, those that carry most of the decoded variance first.
        kept: How many of them are decoded one by one, `(time, trajectory)`. Where that is fewer than there are, one
            more stands for the rest: their sum with random signs, whose squared image is, in the mean over the signs,
            the sum of theirs.
    """

    vectors: Tensor
    kept: Tensor

    @property
    def decoded(self) -> Tensor:
        """Directions that are decoded, `(time, trajectory)`."""
        return torch.where(self.kept < self.vectors.shape[2], self.kept + 1, self.kept)


@torch.no_grad()
def leading_directions(vae: VAE, slope: Tensor, share: float = KEPT) -> Directions:
    r"""Directions of the covariance :math:`C = \overline{S_m S_m^T}` over networks m, ordered by what they decode to.

    They are the principal axes of :math:`R C R^T` with :math:`R^T R = W^T W`, where W is the decoder's linear path:
    what it does to a latent is taken for the length of that latent. Whether it is decides how many directions are
    decoded, not what comes out, since nothing is left out.

    Arguments:
        vae: Whose decoder.
        slope: From `tangents`.
        share: Of the variance, in this measure, that the directions carry which are decoded one by one; 1 takes all.
    """
    root = _metric_root(vae).to(slope.device)
    s = slope.double().permute(0, 3, 1, 2, 4).flatten(2, 3)
    cov = s.mT @ s / slope.shape[1]
    values, axes = torch.linalg.eigh(root @ cov @ root.mT)
    values, axes = values.flip(-1).clamp_min(0), axes.flip(-1)
    vectors = torch.linalg.solve_triangular(root, axes * values.sqrt()[..., None, :], upper=True).mT
    latent = vectors.shape[2]
    kept = (values.cumsum(-1) < share * values.sum(-1, keepdim=True)).sum(-1) + 1
    kept = torch.where(kept + 1 >= latent, latent, kept) if share < 1 else torch.full_like(kept, latent)
    for lead, rows in enumerate(vectors):
        signs = torch.randint(2, (latent,), generator=torch.Generator().manual_seed(lead)).double() * 2 - 1
        left = torch.arange(latent) >= kept[lead][:, None]
        rest = torch.where(left, signs, torch.zeros_like(signs))[:, None].to(rows) @ rows
        place = kept[lead].clamp_max(latent - 1)[:, None, None].expand(-1, 1, latent)
        some = (kept[lead] < latent)[:, None, None]
        rows.scatter_(1, place, torch.where(some, rest, rows.gather(1, place)))
    return Directions(vectors.to(slope), kept)


def _metric_root(vae: VAE) -> Tensor:
    """Upper triangular R with R^T R = W^T W, and a little more that keeps it regular; float64."""
    linear = vae.decoder.mean.linear
    latent = vae.latent
    if linear is None:
        return torch.eye(latent, dtype=torch.float64)
    gram = linear.weight.T.double() @ linear.weight.double()
    ridge = _RIDGE * gram.diagonal().mean().clamp_min(1e-300)
    return torch.linalg.cholesky(gram + ridge * torch.eye(latent, dtype=gram.dtype, device=gram.device), upper=True)


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
    share: float = KEPT,
) -> Iterator[Moments]:
    r"""Moments of the forecast to first order in the spread of the initial code, without sampling.

    With the codes :math:`z_m` that the networks m reach from the posterior's mean, their mean :math:`\bar z`, the
    decoder's mean g and variance :math:`\sigma^2`, and the directions :math:`d_j` of the propagated covariance,

    .. math:: \mathrm{var}\,x = \sigma^2(\bar z) + \textstyle\sum_j (g'(\bar z)\, d_j)^2 + \mathrm{var}_m\, g(z_m).

    Exact where dynamics and decoder are linear; right while the spread is small against the scale on which they bend,
    and useless after trajectories have parted in a chaotic flow. The dynamics' derivatives are exact, the decoder's
    are differences over a short step. A posterior that is no Gaussian counts by its standard deviations; the noise of
    stochastic dynamics is left out. A frame costs one code for each network, one for the centre, and one for each
    direction that `Directions` has decoded.

    Arguments and result are those of `romvae.rollout.latent_members` and `forecast_moments`; `decoder` decodes instead
    of the VAE's own, and `share` is that of `leading_directions`.

    Raises:
        NumericsError: A latent stopped being finite, with the first such step.
    """
    value, slope = tangents(vae, dynamics, x0, c, steps, past=past, controls=controls)
    directions = leading_directions(vae, slope, share)
    del slope
    decoder = vae.decoder if decoder is None else decoder
    n, values = value.shape[2], decoder.mean.layout.points
    at_once = min(frames, snapshots_at_once(math.prod(decoder.mean.layout.shape)))
    for lead in leads.split(max(1, min(frames // (dynamics.members * n), _VALUES // (n * values)))):
        yield Moments(lead, *_decoded(decoder, value[lead], directions, lead, at_once))


def _decoded(
    decoder: Observation, z: Tensor, directions: Directions, lead: Tensor, at_once: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, decoder's variance, spread and its part between the networks of codes `(lead, network, trajectory, .)`."""
    _, networks, n, latent = z.shape
    centre = z.mean(1)
    parts = [decoder.moments_of(part) for part in centre.reshape(-1, latent).split(at_once)]
    mean, within = (torch.cat(each).unflatten(0, centre.shape[:2]) for each in zip(*parts, strict=True))
    # One trajectory after the other, so that none meets the numbers of directions of the others.
    posterior = torch.stack(
        [_spread(decoder, centre[:, i], mean[:, i], directions, lead, i, at_once) for i in range(n)], 1
    )
    if networks == 1:
        return mean, within, posterior, torch.zeros_like(posterior)
    decoded = torch.cat([decoder.mean_of(part) for part in z.reshape(-1, latent).split(at_once)])
    ensemble, mean = torch.var_mean(decoded.unflatten(0, z.shape[:3]), 1, correction=0)
    return mean, within, posterior + ensemble, ensemble


def _spread(
    decoder: Observation, z: Tensor, mean: Tensor, directions: Directions, lead: Tensor, trajectory: int, at_once: int
) -> Tensor:
    """Sum of the squared images of the directions at codes `(lead, latent)`, `(lead, channel, *space)`."""
    vectors, counts = directions.vectors[lead, trajectory], directions.decoded[lead, trajectory]
    used = torch.arange(vectors.shape[1]) < counts[:, None].cpu()
    row, column = used.nonzero(as_tuple=True)
    total = torch.zeros_like(mean)
    for some, each in zip(row.split(at_once), column.split(at_once), strict=True):
        total.index_add_(0, some.to(z.device), directional(decoder, z[some], mean[some], vectors[some, each]).square())
    return total


def directional(decoder: Observation, z: Tensor, mean: Tensor, vectors: Tensor) -> Tensor:
    """Derivatives of the decoded means of codes `(batch, latent)` along a vector each, as differences.

    Arguments:
        decoder: The decoder.
        z: Codes.
        mean: What they decode to.
        vectors: `(batch, latent)`.
    """
    length = vectors.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny ** 0.5)
    step = (_LEAST / length).clamp_min(_STEP)
    return (decoder.mean_of(z + step * vectors) - mean) / step.reshape(-1, *[1] * (mean.ndim - 1))


def _finite(value: Tensor, slope: Tensor, steps: int) -> None:
    finite = value.isfinite().flatten(1).all(1) & slope.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        step = int((~finite).nonzero()[0])
        raise NumericsError(
            f"rollout: the latent state or its derivative stopped being finite at step {step} of {steps}. Roll out "
            "fewer steps, or use propagation='members'."
        )
