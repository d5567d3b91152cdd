"""Batches from tensors in memory; which samples, in which order, is a pure function of (seed, step).

Where several processes train, each draws the random numbers of the whole batch, and fetches its share of the samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from romvae.ranks import ALONE, Ranks
from romvae.symmetry import Symmetry

__all__ = ["SnapshotBatches", "StepSeeds", "WindowBatches", "step_generator"]

NONE = Symmetry()
"""No symmetry: snapshots stay as they are."""


def step_generator(seed: int, stream: str, step: int) -> torch.Generator:
    """Random numbers of one step of one stream; they follow from the three arguments, whatever happened before.

    Arguments:
        seed: Seed of the run.
        stream: What they are for; streams of one seed, and one stream of two seeds, have nothing in common.
        step: Number of the step.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}/{step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


class StepSeeds:
    """Yields the steps `start, ..., steps - 1`; the base of every batch source.

    Arguments:
        steps: Number of training steps in all.
        seed: Seed of the order.
        start: First step, for resuming.

    Attributes:
        batch_size: Samples of a whole batch.
        ranks: Processes that share every batch.
    """

    batch_size: int
    stream: ClassVar[str] = "steps"
    """Name of the random numbers that a source draws."""

    def __init__(self, steps: int, seed: int, start: int = 0) -> None:
        self.steps, self.seed, self.start = steps, seed, start
        self.ranks: Ranks = ALONE

    @property
    def rows(self) -> slice:
        """Which samples of a batch are given out: those of this process."""
        return self.ranks.share(self.batch_size)

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for step in range(self.start, self.steps):
            yield self.batch(step_generator(self.seed, self.stream, step), step)

    def batch(self, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        raise TypeError(f"{type(self).__name__} does not say what a batch is; define batch(generator, step).")


class SnapshotBatches(StepSeeds):
    """Random normalised snapshots, each drawn from all trajectories and times, moved by a symmetry where there is one.

    Every pass over the data visits each snapshot once: step k takes the k-th slice of the permutation of its epoch.

    Arguments:
        x: Snapshots `(sample, channel, *space)`.
        batch_size: Snapshots per batch; at most the number of samples.
        steps, seed, start: As in `StepSeeds`.
        symmetry: By what the snapshots are moved at random.
        noise: Shape of the standard normal noise to add under the key `noise`, per sample.
        group: Consecutive samples that belong to one trajectory; its number goes along under `trajectory`.
        neighbour: Whether the next snapshot of the trajectory (the one before, for the last) goes along under
            `neighbour`, moved alike.
        input_noise: Standard deviation of noise under the key `input_noise`, in the shape of the snapshots.
        kept: Which of the samples there are, boolean `(sample,)`, where trajectories end early; None for all.
    """

    stream = "snapshots"

    def __init__(
        self,
        x: Tensor,
        batch_size: int,
        steps: int,
        seed: int,
        start: int = 0,
        symmetry: Symmetry = NONE,
        noise: tuple[int, ...] = (),
        group: int = 1,
        neighbour: bool = False,
        input_noise: float = 0.0,
        kept: Tensor | None = None,
    ) -> None:
        super().__init__(steps, seed, start)
        self.neighbour, self.input_noise = neighbour, input_noise
        self.kept = kept
        self.numbers = None if kept is None else kept.nonzero()[:, 0]
        self.count = len(x) if self.numbers is None else len(self.numbers)
        self.x, self.batch_size, self.symmetry, self.noise = x, min(batch_size, self.count), symmetry, noise
        self.group = group
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    def _take(self, first: int) -> Tensor:
        """Indices `first, ..., first + batch_size - 1` of the endless sequence of epoch permutations."""
        parts, need = [], self.batch_size
        while need:
            epoch, offset = divmod(first, self.count)
            if epoch != self._epoch:
                generator = step_generator(self.seed, f"{self.stream} order", epoch)
                self._epoch, self._order = epoch, torch.randperm(self.count, generator=generator)
            part = self._order[offset : offset + need]
            parts.append(part)
            need -= len(part)
            first += len(part)
        return torch.cat(parts)

    def fetch(self, step: int) -> tuple[Tensor, Tensor]:
        """Numbers and values of this process's snapshots of a step."""
        index = self._take(step * self.batch_size)[self.rows]
        if self.numbers is not None:
            index = self.numbers[index]
        return index, self.x[index]

    def batch(self, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        index, x = self.fetch(step)
        whole, rows = (self.batch_size, *x.shape[1:]), self.rows
        moves = [drawn[rows] for drawn in self.symmetry.draw(whole, generator)]
        out = {"trajectory": index // self.group}
        if self.neighbour:
            pair = torch.cat([x, self._beside(index)], 1)  # as channels, so that both are moved alike
            out["x"], out["neighbour"] = self.symmetry.apply(pair, moves).chunk(2, 1)
        else:
            out["x"] = self.symmetry.apply(x, moves)
        if self.noise:
            out["noise"] = torch.randn(self.batch_size, *self.noise, generator=generator)[rows]
        if self.input_noise:
            out["input_noise"] = self.input_noise * torch.randn(whole, generator=generator)[rows]
        return out

    def _beside(self, index: Tensor) -> Tensor:
        """The next snapshot of each one's trajectory; the one before, for the last."""
        if self.group == 1:
            return self.x[index]
        last = index % self.group == self.group - 1
        if self.kept is None:
            return self.x[torch.where(last, index - 1, index + 1)]
        last = last | ~self.kept[(index + 1).clamp_max(len(self.x) - 1)]
        alone = last & (index % self.group == 0)
        return self.x[torch.where(alone, index, torch.where(last, index - 1, index + 1))]


class WindowBatches(StepSeeds):
    """Random windows of encoded trajectories for the dynamics, one batch per member of the ensemble.

    A window holds a start latent drawn from its posterior, and the latents after 1, 2, ..., `horizon` large steps and,
    for each, one at a random smaller step. Half of the windows start early in the trajectory, where a forecast starts
    and where the state changes fastest.

    Arguments:
        mean: Posterior means `(copy, trajectory, time, latent)`; copies are the symmetric ones.
        std: Posterior standard deviations, same shape.
        c: Normalised parameters `(trajectory, parameter)`.
        members: Members of the ensemble.
        batch_size: Windows per member.
        stride: Stored steps in a large step.
        horizon: Large steps in the longest window; the horizon grows to it over the first half of the steps.
        steps, seed, start: As in `StepSeeds`.
        early: Share of windows that start in the first part of the trajectory.
        window: Most latents that the dynamics looks back on. In every other batch, on average, a random number of
            earlier latents goes along under `past`; in the others as many as in a forecast.
        controls: Normalised controls `(trajectory, time, control)`, one step apart; they go along at every step.
        samples: Sampled rollouts per window; the noise of their steps goes along under `noise`.
        lengths: Times of every trajectory, `(trajectory,)`, where they differ: no window reaches beyond an end, and a
            trajectory that is too short for a horizon gives no window of it. None where all have all times.
        given: Latents that a forecast starts from, with the present one.
    """

    stream = "windows"

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        c: Tensor,
        members: int,
        batch_size: int,
        stride: int,
        horizon: int,
        steps: int,
        seed: int,
        start: int = 0,
        early: float = 0.5,
        window: int = 1,
        controls: Tensor | None = None,
        samples: int = 0,
        lengths: Tensor | None = None,
        given: int = 1,
    ) -> None:
        super().__init__(steps, seed, start)
        self.mean, self.std, self.c, self.lengths, self.given = mean, std, c, lengths, given
        self.times = mean.shape[2] if lengths is None else int(lengths.max())
        self.window, self.controls, self.samples = window, controls, samples
        self.members, self.batch_size, self.stride, self.early = members, batch_size, stride, early
        self.horizon = max(1, min(horizon, (self.times - 1) // stride))

    def horizon_at(self, step: int) -> int:
        """Large steps in the windows of a training step."""
        return max(1, min(self.horizon, int(1 + 2 * self.horizon * step / max(1, self.steps))))

    def batch(self, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        copies, trajectories, _, latent = self.mean.shape
        shape = (self.members, self.batch_size)
        horizon = self.horizon_at(step)
        earlier = self._earlier(step, (self.times - 1) // self.stride - horizon)
        span = (horizon + earlier) * self.stride
        copy = torch.randint(copies, shape, generator=generator)
        last: int | Tensor
        if self.lengths is None:
            trajectory = torch.randint(trajectories, shape, generator=generator)
            last = self.times - 1 - span
            begin = torch.randint(last + 1, shape, generator=generator)
        else:
            long_enough = (self.lengths > span).nonzero()[:, 0]
            trajectory = long_enough[torch.randint(len(long_enough), shape, generator=generator)]
            last = self.lengths[trajectory] - 1 - span
            drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
            begin = ((last + 1) * drawn).long().minimum(last)
        squeezed = (0.2 * last * torch.rand(shape, generator=generator) ** 2).long()
        begin = torch.where(torch.rand(shape, generator=generator) < self.early, squeezed, begin)
        begin = begin + earlier * self.stride
        noise = torch.randn(*shape, latent, generator=generator)
        part = torch.randint(1, self.stride, (*shape, horizon), generator=generator) if self.stride > 1 else None
        copy, trajectory, begin, noise = (drawn[:, self.rows] for drawn in (copy, trajectory, begin, noise))
        steps = torch.arange(1, horizon + 1) * self.stride
        pick = (copy[..., None], trajectory[..., None])
        out = {
            "trajectory": trajectory,
            "z0": self.mean[copy, trajectory, begin] + self.std[copy, trajectory, begin] * noise,
            "c": self.c[trajectory],
            "target": self.mean[(*pick, begin[..., None] + steps)],
        }
        if part is not None:
            out["part"] = part[:, self.rows]
            out["between"] = self.mean[(*pick, begin[..., None] + steps - self.stride + out["part"])]
        if earlier:
            back = torch.arange(-earlier, 0) * self.stride
            out["past"] = self.mean[(*pick, begin[..., None] + back)]
        if self.controls is not None:
            along = torch.arange(horizon + 1) * self.stride
            out["controls"] = self.controls[trajectory[..., None], begin[..., None] + along]
        if self.samples:
            drawn = torch.randn(self.samples, horizon, *shape, latent, generator=generator)
            out["noise"] = drawn[:, :, :, self.rows]
        return out

    def _earlier(self, step: int, most: int) -> int:
        """Earlier latents in the windows of a step: those of a forecast in half of them; as many as there are."""
        most = min(self.window - 1, most)
        if most < 1:
            return 0
        generator = step_generator(self.seed, "window history", step)
        drawn = int(torch.randint(2 * most, (), generator=generator)) + 1
        return drawn if drawn <= most else min(self.given - 1, most)
