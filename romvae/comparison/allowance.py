"""How long baselines may be fitted in a comparison: the cheap ones together a fifth of the ROM's training."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from romvae.baselines.selection import CHEAP, COSTLY
from romvae.cost.spent import training_seconds

__all__ = ["Allowance"]

SHARE, LEAST = 0.2, 60.0
"""Of the training's process seconds; and process seconds that cheap baselines may take together in any case."""


class Allowance:
    """Process seconds that are left for fits.

    A fit that has used up its share tries no further setting: what it chooses then depends on the machine.

    Arguments:
        seconds: Wall-clock of earlier stages, as `romvae.compare` takes it; without those of a training there is no
            limit.
        process: Process seconds of stages, as far as they are known.
    """

    def __init__(self, seconds: Mapping[str, float], process: Mapping[str, float] | None = None) -> None:
        self._training = training_seconds(seconds, process or {}, torch.get_num_threads())
        self._left = None if self._training is None else max(LEAST, SHARE * self._training)

    def of(self, name: str) -> float | None:
        """Seconds that a fit may take: what is left; of a costly one those of the training; None: no limit."""
        if name in COSTLY:
            return self._training
        return self._left if name in CHEAP else None

    def take(self, name: str, seconds: float) -> None:
        """Counts what a fit has taken."""
        if self._left is not None and name in CHEAP:
            self._left = max(0.0, self._left - seconds)
