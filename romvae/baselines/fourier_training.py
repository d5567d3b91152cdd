"""Training of a Fourier neural operator: pairs of fields, steps of the optimiser, and what each of them takes."""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from romvae.baselines.fourier_network import FourierStep, Sizes, tensors

__all__ = ["BATCH", "Pairs", "Training"]

BATCH = 16
WARM_UP = 3
"""Steps that do not count as a measurement, where there are three times as many."""


class Pairs:
    """Training pairs as a pure function of the step: `(seed, step)` says which.

    Arguments:
        x: Normalised trajectories `(trajectory, time, field, *space)`.
        c: Scaled parameters `(trajectory, parameter)`.
        lengths: Times of each trajectory.
        stride: Stored steps in a large step.
    """

    def __init__(self, x: Tensor, c: Tensor, lengths: Tensor, stride: int) -> None:
        self.x, self.c, self.lengths, self.stride = x, c, lengths, stride

    def batch(self, seed: int, step: int, two_steps: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """Start, parameters, lead, field at the lead, and for two steps the one a large step before it."""
        rng = np.random.default_rng((seed, step))
        before = self.stride if two_steps else 0
        rows = rng.integers(len(self.x), size=BATCH)
        room = self.lengths.numpy()[rows] - 1 - before
        leads = np.minimum(rng.integers(1, self.stride + 1, size=BATCH), np.maximum(room, 1))
        first = (rng.random(BATCH) * np.maximum(room - leads + 1, 1)).astype(int)
        now, then = self.x[rows, first], self.x[rows, first + before + leads]
        between = self.x[rows, first + before] if two_steps else None
        return now, self.c[rows], torch.from_numpy(leads / self.stride).float(), then, between


class Training:
    """A network, its optimiser, and the steps that it has taken.

    Arguments:
        sizes: Of the network.
        data: What it learns from.
        inside: Where the domain is; None for all of the grid.
        seed: Of the weights and the batches.
        device: Where it trains.

    Attributes:
        taken: Steps so far.
        seconds: Process time of each step, of those of a single step of the field and of those of two.
    """

    def __init__(self, sizes: Sizes, data: Pairs, inside: Tensor | None, seed: int, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = FourierStep(sizes, inside).to(device)
        self.sizes, self.data, self.seed, self.device, self.taken = sizes, data, seed, device, 0
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=sizes.learning_rate, weight_decay=1e-5)
        self.seconds: dict[bool, list[float]] = {False: [], True: []}
        self._share, self._rise = 0.0, 0.0

    def per_step(self, two_steps: bool, last: int = 50) -> float:
        """Median process time of the latest steps after warm-up; two steps of the field take twice as long as one."""
        seconds = self.seconds[two_steps]
        if not seconds:
            return 2 * self.per_step(False) if two_steps and self.seconds[False] else 0.0
        return median(seconds[WARM_UP if len(seconds) >= 3 * WARM_UP else 0 :][-last:])

    def schedule(self, steps: int) -> None:
        """Lets the learning rate fall to zero within so many further steps, along its cosine from where it is."""
        self._rise = (1 - self._share) / max(1, steps)

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights."""
        return {name: value.clone() for name, value in tensors(self.network).items()}

    def run(self, steps: int | None, until: float, two_steps: bool) -> None:
        """Takes so many steps, or two at least and as many as end before `until` in process time."""
        first, longest = self.taken, 0.0
        self.network.train()
        while steps is None or self.taken - first < steps:
            began = time.process_time()
            if (steps is not None or self.taken - first >= 2) and began + longest > until:
                break
            if not self._step(two_steps):
                break  # the weights of before are kept, if any were better
            self.seconds[two_steps].append(time.process_time() - began)
            longest = self.per_step(two_steps)

    def _step(self, two_steps: bool) -> bool:
        *batch, between = self.data.batch(self.seed, self.taken, two_steps)
        now, c, lead, then = (each.to(self.device) for each in batch)
        loss = now.new_zeros(())
        if between is not None:
            now = self.network(now, c, torch.ones_like(lead))
            loss = (now - between.to(self.device)).square().mean()
        loss = loss + (self.network(now, c, lead) - then).square().mean()
        if not bool(loss.isfinite()):
            return False
        for group in self.optimiser.param_groups:
            group["lr"] = self.sizes.learning_rate * 0.5 * (1 + np.cos(np.pi * min(1.0, self._share)))
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.taken, self._share = self.taken + 1, self._share + self._rise
        return True
