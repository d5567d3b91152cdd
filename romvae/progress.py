"""Progress of long computations: a bar on a terminal, plain lines in a log.

The library never prints: it reports through a callable `progress(stage, done, total, note)` that it is given.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["PlainProgress", "Progress", "duration", "silent", "stage", "terminal_progress"]


class Progress(Protocol):
    """What a long computation calls as it goes on."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Report that `done` of `total` units of `stage` are finished; `note` is shown beside it."""


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """A `Progress` that shows nothing."""


def stage(progress: Progress | None, name: str) -> Callable[[int, int], None]:
    """`progress` of one stage, for a computation that has no stages and calls `progress(done, total)`."""

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(name, done, total)

    return report


class PlainProgress:
    """One line at the end of each stage, and one per interval while it goes on: made for log files.

    Arguments:
        stream: where the lines go.
        interval: least time between two lines of one stage, in seconds.
        clock: monotonic time in seconds.
    """

    def __init__(self, stream: TextIO, interval: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream
        self.interval = interval
        self.clock = clock
        self._started: dict[str, float] = {}
        self._written: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Write a line if the stage is finished or the interval is over."""
        now = self.clock()
        started = self._started.setdefault(stage, now)
        finished = done >= total
        if not finished and now - self._written.setdefault(stage, now) < self.interval:
            return
        self._written[stage] = now
        elapsed = now - started
        if finished:
            del self._started[stage], self._written[stage]
        left = f", about {duration(elapsed * (total - done) / done)} left" if 0 < done < total else ""
        share = f" ({100 * done // total} %)" if total > 0 else ""
        tail = f", {note}" if note else ""
        print(f"{stage}: {done}/{total}{share}, {duration(elapsed)}{left}{tail}", file=self.stream, flush=True)


@contextmanager
def terminal_progress(quiet: bool = False, stream: TextIO | None = None) -> Iterator[Progress]:
    """The right `Progress` for where the text goes: a bar on a terminal, else plain lines; silent if `quiet`.

    Arguments:
        quiet: show nothing.
        stream: where it goes; by default standard error, so that standard output holds results only.
    """
    stream = stream or sys.stderr
    if quiet:
        yield silent
    elif stream.isatty():
        with _bar(stream) as progress:
            yield progress
    else:
        yield PlainProgress(stream)


@contextmanager
def _bar(stream: TextIO) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description:<12}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    tasks: dict[str, TaskID] = {}
    with RichProgress(*columns, console=Console(file=stream)) as bar:

        def progress(stage: str, done: int, total: int, note: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, note=note)
            bar.update(tasks[stage], completed=done, total=total, note=note)

        yield progress


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 12 s` or `2 h 5 min`.

    >>> duration(192)
    '3 min 12 s'
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
