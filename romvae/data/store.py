"""Snapshots on disk: Zarr, HDF5 or netCDF, told apart by their content and written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from romvae.atomic import atomic_file, atomic_folder, check_target, require_space
from romvae.canonical import blocks, canonical
from romvae.check import check_dims, check_snapshots
from romvae.data import hdf5_store, netcdf_store, zarr_store
from romvae.data.concatenated import concatenate
from romvae.data.direct import read_directly
from romvae.data.layout import check_storable, mapping_advice
from romvae.data.manifest import Checksums, Finding, Manifest
from romvae.data.transposed import canonical_on_disk
from romvae.errors import ConfigError, DataError, OutputError

__all__ = ["STORES", "Format", "format_of", "manifest_of", "open_snapshots", "write_snapshots"]

Format = Literal["zarr", "hdf5", "netcdf"]

_SUFFIXES: dict[str, Format] = {
    ".zarr": "zarr",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".nc": "netcdf",
    ".nc4": "netcdf",
}


@dataclass(frozen=True)
class _Store:
    """What a format offers: write all but manifest and marker, set them, open, give back the manifest, find gaps."""

    write: Callable[[xr.Dataset, Path], None]
    complete: Callable[[Path], None]
    read: Callable[..., xr.Dataset]
    describe: Callable[[Path, str], None]
    manifest: Callable[[Path], str | None]
    missing: Callable[[Path], list[Finding]]


def _store(module: Any) -> _Store:
    m = module
    return _Store(m.write, m.complete, m.read, m.describe, m.manifest, m.missing)


STORES: dict[Format, _Store] = {
    "zarr": _store(zarr_store),
    "hdf5": _store(hdf5_store),
    "netcdf": _store(netcdf_store),
}


def format_of(path: Path | str) -> Format:
    """The format of an existing store, by its content and not by its name.

    Raises:
        DataError: The path does not exist or is no store.
    """
    if "://" in str(path) or "::" in str(path):
        raise DataError(f"{path}: is an address, expected a local path. Download it first")
    target = Path(path)
    wanted = "expected a Zarr folder, an HDF5 or a netCDF-4 file"
    try:
        if target.is_dir():
            if zarr_store.is_store(target):
                return "zarr"
            raise DataError(f"{path}: is a folder without zarr.json, {wanted}. Give the path of the store itself")
        if not target.exists():
            raise DataError(f"{path}: does not exist, {wanted}. Check the path, or make one with romvae simulate")
        if not target.is_file():  # reading from a pipe would wait for ever
            raise DataError(f"{path}: is a pipe or a device, {wanted}. Copy the data into a file")
        with target.open("rb") as file:
            head = file.read(8)
    except PermissionError as error:
        raise DataError(f"{path}: may not be read (permission). Change its permissions") from error
    if not head:
        raise DataError(f"{path}: is empty (0 bytes), {wanted}. Copy or simulate it again")
    if hdf5_store.is_store(target):
        return "netcdf" if target.suffix in (".nc", ".nc4") else "hdf5"
    if head.startswith(b"CDF"):
        raise DataError(f"{path}: is netCDF-3, {wanted}. Convert it with ds.to_netcdf(..., engine='h5netcdf')")
    numpy = head.startswith(b"\x93NUMPY") or target.suffix == ".npz"
    advice = mapping_advice(str(path)) if numpy else "Convert it with romvae.write_snapshots"
    raise DataError(f"{path}: is no store (it starts with {head!r}), {wanted}. {advice}")


def open_snapshots(
    path: Path | str | Sequence[Path | str],
    *,
    check: bool = True,
    uniform: bool = True,
    reader: str | Path | None = None,
) -> xr.Dataset:
    """Opens snapshots read-only and lazily; whatever cannot be trusted is refused.

    Arguments:
        path: A Zarr folder, an HDF5 or a netCDF-4 file of romvae, or with the canonical dims; or files of a layout that
            `romvae.data.readers` knows: one, a folder, or several. The trajectories of several stores follow each
            other (`romvae.data.concatenated`); their values then come through xarray, slower than from one store.
        check: Whether to scan all values for NaN and infinity (one pass over the data, in blocks). The
            rest is always checked: all chunks present, completed, dims, dtypes, coordinates.
        uniform: Whether the time step has to be the same throughout.
        reader: Name of a layout, or a mapping file (`.yaml`) that says what is where; None recognises the layout.

    Returns:
        The canonical Dataset; values are read when they are used.

    Raises:
        DataError: Missing, no store, incomplete, damaged, or a value is not finite.
        SchemaError: Dims, dtypes or coordinates are not canonical.
        ConfigError: The reader is unknown, or its mapping is wrong.
    """
    from romvae.data import readers

    if not isinstance(path, str | Path):
        if len(path) == 1:
            return open_snapshots(path[0], check=check, uniform=uniform, reader=reader)
        if reader is None and not any(map(readers.foreign, path)):
            return _open_several(path, check, uniform)
    theirs = reader is not None or readers.foreign(path)
    source = str(path) if isinstance(path, str | Path) else str(next(iter(path), ""))
    ds = readers.open_with(path, reader) if theirs else STORES[format_of(source)].read(Path(source), source)
    try:
        check_dims(ds, source)
        opened = read_directly(canonical_on_disk(ds))
        _check_opened(opened, None if theirs else manifest_of(source), source, check, uniform)
        return opened
    except BaseException:
        ds.close()
        raise


def write_snapshots(ds: xr.Dataset, path: Path | str, *, overwrite: bool = False) -> Path:
    """Writes snapshots in the format of the suffix, reads them back, and only then lets the file appear.

    Arguments:
        ds: Snapshots, in memory or lazily opened; dims in any order.
        path: Ends in `.zarr`, `.h5`, `.hdf5`, `.nc` or `.nc4`.
        overwrite: Whether an existing store may be replaced, once the new one is complete.

    Returns:
        The path.

    Raises:
        ConfigError: The suffix is unknown.
        DataError: The Dataset is not canonical, not finite, or has attributes that cannot be stored.
        OutputError: The path is taken, the disk is full or what was read back differs.
    """
    target = Path(path)
    kind = _SUFFIXES.get(target.suffix)
    if kind is None:
        raise ConfigError(f"{path}: suffix is {target.suffix!r}, expected one of {', '.join(_SUFFIXES)}")
    check_target(target, overwrite)
    if target.is_dir() and any(target.iterdir()) and not zarr_store.is_store(target):
        raise OutputError(f"{path}: is a folder that is no Zarr store and is not replaced. Choose another path")
    ds = canonical(ds)
    sums = Checksums().for_dims_of(ds)
    check_snapshots(ds, source=str(path), watch=sums)
    check_storable(ds, str(path))
    require_space(target, ds.nbytes + ds.nbytes // 20 + 2**20)
    store = STORES[kind]
    with (atomic_folder if kind == "zarr" else atomic_file)(target, overwrite) as temporary:
        store.write(ds, temporary)
        with store.read(temporary, str(path), require=False) as written:
            _verify(ds, written, str(path))
        store.describe(temporary, Manifest.of(ds, sums).to_json())
        store.complete(temporary)
    return target


def manifest_of(path: Path | str) -> Manifest | None:
    """What a store says it holds; None where another program wrote it, or a romvae that kept no manifest.

    Raises:
        DataError: The manifest is damaged.
    """
    try:
        text = STORES[format_of(path)].manifest(Path(path))
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: its manifest cannot be read: damaged. Copy or simulate it again") from error
    return None if text is None else Manifest.from_json(text, str(path))


def _open_several(paths: Sequence[Path | str], check: bool, uniform: bool) -> xr.Dataset:
    """Stores one after the other; each is checked as if it stood alone."""
    with ExitStack() as stack:
        opened = [stack.enter_context(open_snapshots(path, check=check, uniform=uniform)) for path in paths]
        result = concatenate(opened, [str(path) for path in paths])
        result.encoding["sources"] = tuple(str(path) for path in paths)
        stack.pop_all()  # closed with the result from here on
        return result


def _check_opened(ds: xr.Dataset, manifest: Manifest | None, source: str, values: bool, uniform: bool) -> None:
    """All that is checked on opening; values are read once."""
    if manifest is None:
        check_snapshots(ds, source, values=values, uniform=uniform)
        return
    for finding in manifest.structure(ds, source):
        raise DataError(finding.text(source))
    sums = Checksums().for_dims_of(ds)
    check_snapshots(ds, source, values=values, uniform=uniform, watch=sums)
    for finding in manifest.values(sums):
        raise DataError(finding.text(source))


def _verify(ds: xr.Dataset, written: xr.Dataset, source: str) -> None:
    """Compares what was read back with what was to be written, block by block."""
    if set(ds.variables) != set(written.variables) or not _same_attrs(ds.attrs, written.attrs):
        raise OutputError(f"{source}: what was read back has other variables or attributes. Nothing was written")
    direct = read_directly(written)
    for name in map(str, ds.variables):
        meant, found = ds[name], written[name]
        same = meant.dims == found.dims and meant.shape == found.shape and _same_attrs(meant.attrs, found.attrs)
        parts = list(blocks(ds, name))
        # The first block comes back through the format's library, as other programs read it.
        read = [found if k == 0 else direct[name] for k in range(len(parts))]
        if not same or not all(_same_values(meant.isel(p), r.isel(p)) for p, r in zip(parts, read, strict=True)):
            raise OutputError(f"{source}: {name!r} read back differs from what was written. Check the disk")


def _same_values(one: xr.DataArray, other: xr.DataArray) -> bool:
    return bool(np.array_equal(one.values, other.values, equal_nan=one.dtype.kind == "f"))


def _same_attrs(one: dict, other: dict) -> bool:
    return xr.Variable((), 0, one).identical(xr.Variable((), 0, other))
