"""Snapshots in the layout of The Well, for its own loader and for who trains on it.

Components that carry the name of their vector or tensor (`velocity_x` of `velocity`) are joined again, parameters
become scalars, fields without time become constant fields whose missing axes have length one, as `WellDataset` wants
it. What the layout has no place for (units, attributes, boundary values, labels) is kept in one attribute, so that
`open_snapshots` gives back the same Dataset.

Limitations: boundary conditions `reflecting` and `value` are `WALL` to other readers; trajectories of different length
and Datasets with latents are refused; the statistics file `stats.yaml` is not written.

References:
    Ohana et al. (2024), The Well: a large-scale collection of diverse physics simulations, arXiv:2412.00568.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from romvae.atomic import atomic_file, check_target, require_space
from romvae.boundary import boundaries_of
from romvae.canonical import (
    LATENT,
    SPACE,
    TIME,
    TRAJECTORY,
    blocks,
    canonical,
    fields_of,
    lengths_of,
    parameters_of,
    space_of,
    statics_of,
)
from romvae.check import check_snapshots
from romvae.data.layout import check_storable
from romvae.data.readers import open_with
from romvae.data.readers.well import ROMVAE_FACTS
from romvae.errors import ConfigError, OutputError, SchemaError

__all__ = ["write_well"]

_KINDS = {"periodic": "PERIODIC", "open": "OPEN", "wall": "WALL", "reflecting": "WALL", "value": "WALL"}
_GROUPS = ("t0_fields", "t1_fields", "t2_fields")


def write_well(ds: xr.Dataset, path: Path | str, *, name: str | None = None, overwrite: bool = False) -> Path:
    """Writes one file of The Well's layout, reads it back, and only then lets it appear.

    Arguments:
        ds: Snapshots, in memory or lazily opened; dims in any order.
        path: Ends in `.hdf5` or `.h5`; The Well keeps such files in `NAME/data/train`, `valid` and `test`.
        name: The attribute `dataset_name`, which all files of a data set share; by default that of the file.
        overwrite: Whether an existing file may be replaced, once the new one is complete.

    Returns:
        The path.

    Raises:
        ConfigError: The suffix is unknown.
        DataError: The Dataset is not canonical or not finite.
        SchemaError: The layout has no place for what the Dataset holds.
        OutputError: The path is taken, the disk is full or what was read back differs.
    """
    target = Path(path)
    if target.suffix not in (".hdf5", ".h5"):
        raise ConfigError(f"{path}: suffix is {target.suffix!r}, expected .hdf5 or .h5")
    check_target(target, overwrite)
    ds = canonical(ds)
    check_snapshots(ds, source=str(path))
    check_storable(ds, str(path))
    _check_fits(ds, str(path))
    require_space(target, ds.nbytes + ds.nbytes // 20 + 2**20)
    with atomic_file(target, overwrite) as temporary:
        with h5py.File(temporary, "w") as file:
            _write(file, ds, name or target.stem)
        with open_with(temporary, "well") as written:
            _verify(ds, written, str(path))
    return target


def _check_fits(ds: xr.Dataset, where: str) -> None:
    if lengths_of(ds) is not None:
        raise SchemaError(f"{where}: trajectories differ in length (n_steps), expected one. Write one file per length")
    if LATENT in ds.dims:
        raise SchemaError(
            f"{where}: holds latents, expected fields on a grid only. Drop them with ds.drop_dims('latent')"
        )


def _write(file: h5py.File, ds: xr.Dataset, name: str) -> None:
    space = space_of(ds)[::-1]  # x first
    file.attrs.update(dataset_name=name, grid_type="cartesian", n_spatial_dims=len(space))
    file.attrs["n_trajectories"] = ds.sizes[TRAJECTORY]
    _list_attr(file, "simulation_parameters", [])
    file.attrs[ROMVAE_FACTS] = json.dumps(_facts(ds))
    dimensions = file.create_group("dimensions")
    _list_attr(dimensions, "spatial_dims", space)
    for axis in (TIME, *space):
        dimensions[axis] = ds[axis].values
        dimensions[axis].attrs.update(sample_varying=False, time_varying=False)
    _write_boundaries(file, ds, space)
    _write_scalars(file, ds)
    groups = _grouped(ds, space)
    for order, group in enumerate(_GROUPS):
        _list_attr(file.create_group(group), "field_names", [label for label, (o, _) in groups.items() if o == order])
    for label, (order, components) in groups.items():
        _write_field(file[_GROUPS[order]], ds, label, components, space, order)


def _facts(ds: xr.Dataset) -> dict[str, Any]:
    """What the layout has no place for: attributes of the Dataset and its variables, and labels of trajectories."""
    kept = {TRAJECTORY, *parameters_of(ds), TIME, *space_of(ds)}
    labels = {str(n): c for n, c in ds.coords.items() if n not in kept or n == TRAJECTORY}
    return {
        "attrs": _plain(ds.attrs),
        "variables": {str(n): _plain(v.attrs) for n, v in ds.variables.items()},
        "labels": {n: _label(c) for n, c in labels.items()},
    }


def _label(c: xr.DataArray) -> dict[str, Any]:
    text = c.dtype.kind not in "fiu"
    return {"dims": list(c.dims), "dtype": "U" if text else c.dtype.str, "values": c.values.tolist()}


def _plain(attrs: dict[Any, Any]) -> dict[str, Any]:
    """Attributes for JSON; an array says its type, so that it comes back as one."""
    return {str(key): _plain_value(value) for key, value in attrs.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str}
    return value.item() if isinstance(value, np.generic) else value


def _list_attr(item: h5py.Group, key: str, values: Any) -> None:
    item.attrs.create(key, np.array(list(values), dtype=object), dtype=h5py.string_dtype())


def _write_boundaries(file: h5py.File, ds: xr.Dataset, space: tuple[str, ...]) -> None:
    file.create_group("boundary_conditions")
    declared = boundaries_of(ds)
    for axis in space:
        sides = [_KINDS[side.kind] for side in declared[axis]] if axis in declared else ["OPEN", "OPEN"]
        for kind in sorted(set(sides)):
            group = file.create_group(f"boundary_conditions/{axis}_{kind.lower()}")
            group.attrs.update(bc_type=kind, sample_varying=False, time_varying=False)
            _list_attr(group, "associated_dims", [axis])
            _list_attr(group, "associated_fields", [])
            mask = np.zeros(ds.sizes[axis], dtype=bool)
            mask[0], mask[-1] = sides[0] == kind or mask[0], sides[1] == kind
            if mask.size == 1:
                mask[0] = True
            group["mask"] = mask


def _write_scalars(file: h5py.File, ds: xr.Dataset) -> None:
    scalars = file.create_group("scalars")
    series = [name for name in statics_of(ds) if not set(ds[name].dims) & set(SPACE)]
    names = [*parameters_of(ds), *series]
    _list_attr(scalars, "field_names", names)
    for name in names:
        scalars[name] = ds[name].values
        by_sample, by_time = TRAJECTORY in ds[name].dims, TIME in ds[name].dims
        scalars[name].attrs.update(sample_varying=by_sample, time_varying=by_time)


def _grouped(ds: xr.Dataset, space: tuple[str, ...]) -> dict[str, tuple[int, list[str]]]:
    """Name in the file to tensor order and components; what is no complete vector or tensor stays a scalar."""
    found: dict[str, tuple[int, list[str]]] = {}
    names = [*fields_of(ds), *(n for n in statics_of(ds) if set(ds[n].dims) & set(SPACE))]
    for name in names:
        found.setdefault(name, (0, [name]))
    for order, key in ((1, "vector_name"), (2, "tensor_name")):
        for whole in dict.fromkeys(str(ds[n].attrs[key]) for n in names if key in ds[n].attrs):
            letters = ["".join(parts) for parts in itertools.product(space, repeat=order)]
            members = [f"{whole}_{text}" for text in letters]
            alike = all(n in names and ds[n].attrs.get(key) == whole for n in members)
            if whole not in found and alike and len({(ds[n].dims, ds[n].dtype) for n in members}) == 1:
                found = {n: entry for n, entry in found.items() if n not in members} | {whole: (order, members)}
    return found


def _write_field(
    group: h5py.Group, ds: xr.Dataset, label: str, components: list[str], space: tuple[str, ...], order: int
) -> None:
    variable = ds[components[0]]
    lead = [dim for dim in (TRAJECTORY, TIME) if dim in variable.dims]
    shape = [ds.sizes[dim] for dim in lead] + [ds.sizes[a] if a in variable.dims else 1 for a in space]
    tail = (len(space),) * order
    chunks = (*(1 for _ in lead), *shape[len(lead) :], *tail)
    data = group.create_dataset(label, (*shape, *tail), variable.dtype, chunks=chunks, fletcher32=True)
    data.attrs.update(sample_varying=TRAJECTORY in lead, time_varying=TIME in lead)
    data.attrs["dim_varying"] = np.array([axis in variable.dims for axis in space])
    if order == 2:
        kind = str(variable.attrs.get("tensor_symmetry", "none"))
        data.attrs.update(symmetric=kind == "symmetric", antisymmetric=kind == "antisymmetric")
    stored = [*lead, *(axis for axis in space if axis in variable.dims)]
    for index, name in zip(itertools.product(*(range(n) for n in tail)), components, strict=True):
        for chosen in blocks(ds, name):
            values = ds[name].isel(chosen).transpose(*stored).values
            where = tuple(chosen.get(dim, slice(None)) for dim in lead)
            rest = tuple(slice(None) if axis in variable.dims else 0 for axis in space)
            data[(*where, *rest, *index)] = values


def _verify(ds: xr.Dataset, written: xr.Dataset, where: str) -> None:
    """Compares what was read back with what was to be written, block by block."""
    if set(map(str, ds.variables)) != set(map(str, written.variables)):
        odd = sorted(set(map(str, ds.variables)) ^ set(map(str, written.variables)))[0]
        raise OutputError(
            f"{where}: {odd!r} is not in both what was written and what was read back. Nothing was written"
        )
    for name in map(str, ds.variables):
        meant, found = ds[name], written[name]
        same = meant.dims == found.dims and meant.shape == found.shape
        if not same or not all(_same(meant.isel(part).values, found.isel(part).values) for part in blocks(ds, name)):
            raise OutputError(f"{where}: {name!r} read back differs from what was written. Check the disk")


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
