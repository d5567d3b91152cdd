"""Samples of a code as a function of given noise, and the moments of a code, for every kind of posterior.

Training passes its noise explicitly, so that every step is a pure function of (seed, step).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal

from romvae.distributions.flow import FlowCode

__all__ = ["moments", "reparameterise"]

_QUADRATURE = 256
"""Quasi-random points with which the moments of a distribution without closed ones are formed."""


def reparameterise(q: Distribution, noise: Tensor) -> Tensor:
    """The sample of `q` that standard normal noise leads to.

    Arguments:
        q: Distribution of codes, event shape `(latent,)`.
        noise: Standard normal, shape `(..., *batch, latent)`.

    Returns:
        Codes in the shape of `noise`, differentiable in the parameters of `q`.
    """
    if isinstance(q, Independent):
        return q.base_dist.mean + q.base_dist.stddev * noise
    if isinstance(q, MultivariateNormal):
        return q.loc + (q.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)
    if isinstance(q, FlowCode):
        return q.at(noise)
    raise TypeError(f"reparameterise: no rule for {type(q).__name__}; expected a Gaussian or a FlowCode.")


def moments(q: Distribution) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent, shapes `(*batch, latent)`.

    A normalising flow has none in closed form: they are those of 256 fixed quasi-random samples.
    """
    if isinstance(q, Independent):
        return q.base_dist.mean, q.base_dist.stddev
    if isinstance(q, MultivariateNormal):
        return q.mean, q.stddev
    latent = int(q.event_shape[0])
    points = _points(latent, torch.get_default_dtype())
    noise = points.reshape(len(points), *[1] * len(q.batch_shape), latent).expand(-1, *q.batch_shape, latent)
    z = reparameterise(q, noise)
    return z.mean(0), z.std(0, correction=0)


@cache
def _points(latent: int, dtype: torch.dtype) -> Tensor:
    """Sobol points as standard normal numbers, symmetric about zero."""
    unit = torch.quasirandom.SobolEngine(latent, scramble=True, seed=0).draw(_QUADRATURE // 2, dtype=torch.float64)
    normal = torch.special.ndtri(unit.clamp(1e-6, 1 - 1e-6))
    return torch.cat([normal, -normal]).to(dtype)
