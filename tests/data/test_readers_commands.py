"""From `romvae info` to a report with three commands, on files of other programs; a run remembers its reader."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from romvae.cli import main
from romvae.commands.run_folder import DataRecord, RunFolder
from romvae.data import open_snapshots, split, write_snapshots, write_well
from romvae.data.mapping import mapping_text
from romvae.errors import AssumptionWarning, DataError
from romvae.testing import mock_snapshots

SMALL = ["--model.latent", "2", "--model.channels", "4", "--model.hidden", "8", "--model.members", "2"]
SMALL += ["--training.vae-steps", "20", "--training.variance-steps", "8", "--training.dynamics-steps", "12"]
MAPPING = "reader: hdf5\nfields: {u: {path: run/u, dims: [time, trajectory, x]}}\n"
MAPPING += "coordinates: {time: {path: run/t}, x: {start: 0.0, step: 0.125}}\nboundaries: {x: [periodic, periodic]}\n"


@pytest.fixture(autouse=True)
def _assumptions_are_expected() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        yield


def _simulated() -> xr.Dataset:
    return mock_snapshots(1, trajectories=12, times=8)


def _pdebench(folder: Path) -> Path:
    """Times in single precision, as the public files have them, and one too many."""
    ds, path = _simulated(), folder / "1D_Advection_Sols_beta0.1.hdf5"
    with h5py.File(path, "w") as file:
        file["tensor"] = ds["u"].values
        file["x-coordinate"] = ds["x"].values.astype("f4")
        file["t-coordinate"] = np.linspace(0, 1, 9, dtype="f4") + np.float32(0.3)
        file.attrs["beta"] = 0.1
    return path


def _well(folder: Path) -> Path:
    ds = _simulated()
    for part, cut in (("train", slice(0, 8)), ("valid", slice(8, 12))):
        (folder / "mock" / "data" / part).mkdir(parents=True)
        write_well(ds.isel(trajectory=cut), folder / "mock" / "data" / part / "mock.hdf5", name="mock")
    return folder / "mock"


def _own(folder: Path) -> Path:
    ds = _simulated()
    with h5py.File(folder / "mine.h5", "w") as file:
        file["run/u"] = ds["u"].transpose("time", "trajectory", "x").values
        file["run/t"] = ds["time"].values
    return folder / "mine.h5"


def _run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.mark.slow
@pytest.mark.parametrize("make", [_pdebench, _well], ids=["pdebench", "well"])
def test_from_info_to_a_report_with_three_commands(make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, run, out = make(tmp_path), tmp_path / "run", tmp_path / "out"
    assert _run("info", path) == 0
    assert "usable: yes" in capsys.readouterr().out
    assert _run("train", path, "--out", run, "-q", *SMALL) == 0
    assert _run("compare", run, "--out", out, "-q", "--members", 16) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert np.isfinite(metrics["rom"]["relative_l2"])
    assert "<html" in (out / "report.html").read_text()[:300]


@pytest.mark.slow
def test_a_run_remembers_its_mapping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The user's mapping may go: compare and rollout read the data as the training did."""
    path, mapping, run = _own(tmp_path), tmp_path / "mine.yaml", tmp_path / "run"
    mapping.write_text(MAPPING)
    assert _run("info", path, "--reader", mapping) == 0
    assert _run("train", path, "--reader", mapping, "--out", run, "-q", *SMALL) == 0
    mapping.unlink()
    assert json.loads((run / "data.json").read_text())["reader"] == "reader.yaml"
    assert _run("compare", run, "--out", tmp_path / "out", "-q", "--members", 16) == 0
    assert _run("rollout", run, "--start", path, "--out", tmp_path / "f.h5", "--members", 16) == 0
    with open_snapshots(tmp_path / "f.h5") as forecast:
        assert forecast["trajectory"].values.tolist() == RunFolder(run).data().trajectories["test"]
        np.testing.assert_array_equal(forecast["x"], 0.125 * np.arange(16))
    capsys.readouterr()
    assert _run("train", "--resume", run, "--reader", "well") == 2
    assert "--reader and all settings" in capsys.readouterr().err


def test_a_mapping_travels_with_the_run(tmp_path: Path) -> None:
    path, mapping = _own(tmp_path), tmp_path / "mine.yaml"
    mapping.write_text(MAPPING)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    with open_snapshots(path, reader=mapping) as ds:
        record = DataRecord.of(path, split(ds, seed=0), 0, str(mapping))
    folder.begin("seed: 0\n", record, "romvae train", mapping_text(mapping))
    mapping.write_text("reader: well\n")  # what the user does with it later is of no consequence
    assert folder.reader() == str(folder.path / "reader.yaml")
    ds, own = folder.opened(path)
    assert own
    np.testing.assert_array_equal(ds["u"].values, _simulated()["u"].values)
    ds.close()


def test_a_layout_by_name_is_remembered_as_it_is(tmp_path: Path) -> None:
    path, folder = _pdebench(tmp_path), RunFolder(tmp_path / "run")
    folder.path.mkdir()
    with open_snapshots(path, reader="pdebench") as ds:
        folder.begin("seed: 0\n", DataRecord.of(path, split(ds, seed=0), 0, "pdebench"), "romvae train")
    assert folder.reader() == "pdebench"
    other = _well(tmp_path)
    ds, own = folder.opened(other)  # other data are recognised, not read as those of the run
    assert not own
    assert ds.sizes["trajectory"] == 12
    ds.close()


def test_runs_of_earlier_versions_have_no_reader(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    record = {"path": "a.zarr", "fingerprint": "", "seed": 0}
    record["trajectories"] = {"train": [0], "variance": [1], "calibration": [2], "test": [3]}
    (tmp_path / "data.json").write_text(json.dumps(record))
    assert folder.reader() is None


@pytest.mark.parametrize("command", ["info", "check", "bench-io"])
def test_every_command_that_reads_takes_a_reader(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _own(tmp_path)
    (tmp_path / "m.yaml").write_text(MAPPING)
    more = ["--seconds", 0.001] if command == "bench-io" else []
    assert _run(command, path, *more) == 3  # nobody knows what is what
    assert _run(command, path, "--reader", tmp_path / "m.yaml", *more) == 0
    capsys.readouterr()
    assert _run(command, path, "--reader", "wel", *more) == 2
    assert "no such layout" in capsys.readouterr().err


def test_pack_and_check_and_bench_read_folders_of_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from .foreign_files import apebench

    apebench(tmp_path / "scenario")
    assert _run("check", tmp_path / "scenario") == 0
    assert _run("bench-io", tmp_path / "scenario", "--seconds", 0.001) == 0
    assert _run("pack", tmp_path / "scenario", tmp_path / "a.zarr", "-q", "-j", 1, "--reader", "apebench") == 0
    with open_snapshots(tmp_path / "a.zarr") as packed, open_snapshots(tmp_path / "scenario") as ds:
        np.testing.assert_array_equal(packed["u0"].values, ds["u0"].values)


def test_pack_writes_the_layout_of_the_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ds = _simulated()
    write_snapshots(ds, tmp_path / "a.zarr")
    out = tmp_path / "b.hdf5"
    assert _run("pack", tmp_path / "a.zarr", out, "--layout", "well", "--time", "0.1:0.4", "-q") == 0
    assert "written and verified" in capsys.readouterr().out
    with open_snapshots(out) as back:
        np.testing.assert_array_equal(back["u"].values, ds["u"].values[:, 1:5])
    assert _run("info", out) == 0
    assert f"{out} (well," in capsys.readouterr().out
    assert _run("pack", tmp_path / "a.zarr", out, "--layout", "well", "-q") == 5  # never replaced unasked
    assert _run("pack", tmp_path / "a.zarr", tmp_path / "b.zarr", "--layout", "well", "-q") == 2
    assert "suffix is '.zarr', expected .hdf5 or .h5" in capsys.readouterr().err


def _begun(folder: Path, path: Path, reader: Path | str) -> RunFolder:
    run = RunFolder(folder / "run")
    run.path.mkdir()
    with open_snapshots(path, reader=reader) as ds:
        record = DataRecord.of(path, split(ds, seed=0), 0, str(reader))
    run.begin("seed: 0\n", record, "romvae train", mapping_text(reader))
    return run


def test_another_file_that_nobody_recognises_is_read_as_the_data_of_the_run(tmp_path: Path) -> None:
    path, mapping = _own(tmp_path), tmp_path / "mine.yaml"
    mapping.write_text(MAPPING)
    run = _begun(tmp_path, path, mapping)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["run/u"], file["run/t"] = 2 * _simulated()["u"].transpose("time", "trajectory", "x").values, np.arange(8.0)
    with pytest.warns(AssumptionWarning, match=r"other.h5: read with .*run/reader.yaml, as the data of this run were"):
        ds, own = run.opened(tmp_path / "other.h5")
    assert not own
    np.testing.assert_array_equal(ds["u"].values, 2 * _simulated()["u"].values)
    ds.close()
    with h5py.File(tmp_path / "third.h5", "w") as file:
        file["v/w"] = np.zeros(3)
    with pytest.raises(DataError, match=r"holds no array 'run/u'.* \(read with .*reader.yaml, as .*; --reader NAME"):
        run.opened(tmp_path / "third.h5")
    with pytest.raises(DataError, match=r"none\.h5: does not exist"):
        run.opened(tmp_path / "none.h5")


def test_a_file_that_shows_its_layout_is_not_read_as_the_data_of_the_run(tmp_path: Path) -> None:
    path, mapping = _own(tmp_path), tmp_path / "mine.yaml"
    mapping.write_text(MAPPING)
    run = _begun(tmp_path, path, mapping)
    write_snapshots(_simulated(), tmp_path / "ours.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds, own = run.opened(tmp_path / "ours.h5")
    assert not own
    assert ds["x"].attrs["units"] == "m"
    ds.close()


def test_a_mapping_of_a_known_layout_counts_for_other_files_of_that_layout(tmp_path: Path) -> None:
    path, mapping = _pdebench(tmp_path), tmp_path / "mine.yaml"
    mapping.write_text("reader: pdebench\nboundaries: {x: wall}\n")
    run = _begun(tmp_path, path, mapping)
    other = tmp_path / "1D_Advection_Sols_beta0.2.hdf5"
    other.write_bytes(path.read_bytes())
    with h5py.File(other, "r+") as file:
        file["tensor"][...] *= 2
    ds, own = run.opened(other)
    assert not own
    assert json.loads(ds.attrs["boundary_conditions"]) == {"x": ["wall", "wall"]}
    ds.close()


def test_a_file_of_groups_says_how_it_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _own(tmp_path)
    told = r"only groups \(run\)\. romvae info .*mine.h5 proposes a mapping, .*--reader NAME.yaml \(in Python open_snap"
    with pytest.raises(DataError, match=told):
        open_snapshots(path)
    assert _run("info", path) == 3
    err = capsys.readouterr().err
    assert err.count("NAME.yaml") == 2  # to save it as, and to give
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"is no store .* romvae info .*a.npy proposes a mapping"):
        open_snapshots(tmp_path / "a.npy")
