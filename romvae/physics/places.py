"""Where on a grid an equation is required: away from obstacles and ends, beside which differences know too little."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from romvae.grid import Grid

__all__ = ["away_from", "away_from_ends"]


def away_from(grid: Grid, mask: Tensor | None, cells: int) -> Tensor:
    """Points that are at least so many cells away from all points outside the domain, `(*space)`."""
    if mask is None:
        return torch.ones(grid.shape, dtype=torch.bool)
    outside = (~mask.cpu().bool()).float()[None, None]
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[grid.ndim]
    return pool(outside, 2 * cells + 1, 1, cells)[0, 0] == 0


def away_from_ends(grid: Grid, cells: int, axes: str = "xyz") -> Tensor:
    """Points that are at least so many cells away from the ends of the named axes that do not wrap, `(*space)`."""
    inside = torch.ones(grid.shape, dtype=torch.bool)
    for dim, axis in enumerate(grid.axes):
        if axis.periodic or axis.name not in axes:
            continue
        place = torch.arange(axis.size)
        good = (place >= cells) & (place < axis.size - cells)
        inside &= good.reshape(-1, *[1] * (grid.ndim - 1 - dim))
    return inside
