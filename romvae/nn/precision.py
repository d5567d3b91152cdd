"""Networks of which a part can compute in fewer digits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from romvae.kinds import Precision

__all__ = ["MixedPrecision", "in_precision"]

_DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16}


class MixedPrecision(nn.Module):
    """A network whose convolutions may round weights and inputs to fewer digits, with weights kept in float32.

    A subclass puts that part under `reducing`. Linear paths, sums and distributions stay outside: a bfloat16 has eight
    bits, and a field that is rounded to them has an error of two parts in a thousand.
    """

    reduced: torch.dtype | None = None
    """Type of numbers under `reducing`; None is that of the input. `in_precision` sets it for a while."""

    def reducing(self, x: Tensor) -> AbstractContextManager[None]:
        """Where matrix products and convolutions round; what comes out is to be turned back to the type of `x`."""
        if self.reduced is None:
            return nullcontext()
        return torch.autocast(x.device.type, self.reduced)


@contextmanager
def in_precision(networks: Sequence[nn.Module], precision: Precision) -> Iterator[None]:
    """While it lasts, the convolutions of these networks compute in a precision.

    Arguments:
        networks: All `MixedPrecision` in them count, at any depth.
        precision: `float32` changes nothing.
    """
    if precision not in _DTYPES:  # every step comes here: nothing is looked for in vain
        yield
        return
    parts = [part for network in networks for part in network.modules() if isinstance(part, MixedPrecision)]
    for part in parts:
        part.reduced = _DTYPES[precision]
    try:
        yield
    finally:
        for part in parts:
            part.reduced = None
