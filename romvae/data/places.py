"""Where in which file the snapshots of a lazily opened variable lie, if each lies in one piece."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.storage import LocalStore

from romvae.data.shards import ABSENT, read_index
from romvae.errors import DataError

__all__ = ["Places", "places_of"]


@dataclass(frozen=True)
class Places:
    """The place of every snapshot of a variable.

    Arguments:
        paths: Files.
        files: Index into `paths`, `(trajectory, time)`.
        offsets: First byte, `(trajectory, time)`.
        nbytes: Length of a snapshot.
        tail: Bytes of the checksum (CRC-32C) behind it: 4 or 0.
        dtype: Of the values in the file.
    """

    paths: list[Path]
    files: np.ndarray
    offsets: np.ndarray
    nbytes: int
    tail: int
    dtype: np.dtype

    def picked(self, rows: np.ndarray, columns: np.ndarray) -> Places:
        """The places of some trajectories and times."""
        grid = np.ix_(rows, columns)
        return Places(self.paths, self.files[grid], self.offsets[grid], self.nbytes, self.tail, self.dtype)


def places_of(array: Any) -> Places | None:
    """The table for an array of a file `(trajectory, time, *space)`; None where its bytes cannot be used as they are.

    They can in Zarr v3 without compression, with or without shards, where a chunk is one snapshot; in HDF5 without
    filters, contiguous or with whole snapshots per chunk; in `.npy` files, and in contiguous HDF5 of other layouts;
    each in the order and type of the variable.

    Arguments:
        array: What stands for the file at the bottom of a lazy variable: xarray's, or that of `romvae.data.readers`.
    """
    try:
        if type(array).__name__ == "ZarrArrayWrapper":
            return _of_zarr(array)
        if type(array).__name__ == "H5NetCDFArrayWrapper":
            return _of_hdf5(array)
        if type(array).__name__ == "_Assembled":
            return _of_pieces(array)
    except (OSError, DataError, AttributeError, KeyError, TypeError):  # the library will say what is wrong, if anything
        return None
    return None


def _of_zarr(wrapper: Any) -> Places | None:
    array = wrapper._array
    store = getattr(array, "store", None)
    if not isinstance(array, zarr.Array) or array.metadata.zarr_format != 3 or not isinstance(store, LocalStore):
        return None
    chunks, codecs = array.chunks, list(array.metadata.codecs)
    if math.prod(chunks[:2]) != 1 or chunks[2:] != array.shape[2:]:
        return None
    sharding = codecs[0] if isinstance(codecs[0], ShardingCodec) and len(codecs) == 1 else None
    tail = _tail(list(sharding.codecs) if sharding else codecs)
    if tail is None or array.dtype.newbyteorder("<") != array.dtype:
        return None
    if sharding is not None and [type(c) for c in sharding.index_codecs] != [BytesCodec, Crc32cCodec]:
        return None
    folder = Path(store.root) / array.path
    nbytes = math.prod(chunks) * array.dtype.itemsize
    files = np.zeros(array.shape[:2], dtype=np.int32)
    offsets = np.zeros(array.shape[:2], dtype=np.int64)
    paths: list[Path] = []
    outer = array.shards or chunks
    per_shard = tuple(s // c for s, c in zip(outer, chunks, strict=True))
    at_start = sharding is not None and sharding.index_location.value == "start"
    for i in range(0, array.shape[0], outer[0]):
        for t in range(0, array.shape[1], outer[1]):
            shard = (i // outer[0], t // outer[1], *(0,) * (array.ndim - 2))
            path = folder / array.metadata.encode_chunk_key(shard)
            part = (slice(i, i + outer[0]), slice(t, t + outer[1]))
            if sharding is not None:
                index = read_index(path, per_shard, str(path), at_start).reshape(*per_shard[:2], 2)
                index = index[: array.shape[0] - i, : array.shape[1] - t]
                if (index == ABSENT).any() or (index[..., 1] != nbytes + tail).any():
                    return None
                offsets[part] = index[..., 0]
            elif path.stat().st_size != nbytes + tail:
                return None
            files[part] = len(paths)
            paths.append(path)
    return Places(paths, files, offsets, nbytes, tail, array.dtype)


def _tail(codecs: list[Any]) -> int | None:
    """Bytes behind the values; None where they are not stored as they are."""
    if not codecs or not isinstance(codecs[0], BytesCodec):
        return None
    if codecs[0].endian is not None and codecs[0].endian.value != "little":
        return None
    rest = [type(codec) for codec in codecs[1:]]
    return {(): 0, (Crc32cCodec,): 4}.get(tuple(rest))


def _of_hdf5(wrapper: Any) -> Places | None:
    path = Path(wrapper.datastore._filename)
    with h5py.File(path, "r") as file:
        dataset = file[wrapper.variable_name]
        if not isinstance(dataset, h5py.Dataset) or dataset.id.get_create_plist().get_nfilters():
            return None
        if dataset.is_virtual or dataset.external or dataset.dtype.newbyteorder("<") != dataset.dtype:
            return None
        n, times, *space = dataset.shape
        nbytes = math.prod(space) * dataset.dtype.itemsize
        offsets = np.full((n, times), -1, dtype=np.int64)
        if dataset.chunks is None:
            start = dataset.id.get_offset()
            if start is None:
                return None
            offsets[:] = start + nbytes * np.arange(n * times).reshape(n, times)
        else:
            if tuple(dataset.chunks[2:]) != tuple(space):
                return None
            rows, columns = dataset.chunks[:2]
            inside = nbytes * np.arange(rows * columns).reshape(rows, columns)

            def place(chunk: Any) -> None:
                i, t = chunk.chunk_offset[:2]
                part = offsets[i : i + rows, t : t + columns]
                part[:] = chunk.byte_offset + inside[: part.shape[0], : part.shape[1]]

            dataset.id.chunk_iter(place)
        if (offsets < 0).any():
            return None
        return Places([path], np.zeros((n, times), dtype=np.int32), offsets, nbytes, 0, dataset.dtype)


def _of_pieces(assembled: Any) -> Places | None:
    """Arrays of other layouts, one after the other along trajectories or times; components may lie between them."""
    dims, dtype = assembled.dims, assembled.dtype
    space = dims[2:]
    files = np.zeros(assembled.shape[:2], dtype=np.int32)
    offsets = np.full(assembled.shape[:2], -1, dtype=np.int64)
    paths: list[Path] = []
    for span, piece in assembled.pieces:
        start = _start(piece.array)
        named = {dim: axis for axis, dim in enumerate(piece.dims) if isinstance(dim, str)}
        tail = piece.dims[len(piece.dims) - len(space) :]
        if (
            start is None
            or piece.array.dtype != dtype
            or tail != space
            or piece.flipped
            or set(piece.window) & set(space)
        ):
            return None
        if tuple(piece.array.shape[len(piece.dims) - len(space) :]) != assembled.shape[2:]:
            return None
        path, offset = start
        strides = [math.prod(piece.array.shape[k + 1 :]) * dtype.itemsize for k in range(len(piece.dims))]
        offset += sum(strides[k] * index for k, index in enumerate(piece.dims) if not isinstance(index, str))
        part, steps = [], []
        for dim, n in zip(dims[:2], assembled.shape[:2], strict=True):
            own = span.get(dim, range(n))
            part.append(slice(own.start, own.stop))
            if dim not in named and len(own) != 1:
                return None
            stored = (
                range(piece.array.shape[named[dim]])[piece.window.get(dim, slice(None))] if dim in named else range(1)
            )
            steps.append(
                strides[named[dim]] * np.asarray(stored)[: len(own)] if dim in named else np.zeros(1, np.int64)
            )
        offsets[tuple(part)] = offset + steps[0][:, None] + steps[1][None, :]
        files[tuple(part)] = len(paths)
        paths.append(path)
    if (offsets < 0).any():
        return None
    return Places(paths, files, offsets, math.prod(assembled.shape[2:]) * dtype.itemsize, 0, dtype)


def _start(array: Any) -> tuple[Path, int] | None:
    """File and first byte of an array whose values lie there in C order, as they are in memory."""
    if array.dtype.newbyteorder("<") != array.dtype:
        return None
    if type(array).__name__ == "NpyArray":
        stored = np.load(array.path, mmap_mode="r", allow_pickle=False)
        return (array.path, int(stored.offset)) if stored.flags.c_contiguous else None
    if type(array).__name__ == "Hdf5Array":
        with array.files.acquire_context() as file:
            dataset = file[array.name]
            if dataset.chunks is not None or dataset.external or dataset.is_virtual or dataset.id.get_offset() is None:
                return None
            return Path(file.filename), int(dataset.id.get_offset())
    return None
