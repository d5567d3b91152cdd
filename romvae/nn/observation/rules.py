r"""How mean and local variance share a likelihood while the mean is trained: four rules, one function each.

With residuals r and the log-variances s of the local head; sg stops gradients. `ranks` are the processes that share the
batch: means are those of the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from romvae.ranks import Ranks

if TYPE_CHECKING:
    from romvae.nn.observation.gaussian import LocalGaussian

__all__ = ["RULES", "MeanRule", "beta_nll", "faithful", "joint", "profiled"]

MeanRule = Literal["profiled", "joint", "beta_nll", "faithful"]

BETA = 0.5
"""Exponent of beta-NLL: 0 is the plain likelihood, 1 the squared error's gradient for the mean."""


def profiled(p: LocalGaussian, x: Tensor, z: Tensor, ranks: Ranks) -> Tensor:
    """The likelihood at the optimal shared variance of each field; the local head is left alone."""
    return p.profiled(x - p.decoded(z), ranks)


def joint(p: LocalGaussian, x: Tensor, z: Tensor, ranks: Ranks) -> Tensor:
    """The plain likelihood of mean and local variance together; known to sacrifice the mean where it is hard."""
    return ranks.pooled(p.density(x - p.decoded(z), p.variance_parameters(z)).sum() / len(x), len(x))


def beta_nll(p: LocalGaussian, x: Tensor, z: Tensor, ranks: Ranks) -> Tensor:
    """Every term weighted by sg(var^beta), the weights scaled to a mean of one so that the divergence keeps its weight.

    References:
        Seitzer, Tavakoli, Antic and Martius (2022), On the pitfalls of heteroscedastic uncertainty estimation with
        probabilistic neural networks, arXiv:2203.09168.
    """
    log_var = p.variance_parameters(z)
    weight = (BETA * log_var).exp().detach()
    scale = ranks.pooled(weight.mean(), len(x))
    return ranks.pooled((weight / scale * p.density(x - p.decoded(z), log_var)).sum() / len(x), len(x))


def faithful(p: LocalGaussian, x: Tensor, z: Tensor, ranks: Ranks) -> Tensor:
    """The mean as with `profiled`; the local variance follows it at the same time on stopped residuals and codes.

    References:
        Stirn et al. (2023), Faithful heteroscedastic regression with neural networks, arXiv:2212.09184.
    """
    residual = x - p.decoded(z)
    follows = ranks.pooled(p.density(residual.detach(), p.variance_parameters(z.detach())).sum() / len(x), len(x))
    return p.profiled(residual, ranks) + follows - follows.detach()


RULES: dict[MeanRule, Callable[[LocalGaussian, Tensor, Tensor, Ranks], Tensor]] = {
    "profiled": profiled,
    "joint": joint,
    "beta_nll": beta_nll,
    "faithful": faithful,
}
"""The rules by name."""
