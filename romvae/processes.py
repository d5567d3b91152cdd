"""What every worker process owes to the one that started it: to end with it, and to leave Ctrl-C to it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

__all__ = ["end_with_parent", "interrupts_held"]


def end_with_parent() -> None:
    """In a worker: ends this process as soon as its parent has ended, killed for instance.

    Nobody needs what it still computes then, and its output would get in the way of whoever continues the work.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Holds Ctrl-C back for a moment; processes started meanwhile leave it to this one for good.

    Otherwise every worker answers it with a traceback of its own. Windows has no such mask.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
