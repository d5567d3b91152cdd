"""The command line: a table of functions, and every way to end turned into one line and an exit code.

Nothing heavy is imported here: a command imports what it needs when it runs, so `romvae --help` is quick.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from difflib import get_close_matches
from types import FrameType
from typing import Any, NoReturn, TextIO

from cyclopts import App, CycloptsError, Parameter
from cyclopts import ValidationError as FlagError
from cyclopts.exceptions import UnknownOptionError
from pydantic import ValidationError

from romvae.errors import RankLostError, RomvaeError
from romvae.supervision import supervised, this_command
from romvae.version import __version__

__all__ = ["COMMANDS", "main", "run"]

COMMANDS = {
    "demo": "Simulate, train, roll out, compare and report, on a built-in case.",
    "simulate": "Run a reference solver over random initial fields and parameters.",
    "info": "Show what is in a store or a run, whether it is usable and what is missing.",
    "check": "Read stores to their end and list everything that is wrong with them.",
    "pack": "Convert, cut or interpolate snapshots into one verified store.",
    "train": "Train a reduced-order model on a store of snapshots.",
    "rollout": "Forecast from initial fields, with mean, spread and interval per grid point.",
    "hybrid": "Forecast by ROM and solver in turns, within a tolerance that is kept.",
    "assimilate": "Follow sensor readings: analysed fields with their uncertainty.",
    "study": "Roll out a design of parameters and tabulate quantities of interest with intervals.",
    "compare": "Measure errors, calibration and cost on held-out trajectories.",
    "export": "Write a ROM as programs that run without romvae, with a model card.",
    "report": "Write one self-contained HTML page.",
    "acquire": "Choose which simulations to run next, run them and train again.",
    "benchmark": "Run every case by its recipe and write one page of all results.",
    "config": "Show, check or complete a settings file.",
    "bench-io": "Measure how fast snapshots are read, beside a plain copy of memory.",
    "bench-train": "Measure a training step, beside a bare loop and in several processes.",
    "selfcheck": "Try what is promised about faults, bad input and exact continuation, here.",
}

_HELP = "Reduced-order models of PDE simulations with calibrated uncertainty."
_EPILOGUE = """\
Every command takes `--debug`, which shows the traceback of an error.

Exit codes: 0 done; 1 internal error; 2 command line or settings; 3 bad data or model; 4 numerical failure;
5 output, disk or memory; 6 a quality bound was missed; 7 another process of a training was lost;
130 interrupted; 143 terminated.
"""


class _Terminated(BaseException):
    """SIGTERM: the batch system or the user wants the process to end."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Arguments:
        argv: words after `romvae`; by default those of this process.

    Returns:
        The exit code, as listed in README.md.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    options = words[: words.index("--")] if "--" in words else words
    debug = "--debug" in options
    if debug:
        words.remove("--debug")
    called = this_command.set((*words, "--debug") if debug else tuple(words))
    before = _set_up(debug)
    try:
        _app()(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except BaseException as error:  # the one place where every error ends
        if isinstance(error, BrokenPipeError):
            _forget_stdout()
            return 0
        code, message = _outcome(error)
        if code == 5:
            _kept.append(error)
        if message and debug:
            traceback.print_exc()
        if message:
            _say(f"error: {' '.join(message.split())}")
        return code
    finally:
        before.close()
        this_command.reset(called)
    return 0


_kept: list[BaseException] = []
"""Errors of a full disk with the files they hold: closing such a file crashes the HDF5 library, even at exit."""


def run() -> NoReturn:
    """`main` as a whole process; after a full disk it ends without closing what could not be written."""
    code = main()
    if code == 5 and "h5py" in sys.modules:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _app() -> App:
    app = App(
        name="romvae",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        help_formatter="default" if sys.stdout.isatty() else "plain",
        version=__version__,
        default_parameter=Parameter(negative=()),
    )
    for position, (name, summary) in enumerate(COMMANDS.items()):
        app.command(
            "romvae.commands.{0}:{0}".format(name.replace("-", "_")), name=name, help=summary, sort_key=position
        )
    return app


def _outcome(error: BaseException) -> tuple[int, str]:
    """Exit code and message of what ended a command."""
    match error:
        case RankLostError() if supervised():  # the supervisor knows what became of the other
            return error.exit_code, ""
        case RomvaeError():
            return error.exit_code, str(error)
        case FlagError() if isinstance(error.__cause__, ValidationError):
            return 2, _flag_message(error.__cause__)
        case UnknownOptionError() if (error.token.keyword or error.token.value or "").startswith("--"):
            return 2, f"{_unknown(error)} ({_help(error)} lists the options)"
        case CycloptsError():
            return 2, f"{error} ({_help(error)} lists {'options' if error.command_chain else 'commands'})"
        case _Terminated():
            return 143, "terminated before the end; nothing was left half-written."
        case KeyboardInterrupt():
            return 130, "interrupted before the end; nothing was left half-written."
        case SystemExit() if isinstance(error.__context__, KeyboardInterrupt):  # Lightning's answer to Ctrl-C
            return 130, "interrupted before the end; nothing was left half-written."
        case SystemExit():
            return (error.code if isinstance(error.code, int) else int(error.code is not None)), ""
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return 5, f"{where}{error.strerror or error}."
        case MemoryError():
            return 5, "not enough memory. Use fewer members, smaller batches or less data at once."
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):  # torch's, on the CPU
        return 5, "not enough memory. Use fewer members, smaller batches or less data at once."
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which must not be imported for this
        return 5, "not enough GPU memory. Use a smaller --training.batch-size, or --training.device cpu."
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return 1, f"internal error: {what}. Run the same command with --debug for the traceback."


def _help(error: CycloptsError) -> str:
    return " ".join(["romvae", *(error.command_chain or ()), "--help"])


_DURATIONS = ("epochs", "epoch", "n-epochs", "num-epochs", "steps", "n-steps", "iterations", "max-steps", "max-epochs")
_STEPS = ("--training.vae-steps", "--training.dynamics-steps")


def _unknown(error: UnknownOptionError) -> str:
    """An option that there is not, and the one that is near: the last word counts, not the section before it."""
    given = (error.token.keyword or error.token.value or "").partition("=")[0]
    known = [name for each in error.argument_collection if each.parse for name in each.names if name.startswith("--")]
    word = _last(given)
    if word in _DURATIONS and set(_STEPS) <= set(known):
        return f"Unknown option: {given}. How long the stages train is said by {', '.join(_STEPS)}."
    same = [name for name in known if _last(name) == word]
    near = same or [n for n in known if _last(n) in get_close_matches(word, map(_last, known), n=1, cutoff=0.6)]
    return f"Unknown option: {given}." + (f" Did you mean {near[0]}?" if near else "")


def _last(name: str) -> str:
    return name.lstrip("-").rpartition(".")[2].replace("_", "-")


def _flag_message(error: ValidationError) -> str:
    from romvae.settings import TrainSettings, describe_errors

    return describe_errors(error, TrainSettings, flags=True)


def _set_up(debug: bool) -> ExitStack:
    """Messages and signals as a command needs them; closing what it returns gives a caller their own back."""
    before = ExitStack()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller (`romvae info x >&-`)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    logger = logging.getLogger("romvae")
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    if not logger.handlers:
        logger.addHandler(_StderrHandler())
    if not debug:
        before.callback(setattr, warnings, "showwarning", warnings.showwarning)
        warnings.showwarning = _show_warning
    if threading.current_thread() is threading.main_thread():  # no other may set a handler
        handler = signal.signal(signal.SIGTERM, _terminate)
        before.callback(signal.signal, signal.SIGTERM, signal.SIG_DFL if handler is None else handler)
    return before


def _say(line: str) -> None:
    """A line on standard error; where its reader has gone, nobody misses it."""
    with suppress(BrokenPipeError):
        print(line, file=sys.stderr)


class _StderrHandler(logging.Handler):
    """`warning: text` on whatever standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(f"{record.levelname.lower()}: {record.getMessage()}")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line for a warning that romvae raises; those of other packages are shown with --debug."""
    if category.__module__.partition(".")[0] == "romvae":
        _say(f"warning: {' '.join(str(message).split())}")


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _forget_stdout(stream: Any = None) -> None:
    """Let the interpreter close a standard output whose reader has gone (`romvae info x | head -1`)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), (stream or sys.stdout).fileno())
