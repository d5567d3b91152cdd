"""Stores: what is written comes back identical, and a file that lost anything is refused rather than read."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from romvae.data import open_snapshots, store, write_snapshots
from romvae.data.store import format_of
from romvae.errors import ConfigError, DataError, OutputError, SchemaError
from romvae.testing import mock_snapshots

SUFFIXES = (".zarr", ".h5", ".nc")
FLAGS = {"flag_values": np.arange(4, dtype=np.int8), "flag_meanings": "train variance calibration test"}


def _full(ndim: int) -> xr.Dataset:
    """Two fields, parameters, labels as text and as flags, a scalar coordinate, latents and attributes."""
    ds = mock_snapshots(ndim, ("v", "a"), trajectories=5)
    return ds.assign_coords(
        label=("trajectory", [f"Lauf {i} é" for i in range(5)]),
        split=("trajectory", np.arange(5, dtype=np.int8) % 4, FLAGS),
        version=3,
        latent=(("trajectory", "time", "latent"), np.random.default_rng(0).normal(size=(5, 6, 4))),
    ).assign_attrs(level=0.9, members=32, note="", widths=[1.5, 2.5])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_round_trip_is_identical(ndim: int, suffix: str, tmp_path: Path) -> None:
    ds = _full(ndim)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = write_snapshots(ds, tmp_path / f"a{suffix}")
        with open_snapshots(path) as back:
            xr.testing.assert_identical(back, ds)
            assert list(back.data_vars) == ["v", "a"]  # the order of the channels, not of the alphabet
            assert {n: v.dtype for n, v in back.variables.items()} == {n: v.dtype for n, v in ds.variables.items()}
    assert [entry.name for entry in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize(("suffix", "other"), [(".zarr", ".h5"), (".h5", ".nc"), (".nc", ".zarr")])
def test_a_copy_of_an_opened_store_is_identical(suffix: str, other: str, tmp_path: Path) -> None:
    path = write_snapshots(_full(2), tmp_path / f"a{suffix}")
    with open_snapshots(path) as ds:
        copy = write_snapshots(ds, tmp_path / f"b{other}")
    with open_snapshots(copy) as back:
        xr.testing.assert_identical(back, _full(2))


def test_long_trajectories_take_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = mock_snapshots(1, trajectories=3, times=7)
    monkeypatch.setattr("romvae.data.zarr_store._SHARD_BYTES", 3 * ds["u"][0, 0].nbytes)
    with open_snapshots(write_snapshots(ds, tmp_path / "a.zarr")) as back:
        xr.testing.assert_identical(back, ds)
    array = zarr.open_array(tmp_path / "a.zarr" / "u", mode="r")
    assert (array.chunks, array.shards) == ((1, 1, 16), (1, 3, 16))


def test_layout_is_the_documented_one(tmp_path: Path) -> None:
    ds = mock_snapshots(2, trajectories=3)
    write_snapshots(ds, tmp_path / "a.zarr")
    array = zarr.open_array(tmp_path / "a.zarr" / "u", mode="r")
    assert (array.chunks, array.shards) == ((1, 1, 8, 12), (1, 6, 8, 12))
    assert np.isnan(array.fill_value)
    assert "crc32c" in json.dumps(array.metadata.to_dict(), default=str)
    assert "consolidated_metadata" not in json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    for suffix in (".h5", ".nc"):
        with h5py.File(write_snapshots(ds, tmp_path / f"a{suffix}"), "r") as file:
            field = file["u"]
            assert isinstance(field, h5py.Dataset)
            assert field.chunks == (1, 1, 8, 12)
            assert field.fletcher32
            assert file.attrs["romvae_complete"] == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_existing_store_is_kept_until_the_new_one_is_complete(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = mock_snapshots(1, seed=0), mock_snapshots(1, seed=1)
    path = write_snapshots(old, tmp_path / f"a{suffix}")
    with pytest.raises(OutputError, match=rf"a{suffix}: exists already. Choose another path, or .* --overwrite"):
        write_snapshots(new, path)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_verify", _killed)
        with pytest.raises(RuntimeError, match="killed"):
            write_snapshots(new, path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with open_snapshots(path) as ds:
        xr.testing.assert_identical(ds, old)
    write_snapshots(new.transpose("x", ...), path, overwrite=True)
    with open_snapshots(path) as ds:
        xr.testing.assert_identical(ds, new)


def _killed(*_: object) -> None:
    raise RuntimeError("killed")


def test_bad_values_and_attributes_are_never_written(tmp_path: Path) -> None:
    ds = mock_snapshots(1)
    broken = ds.copy(deep=True)
    broken["u"].values[3, 2, 1] = np.nan
    with pytest.raises(DataError, match=r"a.zarr: 'u' is NaN, first at trajectory 3, time 2"):
        write_snapshots(broken, tmp_path / "a.zarr")
    with pytest.raises(DataError, match=r"attribute 'settings' is \{'a': 1\}, expected text, a number"):
        write_snapshots(ds.assign_attrs(settings={"a": 1}), tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"the name '../u' cannot be stored"):
        write_snapshots(ds.rename(u="../u"), tmp_path / "a.h5")
    dated = ds.assign_coords(when=("trajectory", np.zeros(8, dtype="datetime64[ns]")))
    with pytest.raises(DataError, match=r"'when' has dtype datetime64"):
        write_snapshots(dated, tmp_path / "a.h5")
    with pytest.raises(ConfigError, match=r"suffix is '.csv', expected one of .zarr, .h5, .hdf5, .nc, .nc4"):
        write_snapshots(ds, tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="is a folder that is no Zarr store and is not replaced"):
        write_snapshots(mock_snapshots(1), tmp_path / "a.zarr", overwrite=True)
    assert (tmp_path / "a.zarr" / "thesis.tex").read_text() == "mine"


def test_full_disk_is_seen_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(OutputError, match=r"a.nc: needs .* MB, but the disk has 1 B free"):
        write_snapshots(mock_snapshots(1), tmp_path / "a.nc")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_lies_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = store.STORES["hdf5"].write
    lying = replace(store.STORES["hdf5"], write=lambda ds, p: honest(ds.assign(u=ds["u"] + 1), p))
    monkeypatch.setitem(store.STORES, "hdf5", lying)
    with pytest.raises(OutputError, match="'u' read back differs from what was written"):
        write_snapshots(mock_snapshots(1), tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def _foreign() -> xr.Dataset:
    """Canonical dims, another order, nothing else that romvae would write."""
    ds = mock_snapshots(2, ("u",), trajectories=3)
    plain = xr.Dataset({"u": (ds["u"].dims, ds["u"].values)}, coords={d: ds[d].values for d in ("time", "y", "x")})
    return plain.transpose("time", "trajectory", "x", "y")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_plain_xarray_files_are_welcome(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    ds = _foreign()
    if suffix == ".zarr":
        ds.to_zarr(path, zarr_format=3, consolidated=False)
    else:
        ds.to_netcdf(path, engine="h5netcdf")
    bounds, units = "no boundary condition for y, x: taken as open", "no units for u, time, y, x"
    with pytest.warns(UserWarning, match=bounds), pytest.warns(UserWarning, match=units):
        back = open_snapshots(path)
    assert back["u"].dims == ("trajectory", "time", "y", "x")
    expected = mock_snapshots(2, ("u",), trajectories=3)["u"].values
    parts: tuple[dict[Any, Any], ...] = (
        {},
        {"trajectory": 1},
        {"time": [4, 0], "x": slice(3, 9, 2)},
        {"y": -1, "x": [2]},
    )
    for part in parts:
        positions = tuple(part.get(dim, slice(None)) for dim in back["u"].dims)
        mixed = expected[np.ix_(*(np.arange(n)[p].reshape(-1) for n, p in zip(expected.shape, positions, strict=True)))]
        np.testing.assert_array_equal(back["u"].isel(part).values.ravel(), mixed.ravel())
    np.testing.assert_array_equal(back["trajectory"], [0, 1, 2])
    back.close()


def test_missing_chunk_of_a_foreign_zarr_is_not_taken_for_zero(tmp_path: Path) -> None:
    ds = mock_snapshots(1, trajectories=3).assign_attrs(Conventions="CF-1.11")
    ds["u"].values[1] = 0
    settings = {"u": {"chunks": (1, 6, 16), "fill_value": 0.0}}
    ds.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False, encoding=settings)
    with pytest.raises(DataError, match=r"the chunk at trajectory 1, .*; 2 of 3 are there. .* write_empty_chunks=True"):
        open_snapshots(tmp_path / "a.zarr")
    ds.to_zarr(tmp_path / "b.zarr", zarr_format=3, consolidated=False, encoding=settings, write_empty_chunks=True)
    with open_snapshots(tmp_path / "b.zarr") as back:
        assert float(back["u"][1].max()) == 0


def test_copy_without_marker_that_claims_to_be_ours_says_what_to_do(tmp_path: Path) -> None:
    mock_snapshots(1).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(DataError, match="a copy made with xarray alone loses the marker"):
        open_snapshots(tmp_path / "a.nc")


def test_schema_of_a_file_is_checked(tmp_path: Path) -> None:
    ds = _foreign().rename(time="t")
    ds.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(SchemaError, match=r"a.nc: 'u' has dims \(t, trajectory, x, y\), expected \(trajectory, time"):
        open_snapshots(tmp_path / "a.nc")


def test_format_follows_the_content(tmp_path: Path) -> None:
    path = write_snapshots(mock_snapshots(1), tmp_path / "a.h5")
    shutil.copy(path, tmp_path / "data")
    assert format_of(tmp_path / "data") == "hdf5"
    with open_snapshots(tmp_path / "data") as ds:
        xr.testing.assert_identical(ds, mock_snapshots(1))
