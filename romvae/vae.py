"""Variational autoencoder: encoder, decoder and prior; the evidence lower bound in its two parts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from romvae.distributions import kl_standard_normal
from romvae.nn.encoder import Encoder
from romvae.nn.observation import LocalGaussian

__all__ = ["ELBO", "VAE", "profiled_log_likelihood"]


@dataclass(frozen=True)
class ELBO:
    """The two parts of the bound, each of shape `(batch,)`, in nats; the bound is their difference."""

    log_likelihood: Tensor
    kl: Tensor

    @property
    def value(self) -> Tensor:
        return self.log_likelihood - self.kl


def profiled_log_likelihood(residual: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    r"""Log-likelihood per snapshot at the optimal shared variance of each field.

    For residuals r the variance that maximises the Gaussian likelihood is the mean square; put back, the
    log-likelihood is :math:`-\sum_c \tfrac{D_c}{2} (\log 2\pi\hat\sigma_c^2 + 1)` and needs no weight beta. With the
    floor, :math:`\hat\sigma_c^2 = \overline{r^2} + \mathrm{floor}^2`.

    Arguments:
        residual: x - mu(z), shape `(batch, channel, *space)`.
        floor: Smallest standard deviation, normalised units.

    Returns:
        The log-likelihood per snapshot (a scalar) and the optimal variances, shape `(channel,)`.

    References:
        Rybkin, Daniilidis and Levine (2021), section 3.2, arXiv:2006.13202.
    """
    dims = [0, *range(2, residual.ndim)]
    var = residual.square().mean(dims) + floor**2
    points = residual[0, 0].numel()
    constant = torch.log(torch.tensor(2 * torch.pi, dtype=residual.dtype, device=residual.device))
    return -0.5 * points * (var.log() + constant + 1).sum(), var


class VAE(nn.Module):
    """Encoder q(z | x), decoder p(x | z) and the standard normal prior p(z).

    Arguments:
        encoder: Module whose forward returns q(z | x).
        decoder: Module whose forward returns p(x | z).
    """

    def __init__(self, encoder: Encoder, decoder: LocalGaussian) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    @property
    def latent(self) -> int:
        return self.encoder.layout.latent

    def elbo(self, x: Tensor, generator: torch.Generator | None = None) -> ELBO:
        """Evidence lower bound of normalised snapshots with one sample and the analytic divergence.

        Arguments:
            x: Normalised snapshots `(batch, channel, *space)`.
            generator: Source of the sample; None uses torch's global one.
        """
        q = self.encoder(x).base_dist
        noise = torch.randn(q.mean.shape, generator=generator, dtype=x.dtype, device=x.device)
        p = self.decoder(q.mean + q.stddev * noise)
        return ELBO(p.log_prob(x), kl_standard_normal(q.mean, q.stddev).sum(-1))

    @torch.no_grad()
    def kl_per_dimension(self, x: Tensor) -> Tensor:
        """Mean divergence of each latent dimension over the batch, nats, shape `(latent,)`."""
        q = self.encoder(x).base_dist
        return kl_standard_normal(q.mean, q.stddev).mean(0)
