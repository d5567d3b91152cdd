"""Whether files are still what they were when a long computation began to read them.

HDF5 gives zeros for what lies beyond the end of a file that was cut off, and zeros have the checksum zero: a file
that is damaged while it is open need not be noticed by reading it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from romvae.errors import DataError

__all__ = ["Stamp"]

_Facts = tuple[int, int]  # size in bytes, time of the last change in nanoseconds


@dataclass(frozen=True)
class Stamp:
    """Size and time of change of every file behind some Datasets; those in memory have none."""

    files: dict[Path, dict[Path, _Facts]]

    @classmethod
    def of(cls, *datasets: xr.Dataset) -> Stamp:
        """The files as they are now."""
        names = [ds.encoding.get("sources", (ds.encoding.get("source"),)) for ds in datasets]
        sources = {Path(str(name)) for each in names for name in each if name is not None}
        return cls({source: _facts(source) for source in sorted(sources) if source.exists()})

    def check(self) -> None:
        """Raises if a file has changed since.

        Raises:
            DataError: The message names the store.
        """
        for source, before in self.files.items():
            now = _facts(source)
            if now != before:
                changed = sorted(str(path) for path in {*before, *now} if before.get(path) != now.get(path))
                what = "was removed" if not now else "was changed"
                inside = f" ({changed[0]})" if source.is_dir() else ""
                raise DataError(
                    f"{source}: {what} while it was read{inside}, so what was read cannot be trusted. Restore the data "
                    "and run the command again"
                )


def _facts(source: Path) -> dict[Path, _Facts]:
    found = {}
    for path in source.rglob("*") if source.is_dir() else [source]:
        try:
            entry = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            found[path] = (entry.st_size, entry.st_mtime_ns)
    return found
