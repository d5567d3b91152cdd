"""The linear relatives of encoder and decoder: POD and probabilistic PCA behind the same interface."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from romvae.nn.decoder import FieldDecoder
from romvae.nn.encoder import Encoder
from romvae.nn.layout import Layout
from romvae.nn.posterior import EXACT

__all__ = ["AnyEncoder", "LinearDecoder", "LinearEncoder", "MeanDecoder"]


class LinearEncoder(nn.Module):
    """q(z | x) = N(V (x - m), diag var) with a variance that is the same for all snapshots.

    Arguments:
        layout: Sizes; only fields, grid and latent matter.
    """

    log_var: Tensor
    kind = "diagonal"

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.linear = nn.Linear(layout.points, layout.latent)
        self.register_buffer("log_var", torch.full((layout.latent,), EXACT))

    def forward(self, x: Tensor) -> Independent:
        """Encodes snapshots `(batch, channel, *space)`."""
        mean = self.linear(x.flatten(1))
        std = (0.5 * self.log_var).exp().expand_as(mean)
        return Independent(Normal(mean, std, validate_args=False), 1, validate_args=False)

    @torch.no_grad()
    def start_from_pod(self, mean: Tensor, modes: Tensor, std: Tensor) -> None:
        """Whitened POD coefficients, as in `Encoder.start_from_pod`; latents beyond the rank are zero."""
        self.linear.weight.zero_()
        self.linear.bias.zero_()
        rank = modes.shape[0]
        rows = modes / std[:, None]
        self.linear.weight[:rank] = rows.to(self.linear.weight.dtype)
        self.linear.bias[:rank] = -(rows @ mean).to(self.linear.bias.dtype)

    @torch.no_grad()
    def start_from_ppca(self, mean: Tensor, modes: Tensor, std: Tensor, noise: float) -> None:
        r"""The exact posterior of probabilistic PCA with noise variance s^2.

        With :math:`W = U (\Lambda - s^2)^{1/2}` and the diagonal :math:`M = W^\top W + s^2 = \Lambda`: mean
        :math:`M^{-1} W^\top (x - m)`, variance :math:`s^2 / \lambda_i`.

        Arguments:
            mean: As in `start_from_pod`, like `modes` and `std`.
            modes: Orthonormal modes.
            std: Standard deviations of their coefficients.
            noise: s^2, smaller than the variance of every mode.

        References:
            Tipping and Bishop (1999), Probabilistic principal component analysis, J. R. Stat. Soc. B 61, 611.
        """
        self.start_from_pod(mean, modes, std)
        rank, var = len(std), std.double().square()
        scale = ((var - noise).clamp_min(0) / var).sqrt()
        for part in (self.linear.weight, self.linear.bias):
            part[:rank] *= scale.to(part.dtype).reshape(-1, *[1] * (part.ndim - 1))
        self.log_var[:rank] = (noise / var).log().to(self.log_var.dtype)
        self.log_var[rank:] = 0.0  # a latent without a mode is at its prior


class LinearDecoder(nn.Module):
    """x = W z + m on the grid; stands where a `FieldDecoder` would.

    Arguments:
        layout: Sizes; only fields, grid and latent matter.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.linear = nn.Linear(layout.latent, layout.points)

    def forward(self, z: Tensor) -> Tensor:
        """Decodes latents `(batch, latent)` to `(batch, channel, *space)`."""
        return self.linear(z).reshape(z.shape[0], self.layout.fields, *self.layout.shape)

    @torch.no_grad()
    def start_from_pod(self, mean: Tensor, modes: Tensor, std: Tensor, noise: float = 0.0) -> None:
        """Columns (std^2 - noise)^(1/2) times the modes: POD without noise, probabilistic PCA with its variance."""
        self.linear.weight.zero_()
        scale = (std.double().square() - noise).clamp_min(0).sqrt()
        self.linear.weight[:, : len(std)] = (modes * scale[:, None].to(modes.dtype)).T.to(self.linear.weight.dtype)
        self.linear.bias.copy_(mean)


AnyEncoder = Encoder | LinearEncoder
"""What encodes: network or matrix."""

MeanDecoder = FieldDecoder | LinearDecoder
"""What puts out the mean of an observation model: network or matrix."""
