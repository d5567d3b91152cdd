"""Faults inside a child: something happens at the n-th call of a function. Nothing is undone: children are forked."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["FAILPOINTS", "at_call", "at_step", "counting", "fill", "kill", "send"]


def _failpoints() -> dict[str, tuple[Any, str]]:
    from romvae.training.stages import Stage

    return {
        "step": (Stage, "training_step"),
        "write": (Path, "write_bytes"),
        "flush": (os, "fsync"),
        "rename": (os, "replace"),
    }


FAILPOINTS = ("step", "write", "flush", "rename")
"""Where a training can be hit: before a step, and before each operation of an atomic write."""


def at_call(owner: Any, name: str, nth: int, action: Callable[[], None]) -> None:
    """Before call number `nth` (from 0) of `owner.name`, `action` is called."""
    original = getattr(owner, name)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth + 1:
            action()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def at_step(nth: int, action: Callable[[], None], failpoint: str = "step") -> Callable[[], None]:
    """A hook that calls `action` before training step `nth` in all (from 0), or before another failpoint."""

    def hook() -> None:
        at_call(*_failpoints()[failpoint], nth, action)

    return hook


def counting(counts: dict[str, int]) -> Callable[[], None]:
    """A hook that counts how often each failpoint is passed."""

    def hook() -> None:
        for name, (owner, attribute) in _failpoints().items():
            counts[name] = 0
            original = getattr(owner, attribute)

            def wrapped(*args: Any, name: str = name, original: Any = original, **kwargs: Any) -> Any:
                counts[name] += 1
                return original(*args, **kwargs)

            setattr(owner, attribute, wrapped)

    return hook


def send(*signals: int) -> Callable[[], None]:
    """An action that sends signals to its own process."""

    def action() -> None:
        for number in signals:
            os.kill(os.getpid(), number)

    return action


kill = send(signal.SIGKILL)
"""The action of a power cut."""


def fill(folder: Path, leave: int = 0) -> None:
    """Fills the disk of a folder with a file, but for some bytes; on a small disk only."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free > 2**26:
        raise ValueError(f"{folder}: {free} bytes are free, that is no small disk.")
    with (folder / "filler").open("wb") as file:
        file.write(bytes(max(0, free - leave)))
