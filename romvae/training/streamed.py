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
        self._pools: dict[int, Future[tuple[np.ndarray, Tensor]]] = {}

    def fetch(self, step: int) -> tuple[Tensor, Tensor]:
        numbers, parts = [], []
        place, need = step * self.batch_size, self.batch_size
        while need:
            pool, offset = self.order.locate(place)
            members, x = self._pool(pool)
            parts.append(x[offset : offset + need])
            numbers.append(torch.from_numpy(members[offset : offset + need]))
            taken = len(parts[-1])
            place, need = place + taken, need - taken
        return torch.cat(numbers), torch.cat(parts)

    def _pool(self, number: int) -> tuple[np.ndarray, Tensor]:
        for wanted in (number, number + 1):
            if wanted not in self._pools:
                self._pools[wanted] = self._reader.submit(self._load, wanted)
        for old in [k for k in self._pools if k not in (number, number + 1)]:
            self._pools.pop(old).cancel()
        return self._pools[number].result()

    def _load(self, number: int) -> tuple[np.ndarray, Tensor]:
        members = self.trajectories.numbers[self.order.pool(number)]
        return members, self.trajectories.snapshots(members)
