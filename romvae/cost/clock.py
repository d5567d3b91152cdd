"""Process time: what all threads of this process took, without what other programs did meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Clock", "process_seconds"]

Result = TypeVar("Result")
Clock = Callable[[], float]
"""Seconds since some moment; `time.process_time` but in tests."""

_LONG = 0.3  # seconds: what takes longer is measured once
_MOST = 5


def process_seconds(
    work: Callable[[], Result],
    clock: Clock = time.process_time,
    worth_repeating: Callable[[Result], bool] | None = None,
) -> tuple[float, Result]:
    """Least process time of a few repetitions, and what the work returned; long work is done once.

    The least, because a computation is never faster than itself, while caches, page faults and clocks delay it.

    Arguments:
        work: What is timed.
        clock: What it is timed by.
        worth_repeating: Whether the time has to be known well, from what the work returned; None says always.
    """
    begin = clock()
    result = work()
    least = total = clock() - begin
    repetitions = _MOST - 1 if worth_repeating is None or worth_repeating(result) else 0
    for _ in range(repetitions):
        if total > _LONG:
            break
        begin = clock()
        result = work()
        taken = clock() - begin
        least, total = min(least, taken), total + taken
    return least, result
