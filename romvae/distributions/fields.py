"""A distribution of a whole snapshot whose grid points are independent, some of them outside the domain."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

__all__ = ["Fields"]


class Fields(Independent):
    """Independent values at the grid points of a snapshot, event shape `(channel, *space)`.

    Points outside the domain (an obstacle, land) carry no probability: they add nothing to `log_prob`, and their
    variance is zero.

    Arguments:
        base: Distribution of each value, batch shape `(..., channel, *space)`.
        event_dims: Trailing dimensions that make up one snapshot.
        mask: True inside the domain, shape `(*space)`; None where every point is.
    """

    def __init__(self, base: Distribution, event_dims: int, mask: Tensor | None = None) -> None:
        super().__init__(base, event_dims, validate_args=False)
        self.mask = mask

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of snapshots `(..., channel, *space)`, shape `(...)`."""
        density = self.base_dist.log_prob(value)
        if self.mask is not None:
            density = torch.where(self.mask, density, torch.zeros_like(density))
        return density.flatten(-self.reinterpreted_batch_ndims).sum(-1)

    @property
    def variance(self) -> Tensor:
        """Variance of each value, shape `(..., channel, *space)`."""
        variance = self.base_dist.variance
        return variance if self.mask is None else torch.where(self.mask, variance, torch.zeros_like(variance))

    @property
    def stddev(self) -> Tensor:
        """Standard deviation of each value."""
        return self.variance.sqrt()
