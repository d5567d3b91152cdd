"""Snapshots in netCDF-4, written by xarray: one snapshot per chunk with a Fletcher-32 checksum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from romvae.data.hdf5_store import complete, is_store, read
from romvae.data.layout import chunk_shape, marked

__all__ = ["complete", "is_store", "read", "write"]


def write(ds: xr.Dataset, path: Path) -> None:
    """Writes a file, all but the completion marker; one variable at a time is held in memory."""
    encoding: dict[Any, dict[str, Any]] = {}
    for name, variable in ds.variables.items():
        settings: dict[str, Any] = {}
        if variable.dtype.kind in "fiu":
            settings["_FillValue"] = None
            if variable.ndim and variable.size:
                settings |= {"chunksizes": chunk_shape(variable), "fletcher32": True}
        encoding[name] = settings
    plain = ds.drop_encoding()
    plain.attrs = marked(ds.attrs, ds)
    plain.to_netcdf(path, mode="w", format="NETCDF4", engine="h5netcdf", encoding=encoding)
