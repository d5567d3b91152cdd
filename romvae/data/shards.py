"""Shard files of Zarr v3, written and located without the library: chunks one after the other, then their index.

A chunk is the values in C order, little-endian, followed by their CRC-32C. The index holds a pair (offset, length) for
every chunk of the shard, as little-endian u8 in C order, and its own CRC-32C; 2^64 - 1 twice marks an absent chunk.

References:
    Zarr v3 specification, sharding codec, https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import google_crc32c
import numpy as np

from romvae.errors import DataError

__all__ = ["ABSENT", "crc32c", "read_index", "write_shard"]

ABSENT = 2**64 - 1


def crc32c(values: np.ndarray, start: int = 0) -> int:
    """CRC-32C of contiguous values, or of what gave `start` followed by them."""
    return int(google_crc32c.extend(start, values.reshape(-1).view(np.uint8))) if values.size else start


def write_shard(
    path: Path, parts: Iterable[np.ndarray], chunks: tuple[int, ...], per_shard: tuple[int, ...], axis: int = 0
) -> None:
    """Writes one shard, part after part; folders above it are made.

    Arguments:
        path: The file.
        parts: The shard's part of the array, in whole chunks that follow each other along an axis; less than the shard
            at the end of the array.
        chunks: Shape of a chunk.
        per_shard: Chunks along each dim of the shard; 1 before `axis` where there are several parts.
        axis: Along which the parts follow each other.
    """
    index = np.full((*per_shard, 2), ABSENT, dtype="<u8")
    offset = first = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb", buffering=2**20) as file:
        for values in parts:
            count = tuple(math.ceil(size / n) for size, n in zip(values.shape, chunks, strict=True))
            for at in np.ndindex(*count):
                raw = _whole(values[tuple(slice(i * n, (i + 1) * n) for i, n in zip(at, chunks, strict=True))], chunks)
                file.write(raw.data)
                file.write(crc32c(raw).to_bytes(4, "little"))
                index[(*at[:axis], first + at[axis], *at[axis + 1 :])] = offset, raw.nbytes + 4
                offset += raw.nbytes + 4
            first += count[axis]
        file.write(index.data)
        file.write(crc32c(index).to_bytes(4, "little"))


def read_index(path: Path, per_shard: tuple[int, ...], where: str, at_start: bool = False) -> np.ndarray:
    """Offsets and lengths of a shard's chunks, `(*per_shard, 2)`; `ABSENT` where there is none.

    Raises:
        DataError: The file is cut off, or its index is damaged or points out of it.
    """
    nbytes = 16 * math.prod(per_shard)
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(0 if at_start else max(0, size - nbytes - 4))
        raw = file.read(nbytes + 4) if nbytes + 4 <= size else b""
    if len(raw) == nbytes + 4 and int(google_crc32c.value(raw[:-4])) == int.from_bytes(raw[-4:], "little"):
        index = np.frombuffer(raw[:-4], dtype="<u8").reshape(*per_shard, 2)
        offset, length = index[..., 0], index[..., 1]
        stored = (offset != ABSENT) | (length != ABSENT)
        inside = (offset <= size) & (length <= size) & (offset + length <= size)
        if inside[stored].all():
            return index
    raise DataError(f"{where}: shard {path.name} in {path.parent} is cut off or damaged. Copy or simulate it again")


def _whole(part: np.ndarray, chunks: tuple[int, ...]) -> np.ndarray:
    """A chunk in full, contiguous and little-endian; what lies beyond the array is filled."""
    dtype = part.dtype.newbyteorder("<")
    if part.shape == chunks:
        return np.ascontiguousarray(part, dtype=dtype)
    raw = np.full(chunks, np.nan if part.dtype.kind == "f" else 0, dtype=dtype)
    raw[tuple(slice(n) for n in part.shape)] = part
    return raw
