"""Files whose axes have names: netCDF and Zarr, opened by xarray and understood through CF attributes.

An axis is what its coordinate says: `axis`, `standard_name`, `units`, `positive`, and at last its name. Packed values
are unpacked and fill values become NaN, which `check` refuses unless they are masked. Times stay plain numbers.

References:
    Eaton et al. (2023), NetCDF Climate and Forecast (CF) metadata conventions, version 1.11.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from romvae.canonical import SPACE, TIME, TRAJECTORY
from romvae.data import zarr_store
from romvae.data.inspect_hdf5 import check_unwritten, inspect
from romvae.data.layout import READING, refuse_bomb
from romvae.data.mapping import Mapping
from romvae.data.probe import probe
from romvae.data.readers.arrays import LabelledArray
from romvae.data.readers.axes import canonical_axes, counted
from romvae.data.readers.files import Files
from romvae.data.readers.part import About, Part
from romvae.data.readers.piece import Piece
from romvae.errors import AssumptionWarning, DataError, SchemaError

__all__ = ["open_labelled", "read_labelled", "role_of", "variables_in"]

_AXIS = {"T": TIME, "Z": "z", "Y": "y", "X": "x"}
_STANDARD = {
    "time": TIME,
    "latitude": "y",
    "grid_latitude": "y",
    "projection_y_coordinate": "y",
    "longitude": "x",
    "grid_longitude": "x",
    "projection_x_coordinate": "x",
    "height": "z",
    "altitude": "z",
    "depth": "z",
    "air_pressure": "z",
    "realization": TRAJECTORY,
}
_NAMES = {
    TIME: ("time", "t"),
    "x": ("x", "lon", "longitude"),
    "y": ("y", "lat", "latitude"),
    "z": ("z", "lev", "level", "depth", "height", "altitude", "plev"),
    TRAJECTORY: ("trajectory", "realization", "member", "ensemble", "sample", "number", "batch", "b"),
}
_KEPT = ("units", "long_name", "standard_name", "calendar", "positive", "cell_methods")


def variables_in(path: Path) -> set[str]:
    """Names of the variables of a netCDF file or a Zarr group; empty where it is neither."""
    if path.is_dir():
        return {entry.name for entry in path.iterdir() if entry.is_dir()} if zarr_store.is_store(path) else set()
    if path.is_file() and h5py.is_hdf5(path):
        probe(path, str(path))
        with h5py.File(path, "r") as file:
            return set(map(str, file))
    return set()


def open_labelled(path: Path, where: str) -> xr.Dataset:
    """Opens netCDF (3 or 4) or Zarr lazily, after it was found to be harmless and complete.

    Raises:
        DataError: Damaged, not complete, or its axes have no names.
    """
    if path.is_dir():
        return zarr_store.read(path, where)
    if not h5py.is_hdf5(path):
        return _netcdf3(path, where)
    inspect(path, where)
    with h5py.File(path, "r") as file:
        for name in file:
            if isinstance(file[name], h5py.Dataset) and file[name].ndim > 1:
                check_unwritten(file[name], f"{where}: {name!r}")
    nameless = f"{where}: its axes have no names (no dimension scales). Describe it in a mapping with reader: hdf5"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*phony_dims")
            ds = xr.open_dataset(path, engine="h5netcdf", **READING)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(nameless) from error
    if any(str(d).startswith("phony_dim") for v in ds.variables.values() if v.ndim > 1 for d in v.dims):
        ds.close()  # names made up by length: two axes of equal length would share one
        raise DataError(nameless)
    return ds


def _netcdf3(path: Path, where: str) -> xr.Dataset:
    try:
        ds = xr.open_dataset(path, engine="scipy", **READING)
        refuse_bomb(sum(v.nbytes for v in ds.variables.values()), path.stat().st_size, where)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AssertionError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{where}: cannot be opened as netCDF-3: cut off or damaged. Copy or simulate it again"
        ) from error
    return ds


def role_of(dim: str, ds: xr.Dataset) -> str | None:
    """The canonical dim that a dim stands for, as far as its coordinate or its name says."""
    attrs: dict[Any, Any] = dict(ds[dim].attrs) if dim in ds.variables else {}
    units = str(attrs.get("units", "")).lower()
    if str(attrs.get("axis", "")).upper() in _AXIS:
        return _AXIS[str(attrs["axis"]).upper()]
    if attrs.get("standard_name") in _STANDARD:
        return _STANDARD[attrs["standard_name"]]
    if " since " in units:
        return TIME
    if units.startswith("degree") and units.rpartition("_")[2] in ("north", "n"):
        return "y"
    if units.startswith("degree") and units.rpartition("_")[2] in ("east", "e"):
        return "x"
    if attrs.get("positive") in ("up", "down"):
        return "z"
    return next((role for role, names in _NAMES.items() if dim.lower() in names), None)


def read_labelled(files: Files, mapping: Mapping, layout: str) -> tuple[list[Part], About]:
    """Reads netCDF files or Zarr stores, one or several trajectories in each."""
    parts: list[Part] = []
    attrs: dict[str, dict[str, Any]] = {}
    order = ""
    paths = [p for p in files.paths if zarr_store.is_store(p) or p.suffix in (".nc", ".nc4", ".cdf") or p in files.hdf5]
    for path in paths or files.paths:
        ds = open_labelled(path, files.name(path))
        part, order = _Labelled(ds, files.name(path), attrs).part()
        parts.append(part)
    return parts, About(layout, order, {}, attrs, {}, {})


class _Labelled:
    """One opened file and the roles of its dims."""

    def __init__(self, ds: xr.Dataset, where: str, attrs: dict[str, dict[str, Any]]) -> None:
        self.ds, self.where, self.attrs = ds, where, attrs
        self.roles = {str(dim): role_of(str(dim), ds) for dim in ds.dims}
        bounds = {str(v.attrs.get("bounds", "")) for v in ds.variables.values()}
        self.variables = [str(n) for n in ds.data_vars if n not in bounds and ds[n].dtype.kind in "fiu"]

    def part(self) -> tuple[Part, str]:
        full: list[str] = []
        still: list[str] = []
        for name in self.variables:
            roles = {self.roles[str(d)] for d in self.ds[name].dims if self.ds.sizes[d] > 1}
            if roles & set(SPACE):
                (full if TIME in {self.roles[str(d)] for d in self.ds[name].dims} else still).append(name)
        if not full:
            raise DataError(f"{self.where}: no variable varies in time and space. Describe it in a mapping")
        stored = self._space(full)
        axes = canonical_axes([self.roles[d] or d for d in stored], self.where)
        names = {d: axes[self.roles[d] or d] for d in stored}
        trajectories = [d for d in self.ds.dims if self.roles[str(d)] == TRAJECTORY]
        count = self.ds.sizes[trajectories[0]] if trajectories else 1
        self._report_parameters(trajectories)
        time = next(str(d) for d in self.ds[full[0]].dims if self.roles[str(d)] == TIME)
        part = Part(
            self.where,
            {name: [self._piece(name, names)] for name in full},
            self._coordinate(time, TIME),
            {names[d]: self._coordinate(d, names[d]) for d in stored},
            count,
            statics={name: self._piece(name, names) for name in still},
        )
        return part, ", ".join(map(str, self.ds[full[0]].dims))

    def _space(self, full: list[str]) -> list[str]:
        """The spatial dims that have more than one point, in the order of the file, the same for all fields."""
        found = {
            name: tuple(str(d) for d in self.ds[name].dims if self.roles[str(d)] in SPACE and self.ds.sizes[d] > 1)
            for name in full
        }
        first = found[full[0]]
        for name, dims in found.items():
            if set(dims) != set(first):
                raise SchemaError(
                    f"{self.where}: {name!r} lives on ({', '.join(dims)}), but {full[0]!r} on ({', '.join(first)}), "
                    "expected one grid. Choose the fields in a mapping"
                )
        roles = [self.roles[d] for d in first]
        if len(set(roles)) < len(roles):
            raise SchemaError(f"{self.where}: ({', '.join(first)}) are not told apart. State the axes in a mapping")
        return list(first)

    def _piece(self, name: str, names: dict[str, str]) -> Piece:
        variable = self.ds[name].variable
        dims: list[str | int] = []
        for dim in map(str, variable.dims):
            role = self.roles[dim]
            if role in (TIME, TRAJECTORY):
                dims.append(role)
            elif dim in names:
                dims.append(names[dim])
            elif self.ds.sizes[dim] == 1:
                dims.append(0)
            else:
                raise SchemaError(
                    f"{self.where}: {name!r} has a dim {dim!r} of {self.ds.sizes[dim]} entries whose meaning is not "
                    "known. Choose an entry of it in a mapping; romvae info proposes one"
                )
        self.attrs[name] = {key: variable.attrs[key] for key in _KEPT if key in variable.attrs}
        return Piece(LabelledArray(variable, self.ds.close), tuple(dims))

    def _coordinate(self, dim: str, canonical_name: str) -> np.ndarray:
        if dim not in self.ds.variables:
            return counted(self.ds.sizes[dim], dim, self.where)
        variable = self.ds[dim].variable
        if variable.dims != (dim,) or variable.dtype.kind not in "fiu":
            raise DataError(f"{self.where}: coordinate {dim!r} is no list of numbers. State it in a mapping")
        self.attrs[canonical_name] = {key: variable.attrs[key] for key in _KEPT if key in variable.attrs}
        if dim != canonical_name:
            self.attrs[canonical_name].setdefault("long_name", dim)
        values = np.asarray(variable.values)
        return values if values.dtype.kind == "f" else values.astype(np.float64)

    def _report_parameters(self, trajectories: list[Any]) -> None:
        names = [n for n in self.variables if self.ds[n].dims == tuple(trajectories) != ()]
        if names:
            warnings.warn(
                f"{self.where}: {', '.join(names)} could be parameters: left out. State them in a mapping",
                AssumptionWarning,
                stacklevel=4,
            )
