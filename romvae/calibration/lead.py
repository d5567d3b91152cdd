"""Functions of the lead time that are known at a few lead times."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["interpolate", "smooth", "stored_times"]


def smooth(values: Tensor) -> Tensor:
    """Moving average over three neighbouring lead times (axis 0), leaving the first as it is."""
    if len(values) < 4:
        return values
    inner = (values[1:-2] + values[2:-1] + values[3:]) / 3
    last = (values[-2] + values[-1]) / 2
    return torch.cat([values[:1], (values[1] + values[2])[None] / 2, inner, last[None]])


def interpolate(knots: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """Linear interpolation along axis 0, constant beyond the ends."""
    if len(knots) == 1:
        return values.expand(len(at), *values.shape[1:]).clone()
    at = at.to(knots.dtype).clamp(knots[0], knots[-1])
    right = torch.searchsorted(knots.contiguous(), at.contiguous()).clamp(1, len(knots) - 1)
    weight = (at - knots[right - 1]) / (knots[right] - knots[right - 1])
    weight = weight.reshape(-1, *[1] * (values.ndim - 1)).to(values.dtype)
    return torch.where(weight == 0, values[right - 1], _between(values[right - 1], values[right], weight))


def _between(left: Tensor, right: Tensor, weight: Tensor) -> Tensor:
    """Linear between two values; an infinite one stays infinite."""
    between = left * (1 - weight) + right * weight
    return torch.where(left.isinf() | right.isinf(), torch.maximum(left, right), between)


def stored_times(knots: Tensor) -> Tensor:
    """How many stored times each of some increasing lead times is the nearest of; that of the start is not counted.

    >>> stored_times(torch.tensor([0, 1, 2, 6, 10]))
    tensor([0, 1, 3, 4, 2])
    """
    if len(knots) == 1:
        return torch.ones(1, dtype=torch.long)
    steps = torch.arange(1, int(knots[-1]) + 1, dtype=torch.float64)
    middle = (knots[1:] + knots[:-1]).double() / 2
    return torch.bincount(torch.bucketize(steps, middle), minlength=len(knots))
