"""Terms beside a network that take part where the data say so."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["OptionalTerms"]


class OptionalTerms(nn.Module):
    """Weights that count, and are trained unless `fixed`, where `used` is not 0; else they are none and cost nothing.

    Trained on trajectories that they do not describe, they would learn those by heart.

    Arguments:
        weight: What they start as.

    Attributes:
        level: `used` as a number: graphs cannot branch on a tensor's value, and reading one stops a GPU.
        fixed: Whether they stay what they start as.
    """

    fixed = False
    weight: nn.Parameter
    used: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.register_buffer("used", torch.tensor(0.0))
        self.level = 0
        self.take_part(0)

    @torch.no_grad()
    def take_part(self, level: int) -> None:
        """Whether the terms count; a kind of them may tell levels above 0 apart."""
        self.used.fill_(float(level))
        self.level = int(level)
        self.weight.requires_grad_(level > 0 and not self.fixed)

    @property
    def idle(self) -> bool:
        """Whether they can be left out."""
        return self.level == 0

    def complete(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        """Adds what the state of a model of an earlier version lacks."""
        for name, value in (("weight", self.weight), ("used", self.used)):
            state_dict.setdefault(prefix + name, torch.zeros_like(value))

    @torch.no_grad()
    def start(self, weight: Tensor | None) -> None:
        """Takes part with these weights, the same for all networks; with None, not at all."""
        self.take_part(int(weight is not None))
        self.weight.zero_()
        if weight is not None:
            self.weight.copy_(weight.to(self.weight).expand_as(self.weight))

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # type: ignore[no-untyped-def]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.level = int(self.used)
        self.weight.requires_grad_(self.level > 0)
