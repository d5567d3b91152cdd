"""Every public layout becomes exactly the Dataset that is written down by hand, whatever part of it is read."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from romvae.canonical import parameters_of
from romvae.data import open_snapshots, write_snapshots
from romvae.data.readers import foreign
from romvae.data.source import SnapshotSource
from romvae.errors import AssumptionWarning

from .foreign_files import LAYOUTS, SIZES, Expected, field_of, well, well_expected


@pytest.fixture(autouse=True)
def _assumptions_are_expected() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        yield


def _assert_is(ds: xr.Dataset, expected: Expected) -> None:
    space = [axis for axis in ("z", "y", "x") if axis in expected.axes]
    assert ds.attrs["source_format"] == expected.layout
    fields = [n for n in ds.data_vars if "romvae_role" not in ds[n].attrs and n != "mask"]
    assert sorted(map(str, fields)) == sorted(expected.fields)
    for name, values in expected.fields.items():
        assert ds[name].dims == ("trajectory", "time", *space)
        assert ds[name].dtype == values.dtype
        np.testing.assert_array_equal(ds[name].values, values, err_msg=name)
    np.testing.assert_array_equal(ds["time"].values, expected.times)
    for axis in space:
        np.testing.assert_array_equal(ds[axis].values, expected.axes[axis].astype(ds[axis].dtype))
    assert {p: ds[p].values.tolist() for p in parameters_of(ds)} == expected.parameters
    assert json.loads(ds.attrs.get("boundary_conditions", "{}")) == expected.boundaries
    for name, (dims, values) in expected.others.items():
        assert ds[name].dims == dims
        np.testing.assert_array_equal(ds[name].values, values, err_msg=name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_becomes_what_is_written_down(layout: str, tmp_path: Path) -> None:
    name, write = LAYOUTS[layout]
    expected = write(tmp_path / name)
    assert foreign(tmp_path / name)
    with open_snapshots(tmp_path / name) as ds:
        _assert_is(ds, expected)
    with open_snapshots(tmp_path / name, reader=expected.layout) as ds:  # named by the user: the same
        _assert_is(ds, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_part_can_be_read_and_nothing_else_is(layout: str, tmp_path: Path) -> None:
    """Selections of all kinds give what the whole array gives there; the file is left as it was."""
    name, write = LAYOUTS[layout]
    expected = write(tmp_path / name)
    field, values = next(iter(expected.fields.items()))
    with open_snapshots(tmp_path / name, check=False) as ds:
        for part in (
            {"trajectory": -1, "time": slice(1, None)},
            {"time": [2, 0], "x": slice(1, 6, 2)},
            {"x": [3, 0, 4], "time": 1},
            {"trajectory": [0], "x": -2},
        ):
            key = tuple(part.get(dim, slice(None)) for dim in ds[field].dims)
            grids = [np.atleast_1d(np.arange(n)[k]) for n, k in zip(values.shape, key, strict=True)]
            found = ds[field].isel(part).values
            np.testing.assert_array_equal(found.ravel(), values[np.ix_(*grids)].ravel())
        again = pickle.loads(pickle.dumps(ds[[field]]))  # a worker process gets the handle, not the values
        np.testing.assert_array_equal(again[field].values, values)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_reads_the_same_bits(layout: str, tmp_path: Path) -> None:
    """Straight from the bytes of the file where a layout allows it, in any order of the snapshots."""
    name, write = LAYOUTS[layout]
    expected = write(tmp_path / name)
    with open_snapshots(tmp_path / name, check=False) as ds:
        source = SnapshotSource(ds, list(expected.fields))
        order = np.random.default_rng(0).permutation(source.snapshots)
        every = np.stack([values.reshape(-1, *values.shape[2:]) for values in expected.fields.values()], axis=1)
        np.testing.assert_array_equal(source.read(order), every[order])


@pytest.mark.parametrize(
    "layout", ["The Well, axes dropped", "PDEBench incompressible", "APEBench", "CFDBench", "Dedalus"]
)
def test_foreign_data_can_be_stored_as_canonical(layout: str, tmp_path: Path) -> None:
    name, write = LAYOUTS[layout]
    write(tmp_path / name)
    with open_snapshots(tmp_path / name) as ds:
        path = write_snapshots(ds, tmp_path / "copy.zarr")
        with open_snapshots(path) as back:
            xr.testing.assert_identical(back.load(), ds.load())


def test_the_well_as_several_files_in_folders(tmp_path: Path) -> None:
    """The same file name occurs in train, valid and test: they are different trajectories."""
    for first, split in enumerate(("test", "train", "valid")):
        folder = tmp_path / "mock" / "data" / split
        folder.mkdir(parents=True)
        well(folder / "mock.hdf5", kept=split == "valid", n=1, first=first)
    expected = well_expected(3)
    profile = expected.others["profile"][1]
    expected.others["profile"] = (("trajectory", "x"), np.stack([profile] * 3))  # it might differ between files
    expected.others["heating"] = (("trajectory", "time"), np.tile([1.0, 2.0, 3.0], (3, 1)))
    with open_snapshots(tmp_path / "mock") as ds:
        _assert_is(ds, expected)
        assert ds["source_split"].values.tolist() == ["test", "train", "valid"]
    several = [tmp_path / "mock" / "data" / s / "mock.hdf5" for s in ("train", "valid")]
    with open_snapshots(several) as ds:
        np.testing.assert_array_equal(ds["buoyancy"].values, expected.fields["buoyancy"][1:])
    (tmp_path / "part.yaml").write_text("reader: well\npart: valid\n")
    with open_snapshots(tmp_path / "mock", reader=tmp_path / "part.yaml") as ds:
        assert ds["seed"].values.tolist() == [2.0]


def test_vectors_and_tensors_say_what_they_are(tmp_path: Path) -> None:
    with open_snapshots(well(tmp_path / "a.hdf5")) as ds:
        assert (ds["velocity_y"].attrs["vector_name"], ds["velocity_y"].attrs["vector_component"]) == ("velocity", "y")
        assert ds["D_yx"].attrs["tensor_name"] == "D"
        assert (ds["D_yx"].attrs["tensor_component"], ds["D_yx"].attrs["tensor_symmetry"]) == ("yx", "none")


def test_names_of_other_coordinates_are_kept_beside_x_y_z(tmp_path: Path) -> None:
    """Dedalus' x, z becomes x, y; the component keeps the name that its author gave it."""
    name, write = LAYOUTS["Dedalus"]
    write(tmp_path / name)
    with open_snapshots(tmp_path / name) as ds:
        assert ds["y"].attrs["long_name"] == "z"
        assert ds["u_z"].attrs["vector_component"] == "y"


def test_trajectories_of_different_length_end_in_nan_and_say_where(tmp_path: Path) -> None:
    name, write = LAYOUTS["APEBench"]
    write(tmp_path / name)
    with open_snapshots(tmp_path / name) as ds:
        assert ds["n_steps"].attrs["romvae_role"] == "valid_length"
        assert np.isnan(ds["u0"].values).sum() == SIZES["x"]


def test_files_that_continue_each_other_in_time(tmp_path: Path) -> None:
    whole = field_of("xy", 0, trajectory=1)
    for i, steps in enumerate((slice(0, 2), slice(2, 3))):
        ds = xr.Dataset(
            {"tas": (("time", "lat", "lon"), whole[0, steps])},
            coords={
                "time": ("time", np.arange(3.0)[steps], {"axis": "T"}),
                "lat": np.arange(5.0),
                "lon": np.arange(6.0),
            },
        )
        ds.to_netcdf(tmp_path / f"{i}.nc", engine="h5netcdf")
    (tmp_path / "m.yaml").write_text("reader: cf\nalong: time\n")
    with open_snapshots([tmp_path / "0.nc", tmp_path / "1.nc"], reader=tmp_path / "m.yaml") as ds:
        np.testing.assert_array_equal(ds["tas"].values, whole)
        np.testing.assert_array_equal(ds["time"].values, np.arange(3.0))
        np.testing.assert_array_equal(ds["tas"].isel(time=[2, 0]).values, whole[:, [2, 0]])
