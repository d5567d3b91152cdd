"""Which reader reads what: one layout in many files, the wrong reader, and files that are not of one kind."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from romvae.data import open_snapshots
from romvae.data.readers import READERS, layout_name
from romvae.errors import AssumptionWarning, DataError

from .foreign_files import LAYOUTS, pdearena_water, pdebench_flow, pdebench_scalar, pdebench_seeds, well


@pytest.fixture(autouse=True)
def _assumptions_are_expected() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        yield


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("layout", ["PDEBench scalar", "CFDBench", "PDEArena Navier-Stokes"])
def test_the_wrong_reader_says_what_it_expects(layout: str, reader: str, tmp_path: Path) -> None:
    name, write = LAYOUTS[layout]
    expected = write(tmp_path / name)
    assert layout_name(tmp_path / name) == expected.layout
    if reader == expected.layout:
        assert layout_name(tmp_path / name, reader) == reader
        return
    pattern = r"is not of layout \w+ \(.*\), expected .*|has no HDF5 file|has no case.json|axes have no names"
    with pytest.raises(DataError, match=pattern) as caught:
        open_snapshots(tmp_path / name, reader=reader)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_group_in_the_place_of_an_array_is_refused(tmp_path: Path) -> None:
    pdebench_scalar(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        del file["tensor"]
        file.create_group("tensor")
    with pytest.raises(DataError, match=r"a.hdf5: cannot be read \('Group' object .*damaged, or not of the layout"):
        open_snapshots(tmp_path / "a.hdf5")


def test_files_of_several_parameters_are_one_data_set(tmp_path: Path) -> None:
    """PDEBench has a file per viscosity, which stands in its attributes, or in its name alone."""
    paths = []
    for nu, by_name in ((0.01, False), (0.1, True)):
        paths.append(tmp_path / f"1D_Burgers_Sols_Nu{nu}.hdf5")
        pdebench_scalar(paths[-1])
        with h5py.File(paths[-1], "r+") as file:
            del file.attrs["Nu"]
            if not by_name:
                file.attrs["Nu"] = nu
    with open_snapshots(paths) as ds:
        assert ds["nu"].values.tolist() == [0.01, 0.01, 0.1, 0.1]
        assert ds["source_file"].values.tolist() == [str(path) for path in paths for _ in range(2)]
        assert ds["source_index"].values.tolist() == [0, 1, 0, 1]


def test_files_of_several_kinds_are_refused(tmp_path: Path) -> None:
    pdebench_flow(tmp_path / "3D_CFD_periodic.hdf5")
    pdebench_flow(tmp_path / "3D_CFD_trans.hdf5")
    with pytest.raises(DataError, match=r"CFD_trans.hdf5: its name says the boundaries are open, that of .* periodic"):
        open_snapshots([tmp_path / "3D_CFD_periodic.hdf5", tmp_path / "3D_CFD_trans.hdf5"])
    pdebench_flow(tmp_path / "3D_CFD.hdf5")
    pdebench_seeds(tmp_path / "seeds.h5")
    with pytest.raises(DataError, match=r"seeds.h5: 0000: fields are u, v, but .* has Vx, Vy, Vz, density, pressure"):
        open_snapshots([tmp_path / "3D_CFD.hdf5", tmp_path / "seeds.h5"])
    well(tmp_path / "well.hdf5")
    with pytest.raises(DataError, match=r"well.hdf5: holds neither tensor, density, .* expected a layout of PDEBench"):
        open_snapshots([tmp_path / "3D_CFD_trans.hdf5", tmp_path / "well.hdf5"])


def test_boundaries_that_a_name_states_are_read(tmp_path: Path) -> None:
    expected = pdebench_flow(tmp_path / "3D_CFD_Rand_periodic_Train.hdf5")
    with open_snapshots(tmp_path / "3D_CFD_Rand_periodic_Train.hdf5") as ds:
        assert ds.attrs["boundary_conditions"].count('"periodic"') == 6
        np.testing.assert_array_equal(ds["density"].values, expected.fields["density"])


def test_a_data_set_made_of_cf_files_is_that_data_set(tmp_path: Path) -> None:
    """The shallow water of PDEArena may carry CF attributes; that is no question to ask."""
    pdearena_water(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as ds:
        marked = ds.load().assign_attrs(Conventions="CF-1.8")
    marked.to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    assert layout_name(tmp_path / "b.nc") == "pdearena"
