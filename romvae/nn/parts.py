"""Large batches pass through a network some snapshots at a time, so that what it needs on the way stays small."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["in_parts"]

_POINTS = 2**20
"""Grid points of a batch that pass at once."""


def in_parts(network: Callable[[Tensor], Tensor], batch: Tensor, points: int) -> Tensor:
    """`network(batch)` as training needs it, for networks that treat every snapshot on its own.

    Gradients keep what layers save, for all of the batch; but the work areas of convolutions, forward and backward, are
    those of some snapshots only: less than half the peak at 128 snapshots of 256 x 256 points, and arrays that the C
    library reuses where it would return larger ones to the system and fault their pages in again. The result differs
    by rounding: gradients of weights are added up in another order. Without gradients callers divide batches
    themselves.

    Arguments:
        network: What is applied.
        batch: Its input, `(batch, ...)`.
        points: Grid points of a snapshot.
    """
    at_once = max(1, _POINTS // points)
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or len(batch) <= at_once:
        return network(batch)
    return torch.cat([network(part) for part in batch.split(at_once)])
