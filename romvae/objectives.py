r"""How the divergence enters the training loss: weights, schedules, free bits and capacity.

With the profiled or a learned variance the likelihood balances the divergence by itself (a larger variance is a larger
beta), and `Beta()` with a weight of one is the evidence lower bound. The others answer particular needs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from romvae.kinds import ObjectiveKind, Schedule

__all__ = ["Beta", "Capacity", "FreeBits", "Objective", "objective_of"]


class Objective(ABC):
    """From the divergence of each code and latent to what is added to the negative log-likelihood."""

    @abstractmethod
    def __call__(self, kl: Tensor, progress: float) -> Tensor:
        """Penalty of a batch, a scalar.

        Arguments:
            kl: Divergences `(batch, latent)`, or `(batch, 1)` where the latents are not independent. Of the batch, only
                its mean may count: where several processes share a batch, that takes its place, as a batch of one.
            progress: Share of the training that is done, 0 to 1.
        """

    def full(self, progress: float) -> bool:
        """Whether the divergence counts, at this share of the training, as it will at the end."""
        return True


@dataclass(frozen=True)
class Beta(Objective):
    """beta KL, with beta constant, rising to its value, or rising again and again.

    A beta above one makes the bound looser, not tighter; below one it is no bound.

    Arguments:
        weight: The final beta.
        schedule: `warmup` rises linearly over `share` of the training, `cyclic` over half of each cycle.
        share: Share of the training in which `warmup` rises.
        cycles: Number of cycles.

    References:
        Higgins et al. (2017), beta-VAE, ICLR. Bowman et al. (2016), arXiv:1511.06349 (warm-up). Fu et al. (2019),
        Cyclical annealing schedule, arXiv:1903.10145.
    """

    weight: float = 1.0
    schedule: Schedule = "constant"
    share: float = 0.3
    cycles: int = 4

    def at(self, progress: float) -> float:
        """The weight at a share of the training."""
        if self.schedule == "constant":
            return self.weight
        if self.schedule == "warmup":
            return self.weight * min(1.0, progress / self.share)
        return self.weight * min(1.0, 2 * math.modf(progress * self.cycles)[0]) if progress < 1 else self.weight

    def full(self, progress: float) -> bool:
        return self.at(progress) >= self.weight

    def __call__(self, kl: Tensor, progress: float) -> Tensor:
        return self.at(progress) * kl.sum(-1).mean()


@dataclass(frozen=True)
class FreeBits(Objective):
    """sum over latents of max(mean KL_i, nats): a latent may carry so much at no cost, which keeps it from collapsing.

    Arguments:
        nats: Free divergence per latent; 0.05 to 0.5.

    References:
        Kingma et al. (2016), arXiv:1606.04934, appendix C.8.
    """

    nats: float = 0.1

    def __call__(self, kl: Tensor, progress: float) -> Tensor:
        return kl.mean(0).clamp_min(self.nats).sum()


@dataclass(frozen=True)
class Capacity(Objective):
    """weight |KL - C(t)|, where the target C grows linearly to `nats` in the first half of the training.

    Arguments:
        nats: Final target of the divergence of a code, summed over its latents.
        weight: How hard the target is held; much larger than one.

    References:
        Burgess et al. (2018), Understanding disentangling in beta-VAE, arXiv:1804.03599.
    """

    nats: float = 25.0
    weight: float = 100.0

    def target(self, progress: float) -> float:
        """C at a share of the training."""
        return self.nats * min(1.0, 2 * progress)

    def full(self, progress: float) -> bool:
        return self.target(progress) >= self.nats

    def __call__(self, kl: Tensor, progress: float) -> Tensor:
        return self.weight * (kl.sum(-1).mean() - self.target(progress)).abs()


def objective_of(kind: ObjectiveKind, choices: dict[str, Any]) -> Objective:
    """The objective of this kind with its numbers from `choices`, the keys of `LossChoices`."""
    if kind == "free_bits":
        return FreeBits(choices["free_bits"])
    if kind == "capacity":
        return Capacity(choices["capacity"])
    return Beta(choices["beta"], choices["beta_schedule"]) if kind == "beta" else Beta()
