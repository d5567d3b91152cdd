"""Reading: straight from the bytes of a file or through its library, the bits are the same and damage is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import ZstdCodec

from romvae import cli
from romvae.data import direct, open_snapshots, write_snapshots
from romvae.data.direct import read_directly
from romvae.data.shards import read_index, write_shard
from romvae.data.source import SnapshotSource
from romvae.errors import DataError
from romvae.statistics import field_statistics
from romvae.testing import mock_snapshots

FIELDS = ("v", "u")


def _data() -> xr.Dataset:
    return mock_snapshots(2, ("u", "v"), trajectories=5)


def _stores(folder: Path) -> dict[str, tuple[Path, str]]:
    """The same snapshots in every layout, and how they are expected to be read."""
    ds = _data()
    plain = ds.assign_attrs(Conventions="CF-1.11")
    stores = {
        "canonical Zarr": (write_snapshots(ds, folder / "a.zarr"), "direct"),
        "canonical HDF5": (write_snapshots(ds, folder / "a.h5"), "library"),
    }

    def netcdf(name: str, kind: str, ds: xr.Dataset = plain, **encoding) -> None:
        path = folder / f"{name.replace(' ', '-')}.nc"
        ds.to_netcdf(path, engine="h5netcdf", encoding={n: encoding for n in FIELDS if encoding})
        stores[name] = (path, kind)

    def chunked(name: str, kind: str, ds: xr.Dataset = plain, **encoding) -> None:
        path = folder / f"{name.replace(' ', '-')}.zarr"
        own = dict.fromkeys(FIELDS, encoding)
        ds.to_zarr(path, zarr_format=3, consolidated=False, encoding=own, write_empty_chunks=True)
        stores[name] = (path, kind)

    netcdf("contiguous", "direct")
    netcdf("several snapshots per chunk", "direct", chunksizes=(2, 4, 8, 12))
    netcdf("gzip", "library", zlib=True, chunksizes=(1, 1, 8, 12))
    netcdf("half snapshots per chunk", "library", chunksizes=(1, 1, 8, 6))
    netcdf("other order of dims", "library", plain.transpose("x", "y", "time", "trajectory"))
    netcdf("double", "direct", plain.astype("f8"))
    chunked("a file per snapshot", "direct", chunks=(1, 1, 8, 12), compressors=None)
    chunked("compressed", "library", chunks=(1, 1, 8, 12), compressors=[ZstdCodec()])
    chunked("a trajectory per chunk", "library", chunks=(1, 6, 8, 12), compressors=None)
    return stores


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, tuple[Path, str]]:
    return _stores(tmp_path_factory.mktemp("stores"))


@pytest.mark.filterwarnings("ignore::romvae.errors.AssumptionWarning")
def test_every_layout_gives_the_same_bits_in_every_way_of_reading(stores) -> None:
    expected = np.stack([_data()[name].values for name in FIELDS], 2)
    flat = expected.reshape(30, *expected.shape[2:])
    for name, (path, kind) in stores.items():
        with open_snapshots(path) as ds:
            source = SnapshotSource(ds, FIELDS)
            assert set(source.kinds.values()) == {kind}, name
            for direct in (True, False):
                source = SnapshotSource(ds, FIELDS, direct=direct)
                out = np.empty((30, *source.shape), source.dtype)
                np.testing.assert_array_equal(source.read_block(0, 30, out, threads=2), flat, name)
                np.testing.assert_array_equal(source.read_block(4, 21, out[:17]), flat[4:21])
                np.testing.assert_array_equal(source.read([29, 3, 4, 5, 3]), flat[[29, 3, 4, 5, 3]])
            part = ds.isel(trajectory=[3, 1], time=slice(1, 6, 2))
            picked = expected[[3, 1]][:, 1:6:2].reshape(6, *expected.shape[2:])
            np.testing.assert_array_equal(SnapshotSource(part, FIELDS).read(range(6)), picked, name)
            np.testing.assert_array_equal(
                ds["u"].isel(x=[7, 2], y=3, time=slice(5, 0, -2)), expected[:, 5:0:-2, 1, 3][..., [7, 2]]
            )
            assert ds["v"].isel(trajectory=2, time=4).values.shape == (8, 12)


def test_values_that_were_changed_in_memory_are_read_from_memory(stores) -> None:
    with open_snapshots(stores["canonical Zarr"][0]) as ds:
        doubled = ds.assign(u=2 * ds["u"])
        source = SnapshotSource(doubled, FIELDS)
        assert source.kinds == {"v": "direct", "u": "memory"}
        np.testing.assert_array_equal(source.read([8])[0, 1], 2 * _data()["u"][1, 2])


def test_damage_is_noticed_in_direct_reading_too(tmp_path: Path) -> None:
    path = write_snapshots(_data(), tmp_path / "a.zarr")
    shard = path / "u" / "c" / "2" / "0" / "0" / "0"
    with open_snapshots(path, check=False) as ds:
        source = SnapshotSource(ds, ["u"], str(path))
        raw = bytearray(shard.read_bytes())
        raw[400] ^= 1  # the second snapshot: 384 bytes and a checksum each
        shard.write_bytes(raw)
        assert source.read([12]).shape == (1, 1, 8, 12)
        with pytest.raises(DataError, match=r"a.zarr: 'u' cannot be read at trajectory 2, time 1 to 1: .* damaged"):
            source.read([13])
        os.truncate(shard, 200)
        with pytest.raises(DataError, match="'u' cannot be read at trajectory 2, time 0 to 0"):
            source.read([12])


def test_our_shards_are_those_of_zarr_python(tmp_path: Path) -> None:
    """The last shard reaches beyond the array: its chunks there are absent."""
    values = np.random.default_rng(0).normal(size=(1, 7, 5)).astype("f4")
    codec = {"compressors": [zarr.codecs.Crc32cCodec()], "fill_value": np.nan, "chunks": (1, 1, 5), "shards": (1, 4, 5)}
    theirs = zarr.create_array(tmp_path / "theirs", shape=values.shape, dtype="f4", **codec)
    theirs[...] = values
    ours = zarr.create_array(tmp_path / "ours", shape=values.shape, dtype="f4", **codec)
    for k in (0, 1):
        write_shard(tmp_path / "ours" / "c" / "0" / str(k) / "0", [values[:, 4 * k : 4 * k + 4]], (1, 1, 5), (1, 4, 1))
    np.testing.assert_array_equal(ours[...], values)
    for k in (0, 1):
        files = [tmp_path / name / "c" / "0" / str(k) / "0" for name in ("ours", "theirs")]
        indices = [read_index(file, (1, 4, 1), "a") for file in files]
        np.testing.assert_array_equal(indices[0] == 2**64 - 1, indices[1] == 2**64 - 1)


def test_a_plain_dataset_is_left_as_it_is() -> None:
    ds = _data()
    assert read_directly(ds).identical(ds)
    assert set(SnapshotSource(ds, FIELDS).kinds.values()) == {"memory"}


def test_the_bench_prints_every_rate_and_ratio(stores, capsys) -> None:
    for name in ("canonical Zarr", "canonical HDF5"):
        assert cli.main(["bench-io", str(stores[name][0]), "--seconds", "0.01"]) == 0
        said = capsys.readouterr().out
        for part in ("copy of memory", "random snapshots", "blocks", "batches from memory", "statistics / blocks"):
            assert part in said
        assert ("zarr-python" if name == "canonical Zarr" else "h5py") in said


def test_reading_takes_each_byte_that_is_asked_for_once_and_no_other(tmp_path: Path, monkeypatch) -> None:
    """What makes it fast; how fast it is on a machine, `romvae bench-io` says."""
    calls: list[int] = []
    fill = direct._fill

    def counted(path, offset, vectors, size) -> None:
        calls.append(size)
        fill(path, offset, vectors, size)

    path = write_snapshots(_data(), tmp_path / "a.zarr")
    monkeypatch.setattr(direct, "_fill", counted)
    with open_snapshots(path, check=False) as ds:
        snapshot = 4 + ds["u"][0, 0].nbytes  # with its checksum
        source = SnapshotSource(ds, FIELDS)
        out = np.empty((30, *source.shape), source.dtype)
        calls.clear()
        source.read_block(13, 14, out[:1])
        assert calls == [snapshot] * 2
        calls.clear()
        source.read_block(4, 11, out[:7])  # the end of one trajectory, and the next until its last time but one
        assert calls == [2 * snapshot, 5 * snapshot] * 2
        calls.clear()
        field_statistics(ds, FIELDS, str(path))
        assert sum(calls) == 2 * 30 * snapshot


_BOUNDED = """
import resource, sys, threading
from pathlib import Path
import numpy as np
from romvae.data import open_snapshots
from romvae.data.pack import pack
from romvae.data.stream import BlockOrder
from romvae.statistics import field_statistics
from romvae.streamed import Trajectories
from romvae.training.streamed import StreamedBatches
from romvae.normalise import Normaliser
from romvae.schema import Schema
path, out, room = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
ds = open_snapshots(path, check=False)
schema = Schema.of(ds)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + room
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
pack([path], out)
statistics = field_statistics(ds, schema.field_names)
x = Trajectories(ds, schema, Normaliser.from_statistics(statistics), 2**24)
x.some(), x.scattered()
print(sum(len(batch["x"]) for batch in StreamedBatches(x, 32, 40, 0)))
"""


@pytest.mark.slow
def test_packing_and_streaming_take_bounded_memory(tmp_path: Path) -> None:
    """512 MB of snapshots pass through a process that may take 400 MB, reserved addresses included."""
    n = 128
    ds = mock_snapshots(2, trajectories=n, times=4, shape=(512, 512))
    write_snapshots(ds, tmp_path / "a.zarr")
    del ds
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    words = [sys.executable, "-c", _BOUNDED, str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr"), str(400 * 2**20)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-1] == str(32 * 40)
