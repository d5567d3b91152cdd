"""Batches of training data that do not fit into memory, in an order that can be resumed anywhere."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from romvae.data.stream import BlockOrder
from romvae.streamed import Trajectories
from romvae.symmetry import Symmetry
from romvae.training.batches import NONE, SnapshotBatches

__all__ = ["StreamedBatches"]


class StreamedBatches(SnapshotBatches):
    """Random normalised snapshots of data on disk; the pool after the present one is read meanwhile.

    Of several processes each reads its own share of every batch, and nothing else.

    Arguments:
        x: The trajectories.
        batch_size, steps, seed, start, symmetry, noise, input_noise: As in `SnapshotBatches`.
    """

    def __init__(
        self,
        x: Trajectories,
        batch_size: int,
        steps: int,
        seed: int,
        start: int = 0,
        symmetry: Symmetry = NONE,
        noise: tuple[int, ...] = (),
        input_noise: float = 0.0,
    ) -> None:
        total = len(x.numbers)
        super().__init__(
            torch.empty(total, 0),
            batch_size,
            steps,
            seed,
            start,
            symmetry,
            noise,
            x.shape[1],
            input_noise=input_noise,
        )
        self.trajectories = x
        each = 4 * int(np.prod(x.shape[2:]))
        self.order = BlockOrder.within(x.budget // 4, total, x.shape[1], each, seed)
        self._reader = ThreadPoolExecutor(1)
        self._pools: dict[int, Future[tuple[np.ndarray, np.ndarray, Tensor]]] = {}

    def fetch(self, step: int) -> tuple[Tensor, Tensor]:
        numbers, parts = [], []
        place, end = step * self.batch_size + self.rows.start, step * self.batch_size + self.rows.stop
        while place < end:
            pool, offset = self.order.locate(place)
            members, slots, x = self._pool(pool)
            taken = min(len(members) - offset, end - place)
            parts.append(x[slots[offset : offset + taken]])
            numbers.append(torch.from_numpy(members[offset : offset + taken]))
            place += taken
        return torch.cat(numbers), torch.cat(parts)

    def _pool(self, number: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
        """Snapshots of a pool, the place of each in the tensor (-1 for those of other processes), and the tensor."""
        for wanted in (number, number + 1):
            if wanted not in self._pools:
                self._pools[wanted] = self._reader.submit(self._load, wanted)
        for old in [k for k in self._pools if k not in (number, number + 1)]:
            self._pools.pop(old).cancel()
        return self._pools[number].result()

    def _load(self, number: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
        members = self.trajectories.numbers[self.order.pool(number)]
        within = (self.order.begin(number) + np.arange(len(members))) % self.batch_size  # its batch
        mine = (within >= self.rows.start) & (within < self.rows.stop)
        slots = np.where(mine, np.cumsum(mine) - 1, -1)
        return members, slots, self.trajectories.snapshots(members[mine])
