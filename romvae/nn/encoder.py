"""Encoder: a normalised snapshot becomes a distribution of the code, q(z | x)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from romvae.kinds import PosteriorKind
from romvae.nn.compilable import Compilable
from romvae.nn.conv import Conv, ResidualBlock
from romvae.nn.layout import Layout
from romvae.nn.parts import in_parts
from romvae.nn.posterior import EXACT, POSTERIORS
from romvae.nn.precision import MixedPrecision

__all__ = ["Encoder"]


class Encoder(MixedPrecision, Compilable):
    """q(z | x) = N(L (x - m) + f(x), diag exp(g(x))), or another posterior around the same linear path.

    The linear path L starts as the whitened POD projection (`start_from_pod`) and the convolutional correction f at
    zero: training starts from the best linear code there is, and improves on it.

    Arguments:
        layout: Sizes of the network.
        linear: Whether there is a linear path; it costs latent x grid points parameters.
        posterior: Kind of distribution, one of `POSTERIORS`.

    References:
        Kingma and Welling (2014), Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """

    def __init__(
        self, layout: Layout, linear: bool = True, posterior: PosteriorKind | Literal["point"] = "diagonal"
    ) -> None:
        super().__init__()
        self.layout, self.kind = layout, posterior
        first, sides = layout.channels[0], layout.sides
        layers: list[nn.Module] = [
            Conv(layout.fields, first, sides, kernel=layout.patch, stride=layout.patch, given=layout.given)
        ]
        width = first
        for level, channels in enumerate(layout.channels):
            if level:
                layers.append(Conv(width, channels, sides, kernel=3, stride=2))
            layers.extend(ResidualBlock(channels, sides, dropout=layout.dropout) for _ in range(layout.blocks))
            width = channels
        self.trunk = nn.Sequential(*layers)
        self.posterior = POSTERIORS[posterior](layout.latent)
        last = nn.Linear(layout.flat, self.posterior.numbers)
        self.head = nn.Sequential(nn.SiLU(), nn.Flatten(), last)
        nn.init.zeros_(last.bias)
        with torch.no_grad():
            last.weight.mul_(0.1)
            if linear:
                last.weight[: layout.latent].zero_()
            self.posterior.start(last.bias)
        self.linear = nn.Linear(layout.points, layout.latent) if linear else None

    def forward(self, x: Tensor) -> Distribution:
        """Encodes snapshots.

        Arguments:
            x: Normalised fields, shape `(batch, channel, *space)`.

        Returns:
            A distribution with batch shape `(batch,)` and event shape `(latent,)`.
        """
        values = in_parts(self.passing, x, math.prod(self.layout.shape))
        return self.posterior(values, 0.0 if self.linear is None else self.linear(x.flatten(1)))

    def one_pass(self, batch: Tensor) -> Tensor:
        """Numbers of the posterior, without the linear path."""
        with self.reducing(batch):
            features = self.trunk(batch)
        values: Tensor = self.head(features.to(batch.dtype))
        return values

    @torch.no_grad()
    def start_from_pod(self, mean: Tensor, modes: Tensor, std: Tensor) -> None:
        """Sets the linear path to z_i = modes_i . (x - mean) / std_i.

        Arguments:
            mean: Mean snapshot, shape `(points,)`.
            modes: Orthonormal POD modes, shape `(rank, points)`; a rank below the latent dimension leaves the
                remaining rows at small random values.
            std: Standard deviation of each coefficient, shape `(rank,)`.
        """
        if self.linear is None:
            return
        rank = modes.shape[0]
        rows = modes / std[:, None]
        self.linear.weight[:rank] = rows.to(self.linear.weight.dtype)
        self.linear.bias[:rank] = -(rows @ mean).to(self.linear.bias.dtype)

    @torch.no_grad()
    def become_pod(self, mean: Tensor, modes: Tensor, std: Tensor) -> None:
        """Makes the code the whitened POD projection and nothing else, and known exactly; needs a linear path.

        Codes beyond the rank of the modes are zero. Arguments as in `start_from_pod`.
        """
        if self.linear is None:
            raise ValueError("Encoder.become_pod: there is no linear path. Build it with linear=True.")
        self.linear.weight.zero_()
        self.linear.bias.zero_()
        self.start_from_pod(mean, modes, std)
        last, latent = self.head[-1], self.layout.latent
        if isinstance(last, nn.Linear):
            last.weight[: 2 * latent].zero_()
            last.bias[:latent] = 0.0
            last.bias[latent : 2 * latent] = EXACT
