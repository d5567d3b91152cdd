"""Rates of change of sampled trajectories, by finite differences."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["SPAN", "rates_of"]

SPAN = 7
"""Times of a difference quotient of sixth order; of shorter trajectories, all of them."""


def rates_of(z: Tensor) -> Tensor:
    """Change per stored step at every time, of sixth order, by one-sided quotients near both ends.

    Arguments:
        z: `(row, time, latent)`, two times or more.

    Returns:
        The same shape.
    """
    return torch.einsum("st,rtl->rsl", _quotients(z.shape[1]).to(z), z)


def _quotients(times: int) -> Tensor:
    """`(time, time)`: each row differentiates the polynomial through the nearest `SPAN` times."""
    span = min(SPAN, times)
    weights = torch.zeros(times, times, dtype=torch.float64)
    for k in range(times):
        begin = min(max(k - span // 2, 0), times - span)
        places = torch.arange(begin - k, begin - k + span, dtype=torch.float64)
        slope = torch.zeros(span, dtype=torch.float64)
        slope[1] = 1.0
        weights[k, begin : begin + span] = torch.linalg.solve(places ** torch.arange(span)[:, None], slope)
    return weights
