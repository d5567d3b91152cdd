"""What was simulated already: trajectories and starts are recognised by their content, not by their numbers or files.

Fields and parameters count in single precision, in which most stores keep them: the same simulation is recognised in
another format, under another name and in another order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import xarray as xr

from romvae.canonical import TIME, TRAJECTORY, canonical
from romvae.schema import Schema

__all__ = ["are_among", "fingerprints", "joined", "starts_of"]

SINGLE = 1e-6
"""How far apart equal numbers may be, as a fraction of the largest one: a few roundings in single precision."""
PROBES = 64
"""Points of a field that are compared before all others."""


def fingerprints(ds: xr.Dataset, schema: Schema) -> list[str]:
    """SHA-256 of the fields and parameters of every trajectory; grid and times are for `Schema.check` to compare."""
    ds = canonical(ds)
    parameters = _parameters(ds, schema).astype("<f4")
    found = []
    for i in range(ds.sizes[TRAJECTORY]):
        digest = hashlib.sha256(parameters[i].tobytes())
        for name in schema.field_names:
            digest.update(np.ascontiguousarray(ds[name].isel({TRAJECTORY: i}).values, dtype="<f4").tobytes())
        found.append(digest.hexdigest())
    return found


def starts_of(ds: xr.Dataset, schema: Schema) -> xr.Dataset:
    """The first snapshots, `(trajectory, *space)`, with nothing beside the fields, parameters and grid of a schema."""
    ds = canonical(ds)
    first = ds.isel({TIME: 0}, drop=True) if TIME in ds.dims else ds
    first = first[list(schema.field_names)]
    wanted = {TRAJECTORY, *schema.parameter_names}
    grid = {a.name: (a.name, np.array(a.coordinates), {"units": a.units}) for a in schema.grid.axes}
    return first.drop_vars([name for name in first.coords if name not in wanted]).assign_coords(grid)


def are_among(starts: xr.Dataset, known: xr.Dataset, schema: Schema) -> np.ndarray:
    """Whether each of the starts is known: the same parameters and the same initial fields, `(start,)`.

    Arguments:
        starts: As `starts_of` gives them.
        known: Likewise.
        schema: Which fields and parameters count.
    """
    own, theirs = _parameters(starts, schema), _parameters(known, schema)
    same = np.ones((len(own), len(theirs)), dtype=bool)
    for k in range(own.shape[1]):
        same &= _near(own[:, None, k], theirs[None, :, k], _scale(own[:, k], theirs[:, k]))
    for name in schema.field_names:
        u, v = (ds[name].values.reshape(ds.sizes[TRAJECTORY], schema.grid.points) for ds in (starts, known))
        scale, every = _scale(u, v), max(1, u.shape[1] // PROBES)
        for i in np.flatnonzero(same.any(1)):
            same[i] &= np.all(_near(u[i, None, ::every], v[:, ::every], scale), axis=1)
            for j in np.flatnonzero(same[i]):
                same[i, j] = np.all(_near(u[i], v[j], scale))
    return np.asarray(same.any(1))


def joined(pieces: Sequence[xr.Dataset]) -> xr.Dataset:
    """Trajectories one after the other."""
    whole: xr.Dataset = xr.concat(
        pieces,
        TRAJECTORY,
        join="exact",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        combine_attrs="override",
    )
    return whole


def _parameters(ds: xr.Dataset, schema: Schema) -> np.ndarray:
    """`(trajectory, parameter)`."""
    values = np.empty((ds.sizes[TRAJECTORY], len(schema.parameter_names)))
    for k, name in enumerate(schema.parameter_names):
        values[:, k] = ds[name].values
    return values


def _scale(one: np.ndarray, other: np.ndarray) -> float:
    return float(max(np.abs(one).max(initial=0.0), np.abs(other).max(initial=0.0)))


def _near(one: np.ndarray, other: np.ndarray, scale: float) -> np.ndarray:
    near: np.ndarray = np.abs(one.astype(float) - other.astype(float)) <= SINGLE * scale
    return near
