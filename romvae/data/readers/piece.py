"""Pieces: arrays of files with a name per axis, and the large lazy array that many of them make.

Everything that distinguishes the layouts is said by names: which axis is time, which is x, which index of an axis is
meant (a vector's component), which part of an axis counts. Reading then follows for all layouts alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from romvae.canonical import TIME, TRAJECTORY
from romvae.data.readers.arrays import FileArray

__all__ = ["Piece", "lazy", "real_dtype"]

_STEPS = (TRAJECTORY, TIME)


@dataclass(frozen=True, eq=False)
class Piece:
    """An array of a file and what its axes are.

    Arguments:
        array: Where the values are.
        dims: For every axis its name, or the index that is meant (an integer).
        window: Parts of named axes that count, as slices without a step; all of it where left out.
        flipped: Named axes that are stored from the last point to the first.
    """

    array: FileArray
    dims: tuple[str | int, ...]
    window: Mapping[str, slice] = field(default_factory=dict)
    flipped: frozenset[str] = frozenset()

    @property
    def sizes(self) -> dict[str, int]:
        """The length of every named axis."""
        named = {d: n for d, n in zip(self.dims, self.array.shape, strict=True) if isinstance(d, str)}
        return {d: len(range(n)[self.window.get(d, slice(None))]) for d, n in named.items()}

    def read(self, wanted: Mapping[str, np.ndarray], dims: Sequence[str]) -> np.ndarray:
        """Values at the wanted indices of each dim, in the order `dims`; dims that the array lacks have length one."""
        named = [d for d in self.dims if isinstance(d, str)]
        rough, fine = {}, {}
        for dim in named:
            start = range(self.array.shape[self.dims.index(dim)])[self.window.get(dim, slice(None))].start
            index = wanted[dim] if dim not in self.flipped else self.sizes[dim] - 1 - wanted[dim]
            if dim in _STEPS and not _regular(index):
                parts = [self.read({**wanted, dim: wanted[dim][i : i + 1]}, dims) for i in range(index.size)]
                return np.concatenate(parts, axis=list(dims).index(dim))
            rough[dim], fine[dim] = _as_slice(index + start)
        key = tuple(d if isinstance(d, int) else rough[d] for d in self.dims)
        values = self.array[key]
        for axis, dim in enumerate(named):
            taken = fine[dim]
            if taken is not None:
                values = np.take(values, taken, axis=axis)
        kept = [d for d in dims if d in named]
        values = np.transpose(values, [named.index(d) for d in kept])
        return values.reshape([values.shape[kept.index(d)] if d in kept else 1 for d in dims])


def _regular(index: np.ndarray) -> bool:
    steps = np.diff(index)
    return bool(index.size < 2 or (steps[0] != 0 and (steps == steps[0]).all()))


def _as_slice(index: np.ndarray) -> tuple[slice, np.ndarray | None]:
    """A slice that holds all indices, and what to take of it (None: all of it as it is)."""
    if not index.size:
        return slice(0, 0), None
    low, high = int(index.min()), int(index.max())
    step = int(index[1] - index[0]) if index.size > 1 else 1
    if _regular(index) and step > 0:
        return slice(low, high + 1, step), None
    return slice(low, high + 1), index - low


def real_dtype(dtype: np.dtype) -> np.dtype:
    """The float type that holds all values of a real type exactly (integers of 64 bits up to 2**53)."""
    if dtype.kind == "f" and dtype.itemsize in (4, 8):
        return dtype.newbyteorder("=")
    exact_in_single = dtype.kind == "b" or dtype.itemsize < 4
    return np.dtype(np.float32 if exact_in_single else np.float64)


def lazy(
    dims: Sequence[str],
    sizes: Mapping[str, int],
    pieces: Sequence[tuple[Mapping[str, range], Piece]],
    dtype: np.dtype,
    attrs: Mapping[str, Any],
) -> xr.Variable:
    """One variable from many pieces, read where it is indexed; NaN where no piece is.

    Arguments:
        dims: Of the variable, in canonical order.
        sizes: Of every dim.
        pieces: For each the trajectories and times that it fills, and the piece.
        dtype: Of the values.
        attrs: Of the variable.
    """
    array = _Assembled(tuple(dims), tuple(sizes[d] for d in dims), list(pieces), dtype)
    return xr.Variable(tuple(dims), indexing.LazilyIndexedArray(array), dict(attrs))


class _Assembled(BackendArray):
    def __init__(
        self,
        dims: tuple[str, ...],
        shape: tuple[int, ...],
        pieces: list[tuple[Mapping[str, range], Piece]],
        dtype: np.dtype,
    ) -> None:
        self.dims = dims
        self.shape = shape
        self.pieces = pieces
        self.dtype = dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        wanted = [np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True)]
        shape = tuple(w.size for w in wanted)
        values: np.ndarray | None = None
        for span, piece in self.pieces:
            local, where = {}, []
            for dim, index, n in zip(self.dims, wanted, self.shape, strict=True):
                part = span.get(dim, range(n))
                inside = np.flatnonzero((index >= part.start) & (index < part.stop))
                local[dim] = index[inside] - part.start
                where.append(inside)
            if not all(w.size for w in where):
                continue
            found = piece.read(local, self.dims)
            if values is None and tuple(w.size for w in where) == shape:  # one piece is all of it: no copy
                values = np.broadcast_to(found, shape)
                break
            values = self._empty(shape) if values is None else values
            values[np.ix_(*where)] = found
        values = self._empty(shape) if values is None else values
        values = np.asarray(values, dtype=self.dtype)
        return values[tuple(0 if isinstance(k, int | np.integer) else slice(None) for k in key)]

    def _empty(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, np.nan, self.dtype) if self.dtype.kind == "f" else np.zeros(shape, self.dtype)
