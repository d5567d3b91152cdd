"""Finished trajectories on disk, a file each: a checksum, a line of JSON, then the values of its arrays.

A shard is `SHA-256 of the rest`, newline, JSON with the names, types and shapes of the arrays and what else belongs to
the trajectory, newline, then the values one array after the other, little-endian in C order.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from romvae.errors import OutputError

__all__ = ["DamagedShardError", "Row", "Shard", "ShardArray", "ShardWriter", "put_row", "shard_writer"]

_READ = 2**20


class DamagedShardError(Exception):
    """A shard is not what was written."""

    def __init__(self, index: int, why: str) -> None:
        self.index = index
        super().__init__(f"trajectory {index}: {why}")


@dataclass(frozen=True)
class Row:
    """A finished trajectory.

    Arguments:
        index: Its number.
        arrays: Its values by name; most have time as the first axis.
        about: What else belongs to it, JSON types.
    """

    index: int
    arrays: Mapping[str, NDArray[Any]]
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shard:
    """A shard that was found whole: where the values of each array begin, and what belongs to them."""

    path: Path
    index: int
    places: Mapping[str, tuple[int, np.dtype, tuple[int, ...]]]
    about: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Shard:
        """Reads the file once, in small pieces, and compares its checksum.

        Raises:
            DamagedShardError: It is cut off or changed.
        """
        index = int(path.stem)
        try:
            with path.open("rb") as file:
                expected = file.readline(80).strip()
                found = hashlib.sha256()
                head = file.readline(_READ)
                found.update(head)
                while piece := file.read(_READ):
                    found.update(piece)
        except OSError as error:
            raise DamagedShardError(index, f"cannot be read ({error.strerror})") from error
        if expected != found.hexdigest().encode():
            raise DamagedShardError(index, "its checksum is wrong")
        facts = json.loads(head)
        if not {"trajectory", "arrays", "about"} <= facts.keys():
            raise DamagedShardError(index, "it was written by another version of romvae")
        if facts["trajectory"] != index:
            raise DamagedShardError(index, f"it is trajectory {facts['trajectory']}")
        places, offset = {}, 65 + len(head)
        for name, kind, shape in facts["arrays"]:
            dtype = np.dtype(kind)
            places[name] = offset, dtype, tuple(shape)
            offset += dtype.itemsize * int(np.prod(shape))
        return cls(path, index, places, facts["about"])

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array."""
        return self.places[name][2]

    def values(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """The entries `start` to `stop` along the first axis of an array."""
        offset, dtype, shape = self.places[name]
        stop = shape[0] if stop is None else stop
        entry = int(np.prod(shape[1:]))
        wanted = (stop - start) * entry
        with self.path.open("rb") as file:
            found = np.fromfile(file, dtype, wanted, offset=offset + start * entry * dtype.itemsize)
        if found.size < wanted:
            raise DamagedShardError(self.index, "it is cut off")
        return found.reshape(stop - start, *shape[1:])


def put_row(folder: Path, row: Row) -> None:
    """Writes a shard under a temporary name and renames it.

    It is not flushed to the disk: after a power cut the checksum tells what has arrived.
    """
    arrays = {name: _little(values) for name, values in row.arrays.items()}
    head = _head(row.index, {name: (values.dtype, values.shape) for name, values in arrays.items()}, row.about)
    checksum = hashlib.sha256(head)
    for values in arrays.values():
        checksum.update(values.data)
    with _appearing(folder, row.index) as temporary, temporary.open("wb") as file:
        file.write(checksum.hexdigest().encode() + b"\n" + head)
        for values in arrays.values():
            file.write(values.data)


class ShardWriter:
    """Writes arrays of a shard some entries at once; see `shard_writer`.

    Arguments:
        file: Where to.
        places: Where each array begins, and the bytes of an entry.
    """

    def __init__(self, file: IO[bytes], places: Mapping[str, tuple[int, int]]) -> None:
        self.file, self.places = file, places

    def put(self, name: str, first: int, values: NDArray[Any]) -> None:
        """Writes the entries of an array from `first` on along its first axis."""
        offset, entry = self.places[name]
        self.file.seek(offset + first * entry)
        self.file.write(_little(values).data)


@contextmanager
def shard_writer(
    folder: Path, index: int, arrays: Mapping[str, tuple[np.dtype, tuple[int, ...]]]
) -> Iterator[ShardWriter]:
    """A shard that takes the memory of what is put into it at once; it appears at the end, the same as by `put_row`.

    Where that is not reached it leaves nothing behind.

    Arguments:
        folder: The work folder.
        index: Number of the trajectory.
        arrays: Type and shape of each array by name.

    Raises:
        OutputError: It cannot be written.
    """
    little = {name: (np.dtype(kind).newbyteorder("<"), shape) for name, (kind, shape) in arrays.items()}
    head = _head(index, little, {})
    offset, places = 65 + len(head), {}
    for name, (kind, shape) in little.items():
        places[name] = offset, kind.itemsize * int(np.prod(shape[1:]))
        offset += kind.itemsize * int(np.prod(shape))
    with _appearing(folder, index) as temporary, temporary.open("w+b") as file:
        file.write(b" " * 64 + b"\n" + head)
        file.truncate(offset)
        yield ShardWriter(file, places)
        checksum = hashlib.sha256()
        file.seek(65)
        while piece := file.read(_READ):
            checksum.update(piece)
        file.seek(0)
        file.write(checksum.hexdigest().encode())


def _little(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))


def _head(index: int, arrays: Mapping[str, tuple[np.dtype, tuple[int, ...]]], about: Mapping[str, Any]) -> bytes:
    listed = [[name, kind.str, shape] for name, (kind, shape) in arrays.items()]
    return (json.dumps({"trajectory": index, "arrays": listed, "about": dict(about)}) + "\n").encode()


@contextmanager
def _appearing(folder: Path, index: int) -> Iterator[Path]:
    """A temporary name that becomes the shard's at the end; where that is not reached, the file is removed."""
    path = folder / f"{index:08d}.shard"
    temporary = path.with_suffix(f".{uuid.uuid4().hex[:12]}.writing")  # machines that share the disk share numbers
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}). The trajectories that are finished are kept in {folder}: "
            "free some space and run the same command again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


class ShardArray(BackendArray):
    """One array of all trajectories, `(trajectory, time, ...)`, read from the shards when it is used.

    Arguments:
        shards: In the order of the trajectories.
        name: Which of their arrays.
    """

    def __init__(self, shards: Sequence[Shard], name: str) -> None:
        self.shards, self.name = shards, name
        self.shape = (len(shards), *shards[0].shape(name))
        self.dtype = shards[0].places[name][1].newbyteorder("=")

    @property
    def lazy(self) -> indexing.LazilyIndexedArray:
        """Wrapped as the data of a variable: values stay on disk."""
        return indexing.LazilyIndexedArray(self)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        which, times, *space = key
        rows = np.arange(len(self.shards))[which]
        steps = np.arange(self.shape[1])[times]
        if np.ndim(rows) == 0:
            return self._row(self.shards[int(rows)], steps, tuple(space))
        if not len(rows):
            return np.empty(self.shape, self.dtype)[tuple(key)]
        return np.stack([self._row(self.shards[i], steps, tuple(space)) for i in rows.tolist()])

    def _row(self, shard: Shard, steps: Any, space: tuple[Any, ...]) -> NDArray[Any]:
        if np.ndim(steps) == 0:
            return np.asarray(shard.values(self.name, int(steps), int(steps) + 1)[0][space], self.dtype)
        if not len(steps):
            return np.empty(self.shape[1:], self.dtype)[(steps, *space)]
        low, high = int(steps.min()), int(steps.max()) + 1
        return np.asarray(shard.values(self.name, low, high)[(steps - low, *space)], self.dtype)
