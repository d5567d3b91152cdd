"""Terms beside a network that take part where the data say so."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["OptionalTerms"]


class OptionalTerms(nn.Module):
    """Weights that count, and are trained, where `used` is not 0; else they stay nothing and cost nothing.

    Trained on trajectories that they do not describe, they would learn those by heart.

    Arguments:
        weight: What they start as.
    """

    weight: nn.Parameter
    used: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.register_buffer("used", torch.tensor(0.0))
        self.take_part(False)

    @torch.no_grad()
    def take_part(self, on: bool) -> None:
        """Whether the terms count, and are trained."""
        self.used.fill_(float(on))
        self.weight.requires_grad_(on)

    @property
    def idle(self) -> bool:
        """Whether they can be left out; an exported graph, which cannot branch on values, keeps them."""
        return self.weight.numel() == 0 or not (torch.compiler.is_exporting() or bool(self.used))

    @torch.no_grad()
    def start(self, weight: Tensor | None) -> None:
        """Takes part with these weights, the same for all networks; with None, not at all."""
        self.take_part(weight is not None)
        self.weight.zero_()
        if weight is not None:
            self.weight.copy_(weight.to(self.weight).expand_as(self.weight))

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # type: ignore[no-untyped-def]
        for name, value in (("weight", self.weight), ("used", self.used)):
            state_dict.setdefault(prefix + name, torch.zeros_like(value))  # a model of an earlier version
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.weight.requires_grad_(bool(self.used))
