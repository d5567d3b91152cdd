"""Several processes of one command on this machine, which live and end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import IO, Any

from romvae.errors import RankLostError, RomvaeError

__all__ = ["Family", "end_with_supervisor", "supervised", "this_command", "this_program", "words"]

SUPERVISED = "ROMVAE_SUPERVISED"
"""Variable that says that standard input is a pipe which closes when the supervisor has gone."""
PATIENCE = 10.0
"""Seconds that the others get to end by themselves after one has failed."""
FAREWELL = 300.0
"""Seconds that they get after a signal: the first one writes its state."""
_POLL = 0.05
_STOPPED = {128 + number for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM))}


this_command: ContextVar[tuple[str, ...]] = ContextVar("this_command", default=())
"""Words after `romvae` of the command that runs."""


def words() -> tuple[str, ...]:
    """Words after `romvae` with which this command was called."""
    return this_command.get()


def supervised() -> bool:
    """Whether a supervisor started this process; it then says what became of the others."""
    return SUPERVISED in os.environ


def end_with_supervisor() -> None:
    """Lets this process end in good order, as by SIGTERM, when its supervisor is killed."""
    if not supervised():
        return

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 64):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


@dataclass
class _Member:
    process: subprocess.Popen[bytes]
    errors: IO[bytes] | None

    @property
    def code(self) -> int | None:
        return self.process.poll()

    def last_words(self) -> str:
        """What it wrote on standard error last."""
        if self.errors is None:
            return ""
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""


class Family:
    """Runs a command in several processes, with the variables that torchrun would set.

    The first process has the terminal; what the others say is kept, and shown where they fail first. Signals to the
    supervisor go on to all of them, once each, since they have process groups of their own. Where one fails the
    others end too.

    Arguments:
        command: Program and arguments.
        size: Number of processes.
        advice: What to do where a process was lost, for the message.
    """

    def __init__(self, command: Sequence[str], size: int, advice: Callable[[], str]) -> None:
        self.command, self.size, self.advice = list(command), size, advice
        self.members: list[_Member] = []
        self._sent: set[int] = set()

    def run(self) -> int:
        """Waits for the end of all.

        Returns:
            The exit code of the first process, 0 or what it ended with on its own account.

        Raises:
            RankLostError: A process was killed; the others have ended.
            RomvaeError: Another process than the first one failed, with its message and exit code.
        """
        lifeline, held = os.pipe()
        try:
            with self._forwarding():
                self._start(lifeline)
                first = self._wait()
        finally:
            for member in self.members:
                if member.code is None:
                    member.process.kill()
                    member.process.wait()
            os.close(lifeline)
            os.close(held)
        return self._outcome(first)

    def _start(self, lifeline: int) -> None:
        port = _free_port()
        for rank in range(self.size):
            errors = None if rank == 0 else tempfile.TemporaryFile()  # noqa: SIM115
            process = subprocess.Popen(  # noqa: S603
                self.command,
                env=_variables(rank, self.size, port),
                stdin=lifeline,
                stdout=None if rank == 0 else subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
            self.members.append(_Member(process, errors))

    def _wait(self) -> int | None:
        """Waits for the end of all, and returns the number of the one that failed first, if one did."""
        ended: list[int] = []  # badly, in their order
        deadline = float("inf")
        while True:
            running = any(member.code is None for member in self.members)
            ended += [rank for rank, member in enumerate(self.members) if member.code and rank not in ended]
            if not running:
                break
            if ended and deadline == float("inf"):
                orderly = self._sent or self.members[ended[0]].code in _STOPPED
                deadline = time.monotonic() + (FAREWELL if orderly else PATIENCE)
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL)
        # Those that only found the others gone are not to blame; the first process has said itself what it met with.
        own = self.members[0].code or 0
        if own > 0 and own != RankLostError.exit_code:
            return 0
        return next((rank for rank in ended if self.members[rank].code != RankLostError.exit_code), None)

    def _outcome(self, first: int | None) -> int:
        codes = [member.code or 0 for member in self.members]
        if first is None:
            if any(codes):
                raise RankLostError(f"the processes of this training lost each other. {self.advice()}")
            return 0
        code = codes[first]
        if code < 0 and -code in self._sent:  # it had not come far enough to end in good order
            return 128 - code
        if code < 0:
            why = " (the memory may have been used up)" if -code == signal.SIGKILL else ""
            raise RankLostError(
                f"process {first} of {self.size} was ended by {signal.Signals(-code).name}{why}, and the others "
                f"with it. {self.advice()}"
            )
        if first:
            raise _FailedError(f"process {first} of {self.size}: {self.members[first].last_words()}", code)
        return code

    @contextmanager
    def _forwarding(self) -> Iterator[None]:
        def forward(signum: int, frame: FrameType | None) -> None:
            self._sent.add(signum)
            for member in self.members:
                if member.code is None:
                    member.process.send_signal(signum)

        numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
        before: dict[int, Any] = {number: signal.signal(number, forward) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _FailedError(RomvaeError):
    """A process failed on its own account."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message.replace("error: ", "", 1))
        self.exit_code = code


def _variables(rank: int, size: int, port: int) -> Mapping[str, str]:
    """Environment of a process: its place, and its share of the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "OMP_NUM_THREADS": str(max(1, cores // size)),
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        SUPERVISED: "1",
    }


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def this_program(words: Sequence[str]) -> list[str]:
    """How to run `romvae` with these words in another process."""
    return [sys.executable, "-m", "romvae", *words]
