"""Real stores and a real (barely trained) run on the command line: bad input is one line, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from romvae.data import write_snapshots
from romvae.errors import AssumptionWarning
from romvae.testing import mock_snapshots

SMALL = ["--model.latent", "3", "--model.channels", "4", "--model.hidden", "8", "--model.members", "2"]
SHORT = ["--training.vae-steps", "3", "--training.variance-steps", "2", "--training.dynamics-steps", "3"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with `data.h5` and `run`, and the data themselves."""
    from romvae import cli

    folder = tmp_path_factory.mktemp("trained")
    data = mock_snapshots(1, ("u",), trajectories=10, times=6)
    write_snapshots(data, folder / "data.h5")
    words = ["train", str(folder / "data.h5"), "--out", str(folder / "run"), "-q", *SMALL, *SHORT]
    assert cli.main(words) == 0
    return folder, data


def _store(data: xr.Dataset, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        return write_snapshots(data, path)


def _with_units(data: xr.Dataset, name: str, units: str) -> xr.Dataset:
    changed = data.copy(deep=True)
    changed[name].attrs["units"] = units
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d.isel(time=slice(None, None, 2)),
            r"time step is 0\.2 s, but this ROM was trained at 0\.1 s\. Interpolate",
        ),
        (lambda d: _with_units(d, "time", "h"), "'time' is in 'h'"),
        (lambda d: _with_units(d, "u", "km"), "'u' is in 'km'"),
        (lambda d: d.isel(x=slice(None, None, 2)), "'x' has .* points"),
        (lambda d: d.rename(u="v"), "field 'u' is missing, found v"),
    ],
    ids=["dt", "time units", "units", "grid", "field"],
)
def test_a_start_that_does_not_fit_names_the_store(change, message, run, trained, tmp_path):
    folder, data = trained
    store = _store(change(data), tmp_path / "start.h5")
    code, out, err = run("rollout", folder / "run", "--start", store, "--out", tmp_path / "f.h5")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert err.startswith(f"error: {store}: ")
    assert re.search(message, err), err
    assert not (tmp_path / "f.h5").exists()


def test_parameters_outside_the_training_range_are_one_warning_with_the_range(run, trained, tmp_path):
    folder, data = trained
    far = data.assign_coords(viscosity=("trajectory", data["viscosity"].values + 50, data["viscosity"].attrs))
    store = _store(far, tmp_path / "far.h5")
    code, _, err = run("rollout", folder / "run", "--start", store, "--out", tmp_path / "f.h5")
    assert code == 0, err
    assert err.count("\n") == 1
    assert err.startswith(f"warning: {store}: parameter 'viscosity' is 5")
    assert "outside the trained range" in err


def test_an_excerpt_of_a_forecast_is_written_as_it_was_asked_for(run, trained, tmp_path):
    folder, _ = trained
    words = ["rollout", folder / "run", "--start", folder / "data.h5", "--split", "all", "--members", "8"]
    part = ["--times", "0.2", "0.5", "--region", "x=0.25:0.5"]
    for name, more in (("whole.nc", []), ("part.nc", part), ("mean.nc", [*part, "--mean-only", "--fields", "u"])):
        code, _, err = run(*words, *more, "--out", tmp_path / name)
        assert code == 0, err
    whole, cut, mean = (
        xr.load_dataset(tmp_path / name, engine="h5netcdf") for name in ("whole.nc", "part.nc", "mean.nc")
    )
    expected = whole.sel(time=[0.2, 0.5], method="nearest").sel(x=slice(0.25, 0.5))
    xr.testing.assert_allclose(cut["u_std"], expected["u_std"], rtol=1e-4)
    assert set(whole.data_vars) == set(cut.data_vars)
    assert set(mean.data_vars) == {"u"}
    assert mean["u"].shape == cut["u"].shape
    code, _, err = run(*words[:-1], "16", "--propagation", "auto", "--out", tmp_path / "auto.nc")
    assert code == 0, err
    attrs = xr.load_dataset(tmp_path / "auto.nc", engine="h5netcdf").attrs
    assert attrs["propagation_choice"].split(": ")[0] == attrs["propagation"]
    both = ["--mean-only", "--propagation", "linear"]
    for bad in (["--region", "x=0.2"], ["--region", "0.2:0.5"], ["--fields", "w"], ["--times", "0.25"], both):
        code, out, err = run(*words, *bad, "--out", tmp_path / "bad.nc")
        assert (code, out, err.count("error: ")) == (2, "", 1), err
        assert not (tmp_path / "bad.nc").exists()


def test_members_are_written_at_once_or_as_times_pass_and_refused_where_there_are_none(run, trained, tmp_path):
    folder, _ = trained
    words = ["rollout", folder / "run", "--start", folder / "data.h5", "--split", "all", "--members", "8", "-q"]
    found = {}
    for name, more in (("one.nc", []), ("many.nc", ["--workers", "1"])):
        code, _, err = run(*words, *more, "--keep-members", "--out", tmp_path / name)
        assert code == 0, err
        found[name] = xr.load_dataset(tmp_path / name, engine="h5netcdf")
        mean, scale = found[name]["u_members"].mean("member"), float(abs(found[name]["u"]).max())
        np.testing.assert_allclose(mean, found[name]["u"], rtol=0, atol=2e-6 * scale)  # single precision
    both = (each["u_members"] for each in found.values())
    xr.testing.assert_allclose(*both, rtol=1e-4, atol=1e-5)  # on one thread, and on all
    code, out, err = run(*words, "--keep-members", "--mean-only", "--out", tmp_path / "bad.nc")
    assert (code, out, err.count("error: ")) == (2, "", 1), err
    assert "propagation='mean' follows no members that could be kept" in err
    assert not (tmp_path / "bad.nc").exists()


def test_a_forecast_never_replaces_the_store_it_starts_from(run, trained, tmp_path):
    folder, _ = trained
    store = Path(shutil.copy(folder / "data.h5", tmp_path / "data.h5"))
    before = store.read_bytes()
    code, _, err = run("rollout", folder / "run", "--start", store, "--out", store, "--overwrite")
    assert code == 5
    assert "the store to start from" in err
    assert store.read_bytes() == before


@pytest.mark.parametrize("command", ["rollout", "compare"])
def test_a_seed_out_of_range_is_refused(command, run, trained, tmp_path):
    folder, _ = trained
    start = ["--start", folder / "data.h5"] if command == "rollout" else []
    code, _, err = run(command, folder / "run", *start, "--out", tmp_path / "f.h5", "--seed", "-1")
    assert (code, err.count("\n")) == (2, 1)
    assert "--seed" in err


def test_other_data_than_those_of_the_run_are_compared_with_a_warning(run, trained, tmp_path):
    folder, data = trained
    words = ["compare", folder / "run", "-q", "--members", "8", "--cost-seconds", "1"]
    code, _, err = run(*words, "--out", tmp_path / "same")
    assert (code, err) == (0, "")
    other = _store(data.assign(u=data["u"] * 1.01), tmp_path / "other.h5")
    code, _, err = run(*words, "--out", tmp_path / "other", "--data", other)
    assert code == 0
    assert err.startswith(f"warning: {other}: is not the data of this run")


def test_data_whose_trajectories_differ_in_length_are_compared_as_far_as_they_go(run, trained, tmp_path):
    folder, data = trained
    ragged = data.copy(deep=True)
    ragged["u"][::2, -1] = np.nan
    lengths = np.full(data.sizes["trajectory"], data.sizes["time"], dtype=np.int32)
    lengths[::2] -= 1
    ragged = ragged.assign_coords(n_steps=("trajectory", lengths, {"romvae_role": "valid_length"}))
    store = _store(ragged, tmp_path / "ragged.h5")
    code, _, _ = run("compare", folder / "run", "-q", "--out", tmp_path / "out", "--data", store, "--cost-seconds", "1")
    assert code == 0
    left = json.loads((tmp_path / "out" / "metrics.json").read_text())["data"]["ragged"]
    assert 0.5 < left["share_of_snapshots_scored"] < 1


def test_training_on_one_time_names_the_store(run, trained, tmp_path):
    store = _store(trained[1].isel(time=[0]), tmp_path / "one.h5")
    code, _, err = run("train", store, "--out", tmp_path / "run")
    assert (code, err) == (3, f"error: {store}: holds a single time, expected at least two to know the time step\n")
    assert not (tmp_path / "run").exists()


def test_what_is_assumed_is_said_once(run, trained, tmp_path):
    bare = trained[1].copy()
    bare.attrs = {}
    bare["viscosity"].attrs = {"units": "1"}
    store = _store(bare, tmp_path / "bare.h5")
    code, _, err = run("train", store, "--out", tmp_path / "run", "-q", *SMALL, *SHORT)
    assert code == 0
    assert err.count("no boundary condition for x: taken as open") == 1
    assert err.count("no role declared for viscosity: taken as no parameter") == 1


def test_a_run_without_its_settings_is_a_damaged_run(run, trained, tmp_path):
    shutil.copytree(trained[0] / "run", tmp_path / "run")
    (tmp_path / "run" / "config.yaml").unlink()
    code, _, err = run("info", tmp_path / "run")
    assert code == 3
    assert "config.yaml: the settings of the run cannot be read" in err


def test_a_demo_that_was_interrupted_can_be_run_again(run, fake, tmp_path):
    (tmp_path / "demo" / "data.zarr").mkdir(parents=True)
    fake("romvae.demo", run_demo=lambda *args, **kwargs: {"rom": {"relative_l2": 0.1}})
    assert run("demo", "--out", tmp_path / "demo")[0] == 5
    assert run("demo", "--out", tmp_path / "demo", "--overwrite")[0] == 0


def _shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    romvae = f"{sys.executable} -m romvae"
    top = str(Path(__file__).parents[2])
    return subprocess.run(
        ["bash", "-c", line.replace("romvae", romvae, 1)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": top},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_work_is_finished_though_nobody_reads_the_progress(tmp_path):
    done = _shell("romvae simulate heat_1d --n 2 --workers 1 --out h.h5 2>&1 | true; exit ${PIPESTATUS[0]}", tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "h.h5").exists()


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(closed, tmp_path):
    done = _shell(f"romvae simulate --list {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
