"""Variational autoencoder: encoder, decoder and prior; the evidence lower bound in its two parts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from romvae.distributions import analytic, divergence, moments, reparameterise
from romvae.nn.linear import AnyEncoder
from romvae.nn.observation import Observation, profiled_log_likelihood
from romvae.priors import Prior, StandardNormalPrior

__all__ = ["ELBO", "VAE", "Estimator", "profiled_log_likelihood"]

Estimator = Literal["auto", "analytic", "monte_carlo"]


@dataclass(frozen=True)
class ELBO:
    """The two parts of the bound, each of shape `(batch,)`, in nats; the bound is their difference."""

    log_likelihood: Tensor
    kl: Tensor

    @property
    def value(self) -> Tensor:
        return self.log_likelihood - self.kl


class VAE(nn.Module):
    """Encoder q(z | x), decoder p(x | z) and prior p(z).

    Arguments:
        encoder: Module whose forward returns q(z | x).
        decoder: Observation model whose forward returns p(x | z).
        prior: Module whose forward returns p(z); None is the standard normal.
    """

    def __init__(self, encoder: AnyEncoder, decoder: Observation, prior: Prior | None = None) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.prior = StandardNormalPrior(encoder.layout.latent) if prior is None else prior

    @property
    def latent(self) -> int:
        return self.encoder.layout.latent

    @property
    def variational(self) -> bool:
        """Whether codes are distributions; with `point` posteriors the model is an autoencoder without divergence."""
        return self.encoder.kind != "point"

    def elbo(
        self,
        x: Tensor,
        generator: torch.Generator | None = None,
        samples: int = 1,
        estimator: Estimator = "auto",
    ) -> ELBO:
        r"""Evidence lower bound of normalised snapshots.

        `analytic` is :math:`E_q \log p(x|z) - KL(q \| p)` with the divergence in closed form, `monte_carlo` is
        :math:`E_q [\log p(x|z) + \log p(z) - \log q(z|x)]`; both with the mean over samples. More samples make
        the estimate less noisy, not the bound tighter.

        Arguments:
            x: Normalised snapshots `(batch, channel, *space)`.
            generator: Source of the samples; None uses torch's global one.
            samples: Samples of the code per snapshot.
            estimator: `auto` is analytic where there is a closed form.

        Raises:
            ValueError: `analytic` was asked for and there is no closed form.
        """
        q, p = self.encoder(x), self.prior()
        likelihoods, divergences = [], []
        closed = estimator == "analytic" or (estimator == "auto" and analytic(q, p))
        for _ in range(samples):
            z = reparameterise(q, self._noise(x, generator))
            likelihoods.append(self.decoder(z).log_prob(x))
            if not closed:
                divergences.append(divergence(q, p, z).sum(-1))
        kl = divergence(q, p).sum(-1) if closed else torch.stack(divergences).mean(0)
        return ELBO(torch.stack(likelihoods).mean(0), kl)

    def importance_weighted_bound(self, x: Tensor, samples: int, generator: torch.Generator | None = None) -> Tensor:
        r""":math:`\log \tfrac1K \sum_k p(x|z_k) p(z_k) / q(z_k|x)`, shape `(batch,)`; the evidence as K grows.

        Its mean does not decrease with K and never exceeds log p(x); K = 1 is the evidence lower bound. Far posteriors
        need more samples than one can afford: compare two values of K before trusting it.

        Arguments:
            x: Normalised snapshots `(batch, channel, *space)`.
            samples: K.
            generator: Source of the samples.

        References:
            Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, arXiv:1509.00519.
        """
        q, p = self.encoder(x), self.prior()
        weights = []
        for _ in range(samples):
            z = reparameterise(q, self._noise(x, generator))
            weights.append(self.decoder(z).log_prob(x) - divergence(q, p, z).sum(-1))
        return torch.logsumexp(torch.stack(weights), 0) - math.log(samples)

    @torch.no_grad()
    def kl_per_dimension(self, x: Tensor) -> Tensor:
        """Mean divergence of each latent dimension from the standard normal over the batch, nats, shape `(latent,)`.

        For posteriors whose latents depend on each other it is that of the Gaussian with the same moments per latent.
        """
        mean, std = moments(self.encoder(x))
        return (0.5 * (mean.square() + std.square() - 1) - std.log()).mean(0)

    def _noise(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(len(x), self.latent, generator=generator, dtype=x.dtype)
        return noise.to(x.device)
