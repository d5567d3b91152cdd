"""Linear systems with many matrices at once, where torch's own routine fails on several CPU threads."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["inverse", "solve"]

ALONE = 128
"""Rows from which matrices are factorised one after the other. From about 150 on, MKL's blocked factorisation is not
safe when torch calls it from several threads at once: pivots are garbage, and the call raises or is wrong
(pytorch/pytorch#142815). Smaller ones are not blocked, and that is where a loop would cost time."""


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """Solutions X of A X = B, or of X A = B with `left=False`, as `torch.linalg.solve` gives them.

    Arguments:
        A: `(..., n, n)`.
        B: `(..., n, k)`, or `(..., k, n)` from the right; the same leading axes.
        left: On which side the matrices stand.

    Raises:
        torch.linalg.LinAlgError: A matrix is singular.
    """
    if not _one_by_one(A):
        return torch.linalg.solve(A, B, left=left)
    pairs = zip(A.flatten(0, -3), B.flatten(0, -3), strict=True)
    return torch.stack([torch.linalg.solve(a, b, left=left) for a, b in pairs]).reshape(B.shape)


def inverse(A: Tensor) -> Tensor:
    """Inverses of matrices `(..., n, n)`, as `torch.linalg.inv` gives them."""
    if not _one_by_one(A):
        return torch.linalg.inv(A)
    return torch.stack([torch.linalg.inv(a) for a in A.flatten(0, -3)]).reshape(A.shape)


def _one_by_one(A: Tensor) -> bool:
    return A.device.type == "cpu" and A.shape[-1] > ALONE and A.shape[:-2].numel() > 1
