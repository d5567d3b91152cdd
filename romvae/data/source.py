"""Snapshots read in blocks: straight from the bytes of the file where its layout allows, else through xarray.

A reader that goes through a format's library spends most of its time in the library: per snapshot, zarr-python takes
ten times as long as the disk cache takes to give its bytes. Where the values of a snapshot lie in one piece, as they
are in memory, a table of their places is all that is needed: file and offset for every snapshot of every field. Both
ways give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import xarray as xr

from romvae.canonical import TIME, TRAJECTORY, canonical, space_of
from romvae.check import read_block
from romvae.data.direct import DirectReader, SnapshotReader, read_piece, reader_of

__all__ = ["SnapshotSource"]

_Kind = Literal["memory", "direct", "library"]


@dataclass(frozen=True)
class _Field:
    """One field: its array in memory, or what reads it, or neither."""

    name: str
    values: np.ndarray | None
    reader: SnapshotReader | None

    @property
    def kind(self) -> _Kind:
        return "memory" if self.values is not None else "direct" if isinstance(self.reader, DirectReader) else "library"


class SnapshotSource:
    """All snapshots of a Dataset, numbered through trajectories and times: `trajectory * times + time`.

    Arguments:
        ds: Snapshots, in memory or as `open_snapshots` gave them; a part by `isel` will do.
        names: Fields, in the order of the channels.
        source: File that the messages name.
        direct: Whether to read the bytes of files directly where they allow it.
    """

    def __init__(self, ds: xr.Dataset, names: Sequence[str], source: str = "", *, direct: bool = True) -> None:
        self.ds, self.names, self.source = canonical(ds), tuple(names), source
        one = self.ds[self.names[0]]
        self.times: int = one.sizes[TIME]
        self.snapshots: int = one.sizes[TRAJECTORY] * self.times
        self.shape: tuple[int, ...] = (len(self.names), *(one.sizes[dim] for dim in space_of(self.ds)))
        self.dtype: np.dtype = np.result_type(*(self.ds[name].dtype for name in self.names)).newbyteorder("=")
        self._fields = [self._field(name, direct) for name in self.names]

    @property
    def nbytes(self) -> int:
        """Bytes of all snapshots."""
        return self.snapshots * self.snapshot_bytes

    @property
    def snapshot_bytes(self) -> int:
        """Bytes of one snapshot, all fields together."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def kinds(self) -> dict[str, _Kind]:
        """How each field is read: from memory, directly from its file, or through the format's library."""
        return {field.name: field.kind for field in self._fields}

    def read_block(self, lo: int, hi: int, out: np.ndarray, threads: int = 1) -> np.ndarray:
        """Reads the snapshots `lo, ..., hi - 1`.

        Arguments:
            lo: First.
            hi: The one after the last.
            out: Takes them, `(hi - lo, channel, *space)`, C-contiguous.
            threads: Threads among which the fields and trajectories are dealt out.

        Returns:
            `out`.

        Raises:
            DataError: The file is damaged there.
        """
        pieces = [(c, i, a, b) for c in range(len(self.names)) for i, a, b in self._pieces(lo, hi)]
        work = partial(self._read_piece, out, lo)
        if threads > 1 and len(pieces) > 1:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, pieces))
        else:
            for piece in pieces:
                work(piece)
        return out

    def read(self, index: Sequence[int] | np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Reads single snapshots, in the order of `index`; neighbours in one go.

        Returns:
            `(index, channel, *space)`.
        """
        wanted = np.asarray(index, dtype=np.int64)
        if out is None:
            out = np.empty((wanted.size, *self.shape), dtype=self.dtype)
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        for a, b in zip([0, *breaks], [*breaks, wanted.size], strict=True):
            if b > a:
                self.read_block(int(wanted[a]), int(wanted[b - 1]) + 1, out[a:b])
        return out

    def _pieces(self, lo: int, hi: int) -> Iterator[tuple[int, int, int]]:
        """Trajectory, first time and the one after the last."""
        if not 0 <= lo <= hi <= self.snapshots:
            raise IndexError(f"snapshots {lo} to {hi}, there are {self.snapshots}")
        while lo < hi:
            i, a = divmod(lo, self.times)
            b = min(self.times, a + hi - lo)
            yield i, a, b
            lo += b - a

    def _read_piece(self, out: np.ndarray, lo: int, piece: tuple[int, int, int, int]) -> None:
        channel, i, a, b = piece
        field = self._fields[channel]
        start = i * self.times + a - lo
        target = out[start : start + b - a, channel]
        if field.values is not None:
            target[:] = field.values[i, a:b]
        elif field.reader is None:
            chosen = {TRAJECTORY: slice(i, i + 1), TIME: slice(a, b)}
            target[:] = read_block(self.ds, field.name, chosen, self.source)[0]
        else:
            read_piece(field.reader, field.name, i, a, target, self.source)

    def _field(self, name: str, direct: bool) -> _Field:
        variable = self.ds[name].variable
        if variable._in_memory:
            return _Field(name, np.asarray(variable.values), None)
        return _Field(name, None, reader_of(variable) if direct else None)
