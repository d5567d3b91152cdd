"""Simulations of a case by the numbers of its draws, for a campaign that calls the case's own solver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from romvae.canonical import TRAJECTORY
from romvae.errors import DataError
from romvae.schema import snapshots

if TYPE_CHECKING:
    from romvae.solvers.base import Case

__all__ = ["simulated_draws", "starts_of_draws"]

TOGETHER = 16
"""Trajectories that the solver advances at once."""


def starts_of_draws(case: Case, numbers: np.ndarray, seed: int) -> xr.Dataset:
    """Initial fields and parameters of draws; nothing is simulated."""
    draws = [case.draw(int(i), seed) for i in numbers]
    return _as_dataset(case, draws, numbers, np.stack([d.u0 for d in draws])[:, None], case.times[:1])


def simulated_draws(case: Case, numbers: np.ndarray, seed: int, progress: Callable[..., None]) -> xr.Dataset:
    """Draws, simulated.

    Raises:
        NumericsError: The solver failed for one.
    """
    draws = [case.draw(int(i), seed) for i in numbers]
    kind, pieces = type(draws[0].solver), []
    for k in range(0, len(draws), TOGETHER):
        progress("simulate", k, len(draws), "")
        some = draws[k : k + TOGETHER]
        pieces.append(kind.solve_many([d.solver for d in some], np.stack([d.u0 for d in some]), case.times))
    progress("simulate", len(draws), len(draws), "")
    return _as_dataset(case, draws, numbers, np.concatenate(pieces), case.times)


def _as_dataset(case: Case, draws: Sequence[Any], numbers: np.ndarray, u: np.ndarray, times: Any) -> xr.Dataset:
    """Fields `(trajectory, time, field, *space)` of draws as a canonical Dataset."""
    solver = draws[0].solver
    if solver.mask is not None:
        raise DataError(f"acquire: case {case.name} has an obstacle, which campaigns do not know. Use romvae simulate.")
    rows = [{**draw.solver.parameters, **draw.parameters} for draw in draws]
    ds = snapshots(
        {f.name: u[:, :, k] for k, f in enumerate(solver.fields)},
        {axis.name: np.array(axis.coordinates) for axis in solver.grid.axes},
        times,
        {name: np.array([row[name] for row in rows]) for name in rows[0]},
        {axis.name: (axis.lower, axis.upper) for axis in solver.grid.axes},
        solver.units_of(rows[0]),
        {"case": case.name, "solver": solver.name, "equation": solver.equation},
    )
    return ds.assign_coords({TRAJECTORY: (TRAJECTORY, np.asarray(numbers, np.int64), ds[TRAJECTORY].attrs)})
