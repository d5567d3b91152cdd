"""Closed forms for the Gaussians of the model: divergence, moments of a mixture, bounded log-variances."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from romvae.distributions.fields import Fields

__all__ = ["gaussian", "kl_standard_normal", "mixture_moments", "soft_clamp"]


def gaussian(mean: Tensor, log_var: Tensor, event_dims: int, mask: Tensor | None = None) -> Fields:
    """Diagonal Gaussian with the last `event_dims` dimensions as the event; see `Fields` for the mask."""
    return Fields(Normal(mean, (0.5 * log_var).exp(), validate_args=False), event_dims, mask)


def kl_standard_normal(mean: Tensor, std: Tensor) -> Tensor:
    r"""KL(N(mean, diag std^2) || N(0, I)) per dimension, :math:`\tfrac12(\mu^2 + \sigma^2 - 1 - \log\sigma^2)`.

    References:
        Kingma and Welling (2014), appendix B, arXiv:1312.6114.
    """
    return 0.5 * (mean.square() + std.square() - 1) - std.log()


def mixture_moments(mean: Tensor, var: Tensor, dim: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of an equally weighted mixture, the variance in its two parts.

    The law of total variance: `variance = mean over members of var + variance over members of mean`. With M members
    the second part is the unbiased estimate (divisor M - 1); a single member has none.

    Arguments:
        mean: Means of the members along `dim`.
        var: Variances of the members.
        dim: The member dimension.

    Returns:
        Mean of the mixture, mean of the variances (within), variance of the means (between).
    """
    within = var.mean(dim)
    between = mean.var(dim, correction=1) if mean.shape[dim] > 1 else torch.zeros_like(within)
    return mean.mean(dim), within, between


def soft_clamp(log_var: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Smooth bounds: `low + softplus(s - low)` below and the mirror image above; the gradient never vanishes."""
    bounded = high - F.softplus(high - log_var)
    return low + F.softplus(bounded - low)
