"""The evidence lower bound on held-out snapshots, at the variance that is best there: to compare models by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from romvae.distributions import analytic, divergence, reparameterise
from romvae.nn.observation import FixedGaussian, LocalGaussian, SharedGaussian
from romvae.ranks import ALONE, Ranks
from romvae.vae import VAE

__all__ = ["HeldOutBound", "held_out_bound"]

_BLOCK = 512


@dataclass
class HeldOutBound:
    r"""Sums over snapshots that the bound and its parts follow from; `add` snapshots, then read.

    With the variance that was learned on the training snapshots the bound on others is a measure of how much that
    variance is too small, and hides everything else. So a Gaussian with one variance per field gets the best one for
    the snapshots at hand: :math:`-\sum_c \tfrac{D_c}{2} (\log 2\pi\hat\sigma_c^2 + 1) - KL`. Observation models with a
    fixed variance, a local one that was learned with the mean, or none keep their own.

    Arguments:
        squares: Sum of squared residuals of each field.
        likelihood: Sum of log-likelihoods, for models without a profiled variance.
        kl: Sum of divergences.
        snapshots: Number of snapshots.
        points: Grid points inside the domain.
        floor: Smallest standard deviation.
    """

    squares: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    likelihood: float = 0.0
    kl: float = 0.0
    snapshots: int = 0
    points: int = 1
    floor: float = 0.0
    _profiled: bool = True

    @torch.no_grad()
    def add(self, vae: VAE, x: Tensor, generator: torch.Generator | None = None, ranks: Ranks = ALONE) -> None:
        """Counts snapshots `(batch, channel, *space)` in.

        Arguments:
            vae: The model.
            x: Normalised.
            generator: Source of one code per snapshot, on the CPU; None uses torch's own.
            ranks: Processes that share the snapshots; this one counts its share, and `merged` all of them.
        """
        decoder, rows = vae.decoder, ranks.part(len(x))
        noise = torch.randn(len(x), vae.latent, generator=generator, dtype=x.dtype)[rows.start : rows.stop].to(x.device)
        x = x[rows.start : rows.stop]
        if not len(x):
            return
        q, p = vae.encoder(x), vae.prior()
        z = reparameterise(q, noise)
        shared = isinstance(decoder, SharedGaussian) and not isinstance(decoder, FixedGaussian)
        self._profiled = shared and not (isinstance(decoder, LocalGaussian) and decoder.rule != "profiled")
        if self._profiled:
            residual = (x - decoder.decoded(z)).double()
            found = residual.square().sum([0, *range(2, x.ndim)]).cpu()
            self.squares = found if not len(self.squares) else self.squares + found
        else:
            self.likelihood += float(decoder(z).log_prob(x).double().sum())
        if vae.variational:
            kl = divergence(q, p) if analytic(q, p) else divergence(q, p, z)
            self.kl += float(kl.double().sum())
        self.snapshots += len(x)
        self.points, self.floor = decoder.points, decoder.floor

    def merged(self, ranks: Ranks) -> HeldOutBound:
        """The bound on the snapshots of all processes, each counted once."""
        if ranks.size == 1:
            return self
        parts = [part for part in ranks.gathered(self) if part.snapshots]
        found = replace(parts[0])
        for part in parts[1:]:
            found.squares = found.squares + part.squares
            found.likelihood += part.likelihood
            found.kl += part.kl
            found.snapshots += part.snapshots
        return found

    @property
    def divergence(self) -> float:
        """Mean divergence per snapshot, nats."""
        return self.kl / self.snapshots

    @property
    def error(self) -> float:
        """Root mean square residual of a value, sampled codes included; NaN where there is no profiled variance."""
        if not self._profiled:
            return math.nan
        return float((self.squares.mean() / (self.snapshots * self.points)).sqrt())

    @property
    def value(self) -> float:
        """The bound per snapshot, nats."""
        if not self._profiled:
            return (self.likelihood - self.kl) / self.snapshots
        var = self.squares / (self.snapshots * self.points) + self.floor**2
        likelihood = -0.5 * self.points * float((var.log() + math.log(2 * math.pi) + 1).sum())
        return likelihood - self.divergence


def held_out_bound(vae: VAE, x: Tensor, seed: int = 0) -> HeldOutBound:
    """The bound on normalised snapshots `(sample, channel, *space)`, with one code each.

    Arguments:
        vae: The model.
        x: Snapshots that it was not trained on.
        seed: Seed of the codes: models are compared at the same ones.
    """
    found, generator = HeldOutBound(), torch.Generator().manual_seed(seed)
    for part in x.split(_BLOCK):
        found.add(vae, part, generator)
    return found
