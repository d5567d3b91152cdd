"""Priors p(z) over the code: standard normal, or learned as a mixture of Gaussians or a normalising flow."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from romvae.errors import optional_import
from romvae.kinds import PriorKind

__all__ = ["PRIORS", "FlowPrior", "MixturePrior", "Prior", "PriorKind", "StandardNormalPrior", "prior_of"]


class Prior(nn.Module, ABC):
    """p(z): calling it gives a distribution with event shape `(latent,)`.

    Arguments:
        latent: Latent dimension.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    @abstractmethod
    def forward(self) -> Distribution:
        """The distribution of the code."""


class StandardNormalPrior(Prior):
    """N(0, I)."""

    zero: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__(latent)
        self.register_buffer("zero", torch.zeros(latent), persistent=False)

    def forward(self) -> Distribution:
        base = Normal(self.zero, torch.ones_like(self.zero), validate_args=False)
        base.standard = True  # type: ignore[attr-defined]  # read by `divergence`
        return Independent(base, 1, validate_args=False)


class MixturePrior(Prior):
    """A mixture of Gaussians with diagonal covariances, trained with the rest of the evidence lower bound.

    The components start spread over the standard normal.

    Arguments:
        latent: Latent dimension.
        components: Number of Gaussians; 10 is a good start.

    References:
        Tomczak and Welling (2018), VAE with a VampPrior, arXiv:1705.07120, section 3.1.
    """

    def __init__(self, latent: int, components: int = 10) -> None:
        super().__init__(latent)
        self.logits = nn.Parameter(torch.zeros(components))
        self.centre = nn.Parameter(torch.randn(components, latent))
        self.log_std = nn.Parameter(torch.zeros(components, latent))

    def forward(self) -> Distribution:
        each = Independent(Normal(self.centre, self.log_std.clamp(-7, 3).exp(), validate_args=False), 1, False)
        return MixtureSameFamily(Categorical(logits=self.logits, validate_args=False), each, validate_args=False)


class FlowPrior(Prior):
    """A masked autoregressive flow from a standard normal (needs `pip install 'romvae[flow]'`).

    Arguments:
        latent: Latent dimension.
        transforms: Autoregressive transformations.
        hidden: Width of their networks.

    References:
        Papamakarios, Pavlakou and Murray (2017), Masked autoregressive flow for density estimation, arXiv:1705.07057.
    """

    def __init__(self, latent: int, transforms: int = 3, hidden: int = 64) -> None:
        super().__init__(latent)
        zuko = optional_import("zuko", "flow", "a normalising flow as prior")
        self.flow = zuko.flows.MAF(latent, transforms=transforms, hidden_features=(hidden, hidden))

    def forward(self) -> Distribution:
        distribution: Distribution = self.flow()
        return distribution


PRIORS: dict[PriorKind, type[Prior]] = {"normal": StandardNormalPrior, "mixture": MixturePrior, "flow": FlowPrior}


def prior_of(kind: PriorKind, latent: int) -> Prior:
    """The prior of this kind at its default sizes."""
    return PRIORS[kind](latent)
