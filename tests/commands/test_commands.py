"""What each command reads, passes on and writes. The science is faked here."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import socket
import sys
import types

import numpy as np
import pytest
import xarray as xr

from romvae import errors
from romvae.baselines.selection import CHEAP
from romvae.commands.compare import _as_trained
from romvae.commands.run_folder import DataRecord, RunFolder
from romvae.commands.text import outline, skill
from romvae.data.split import PARTS
from romvae.environment import available_cpus
from romvae.kinds import DEFAULTS, LOSS_DEFAULTS
from romvae.progress import silent

METRICS = {
    "rom": {"relative_l2": 0.04, "coverage_90": 0.91, "coverage_90_se": 0.02},
    "baselines": {"persistence": {"relative_l2": 0.8}},
    "seconds": {"vae": 60.0},
}


def test_demo_prints_the_headline_and_where_the_report_is(run, fake, tmp_path):
    calls = []
    fake("romvae.demo", run_demo=lambda *args, **kwargs: calls.append((args, kwargs)) or METRICS)
    code, out, _ = run("demo", "--out", tmp_path / "d", "--quick", "--seed", "3", "--quiet")
    assert code == 0
    assert "4.00 %" in out
    assert str(tmp_path / "d" / "report.html") in out
    expected = {"quick": True, "seed": 3, "case": "burgers_1d", "progress": silent}
    expected |= {"overwrite": False, "workers": available_cpus()}
    assert calls == [((tmp_path / "d",), expected)]


@pytest.fixture
def snapshots() -> xr.Dataset:
    return xr.Dataset(
        {"u": (("trajectory", "time", "x"), np.zeros((8, 3, 4)))},
        {"trajectory": np.arange(10, 18), "time": [0.0, 0.5, 1.0], "x": np.arange(4.0)},
    )


@dataclasses.dataclass
class Parts:
    train: xr.Dataset
    variance: xr.Dataset
    calibration: xr.Dataset
    test: xr.Dataset


class FakeRom:
    """Remembers how it was made; forecasts its start."""

    made: dict[str, object] = {}
    schema = types.SimpleNamespace(check=lambda ds, source: None, controls=(), field_names=("u",))
    steps = steps_ahead = 2
    start_times = 1

    @classmethod
    def for_data(cls, train, **settings):
        cls.made = settings
        return cls()

    def state_arrays(self):
        return {}

    def save(self, path, overwrite=False):
        path.mkdir()

    @classmethod
    def load(cls, path):
        assert path.is_dir()
        return cls()

    def rollout(self, start, steps=None, members=32, seed=0, level=0.9, controls=None):
        forecast = start.drop_vars("time").expand_dims(time=(steps or 2) + 1)
        return forecast.assign_attrs(members=members, seed=seed, level=level)


@dataclasses.dataclass
class FakeHistory:
    curves: dict[str, object]
    seconds: dict[str, float]

    def to_dict(self):
        return dataclasses.asdict(self)


@dataclasses.dataclass
class FakeComparison:
    metrics: dict[str, object]
    info: dict[str, object] = dataclasses.field(default_factory=dict)

    def save(self, path, overwrite=False):
        path.mkdir()

    @classmethod
    def load(cls, path):
        assert path.is_dir()
        return cls(METRICS)


@pytest.fixture
def science(fake, snapshots, tmp_path):
    """Fakes of data, ROM, training, compare and report; gives what they were called with."""
    for real in ("report.chosen", "training.fallback", "comparison.card"):  # a fake has no modules to import later
        importlib.import_module(f"romvae.{real}")
    calls: dict[str, object] = {}
    store = tmp_path / "data.h5"
    store.write_bytes(b"data")

    def split(dataset, seed=0):
        return Parts(*(dataset.isel(trajectory=[i, i + 4]) for i in range(4)))

    def write(dataset, path, overwrite=False):
        calls["written"] = dataset
        path.write_bytes(b"written")

    def fit(rom, parts, seed=0, progress=None, **settings):
        assert settings.pop("checkpoint").parent.is_dir()
        assert settings.pop("checkpoint_every") == 30.0
        calls["fit"] = {"seed": seed, **settings}
        progress("vae", 1, 1)
        return FakeHistory({"vae": {"step": [1], "loss": [0.5]}}, {"vae": 1.0})

    def compare(rom, test, **kwargs):
        calls["compare"] = {"test": test, **kwargs}
        calls["comparison"] = FakeComparison(METRICS)
        return calls["comparison"]

    def write_text(comparison, path, overwrite=False):
        path.write_text(json.dumps(comparison.metrics))

    fake("romvae.data", open_snapshots=lambda path, reader=None: snapshots, split=split, write_snapshots=write)
    fake("romvae.rom", ROM=FakeRom)
    fake("romvae.training", fit=fit)
    fake("romvae.solvers", CASES={})
    fake("romvae.comparison", compare=compare, Comparison=FakeComparison)
    fake("romvae.report", write_report=write_text, write_metrics=write_text, headlines=lambda metrics: [VERDICT] * 3)
    return calls


def test_train_writes_a_whole_run_that_the_other_commands_read(run, science, snapshots, tmp_path):
    config = tmp_path / "rom.yaml"
    config.write_text("model: {latent: 3}\ntraining: {device: cpu, vae_steps: 5}\n")
    folder, store = tmp_path / "run", tmp_path / "data.h5"
    code, _, err = run("train", store, "--out", folder, "--config", config, "--training.vae-steps", "7", "--seed", "2")
    assert code == 0, err
    assert FakeRom.made == {**DEFAULTS, "seed": 2, "latent": 3, "members": 4, "memory_budget": None}
    expected = {"seed": 2, "vae_steps": 7, "augment": "auto", "device": "cpu", "watch": None}
    assert science["fit"] == {**LOSS_DEFAULTS, **expected, "precision": "float32", "compile": "off"}
    names = {"model", "config.yaml", "data.json", "history.json", "env.json", "command.txt"}
    assert {entry.name for entry in folder.iterdir()} == names
    assert RunFolder(folder).settings()["training"]["vae_steps"] == 7
    assert RunFolder(folder).environment()["packages"]["torch"] != "not installed"
    record = RunFolder.open(folder).data()
    assert record.trajectories == {name: [10 + i, 14 + i] for i, name in enumerate(PARTS)}
    assert "vae: 1/1" in err

    assert run("train", store, "--out", folder)[0] == 5

    code, _, err = run("rollout", folder, "--start", store, "--out", tmp_path / "f.h5", "--members", "5")
    assert code == 0, err
    forecast = science["written"]
    assert forecast["trajectory"].values.tolist() == record.trajectories["test"]
    assert forecast.sizes["time"] == snapshots.sizes["time"]
    assert forecast.attrs == {"members": 5, "seed": 0, "level": 0.9}

    code, out, err = run("compare", folder, "--out", tmp_path / "c", "--max-relative-l2", "0.01")
    assert code == 6, err
    # The verdict in short, in lines that a terminal holds, and no number without its sign.
    assert " ".join([VERDICT] * 3) in " ".join(out.split())
    assert max(map(len, out[out.index(VERDICT) :].split("\n\n")[0].splitlines())) <= 100
    assert "relative L2 error is 0.04, expected at most 0.01" in err
    assert science["compare"]["test"]["trajectory"].values.tolist() == record.trajectories["test"]
    assert science["compare"]["train"]["trajectory"].values.tolist() == record.trajectories["train"]
    assert science["compare"]["validation"]["trajectory"].values.tolist() == record.trajectories["variance"]
    assert science["compare"]["seconds"] == {"vae": 1.0}
    assert science["compare"]["baselines"] == list(CHEAP)
    assert science["comparison"].info["history"] == {"vae": {"step": [1], "loss": [0.5]}}
    assert science["comparison"].info["configuration"]["model"]["latent"] == 3
    assert json.loads((tmp_path / "c" / "metrics.json").read_text()) == METRICS
    assert run("compare", folder, "--out", tmp_path / "c")[0] == 5

    assert run("report", tmp_path / "c", "--out", tmp_path / "a.html")[0] == 0
    assert run("report", folder, "--out", tmp_path / "b.html", "-q")[0] == 0
    assert run("report", folder, "--out", tmp_path / "b.html")[0] == 5
    code, _, err = run("report", tmp_path, "--out", tmp_path / "d.html")
    assert code == 3
    assert "neither a comparison nor a run" in err


def test_a_training_with_few_calibration_trajectories_says_so_once_before_it(run, science, snapshots, fake, tmp_path):
    code, _, err = run("train", tmp_path / "data.h5", "--out", tmp_path / "run")
    assert code == 0
    said = (
        "no trust horizon, and their 90 % intervals no guarantee: level 0.9 takes at least 9 calibration trajectories, "
    )
    assert err.count(f"{said}about 60 in all with the usual shares; there are 2.") == 1
    assert err.index("no trust horizon") < err.index("vae: 1/1")
    several = xr.concat([snapshots] * 9, "trajectory").assign_coords(trajectory=np.arange(72))
    fake("romvae.data", open_snapshots=lambda path, reader=None: several, split=_halves)
    assert "no trust horizon" not in run("train", tmp_path / "data.h5", "--out", tmp_path / "many")[2]


def test_a_run_that_diverged_is_compared_and_fails_any_bound_on_its_error(run, science, fake, tmp_path):
    assert run("train", tmp_path / "data.h5", "--out", tmp_path / "run", "-q")[0] == 0
    broken = {"rom": {"relative_l2": None, "diverged": {"trajectories": [3], "steps": [8], "of": 8}}}
    metrics = {**METRICS, **broken}
    fake("romvae.comparison", compare=lambda *args, **kwargs: FakeComparison(metrics), Comparison=FakeComparison)
    code, out, err = run("compare", tmp_path / "run", "--out", tmp_path / "a", "-q")
    assert (code, "rom                  diverged" in out) == (0, True), err
    code, _, err = run("compare", tmp_path / "run", "--out", tmp_path / "b", "-q", "--max-relative-l2", "9")
    assert code == 6
    assert "the forecast diverged and has no error, expected a relative L2 error of at most 9" in err
    assert json.loads((tmp_path / "b" / "metrics.json").read_text()) == metrics


def _halves(ds, seed=0, fractions=None):
    """Nine trajectories a part; `fractions` are kept where a test looks for them."""
    _halves.given = fractions
    return Parts(*(ds.isel(trajectory=slice(9 * i, 9 * i + 9)) for i in range(4)))


def test_shares_of_the_split_are_settings(run, science, snapshots, fake, tmp_path):
    several = xr.concat([snapshots] * 9, "trajectory").assign_coords(trajectory=np.arange(72))
    fake("romvae.data", open_snapshots=lambda path, reader=None: several, split=_halves)
    words = ["train", tmp_path / "data.h5", "--out", tmp_path / "run", "--split.calibration", "0.3"]
    code, _, err = run(*words)
    assert code == 2
    assert "split: shares sum to 1.15 (train 0.5, variance 0.15, calibration 0.3, test 0.2), should sum to 1" in err
    assert run(*words, "--split.train", "0.35")[0] == 0
    assert _halves.given == {"train": 0.35, "variance": 0.15, "calibration": 0.3, "test": 0.2}
    assert RunFolder(tmp_path / "run").settings()["split"]["calibration"] == 0.3
    assert run("train", tmp_path / "data.h5", "--out", tmp_path / "usual")[0] == 0
    assert _halves.given is None  # data with a split of their own take no shares


def test_a_part_of_other_data_is_refused_and_all_of_it_is_the_default(run, science, tmp_path):
    assert run("train", tmp_path / "data.h5", "--out", tmp_path / "run", "-q")[0] == 0
    other = tmp_path / "other.h5"
    other.write_bytes(b"different")
    words = ["rollout", tmp_path / "run", "--start", other, "--out"]
    code, _, err = run(*words, tmp_path / "a.h5", "--split", "test")
    assert code == 2
    assert "is not the data of this run" in err
    code, _, err = run(*words, tmp_path / "b.h5", "--steps", "5")
    assert code == 0, err
    assert science["written"].sizes == {"trajectory": 8, "time": 6, "x": 4}


def test_a_failed_training_can_be_continued_and_is_not_overwritten_by_accident(run, science, fake, tmp_path):
    def failing(*args, **kwargs):
        raise errors.NumericsError("loss is nan at step 3.")

    store, folder = tmp_path / "data.h5", tmp_path / "run"
    whole = sys.modules["romvae.training"].fit
    fake("romvae.training", fit=failing)
    assert run("train", store, "--out", folder, "--model.latent", "5", "--seed", "3")[0] == 4
    assert sorted(entry.name for entry in folder.iterdir()) == ["command.txt", "config.yaml", "data.json", "env.json"]
    code, _, err = run("compare", folder, "--out", tmp_path / "c")
    assert code == 3
    assert f"romvae train --resume {folder}" in err
    code, _, err = run("train", store, "--out", folder)
    assert code == 5
    assert "--resume" in err
    fake("romvae.training", fit=whole)
    code, _, err = run("train", "--resume", folder)
    assert code == 0, err
    assert FakeRom.made["latent"] == 5
    assert science["fit"]["seed"] == 3
    assert (folder / "model").is_dir()
    (folder / "training.state").write_bytes(b"left by a process that was killed after the model was in place")
    code, out, _ = run("train", "--resume", folder)
    assert code == 0
    assert "has finished, there is nothing to continue" in out
    assert not (folder / "training.state").exists()


def test_other_data_and_other_settings_are_refused_when_a_run_is_continued(run, science, fake, tmp_path):
    def failing(*args, **kwargs):
        raise errors.NumericsError("loss is nan at step 3.")

    store, folder = tmp_path / "data.h5", tmp_path / "run"
    fake("romvae.training", fit=failing)
    run("train", store, "--out", folder)
    for words in (["--model.latent", "3"], ["--seed", "1"], ["--out", tmp_path / "x"]):
        code, _, err = run("train", "--resume", folder, *words)
        assert code == 2, words
        assert "takes its settings from the run" in err
    store.write_bytes(b"other")
    code, _, err = run("train", "--resume", folder)
    assert code == 3
    assert "differs from the data that the run was begun with" in err
    store.unlink()
    code, _, err = run("train", "--resume", folder)
    assert code == 3
    assert "data are gone" in err


def test_a_run_that_is_replaced_is_kept_until_the_new_one_is_complete(run, science, fake, tmp_path):
    def failing(*args, **kwargs):
        raise errors.NumericsError("loss is nan at step 3.")

    store, folder = tmp_path / "data.h5", tmp_path / "run"
    whole = sys.modules["romvae.training"].fit
    run("train", store, "--out", folder)
    (folder / "mark").write_text("old")
    fake("romvae.training", fit=failing)
    assert run("train", store, "--out", folder, "--overwrite")[0] == 4
    kept = [entry for entry in tmp_path.iterdir() if entry.name.startswith("run.replaced-")]
    assert (kept[0] / "mark").read_text() == "old"
    fake("romvae.training", fit=whole)
    assert run("train", store, "--out", folder, "--overwrite")[0] == 0
    assert not (folder / "mark").exists()


def test_a_second_process_in_the_same_folder_is_refused(run, science, fake, tmp_path):
    folder = tmp_path / "run"
    seen = []

    def second(*args, **kwargs):
        (folder / "running.json").write_text(json.dumps({"host": socket.gethostname(), "pid": os.getppid()}))
        seen.append(run("train", "--resume", folder))
        return FakeHistory({}, {})

    fake("romvae.training", fit=second)
    run("train", tmp_path / "data.h5", "--out", folder)
    code, _, err = seen[0]
    assert code == 5
    assert f"process {os.getppid()} trains here already" in err


@pytest.mark.parametrize("command", ["rollout", "compare", "info"])
def test_a_run_that_is_none_is_exit_code_3(command, run, science, tmp_path):
    words = {
        "rollout": ["--start", tmp_path / "data.h5", "--out", tmp_path / "x.h5"],
        "compare": ["--out", tmp_path / "x"],
        "info": [],
    }[command]
    code, _, err = run(command, tmp_path / "nothing", *words)
    assert code == 3
    assert "nothing: no such" in err
    broken = tmp_path / "broken"
    (broken / "model").mkdir(parents=True)
    (broken / "data.json").write_text('{"path": ')
    code, _, err = run(command, broken, *words)
    assert code == 3
    assert "data.json" in err


VERDICT = "The forecast is 12 % off."


def test_a_missing_trajectory_is_named(snapshots):
    record = DataRecord("x.h5", "", 0, {"test": [10, 99]})
    with pytest.raises(errors.DataError, match=r"x\.h5: trajectory 99 is missing"):
        record.select(snapshots, "test")


def test_texts_of_results():
    assert outline({"a": 1, "b": {"c": [1.0, 2.0]}, "d": [], "e": [{"f": 1}]}) == (
        "a: 1\nb:\n  c: 1, 2\nd: none\ne:\n  - f 1"
    )
    assert "persistence" in skill(METRICS)
    assert "standard error over trajectories 2.00 %" in skill(METRICS)


def test_several_runs_are_ranked_and_each_gets_a_report_of_its_own(run, science, tmp_path):
    for name in ("one", "other"):
        assert run("train", tmp_path / "data.h5", "--out", tmp_path / name, "-q")[0] == 0
    places = [{"name": "other", "relative_l2": 0.02, "interval": [0.01, 0.03]}]
    places.append({**places[0], "name": "one", "relative_l2": 0.04, "against_best": {"words": "p = 0.3"}})

    def rank(found, seed):
        science["ranked"] = list(found)
        return FakeComparison({"runs": places, "trajectories": 2})

    def write_ranking(ranking, path, overwrite=False):
        path.write_text("page")

    sys.modules["romvae.comparison"].rank = rank
    sys.modules["romvae.report"].write_ranking = write_ranking
    words = ["compare", tmp_path / "one", tmp_path / "other", "-q", "--seed", "3", "--cost-seconds", "0"]
    words += ["--baselines", "pod_network", "persistence"]
    code, out, err = run(*words, "--out", tmp_path / "c", "--max-relative-l2", "0.01")
    assert code == 6, err
    assert "the best run: relative L2 error is 0.02, expected at most 0.01" in err
    assert science["ranked"] == ["one", "other"]
    assert science["compare"]["cost_cap"] == 0
    assert science["compare"]["baselines"] == ["pod_network", "persistence"]
    assert "1. other" in out
    assert "p = 0.3" in out
    found = {str(path.relative_to(tmp_path / "c")) for path in (tmp_path / "c").rglob("*.html")}
    assert found == {"report.html", "one/report.html", "other/report.html"}


def test_a_comparison_of_nothing_is_refused(run, tmp_path):
    code, _, err = run("compare", "--out", tmp_path / "c")
    assert code == 2
    assert "no run was given, expected one or more folders" in err
    code, _, err = run("compare", tmp_path / "run", "--out", tmp_path / "c", "--cost-seconds", "-1")
    assert code == 2
    assert "--cost-seconds = -1.0: should be 0 or more" in err
    code, _, err = run("compare", tmp_path / "run", "--out", tmp_path / "c", "--long-run", "9")
    assert code == 2
    assert "--long-run = 9: should be 10 or more" in err
    code, _, err = run("compare", tmp_path / "run", "--out", tmp_path / "c", "--baselines", "cheap", "fmo")
    assert code == 2
    assert "--baselines: baseline 'fmo' is unknown. Did you mean 'fno'? Expected cheap, all, or some of" in err


def test_a_baseline_of_a_comparison_gets_what_the_run_was_told():
    settings = {
        "seed": 3,
        "model": {"kind": "vae", "latent": "auto", "dynamics": "auto", "hidden": 64, "stride": None},
        "training": {"threads": 4, "budget": 5.0, "horizon": 20, "no_longer_known": 1, "dynamics_steps": None},
    }
    model, training = _as_trained(settings, {"dynamics": {"kind": "gru"}})
    assert model == {"latent": "auto", "dynamics": "gru", "hidden": 64}
    assert training == {"horizon": 20}
    assert _as_trained(settings, {})[0]["dynamics"] == "auto"
    assert _as_trained({}, {}) == ({}, {})
