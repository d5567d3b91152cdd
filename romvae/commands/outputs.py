"""Outputs are checked before any work: what exists is kept, and what cannot be written is said at once."""

from __future__ import annotations

import os
from pathlib import Path

from romvae.atomic import check_target, torn
from romvae.errors import ConfigError, OutputError

__all__ = ["check_output", "check_store"]

_STORES = (".zarr", ".h5", ".hdf5", ".nc", ".nc4")


def check_output(path: Path, overwrite: bool, expected: tuple[str, ...] = ()) -> None:
    """Refuse an output that exists or that cannot be written.

    Arguments:
        path: file or folder that a command is about to write. An empty folder counts as free.
        overwrite: the user allows it to be replaced.
        expected: names of which a folder must hold one before it is replaced, so that a mistyped path does
            not cost a folder of something else.

    Raises:
        OutputError: exists and may not be replaced, or its place is not writable.
    """
    check_target(path, overwrite)
    if path.is_dir():
        names = {entry.name for entry in path.iterdir()} - {entry.name for entry in torn(path)}
        if names and not names & set(expected):
            raise OutputError(
                f"{path}: is a folder that romvae did not write (it holds none of "
                f"{', '.join(expected) or 'its files'}). Choose another --out, or remove it yourself."
            )
    place = path.absolute().parent
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written, {place} is not a writable folder. Choose another --out.")


def check_store(path: Path, overwrite: bool) -> None:
    """Refuse a store of snapshots that exists, cannot be written or has an unknown suffix.

    Raises:
        ConfigError: the suffix names no format.
        OutputError: as `check_output`.
    """
    if path.suffix not in _STORES:
        raise ConfigError(f"{path}: suffix is '{path.suffix}', expected one of {', '.join(_STORES)}.")
    check_output(path, overwrite, ("zarr.json",))
