"""The canonical Dataset of a solved ensemble, from arrays in memory or on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from romvae.canonical import MASK, MASK_ATTRS
from romvae.schema import TRAJECTORY, snapshots
from romvae.solvers.base import Solver
from romvae.solvers.blocks import SPLIT_PARTS, Ensemble
from romvae.version import __version__

__all__ = ["solved_dataset"]


def solved_dataset(
    ensemble: Ensemble,
    indices: Sequence[int],
    fields: Mapping[str, Any],
    parameters: Sequence[Mapping[str, float]],
    splits: Sequence[str | None],
    error: Mapping[str, Any] | None = None,
    failed: Sequence[int] = (),
) -> xr.Dataset:
    """Fields, coordinates and attributes, as `romvae.schema.snapshots` lays them out.

    Arguments:
        ensemble: What was solved.
        indices: Numbers of the trajectories that are there; they become the coordinate `trajectory`.
        fields: Name to float32 values `(trajectory, time, *space)`: an array, or what xarray wraps lazily.
        parameters: Of every trajectory.
        splits: Part of the data of every trajectory, or None.
        error: What is known of the discretisation error, for the attribute `reference_error`.
        failed: Trajectories that could not be solved and were left out.
    """
    case, solver = ensemble.case, ensemble.draw(0).solver
    shape = (len(indices), len(case.times), *solver.grid.shape)
    # Stand-ins without memory: `snapshots` would load what is still on disk.
    empty = {field.name: np.broadcast_to(np.float32(0), shape) for field in solver.fields}
    ds = snapshots(
        empty,
        {axis.name: np.array(axis.coordinates) for axis in solver.grid.axes},
        case.times,
        {name: np.array([row[name] for row in parameters]) for name in parameters[0]},
        {axis.name: (axis.lower, axis.upper) for axis in solver.grid.axes},
        solver.units_of(parameters[0]),
        _attributes(ensemble, solver, error, failed),
    )
    about = {field.name: {**ds[field.name].attrs, **field.attrs} for field in solver.fields}
    ds = ds.assign({name: xr.Variable(ds[name].dims, fields[name], about[name]) for name in about})
    ds = ds.assign_coords({TRAJECTORY: (TRAJECTORY, np.asarray(indices, dtype=np.int64), ds[TRAJECTORY].attrs)})
    if solver.mask is not None:
        ds = ds.assign({MASK: _mask(solver)})
    return ds if None in splits else ds.assign_coords(split=_split(splits))


def _attributes(
    ensemble: Ensemble, solver: Solver, error: Mapping[str, Any] | None, failed: Sequence[int]
) -> dict[str, Any]:
    case = ensemble.case
    attrs: dict[str, Any] = {
        "title": case.description,
        "source": f"romvae {__version__}, case {case.name}",
        "case": case.name,
        "seed": ensemble.seed,
        "design": ensemble.design,
        "solver": solver.name,
        "equation": solver.equation,
        "scheme": solver.scheme,
        "solver_settings": json.dumps(solver.settings),
    }
    if solver.symmetries:
        attrs["symmetries"] = json.dumps(list(solver.symmetries))
    if failed:
        attrs["failed_trajectories"] = json.dumps(sorted(failed))
    if error is not None:
        attrs["reference_error"] = json.dumps(error)
    return attrs


def _mask(solver: Solver) -> xr.Variable:
    return xr.Variable(solver.grid.names, np.asarray(solver.mask, dtype=np.int8), MASK_ATTRS)


def _split(splits: Sequence[str | None]) -> xr.Variable:
    codes = np.array([SPLIT_PARTS.index(str(part)) for part in splits], dtype=np.int8)
    about = {
        "flag_values": np.arange(len(SPLIT_PARTS), dtype=np.int8),
        "flag_meanings": " ".join(SPLIT_PARTS),
    }
    return xr.Variable((TRAJECTORY,), codes, about)
