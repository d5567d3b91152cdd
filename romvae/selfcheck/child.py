"""Work in child processes that may be killed: forked from a warm process, so that start-up is not paid each time."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

__all__ = ["BROKEN", "Ended", "Hook", "command", "finished", "forked", "interpreter", "mapped_bytes", "romvae", "start"]

BROKEN = 70
"""Exit status of a child whose function raised."""

Hook = Callable[[], None]


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Arguments:
        code: Exit status; minus the signal's number where a signal ended it; None where it ran out of time.
        out: Standard output.
        err: Standard error.
    """

    code: int | None
    out: str
    err: str

    @property
    def brief(self) -> str:
        """For a message: exit status and the end of standard error."""
        return f"exit status {self.code}, standard error {self.err[-400:]!r}"


@dataclass(frozen=True)
class Running:
    """A child under way."""

    pid: int
    out: BinaryIO
    err: BinaryIO
    deadline: float


def start(function: Callable[[], int | None], *, timeout: float = 120.0, memory: int | None = None) -> Running:
    """Forks a child that calls `function`; its result is the exit status.

    Arguments:
        function: What the child does.
        timeout: Seconds until it is killed.
        memory: Bytes of address space that it may map beyond what this process has mapped.
    """
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 (closed in finished)
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a process with threads
        pid = os.fork()
    if pid == 0:
        _child(function, out, err, memory)
    return Running(pid, out, err, time.monotonic() + timeout)


def _child(function: Callable[[], int | None], out: BinaryIO, err: BinaryIO, memory: int | None) -> NoReturn:
    code = BROKEN
    try:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if memory is not None:
            limit = mapped_bytes() + memory
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        code = function() or 0
    except BaseException:  # must not unwind into the parent's stack
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finished(child: Running) -> Ended:
    """Waits for a child; it does not outlive the wait."""
    status: int | None = None
    pause = 0.001
    try:
        while status is None and time.monotonic() < child.deadline:
            pid, found = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                status = found
                break
            time.sleep(pause)
            pause = min(0.02, 1.5 * pause)
    finally:
        if status is None:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
    return Ended(None if status is None else os.waitstatus_to_exitcode(status), _text(child.out), _text(child.err))


def _text(file: BinaryIO) -> str:
    file.seek(0)
    with file:
        return file.read().decode("utf-8", "replace")


def forked(function: Callable[[], int | None], *, timeout: float = 120.0, memory: int | None = None) -> Ended:
    """`start` and `finished` in one."""
    return finished(start(function, timeout=timeout, memory=memory))


def romvae(
    *words: object,
    hook: Hook | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120.0,
    memory: int | None = None,
) -> Ended:
    """Runs a command line of romvae in a forked child.

    Arguments:
        words: What follows `romvae`.
        hook: Called first in the child; what it changes stays there.
        env: Environment variables on top of those there are.
        timeout: Seconds until the child is killed.
        memory: As in `start`.
    """
    return forked(command(words, hook, env), timeout=timeout, memory=memory)


def command(words: Sequence[object], hook: Hook | None, env: Mapping[str, str] | None = None) -> Callable[[], int]:
    """A function for `start` that runs a command line."""

    def run() -> int:
        from romvae import cli

        os.environ.update(env or {})
        if hook is not None:
            hook()
        return cli.main([str(word) for word in words])

    return run


def mapped_bytes() -> int:
    """Address space of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def interpreter(*words: object, prefix: Sequence[str] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python anew, where start or end of the interpreter matters.

    Arguments:
        words: Arguments of Python.
        prefix: A command that runs Python, such as `unshare -n`.
        environment: Variables on top of those there are.
    """
    command = [*prefix, sys.executable, *map(str, words)]
    top = str(Path(__file__).parents[2])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": top, **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)  # noqa: S603
