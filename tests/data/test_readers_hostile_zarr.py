"""Zarr stores that lie about their size, name code to be run or lead elsewhere, and paths that are no files."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from romvae.data import open_snapshots
from romvae.errors import AssumptionWarning, DataError

from .foreign_files import cf_zarr2, cf_zarr3, well

HUGE = [10**6, 10**4, 10**4]  # of doubles: 800 TB
MAPPING = "reader: zarr\nfields: {u: {path: tas, dims: [time, y, x]}}\n"
RAW = [{"name": "bytes", "configuration": {"endian": "little"}}]
SHARDS = {"chunk_shape": [1, 1, 1], "codecs": RAW, "index_codecs": [*RAW, {"name": "crc32c"}], "index_location": "end"}


@pytest.fixture(autouse=True)
def _assumptions_are_expected() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        yield


def _edited(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    metadata = json.loads(file.read_text())
    change(metadata)
    file.write_text(json.dumps(metadata))


def _bomb(store: Path) -> None:
    _edited(store / "tas" / "zarr.json", lambda m: m.update(shape=HUGE))


def _bomb_of_one_chunk(store: Path) -> None:
    _bomb(store)
    _huge_chunk(store)


def _huge_chunk(store: Path) -> None:
    """The array is small, the chunk that holds it is not."""
    _edited(store / "tas" / "zarr.json", lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=HUGE))


def _huge_shard(store: Path) -> None:
    """A shard whose index alone would fill all memories of the world."""
    _huge_chunk(store)
    codecs = [{"name": "sharding_indexed", "configuration": SHARDS}]
    _edited(store / "tas" / "zarr.json", lambda m: m.update(codecs=codecs))


def _pickle_codec(store: Path) -> None:
    more = {"name": "numcodecs.pickle", "configuration": {}}
    _edited(store / "tas" / "zarr.json", lambda m: m["codecs"].append(more))


def _pickle_filter(store: Path) -> None:
    filters = [{"id": "pickle", "protocol": 5}]
    _edited(store / "tas" / ".zarray", lambda m: m.update(filters=filters, dtype="|O"))


def _linked_chunk(store: Path) -> None:
    secret = store.parent / "secret"
    secret.write_bytes(b"TOPSECRET" * 400)
    chunk = next(file for file in (store / "tas" / "c").rglob("*") if file.is_file())
    chunk.unlink()
    chunk.symlink_to(secret)


HOSTILE: list[tuple[Callable[[Path], None], int, str]] = [
    (_bomb, 3, r"declares 8e\+14 bytes of values, but the file has"),
    (_bomb_of_one_chunk, 3, r"declares 8e\+14 bytes of values, but the file has"),
    (_huge_chunk, 3, r"cannot be read at trajectory 0 .*: the data are damaged"),
    (_huge_shard, 3, r"shard 0 in .* is cut off or damaged"),
    (_pickle_codec, 3, r"its Zarr metadata cannot be read"),
    (_pickle_filter, 2, r"its Zarr metadata cannot be read"),
    (_linked_chunk, 3, r"is a link. Copy the real files"),
]


@pytest.mark.parametrize(("make", "version", "message"), HOSTILE, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize("reader", [None, "mapping"])
def test_hostile_zarr_is_refused(
    make: Callable[[Path], None], version: int, message: str, reader: str | None, tmp_path: Path
) -> None:
    store = tmp_path / "a.zarr"
    (cf_zarr3 if version == 3 else cf_zarr2)(store)
    make(store)
    (tmp_path / "m.yaml").write_text(MAPPING)
    with pytest.raises(DataError, match=message) as caught:
        open_snapshots(store, reader=tmp_path / "m.yaml" if reader else None)
    assert str(caught.value).startswith(str(store))
    assert "TOPSECRET" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Opening a pipe that nobody writes to would never return."""
    os.mkfifo(tmp_path / "pipe.h5")
    for reader in (None, "well"):
        with pytest.raises(
            DataError, match=r"(is a pipe or a device|neither a file nor a folder).* Copy the data into"
        ):
            open_snapshots(tmp_path / "pipe.h5", reader=reader)
    folder = tmp_path / "data"
    folder.mkdir()
    well(folder / "a.hdf5")
    os.mkfifo(folder / "b.hdf5")
    open_snapshots(folder).close()  # beside data it is passed over
