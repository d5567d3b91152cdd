"""Process time: what all threads of this process took, without what other programs did meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["process_seconds"]

Result = TypeVar("Result")

_LONG = 0.3  # seconds: what takes longer is measured once
_MOST = 5


def process_seconds(work: Callable[[], Result]) -> tuple[float, Result]:
    """Least process time of a few repetitions, and what the work returned; long work is done once.

    The least, because a computation is never faster than itself, while caches, page faults and clocks delay it.
    """
    begin = time.process_time()
    result = work()
    least = total = time.process_time() - begin
    for _ in range(_MOST - 1):
        if total > _LONG:
            break
        begin = time.process_time()
        result = work()
        taken = time.process_time() - begin
        least, total = min(least, taken), total + taken
    return least, result
