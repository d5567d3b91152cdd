"""Process time of works that take turns: other programs on the machine delay all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["in_turns", "median_seconds"]


def in_turns(works: Mapping[str, Callable[[], Any]], turns: int, warm: bool = True) -> dict[str, list[float]]:
    """Seconds of process time of each work in each turn; every other turn goes backwards."""
    if warm:
        for work in works.values():
            work()
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns):
        for name in works if turn % 2 == 0 else reversed(list(works)):
            begin = time.process_time()
            works[name]()
            found[name].append(time.process_time() - begin)
    return found


def median_seconds(works: Mapping[str, Callable[[], Any]], turns: int, warm: bool = True) -> dict[str, float]:
    """The median turn of each work."""
    return {name: statistics.median(each) for name, each in in_turns(works, turns, warm).items()}
