"""What every observation model is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from romvae.distributions import Fields
from romvae.nn.linear import MeanDecoder
from romvae.ranks import ALONE, Ranks

__all__ = ["Observation"]


class Observation(nn.Module, ABC):
    """p(x | z) of normalised snapshots `(batch, channel, *space)` given codes `(batch, latent)`.

    Arguments:
        mean: Decoder of the mean, or of what stands for it (`link`).
        mask: True inside the domain, shape `(*space)`; points outside have no likelihood and a mean of zero.
    """

    mask: Tensor | None
    log_var_shared: Tensor
    floor: float = 0.0
    """Smallest standard deviation, normalised units: the declared resolution of the model; 0 where there is none."""

    def __init__(self, mean: MeanDecoder, mask: Tensor | None = None) -> None:
        super().__init__()
        self.mean = mean
        self.register_buffer("mask", mask)

    @property
    def event_dims(self) -> int:
        return 1 + self.mean.layout.ndim

    @property
    def points(self) -> int:
        """Grid points inside the domain."""
        return self.mean.layout.points // self.mean.layout.fields if self.mask is None else int(self.mask.sum())

    @abstractmethod
    def forward(self, z: Tensor) -> Fields:
        """Distribution of the snapshot given latents `(batch, latent)`; event `(channel, *space)`."""

    @abstractmethod
    def log_likelihood(self, x: Tensor, z: Tensor, ranks: Ranks = ALONE) -> Tensor:
        """Log-likelihood per snapshot that encoder and mean are trained on, a scalar for the batch.

        Arguments:
            x: Normalised snapshots `(batch, channel, *space)`; where several processes train, the share of this one.
            z: Codes `(batch, latent)`.
            ranks: Those processes; the result is that of the whole batch.
        """

    def mean_of(self, z: Tensor) -> Tensor:
        """Mean of p(x | z) alone, `(batch, channel, *space)`, at the cost of no variance."""
        return self(z).mean

    def moments_of(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of p(x | z), each `(batch, channel, *space)`, zero outside the domain."""
        p = self(z)
        return p.mean, p.variance

    def link(self, x: Tensor) -> Tensor:
        """What `mean` has to put out for the distribution to have the mean `x`."""
        return x

    def decoded(self, z: Tensor) -> Tensor:
        """Output of `mean`, zero outside the domain."""
        return self.inside(self.mean(z))

    def inside(self, x: Tensor) -> Tensor:
        """`x` with zeros outside the domain."""
        return x if self.mask is None else torch.where(self.mask, x, torch.zeros_like(x))
