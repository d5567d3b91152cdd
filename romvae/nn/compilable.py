"""Networks whose pass in training can be a compiled one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Compilable", "compiled"]

Pass = Callable[[Tensor], Tensor]


class Compilable(nn.Module):
    """A network that treats every snapshot on its own in `one_pass`, which `compiled` may have replaced."""

    _compiled: Pass | None = None

    def one_pass(self, batch: Tensor) -> Tensor:
        """All of the network that is a plain function of tensors."""
        raise TypeError(f"{type(self).__name__} has no pass; define one_pass(batch).")

    @property
    def passing(self) -> Pass:
        """What computes it: the compiled one where there are gradients, so that nothing else is compiled again."""
        return self.one_pass if self._compiled is None or not torch.is_grad_enabled() else self._compiled


@contextmanager
def compiled(networks: Sequence[nn.Module], on: bool = True) -> Iterator[None]:
    """While it lasts, training passes through these networks are compiled, at the first one of each size.

    Weights and their names stay what they are, and results agree to rounding.

    Arguments:
        networks: All `Compilable` in them count, at any depth.
        on: Whether to do so.
    """
    parts = [part for network in networks for part in network.modules() if isinstance(part, Compilable)] if on else []
    for part in parts:
        part._compiled = torch.compile(part.one_pass, dynamic=False)
    try:
        yield
    finally:
        for part in parts:
            part._compiled = None
