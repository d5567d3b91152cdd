"""The Well: HDF5 files of many trajectories, arrays ordered trajectory, time, x, y, z, component.

Fields may lack an axis along which they do not vary, or keep it at length one; both are read. Components of vectors
and tensors become fields of their own: `velocity_x`, `D_xy`.

Limitations: grids that move or differ between trajectories are refused. Boundary conditions are read per side; where
a condition covers a side in part, the side is taken as open, with a warning.

References:
    Ohana et al. (2024), The Well: a large-scale collection of diverse physics simulations, arXiv:2412.00568.
"""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from romvae.canonical import SPACE, TIME, TRAJECTORY
from romvae.data.inspect_hdf5 import inspect
from romvae.data.mapping import Mapping
from romvae.data.readers.axes import canonical_axes, vector_attrs
from romvae.data.readers.files import Files, attribute, hdf5_array, values_of
from romvae.data.readers.part import About, Part, only
from romvae.data.readers.piece import Piece
from romvae.errors import AssumptionWarning, DataError, SchemaError

__all__ = ["AS_WRITTEN", "ROMVAE_FACTS", "as_written", "read", "recognises"]

ROMVAE_FACTS = "romvae_facts"  # what the layout has no place for, when the file was written by romvae
AS_WRITTEN = "romvae_as_written"  # marks a Dataset whose author was romvae, until its labels are back
_ORDERS = {0: "t0_fields", 1: "t1_fields", 2: "t2_fields"}
_SPLITS = ("train", "valid", "test")
_KINDS = {"WALL": "wall", "OPEN": "open", "PERIODIC": "periodic"}


def recognises(files: Files) -> bool:
    """Groups `dimensions`, `boundary_conditions`, `scalars` and fields by tensor order."""
    outline = files.outline
    return outline is not None and outline.has("dimensions") and any(outline.has(g) for g in _ORDERS.values())


def read(files: Files, mapping: Mapping) -> tuple[list[Part], About]:
    """Reads the files of one data set, or of its part `train`, `valid` or `test`."""
    parts: list[Part] = []
    abouts: list[About] = []
    for path in files.require_hdf5(mapping.part):
        inspect(path, files.name(path))
        with h5py.File(path, "r") as file:
            part, found = _File(file, path, files.name(path)).read()
        parts.append(part)
        abouts.append(found)
        if dict(found.boundaries) != dict(abouts[0].boundaries):
            raise SchemaError(
                f"{part.where}: boundary conditions are {dict(found.boundaries)}, but {parts[0].where} has "
                f"{dict(abouts[0].boundaries)}. Open files of one kind together"
            )
    return parts, abouts[0]


def as_written(ds: xr.Dataset) -> xr.Dataset:
    """A Dataset that romvae wrote in this layout, as it was before: its own labels, no notes of the reader.

    Others are returned as they are.
    """
    if AS_WRITTEN not in ds.attrs:
        return ds
    kept = json.loads(ds.attrs[AS_WRITTEN])
    bare = ds.drop_vars(["source_file", "source_index", "source_split"], errors="ignore")
    labels = {name: label for name, label in kept["labels"].items() if _fits(label, ds)}
    for name, label in labels.items():
        bare = bare.assign_coords({name: (label["dims"], np.array(label["values"], dtype=label["dtype"]))})
    for name, attrs in kept["variables"].items():
        if name in bare.variables:
            bare[name].attrs = {key: _attr_value(value) for key, value in attrs.items()}
    bare.attrs = {key: _attr_value(value) for key, value in kept["attrs"].items()}
    bare.set_close(ds.close)
    return bare


def _fits(label: dict[str, Any], ds: xr.Dataset) -> bool:
    """Labels of trajectories belong to one file; several are numbered anew."""
    return np.shape(label["values"]) == tuple(ds.sizes[dim] for dim in label["dims"])


class _File:
    """One file, while it is open."""

    def __init__(self, file: h5py.File, path: Path, where: str) -> None:
        self.file, self.path, self.where = file, path, where
        self.stored = [str(d) for d in self._root("dimensions").attrs.get("spatial_dims", [])]
        self.axes = canonical_axes(self.stored, where)
        self.count = int(self._attr(file, "n_trajectories"))
        self.attrs: dict[str, dict[str, Any]] = {
            axis: {"long_name": name} for name, axis in self.axes.items() if name != axis
        }

    def read(self) -> tuple[Part, About]:
        times, axes = self._coordinate("time"), {self.axes[name]: self._coordinate(name) for name in self.stored}
        fields: dict[str, list[Piece]] = {}
        statics: dict[str, Piece] = {}
        for order, group in _ORDERS.items():
            for name in self._names(group):
                for label, piece, varies in self._components(f"{group}/{name}", name, order):
                    if varies:
                        fields[label] = [piece]
                    else:
                        statics[label] = piece
        parameters, series = self._scalars()
        split = self.path.parent.name
        part = Part(
            self.where,
            fields,
            times,
            axes,
            self.count,
            parameters,
            statics,
            series,
            {"source_split": split} if split in _SPLITS else {},
        )
        facts = {"title": str(self.file.attrs.get("dataset_name", "")), "grid_type": str(self.file.attrs["grid_type"])}
        stored = ", ".join((TRAJECTORY, TIME, *self.stored))
        about = About("well", stored, {}, self.attrs, self._boundaries(), {k: v for k, v in facts.items() if v})
        return part, self._as_written(about)

    def _as_written(self, about: About) -> About:
        """With units and attributes that romvae kept beside the layout."""
        text = attribute(self.file, ROMVAE_FACTS)
        if not isinstance(text, str):
            return about
        try:
            kept = json.loads(text)
            known = all(isinstance(kept[key], dict) for key in ("attrs", "variables", "labels"))
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise DataError(f"{self.where}: attribute {ROMVAE_FACTS!r} cannot be read. Write the file again")
        return About(about.layout, about.order, {}, about.attrs, {}, {AS_WRITTEN: text})

    def _root(self, name: str) -> h5py.Group:
        group = self.file.get(name)
        if not isinstance(group, h5py.Group):
            raise DataError(f"{self.where}: has no group {name!r}, expected the layout of The Well. Copy it again")
        return group

    def _attr(self, item: h5py.HLObject, key: str) -> Any:
        if key not in item.attrs:
            raise DataError(f"{self.where}: {item.name}: attribute {key!r} is missing. Copy the file again")
        return item.attrs[key]

    def _names(self, group: str) -> list[str]:
        if group not in self.file:
            return []
        members = self._root(group)
        names = [str(n) for n in members.attrs.get("field_names", list(members))]
        for name in names:
            if not isinstance(members.get(name), h5py.Dataset):
                raise DataError(f"{self.where}: {group} names {name!r}, which is not there. Copy the file again")
        return names

    def _coordinate(self, name: str) -> np.ndarray:
        where = f"{self.where}: dimensions/{name}"
        dataset = self._root("dimensions").get(name)
        if not isinstance(dataset, h5py.Dataset):
            raise DataError(f"{where}: is missing. Copy the file again")
        if name != "time" and dataset.attrs.get("time_varying", False):
            raise SchemaError(f"{where}: the grid moves in time, expected a fixed one. Interpolate to a fixed grid")
        values = values_of(dataset, where)
        if dataset.attrs.get("sample_varying", False):
            values = only(values, self.where, f"coordinate {name!r}")
        if values.ndim != 1:
            raise DataError(f"{where}: has shape {values.shape}, expected one axis. Copy the file again")
        return values if values.dtype.kind == "f" else values.astype(np.float64)

    def _components(self, path: str, name: str, order: int) -> list[tuple[str, Piece, bool]]:
        dataset = self.file[path]
        where = f"{self.where}: {path}"
        lead = [d for d, key in ((TRAJECTORY, "sample_varying"), (TIME, "time_varying")) if self._attr(dataset, key)]
        varying = np.atleast_1d(self._attr(dataset, "dim_varying")).astype(bool)
        if varying.size != len(self.stored):
            raise DataError(f"{where}: dim_varying has {varying.size} entries, expected {len(self.stored)}")
        space, tail = self._layout(dataset, len(lead), varying, order, where)
        array = hdf5_array(self.path, dataset, where)
        found = []
        for component in itertools.product(range(len(self.stored)), repeat=order):
            letters = "".join(self.stored[i] for i in component)
            label = f"{name}_{letters}" if order else name
            flat = int(np.ravel_multi_index(component, (len(self.stored),) * order)) if order else 0
            index = (flat,) if len(tail) == 1 else component
            self.attrs[label] = self._about(dataset, name, component)
            found.append((label, Piece(array, (*lead, *space, *index)), TIME in lead))
        return found

    def _about(self, dataset: h5py.Dataset, name: str, component: tuple[int, ...]) -> dict[str, Any]:
        if not component:
            return {"long_name": name}
        names = [self.stored[i] for i in component]
        axes = "".join(self.axes[n] for n in names)
        if len(component) == 1:
            return vector_attrs(name, names[0], axes)
        kind = "symmetric" if dataset.attrs.get("symmetric", False) else "none"
        kind = "antisymmetric" if dataset.attrs.get("antisymmetric", False) else kind
        about = {"tensor_name": name, "tensor_component": axes, "tensor_symmetry": kind}
        return {"long_name": f"{name} {''.join(names)}", **about}

    def _layout(
        self, dataset: h5py.Dataset, lead: int, varying: np.ndarray, order: int, where: str
    ) -> tuple[tuple[str | int, ...], tuple[int, ...]]:
        """Names of the spatial axes (0 where one is kept at length one), and the shape of the components."""
        sizes = [int(self._root("dimensions")[name].shape[-1]) for name in self.stored]
        d = len(self.stored)
        axes: list[tuple[str | int, int]] = [(self.axes[n], s) for n, s in zip(self.stored, sizes, strict=True)]
        dropped = [axis for axis, v in zip(axes, varying, strict=True) if v]
        kept = [axis if v else (0, 1) for axis, v in zip(axes, varying, strict=True)]
        every: dict[int, list[tuple[int, ...]]] = {0: [()], 1: [(d,)], 2: [(d, d), (d * d,)]}
        tails = every[order]
        for space, tail in itertools.product((dropped, kept), tails):
            if tuple(dataset.shape[lead:]) == (*(s for _, s in space), *tail):
                return tuple(name for name, _ in space), tail
        raise DataError(
            f"{where}: has shape {dataset.shape}, expected {lead} leading axes, {tuple(s for _, s in dropped)} (or "
            f"{tuple(s for _, s in kept)}) in space and {tails[0]} components. Copy the file again"
        )

    def _scalars(self) -> tuple[dict[str, Any], dict[str, Piece]]:
        listed = [str(n) for n in self.file.attrs.get("simulation_parameters", [])]
        stated = {n: attribute(self.file, n) for n in listed if n in self.file.attrs}
        parameters: dict[str, Any] = {n: v for n, v in stated.items() if isinstance(v, int | float)}
        series = {}
        for name in self._names("scalars"):
            dataset = self.file[f"scalars/{name}"]
            where = f"{self.where}: scalars/{name}"
            by_sample, by_time = (bool(self._attr(dataset, k)) for k in ("sample_varying", "time_varying"))
            if by_time:
                lead = (TRAJECTORY, TIME) if by_sample else (TIME,)
                series[name] = Piece(hdf5_array(self.path, dataset, where), lead)
                self.attrs.setdefault(name, {"long_name": name})
                continue
            values = values_of(dataset, where)
            value = values if by_sample else values.reshape(-1)[0] if values.size == 1 else values
            known = parameters.get(name)
            if known is not None and not np.allclose(value, known, rtol=1e-5, atol=0):
                raise DataError(
                    f"{where}: is {np.ravel(value)[0]:.10g}, but the attribute of that name is {known:.10g}. "
                    "Ask who made the file which one holds"
                )
            parameters[name] = value
        return parameters, series

    def _boundaries(self) -> dict[str, tuple[str, str]]:
        sides = {axis: ["open", "open"] for axis in self.axes.values()}
        group = self.file.get("boundary_conditions")
        for name in group if isinstance(group, h5py.Group) else ():
            condition = group[name]
            where = f"{self.where}: boundary_conditions/{name}"
            kind = _KINDS.get(str(self._attr(condition, "bc_type")).upper())
            if kind is None:
                raise SchemaError(
                    f"{where}: bc_type is {condition.attrs['bc_type']!r}, expected wall, open or periodic"
                )
            dims = [str(d) for d in self._attr(condition, "associated_dims")]
            mask = values_of(condition["mask"], f"{where}/mask").astype(bool)
            if mask.ndim != len(dims) or not set(dims) <= set(self.axes):
                raise DataError(f"{where}: mask has shape {mask.shape}, expected an axis for each of {', '.join(dims)}")
            for i, dim in enumerate(dims):
                for side, at in enumerate((0, -1)):
                    face = np.take(mask, at, axis=i)
                    if face.all():
                        sides[self.axes[dim]][side] = kind
                    elif face.any():
                        warnings.warn(
                            f"{where}: covers a side of {dim!r} in part: that side is taken as open",
                            AssumptionWarning,
                            stacklevel=2,
                        )
        return {axis: (sides[axis][0], sides[axis][1]) for axis in SPACE if axis in sides}


def _attr_value(value: Any) -> Any:
    return np.array(value["array"], dtype=value["dtype"]) if isinstance(value, dict) else value
