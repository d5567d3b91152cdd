"""What is written in The Well's layout comes back identical, and The Well's own loader reads the same numbers."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from romvae.data import open_snapshots, write_well
from romvae.errors import ConfigError, DataError, OutputError, SchemaError
from romvae.testing import mock_snapshots


def _with_everything(ndim: int) -> xr.Dataset:
    """A scalar, a complete vector, half a tensor, a mask, a static field, a forcing, labels, text."""
    axes = "xyz"[:ndim]
    vector = [f"velocity_{axis}" for axis in axes]
    ds = mock_snapshots(ndim, ("p", *vector, "D_xx"), trajectories=3)
    for axis in axes:
        ds[f"velocity_{axis}"].attrs.update(vector_name="velocity", vector_component=axis)
    ds["D_xx"].attrs.update(tensor_name="E", tensor_component="xx", tensor_symmetry="none")
    space = [axis for axis in ("z", "y", "x") if axis in axes]
    shape = tuple(ds.sizes[axis] for axis in space)
    mask = np.ones(shape, np.int8)
    mask.flat[3] = 0
    flags = {"flag_values": np.array([0, 1], np.int8), "flag_meanings": "outside inside"}
    speed = np.random.default_rng(0).normal(size=(3, *shape))
    ds["mask"] = (space, mask, flags)
    ds["speed"] = (("trajectory", *space), speed, {"romvae_role": "static", "units": "m s-1"})
    ds["heating"] = (("time",), np.linspace(0, 1, 6), {"romvae_role": "forcing", "units": "W"})
    labels = {"trajectory": [4, 7, 9], "run": ("trajectory", ["a", "b", "é"]), "version": 3}
    return ds.assign_coords(labels).assign_attrs(level=0.5, title="mock")


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_round_trip_is_identical(ndim: int, tmp_path: Path) -> None:
    ds = _with_everything(ndim)
    path = write_well(ds.transpose("x", ...), tmp_path / "mock.hdf5")
    with open_snapshots(path) as back:
        xr.testing.assert_identical(back.load(), ds)
        assert {n: v.dtype for n, v in back.variables.items()} == {n: v.dtype for n, v in ds.variables.items()}
    assert [entry.name for entry in tmp_path.iterdir()] == ["mock.hdf5"]


def test_file_follows_the_layout(tmp_path: Path) -> None:
    """x first, components last, missing axes of length one, sides as masks."""
    with h5py.File(write_well(_with_everything(2), tmp_path / "mock.hdf5"), "r") as file:
        assert list(file["dimensions"].attrs["spatial_dims"]) == ["x", "y"]
        assert file["t0_fields/p"].shape == (3, 6, 12, 8)
        assert file["t1_fields/velocity"].shape == (3, 6, 12, 8, 2)
        assert file["t0_fields/mask"].shape == (12, 8)
        assert list(file["t0_fields"].attrs["field_names"]) == ["p", "D_xx", "mask", "speed"]
        assert len(file["t2_fields"].attrs["field_names"]) == 0
        assert {g.attrs["bc_type"] for g in file["boundary_conditions"].values()} == {"PERIODIC", "WALL"}
        np.testing.assert_array_equal(np.flatnonzero(file["boundary_conditions/y_wall/mask"]), [0, 7])


def test_the_wells_own_loader_reads_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("the_well", reason="needs pip install the-well")
    from the_well.data import WellDataset

    ds = _with_everything(2)
    folder = tmp_path / "mock" / "data" / "train"
    folder.mkdir(parents=True)
    for part in ("a", "b"):
        write_well(ds, folder / f"{part}.hdf5", name="mock")
    theirs = WellDataset(path=str(folder), n_steps_input=2, n_steps_output=1)
    assert theirs.metadata.dataset_name == "mock"
    assert theirs.metadata.spatial_resolution == (12, 8)
    assert len(theirs) == 2 * 3 * 4  # files, trajectories, windows of three of the six times
    names = [name for order in theirs.metadata.field_names.values() for name in order]
    assert names == ["p", "D_xx", "velocity_x", "velocity_y"]
    assert theirs.metadata.constant_field_names[0] == ["mask", "speed"]
    sample = theirs[5]  # trajectory 1, from time 1 on
    expected = np.stack([ds[n][1, 1:3].transpose("time", "x", "y").values for n in names], -1)
    np.testing.assert_array_equal(sample["input_fields"].numpy(), expected)
    still = sample["constant_fields"].numpy()
    np.testing.assert_array_equal(still[..., 1], ds["speed"][1].transpose("x", "y").values)
    np.testing.assert_array_equal(sample["boundary_conditions"].numpy(), [[2, 2], [0, 0]])
    np.testing.assert_array_equal(sample["space_grid"].numpy()[:, 0, 0], ds["x"].values)
    np.testing.assert_array_equal(sample["constant_scalars"].numpy(), ds["viscosity"].values[[1]])


def test_what_the_layout_cannot_hold_is_refused(tmp_path: Path) -> None:
    ds = mock_snapshots(1)
    with pytest.raises(ConfigError, match=r"a.zarr: suffix is '.zarr', expected .hdf5 or .h5"):
        write_well(ds, tmp_path / "a.zarr")
    ragged = ds.copy(deep=True)
    ragged["u"].values[0, 4:] = np.nan
    ragged = ragged.assign_coords(n_steps=("trajectory", np.array([4] + [6] * 7, np.int32)))
    with pytest.raises(SchemaError, match=r"trajectories differ in length \(n_steps\), expected one"):
        write_well(ragged, tmp_path / "a.hdf5")
    broken = ds.copy(deep=True)
    broken["u"].values[3, 2, 1] = np.inf
    with pytest.raises(DataError, match=r"'u' is infinite, first at trajectory 3, time 2"):
        write_well(broken, tmp_path / "a.hdf5")
    path = write_well(ds, tmp_path / "a.hdf5")
    with pytest.raises(OutputError, match="exists already"):
        write_well(ds, path)
    write_well(mock_snapshots(1, seed=1), path, overwrite=True)
    with open_snapshots(path) as back:
        xr.testing.assert_identical(back.load(), mock_snapshots(1, seed=1))


def test_a_disk_that_lies_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from romvae.data import well_writer

    honest = well_writer._write
    monkeypatch.setattr(well_writer, "_write", lambda file, ds, name: honest(file, ds.assign(u=ds["u"] + 1), name))
    with pytest.raises(OutputError, match="'u' read back differs from what was written"):
        write_well(mock_snapshots(1), tmp_path / "a.hdf5")
    assert list(tmp_path.iterdir()) == []
