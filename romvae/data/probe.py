"""HDF5 files of other programs opened in a process of their own first: a damaged one may crash or hang the C library.

HDF5 files without checksums of their structure, which is most of them, are taken by the library at their word: a
flipped byte may send it to an address that does not exist, or around a cycle. What would end this process, or never
end, then happens in a child, and becomes one line here. Romvae's own files are not probed.

One child serves all files of a process, until it is idle for some seconds or ended by a file. Its start and three
small files took 0.6 s of processor time together (2 cores of an Intel Xeon under load), most of it for importing h5py.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from romvae.data.layout import MARKER
from romvae.errors import DataError

__all__ = ["looks_like_ours", "probe"]

SECONDS = 300.0
"""Wall-clock after which a child is taken to hang; looking through a sound file takes less than one."""

_ENDS = 2**20
"""Bytes at both ends of a file among which romvae's marker is looked for."""

_WALK = """
import signal
import sys
import h5py

SMALL = 1 << 20

def look(item):
    dict(item.attrs)
    if not isinstance(item, h5py.Dataset):
        return
    item.id.get_create_plist().get_nfilters(), item.is_virtual, item.external
    for dim in item.dims:
        dim.label, [scale.shape for scale in dim.values()]
    if item.chunks is not None and item.size:
        item.id.get_num_chunks()
    if item.size and item.size * item.dtype.itemsize <= SMALL:
        item[()]
    elif item.size:
        item[tuple(0 for _ in item.shape)], item[tuple(n - 1 for n in item.shape)]

def guarded(work, *args):
    try:
        return work(*args)
    except Exception:
        return None

def walk(group, seen):
    for name in guarded(list, group) or ():
        link = guarded(group.get, name, None, False, True)
        if not isinstance(link, h5py.HardLink):
            continue
        item = guarded(group.__getitem__, name)
        place = None if item is None else guarded(lambda: h5py.h5o.get_info(item.id).addr)
        if place is None or place in seen or len(seen) > 200000:
            continue
        seen.add(place)
        if isinstance(item, h5py.Dataset) and (guarded(lambda: item.is_virtual) or guarded(lambda: item.external)):
            continue
        guarded(look, item)
        if isinstance(item, h5py.Group):
            walk(item, seen)

def opened(path):
    with h5py.File(path, "r") as file:
        guarded(look, file)
        walk(file, set())

idle = getattr(signal, "alarm", lambda seconds: None)
idle(10)
for line in sys.stdin:
    idle(0)
    guarded(opened, bytes.fromhex(line).decode("utf-8", "surrogateescape"))
    print(flush=True)
    idle(10)
"""
"""What the child does with every path that it is given: all that opening a file will do. Errors are passed over, since
they are told where the file is opened in earnest."""


def probe(path: Path, source: str) -> None:
    """Raises where looking through a file ends or hangs a process; files of romvae, and sound ones, pass.

    Arguments:
        path: An HDF5 file.
        source: What the message calls it.

    Raises:
        DataError: The C library crashed, or did not come to an end.
    """
    status = path.stat()
    if looks_like_ours(path):
        return
    found = _outcome(path.absolute(), status.st_mtime_ns, status.st_size)
    if found:
        raise DataError(
            f"{source}: cannot be read: HDF5's own library {found}, so its structure is damaged. Copy it again"
        )


def looks_like_ours(path: Path) -> bool:
    """Whether romvae's marker stands near one of the ends of a file; it is not opened as HDF5 for that."""
    with path.open("rb") as file:
        head = file.read(_ENDS)
        file.seek(max(len(head), path.stat().st_size - _ENDS))
        return MARKER.encode() in head or MARKER.encode() in file.read(_ENDS)


@lru_cache(maxsize=4096)
def _outcome(path: Path, changed: int, size: int) -> str:
    """What happened in the child, in words; empty where it came to its end. Unchanged files are tried once."""
    with _LOCK:
        found = _CHILD.look(path)
        return _CHILD.look(path) if found == _IDLE else found  # it had ended of itself just then


_IDLE = "idle"


class _Child:
    """The process that looks through files; it is started when it is needed, and again after a file has ended it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0

    def look(self, path: Path) -> str:
        """Has a file looked through: empty, `_IDLE`, or what happened to the process."""
        process = self._running()
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(SECONDS, give_up)
        timer.start()
        try:
            process.stdin.write(os.fsencode(path).hex().encode() + b"\n")
            process.stdin.flush()
            answered = bool(process.stdout.readline())
        except BrokenPipeError:
            answered = False
        finally:
            timer.cancel()
        if answered:
            return ""
        number = -process.wait()
        self.close()
        if late.is_set():
            return f"did not come to an end within {SECONDS:g} s"
        if number == getattr(signal, "SIGALRM", None):
            return _IDLE
        if number <= 0:  # it could not even start: whoever opens the file in earnest will say what is wrong
            return ""
        known = {int(each): each.name for each in signal.Signals}
        return f"crashed on it ({known.get(number, f'signal {number}')})"

    def _running(self) -> subprocess.Popen[bytes]:
        if self.owner != os.getpid():  # a fork shares its parent's pipes, and must not answer for it
            self.process = None
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.owner = os.getpid()
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-c", _WALK],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for this process, which then closes the pipe
            )
        return self.process

    def close(self) -> None:
        """Ends the process, if it is this one's."""
        if self.process is not None and self.owner == os.getpid():
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # what was still to be written: it has ended already
                        pipe.close()
            self.process.kill()
            self.process.wait()
        self.process = None


_CHILD, _LOCK = _Child(), threading.Lock()
atexit.register(_CHILD.close)
