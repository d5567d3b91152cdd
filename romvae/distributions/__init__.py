"""Distributions of fields and codes, and their closed forms."""

from romvae.distributions.continuous_bernoulli import ContinuousBernoulli
from romvae.distributions.divergence import analytic, divergence
from romvae.distributions.fields import Fields
from romvae.distributions.flow import FlowCode
from romvae.distributions.gaussian import gaussian, kl_standard_normal, mixture_moments, soft_clamp
from romvae.distributions.reparameterise import moments, reparameterise

__all__ = [
    "ContinuousBernoulli",
    "Fields",
    "FlowCode",
    "analytic",
    "divergence",
    "gaussian",
    "kl_standard_normal",
    "mixture_moments",
    "moments",
    "reparameterise",
    "soft_clamp",
]
