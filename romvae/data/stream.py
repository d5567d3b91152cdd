"""The order in which snapshots that do not fit into memory are visited: whole blocks at random, mixed in pools.

Reading single snapshots at random costs a seek each; reading a file from its start shows a training one trajectory
after the other. In between, blocks of neighbouring snapshots are drawn at random, as many as fit into a pool, and the
snapshots of a pool are visited in random order. Every snapshot is visited once per epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["BlockOrder"]

_BLOCK_BYTES = 2**24
_BLOCKS = 32  # in a pool at least, so that a batch sees many trajectories


@dataclass(frozen=True)
class BlockOrder:
    """Which snapshots come when: a pure function of (seed, epoch, place), so that a training continues exactly.

    Arguments:
        snapshots: Number of snapshots.
        block: Neighbours that are read together.
        blocks: Blocks in a pool.
        seed: Of the order.
    """

    snapshots: int
    block: int
    blocks: int
    seed: int

    @classmethod
    def within(cls, pool_bytes: int, snapshots: int, times: int, snapshot_bytes: int, seed: int) -> BlockOrder:
        """An order whose pool takes about `pool_bytes`; a block is at most a trajectory and at most 16 MiB.

        Arguments:
            pool_bytes: Memory for one pool.
            snapshots: Number of snapshots.
            times: Snapshots of a trajectory.
            snapshot_bytes: Bytes of one.
            seed: Of the order.
        """
        pool = max(1, min(snapshots, pool_bytes // snapshot_bytes))
        block = max(1, min(times, _BLOCK_BYTES // snapshot_bytes, pool // _BLOCKS))
        return cls(snapshots, block, max(1, pool // block), seed)

    @property
    def pools(self) -> int:
        """Pools in an epoch."""
        return -(-self._count // self.blocks)

    @property
    def _count(self) -> int:
        return -(-self.snapshots // self.block)

    def pool(self, number: int) -> np.ndarray:
        """Numbers of the snapshots of a pool, in the order in which they are visited; pools count through epochs."""
        epoch, p = divmod(number, self.pools)
        members = np.concatenate([np.arange(lo, hi) for lo, hi in self.ranges(number)])
        return np.random.default_rng([self.seed, epoch, 1 + p]).permutation(members)

    def ranges(self, number: int) -> list[tuple[int, int]]:
        """The blocks of a pool, first and one after the last snapshot of each, in the order of the file."""
        epoch, p = divmod(number, self.pools)
        chosen = np.sort(_blocks(self.seed, epoch, self._count)[p * self.blocks : (p + 1) * self.blocks])
        return [(int(k) * self.block, min(self.snapshots, (int(k) + 1) * self.block)) for k in chosen]

    def begin(self, number: int) -> int:
        """Place of a pool's first snapshot in the endless sequence: the inverse of `locate`."""
        epoch, p = divmod(number, self.pools)
        lacking = self._count * self.block - self.snapshots
        later = p > _pool_of_last(self.seed, epoch, self._count, self.blocks)
        return epoch * self.snapshots + p * self.blocks * self.block - (lacking if later else 0)

    def locate(self, place: int) -> tuple[int, int]:
        """Pool, and place within it, of a place in the endless sequence of snapshots."""
        epoch, offset = divmod(place, self.snapshots)
        full = self.blocks * self.block
        lacking = self._count * self.block - self.snapshots  # the last block of the file is shorter
        if offset >= (_pool_of_last(self.seed, epoch, self._count, self.blocks) + 1) * full - lacking:
            offset += lacking
        p, within = divmod(offset, full)
        return epoch * self.pools + p, within


@lru_cache(maxsize=4)
def _pool_of_last(seed: int, epoch: int, count: int, blocks: int) -> int:
    """Pool of an epoch that holds the last block of the file."""
    return int(np.argmax(_blocks(seed, epoch, count))) // blocks


@lru_cache(maxsize=4)
def _blocks(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, 0]).permutation(count)
