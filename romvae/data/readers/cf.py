"""CF netCDF (3 and 4) and Zarr with named axes: model output that says itself what its axes are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from romvae.canonical import ORDER
from romvae.data import zarr_store
from romvae.data.mapping import Mapping
from romvae.data.probe import probe
from romvae.data.readers.files import Files, attribute
from romvae.data.readers.labelled import read_labelled
from romvae.data.readers.part import About, Part

__all__ = ["read", "recognises"]

_TELLING = ("axis", "standard_name", "positive")


def recognises(files: Files) -> bool:
    """`Conventions` with CF, or a coordinate with `axis`, `standard_name`, `positive` or telling units."""
    return bool(files.paths) and _tells(files.paths[0])


def read(files: Files, mapping: Mapping) -> tuple[list[Part], About]:
    """Reads each file as one or several trajectories."""
    return read_labelled(files, mapping, "cf")


def _tells(path: Path) -> bool:
    if path.is_dir():
        return zarr_store.is_store(path) and _zarr_tells(path)
    with path.open("rb") as file:
        if file.read(3) == b"CDF":
            return True
    if not h5py.is_hdf5(path):
        return False
    probe(path, str(path))
    with h5py.File(path, "r") as file:
        datasets = [file[n] for n in file if isinstance(file.get(n, getlink=True), h5py.HardLink)]
        datasets = [d for d in datasets if isinstance(d, h5py.Dataset)]
        if not any(len(dim) for d in datasets for dim in d.dims):
            return False  # no dimension scales: the axes have no names
        if {str(d.name).lstrip("/") for d in datasets if d.is_scale} <= set(ORDER):
            return False  # canonical already
        conventions = str(attribute(file, "Conventions") or "")
        return "CF" in conventions or any(_attrs_tell({k: attribute(d, k) for k in d.attrs}) for d in datasets)


def _zarr_tells(path: Path) -> bool:
    import zarr

    try:
        group = zarr.open_group(path, mode="r", use_consolidated=False)
        arrays = list(group.arrays())
    except (OSError, ValueError, TypeError, KeyError):
        return False
    named: set[str] = set()
    for _, array in arrays:
        dims: Any = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
        named.update(map(str, dims or ()))
    if not named or named <= set(ORDER):
        return False
    conventions = str(group.attrs.get("Conventions", ""))
    return "CF" in conventions or any(_attrs_tell(dict(array.attrs)) for _, array in arrays)


def _attrs_tell(attrs: dict[str, Any]) -> bool:
    units = str(attrs.get("units", ""))
    return any(key in attrs for key in _TELLING) or " since " in units or units.startswith("degrees_")
