"""PDEArena: HDF5 with a group per split, coordinates per trajectory; and shallow water as netCDF or Zarr.

Every trajectory is read. In the Kuramoto-Sivashinsky files the spacing of grid and time differs between trajectories;
time and x then count steps, and `dt` and `dx` become parameters, with a warning.

Limitations: the pickle `normstats.pt` is never read. Conditioning that is stored as text is left out.

References:
    Gupta & Brandstetter (2022), Towards multi-spatiotemporal-scale generalized PDE modeling, arXiv:2209.15616.
    Brandstetter et al. (2022), Lie point symmetry data augmentation for neural PDE solvers, arXiv:2202.07643.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np

from romvae.canonical import TIME, TRAJECTORY
from romvae.data.inspect_hdf5 import inspect
from romvae.data.mapping import Mapping
from romvae.data.readers.axes import counted, vector_attrs
from romvae.data.readers.files import Files, hdf5_array, values_of
from romvae.data.readers.labelled import read_labelled, variables_in
from romvae.data.readers.part import About, Part, only
from romvae.data.readers.piece import Piece
from romvae.errors import AssumptionWarning, DataError

__all__ = ["read", "recognises"]

_SPLITS = ("train", "valid", "test")
_WATER = {"u", "v", "vor", "pres"}


def recognises(files: Files) -> bool:
    """A split's group with `u, vx, vy`, `pde_...` or `d_field`; or variables `u, v, vor, pres`."""
    outline = files.outline
    if outline is not None and not outline.labelled:
        return any(
            name.startswith((f"/{split}/pde_", f"/{split}/vx", f"/{split}/d_field"))
            for split in _SPLITS
            for name in outline.shapes
        )
    return bool(files.paths) and variables_in(files.paths[0]) >= _WATER


def read(files: Files, mapping: Mapping) -> tuple[list[Part], About]:
    """Reads all splits, or the one that the mapping names."""
    outline = files.outline
    if outline is None or outline.labelled:
        return read_labelled(files, mapping, "pdearena")
    parts: list[Part] = []
    attrs: dict[str, dict] = {}
    order = ""
    for path in files.hdf5:
        inspect(path, files.name(path))
        with h5py.File(path, "r") as file:
            for split in (s for s in _SPLITS if s in file and mapping.part in (None, s)):
                part, found, order = _part(file[split], path, f"{files.name(path)}: {split}", split)
                attrs |= found
                parts.append(part)
    if not parts:
        raise DataError(f"{files.source}: has no group {mapping.part!r}, expected some of {', '.join(_SPLITS)}")
    return parts, About("pdearena", order, {}, attrs)


def _part(group: h5py.Group, path: Path, where: str, split: str) -> tuple[Part, dict, str]:
    if "d_field" in group:
        return _maxwell(group, path, where, split)
    series = sorted(name for name in group if name.startswith("pde_"))
    if len(series) > 1:
        raise DataError(f"{where}: has several series ({', '.join(series)}), expected one. Copy one of them")
    if series:
        return _chaos(group, series[0], path, where, split)
    names = [name for name in ("u", "vx", "vy") if name in group]
    dims = (TRAJECTORY, TIME, "x", "y")
    fields = {name: [Piece(hdf5_array(path, group[name], f"{where}/{name}"), dims)] for name in names}
    axes = {axis: _row(group, axis, where) for axis in "xy"}
    parameters = {"buo_y": values_of(group["buo_y"], f"{where}/buo_y")} if "buo_y" in group else {}
    attrs = {f"v{axis}": vector_attrs("v", axis, axis) for axis in "xy"}
    count = group[names[0]].shape[0]
    part = Part(where, fields, _row(group, "t", where), axes, count, parameters, labels={"source_split": split})
    return part, attrs, ", ".join(dims)


def _chaos(group: h5py.Group, name: str, path: Path, where: str, split: str) -> tuple[Part, dict, str]:
    data = group[name]
    if data.ndim != 3:
        raise DataError(f"{where}/{name}: has shape {data.shape}, expected (trajectory, time, x). Copy the file again")
    steps = {key: _required(group, key, where).reshape(-1).astype(np.float64) for key in ("dt", "dx")}
    parameters = {"viscosity": values_of(group["v"], f"{where}/v").reshape(-1)} if "v" in group else {}
    equal = all((values == values[0]).all() for values in steps.values())
    if not equal:
        warnings.warn(
            f"{where}: dt and dx differ between trajectories: time and x count steps, dt and dx are parameters",
            AssumptionWarning,
            stacklevel=2,
        )
        parameters |= steps
    scale = {key: float(values[0]) if equal else 1.0 for key, values in steps.items()}
    times, x = scale["dt"] * np.arange(data.shape[1]), scale["dx"] * np.arange(data.shape[2])
    dims = (TRAJECTORY, TIME, "x")
    fields = {"u": [Piece(hdf5_array(path, data, f"{where}/{name}"), dims)]}
    part = Part(where, fields, times, {"x": x}, data.shape[0], parameters, labels={"source_split": split})
    return part, {}, ", ".join(dims)


def _maxwell(group: h5py.Group, path: Path, where: str, split: str) -> tuple[Part, dict, str]:
    dims, attrs = (TRAJECTORY, TIME, "x", "y", "z"), {}
    fields = {}
    for name in (n for n in ("d_field", "h_field") if n in group):
        data = group[name]
        if data.ndim != 6 or data.shape[-1] != 3:
            raise DataError(f"{where}/{name}: has shape {data.shape}, expected (trajectory, time, x, y, z, 3)")
        array, short = hdf5_array(path, data, f"{where}/{name}"), name[0]
        for i, axis in enumerate("xyz"):
            fields[f"{short}_{axis}"] = [Piece(array, (*dims, i))]
            attrs[f"{short}_{axis}"] = vector_attrs(short, axis, axis)
    shape = group["d_field"].shape
    axes = {axis: counted(n, axis, where) for axis, n in zip("xyz", shape[2:5], strict=True)}
    part = Part(where, fields, counted(shape[1], TIME, where), axes, shape[0], labels={"source_split": split})
    return part, attrs, ", ".join((*dims, "component"))


def _row(group: h5py.Group, name: str, where: str) -> np.ndarray:
    values = _required(group, name, where)
    row = only(values, where, f"coordinate {name!r}") if values.ndim == 2 else values
    return row.astype(np.float64) if row.dtype.kind != "f" else row


def _required(group: h5py.Group, name: str, where: str) -> np.ndarray:
    if not isinstance(group.get(name), h5py.Dataset):
        raise DataError(f"{where}: {name!r} is missing. Copy the file again, or state it in a mapping")
    return values_of(group[name], f"{where}/{name}")
