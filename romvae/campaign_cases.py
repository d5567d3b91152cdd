"""Simulations of a case by the numbers of its draws, for a campaign that calls the case's own solver."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from romvae.canonical import TRAJECTORY
from romvae.errors import ConfigError
from romvae.schema import snapshots
from romvae.solvers import get_case

if TYPE_CHECKING:
    from romvae.solvers.base import Case

__all__ = ["campaign_case", "first_free", "simulated_draws", "starts_of_draws"]

TOGETHER = 16
"""Trajectories that the solver advances at once."""


def campaign_case(name: str) -> Case:
    """The case with its parameters at random, not on a grid for training; nothing is drawn.

    Raises:
        ConfigError: There is no such case, or it has an obstacle.
    """
    case = replace(get_case(name), plan=None)
    if case.solver(**{r.name: r.at(0.5) for r in case.ranges if not r.of_initial}).mask is not None:
        raise ConfigError(f"acquire: case {name} has an obstacle, which campaigns do not know. Use romvae simulate.")
    return case


def first_free(taken: Collection[int], n: int) -> np.ndarray:
    """The first n numbers of draws that are not taken: there is always another one.

    >>> first_free({0, 1, 3}, 3)
    array([2, 4, 5])
    """
    return np.fromiter(islice((i for i in count() if i not in taken), n), np.int64, n)


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
