"""`romvae hybrid` and `romvae assimilate` on a run folder: their stores hold what the functions give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import romvae.hybrid
from romvae import Alarm, assimilate, calibrate_alarm, hybrid_rollout
from romvae.assimilation import observe, read_observations
from romvae.commands.run_folder import DataRecord, RunFolder
from romvae.data import open_snapshots, write_snapshots
from romvae.errors import ConfigError, DataError
from romvae.trust import true_error

PLACES = {"x": [0.1, 0.4, 0.8]}
FACTORS = (0.25, 0.5, 1.0)
NAMED = ("train", "variance", "calibration", "test")


@pytest.fixture(scope="module", autouse=True)
def _few_thresholds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(romvae.hybrid, "THRESHOLDS", FACTORS)
        yield


@pytest.fixture(scope="module")
def folder(heat, tmp_path_factory) -> Path:
    """A run of the ROM that needs no training, and its data."""
    top = tmp_path_factory.mktemp("run")
    parts = [getattr(heat.parts, name) for name in NAMED]
    whole = romvae.simulated.joined(parts).assign_attrs(heat.parts.train.attrs)
    write_snapshots(whole, top / "data.h5")
    RunFolder(top / "run").path.mkdir()
    RunFolder(top / "run").begin("seed: 0\n", DataRecord.of(top / "data.h5", heat.parts, 0), "romvae train")
    heat.rom.save(top / "run" / "model")
    return top


@pytest.fixture(scope="module")
def tolerance(heat) -> float:
    """What six of ten forecasts keep."""
    data = heat.parts.calibration
    alone = hybrid_rollout(heat.rom, heat.case, data.isel(time=0), Alarm(np.inf))
    return float(true_error(heat.rom, data, alone).max("time").quantile(0.6))


def test_a_hybrid_forecast_in_one_command_is_that_of_the_functions(heat, folder, tolerance, run, tmp_path):
    words = ["hybrid", folder / "run", "--tolerance", repr(tolerance), "--level", "0.9"]
    code, told, err = run(*words, "--out", tmp_path / "a.h5")
    assert code == 0, err
    alarm = calibrate_alarm(heat.rom, "heat_1d", heat.parts.calibration, tolerance, level=0.9)
    wanted = hybrid_rollout(heat.rom, "heat_1d", heat.parts.test.isel(time=0), alarm)
    found = open_snapshots(tmp_path / "a.h5")
    assert list(found.data_vars) == list(heat.rom.schema.field_names)
    for name in (*heat.rom.schema.field_names, "source", "predicted_error", "work", "hand_overs"):
        assert np.array_equal(found[name].values, wanted[name].transpose(*found[name].dims).values, equal_nan=True)
    assert found.attrs["guarantee"] == alarm.statement
    assert alarm.statement in told
    assert f"made {100 * float(wanted['work'].mean()):.3g} % of its steps" in told


def test_the_signal_of_the_alarm_is_learned_on_the_variance_data(heat, folder, tolerance, run, tmp_path):
    words = ["hybrid", folder / "run", "--tolerance", repr(tolerance), "--level", "0.9", "--signal", "ranks"]
    code, told, err = run(*words, "--out", tmp_path / "a.h5")
    assert code == 0, err
    options = {"level": 0.9, "signal": "ranks", "learning": heat.parts.variance}
    alarm = calibrate_alarm(heat.rom, "heat_1d", heat.parts.calibration, tolerance, **options)
    assert open_snapshots(tmp_path / "a.h5").attrs["signal"] == alarm.signal.formula
    assert alarm.signal.statement in told
    assert (folder / "run" / "alarms" / f"heat_1d-{tolerance!r}-ranks.json").exists()


def test_a_calibration_goes_on_where_it_was_stopped(heat, tolerance, tmp_path, monkeypatch):
    """Twice stopped, it makes every trial once, and finds what one that was not stopped finds."""
    rom, data, record = heat.rom, heat.parts.calibration, tmp_path / "alarms" / "heat.json"
    whole = calibrate_alarm(rom, "heat_1d", data, tolerance, level=0.9)
    rolled, made = romvae.hybrid.hybrid_rollout, []

    def counted(*args, **kwargs):
        if len(made) == left[0]:
            raise KeyboardInterrupt
        made.append(args[3])
        return rolled(*args, **kwargs)

    monkeypatch.setattr(romvae.hybrid, "hybrid_rollout", counted)
    for end in (1, 2):
        left = [end]
        with pytest.raises(KeyboardInterrupt):
            calibrate_alarm(rom, "heat_1d", data, tolerance, level=0.9, record=record)
    left = [-1]
    assert calibrate_alarm(rom, "heat_1d", data, tolerance, level=0.9, record=record) == whole
    assert len({(alarm.threshold, alarm.back) for alarm in made}) == len(made)
    monkeypatch.setattr(romvae.hybrid, "hybrid_rollout", lambda *args: pytest.fail("a trial was made again"))
    assert calibrate_alarm(rom, "heat_1d", data, tolerance, level=0.9, record=record) == whole


def test_trials_of_other_data_do_not_count_and_a_damaged_record_is_named(heat, tolerance, tmp_path):
    rom, data, record = heat.rom, heat.parts.calibration, tmp_path / "heat.json"
    for some in (data, data.isel(trajectory=slice(0, 20))):
        found = calibrate_alarm(rom, "heat_1d", some, tolerance, level=0.9, record=record, back=False)
        assert found == calibrate_alarm(rom, "heat_1d", some, tolerance, level=0.9, back=False)
        trials = json.loads(record.read_text())["trials"]
        assert {len(each["worst"]) for each in trials.values()} == {some.sizes["trajectory"]}
    record.write_text("{}")
    with pytest.raises(DataError, match=r"heat.json: holds no trials of a calibration .* Remove it"):
        calibrate_alarm(rom, "heat_1d", data, tolerance, level=0.9, record=record)


def test_what_a_hybrid_forecast_cannot_be_made_of_is_refused(folder, run, tmp_path):
    words = ["hybrid", folder / "run", "--out", tmp_path / "a.h5"]
    for more, expected, code in (
        (["--tolerance", "0.1", "--steps", "0"], "--steps = 0: should be at least 1", 2),
        (["--tolerance", "-1"], "tolerance is -1.0", 2),
        (["--tolerance", "0.1", "--level", "0.99"], "24 trajectories, expected at least 99", 3),
        (["--tolerance", "0.1", "--case", "heat_2d"], "Use the solver that made its data", 3),
        (["--tolerance", "0.1", "--case", "heet_1d"], "Did you mean", 2),
    ):
        found, _, err = run(*words, *more)
        assert (found, expected in err) == (code, True), err
    assert not (tmp_path / "a.h5").exists()


def test_the_data_of_the_run_are_neither_replaced_nor_taken_for_granted(folder, run, tmp_path):
    """An alarm that was calibrated on other data than those that were set aside promises nothing."""
    data, words = folder / "data.h5", ["hybrid", folder / "run", "--tolerance", "0.1", "--start", folder / "start.h5"]
    before = data.read_bytes()
    code, _, err = run(*words[:4], "--out", data, "--overwrite")
    assert (code, "never replaced by a forecast" in err) == (5, True), err
    assert data.read_bytes() == before
    changed = open_snapshots(data).load()
    write_snapshots(changed, folder / "start.h5", overwrite=True)
    try:
        write_snapshots(1.01 * changed.assign_attrs(changed.attrs), data, overwrite=True)
        code, _, err = run(*words, "--out", tmp_path / "a.h5")
        assert (code, "are not what this run was trained on any more" in err) == (3, True), err
    finally:
        data.write_bytes(before)


@pytest.fixture(scope="module")
def readings(heat):
    """Three sensors on two of the test trajectories, with one reading missing."""
    truth = heat.parts.test.isel(trajectory=[4, 1])
    seen = observe(truth, PLACES, 0.05, every=2, seed=3)
    seen["value"][1, 2, 0] = np.nan
    return seen


def table(seen, path: Path, columns: str = "trajectory time x value std") -> Path:
    """The readings as lines of a table, those of a trajectory with the last ones first."""
    lines = []
    for i, trajectory in enumerate(seen["trajectory"].values):
        for k, time in reversed([*enumerate(seen["time"].values)]):
            for s, x in reversed([*enumerate(seen["x"].values)]):
                value = float(seen["value"][i, k, s])
                cells = {"trajectory": trajectory, "time": repr(float(time)), "x": repr(float(x)), "std": "0.05"}
                cells |= {"value": "" if np.isnan(value) else repr(value)}
                cells |= {n: repr(float(seen[n][i])) for n in seen.coords if seen[n].dims == ("trajectory",)}
                cells["trajectory"] = str(trajectory)
                lines.append(",".join(cells[name] for name in columns.split()))
    path.write_text("\n".join([columns.replace(" ", ","), *lines]) + "\n", encoding="utf-8")
    return path


def test_readings_are_followed_in_one_command(heat, folder, readings, run, tmp_path):
    words = ["assimilate", folder / "run", "--start", folder / "data.h5", "--members", "16", "--seed", "2"]
    rows = readings["trajectory"].values
    start = open_snapshots(folder / "data.h5").sel(trajectory=rows).isel(time=0)
    wanted = assimilate(heat.rom, start, readings, members=16, seed=2)
    readings.to_netcdf(tmp_path / "seen.nc", engine="h5netcdf")
    readings.drop_vars("std").to_zarr(tmp_path / "seen.zarr")
    name = heat.rom.schema.field_names[0]
    for given in (tmp_path / "seen.nc", tmp_path / "seen.zarr", table(readings, tmp_path / "seen.csv")):
        noise = ["--std", "0.05"] if given.suffix == ".zarr" else []
        code, told, err = run(*words, *noise, "--obs", given, "--out", tmp_path / f"{given.suffix[1:]}.h5")
        assert code == 0, err
        assert "3 sensors at 5 times, 1 of 30 readings missing" in told
        found = open_snapshots(tmp_path / f"{given.suffix[1:]}.h5").sel(trajectory=rows)
        for kind in ("", "_std", "_lower", "_upper"):
            truth = wanted[name + kind].transpose(*found[name].dims).values
            np.testing.assert_allclose(found[name + kind].values, truth, rtol=1e-4, atol=1e-6)


def test_without_a_start_the_table_carries_the_parameters(heat, folder, readings, run, tmp_path):
    columns = ["trajectory", "time", "x", "value", *heat.rom.schema.parameter_names]
    given = table(readings, tmp_path / "seen.csv", " ".join(columns))
    words = ["assimilate", folder / "run", "--obs", given, "--out", tmp_path / "a.h5"]
    code, _, err = run(*words)
    assert (code, "nothing tells the noise of the readings" in err) == (2, True), err
    code, told, err = run(*words, "--std", "0.05", "--members", "16", "--steps", "8")
    assert code == 0, err
    wanted = assimilate(heat.rom, None, readings, members=16, steps=8)
    name, found = heat.rom.schema.field_names[0], open_snapshots(tmp_path / "a.h5")
    first = found[name].sel(trajectory=wanted["trajectory"]).values
    np.testing.assert_allclose(first, wanted[name].transpose(*found[name].dims).values, rtol=1e-4, atol=1e-5)
    assert f"expected error of {name}:" in told


def with_cell(text: str, column: str, cell: str) -> str:
    """The table with another cell in its first line of readings."""
    head, first, *others = text.splitlines()
    cells = dict(zip(head.split(","), first.split(","), strict=True)) | {column: cell}
    return "\n".join([head, ",".join(cells.values()), *others]) + "\n"


def with_parameter(text: str, *values: str) -> str:
    """The table with a column more, whose first lines have these values."""
    head, *lines = text.splitlines()
    column = [*values, *(values[:1] * len(lines))][: len(lines)]
    return "\n".join([f"{head},diffusivity", *map(",".join, zip(lines, column, strict=True))]) + "\n"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.replace("value", "valeu", 1), r"column 'valeu' is unknown, .* Did you mean 'value'"),
        (lambda t: t.replace("time,", "", 1), r"line 2 has not as many cells as there are columns \(4\)"),
        (lambda t: t.replace(",std", "", 1).replace(",0.05", ""), "nothing tells the noise"),
        (lambda t: t + t.splitlines()[1] + "\n", r"line 32 reads a sensor that was read at this time before"),
        (lambda t: with_cell(t, "x", "right"), r"line 2 has x = 'right', expected a number"),
        (lambda t: with_parameter(t, "0.01", "0.02"), r"line 3 has diffusivity = 0.02, a line before it 0.01"),
        (lambda t: with_cell(t, "std", "inf"), r"line 2 has std = 'inf', expected a number"),
        (lambda t: t.splitlines()[0], "holds no readings"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused_with_its_line(heat, readings, tmp_path, change, expected):
    path = table(readings, tmp_path / "seen.csv")
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises((DataError, ConfigError), match=rf"seen\.csv: {expected}"):
        read_observations(path, heat.rom.schema)


def test_readings_of_a_trajectory_that_the_start_lacks_are_refused(folder, readings, run, tmp_path):
    words = ["assimilate", folder / "run", "--start", folder / "data.h5", "--out", tmp_path / "a.h5", "--obs"]
    unknown = readings.assign_coords(trajectory=readings["trajectory"] + 1000)
    code, _, err = run(*words, table(unknown, tmp_path / "unknown.csv"))
    number = 1000 + int(readings["trajectory"].values[0])
    assert (code, f"trajectory {number} is missing, of which there are readings" in err) == (3, True), err
    nameless = readings.isel(trajectory=[0])
    code, _, err = run(*words, table(nameless, tmp_path / "nameless.csv", "time x value std"))
    assert (code, "the readings do not say of which one they are" in err) == (3, True), err
