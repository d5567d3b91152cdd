"""Least squares for linear dynamics: ridge regression without normal equations, and stability by construction."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ridge_fit", "stabilised", "standardisation"]

MARGIN, HIGHEST = 1e-6, 2**14
"""How far below one the bound on the eigenvalues has to be, far above the round-off of products; the last power."""


def standardisation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over all but the last axis; a constant feature keeps the width 1."""
    flat = features.flatten(0, -2)
    centre = flat.mean(0)
    width = (flat - centre).square().mean(0).sqrt()
    constant = width <= 1e-12 * centre.abs()
    return centre, torch.where(constant | (width == 0), torch.ones_like(width), width)


def ridge_fit(features: Tensor, target: Tensor, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, offset, residual std: least |target - F W - b|^2 / N + ridge |W|^2, F standardised features.

    By QR and SVD, never by normal equations, so that an exactly linear system is recovered to round-off.
    """
    count = features.shape[0]
    centre, width = standardisation(features)
    mean = target.mean(0)
    scaled = (features - centre) / width
    Q, R = torch.linalg.qr(scaled)
    U, s, Vh = torch.linalg.svd(R, full_matrices=False)
    kept = s > s.max() * torch.finfo(s.dtype).eps * max(features.shape)
    gain = torch.where(kept, s / (s**2 + count * ridge), torch.zeros_like(s))
    standardised = Vh.mT @ (gain[:, None] * (U.mT @ (Q.mT @ (target - mean))))
    residual = target - mean - scaled @ standardised
    freedom = max(count - int(kept.sum()) - 1, 1)
    weights = standardised / width[:, None]
    return weights, mean - centre @ weights, (residual.square().sum(0) / freedom).sqrt()


def stabilised(A: Tensor) -> Tensor:
    """Matrices `(..., n, n)` with eigenvalues of modulus > 1 scaled back to 1; one without such stays bit-equal."""
    if torch.compiler.is_exporting():  # a graph cannot branch on values: it scales all of them and chooses
        scaled, unstable = _scaled_back(A, check=False)
        return torch.where(unstable[..., None, None], scaled, A).clone(memory_format=torch.contiguous_format)
    doubtful = ~_surely_stable(A)
    if not bool(doubtful.any()):
        return A
    scaled, unstable = _scaled_back(A[doubtful], check=True)
    if not bool(unstable.any()):
        return A
    stable = A.clone()
    stable[doubtful] = torch.where(unstable[..., None, None], scaled, A[doubtful])
    return stable


def _scaled_back(A: Tensor, check: bool) -> tuple[Tensor, Tensor]:
    """The matrices with their eigenvalues brought into the unit circle, and whether any was outside."""
    values, vectors = torch.linalg.eig(A)
    modulus = values.abs()
    scaled = vectors @ torch.diag_embed(values / modulus.clamp_min(1.0))
    solution, _ = torch.linalg.solve_ex(vectors, scaled, left=False, check_errors=check)
    return solution.real.to(A.dtype), (modulus > 1).any(-1)


def _surely_stable(A: Tensor) -> Tensor:
    r"""Whether :math:`\|A^k\|^{1/k} < 1` for a power k of two up to `HIGHEST`, which bounds all eigenvalues by one.

    Products of matrices instead of eigenvalues, which took nine times as long as eleven of them (256 matrices of
    64 x 64). False says nothing.
    """
    power = A.double().reshape(-1, *A.shape[-2:])
    sure = torch.zeros(len(power), dtype=torch.bool, device=A.device)
    rows, log, k = torch.arange(len(power), device=A.device), power.new_zeros(len(power)), 1
    while k <= HIGHEST and len(rows):
        norm = torch.linalg.matrix_norm(power).clamp_min(torch.finfo(power.dtype).tiny)
        log = log + norm.log()  # of the norm of the power itself
        found = log < -MARGIN * k
        sure[rows[found]] = True
        rows, log, power = rows[~found], 2 * log[~found], power[~found] / norm[~found, None, None]
        power, k = power @ power, 2 * k
    return sure.reshape(A.shape[:-2])
