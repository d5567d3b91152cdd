"""`romvae study` and `romvae rollout` with a design or workers, on a run folder."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from romvae.commands.planned import parsed_ranges
from romvae.commands.run_folder import DataRecord, RunFolder
from romvae.data import open_snapshots, write_snapshots
from romvae.errors import ConfigError
from romvae.rom import ROM
from romvae.solvers import Range
from romvae.testing import mock_snapshots

QUICK = ["--steps", "3", "--members", "8", "--workers", "1", "-q"]


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory) -> Path:
    """A run and its data; the parts that a study looks at are `test` (two trajectories) and `calibration` (12)."""
    top = tmp_path_factory.mktemp("run")
    data = mock_snapshots(1, ("u", "v"), trajectories=18, times=6)
    write_snapshots(data, top / "data.h5")
    rows = {"train": [0, 3], "variance": [3, 4], "test": [4, 6], "calibration": [6, 18]}
    parts = SimpleNamespace(**{name: data.isel(trajectory=slice(*ends)) for name, ends in rows.items()})
    RunFolder(top / "run").path.mkdir()
    RunFolder(top / "run").begin("seed: 0\n", DataRecord.of(top / "data.h5", parts, 0), "romvae train")
    small.untouched.save(top / "run" / "model")
    return top


def test_a_study_of_the_run_s_own_data_in_one_command(small, folder, run, tmp_path):
    out = tmp_path / "study"
    words = ["study", folder / "run", "--out", out, "--n", 4, "--design", "grid", "--starts", 2, *QUICK]
    wanted = ["--quantity", "max:u", "probe:v@x=0.5", "--range", "viscosity=0.2:1.6:log", "--tolerance", 0.5]
    code, told, err = run(*words, *wanted)
    assert code == 0, err
    beyond = 2 * int((np.geomspace(0.2, 1.6, 4) > float(small.start["viscosity"].max())).sum())
    assert f"8 rollouts to time 0.3, {beyond} out of range" in told
    assert "v_probe_x0p5" in told
    assert "outside of the trained range" in err
    with (out / "table.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    np.testing.assert_allclose([float(row["viscosity"]) for row in rows], np.repeat(np.geomspace(0.2, 1.6, 4), 2))
    assert [row["initial_field"] for row in rows] == ["4", "5"] * 4  # the test part
    assert all(float(row["u_maximum_lower"]) < float(row["u_maximum"]) < float(row["u_maximum_upper"]) for row in rows)
    with xr.open_dataset(out / "study.nc", engine="h5netcdf") as found:
        assert found["v_probe_x0p5"].attrs["calibration_trajectories"] == 12
        assert "trust_horizon" in found
    code, _, err = run(*words, *wanted)
    assert code == 5
    assert "exists already" in err


def test_without_the_run_s_data_only_what_is_calibrated_can_be_studied(folder, run, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(folder / "run", moved)
    record = (moved / "data.json").read_text().replace("data.h5", "gone.h5")
    (moved / "data.json").write_text(record)
    words = ["study", moved, "--out", tmp_path / "s", *QUICK]
    code, _, err = run(*words)
    assert code == 3
    assert "gone.h5: the data of this run are not there any more. Give initial fields with --start" in err
    given = ["--start", folder / "data.h5", "--starts", 1]
    code, _, err = run(*words, *given, "--quantity", "probe:u@x=0.5")
    assert code == 3
    assert "quantity u_probe_x0p5 is to be calibrated first, but" in err
    _without_horizon(moved)
    code, _, err = run(*words, *given, "--quantity", "probe:u@x=0.5")
    assert code == 3
    assert "quantity u_probe_x0p5, the trust horizon is to be calibrated first, but" in err
    code, _, err = run(*words, *given)
    assert code == 0, err
    assert "warning: study: no trust horizon" in err


def _without_horizon(run: Path) -> None:
    """A model as earlier versions wrote it."""
    rom = ROM.load(run / "model")
    rom.trust.forget()
    rom.save(run / "model", overwrite=True)


def test_a_rollout_says_how_long_it_is_trusted(small, folder, run, tmp_path):
    """The horizon in the store is that of `rom.rollout`, whichever way the store was written."""
    start = mock_snapshots(1, ("u", "v"), trajectories=18, times=6).isel(time=0)
    words = ["rollout", folder / "run", "--start", folder / "data.h5", "--split", "all", *QUICK]
    alone = [each for each in words if each not in ("--workers", "1")]
    expected = small.untouched.rollout(start, steps=3, members=8, tolerance=0.1)["trust_horizon"]
    for name, line in (("many.h5", words), ("alone.h5", alone)):
        code, told, err = run(*line, "--out", tmp_path / name)
        assert code == 0, err
        found = open_snapshots(tmp_path / name)["trust_horizon"]
        assert np.array_equal(found, expected)
        assert found.attrs["guarantee"] == expected.attrs["guarantee"]
        ends, median = int(np.isinf(expected).sum()), float(expected.median())
        assert f"error below 0.1 of the field's standard deviation: trusted to the end for {ends} of 18" in told
        assert (f"median trust horizon {median:.4g}" if np.isfinite(median) else "horizon beyond the end") in told
    code, _, err = run(*words, "--out", tmp_path / "large.h5", "--tolerance", "2.5", "--level", "0.8")
    assert code == 0, err
    longer = open_snapshots(tmp_path / "large.h5")["trust_horizon"]
    assert bool((longer >= expected.values).all())
    assert longer.attrs["level"] == 0.8
    code, told, err = run(*words, "--out", tmp_path / "mean.h5", "--mean-only")
    assert (code, "trusted" in told) == (0, False), err
    moved = shutil.copytree(folder / "run", tmp_path / "run")
    _without_horizon(moved)
    code, told, err = run("rollout", moved, *words[2:], "--out", tmp_path / "none.h5")
    assert (code, "trusted" in told) == (0, False), err
    code, _, err = run("rollout", moved, *words[2:], "--out", tmp_path / "none2.h5", "--tolerance", "0.1")
    assert code == 3
    assert "this ROM has no calibrated errors" in err


@pytest.mark.parametrize("more", [[], ["--workers", "1"]], ids=["in memory", "on disk"])
def test_a_rollout_says_why_it_has_no_trust_horizon(folder, run, tmp_path, more):
    """Three calibration trajectories are too few for a level of 0.9, and enough for 0.75."""
    moved = shutil.copytree(folder / "run", tmp_path / "run")
    rom = ROM.load(moved / "model")
    lead, true, predicted = (rom.trust.get_buffer(name) for name in ("lead", "true", "predicted"))
    rom.trust.keep(lead, true[:3], predicted[:3])
    rom.save(moved / "model", overwrite=True)
    words = [
        "rollout",
        moved,
        "--start",
        folder / "data.h5",
        "--split",
        "all",
        "--steps",
        3,
        "--members",
        8,
        "-q",
        *more,
    ]
    code, told, err = run(*words, "--out", tmp_path / "a.h5")
    assert code == 0, err
    assert told.splitlines()[-1] == (
        "no trust horizon: level 0.9 takes at least 9 calibration trajectories, about 60 in all with the usual shares; "
        "there are 3. Train on more, or lower --level."
    )
    code, told, err = run(*words, "--out", tmp_path / "b.h5", "--level", "0.75")
    assert (code, "no trust horizon" in told, "median trust horizon" in told) == (0, False, True), err
    code, told, err = run(*words, "--out", tmp_path / "c.h5", "--mean-only")
    assert (code, "no trust horizon" in told) == (0, False), err  # it was not asked for
    _without_horizon(moved)
    code, told, err = run(*words, "--out", tmp_path / "d.h5")
    assert "no trust horizon: this ROM has no calibrated errors" in told


@pytest.mark.parametrize("more", [[], ["--workers", "1"]], ids=["in memory", "on disk"])
def test_a_rollout_beyond_the_calibrated_steps_is_warned_of_once(small, folder, run, tmp_path, more):
    last = int(small.untouched.calibration.lead[-1])
    words = ["rollout", folder / "run", "--start", folder / "data.h5", "--split", "test", "--members", 8, "-q", *more]
    code, _, err = run(*words, "--steps", last + 5, "--out", tmp_path / "a.h5")
    assert code == 0, err
    assert err.count(f"warning: rollout: steps {last + 1} to {last + 5} are beyond the {last} that this model") == 1
    code, _, err = run(*words, "--out", tmp_path / "b.h5")
    assert (code, "calibrated on" in err) == (0, False)


def test_a_rollout_ends_where_it_is_not_trusted_any_more(small, folder, run, tmp_path):
    start = mock_snapshots(1, ("u", "v"), trajectories=18, times=6).isel(time=0)
    tolerance = float(small.untouched.trust.get_buffer("true").quantile(0.8))
    whole = small.untouched.rollout(start, steps=3, members=8, level=0.5, tolerance=tolerance)
    words = ["rollout", folder / "run", "--start", folder / "data.h5", "--split", "all", "--level", "0.5"]
    short = ["--steps", 3, "--members", 8, "-q", "--until", tolerance]
    code, _, err = run(*words, *short, "--out", tmp_path / "a.h5")
    assert code == 0, err
    found = open_snapshots(tmp_path / "a.h5")  # which checks that nothing stands beyond the end of a trajectory
    steps = (whole["time"] - whole["time"][0] < whole["trust_horizon"]).sum("time").clip(min=1)
    assert np.array_equal(found["n_steps"], steps)
    assert found.sizes["time"] == int(steps.max())
    there = xr.DataArray(np.arange(found.sizes["time"]), dims="time") < steps
    expected = whole["u_upper"].isel(time=slice(0, found.sizes["time"])).where(there)
    assert np.array_equal(found["u_upper"], expected.transpose(*found["u_upper"].dims), equal_nan=True)
    for more, message in (
        (["--workers", "1"], "--until ends forecasts that are held in memory together"),
        (["--tolerance", "0.1"], "--until is a tolerance too"),
        (["--fields", "u"], "a trust horizon follows from the predicted error"),
    ):
        code, _, err = run(*words, *short, *more, "--out", tmp_path / "b.h5")
        assert (code, err.count("error: ")) == (2, 1)
        assert message in err


@pytest.mark.parametrize("more", [[], ["--workers", "1"]], ids=["in memory", "on disk"])
def test_bands_of_a_rollout_are_those_of_python(small, folder, run, tmp_path, more):
    start = mock_snapshots(1, ("u", "v"), trajectories=18, times=6).isel(time=0)
    words = ["rollout", folder / "run", "--start", folder / "data.h5", "--split", "all", "--steps", 3, "--members", 8]
    code, _, err = run(*words, *more, "--interval", "run", "--share", "0.8", "-q", "--out", tmp_path / "a.h5")
    assert code == 0, err
    found = open_snapshots(tmp_path / "a.h5")
    expected = small.untouched.rollout(start, steps=3, members=8, interval="run", share=0.8)
    assert np.array_equal(found["u_upper"], expected["u_upper"])
    assert found.attrs["guarantee"] == expected.attrs["guarantee"]


@pytest.mark.slow
def test_many_rollouts_by_a_command_are_those_of_python(small, folder, run, tmp_path):
    out = tmp_path / "a.h5"
    words = ["rollout", folder / "run", "--start", folder / "data.h5", "--split", "all", "--out", out, *QUICK]
    code, told, err = run(*words)
    assert code == 0, err
    assert f"{out}: 18 forecasts of 3 steps" in told
    assert torch.get_num_threads() == 1
    start = mock_snapshots(1, ("u", "v"), trajectories=18, times=6).isel(time=0)
    expected = small.rom.rollout(start, steps=3, members=8)
    assert np.array_equal(open_snapshots(out)["v_upper"], expected["v_upper"])


def test_a_range_is_a_name_and_an_interval_or_a_value():
    assert parsed_ranges(["a=1:2", "b=1e-3:1:log", "c=-4"]) == [
        Range("a", 1, 2),
        Range("b", 1e-3, 1, "log"),
        Range("c", -4, -4),
    ]
    for word in ("a", "a=", "=1:2", "a=1:2:3", "a=1:2:lin", "a=x:y"):
        with pytest.raises(ConfigError, match=f"--range {word}: expected NAME=LOW:HIGH"):
            parsed_ranges([word])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--range", "viscosity=1:2"], "--n is missing"),
        (["--n", "0"], "--n = 0: should be at least 1"),
        (["--n", "2", "--from-case"], "the data do not say which case"),
        (["--n", "2", "--from-case", "--starts", "1"], "--starts goes with given initial fields"),
        (["--starts", "9"], "--starts = 9: there are 2 initial fields"),
        (["--every", "0"], "--every = 0: should be at least 1"),
        (["--level", "90"], "--level = 90"),
        (["--quantity", "maxi:u"], "kind is 'maxi'"),
    ],
)
def test_a_command_that_makes_no_sense_is_one_line_and_code_2(folder, run, tmp_path, words, message):
    code, _, err = run("study", folder / "run", "--out", tmp_path / "s", *words, "-q")
    assert code == 2
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_what_goes_with_many_rollouts_only_is_said(folder, run, tmp_path):
    words = ["rollout", folder / "run", "--start", folder / "data.h5", "--out", tmp_path / "a.h5"]
    code, _, err = run(*words, "--skip-failed")
    assert code == 2
    assert "--starts and --skip-failed go with --n, --workers or --scheduler" in err


def test_a_parameter_that_shapes_the_initial_field_is_not_varied_without_it():
    from romvae.commands.planned import _refuse_shaping

    data = xr.Dataset(attrs={"case": "burgers_1d_parametric"})
    _refuse_shaping(data, [{"a": 1.0, "w": 2.0}, {"a": 1.0, "w": 2.0}])
    with pytest.raises(ConfigError, match=r"a, w: shapes the initial field .* Use --from-case"):
        _refuse_shaping(data, [{"a": 1.0, "w": 2.0}, {"a": 2.0, "w": 1.0}])
