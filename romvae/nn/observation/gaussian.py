"""Gaussian observation models: variance fixed, one per field, or one per field and grid point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from romvae.distributions import Fields, gaussian, soft_clamp
from romvae.nn.decoder import FieldDecoder
from romvae.nn.linear import MeanDecoder
from romvae.nn.observation.base import Observation
from romvae.nn.observation.rules import RULES, MeanRule
from romvae.ranks import ALONE, Ranks

__all__ = ["FixedGaussian", "LocalGaussian", "SharedGaussian", "profiled_log_likelihood"]

LOG_2PI = math.log(2 * math.pi)
MEMORY = 0.02
"""Weight of the newest batch in the running shared variance."""


def profiled_log_likelihood(
    residual: Tensor, floor: float, points: int | None = None, ranks: Ranks = ALONE
) -> tuple[Tensor, Tensor]:
    r"""Log-likelihood per snapshot at the optimal shared variance of each field.

    For residuals r the variance that maximises the Gaussian likelihood is the mean square; put back, the
    log-likelihood is :math:`-\sum_c \tfrac{D_c}{2} (\log 2\pi\hat\sigma_c^2 + 1)` and needs no weight beta. With the
    floor, :math:`\hat\sigma_c^2 = \overline{r^2} + \mathrm{floor}^2`.

    Arguments:
        residual: x - mu(z), shape `(batch, channel, *space)`; zero at points outside the domain.
        floor: Smallest standard deviation, normalised units.
        points: Grid points inside the domain; None takes all.
        ranks: Processes that share the batch; the variance is that of all residuals.

    Returns:
        The log-likelihood per snapshot (a scalar) and the optimal variances, shape `(channel,)`.

    References:
        Rybkin, Daniilidis and Levine (2021), section 3.2, arXiv:2006.13202.
    """
    dims = [0, *range(2, residual.ndim)]
    everywhere = residual[0, 0].numel()
    var = ranks.pooled(residual.square().mean(dims), len(residual))
    if points is not None and points != everywhere:
        var = var * (everywhere / points)
    var = var + floor**2
    constant = torch.log(torch.tensor(2 * torch.pi, dtype=residual.dtype, device=residual.device))
    return -0.5 * (points or everywhere) * (var.log() + constant + 1).sum(), var


def crps_of_standardised(w: Tensor) -> Tensor:
    r"""CRPS of a standard normal at w, :math:`w (2\Phi(w) - 1) + 2\varphi(w) - 1/\sqrt\pi`.

    References:
        Gneiting and Raftery (2007), Strictly proper scoring rules, J. Am. Stat. Assoc. 102, 359.
    """
    density = torch.exp(-0.5 * w.square()) / math.sqrt(2 * math.pi)
    return w * torch.erf(w / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi)


class SharedGaussian(Observation):
    r"""p(x | z) = N(mu(z), sigma_c^2 I): one variance per field, at its closed-form optimum.

    Training maximises the likelihood with the optimum put in; the buffer follows it by a running mean, and
    `fit_variance` sets it to the optimum on given residuals.

    Arguments:
        mean: Decoder of the mean.
        floor: Smallest standard deviation in normalised units. Without one the likelihood of noise-free snapshots is
            unbounded.
        mask: As in `Observation`.

    References:
        Lin et al. (2019), Balancing reconstruction quality and regularisation in ELBO for VAEs, arXiv:1909.03765.
        Rybkin, Daniilidis and Levine (2021), Simple and effective VAE training with calibrated decoders,
        arXiv:2006.13202.
    """

    def __init__(self, mean: MeanDecoder, floor: float = 1e-3, mask: Tensor | None = None) -> None:
        super().__init__(mean, mask)
        if not floor > 0:
            raise ValueError(f"{type(self).__name__}: floor is {floor}, expected a positive number such as 1e-3.")
        self.floor = floor
        self.register_buffer("log_var_shared", torch.zeros(mean.layout.fields))

    def shared_log_var(self, like: Tensor) -> Tensor:
        """The shared log-variance of each field, in the shape of `like`."""
        return self.log_var_shared.reshape(-1, *[1] * self.mean.layout.ndim).expand_as(like)

    def forward(self, z: Tensor) -> Fields:
        mean = self.decoded(z)
        return gaussian(mean, self.shared_log_var(mean), self.event_dims, self.mask)

    def mean_of(self, z: Tensor) -> Tensor:
        return self.decoded(z)

    def log_likelihood(self, x: Tensor, z: Tensor, ranks: Ranks = ALONE) -> Tensor:
        return self.profiled(x - self.decoded(z), ranks)

    def profiled(self, residual: Tensor, ranks: Ranks = ALONE) -> Tensor:
        """The likelihood at the optimal shared variances, which the buffer follows; see `profiled_log_likelihood`."""
        value, var = profiled_log_likelihood(residual, self.floor, self.points, ranks)
        self.follow(var.detach())
        return value

    @torch.no_grad()
    def follow(self, var: Tensor) -> None:
        """Lets the shared variances follow those of a batch; the first batch after `restart` sets them."""
        weight = MEMORY if self._started else 1.0
        self._started = True
        old = self.log_var_shared.exp()
        self.log_var_shared.copy_(torch.log((1 - weight) * old + weight * var.to(old.dtype)))

    _started = True

    def restart(self) -> None:
        """Forgets the shared variances: those of the next batch take their place."""
        self._started = False

    @torch.no_grad()
    def fit_variance(self, squared: Tensor) -> None:
        """Sets the shared variances to their optimum for squared residuals `(..., channel, *space)`."""
        dims = [d for d in range(squared.ndim) if d != squared.ndim - 1 - self.mean.layout.ndim]
        everywhere = self.mean.layout.points // self.mean.layout.fields
        var = self.inside(squared).mean(dims) * (everywhere / self.points) + self.floor**2
        self.log_var_shared.copy_(var.log())


class FixedGaussian(Observation):
    r"""p(x | z) = N(mu(z), diag std_c^2) with standard deviations that are given: squared error, in other words.

    A weight beta on the divergence and a fixed variance are one and the same choice; leave one of them at 1.

    Arguments:
        mean: Decoder of the mean.
        std: Standard deviation of each field in normalised units, shape `(channel,)`, or one for all.
        mask: As in `Observation`.
    """

    def __init__(self, mean: MeanDecoder, std: float | Sequence[float] = 0.1, mask: Tensor | None = None) -> None:
        super().__init__(mean, mask)
        values = torch.as_tensor(std, dtype=torch.get_default_dtype()).expand(mean.layout.fields)
        if not bool((values > 0).all()):
            raise ValueError(f"FixedGaussian: std is {std}, expected positive numbers such as 0.01.")
        self.register_buffer("log_var_shared", 2 * values.log())

    @property
    def floor(self) -> float:  # type: ignore[override]
        """The smallest of the given standard deviations."""
        return float((0.5 * self.log_var_shared.min()).exp())

    def forward(self, z: Tensor) -> Fields:
        mean = self.decoded(z)
        log_var = self.log_var_shared.reshape(-1, *[1] * self.mean.layout.ndim).expand_as(mean)
        return gaussian(mean, log_var, self.event_dims, self.mask)

    def mean_of(self, z: Tensor) -> Tensor:
        return self.decoded(z)

    def log_likelihood(self, x: Tensor, z: Tensor, ranks: Ranks = ALONE) -> Tensor:
        return ranks.pooled(self(z).log_prob(x).mean(), len(x))


class LocalGaussian(SharedGaussian):
    r"""p(x | z) = N(mu(z), diag sigma^2(z)), one mean and one variance per field and grid point.

    The log-variance is :math:`\log\sigma^2 = \mathrm{softclamp}(s(z) + \log\hat\sigma^2_c)`: a shared variance per
    field, which has a closed-form optimum, times a local factor exp(s) from a small decoder of its own that starts at
    one. Until `local` is set, the shared variance alone is used.

    Arguments:
        mean: Decoder of the mean.
        log_var: Decoder of the local log-variance factor.
        floor: As in `SharedGaussian`: the declared resolution of the model.
        mask: As in `Observation`.
        rule: What the mean is trained on; with other rules than `profiled` the local head is trained along with it.
        score: What the local head is fitted by afterwards: the likelihood, or the CRPS, which outliers move less.
    """

    local: Tensor

    def __init__(
        self,
        mean: MeanDecoder,
        log_var: FieldDecoder,
        floor: float = 1e-3,
        mask: Tensor | None = None,
        rule: MeanRule = "profiled",
        score: Literal["nll", "crps"] = "nll",
    ) -> None:
        super().__init__(mean, floor, mask)
        self.log_var, self.rule, self.score = log_var, rule, score
        self.register_buffer("local", torch.tensor(rule != "profiled"))

    def variance_parameters(self, z: Tensor) -> Tensor:
        """Local log-variance of shape `(batch, channel, *space)`."""
        local = self.log_var(z)
        return self._bounded(local + self.shared_log_var(local))

    def log_variance(self, z: Tensor, like: Tensor) -> Tensor:
        """The local log-variance where it is in use, the shared one in the shape of `like` elsewhere."""
        return self.variance_parameters(z) if bool(self.local) else self.shared_log_var(like)

    def _bounded(self, log_var: Tensor) -> Tensor:
        return soft_clamp(log_var, 2 * math.log(self.floor), math.log(4.0))

    def forward(self, z: Tensor) -> Fields:
        mean = self.decoded(z)
        log_var = self.log_variance(z, mean)
        return gaussian(mean, log_var, self.event_dims, self.mask)

    def density(self, residual: Tensor, log_var: Tensor) -> Tensor:
        """Log-density of each value, zero outside the domain; shape `(batch, channel, *space)`."""
        return self.inside(-0.5 * (log_var + residual.square() * torch.exp(-log_var) + LOG_2PI))

    def log_likelihood(self, x: Tensor, z: Tensor, ranks: Ranks = ALONE) -> Tensor:
        return RULES[self.rule](self, x, z, ranks)

    def head_parameters(self) -> list[nn.Parameter]:
        """What is fitted after the mean, on trajectories of its own."""
        return list(self.log_var.parameters())

    def variance_loss(self, z: Tensor, squared: Tensor) -> Tensor:
        """Score per value of stopped squared residuals under the local variance, constants left out."""
        return self._scored(self.variance_parameters(z), squared)

    def shared_loss(self, squared: Tensor) -> Tensor:
        """The same under the shared variance."""
        return self._scored(self.shared_log_var(squared), squared)

    def _scored(self, log_var: Tensor, squared: Tensor) -> Tensor:
        if self.score == "crps":
            std = torch.exp(0.5 * log_var)
            return self._mean(std * crps_of_standardised(squared.sqrt() / std))
        return self._mean(0.5 * (log_var + squared * torch.exp(-log_var)))

    def _mean(self, values: Tensor) -> Tensor:
        """Mean over the values inside the domain."""
        if self.mask is None:
            return values.mean()
        layout = self.mean.layout
        snapshots = values.numel() / layout.points
        return self.inside(values).sum() / (snapshots * layout.fields * self.points)
