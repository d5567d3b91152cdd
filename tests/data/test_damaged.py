"""Damage: a file that is no store or lost anything is refused rather than read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from romvae.data import open_snapshots, store, write_snapshots
from romvae.errors import DataError
from romvae.testing import mock_snapshots

SUFFIXES = (".zarr", ".h5", ".nc")


def _text(path: Path) -> None:
    path.write_text("x,u\n0,1\n")


def _nothing(path: Path) -> None:
    pass


def _empty(path: Path) -> None:
    path.touch()


def _truncated(path: Path) -> None:
    write_snapshots(mock_snapshots(1), path)
    os.truncate(path, path.stat().st_size // 2)


def _folder(path: Path) -> None:
    path.mkdir()


def _broken_json(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_')


def _single_array(path: Path) -> None:
    zarr.create_array(path, shape=(3,), dtype="f4")


def _netcdf3(path: Path) -> None:
    path.write_bytes(b"CDF\x01" + bytes(100))


def _unlabelled(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["u"] = np.zeros((3, 4, 5), dtype="f4")


def _groups_only(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["train/u"] = np.zeros((3, 4, 5), dtype="f4")


NO_STORE = [
    ("a.h5", _nothing, r"does not exist, expected a Zarr folder, an HDF5 or a netCDF-4 file. Check the path"),
    ("a.h5", _text, r"is no store \(it starts with b'x,u.*\), expected a Zarr folder"),
    ("a.nc", _empty, r"is empty \(0 bytes\)"),
    ("a.h5", _truncated, r"cannot be opened as HDF5: the file is cut off or damaged"),
    ("a.nc", _truncated, r"cannot be opened as HDF5: the file is cut off or damaged"),
    ("a.zarr", _folder, r"is a folder without zarr.json"),
    ("a.zarr", _broken_json, r"its Zarr metadata cannot be read"),
    ("a.zarr", _single_array, r"its Zarr metadata cannot be read"),
    ("a.nc", _netcdf3, r"no variable varies in time and space. Describe it in a mapping"),
    ("a.h5", _unlabelled, r"have no names|no named dims"),
    ("a.h5", _groups_only, r"holds no variable at its top level, only groups \(train\)"),
]


@pytest.mark.parametrize(("name", "make", "message"), NO_STORE)
def test_what_is_no_store_is_refused(name: str, make: Callable, message: str, tmp_path: Path) -> None:
    make(tmp_path / name)
    with pytest.raises(DataError, match=message) as caught:
        open_snapshots(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["https://example.org/a.zarr", "simplecache::a.zarr"])
def test_addresses_are_refused(address: str) -> None:
    with pytest.raises(DataError, match="is an address, expected a local path"):
        open_snapshots(address)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_incomplete_store_is_refused(suffix: str, tmp_path: Path) -> None:
    path = write_snapshots(mock_snapshots(1), tmp_path / f"a{suffix}")
    for remove in (False, True):
        with h5py.File(path, "r+") if path.is_file() else nullcontext(zarr.open_group(path, mode="r+")) as group:
            group.attrs["romvae_complete"] = 0
            if remove:
                del group.attrs["romvae_complete"]
        with pytest.raises(DataError, match=r"is incomplete: its completion marker 'romvae_complete' is missing"):
            open_snapshots(path, check=False)


def _remove_shard(path: Path) -> None:
    (path / "u" / "c" / "2" / "0" / "0").unlink()


def _remove_inner_chunk(path: Path) -> None:
    """Marks the fourth snapshot of trajectory 1 as absent, with a right checksum, as a killed writer leaves it."""
    array = zarr.open_array(path / "u", mode="r+", config={"write_empty_chunks": False})
    array[1, 3] = np.nan


def _remove_coordinate(path: Path) -> None:
    (path / "viscosity" / "c" / "0").unlink()


def _truncate_shard(path: Path) -> None:
    shard = path / "u" / "c" / "2" / "0" / "0"
    os.truncate(shard, shard.stat().st_size - 40)


def _flip(file: Path, offset: int) -> None:
    raw = bytearray(file.read_bytes())
    raw[offset] ^= 1
    file.write_bytes(raw)


def _link_shard(path: Path) -> None:
    shard = path / "u" / "c" / "2" / "0" / "0"
    shard.unlink()
    shard.symlink_to("/etc/os-release")


def _remove_variable(path: Path) -> None:
    shutil.rmtree(path / "u")


def _grow(path: Path) -> None:
    file = path / "u" / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["shape"][0] = 10**9
    file.write_text(json.dumps(metadata))


LOSSES = [
    (_remove_shard, r"'u': the chunk at trajectory 2, time 0, x 0 is missing; 42 of 48 are there"),
    (
        _remove_inner_chunk,
        r"'u': the chunk at trajectory 1, time 3, x 0 is missing; 47 of 48 are there",
    ),
    (_remove_coordinate, r"'viscosity': the chunk at trajectory 0 is missing; 0 of 1 are there"),
    (_truncate_shard, r"'u': shard 0 in .* is cut off or damaged|'u' cannot be read at trajectory 2"),
    (
        lambda p: _flip(p / "u" / "c" / "3" / "0" / "0", 100),
        r"'u' cannot be read at trajectory 3 to 3",
    ),
    (_link_shard, r"u/c/2/0/0 is a link"),
    (_remove_variable, r"variable 'u' is missing from the file|holds no variable"),
    (_grow, r"declares .* bytes of values, but the file has .* bytes: they were never written"),
]


@pytest.mark.parametrize(("damage", "message"), LOSSES)
def test_zarr_that_lost_something_is_refused(damage: Callable, message: str, tmp_path: Path) -> None:
    path = write_snapshots(mock_snapshots(1), tmp_path / "a.zarr")
    damage(path)
    with pytest.raises(DataError, match=message) as caught:
        open_snapshots(path)
    assert str(caught.value).startswith(f"{path}: ")


def _h5(path: Path) -> h5py.File:
    """A canonical HDF5 file of another program, but for its field, which the caller makes."""
    ds = mock_snapshots(1, trajectories=3)
    ds.attrs["Conventions"] = "CF-1.11"
    store.STORES["hdf5"].write(ds, path)
    file = h5py.File(path, "r+")
    for name in ("romvae_complete", "romvae_variables"):
        del file.attrs[name]
    file.move("u", "old")
    return file


def _label(file: h5py.File) -> None:
    field = file["u"]
    assert isinstance(field, h5py.Dataset)
    del file["old"]
    for i, dim in enumerate(("trajectory", "time", "x")):
        field.dims[i].attach_scale(file[dim])
    file.close()


def _external_link(path: Path) -> None:
    with _h5(path) as file:
        file["u"] = h5py.ExternalLink("/etc/passwd", "u")


def _external_storage(path: Path) -> None:
    file = _h5(path)
    file.create_dataset("u", (3, 6, 16), dtype="f4", external=[("/etc/os-release", 0, 3 * 6 * 16 * 4)])
    _label(file)


def _virtual(path: Path) -> None:
    file = _h5(path)
    layout = h5py.VirtualLayout((3, 6, 16), dtype="f4")
    layout[0] = h5py.VirtualSource("not_there.h5", "u", shape=(6, 16))
    file.create_virtual_dataset("u", layout)
    _label(file)


def _nested_link(path: Path) -> None:
    with _h5(path) as file:
        file.move("old", "u")
        file.create_group("more")["link"] = h5py.ExternalLink("other.h5", "u")


def _cycle(path: Path) -> None:
    with _h5(path) as file:
        file.create_group("more")["again"] = file["/"]
        file["u"] = h5py.ExternalLink("other.h5", "u")


def _half_written(path: Path) -> None:
    file = _h5(path)
    file.create_dataset("u", (3, 6, 16), dtype="f4", chunks=(1, 1, 16))[:2] = 1.0
    _label(file)


def _never_written(path: Path) -> None:
    file = _h5(path)
    file.create_dataset("u", (3, 6, 16), dtype="f4")
    _label(file)


def _bomb(path: Path) -> None:
    file = _h5(path)
    file.create_dataset("u", (3, 6, 10**11), dtype="f4", chunks=(1, 1, 1000))
    file.close()


H5_LOSSES = [
    (_external_link, r"/u links into another file \(/etc/passwd\)"),
    (_external_storage, r"/u keeps its values in another file"),
    (_virtual, r"/u is a virtual dataset"),
    (_nested_link, r"/more/link links into another file"),
    (_cycle, r"/u links into another file"),
    (_half_written, r"'u': 6 of 18 chunks were never written"),
    (_never_written, r"'u': its values were never written"),
    (_bomb, r"declares 7.2e\+12 bytes of values, but the file has"),
]


@pytest.mark.parametrize(("make", "message"), H5_LOSSES)
def test_hdf5_that_points_elsewhere_or_was_not_written_is_refused(make: Callable, message: str, tmp_path: Path) -> None:
    make(tmp_path / "a.h5")
    with pytest.raises(DataError, match=message):
        open_snapshots(tmp_path / "a.h5", check=False)


@pytest.mark.parametrize("suffix", [".h5", ".nc"])
def test_flipped_bit_is_found_by_the_checksum(suffix: str, tmp_path: Path) -> None:
    path = write_snapshots(mock_snapshots(1), tmp_path / f"a{suffix}")
    with h5py.File(path, "r") as file:
        offset = file["u"].id.get_chunk_info(9).byte_offset
    _flip(path, offset + 5)
    with pytest.raises(DataError, match=r"'u' cannot be read at trajectory 1 to 1, .* the data are damaged"):
        open_snapshots(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_check_false_skips_the_scan_of_values_only(suffix: str, tmp_path: Path) -> None:
    ds = mock_snapshots(1)
    ds["u"].values[3, 2, 1] = np.inf
    path, kind = tmp_path / f"a{suffix}", store._SUFFIXES[suffix]
    store.STORES[kind].write(ds, path)
    store.STORES[kind].complete(path)
    with open_snapshots(path, check=False) as back:
        xr.testing.assert_identical(back, ds)
    with pytest.raises(DataError, match=r"'u' is infinite, first at trajectory 3, time 2 \(time=0.2\), x 1"):
        open_snapshots(path)


def test_reading_does_not_change_a_store(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        path = write_snapshots(mock_snapshots(1), tmp_path / f"a{suffix}")
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        before = {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in files}
        with open_snapshots(path) as ds:
            ds["u"].load()
            ds["u"][:] = 0
        assert {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in files} == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_lost_parameter_is_missed(suffix: str, tmp_path: Path) -> None:
    """Without it the dynamics would quietly be trained on less than there was."""
    path = write_snapshots(mock_snapshots(1), tmp_path / f"a{suffix}")
    if suffix == ".zarr":
        shutil.rmtree(path / "viscosity")
    else:
        with h5py.File(path, "r+") as file:
            del file["viscosity"]
    with pytest.raises(DataError, match="variable 'viscosity' is missing from the file"):
        open_snapshots(path)
