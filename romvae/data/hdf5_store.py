"""Snapshots in HDF5: one snapshot per chunk with a Fletcher-32 checksum, a dimension scale for every dim.

The files are also valid netCDF-4. Reading is shared with `netcdf_store`: before any value is read, the file
is searched for links to other files and for chunks that were never written, which HDF5 would return as zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from romvae.canonical import blocks
from romvae.data.inspect_hdf5 import check_links
from romvae.data.layout import MARKER, READING, chunk_shape, mapping_advice, marked, refuse_bomb, unmarked
from romvae.data.manifest import MANIFEST, Finding
from romvae.errors import DataError

__all__ = ["complete", "describe", "is_store", "manifest", "missing", "read", "write"]

# netCDF-4 file format: a dim without coordinate, and a variable of a dim's name that is not its coordinate
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable.{:10d}"
_NOT_COORDINATE = "_nc4_non_coord_"


def is_store(path: Path) -> bool:
    """Whether a file starts like HDF5 (netCDF-4 does)."""
    return bool(h5py.is_hdf5(path))


def write(ds: xr.Dataset, path: Path) -> None:
    """Writes a file, all but the completion marker; values pass through memory in blocks."""
    with h5py.File(path, "w") as file:
        for key, value in marked(ds.attrs, ds).items():
            file.attrs[key] = value
        auxiliary = sorted(str(name) for name in set(ds.coords) - set(ds.dims))
        if auxiliary:
            file.attrs["coordinates"] = " ".join(auxiliary)
        stored = {name: _write_variable(file, ds, name) for name in map(str, ds.variables)}
        scales = {str(dim): _scale(file, str(dim), size, stored) for dim, size in ds.sizes.items()}
        for name, dataset in stored.items():
            for i, dim in enumerate(map(str, ds[name].dims)):
                if scales[dim] != dataset:
                    dataset.dims[i].attach_scale(scales[dim])


def describe(path: Path, text: str) -> None:
    """Adds the manifest to a file that is being written; in a group of its own, which netCDF readers do not open."""
    with h5py.File(path, "r+") as file:
        file.create_group(MANIFEST)["json"] = np.frombuffer(text.encode(), dtype=np.uint8)


def manifest(path: Path) -> str | None:
    """The text of the manifest; None where the file has none. The links of the file have to be checked before."""
    with h5py.File(path, "r") as file:
        item = file.get(f"{MANIFEST}/json")
        if not isinstance(item, h5py.Dataset):
            return None
        return bytes(np.asarray(item[()], dtype=np.uint8)).decode("utf-8", "replace")


def missing(path: Path) -> list[Finding]:
    """All variables of which HDF5 would make up values. The links of the file have to be checked before."""
    with h5py.File(path, "r") as file:
        return [Finding(name, "", f"{what}. Write or simulate it again") for name, what in _unwritten(file)]


def complete(path: Path) -> None:
    """Sets the completion marker: the last write."""
    with h5py.File(path, "r+") as file:
        file.attrs[MARKER] = 1


def read(path: Path, source: str, *, require: bool = True, whole: bool = True) -> xr.Dataset:
    """Opens HDF5 or netCDF-4 lazily and read-only, after every chunk was found to be there.

    Arguments:
        path: A file.
        source: What the messages call it.
        require: Whether the completion marker must be set.
        whole: Whether every chunk has to be there.

    Raises:
        DataError: The file cannot be opened, points to other files, or misses values.
    """
    try:
        with h5py.File(path, "r") as file:
            check_links(file, source)
            _check_links_inside(file, source)
            _check_lengths(file, source)
            unwritten = dict(_unwritten(file))
            declared = sum(d.size * d.dtype.itemsize for d in _datasets(file) if d.size)
            groups = [name for name in file if name != MANIFEST and isinstance(file[name], h5py.Group)]
    except BlockingIOError as error:
        raise DataError(f"{source}: is being written by another process. Wait until it is done") from error
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(
            f"{source}: cannot be opened as HDF5: the file is cut off or damaged. Copy or simulate it again"
        ) from error
    refuse_bomb(declared, path.stat().st_size, source)
    try:
        ds = xr.open_dataset(path, engine="h5netcdf", phony_dims="access", **READING)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(
            f"{source}: its arrays have no named dims, expected HDF5 with dimension scales or netCDF-4. "
            f"{mapping_advice(source)}"
        ) from error
    for name in ds.variables:
        if whole and name in unwritten:
            ds.close()
            raise DataError(f"{source}: {name!r}: {unwritten[str(name)]}. Write or simulate it again")
    if not ds.data_vars and groups:
        ds.close()
        raise DataError(
            f"{source}: holds no variable at its top level, only groups ({', '.join(groups)}). {mapping_advice(source)}"
        )
    return unmarked(ds, source, require=require)


def _scale(file: h5py.File, dim: str, size: int, stored: dict[str, h5py.Dataset]) -> h5py.Dataset:
    """The dimension scale of a dim: its coordinate, or a placeholder where it has none."""
    if dim in stored and stored[dim].name == f"/{dim}":
        scale, label = stored[dim], dim
    else:
        scale, label = file.create_dataset(dim, (size,), dtype="f4"), _NO_VARIABLE.format(size)
    scale.make_scale(label)
    return scale


def _write_variable(file: h5py.File, ds: xr.Dataset, name: str) -> h5py.Dataset:
    variable = ds[name].variable
    path = f"{_NOT_COORDINATE}{name}" if name in ds.dims and variable.dims != (name,) else name
    text = variable.dtype.kind not in "fiu"
    settings: dict[str, Any] = {}
    if variable.ndim and variable.size:
        settings["chunks"] = chunk_shape(variable)
        settings["fletcher32"] = not text
    if variable.dtype.kind == "f":
        settings["fillvalue"] = np.nan
    dtype = h5py.string_dtype() if text else variable.dtype.newbyteorder("=")
    dataset = file.create_dataset(path, variable.shape, dtype=dtype, **settings)
    for key, value in variable.attrs.items():
        dataset.attrs[str(key)] = value
    for chosen in blocks(ds, name):
        where = tuple(chosen.get(str(dim), slice(None)) for dim in variable.dims)
        dataset[where] = variable[where].values.astype(object) if text else variable[where].values
    return dataset


def _check_links_inside(file: h5py.File, source: str) -> None:
    """Refuses links that lead nowhere, in a circle for instance."""
    for name in map(str, file):
        try:
            file[name]
        except (KeyError, RuntimeError, OSError) as error:
            if isinstance(file.get(name, getlink=True), h5py.SoftLink):
                raise DataError(
                    f"{source}: /{name} is a link that leads nowhere. Write or simulate it again"
                ) from error
            raise


def _check_lengths(file: h5py.File, source: str) -> None:
    """Refuses coordinates that are shorter or longer than the dims they label."""
    for dataset in _datasets(file):
        for length, scales in zip(dataset.shape or (), dataset.dims, strict=False):
            for label, scale in scales.items():
                if scale.shape != (length,):
                    raise DataError(
                        f"{source}: {str(dataset.name).lstrip('/')!r} has {length} entries along a dim whose scale "
                        f"{str(scale.name or label).lstrip('/')!r} has shape {scale.shape}. Write or simulate it again"
                    )


def _datasets(file: h5py.File) -> Iterator[h5py.Dataset]:
    """The datasets at the top level, where snapshots live."""
    for name in file:
        item = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
        if isinstance(item, h5py.Dataset):
            yield item


def _unwritten(file: h5py.File) -> Iterator[tuple[str, str]]:
    """Datasets of which HDF5 would make up values, and what is missing."""
    for dataset in _datasets(file):
        name = str(dataset.name).lstrip("/").removeprefix(_NOT_COORDINATE)
        if not dataset.size or _is_placeholder(dataset):
            continue
        if dataset.chunks is None:
            if dataset.id.get_storage_size() == 0:
                yield name, "its values were never written"
            continue
        expected = math.prod(math.ceil(n / c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
        stored = dataset.id.get_num_chunks()
        if stored < expected:
            yield name, f"{expected - stored} of {expected} chunks were never written"


def _is_placeholder(dataset: h5py.Dataset) -> bool:
    label = dataset.attrs.get("NAME", b"")
    return bytes(label).startswith(_NO_VARIABLE[:40].encode()) if isinstance(label, bytes) else False
