"""From the encoder's features to q(z | x): a head per kind of posterior."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from romvae.distributions.flow import FlowCode
from romvae.errors import optional_import
from romvae.kinds import PosteriorKind

__all__ = [
    "POSTERIORS",
    "DiagonalPosterior",
    "EXACT",
    "FlowPosterior",
    "FullPosterior",
    "PointPosterior",
    "Posterior",
    "PosteriorKind",
]

LOG_VAR_RANGE = (-14.0, 6.0)
EXACT = -24.0
"""Log-variance of a code that is known, as that of a projection: chaos multiplies what a forecast starts from by
thousands, and this stays negligible, yet far above the round-off of a code in float32."""
NARROW = -4.0
"""Log-variance at which training starts: the code is then nearly the linear one."""


class Posterior(nn.Module, ABC):
    """Turns `numbers` values per snapshot and the linear part of the mean into a distribution of the code.

    Arguments:
        latent: Latent dimension.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    @property
    @abstractmethod
    def numbers(self) -> int:
        """How many values it needs per snapshot; the first `latent` of them shift the mean."""

    @abstractmethod
    def forward(self, values: Tensor, mean: Tensor | float) -> Distribution:
        """The posterior, batch shape `(batch,)`, event shape `(latent,)`.

        Arguments:
            values: From the encoder's head, `(batch, numbers)`.
            mean: Linear part of the mean, `(batch, latent)`, or 0.
        """

    @torch.no_grad()
    def start(self, bias: Tensor) -> None:
        """Sets the head's bias so that the posterior starts narrow."""


class DiagonalPosterior(Posterior):
    """N(mean, diag std^2)."""

    @property
    def numbers(self) -> int:
        return 2 * self.latent

    def forward(self, values: Tensor, mean: Tensor | float) -> Distribution:
        shift, log_var = values.chunk(2, -1)
        std = (0.5 * _within(log_var)).exp()
        return Independent(Normal(shift + mean, std, validate_args=False), 1, validate_args=False)

    @torch.no_grad()
    def start(self, bias: Tensor) -> None:
        bias[self.latent :].fill_(NARROW)


class FullPosterior(Posterior):
    """N(mean, L L^T) with a lower triangular L: latents may depend on each other given a snapshot."""

    rows: Tensor
    columns: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__(latent)
        rows, columns = torch.tril_indices(latent, latent, -1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    @property
    def numbers(self) -> int:
        return 2 * self.latent + len(self.rows)

    def forward(self, values: Tensor, mean: Tensor | float) -> Distribution:
        shift, log_var, below = values.split([self.latent, self.latent, len(self.rows)], -1)
        diagonal = (0.5 * _within(log_var)).exp()
        factor = torch.diag_embed(diagonal)
        # Relative to the diagonal, so that it starts, and stays, well scaled.
        factor[..., self.rows, self.columns] = below * diagonal[..., self.rows]
        return MultivariateNormal(shift + mean, scale_tril=factor, validate_args=False)

    @torch.no_grad()
    def start(self, bias: Tensor) -> None:
        bias[self.latent : 2 * self.latent].fill_(NARROW)


class FlowPosterior(Posterior):
    """An autoregressive flow conditioned on the snapshot, inside a diagonal Gaussian (needs `romvae[flow]`).

    Standard normal noise passes through the flow and is then scaled and shifted as in `DiagonalPosterior`.

    Arguments:
        latent: Latent dimension.
        transforms: Autoregressive transformations.
        context: Features of the snapshot that the flow sees.

    References:
        Kingma et al. (2016), Improved variational inference with inverse autoregressive flow, arXiv:1606.04934.
    """

    def __init__(self, latent: int, transforms: int = 2, context: int = 16) -> None:
        super().__init__(latent)
        zuko = optional_import("zuko", "flow", "a normalising flow as posterior")
        self.context = context
        self.flow = zuko.flows.MAF(latent, context, transforms=transforms, hidden_features=(32, 32)).transform

    @property
    def numbers(self) -> int:
        return 2 * self.latent + self.context

    def forward(self, values: Tensor, mean: Tensor | float) -> Distribution:
        shift, log_var, context = values.split([self.latent, self.latent, self.context], -1)
        return FlowCode(self.flow(context), shift + mean, 0.5 * _within(log_var))

    @torch.no_grad()
    def start(self, bias: Tensor) -> None:
        bias[self.latent : 2 * self.latent].fill_(NARROW)


class PointPosterior(Posterior):
    """All probability next to one point, as in an autoencoder: a Gaussian whose width is fixed and negligible."""

    @property
    def numbers(self) -> int:
        return self.latent

    def forward(self, values: Tensor, mean: Tensor | float) -> Distribution:
        centre = values + mean
        std = torch.full_like(centre, math.exp(0.5 * LOG_VAR_RANGE[0]))
        return Independent(Normal(centre, std, validate_args=False), 1, validate_args=False)


def _within(log_var: Tensor) -> Tensor:
    """Log-variances within their range, where they do not say that the code is known."""
    return torch.where(log_var <= EXACT, EXACT, log_var.clamp(*LOG_VAR_RANGE))


POSTERIORS: dict[PosteriorKind | Literal["point"], type[Posterior]] = {
    "diagonal": DiagonalPosterior,
    "full": FullPosterior,
    "flow": FlowPosterior,
    "point": PointPosterior,
}
