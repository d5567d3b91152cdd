"""Arrays in files, read where they are indexed: HDF5, NumPy, Zarr and labelled arrays behind one small interface.

An array has `shape` and `dtype` and is indexed by an integer or a slice per axis. HDF5 files are opened by xarray's
file manager, which keeps a bounded number of files open and opens them again in another process.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import xarray as xr
from xarray.backends import CachingFileManager

from romvae.data.layout import refuse_bomb
from romvae.errors import DataError

__all__ = ["FileArray", "Hdf5Array", "LabelledArray", "MemoryArray", "NpyArray", "npy_array", "npz_arrays"]

Key = tuple[int | slice, ...]


class FileArray(Protocol):
    """What the readers need of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, key: Key) -> np.ndarray: ...


class Hdf5Array:
    """A dataset of an HDF5 file."""

    def __init__(self, path: Path, dataset: h5py.Dataset) -> None:
        status = path.stat()
        version = f"{path.absolute()} {status.st_mtime_ns} {status.st_size}"  # one handle for all arrays of a file
        self.files = CachingFileManager(h5py.File, str(path.absolute()), mode="r", manager_id=version)
        self.name = str(dataset.name)
        self.shape: tuple[int, ...] = tuple(dataset.shape)
        self.dtype: np.dtype = dataset.dtype

    def __getitem__(self, key: Key) -> np.ndarray:
        with self.files.acquire_context() as file:
            return np.asarray(file[self.name][key])

    def close(self) -> None:
        """Closes the file; it is opened again when a value is used."""
        self.files.close()


class NpyArray:
    """A `.npy` file, mapped into memory."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.path = path
        self.shape = shape
        self.dtype = dtype

    def __getitem__(self, key: Key) -> np.ndarray:
        return np.array(np.load(self.path, mmap_mode="r", allow_pickle=False)[key])


class _NpzArray:
    """A member of an `.npz` archive; archives cannot be read in part, so the last few members are kept."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.path, self.name = path, name
        self.shape = shape
        self.dtype = dtype

    def __getitem__(self, key: Key) -> np.ndarray:
        return _member(self.path, self.name)[key]


class LabelledArray:
    """A variable that xarray opened lazily, packing and fill values decoded."""

    def __init__(self, variable: xr.Variable, closing: Callable[[], None] | None = None) -> None:
        self.variable = variable
        self.closing = closing
        self.shape: tuple[int, ...] = variable.shape
        self.dtype: np.dtype = variable.dtype

    def __getitem__(self, key: Key) -> np.ndarray:
        return np.asarray(self.variable[key].values)

    def close(self) -> None:
        """Closes the file."""
        if self.closing is not None:
            self.closing()


class MemoryArray:
    """Values that are known already."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.shape: tuple[int, ...] = values.shape
        self.dtype: np.dtype = values.dtype

    def __getitem__(self, key: Key) -> np.ndarray:
        return self.values[key]


def npy_array(path: Path, source: str) -> NpyArray:
    """Reads the header of a `.npy` file; pickled objects are refused.

    Raises:
        DataError: No `.npy` file, cut off, or its values are no numbers.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        pickled = "Python objects" in str(error) or "pickle" in str(error)
        what = "holds pickled Python objects, which are never loaded" if pickled else "is cut off or no .npy file"
        raise DataError(f"{source}: {what}, expected an array of numbers. Write it with numpy.save") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise DataError(f"{source}: holds {array.dtype}, expected numbers. Save plain float arrays with numpy.save")
    return NpyArray(path, array.shape, array.dtype)


def npz_arrays(path: Path, source: str) -> dict[str, FileArray]:
    """Reads the headers of an `.npz` archive.

    Raises:
        DataError: No archive, pickled objects in it, or more declared values than it can hold.
    """
    found: dict[str, FileArray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    version = np.lib.format.read_magic(file)
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else _header_2_0
                    shape, _, dtype = read(file)
                if dtype.hasobject:
                    raise DataError(
                        f"{source}: {entry.filename!r} holds pickled Python objects, which are never loaded. "
                        "Save plain arrays with numpy.savez"
                    )
                name = entry.filename.removesuffix(".npy")
                found[name] = _NpzArray(path, name, shape, dtype)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source}: is cut off or no .npz archive. Write it with numpy.savez") from error
    declared = sum(int(np.prod(a.shape, dtype=object)) * a.dtype.itemsize for a in found.values())
    refuse_bomb(declared, path.stat().st_size, source)
    return found


def _header_2_0(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    return np.lib.format.read_array_header_2_0(file)


@lru_cache(maxsize=4)
def _member(path: Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        return archive[name]
