"""Values of lazily opened fields from the bytes of their file, or from h5py: both spare the layers above them.

The Dataset stays what it was, to the bit; only its reading is faster, by ten times and more where snapshots are small.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import google_crc32c
import h5py
import numpy as np
import xarray as xr
from xarray.backends import BackendArray, CachingFileManager
from xarray.core import indexing

from romvae.canonical import TIME, TRAJECTORY, fields_of
from romvae.check import read_block
from romvae.data.places import Places, places_of
from romvae.errors import DataError

__all__ = ["DirectReader", "SnapshotReader", "read_blocks", "read_directly", "read_piece", "reader_of"]

_VECTORS = 512  # buffers per system call, two for every snapshot with a checksum; Linux takes 1024
_ROW_BYTES = 2**26


class SnapshotReader(Protocol):
    """Reads whole snapshots of one field."""

    def read(self, i: int, a: int, out: np.ndarray) -> None:
        """Reads the snapshots of trajectory `i` from time `a` on, as many as `out` takes, `(time, *space)`."""

    def picked(self, rows: np.ndarray, columns: np.ndarray) -> SnapshotReader:
        """The reader of some trajectories and times."""


class DirectReader:
    """Reads by a table of places; the CRC-32C of every snapshot that has one is checked."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def picked(self, rows: np.ndarray, columns: np.ndarray) -> DirectReader:
        return DirectReader(self.places.picked(rows, columns))

    def read(self, i: int, a: int, out: np.ndarray) -> None:
        places, n = self.places, len(out)
        buffer = out if out.dtype == places.dtype and out[:1].flags.c_contiguous else np.empty(out.shape, places.dtype)
        offsets, files = places.offsets[i, a : a + n], places.files[i, a : a + n]
        size = places.nbytes + places.tail
        sums = np.empty((n, 4), dtype=np.uint8)
        first = 0
        while first < n:  # as many in one system call as lie side by side
            last = first + 1
            while (
                last < n
                and last - first < _VECTORS
                and files[last] == files[first]
                and offsets[last] == offsets[last - 1] + size
            ):
                last += 1
            vectors = [part for k in range(first, last) for part in ((buffer[k], sums[k])[: 1 + bool(places.tail)])]
            _fill(places.paths[files[first]], int(offsets[first]), vectors, (last - first) * size)
            first = last
        if places.tail:
            stored = sums.view("<u4").ravel()
            for k in range(n):
                if int(google_crc32c.value(buffer[k].reshape(-1).view(np.uint8))) != int(stored[k]):
                    raise OSError("its checksum is wrong")
        if buffer is not out:
            out[:] = buffer


class Hdf5Reader:
    """Reads through h5py, which checks and unpacks what the file's filters say."""

    def __init__(self, files: Any, name: str, rows: np.ndarray, columns: np.ndarray) -> None:
        self.files, self.name, self.rows, self.columns = files, name, rows, columns

    def picked(self, rows: np.ndarray, columns: np.ndarray) -> Hdf5Reader:
        return Hdf5Reader(self.files, self.name, self.rows[rows], self.columns[columns])

    def read(self, i: int, a: int, out: np.ndarray) -> None:
        columns = self.columns[a : a + len(out)]
        with self.files.acquire_context() as file:
            dataset = file[self.name]
            breaks = np.flatnonzero(np.diff(columns) != 1) + 1
            for lo, hi in zip([0, *breaks], [*breaks, len(columns)], strict=True):
                out[lo:hi] = dataset[int(self.rows[i]), int(columns[lo]) : int(columns[hi - 1]) + 1]


def read_directly(ds: xr.Dataset) -> xr.Dataset:
    """The same Dataset, just opened, whose fields are read by the fastest way that their file allows."""
    fields = {}
    for name in fields_of(ds):
        variable = ds[name].variable
        reader = reader_of(variable)
        if reader is not None:
            lazy = indexing.LazilyIndexedArray(_Direct(variable, reader))
            fields[name] = xr.Variable(variable.dims, lazy, variable.attrs, variable.encoding)
    result = ds.assign(fields)
    result.set_close(ds.close)
    return result


def reader_of(variable: xr.Variable) -> SnapshotReader | None:
    """What reads the snapshots of a lazy variable `(trajectory, time, *space)` fastest; None leaves it to xarray."""
    if tuple(map(str, variable.dims[:2])) != (TRAJECTORY, TIME):
        return None
    data: Any = variable._data
    while isinstance(data, indexing.MemoryCachedArray | indexing.CopyOnWriteArray):
        data = data.array
    if not isinstance(data, indexing.LazilyIndexedArray):
        return None
    base, key = data.array, data.key.tuple
    if not _is_whole(key[2:], base.shape[2:]):
        return None
    rows, columns = (np.arange(n)[k] for n, k in zip(base.shape[:2], key[:2], strict=True))
    if (np.size(rows), np.size(columns)) != variable.shape[:2]:
        return None
    if isinstance(base, _Direct):
        return base.reader.picked(rows, columns)
    places = places_of(base)
    if places is not None and places.dtype == variable.dtype:
        return DirectReader(places.picked(rows, columns))
    if type(base).__name__ == "H5NetCDFArrayWrapper" and variable.dtype.isnative:
        files = CachingFileManager(h5py.File, str(Path(base.datastore._filename).absolute()), mode="r")
        return Hdf5Reader(files, base.variable_name, rows, columns)
    return None


def read_piece(reader: SnapshotReader, name: str, i: int, a: int, out: np.ndarray, source: str = "") -> None:
    """Reads, and says in one line where a file is damaged.

    Raises:
        DataError: The file is damaged there.
    """
    try:
        reader.read(i, a, out)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        where = f"{source}: " if source else ""
        raise DataError(
            f"{where}{name!r} cannot be read at {TRAJECTORY} {i}, {TIME} {a} to {a + len(out) - 1}: the data are "
            "damaged (checksum or length). Copy or simulate the file again"
        ) from error


def read_blocks(
    ds: xr.Dataset,
    name: str,
    parts: Iterable[Mapping[str, slice]],
    reader: SnapshotReader | None,
    source: str = "",
) -> Iterator[tuple[Mapping[str, slice], np.ndarray]]:
    """Blocks of one field, one after the other; the values of one are gone when the next is asked for.

    Memory that was never used before costs more than reading into it, so the same is used again.

    Arguments:
        ds: Snapshots.
        name: The field.
        parts: Some of `romvae.canonical.blocks`.
        reader: What `reader_of` gave for the field; None reads by `romvae.check.read_block`.
        source: File that the messages name.

    Raises:
        DataError: The file is damaged there.
    """
    variable = ds.variables[name]
    shape, dtype = variable.shape[2:], variable.dtype.newbyteorder("=")
    memory = np.empty((0, *shape), dtype)
    for chosen in parts:
        if reader is None:
            yield chosen, read_block(ds, name, chosen, source)
            continue
        times = chosen[TIME]
        if len(memory) < times.stop - times.start:
            memory = np.empty((times.stop - times.start, *shape), dtype)
        values = memory[: times.stop - times.start]
        read_piece(reader, name, chosen[TRAJECTORY].start, times.start, values, source)
        yield chosen, values[None]


class _Direct(BackendArray):
    """A field whose snapshots a reader reads whole; what is not asked for is dropped trajectory by trajectory."""

    def __init__(self, variable: xr.Variable, reader: SnapshotReader) -> None:
        self.shape, self.dtype, self.reader = variable.shape, variable.dtype, reader

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        single = tuple(k for k, part in enumerate(key) if isinstance(part, int | np.integer))
        whole = [slice(int(p), int(p) + 1) if k in single else p for k, p in enumerate(key)]
        index = [np.arange(n)[part] for n, part in zip(self.shape, whole, strict=True)]
        result = np.empty([part.size for part in index], self.dtype)
        rows, columns, *space = index
        all_of_space = _is_whole(whole[2:], self.shape[2:])
        breaks = np.flatnonzero(np.diff(columns) != 1) + 1
        step = max(1, _ROW_BYTES // max(1, self.dtype.itemsize * int(np.prod(self.shape[2:]))))
        runs = [(lo, hi) for lo, hi in zip([0, *breaks], [*breaks, columns.size], strict=True) if hi > lo]
        for k, i in enumerate(rows):
            for lo, hi in runs:
                if all_of_space:
                    self.reader.read(int(i), int(columns[lo]), result[k, lo:hi])
                    continue
                for first in range(lo, hi, step):
                    part = np.empty((min(step, hi - first), *self.shape[2:]), self.dtype)
                    self.reader.read(int(i), int(columns[first]), part)
                    result[k, first : first + len(part)] = part[np.ix_(np.arange(len(part)), *space)]
        return result.squeeze(single)


def _is_whole(key: Sequence[Any], shape: Sequence[int]) -> bool:
    """Whether a key takes all of every dim, in its order."""
    return all(isinstance(k, slice) and k.indices(n) == (0, n, 1) for k, n in zip(key, shape, strict=True))


def _fill(path: Path, offset: int, vectors: list[Any], nbytes: int) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        done = os.preadv(handle, vectors, offset)
        while done < nbytes:  # a signal came in between, or the file was cut off
            more = os.preadv(handle, _after(vectors, done), offset + done)
            if not more:
                raise OSError("the file ends before it")
            done += more
    finally:
        os.close(handle)


def _after(vectors: list[Any], done: int) -> list[Any]:
    """What of a list of buffers is left when the first `done` bytes are there."""
    rest = []
    for vector in vectors:
        raw = vector.reshape(-1).view(np.uint8)
        if done < raw.size:
            rest.append(raw[done:])
        done = max(0, done - raw.size)
    return rest[:_VECTORS]
