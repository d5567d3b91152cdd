"""The command line: help, messages, exit codes, and that nothing is overwritten. Science is faked here."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from romvae import cli, errors
from romvae.commands.outputs import check_output
from romvae.commands.run_folder import DataRecord, RunFolder, fingerprint
from romvae.commands.text import outline, skill
from romvae.data.split import PARTS
from romvae.environment import show_versions
from romvae.progress import PlainProgress, duration, silent, stage, terminal_progress

TOP = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _unchanged_process():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def run(capsys):
    """Run a command line; gives exit code, standard output and standard error."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def fake(monkeypatch):
    """Put a module made of the given names in place of a module of romvae."""

    def fake(name: str, **content: object) -> None:
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, last = name.rpartition(".")
        monkeypatch.setattr(sys.modules[parent], last, module, raising=False)

    return fake


METRICS = {
    "rom": {"relative_l2": 0.04, "coverage_90": 0.91, "coverage_90_se": 0.02},
    "baselines": {"persistence": {"relative_l2": 0.8}},
    "seconds": {"vae": 60.0},
}


# help and misuse


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_each_command_describes_every_parameter(command, run):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    entries = re.findall(r"^  (--[a-z].*|[A-Z_-]+: .*)$", out, re.MULTILINE)
    assert entries
    assert all(re.match(r".*?: \S", entry) for entry in entries)


def test_help_lists_all_commands_in_order_and_the_exit_codes(run):
    code, out, _ = run("--help")
    assert code == 0
    assert re.findall(r"^  ([a-z]+): ", out, re.MULTILINE) == list(cli.COMMANDS)
    assert all(f"{number} " in out for number in (0, 1, 2, 3, 4, 5, 6, 130, 143))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "x"], 'Did you mean "train"'),
        (["train", "x", "--otu", "y"], "Did you mean --out"),
        (["train", "x", "--out", "y", "--model.latnt", "3"], "Did you mean --model.latent"),
        (["train"], "DATA requires an argument"),
        (["train", "x"], "--out requires an argument"),
        (["train", "x", "y", "--out", "z"], "Unused Tokens"),
        (
            ["train", "x", "--out", "y", "--model.latent", "-2"],
            "--model.latent = -2: should be greater than or",
        ),
        (
            ["train", "x", "--out", "y", "--model.noise-floor", "0"],
            "--model.noise-floor = 0: should be greater",
        ),
        (["train", "x", "--out", "y", "--training.device", "gpu"], "should be 'auto', 'cpu' or 'cuda'"),
        (["train", "x", "--out", "y", "--config", "nothing.yaml"], "nothing.yaml: no such file"),
        (["rollout", "x", "--start", "y", "--out", "z", "--split", "tset"], 'Did you mean "test"'),
        (["rollout", "x", "--start", "y", "--out", "z", "--steps", "0"], "--steps = 0: should be at least 1"),
        (
            ["rollout", "x", "--start", "y", "--out", "z", "--members", "0"],
            "--members = 0: should be between",
        ),
        (["rollout", "x", "--start", "y", "--out", "z", "--level", "90"], "--level = 90"),
        (["simulate", "--out", "x.zarr"], "CASE is missing"),
        (["simulate", "burgers_1d"], "--out is missing"),
        (["simulate", "burgers_1d", "--out", "x.zarr", "--n", "0"], "n = 0: should be greater"),
        (["simulate", "burgers_1d", "--out", "x.zarr", "--n", "many"], '"many"'),
        (["simulate", "burgers_1d", "--out", "x.npz"], "suffix is '.npz', expected one of .zarr"),
        (["info"], "either a PATH or --env"),
        (["config"], "expected one of --example"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(words, message, run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not list(tmp_path.iterdir())


# every way to end


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.ConfigError("c"), 2, "error: c"),
        (errors.SchemaError("d"), 3, "error: d"),
        (errors.CheckpointError("d"), 3, "error: d"),
        (errors.NumericsError("n"), 4, "error: n"),
        (errors.OutputError("o"), 5, "error: o"),
        (errors.QualityError("q"), 6, "error: q"),
        (OSError(28, "No space left on device", "x.zarr"), 5, "error: x.zarr: No space left on device."),
        (MemoryError(), 5, "error: not enough memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})(), 5, "error: not enough GPU memory"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (ZeroDivisionError("a\nb"), 1, "error: internal error: ZeroDivisionError: a b. Run the same"),
        (BrokenPipeError(), 0, ""),
        (SystemExit(3), 3, ""),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(error, code, message, run, fake, tmp_path, monkeypatch):
    def run_demo(*args, **kwargs):
        raise error

    fake("romvae.demo", run_demo=run_demo)
    monkeypatch.setattr(cli, "_forget_stdout", lambda: None)
    found, _, err = run("demo", "--out", tmp_path / "demo")
    assert found == code
    assert err.startswith(message)
    assert err.count("\n") == bool(message)
    assert "Traceback" not in err


def test_lightnings_answer_to_control_c_is_130(run, fake, tmp_path):
    def run_demo(*args, **kwargs):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemExit(1)  # noqa: B904

    fake("romvae.demo", run_demo=run_demo)
    assert run("demo", "--out", tmp_path / "demo")[0] == 130


def test_debug_shows_the_traceback(run, fake, tmp_path):
    fake("romvae.demo", run_demo=lambda *args, **kwargs: 1 / 0)
    code, _, err = run("demo", "--out", tmp_path / "demo", "--debug")
    assert code == 1
    assert "Traceback" in err
    assert "ZeroDivisionError" in err


def test_own_warnings_are_one_line_and_those_of_others_are_hidden(run, fake, tmp_path):
    import warnings

    def run_demo(*args, **kwargs):
        warnings.warn("viscosity\nis 9", errors.OutOfRangeWarning, stacklevel=2)
        warnings.warn("noise", DeprecationWarning, stacklevel=2)
        return METRICS

    fake("romvae.demo", run_demo=run_demo)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = run("demo", "--out", tmp_path / "demo")
    assert (code, err) == (0, "warning: viscosity is 9\n")


SLEEPER = """
import sys, time, types
module = types.ModuleType("romvae.demo")
def run_demo(*args, **kwargs):
    print("ready", flush=True)
    time.sleep(30)
module.run_demo = run_demo
sys.modules["romvae.demo"] = module
from romvae.cli import main
sys.exit(main(["demo", "--out", "demo"]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_with_their_code_and_no_traceback(number, code, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m romvae config --schema | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_module_and_command_are_the_same_program(run):
    done = subprocess.run(
        [sys.executable, "-m", "romvae", "config", "--example"],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, run("config", "--example")[1])


# outputs


def test_an_output_that_exists_is_kept(tmp_path):
    file = tmp_path / "report.html"
    file.write_text("mine")
    with pytest.raises(errors.OutputError, match=r"report\.html: exists already.*--overwrite"):
        check_output(file, overwrite=False)
    check_output(file, overwrite=True)


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(errors.OutputError, match="romvae did not write"):
        check_output(tmp_path, overwrite=True, expected=("data.json",))
    (tmp_path / "data.json").write_text("{}")
    check_output(tmp_path, overwrite=True, expected=("data.json",))
    with pytest.raises(errors.OutputError, match="exists already"):
        check_output(tmp_path, overwrite=False, expected=("data.json",))


def test_an_empty_folder_is_free_and_a_file_is_no_folder(tmp_path):
    check_output(tmp_path / "deep" / "new", overwrite=False)
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty", overwrite=False)
    (tmp_path / "file").touch()
    with pytest.raises(errors.OutputError, match="not a writable folder"):
        check_output(tmp_path / "file" / "run", overwrite=False)


def test_demo_refuses_an_existing_folder_before_any_work(run, fake, tmp_path):
    (tmp_path / "metrics.json").touch()
    fake("romvae.demo", run_demo=lambda *args, **kwargs: pytest.fail("must not run"))
    assert run("demo", "--out", tmp_path)[0] == 5


# commands, with fakes for the science


def test_demo_prints_the_headline_and_where_the_report_is(run, fake, tmp_path):
    calls = []
    fake("romvae.demo", run_demo=lambda *args, **kwargs: calls.append((args, kwargs)) or METRICS)
    code, out, _ = run("demo", "--out", tmp_path / "d", "--quick", "--seed", "3", "--quiet")
    assert code == 0
    assert "4.00 %" in out
    assert str(tmp_path / "d" / "report.html") in out
    expected = {"quick": True, "seed": 3, "case": "burgers_1d", "progress": silent, "overwrite": False}
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

    @classmethod
    def for_data(cls, train, **settings):
        cls.made = settings
        return cls()

    def save(self, path, overwrite=False):
        path.mkdir()

    @classmethod
    def load(cls, path):
        assert path.is_dir()
        return cls()

    def rollout(self, start, steps=None, members=32, seed=0, level=0.9):
        forecast = start.drop_vars("time").expand_dims(time=(steps or 2) + 1)
        return forecast.assign_attrs(members=members, seed=seed, level=level)


@dataclasses.dataclass
class FakeHistory:
    curves: dict[str, object]
    seconds: dict[str, float]


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
    calls: dict[str, object] = {}
    store = tmp_path / "data.h5"
    store.write_bytes(b"data")

    def split(dataset, seed=0):
        return Parts(*(dataset.isel(trajectory=[i, i + 4]) for i in range(4)))

    def write(dataset, path, overwrite=False):
        calls["written"] = dataset
        path.write_bytes(b"written")

    def fit(rom, parts, seed=0, progress=None, **settings):
        calls["fit"] = {"seed": seed, **settings}
        progress("vae", 1, 1)
        return FakeHistory({"vae": {"step": [1], "loss": [0.5]}}, {"vae": 1.0})

    def compare(rom, test, **kwargs):
        calls["compare"] = {"test": test, **kwargs}
        calls["comparison"] = FakeComparison(METRICS)
        return calls["comparison"]

    def write_text(comparison, path, overwrite=False):
        path.write_text(json.dumps(comparison.metrics))

    fake("romvae.data", open_snapshots=lambda path: snapshots, split=split, write_snapshots=write)
    fake("romvae.rom", ROM=FakeRom)
    fake("romvae.training", fit=fit)
    fake("romvae.solvers", CASES={})
    fake("romvae.compare", compare=compare, Comparison=FakeComparison)
    fake("romvae.report", write_report=write_text, write_metrics=write_text)
    return calls


def test_train_writes_a_whole_run_that_the_other_commands_read(run, science, snapshots, tmp_path):
    config = tmp_path / "rom.yaml"
    config.write_text("model: {latent: 3}\ntraining: {device: cpu, vae_steps: 5}\n")
    folder, store = tmp_path / "run", tmp_path / "data.h5"
    code, _, err = run(
        "train", store, "--out", folder, "--config", config, "--training.vae-steps", "7", "--seed", "2"
    )
    assert code == 0, err
    assert FakeRom.made == {"seed": 2, "latent": 3, "members": 4, "noise_floor": 1e-3}
    assert science["fit"] == {"seed": 2, "vae_steps": 7, "augment": "auto", "device": "cpu"}
    names = {"model", "config.yaml", "data.json", "history.json", "env.json", "command.txt"}
    assert {entry.name for entry in folder.iterdir()} == names
    assert RunFolder(folder).settings()["training"]["vae_steps"] == 7
    assert RunFolder(folder).environment()["packages"]["torch"] != "not installed"
    record = RunFolder.open(folder).data()
    assert record.trajectories == {name: [10 + i, 14 + i] for i, name in enumerate(PARTS)}
    assert "vae: 1/1" in err

    assert run("train", store, "--out", folder)[0] == 5

    assert run("rollout", folder, "--start", store, "--out", tmp_path / "f.h5", "--members", "5")[0] == 0
    forecast = science["written"]
    assert forecast["trajectory"].values.tolist() == record.trajectories["test"]
    assert forecast.sizes["time"] == snapshots.sizes["time"]
    assert forecast.attrs == {"members": 5, "seed": 0, "level": 0.9}

    code, _, err = run("compare", folder, "--out", tmp_path / "c", "--max-relative-l2", "0.01")
    assert code == 6, err
    assert "relative L2 error is 0.04, expected at most 0.01" in err
    assert science["compare"]["test"]["trajectory"].values.tolist() == record.trajectories["test"]
    assert science["compare"]["train"]["trajectory"].values.tolist() == record.trajectories["train"]
    assert science["compare"]["seconds"] == {"vae": 1.0}
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


def test_a_part_of_other_data_is_refused_and_all_of_it_is_the_default(run, science, tmp_path):
    assert run("train", tmp_path / "data.h5", "--out", tmp_path / "run", "-q")[0] == 0
    other = tmp_path / "other.h5"
    other.write_bytes(b"different")
    words = ["rollout", tmp_path / "run", "--start", other, "--out"]
    code, _, err = run(*words, tmp_path / "a.h5", "--split", "test")
    assert code == 2
    assert "is not the data of this run" in err
    assert run(*words, tmp_path / "b.h5", "--steps", "5")[0] == 0
    assert science["written"].sizes == {"trajectory": 8, "time": 6, "x": 4}


def test_a_failed_training_leaves_nothing_behind(run, science, fake, tmp_path):
    def fit(*args, **kwargs):
        raise errors.NumericsError("loss is nan at step 3.")

    fake("romvae.training", fit=fit)
    assert run("train", tmp_path / "data.h5", "--out", tmp_path / "run")[0] == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.h5"]


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


def test_simulate_passes_the_settings_on(run, fake, snapshots, tmp_path):
    calls = []

    def simulate(case, n, seed, workers, progress):
        calls.append((case, n, seed, workers))
        progress(1, 1)
        return snapshots

    written = []
    case = types.SimpleNamespace(description="viscous Burgers")
    fake("romvae.solvers", simulate=simulate, CASES={"burgers_1d": case}, get_case=lambda name: case)
    fake("romvae.data", write_snapshots=lambda ds, path, overwrite: written.append(path))
    config = tmp_path / "simulate.yaml"
    config.write_text("case: burgers_1d\nn: 5\nseed: 1\n")
    code, out, err = run("simulate", "-c", config, "--seed", "4", "--out", tmp_path / "b.zarr")
    assert code == 0, err
    assert calls == [("burgers_1d", 5, 4, None)]
    assert written == [tmp_path / "b.zarr"]
    assert "romvae train" in out
    assert run("simulate", "--list")[1] == "burgers_1d  viscous Burgers\n"


def test_info_shows_a_store_and_the_environment(run, fake, tmp_path):
    facts = {"fields": [{"name": "u"}], "usable": True, "problems": []}
    fake("romvae.data", describe=lambda path: facts, summary=lambda facts: "a summary")
    store = tmp_path / "a.h5"
    store.touch()
    assert run("info", store) == (0, "a summary\n", "")
    assert json.loads(run("info", store, "--json")[1]) == facts
    assert json.loads(run("info", "--env", "--json")[1]) == show_versions()
    assert run("info", "--env")[1] == f"{show_versions()}\n"


def test_info_on_unusable_data_says_why_and_is_exit_code_3(run, fake, tmp_path):
    facts = {"usable": False, "problems": ["u is nan at [3, 17]"]}
    fake("romvae.data", describe=lambda path: facts, summary=lambda facts: "a summary")
    code, out, err = run("info", tmp_path)
    assert (code, out) == (3, "a summary\n")
    assert err == f"error: {tmp_path}: not usable: u is nan at [3, 17]\n"


def test_config_prints_schema_and_resolved_settings(run, tmp_path):
    assert json.loads(run("config", "--schema")[1])["properties"]["model"]
    path = tmp_path / "rom.yaml"
    path.write_text("seed: 5")
    code, out, _ = run("config", "--print", path)
    assert code == 0
    assert "seed: 5" in out
    assert "noise_floor: 0.001" in out
    path.write_text("sed: 5")
    code, _, err = run("config", "--print", path)
    assert code == 2
    assert "did you mean seed?" in err


# parts


def test_progress_in_a_log_is_one_line_per_interval_and_one_at_the_end():
    stream, now = io.StringIO(), iter([0.0, 1.0, 11.0, 12.0, 20.0])
    progress = PlainProgress(stream, interval=10.0, clock=lambda: next(now))
    for done in (0, 10, 50, 60):
        progress("vae", done, 100, "loss 1.2")
    progress("vae", 100, 100)
    assert (
        stream.getvalue()
        == "vae: 50/100 (50 %), 11.0 s, about 11.0 s left, loss 1.2\nvae: 100/100 (100 %), 20.0 s\n"
    )


def test_progress_on_a_terminal_is_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with terminal_progress(stream=stream) as progress:
        progress("vae", 1, 2, "loss [1]")
        stage(progress, "simulate")(2, 2)
    assert "loss [1]" in stream.getvalue()
    assert "simulate" in stream.getvalue()


def test_no_progress_is_silent(capsys):
    with terminal_progress(quiet=True) as progress:
        progress("vae", 1, 1)
    stage(None, "vae")(1, 1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.25, "4.2 s"), (59.9, "59.9 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_fingerprint_follows_names_and_contents(tmp_path):
    store = tmp_path / "a.zarr"
    store.mkdir()
    (store / "c").write_bytes(b"1")
    first = fingerprint(store)
    assert fingerprint(store.rename(tmp_path / "b.zarr")) == first
    (tmp_path / "b.zarr" / "c").write_bytes(b"2")
    assert fingerprint(tmp_path / "b.zarr") != first


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
