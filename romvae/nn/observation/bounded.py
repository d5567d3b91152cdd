"""Observation models for fields bounded in [0, 1]: fractions, concentrations, and fields of zeros and ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Bernoulli

from romvae.distributions import ContinuousBernoulli, Fields
from romvae.distributions.continuous_bernoulli import logit_of_mean
from romvae.nn.linear import MeanDecoder
from romvae.nn.observation.base import Observation
from romvae.ranks import ALONE, Ranks

__all__ = ["BernoulliFields", "ContinuousBernoulliFields"]

EDGE = 5e-3
"""How near to 0 and 1 a mean may lie in `link`; beyond, its logit would be unbounded."""


class BernoulliFields(Observation):
    """p(x | z) of fields that are 0 or 1 at every point: p(x = 1) = sigmoid(eta(z)).

    Arguments:
        mean: Decoder of the logits eta.
        mask: As in `Observation`.
    """

    def __init__(self, mean: MeanDecoder, mask: Tensor | None = None) -> None:
        super().__init__(mean, mask)
        self.register_buffer("log_var_shared", torch.zeros(mean.layout.fields))

    def forward(self, z: Tensor) -> Fields:
        base = Bernoulli(logits=self.decoded(z), validate_args=False)
        return Fields(base, self.event_dims, self.mask)

    def log_likelihood(self, x: Tensor, z: Tensor, ranks: Ranks = ALONE) -> Tensor:
        return ranks.pooled(self(z).log_prob(x).mean(), len(x))

    def link(self, x: Tensor) -> Tensor:
        return torch.logit(x, eps=EDGE)


class ContinuousBernoulliFields(Observation):
    """p(x | z) of fields with values in [0, 1], such as a volume fraction; see `ContinuousBernoulli`.

    Its variance follows from its mean, so that it cannot tell how well the code describes a field: use it where the
    bounds matter more than the uncertainty.

    Arguments:
        mean: Decoder of the logits eta.
        mask: As in `Observation`.
    """

    def __init__(self, mean: MeanDecoder, mask: Tensor | None = None) -> None:
        super().__init__(mean, mask)
        self.register_buffer("log_var_shared", torch.zeros(mean.layout.fields))

    def forward(self, z: Tensor) -> Fields:
        return Fields(ContinuousBernoulli(self.decoded(z)), self.event_dims, self.mask)

    def log_likelihood(self, x: Tensor, z: Tensor, ranks: Ranks = ALONE) -> Tensor:
        return ranks.pooled(self(z).log_prob(x).mean(), len(x))

    def link(self, x: Tensor) -> Tensor:
        return logit_of_mean(x.clamp(EDGE, 1 - EDGE))
