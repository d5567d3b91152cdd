"""Outputs that appear whole or not at all: written beside the target, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from romvae.errors import OutputError

__all__ = [
    "atomic_file",
    "atomic_folder",
    "check_target",
    "flush",
    "publish_folder",
    "remove_torn",
    "require_space",
    "torn",
]

_TORN = re.compile(r"\..+\.[0-9a-f]{12}(\.\w+)*")
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def check_target(path: Path | str, overwrite: bool = False) -> Path:
    """Raises where an output may not be written; call it before a long computation.

    An existing empty folder is free: nothing can be lost in it.

    Raises:
        OutputError: The path exists and `overwrite` is off, or it is a folder that must not be replaced.
    """
    path = Path(path)
    if not path.exists() and not path.is_symlink():
        return path
    if path.is_dir() and not path.is_symlink():
        if not any(path.iterdir()):
            return path
        real, here = path.resolve(), Path.cwd().resolve()
        if real == here or real in here.parents or real == Path.home().resolve():
            raise OutputError(f"{path}: holds the working or the home folder, never replaced. Choose another path")
    if not overwrite:
        raise OutputError(f"{path}: exists already. Choose another path, or replace it with --overwrite")
    return path


def require_space(path: Path | str, nbytes: int) -> None:
    """Raises unless the disk that will hold `path` has `nbytes` bytes free.

    Raises:
        OutputError: The message names both sizes.
    """
    folder = _existing(Path(path).absolute().parent)
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        raise OutputError(
            f"{path}: needs {_readable(nbytes)}, but the disk has {_readable(free)} free. "
            "Free some space or choose another path"
        )


def torn(folder: Path) -> list[Path]:
    """What processes that were killed as they wrote have left in a folder; another may be writing one now."""
    return [path for path in folder.iterdir() if _TORN.fullmatch(path.name)]


def remove_torn(folder: Path) -> None:
    """Removes what `torn` gives; for a folder in which nobody else writes."""
    for path in torn(folder):
        _remove(path)


@contextmanager
def atomic_file(path: Path | str, overwrite: bool = False) -> Iterator[Path]:
    """Yields a temporary path with the same suffix beside `path`; it takes the place of `path` on success.

    Arguments:
        path: Where the file is to appear; missing folders above it are made.
        overwrite: Whether an existing file may be replaced (it stays until the new one is complete).

    Raises:
        OutputError: The path is taken, the disk is full, or permission is missing.
    """
    target = check_target(path, overwrite)
    if target.is_dir():
        raise OutputError(f"{target}: is a folder, expected a file. Choose another path")
    with _beside(target) as temporary:
        yield temporary
        if not temporary.is_file():
            raise OutputError(f"{target}: nothing was written. Write to the path that atomic_file gives")
        flush(temporary)
        check_target(target, overwrite)
        os.replace(temporary, target)
        flush(target.parent)


@contextmanager
def atomic_folder(path: Path | str, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty temporary folder beside `path`; it takes the place of `path` on success.

    Arguments:
        path: Where the folder is to appear; missing folders above it are made.
        overwrite: Whether an existing one may be replaced as a whole (it stays until the new one is there).

    Raises:
        OutputError: The path is taken, the disk is full, or permission is missing.
    """
    target = check_target(path, overwrite)
    with _beside(target) as temporary:
        temporary.mkdir()
        yield temporary
        publish_folder(temporary, target, overwrite)


def publish_folder(finished: Path, target: Path, overwrite: bool = False) -> None:
    """Lets a finished folder take the place of `target`, once the disk has all of it.

    Arguments:
        finished: A folder on the same disk as `target`; afterwards it is gone.
        target: Where it is to appear.
        overwrite: Whether an existing one may be replaced as a whole.

    Raises:
        OutputError: The path is taken.
    """
    for folder, _, files in os.walk(finished):
        for name in files:
            flush(Path(folder, name))
        flush(Path(folder))
    check_target(target, overwrite)
    _exchange(finished, target)
    flush(target.parent)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A free name in the target's folder; on an error it and the folders made for it are removed again."""
    made: list[Path] = []
    temporary = target.parent / f".{target.stem}.{uuid.uuid4().hex[:12]}{target.suffix}"
    try:
        _prepare(target, temporary, made)
        yield temporary
    except BaseException as error:
        _remove(temporary)
        for folder in reversed(made):
            if not any(folder.iterdir()):
                folder.rmdir()
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise OutputError(
                f"{target}: the disk is full; nothing was written. Free some space or choose another path"
            ) from error
        raise


def _prepare(target: Path, temporary: Path, made: list[Path]) -> None:
    """Makes the missing folders and tries the name, so that a missing permission shows before the work."""
    try:
        for folder in reversed([folder for folder in target.absolute().parents if not folder.exists()]):
            folder.mkdir()
            made.append(folder)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise
        raise OutputError(f"{target}: cannot be written ({error.strerror}). Choose another path") from error


def _exchange(temporary: Path, target: Path) -> None:
    """Renames a folder to a name that may be taken; the old content is removed last."""
    if not target.exists() and not target.is_symlink():
        os.rename(temporary, target)
        return
    old = temporary.with_name(f"{temporary.name}.old")
    os.rename(target, old)
    try:
        os.rename(temporary, target)
    except BaseException:
        os.rename(old, target)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def flush(path: Path) -> None:
    """Waits until the disk has a file's content, or a folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _existing(folder: Path) -> Path:
    return next(f for f in (folder, *folder.parents) if f.is_dir())


def _readable(nbytes: int) -> str:
    size, unit = float(nbytes), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"
