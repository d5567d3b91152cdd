"""One run per folder: a lock file that names who holds it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from romvae.errors import OutputError

__all__ = ["LOCK", "locked"]

LOCK = "running.json"


@contextmanager
def locked(folder: Path, doing: str = "trains") -> Iterator[None]:
    """Holds a folder for this process; a lock whose process has ended on this machine is taken over.

    Arguments:
        folder: Where the lock file goes.
        doing: What messages say that the other process does here.

    Raises:
        OutputError: Another process holds the folder, or may hold it on another machine.
    """
    path = folder / LOCK
    while not _taken(path):
        _refuse_if_held(path, doing)
        path.unlink(missing_ok=True)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _taken(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
    return True


def _refuse_if_held(path: Path, doing: str) -> None:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        host, pid = str(holder["host"]), int(holder["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # written by a process that was killed while it wrote
    if host != socket.gethostname():
        raise OutputError(
            f"{path.parent}: process {pid} on {host} {doing} here, by {path.name}. Wait for it; if it has ended, "
            f"remove {path.name}."
        )
    if pid != os.getpid() and _alive(pid):
        raise OutputError(f"{path.parent}: process {pid} {doing} here already. Wait for it, or choose another --out.")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
