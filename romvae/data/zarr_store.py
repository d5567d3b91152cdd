"""Snapshots in Zarr v3: one snapshot per chunk, one trajectory per shard, a checksum on every chunk.

Values that are absent must not look like zeros: the fill value is NaN, empty chunks are written, and on
opening every inner chunk of every shard is counted in the shard's index.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

from romvae.canonical import BLOCK_BYTES, TIME, TRAJECTORY, blocks
from romvae.data.layout import MARKER, READING, chunk_shape, marked, refuse_bomb, unmarked
from romvae.data.manifest import MANIFEST, Finding
from romvae.data.shards import ABSENT, read_index, write_shard
from romvae.errors import DataError

__all__ = [
    "complete",
    "create",
    "describe",
    "is_store",
    "manifest",
    "missing",
    "read",
    "shard_blocks",
    "write",
    "write_block",
]

_SHARD_BYTES = 2**26
_COUNTED = 10**6  # beyond this many chunks, the first missing one is enough to know
_LISTED = 100  # missing chunks of one variable that are listed one by one


def is_store(path: Path) -> bool:
    """Whether a folder is a Zarr group (v3 or v2)."""
    return (path / "zarr.json").is_file() or (path / ".zgroup").is_file()


def write(ds: xr.Dataset, path: Path) -> None:
    """Writes into a folder, all but manifest and marker; values pass through memory in blocks, shard after shard."""
    arrays = create(ds, path)
    for name, array in arrays.items():
        for chosen in shard_blocks(ds, name):
            _write_passing(array, path / name, ds[name].variable, chosen)


def create(ds: xr.Dataset, path: Path) -> dict[str, zarr.Array]:
    """Makes a store in a folder, with everything but the values that go into shards.

    Returns:
        The arrays whose shards are still to be written, by name.
    """
    attrs = {key: _plain(value) for key, value in marked(ds.attrs, ds).items()}
    if set(ds.coords) - set(ds.dims):
        attrs["coordinates"] = " ".join(sorted(str(name) for name in set(ds.coords) - set(ds.dims)))
    group = zarr.create_group(path, zarr_format=3, overwrite=True, attributes=attrs)
    arrays = {name: _create_array(group, ds, name) for name in map(str, ds.variables)}
    return {name: array for name, array in arrays.items() if array.shards is not None}


def shard_blocks(ds: xr.Dataset, name: str, trajectories: Sequence[int] | None = None) -> Iterator[dict[str, slice]]:
    """Selections that cover a variable, or some of its trajectories, with the bounds of shards."""
    return blocks(ds, name, _SHARD_BYTES, trajectories)


def write_block(array: zarr.Array, folder: Path, chosen: dict[str, slice], values: np.ndarray) -> None:
    """Writes the shards of one selection of `shard_blocks`; one writer per shard, so that nobody has to wait."""
    names = [str(name) for name in getattr(array.metadata, "dimension_names", None) or ()]
    shards = array.shards or array.chunks
    starts = [chosen[dim].start if dim in chosen else 0 for dim in names]
    ends = [start + n for start, n in zip(starts, values.shape, strict=True)]
    per_shard = tuple(s // c for s, c in zip(shards, array.chunks, strict=True))
    ranges = [range(a // n, math.ceil(b / n)) for a, b, n in zip(starts, ends, shards, strict=True)]
    for shard in product(*ranges):
        cut = tuple(slice(i * n - a, (i + 1) * n - a) for i, n, a in zip(shard, shards, starts, strict=True))
        write_shard(folder / array.metadata.encode_chunk_key(shard), [values[cut]], array.chunks, per_shard)


def _write_passing(array: zarr.Array, folder: Path, variable: xr.Variable, chosen: dict[str, slice]) -> None:
    """The same with the values read as they are written, a block of times after the other, where that is one shard."""
    names, shards = list(map(str, variable.dims)), array.shards or array.chunks
    shared = zip(names, variable.shape, shards, strict=True)
    if TIME not in chosen or any(n != s for dim, n, s in shared if dim not in (TRAJECTORY, TIME)):
        write_block(array, folder, chosen, variable[_key(variable, chosen)].values)
        return
    times = chosen[TIME]
    snapshot = math.prod(n for dim, n in zip(names, variable.shape, strict=True) if dim not in (TRAJECTORY, TIME))
    length = max(1, BLOCK_BYTES // max(1, snapshot * variable.dtype.itemsize))
    parts = (
        variable[_key(variable, {**chosen, TIME: slice(first, min(first + length, times.stop))})].values
        for first in range(times.start, times.stop, length)
    )
    at = tuple(chosen[dim].start // n if dim in chosen else 0 for dim, n in zip(names, shards, strict=True))
    per_shard = tuple(n // c for n, c in zip(shards, array.chunks, strict=True))
    write_shard(folder / array.metadata.encode_chunk_key(at), parts, array.chunks, per_shard, names.index(TIME))


def describe(path: Path, text: str) -> None:
    """Adds the manifest to a store that is being written: as attributes of a group of its own."""
    zarr.open_group(path, mode="r+", use_consolidated=False).create_group(
        MANIFEST, attributes=json.loads(text), overwrite=True
    )


def manifest(path: Path) -> str | None:
    """The text of the manifest; None where the store has none."""
    file = path / MANIFEST / "zarr.json"
    if not file.is_file():
        return None
    try:
        return json.dumps(json.loads(file.read_text(encoding="utf-8"))["attributes"])
    except (ValueError, KeyError, TypeError):
        return ""


def missing(path: Path) -> list[Finding]:
    """All chunks that are not there, inner chunks of shards included, a hundred per variable one by one."""
    group = zarr.open_group(path, mode="r", use_consolidated=False)
    arrays = sorted(group.arrays())
    ours, coordinates = MARKER in group.attrs, _coordinates(group, arrays)
    found: list[Finding] = []
    for name, array in arrays:
        if not ours and name in coordinates:
            continue
        absent, more = _absent(array, path / name)
        advice = _advice(ours)
        found += [Finding(name, place, f"the chunk is missing. {advice}") for place in absent]
        if more:
            found.append(Finding(name, "", f"{more} more chunks are missing. {advice}"))
    return found


def complete(path: Path) -> None:
    """Sets the completion marker: the last write."""
    zarr.open_group(path, mode="r+", use_consolidated=False).attrs[MARKER] = 1


def read(path: Path, source: str, *, require: bool = True, whole: bool = True) -> xr.Dataset:
    """Opens a store lazily and read-only, after every chunk was found to be there.

    Arguments:
        path: A folder.
        source: What the messages call it.
        require: Whether the completion marker must be set.
        whole: Whether every chunk has to be there.

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
        if whole and (ours or name not in coordinates):
            _check_chunks(array, path / name, f"{source}: {name!r}", ours)
    try:
        ds = xr.open_zarr(path, chunks=None, consolidated=False, **READING)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{source}: is no Zarr store of labelled arrays ({_first_line(error)}). Write it with xarray or romvae"
        ) from error
    return unmarked(ds, source, require=require)


def _create_array(group: zarr.Group, ds: xr.Dataset, name: str) -> zarr.Array:
    """An array, with its values unless they go into shards."""
    variable = ds[name].variable
    text = variable.dtype.kind not in "fiu"
    chunks, shards = chunk_shape(variable), None
    if chunks != variable.shape:
        times = next(shard_blocks(ds, name))[TIME].stop if TIME in variable.dims else 1
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
    if shards is None:
        array[...] = variable.values.astype(object) if text else variable.values
    return array


def _key(variable: xr.Variable, chosen: dict[str, slice]) -> tuple[slice, ...]:
    return tuple(chosen.get(str(dim), slice(None)) for dim in variable.dims)


def _check_chunks(array: zarr.Array, folder: Path, where: str, ours: bool) -> None:
    expected = _expected(array)
    present = 0
    first: str | None = None
    for origin, stored in _shards(array, folder, where):
        present += int(stored.sum())
        if first is None and not stored.all():
            first = next(_places(array, origin, stored))
            if expected > _COUNTED:
                break
    if first is not None:
        count = "" if expected > _COUNTED else f"; {present} of {expected} are there"
        raise DataError(f"{where}: the chunk at {first or 'its only value'} is missing{count}. {_advice(ours)}")


def _absent(array: zarr.Array, folder: Path) -> tuple[list[str], int]:
    """Where chunks are missing, and how many more there are than are listed; a damaged shard counts as missing."""
    listed: list[str] = []
    more = 0
    for origin, stored in _shards(array, folder, ""):
        if stored.all():
            continue
        listed += islice(_places(array, origin, stored), _LISTED - len(listed))
        more += int(np.count_nonzero(~stored))
    return listed, more - len(listed)


def _places(array: zarr.Array, origin: tuple[int, ...], stored: np.ndarray) -> Iterator[str]:
    names = getattr(array.metadata, "dimension_names", None) or [f"dim {i}" for i in range(array.ndim)]
    for local in np.argwhere(~stored):
        at = [int(i) + first for i, first in zip(local, origin, strict=True)]
        yield ", ".join(f"{n} {i * c}" for n, i, c in zip(names, at, array.chunks, strict=True))


def _expected(array: zarr.Array) -> int:
    return math.prod(math.ceil(n / c) for n, c in zip(array.shape, array.chunks, strict=True))


def _advice(ours: bool) -> str:
    if ours:
        return "Write or simulate it again"
    return "If it holds only fill values, write it with write_empty_chunks=True: absent is not zero"


def _shards(array: zarr.Array, folder: Path, where: str) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Index of the first chunk of every shard, and which of its chunks inside the array are stored.

    An array without shards counts as one with a chunk per shard. Without `where`, a damaged shard counts as empty.
    """
    outer = array.shards or array.chunks
    per_shard = tuple(s // c for s, c in zip(outer, array.chunks, strict=True))
    total = tuple(math.ceil(n / c) for n, c in zip(array.shape, array.chunks, strict=True))
    for shard in product(*(range(math.ceil(n / s)) for n, s in zip(array.shape, outer, strict=True))):
        file = folder / array.metadata.encode_chunk_key(shard)
        first = tuple(s * p for s, p in zip(shard, per_shard, strict=True))
        inside = tuple(min(p, n - f) for p, n, f in zip(per_shard, total, first, strict=True))
        stored = np.full(inside, file.is_file())  # a shard may be declared far larger than the array
        if array.shards is not None and file.is_file():
            try:
                index = read_index(file, per_shard, where, _index_first(array, where))
                stored = (index != ABSENT).any(-1)[tuple(map(slice, inside))]
            except DataError:
                if where:
                    raise
                stored = np.zeros(inside, dtype=bool)
        yield first, stored


def _index_first(array: zarr.Array, where: str) -> bool:
    """Whether the index of a shard stands at its beginning.

    Raises:
        DataError: The index is encoded in a way that is not the usual one.
    """
    codec = getattr(array.metadata, "codecs", [None])[0]
    usual = [BytesCodec, Crc32cCodec]
    if not isinstance(codec, ShardingCodec) or [type(c) for c in codec.index_codecs] != usual:
        raise DataError(f"{where}: its shard index is encoded in an unusual way. Write it again with romvae")
    return bool(codec.index_location.value == "start")


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
