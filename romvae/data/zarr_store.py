"""Snapshots in Zarr v3: one snapshot per chunk, one trajectory per shard, a checksum on every chunk.

Values that are absent must not look like zeros: the fill value is NaN, empty chunks are written, and on
opening every inner chunk of every shard is counted in the shard's index.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

from romvae.canonical import TIME, TRAJECTORY, blocks
from romvae.data.layout import MARKER, READING, chunk_shape, marked, refuse_bomb, unmarked
from romvae.errors import DataError

__all__ = ["complete", "is_store", "read", "write"]

_SHARD_BYTES = 2**28
_COUNTED = 10**6  # beyond this many chunks, the first missing one is enough to know
_ABSENT = 2**64 - 1  # Zarr v3 specification, sharding codec: offset and length of an empty inner chunk


def is_store(path: Path) -> bool:
    """Whether a folder is a Zarr group (v3 or v2)."""
    return (path / "zarr.json").is_file() or (path / ".zgroup").is_file()


def write(ds: xr.Dataset, path: Path) -> None:
    """Writes into a folder, all but the completion marker; values pass through memory one shard at a time."""
    attrs = {key: _plain(value) for key, value in marked(ds.attrs, ds).items()}
    if set(ds.coords) - set(ds.dims):
        attrs["coordinates"] = " ".join(sorted(str(name) for name in set(ds.coords) - set(ds.dims)))
    group = zarr.create_group(path, zarr_format=3, overwrite=True, attributes=attrs)
    for name in map(str, ds.variables):
        _write_variable(group, ds, name)


def complete(path: Path) -> None:
    """Sets the completion marker: the last write."""
    zarr.open_group(path, mode="r+", use_consolidated=False).attrs[MARKER] = 1


def read(path: Path, source: str, *, require: bool = True) -> xr.Dataset:
    """Opens a store lazily and read-only, after every chunk was found to be there.

    Arguments:
        path: A folder.
        source: What the messages call it.
        require: Whether the completion marker must be set.

    Raises:
        DataError: The folder is no readable store, holds links, or misses chunks.
    """
    stored = _stored_bytes(path, source)
    try:
        group = zarr.open_group(path, mode="r", use_consolidated=False)
        arrays = sorted(group.arrays())
        ours = MARKER in group.attrs
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{source}: its Zarr metadata cannot be read ({_first_line(error)}). Copy or simulate it again"
        ) from error
    refuse_bomb(sum(array.nbytes for _, array in arrays), stored, source)
    coordinates = _coordinates(group, arrays)
    for name, array in arrays:
        if ours or name not in coordinates:
            _check_chunks(array, path / name, f"{source}: {name!r}", ours)
    try:
        ds = xr.open_zarr(path, chunks=None, consolidated=False, **READING)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{source}: is no Zarr store of labelled arrays ({_first_line(error)}). Write it with xarray or romvae"
        ) from error
    return unmarked(ds, source, require=require)


def _write_variable(group: zarr.Group, ds: xr.Dataset, name: str) -> None:
    variable = ds[name].variable
    text = variable.dtype.kind not in "fiu"
    chunks = chunk_shape(variable)
    shards = None
    parts = list(blocks(ds, name, _SHARD_BYTES))
    if chunks != variable.shape:
        times = parts[0][TIME].stop if TIME in variable.dims else 1
        along = {TRAJECTORY: 1, TIME: times}
        shards = tuple(along.get(str(d), c) for d, c in zip(variable.dims, chunks, strict=True))
    array = group.create_array(
        name,
        shape=variable.shape,
        dtype=str if text else variable.dtype.newbyteorder("="),
        chunks=chunks or "auto",
        shards=shards,
        compressors=[Crc32cCodec()],
        fill_value=np.nan if variable.dtype.kind == "f" else "" if text else 0,
        dimension_names=[str(dim) for dim in variable.dims],
        attributes={str(key): _plain(value) for key, value in variable.attrs.items()},
        config={"write_empty_chunks": True},
    )
    for chosen in parts if shards else [{}]:
        where = tuple(chosen.get(str(dim), slice(None)) for dim in variable.dims)
        array[where] = variable[where].values.astype(object) if text else variable[where].values


def _check_chunks(array: zarr.Array, folder: Path, where: str, ours: bool) -> None:
    missing: tuple[int, ...] | None = None
    present = 0
    expected = math.prod(math.ceil(n / c) for n, c in zip(array.shape, array.chunks, strict=True))
    for first, stored in _shards(array, folder, where):
        present += int(stored.sum())
        if missing is None and not stored.all():
            missing = tuple(int(i) + f for i, f in zip(np.argwhere(~stored)[0], first, strict=True))
            if expected > _COUNTED:
                break
    if missing is None:
        return
    names = getattr(array.metadata, "dimension_names", None) or [f"dim {i}" for i in range(array.ndim)]
    start = ", ".join(f"{n} {i * c}" for n, i, c in zip(names, missing, array.chunks, strict=True))
    count = "" if expected > _COUNTED else f"; {present} of {expected} are there"
    advice = (
        "Write or simulate it again"
        if ours
        else "If it holds only fill values, write it with write_empty_chunks=True: absent is not zero"
    )
    raise DataError(f"{where}: the chunk at {start or 'its only value'} is missing{count}. {advice}")


def _shards(array: zarr.Array, folder: Path, where: str) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Index of the first chunk of every shard, and which of its chunks inside the array are stored.

    An array without shards counts as one with a chunk per shard.
    """
    outer = array.shards or array.chunks
    per_shard = tuple(s // c for s, c in zip(outer, array.chunks, strict=True))
    total = tuple(math.ceil(n / c) for n, c in zip(array.shape, array.chunks, strict=True))
    for shard in product(*(range(math.ceil(n / s)) for n, s in zip(array.shape, outer, strict=True))):
        file = folder / array.metadata.encode_chunk_key(shard)
        stored = np.full(per_shard, file.is_file())
        if array.shards is not None and file.is_file():
            stored = _shard_index(array, file, per_shard, where)
        first = tuple(s * p for s, p in zip(shard, per_shard, strict=True))
        yield first, stored[tuple(slice(n - f) for n, f in zip(total, first, strict=True))]


def _shard_index(array: zarr.Array, file: Path, per_shard: tuple[int, ...], where: str) -> np.ndarray:
    """Which inner chunks a shard holds: pairs (offset, length) as little-endian u8, then a CRC-32C."""
    codec = getattr(array.metadata, "codecs", [None])[0]
    usual = [BytesCodec, Crc32cCodec]
    if not isinstance(codec, ShardingCodec) or [type(c) for c in codec.index_codecs] != usual:
        raise DataError(f"{where}: its shard index is encoded in an unusual way. Write it again with romvae")
    nbytes = 16 * math.prod(per_shard)
    size = file.stat().st_size
    with file.open("rb") as handle:
        handle.seek(0 if codec.index_location.value == "start" else max(0, size - nbytes - 4))
        raw = handle.read(nbytes)
    entries = np.frombuffer(raw, dtype="<u8") if len(raw) == nbytes else np.zeros(0, dtype="<u8")
    offset, length = entries.reshape(-1, 2).T
    stored = (offset != _ABSENT) | (length != _ABSENT)
    inside = (offset <= size) & (length <= size) & (offset + length <= size)
    if len(raw) != nbytes or not inside[stored].all():
        raise DataError(f"{where}: shard {file.name} in {file.parent} is cut off or damaged. Copy or simulate it again")
    return stored.reshape(per_shard)


def _coordinates(group: zarr.Group, arrays: list[tuple[str, zarr.Array]]) -> set[str]:
    """Names that are no data variables; a foreign store may leave out their chunks of fill values."""
    names: set[str] = set()
    for attrs in (group.attrs, *(array.attrs for _, array in arrays)):
        names.update(str(attrs.get("coordinates", "")).split())
    for _, array in arrays:
        dims: Any = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
        names.update(dims or ())
    return names


def _stored_bytes(path: Path, source: str) -> int:
    total = 0
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            entry = Path(folder, name)
            if entry.is_symlink():
                raise DataError(f"{source}: {entry.relative_to(path)} is a link. Copy the real files")
            total += entry.stat().st_size
    return total


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
