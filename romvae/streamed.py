"""Snapshots that stay in their file: normalised where they are read, in parts that bounded memory takes."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from romvae.canonical import TIME, TRAJECTORY, mask_of
from romvae.data.source import SnapshotSource
from romvae.memory import available_bytes, require_memory
from romvae.normalise import Normaliser
from romvae.ragged import even_part, existing, ragged_lengths
from romvae.schema import Schema
from romvae.tensors import even_tensor, existing_tensor, field_tensor

__all__ = ["AUTOMATIC_BUDGET", "Trajectories", "samples_of", "streaming_budget"]

AUTOMATIC_BUDGET = 3 * 2**27
"""Bytes that streamed data take in memory where nothing else was asked for."""

_OTHER_BYTES = 2**27  # networks, their optimiser, libraries
_COPIES = 3  # of the training data in memory: the tensor, and what is computed from it


def streaming_budget(ds: xr.Dataset, schema: Schema, budget: float | None, processes: int = 1) -> int | None:
    """Bytes that the data may take where they have to be streamed; None where they fit into memory.

    Arguments:
        ds: Snapshots.
        schema: Their fields.
        budget: Memory for the data in GB; None takes half of what is available.
        processes: Those on this machine that each hold the data.
    """
    nbytes = 4 * sum(ds[name].size for name in schema.field_names)
    if budget is not None:
        return int(budget * 1e9) if nbytes > budget * 1e9 else None
    available = available_bytes()
    if available is None or 2 * _COPIES * nbytes * processes <= available:
        return None
    require_memory(
        f"{nbytes / 1e6:,.0f} MB of training data, even read in parts",
        _COPIES * min(nbytes, AUTOMATIC_BUDGET) + _OTHER_BYTES,
        "Use a machine with more memory, fewer trajectories, or a smaller --training.memory-budget",
    )
    return AUTOMATIC_BUDGET


class Trajectories:
    """Normalised trajectories on disk, which give themselves out in parts like a tensor of them in memory.

    Arguments:
        ds: Snapshots as `open_snapshots` gave them, or some of their trajectories.
        schema: Fields and grid.
        normaliser: Affine map of the fields.
        budget: Bytes that a part may take.
    """

    def __init__(self, ds: xr.Dataset, schema: Schema, normaliser: Normaliser, budget: int) -> None:
        self.ds, self.schema, self.normaliser, self.budget = ds, schema, normaliser, budget
        self.source = SnapshotSource(ds, schema.field_names)
        self.shape = (ds.sizes[TRAJECTORY], ds.sizes[TIME], *self.source.shape)
        mask = mask_of(ds)
        self._outside = None if mask is None else torch.from_numpy(~mask)
        lengths = ragged_lengths(ds)
        self.kept = None if lengths is None else existing(lengths, self.shape[1])
        """Which snapshots there are, boolean `(trajectory, time)`; None for all. The others are never read."""
        every = np.ones(self.shape[:2], dtype=bool) if self.kept is None else self.kept
        self.numbers = np.flatnonzero(every.reshape(-1))
        """Numbers, `trajectory * times + time`, of the snapshots that there are."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> Tensor:
        """Some trajectories, `(trajectory, time, channel, *space)`."""
        rows = range(len(self))[part]
        index = np.concatenate([np.arange(i * self.shape[1], (i + 1) * self.shape[1]) for i in rows])
        return self.snapshots(index).reshape(len(rows), *self.shape[1:])

    def snapshots(self, index: np.ndarray) -> Tensor:
        """Single snapshots, `(sample, channel, *space)`, float32; NaN beyond the end of a trajectory."""
        x = torch.empty(len(index), *self.shape[2:])
        step = max(1, 2**24 // self.source.snapshot_bytes)  # float64 for a few at a time
        order = np.argsort(index, kind="stable")
        there = None if self.kept is None else self.kept.reshape(-1)[index]
        if there is not None:
            order = order[there[order]]
        for lo in range(0, len(order), step):
            chosen = order[lo : lo + step]
            u = torch.from_numpy(self.source.read(index[chosen]).astype(np.float64))
            x[torch.from_numpy(chosen)] = self.normaliser(u).float()
        if self._outside is not None:
            x[..., self._outside] = 0.0
        if there is not None:
            x[torch.from_numpy(~there)] = torch.nan
        return x

    @property
    def block(self) -> int:
        """Trajectories that are worked on at once."""
        each = 4 * int(np.prod(self.shape[1:]))
        return max(1, min(16, self.budget // (8 * each)))

    def some(self) -> Tensor:
        """Whole trajectories, evenly through the data, as many as an eighth of the budget takes, and at least two.

        Of ragged data, those of `romvae.ragged.even_part`, cut to one length.
        """
        rows, times = self.some_rows()
        index = np.concatenate([np.arange(i * self.shape[1], i * self.shape[1] + times) for i in rows])
        return self.snapshots(index).reshape(len(rows), times, *self.shape[2:])

    def some_rows(self) -> tuple[NDArray[np.intp], int]:
        """Which trajectories `some` reads, and how many of their times."""
        every, times = np.arange(len(self)), self.shape[1]
        if self.kept is not None:
            every, times = even_part(self.kept.sum(1))
        each = 4 * times * int(np.prod(self.shape[2:]))
        count = min(len(every), max(2, self.budget // (8 * each)))
        return every[np.linspace(0, len(every) - 1, count).round().astype(int)], times

    def scattered(self, limit: int = 1500) -> Tensor:
        """Single snapshots, evenly through the data: `limit`, or as many as an eighth of the budget takes."""
        each = 4 * int(np.prod(self.shape[2:]))
        every = -(-len(self.numbers) // max(2, min(limit, self.budget // (8 * each))))
        return self.snapshots(self.numbers[::every])


def samples_of(
    ds: xr.Dataset, schema: Schema, normaliser: Normaliser, memory_budget: float | None = None
) -> tuple[Tensor, Tensor]:
    """Whole trajectories, and snapshots for POD, both `(trajectory, time, channel, *space)`: all of them if they fit.

    Arguments:
        ds: Canonical snapshots.
        schema: Theirs.
        normaliser: Of the fields.
        memory_budget: As in `streaming_budget`.
    """
    budget = streaming_budget(ds, schema, memory_budget)
    if budget is None:
        x, kept = field_tensor(ds, schema, normaliser), existing_tensor(ds)
        return (x, x) if kept is None else (even_tensor(x, kept), x[kept][None])
    stored = Trajectories(ds, schema, normaliser, budget)
    return stored.some(), stored.scattered()[None]
