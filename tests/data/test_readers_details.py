"""What single layouts say beside their arrays: flags, geometry, spectral tasks, spacings, names of axes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from romvae.boundary import boundaries_of
from romvae.canonical import parameters_of
from romvae.data import open_snapshots
from romvae.errors import AssumptionWarning, DataError

from .foreign_files import LAYOUTS, TIMES, X, Y, dedalus, field_of, number, pdearena_water, well

pytestmark = pytest.mark.filterwarnings("ignore::romvae.errors.AssumptionWarning")


def _well_with(path: Path, name: str, values: np.ndarray) -> Path:
    """The Well with a coordinate per trajectory."""
    well(path)
    with h5py.File(path, "r+") as file:
        del file["dimensions"][name]
        file["dimensions"][name] = values.astype("f4")
        file["dimensions"][name].attrs.update(sample_varying=True, time_varying=False)
    return path


def test_coordinates_per_trajectory_have_to_agree(tmp_path: Path) -> None:
    with open_snapshots(_well_with(tmp_path / "a.hdf5", "time", np.tile(TIMES, (2, 1)))) as ds:
        np.testing.assert_array_equal(ds["time"], TIMES)
    other = np.stack([X, X + 1])
    message = r"b.hdf5: coordinate 'x' of trajectory 1 differs from that of trajectory 0 \(index 0: 1, not 0\)"
    with pytest.raises(DataError, match=message):
        open_snapshots(_well_with(tmp_path / "b.hdf5", "x", other))


def test_a_condition_on_part_of_a_side_is_said_to_be_open(tmp_path: Path) -> None:
    """An opening in a wall: the mask of the condition spans both axes."""
    well(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        del file["boundary_conditions/y_wall"]
        group = file.create_group("boundary_conditions/wall")
        group.attrs.update(bc_type="WALL", sample_varying=False, time_varying=False, associated_dims=["x", "y"])
        mask = np.zeros((6, 5), bool)
        mask[:, -1] = True
        mask[:4, 0] = True
        group["mask"] = mask
    with pytest.warns(AssumptionWarning, match="covers a side of 'y' in part: that side is taken as open"):
        ds = open_snapshots(tmp_path / "a.hdf5")
    assert [side.kind for side in boundaries_of(ds)["y"]] == ["open", "wall"]
    ds.close()


def test_axes_with_other_names_keep_them(tmp_path: Path) -> None:
    """A sphere: theta is stored before phi, so that phi is the fastest, x."""
    well(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        for old, new in (("x", "theta"), ("y", "phi")):
            file["dimensions"].move(old, new)
        file["dimensions"].attrs["spatial_dims"] = ["theta", "phi"]
        file.attrs["grid_type"] = "spherical"
        del file["boundary_conditions"]
    with open_snapshots(tmp_path / "a.hdf5") as ds:
        np.testing.assert_array_equal(ds["buoyancy"].values, field_of("xy", 1).swapaxes(2, 3))
        assert (ds["y"].attrs["long_name"], ds["x"].attrs["long_name"]) == ("theta", "phi")
        np.testing.assert_array_equal(ds["y"], X)
        assert ds["velocity_phi"].attrs["vector_component"] == "x"
        assert ds.attrs["grid_type"] == "spherical"


def test_tasks_in_coefficient_space_are_left_out_or_refused(tmp_path: Path) -> None:
    expected = dedalus(tmp_path / "run")
    for path in (tmp_path / "run").iterdir():
        with h5py.File(path, "r+") as file:
            file["tasks/b"].attrs["grid_space"] = np.zeros(2, bool)
    with pytest.warns(AssumptionWarning, match=r"tasks in coefficient space \(b\) are left out. Save them with layout"):
        ds = open_snapshots(tmp_path / "run")
    assert sorted(map(str, ds.data_vars)) == ["u_x", "u_z"]
    np.testing.assert_array_equal(ds["u_x"].values, expected.fields["u_x"])
    ds.close()
    for path in (tmp_path / "run").iterdir():
        with h5py.File(path, "r+") as file:
            del file["tasks/u"]
    with pytest.raises(DataError, match=r"coefficient space \(b\), expected values on the grid"):
        open_snapshots(tmp_path / "run")


def test_every_folder_of_sets_is_a_trajectory(tmp_path: Path) -> None:
    for name in ("run1", "run2"):
        dedalus(tmp_path / name)
    with open_snapshots(tmp_path) as ds:
        assert ds.sizes["trajectory"] == 2
        np.testing.assert_array_equal(ds["b"].values[0], ds["b"].values[1])


def test_spacings_that_differ_become_parameters(tmp_path: Path) -> None:
    name, write = LAYOUTS["PDEArena Kuramoto-Sivashinsky"]
    write(tmp_path / name)
    with h5py.File(tmp_path / name, "r+") as file:
        file["train/dx"][1] = 0.5
    with pytest.warns(AssumptionWarning, match="dt and dx differ between trajectories: time and x count steps"):
        ds = open_snapshots(tmp_path / name)
    np.testing.assert_array_equal(ds["x"], np.arange(6.0))
    np.testing.assert_array_equal(ds["time"], np.arange(3.0))
    assert {n: ds[n].values.tolist() for n in parameters_of(ds)} == {
        "viscosity": [1.0, 2.0],
        "dt": [0.5, 0.5],
        "dx": [0.25, 0.5],
    }
    ds.close()


def test_shallow_water_may_be_a_zarr_store(tmp_path: Path) -> None:
    expected = pdearena_water(tmp_path / "a.nc")
    for version in (2, 3):
        store = tmp_path / f"a{version}.zarr"
        with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as ds:
            ds.load().to_zarr(store, zarr_format=version, consolidated=False)
        with open_snapshots(store) as ds:
            assert ds.attrs["source_format"] == "pdearena"
            for name, values in expected.fields.items():
                np.testing.assert_array_equal(ds[name].values, values)


def test_one_channel_of_a_dam_break_is_the_height(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "2D_rdb_NA_NA.h5", "w") as file:
        file["0000/data"] = number(("time", "x", "y"))[..., None]
        file["0000/grid/x"], file["0000/grid/y"], file["0000/grid/t"] = X, Y, TIMES
    with open_snapshots(tmp_path / "2D_rdb_NA_NA.h5") as ds:
        np.testing.assert_array_equal(ds["h"].values, field_of("xy", trajectory=1))


def test_a_cylinder_is_masked(tmp_path: Path) -> None:
    """Centres at (-0.75, -0.25, 0.25, 0.75, 1.25, 1.75) and (-0.4, -0.2, 0, 0.2, 0.4); radius 0.3 around the origin."""
    folder = tmp_path / "case0"
    folder.mkdir()
    for k, name in enumerate("uv"):
        np.save(folder / f"{name}.npy", number(("time", "y", "x"), k))
    case = {"vel_in": 1.0, "density": 1.0, "viscosity": 0.01, "radius": 0.3}
    box = {"x_min": -1.0, "x_max": 2.0, "y_min": -0.5, "y_max": 0.5}
    (folder / "case.json").write_text(json.dumps(case | box))
    with open_snapshots(tmp_path) as ds:
        mask = np.ones((5, 6), np.int8)
        mask[2, 1:3] = 0  # (0.25, 0) lies inside; (0.25, 0.2) is 0.32 away
        np.testing.assert_array_equal(ds["mask"].values, mask)
        assert sorted(parameters_of(ds)) == sorted(case)


def test_a_plane_of_a_cut_out_is_two_dimensional(tmp_path: Path) -> None:
    """An axis with one point goes; the component across the plane stays."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i, index in enumerate((1, 2)):
            file[f"Velocity_{index:04d}"] = np.stack([number(("time", "y", "x"), k)[i][None] for k in range(3)], -1)
        file["xcoor"], file["ycoor"], file["zcoor"] = X, Y, np.array([0.5])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = open_snapshots(tmp_path / "a.h5")
    for k, axis in enumerate("xyz"):
        np.testing.assert_array_equal(ds[f"velocity_{axis}"].values, field_of("xy", k, trajectory=1, time=2))
    ds.close()
