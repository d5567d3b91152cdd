"""Layers of an ensemble: every member has its own weights, all are evaluated in one batched product."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MemberLinear", "MemberPerceptron"]


class MemberLinear(nn.Module):
    """Affine map :math:`y_m = h_m W_m + b_m` of each member.

    Arguments:
        members: Members of the ensemble.
        inputs: Size of the input.
        outputs: Size of the output.
        generator: Source of the initial weights.
        gain: Standard deviation of the output for a unit normal input.
    """

    def __init__(self, members: int, inputs: int, outputs: int, generator: torch.Generator, gain: float = 1.0) -> None:
        super().__init__()
        scale = gain / math.sqrt(max(1, inputs))
        self.weight = nn.Parameter(torch.randn(members, inputs, outputs, generator=generator) * scale)
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, h: Tensor) -> Tensor:
        """`(member, ..., inputs)` to `(member, ..., outputs)`."""
        flat = h.reshape(h.shape[0], -1, h.shape[-1])
        return torch.baddbmm(self.bias, flat, self.weight).reshape(*h.shape[:-1], self.weight.shape[-1])


class MemberPerceptron(nn.Module):
    """Residual multilayer perceptron of each member, with a last layer that starts near zero.

    Arguments:
        members: Members of the ensemble.
        widths: Sizes of input, hidden layers (all equal) and output.
        generator: Source of the initial weights.
    """

    def __init__(self, members: int, widths: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        gains = [1.0] * (len(widths) - 2) + [0.01]
        self.layers = nn.ModuleList(
            MemberLinear(members, a, b, generator, gain)
            for a, b, gain in zip(widths[:-1], widths[1:], gains, strict=True)
        )

    def forward(self, h: Tensor) -> Tensor:
        """`(member, ..., inputs)` to `(member, ..., outputs)`."""
        for k, layer in enumerate(self.layers[:-1]):
            y = F.silu(layer(h))
            h = y if k == 0 else h + y
        last: Tensor = self.layers[-1](h)
        return last

    @torch.no_grad()
    def silence(self) -> None:
        """Makes the last layer zero: what stands beside the network is the better start."""
        for parameter in self.layers[-1].parameters():
            parameter.zero_()
