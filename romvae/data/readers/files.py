"""The files of a data set: which they are, in which order, and that they are local and harmless to list."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import Any

import h5py
import numpy as np

from romvae.data.inspect_hdf5 import check_unwritten, inspect, tree
from romvae.data.readers.arrays import Hdf5Array
from romvae.errors import DataError, RomvaeError

__all__ = [
    "Files",
    "Outline",
    "attribute",
    "damage_refused",
    "gather",
    "hdf5_array",
    "hdf5_frames",
    "json_file",
    "outline_of",
    "proposed_name",
    "safe_name",
    "values_of",
]

_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt")
_ZARR = ("zarr.json", ".zgroup", ".zarray")
_MOST_FILES = 200_000
_MOST_TEXT = 1_000_000
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True)
class Outline:
    """What an HDF5 file holds, without values: shapes by path, members of the root, whether its axes have names."""

    shapes: dict[str, tuple[int, ...]]
    members: tuple[str, ...]
    labelled: bool

    def has(self, *names: str) -> bool:
        """Whether all names are members of the root."""
        return all(name in self.members for name in names)


@dataclass(frozen=True)
class Files:
    """A data set as the user gave it.

    Arguments:
        source: What the messages call it.
        paths: Its files, in natural order (`s10` after `s9`); a Zarr store counts as one.
        folder: The folder, where one was given.
    """

    source: str
    paths: tuple[Path, ...]
    folder: Path | None = None

    def name(self, path: Path) -> str:
        """What the messages call one of the files."""
        return str(path)

    def ending(self, *suffixes: str) -> tuple[Path, ...]:
        """The files with one of the suffixes."""
        return tuple(path for path in self.paths if path.suffix.lower() in suffixes)

    @cached_property
    def hdf5(self) -> tuple[Path, ...]:
        """The files that are HDF5 by content; a single other file is asked as well, whatever its name."""
        likely = self.ending(".h5", ".hdf5", ".nc", ".nc4", ".hdf", ".mat") or self.paths
        return tuple(path for path in likely if path.is_file() and h5py.is_hdf5(path))

    def require_hdf5(self, part: str | None = None) -> tuple[Path, ...]:
        """The HDF5 files, those in folders called `part` if it is given.

        Raises:
            DataError: There are none.
        """
        found = tuple(path for path in self.hdf5 if part is None or path.parent.name == part)
        if not found:
            where = "" if part is None else f" in a folder {part!r}. Check part in the mapping"
            raise DataError(f"{self.source}: has no HDF5 file{where or '. Check the path, or leave the reader out'}")
        return found

    @cached_property
    def outline(self) -> Outline | None:
        """Of the first HDF5 file, after it was found to be harmless."""
        return outline_of(self.hdf5[0], self.name(self.hdf5[0])) if self.hdf5 else None


def outline_of(path: Path, where: str) -> Outline:
    """What an HDF5 file holds, after it was found to be harmless."""
    inspect(path, where)
    status = path.stat()
    return _outline(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _outline(path: Path, changed: int, size: int) -> Outline:
    with h5py.File(path, "r") as file:
        datasets = list(tree(file))
        return Outline(
            shapes={str(d.name): tuple(d.shape or ()) for d in datasets},
            members=tuple(map(str, file)),
            labelled=bool(datasets) and all(any(len(d) for d in x.dims) or x.is_scale for x in datasets),
        )


def gather(given: Path | str | Sequence[Path | str]) -> Files:
    """Lists the files of a data set.

    Arguments:
        given: A file, a folder, or several files.

    Raises:
        DataError: An address, a missing or empty file, a pickle, or a link out of the folder.
    """
    several = [given] if isinstance(given, str | Path) else list(given)
    if not several:
        raise DataError("no file was given, expected at least one. Give the path of a file or a folder")
    for one in several:
        if "://" in str(one) or "::" in str(one):
            raise DataError(f"{one}: is an address, expected a local path. Download it first")
        _check_file(Path(one), str(one))
    source = str(several[0]) if len(several) == 1 else f"{several[0]} and {len(several) - 1} more"
    if len(several) == 1 and Path(several[0]).is_dir() and not _is_zarr(Path(several[0])):
        folder = Path(several[0])
        return Files(source, tuple(sorted(_inside(folder), key=_natural)), folder)
    return Files(source, tuple(Path(one) for one in several))


@contextmanager
def damage_refused(source: str) -> Iterator[None]:
    """Turns what the file libraries raise on damaged files into one line.

    Damaged metadata come to light anywhere, when a link is followed or an attribute is asked for, and as errors of any
    kind (a group where an array should be is an `AttributeError`); the first one stays attached as the cause.

    Raises:
        DataError: Something could not be read.
    """
    try:
        yield
    except RomvaeError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, AttributeError, TypeError, TokenError) as error:
        found = (str(error).splitlines() or [""])[0][:100] or type(error).__name__
        raise DataError(
            f"{source}: cannot be read ({found}): damaged, or not of the layout it seems. Copy or simulate it again"
        ) from error


def hdf5_array(path: Path, dataset: h5py.Dataset, where: str) -> Hdf5Array:
    """A dataset as a lazy array, after all its values were found to be written.

    Raises:
        DataError: It holds no real numbers, or some were never written.
    """
    if dataset.dtype.kind == "c":
        raise DataError(f"{where}: holds complex numbers, expected real values on a grid. Save it in grid space")
    if dataset.dtype.kind not in "fiub":
        raise DataError(f"{where}: holds {dataset.dtype}, expected numbers. Choose another dataset")
    check_unwritten(dataset, where)
    return Hdf5Array(path, dataset)


def hdf5_frames(path: Path, dataset: h5py.Dataset, where: str, axis: int, stop: int) -> Hdf5Array:
    """As `hdf5_array` for a dataset that was allocated as a whole, but filled up to an index of one axis only.

    Raises:
        DataError: A chunk before that index was never written.
    """
    if dataset.chunks is None or stop == dataset.shape[axis]:
        return hdf5_array(path, dataset, where)
    length = dataset.chunks[axis]
    stored = {offset for offset in _chunk_offsets(dataset) if offset[axis] < stop}
    counts = [-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)]
    counts[axis] = -(-stop // length)
    if len(stored) < int(np.prod(counts)):
        raise DataError(f"{where}: chunks before index {stop} of axis {axis} were never written. Copy it again")
    return Hdf5Array(path, dataset)


def _chunk_offsets(dataset: h5py.Dataset) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    dataset.id.chunk_iter(lambda info: found.append(info.chunk_offset))
    return found


def values_of(dataset: h5py.Dataset, where: str) -> np.ndarray:
    """All values of a small dataset, such as a coordinate.

    Raises:
        DataError: It holds no numbers, was not written, or is damaged.
    """
    if dataset.dtype.kind not in "fiub":
        raise DataError(f"{where}: holds {dataset.dtype}, expected numbers. Choose another dataset")
    check_unwritten(dataset, where)
    try:
        return np.asarray(dataset[()])
    except (OSError, RuntimeError) as error:
        raise DataError(f"{where}: cannot be read: the data are damaged. Copy or simulate it again") from error


def attribute(item: h5py.HLObject, key: str) -> Any:
    """An attribute as text, number, or list of them; None where it cannot be read."""
    try:
        value = item.attrs[key]
    except (OSError, KeyError, TypeError, RuntimeError):
        return None
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray):
        return [v.decode(errors="replace") if isinstance(v, bytes) else v for v in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value


def json_file(path: Path, where: str) -> dict[str, Any]:
    """A small JSON file.

    Raises:
        DataError: Missing, too large, or no JSON object.
    """
    try:
        if path.stat().st_size > _MOST_TEXT:
            raise DataError(f"{where}: {path.stat().st_size} bytes, expected a JSON text of at most {_MOST_TEXT}")
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{where}: no such file, expected the description of the arrays beside it") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where}: is no valid JSON. Copy it again") from error
    if not isinstance(found, dict):
        raise DataError(f"{where}: holds a {type(found).__name__}, expected names and values")
    return found


def safe_name(name: str) -> str:
    """A name that every store can keep: letters, digits, `_`, `-` and `.`, no path."""
    clean = _NOT_IN_NAMES.sub("_", name.strip().replace("/", "_")).strip(".")
    return clean if clean and clean[0] not in "-" else f"_{clean}"


def proposed_name(name: str, taken: Collection[str] = ()) -> str:
    """A name to propose for a field or a parameter: an identifier without double underscores, and not one of `taken`.

    `T_wall [K]` becomes `T_wall_K`, and `run/u` becomes `run_u` where `u` is taken.
    """
    last = _identifier(name.rpartition("/")[2])
    whole = last if last not in taken else _identifier(name)
    n, found = 2, whole
    while found in taken:
        n, found = n + 1, f"{whole}_{n}"
    return found


def _identifier(name: str) -> str:
    clean = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9_]", "_", name)).strip("_") or "u"
    return f"u_{clean}" if clean[0].isdigit() else clean


def _check_file(path: Path, source: str) -> None:
    if not path.exists():
        raise DataError(f"{source}: does not exist. Check the path, or make a store with romvae simulate")
    if path.suffix.lower() in _PICKLES:
        raise DataError(
            f"{source}: is a Python pickle by its name ({path.suffix}); loading one can run any code, so it is never "
            "read. Save the arrays with numpy.save or as HDF5"
        )
    if not path.is_file() and not path.is_dir():
        raise DataError(f"{source}: is neither a file nor a folder (a pipe or a device). Copy the data into a file")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{source}: is empty (0 bytes). Copy or simulate it again")


def _inside(folder: Path) -> list[Path]:
    found: list[Path] = []
    root = folder.resolve()
    for place, folders, files in os.walk(folder):
        here = Path(place)
        for name in list(folders):
            _check_link(here / name, root, folder)
            if _is_zarr(here / name):
                found.append(here / name)
                folders.remove(name)
            elif name.startswith("."):
                folders.remove(name)
        for name in files:
            _check_link(here / name, root, folder)
            if name.startswith(".") or Path(name).suffix.lower() in _PICKLES:
                continue
            if (here / name).is_file():  # reading from a pipe would wait for ever
                found.append(here / name)
        if len(found) > _MOST_FILES:
            raise DataError(f"{folder}: holds more than {_MOST_FILES} files. Give a smaller part of the data set")
    return found


def _check_link(path: Path, root: Path, folder: Path) -> None:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        raise DataError(f"{folder}: {path.relative_to(folder)} is a link out of the folder. Give the files themselves")


def _is_zarr(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in _ZARR)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Digits count as numbers, so that s10 follows s9."""
    pieces = re.split(r"(\d+)", str(path))
    return [(1, int(piece), "") if piece.isdigit() else (0, 0, piece) for piece in pieces]
