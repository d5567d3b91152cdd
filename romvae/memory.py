"""How much memory this process may still take, asked before a large array is made.

Linux only: elsewhere nothing is known, and nothing is refused.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from romvae.errors import NotEnoughMemoryError

__all__ = ["available_bytes", "release_freed", "require_memory", "snapshots_at_once"]

_CGROUP = Path("/sys/fs/cgroup")
_SNAPSHOTS, _POINTS = 1024, 2**18


def available_bytes() -> int | None:
    """The least of what the machine has available, what the container allows and what the address space holds.

    None where none of them is known.
    """
    found = [value for value in (_machine(), _container(), _address_space()) if value is not None]
    return min(found) if found else None


def require_memory(what: str, nbytes: int, advice: str) -> None:
    """Raises unless `nbytes` bytes can be had.

    Arguments:
        what: What needs them.
        nbytes: An estimate.
        advice: What to do.

    Raises:
        NotEnoughMemoryError: The message names both sizes.
    """
    available = available_bytes()
    if available is not None and nbytes > available:
        raise NotEnoughMemoryError(
            f"{what}: needs about {nbytes / 1e6:,.0f} MB of memory, but {max(0, available) / 1e6:,.0f} MB are "
            f"available. {advice}"
        )


def snapshots_at_once(points: int) -> int:
    """How many snapshots to pass through a network at once: what it keeps meanwhile takes tens of maps for each.

    Arguments:
        points: Grid points of a snapshot.
    """
    return max(1, min(_SNAPSHOTS, _POINTS // points))


def release_freed() -> None:
    """Gives memory that has been freed back to the system, where the C library holds on to it (glibc).

    Between blocks of very different arrays it keeps hundreds of MB otherwise, which nobody uses.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _machine() -> int | None:
    for line in _text(Path("/proc/meminfo")).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return 1024 * int(value.split()[0])
    return None


def _container() -> int | None:
    """Limit of the control group, less what is used and could not be dropped."""
    limit, used = _text(_CGROUP / "memory.max").strip(), _text(_CGROUP / "memory.current").strip()
    if not limit.isdigit() or not used.isdigit():
        return None
    stat = dict(line.split() for line in _text(_CGROUP / "memory.stat").splitlines() if len(line.split()) == 2)
    return int(limit) - int(used) + int(stat.get("inactive_file", 0))


def _address_space() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _text(Path("/proc/self/statm")).split()
    if limit == resource.RLIM_INFINITY or not pages:
        return None
    return limit - int(pages[0]) * resource.getpagesize()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
