"""Least squares for linear dynamics: ridge regression without normal equations, and stability by construction."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ridge_fit", "stabilised", "standardisation"]


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
    values, vectors = torch.linalg.eig(A)
    modulus = values.abs()
    unstable = (modulus > 1).any(-1)
    traced = torch.compiler.is_exporting()  # a graph cannot branch on values: it computes both and chooses
    if not traced and not bool(unstable.any()):
        return A
    scaled = vectors @ torch.diag_embed(values / modulus.clamp_min(1.0))
    solution, _ = torch.linalg.solve_ex(vectors, scaled, left=False, check_errors=not traced)
    stable = torch.where(unstable[..., None, None], solution.real.to(A.dtype), A)
    return stable.clone(memory_format=torch.contiguous_format) if traced else stable
