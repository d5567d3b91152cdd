"""The continuous ranked probability score of ensembles whose members are numbers or Gaussians, almost fair."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["ensemble_crps"]


def ensemble_crps(mean: Tensor, truth: Tensor, std: Tensor | None = None, alpha: float = 0.95) -> Tensor:
    r"""The score of M members at every point, the smaller the better.

    For members that are numbers it is

    .. math:: \frac1M \sum_m |x_m - y| - \frac{1 - \epsilon}{2 M (M - 1)} \sum_{m \ne n} |x_m - x_n|,
        \quad \epsilon = (1 - \alpha) / M,

    for `alpha` 0 the score of the ensemble taken as a distribution, which favours a small spread; for 1 that of
    the distribution that the members were drawn from, without bias (fair), but blind where all members but one agree.
    Between them it is almost fair. With `std`, members are Gaussians, distances are expectations,
    :math:`E|N(m, s^2)| = m\,\mathrm{erf}(m / \sqrt2 s) + s \sqrt{2 / \pi} \exp(-m^2 / 2 s^2)`, and `alpha` 0 gives the
    score of their mixture.

    Arguments:
        mean: Members `(member, ...)`, or their means.
        truth: Observed values `(...)`.
        std: Standard deviations of the members, like `mean`.
        alpha: Share of fairness, 0 to 1. A single member has no fair score, and `alpha` does not count.

    Returns:
        Shape `(...)`.

    References:
        Lang et al. (2024), AIFS-CRPS: ensemble forecasting using a model trained with a loss function based on the
        continuous ranked probability score, arXiv:2412.15832.
        Grimit et al. (2006), The continuous ranked probability score for circular variables and its application to
        mesoscale forecast ensemble verification, Q. J. R. Meteorol. Soc. 132, 2925 (the mixture).
    """
    members = len(mean)
    error = _distance(mean - truth, None if std is None else std.square()).mean(0)
    between, within = torch.zeros_like(error), torch.zeros_like(error)
    for m in range(members):
        for n in range(m):
            var = None if std is None else std[m].square() + std[n].square()
            between = between + 2 * _distance(mean[m] - mean[n], var)
        if std is not None:
            within = within + 2 / math.sqrt(math.pi) * std[m]
    plain = (between + within) / members**2
    if members == 1:
        return error - 0.5 * plain
    fair = between / (members * (members - 1))
    return error - 0.5 * (alpha * fair + (1 - alpha) * plain)


def _distance(difference: Tensor, var: Tensor | None) -> Tensor:
    """E|N(difference, var)|."""
    if var is None:
        return difference.abs()
    var = var.clamp_min(torch.finfo(var.dtype).tiny)
    ratio = difference * (2 * var).rsqrt()
    return difference * torch.erf(ratio) + (2 * var / math.pi).sqrt() * torch.exp(-ratio.square())
