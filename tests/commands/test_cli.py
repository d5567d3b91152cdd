"""The command line: help, messages, exit codes, and that nothing is overwritten."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from romvae import cli, errors
from romvae.cli import main
from romvae.commands.outputs import check_output

TOP = Path(__file__).parents[2]


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
    assert re.findall(r"^  ([a-z][a-z-]*): ", out, re.MULTILINE) == list(cli.COMMANDS)
    assert all(f"{number} " in out for number in (0, 1, 2, 3, 4, 5, 6, 7, 130, 143))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "x"], 'Did you mean "train"'),
        (["train", "x", "--otu", "y"], "Did you mean --out"),
        (["train", "x", "--out", "y", "--model.latnt", "3"], "Did you mean --model.latent"),
        (["train"], "DATA is missing. Give DATA and --out, or --resume"),
        (["train", "x"], "--out is missing. Give DATA and --out, or --resume"),
        (["rollout", "x", "y", "--start", "s", "--out", "z"], "Unused Tokens"),
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
        (
            ["train", "x", "--out", "y", "--training.epochs", "4"],
            "--training.epochs. How long the stages train is said by --training.vae-steps, --training.dynamics-steps. "
            "(romvae train --help lists the options)",
        ),
        (["train", "x", "--out", "y", "--steps", "4"], "--steps. How long the stages train is said by --training.vae-"),
        (["train", "x", "--out", "y", "--training.latent", "4"], "Did you mean --model.latent? (romvae train --help"),
        (["train", "x", "--out", "y", "--sead", "4"], "Unknown option: --sead. Did you mean --seed?"),
        (["train", "x", "--out", "y", "--xyz=4"], "Unknown option: --xyz. (romvae train --help lists the options)"),
        (
            ["train", "x", "--out", "y", "--model.latent", "four"],
            "--model.latent = four: should be a whole number, or 'a",
        ),
        (["compare", "x", "--steps", "4"], "Unknown option: --steps. (romvae compare --help lists the options)"),
        (["pack", "x.h5"], "pack: give one store to read or several, and last, or with --out, the store to write"),
        (["pack", "--out", "x.h5"], "pack: give one store to read or several"),
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
    def run_demo(*args, **kwargs):
        warnings.warn("viscosity\nis 9", errors.OutOfRangeWarning, stacklevel=2)
        warnings.warn("noise", DeprecationWarning, stacklevel=2)
        return {"rom": {"relative_l2": 0.1}}

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
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` has it ignored
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_caller_gets_handler_and_warnings_back():
    """Also where the command ends in an error, and from a thread, which may not set a handler at all."""

    def mine(number, frame):
        raise AssertionError

    shown, before = warnings.showwarning, signal.signal(signal.SIGTERM, mine)
    try:
        for words in (["config", "--example"], ["info"]):
            main(words)
            assert signal.getsignal(signal.SIGTERM) is mine
            assert warnings.showwarning is shown
        codes = []
        thread = threading.Thread(target=lambda: codes.append(main(["info"])))
        thread.start()
        thread.join()
        assert codes == [2]
    finally:
        signal.signal(signal.SIGTERM, before)


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
