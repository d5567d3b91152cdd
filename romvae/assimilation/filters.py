r"""Ensemble Kalman filters: how an ensemble of latents changes when observations come in.

Both take the covariance between latents and readings from the ensemble, so that the decoder need not be linear. The
latents are few and have no place in space: localisation, which keeps distant points of large models from correcting
each other by chance, has no meaning here, and more members than latents make it needless.

Shapes: latents `(member, trajectory, latent)`, predicted readings `(member, trajectory, sensor)`, readings and
variances of their errors `(trajectory, sensor)`; float64. A reading that is NaN is missing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from romvae.batched_solve import solve

__all__ = ["etkf", "exact_sample", "inflated", "perturbed_observations"]


def inflated(z: Tensor, factor: float) -> Tensor:
    """The ensemble with its deviations from the mean enlarged by a factor."""
    mean = z.mean(0)
    return mean + factor * (z - mean)


def etkf(z: Tensor, predicted: Tensor, y: Tensor, var: Tensor) -> Tensor:
    r"""Ensemble transform Kalman filter: deterministic, its spread is that of the analysis without sampling noise.

    With the scaled deviations A of latents and S of readings (by :math:`\sqrt{(M - 1) R}`), the mean moves by
    :math:`A^T (I + S S^T)^{-1} S\,d` and deviations become :math:`(I + S S^T)^{-1/2} A`. For linear models mean and
    covariance are those of the Kalman filter, to round-off.

    References:
        Bishop, Etherton and Majumdar (2001), Adaptive sampling with the ensemble transform Kalman filter, Mon. Wea.
        Rev. 129, 420; Hunt, Kostelich and Szunyogh (2007), Efficient data assimilation for spatiotemporal chaos,
        Physica D 230, 112 (the symmetric square root; arXiv:physics/0511236).
    """
    a, s, d, root = _scaled(z, predicted, y, var)
    left, sigma, right = torch.linalg.svd(s, full_matrices=False)  # of no more directions than sensors, or members
    gained = sigma / (1 + sigma.square()) * (right @ d[..., None])[..., 0]
    seen = left.mT @ a
    shift = seen.mT @ gained[..., None]
    deviations = root * (a + left @ (((1 + sigma.square()).rsqrt() - 1)[..., None] * seen))
    return (z.mean(0)[:, None] + shift.mT + deviations).transpose(0, 1)


def perturbed_observations(z: Tensor, predicted: Tensor, y: Tensor, var: Tensor, generator: torch.Generator) -> Tensor:
    r"""Stochastic ensemble Kalman filter: every member sees the readings with noise of its own.

    Converges to the Kalman filter like one over the root of the number of members; its sampling noise keeps members
    Gaussian where the deterministic filter may leave outliers.

    References:
        Burgers, van Leeuwen and Evensen (1998), Analysis scheme in the ensemble Kalman filter, Mon. Wea. Rev. 126,
        1719.
    """
    a, s, _, _ = _scaled(z, predicted, y, var)
    noise = torch.randn(predicted.shape, generator=generator, dtype=predicted.dtype)
    seen = torch.isfinite(y)
    precision = torch.where(seen, var, torch.inf).rsqrt()
    known = torch.where(seen, y, torch.zeros_like(y))
    innovation = ((known - predicted) * precision + noise * seen).transpose(0, 1)
    matrix = s.mT @ s + torch.eye(s.shape[-1], dtype=s.dtype)
    weights = solve(matrix, innovation.mT)
    return z + ((a.mT @ s) @ weights).mT.transpose(0, 1)


def exact_sample(
    mean: Tensor, factor: Tensor, members: int, generator: torch.Generator, freedom: float | None = None
) -> Tensor:
    r"""Members of a Gaussian whose sample mean, and covariance where they are enough, are exactly its own.

    Arguments:
        mean: `(trajectory, latent)`.
        factor: L with covariance :math:`L L^T`, `(trajectory, latent, latent)`.
        members: More than the number of latents for an exact covariance; fewer have an exact mean, and the right
            covariance on average.
        generator: Source of the sample.
        freedom: What the sum of squares is divided by where the covariance is computed; None for one less than the
            members.

    Returns:
        `(member, trajectory, latent)`.
    """
    freedom = members - 1 if freedom is None else freedom
    n, latent = mean.shape
    noise = torch.randn(n, members, latent, generator=generator, dtype=mean.dtype)
    if members > 1:
        noise = noise - noise.mean(1, keepdim=True)
    if members > latent:
        covariance = noise.mT @ noise / freedom
        noise = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), noise.mT, upper=False).mT
    elif members > 1:
        noise = noise * (freedom / (members - 1)) ** 0.5
    else:
        noise = torch.zeros_like(noise)
    return (mean[:, None] + noise @ factor.mT).transpose(0, 1)


def _scaled(z: Tensor, predicted: Tensor, y: Tensor, var: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Deviations of latents and readings, and the innovation, all scaled; and the scale of the latents' deviations."""
    root = (len(z) - 1) ** 0.5
    seen = torch.isfinite(y)
    precision = torch.where(seen, var, torch.inf).rsqrt()
    centre = predicted.mean(0)
    a = (z - z.mean(0)).transpose(0, 1) / root
    s = ((predicted - centre) * precision).transpose(0, 1) / root
    d = (torch.where(seen, y, centre) - centre) * precision
    return a, s, d, root
