"""Snapshots in netCDF-4: the same bytes as HDF5, whose files are valid netCDF-4 with a dimension scale for every dim.

A writer of our own keeps its files open after an error, where h5netcdf closes them: on a full disk that crashes HDF5.
"""

from __future__ import annotations

from romvae.data.hdf5_store import complete, describe, is_store, manifest, missing, read, write

__all__ = ["complete", "describe", "is_store", "manifest", "missing", "read", "write"]
