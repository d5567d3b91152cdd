"""What a mapping adds to any layout: coordinates, parameters, units, boundary conditions, and the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from romvae.boundary import as_boundary
from romvae.canonical import MASK, MASK_ATTRS, TIME, space_of
from romvae.data.mapping import CoordinateEntry, FieldEntry, Mapping, ParameterEntry, StaticEntry
from romvae.data.readers.part import About, Part
from romvae.errors import ConfigError, SchemaError

__all__ = ["coordinate_values", "masked", "stated", "stated_parts"]


def stated(about: About, mapping: Mapping) -> About:
    """What the user says about units, boundary conditions, title and licence, on top of what the files say."""
    known = {name: {"long_name": e.long_name} for name, e in mapping.fields.items() if e.long_name is not None}
    sides = {
        axis: (as_boundary(pair[0], f"boundaries.{axis}: "), as_boundary(pair[1], f"boundaries.{axis}: "))
        for axis, pair in mapping.boundaries.items()
    }
    texts = {"title": mapping.title, "licence": mapping.licence}
    return replace(
        about,
        units={**about.units, **_stated_units(mapping), **mapping.units},
        attrs={**about.attrs, **known},
        boundaries={**about.boundaries, **sides},
        facts={**about.facts, **{key: text for key, text in texts.items() if text is not None}},
    )


def stated_parts(parts: Sequence[Part], mapping: Mapping) -> list[Part]:
    """Parts with the coordinates and parameters that the mapping states, joined in time if it says so."""
    changed = [_with_coordinates(part, mapping) for part in parts] if not mapping.generic else list(parts)
    changed = _with_parameters(changed, mapping)
    return [_continued(changed)] if mapping.along == "time" and len(changed) > 1 else changed


def coordinate_values(entry: CoordinateEntry, size: int, name: str) -> np.ndarray:
    """Coordinates that a mapping states as a list, or as start and step.

    Raises:
        ConfigError: The list has another length than the axis.
    """
    if entry.values is None:
        return float(entry.start or 0.0) + float(entry.step or 1.0) * np.arange(size)
    if len(entry.values) != size:
        raise ConfigError(
            f"coordinates.{name}: has {len(entry.values)} values, but the data have {size} points along it"
        )
    return np.asarray(entry.values, dtype=np.float64)


def masked(ds: xr.Dataset, mapping: Mapping, source: str) -> xr.Dataset:
    """Adds the variable `mask` where the mapping says that a field is NaN outside the domain.

    Raises:
        ConfigError: There is no such field.
    """
    if mapping.mask is None or mapping.mask.number_in is None:
        return ds
    name = mapping.mask.number_in
    if name not in ds.data_vars:
        raise ConfigError(
            f"mask.number_in = {name}: no such field in {source}, found {', '.join(map(str, ds.data_vars))}"
        )
    first = ds[name].isel({dim: 0 for dim in ds[name].dims if dim not in space_of(ds)})
    inside = np.isfinite(first.values).astype(np.int8)
    masked_ds = ds.assign({MASK: (first.dims, inside, MASK_ATTRS)})
    masked_ds.set_close(ds.close)
    return masked_ds


def _stated_units(mapping: Mapping) -> dict[str, str]:
    entries: dict[str, FieldEntry | StaticEntry | CoordinateEntry | ParameterEntry] = {}
    for group in (mapping.fields, mapping.coordinates, mapping.parameters, mapping.statics):
        entries.update(group)
    return {name: entry.units for name, entry in entries.items() if entry.units is not None}


def _with_coordinates(part: Part, mapping: Mapping) -> Part:
    times, axes = part.times, dict(part.axes)
    for name, entry in mapping.coordinates.items():
        if entry.path is not None:
            raise ConfigError(
                f"coordinates.{name}: reader {mapping.reader} finds its own arrays. State values, or start and step"
            )
        if not entry.given:
            continue
        if name == TIME:
            times = coordinate_values(entry, times.size, name)
        elif name in axes:
            axes[name] = coordinate_values(entry, axes[name].size, name)
        else:
            raise ConfigError(f"coordinates.{name}: the data have no such axis, found {', '.join(axes)}")
    return replace(part, times=times, axes=axes)


def _with_parameters(parts: Sequence[Part], mapping: Mapping) -> list[Part]:
    """Numbers are the same for all trajectories; lists are dealt out over the parts."""
    total, start, changed = sum(part.count for part in parts), 0, []
    for part in parts:
        added = {}
        for name, entry in mapping.parameters.items():
            if entry.value is None:
                if not mapping.generic:
                    raise ConfigError(f"parameters.{name}: reader {mapping.reader} finds its own. State a value")
                continue
            if isinstance(entry.value, list):
                if len(entry.value) != total:
                    raise ConfigError(
                        f"parameters.{name}: has {len(entry.value)} values, expected one for each of {total}"
                    )
                added[name] = np.asarray(entry.value[start : start + part.count])
            else:
                added[name] = np.full(part.count, entry.value)
        start += part.count
        changed.append(replace(part, parameters={**part.parameters, **added}))
    return changed


def _continued(parts: Sequence[Part]) -> Part:
    """Parts that follow each other in time, as one."""
    first = parts[0]
    for part in parts[1:]:
        same = sorted(part.fields) == sorted(first.fields) and part.count == first.count
        grid = all(np.array_equal(part.axes.get(a, np.zeros(0)), values) for a, values in first.axes.items())
        if not same or not grid:
            raise SchemaError(
                f"{part.where}: has other fields, trajectories or grid than {first.where}. Open them apart"
            )
    return replace(
        first,
        fields={name: [piece for part in parts for piece in part.fields[name]] for name in first.fields},
        times=np.concatenate([part.times for part in parts]),
        series={},
    )
