"""The work that ROM and solver are timed at: some held-out trajectories, delivered at all stored times and points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from romvae.cost.coarser import Maker, buildable, maker_of
from romvae.cost.regrid import regrid
from romvae.grid import Grid
from romvae.schema import TIME, TRAJECTORY
from romvae.solvers.base import Case, Solver

__all__ = ["VERSION", "Workload"]

Array = NDArray[np.float64]
VERSION: Final = "coarser"
"""The setting that names one of a solver's own cheaper versions, see `Solver.coarsened`."""
_ORDERS: Final[tuple[Literal["smooth", "linear"], ...]] = ("smooth", "linear")


@dataclass(frozen=True)
class Workload:
    """Initial fields and parameters of held-out trajectories, and the truth that a run is measured against.

    Arguments:
        maker: Makes a solver from parameters and settings; None where only `solvers` themselves can be run.
        solvers: One per trajectory, with the settings of the reference.
        parameters: Of each trajectory, as the maker's keyword arguments.
        truth: `(trajectory, time, field, *space)`, the initial time among them.
        times: Stored times.
        grid: Of the data.
        mask: Points that count, `(*space)`; None where all do.
    """

    maker: Maker | None
    solvers: tuple[Solver, ...]
    parameters: tuple[Mapping[str, float], ...]
    truth: Array
    times: Array
    grid: Grid
    mask: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls, reference: Case | Solver, test: xr.Dataset, grid: Grid, mask: NDArray[np.bool_] | None = None
    ) -> Workload | str:
        """The workload of these trajectories, or why the reference cannot be run on them.

        Arguments:
            reference: A case, whose solver is made for each trajectory's parameters, or one solver for all.
            test: Trajectories in canonical form, with the case's parameters as coordinates.
            grid: Theirs.
            mask: Points that count.
        """
        count = test.sizes[TRAJECTORY]
        rows: list[dict[str, float]] = [{} for _ in range(count)]
        if isinstance(reference, Case):
            names = [r.name for r in reference.ranges if not r.of_initial]
            missing = [name for name in names if name not in test.coords]
            if missing:
                return f"the data do not tell the parameter {missing[0]}, which the solver of {reference.name} needs"
            rows = [{name: float(test[name].values[i]) for name in names} for i in range(count)]
            solvers = tuple(reference.solver(**row) for row in rows)
        else:
            solvers = (reference,) * count
        own = solvers[0]
        fields = [f.name for f in own.fields]
        absent = [name for name in fields if name not in test]
        if absent or own.grid.ndim != grid.ndim:
            what = f"the field {absent[0]}" if absent else f"{own.grid.ndim} dimensions"
            return f"the data do not have {what}, which the solver {own.name} computes"
        dims = (TRAJECTORY, TIME, *grid.names)
        truth = np.stack([np.asarray(test[name].transpose(*dims).values, dtype=np.float64) for name in fields], axis=2)
        times = np.asarray(test[TIME].values, dtype=np.float64)
        return cls(maker_of(reference), solvers, tuple(rows), truth, times, grid, mask)

    @property
    def trajectories(self) -> int:
        """How many there are."""
        return len(self.solvers)

    def made(self, settings: Mapping[str, Any]) -> list[Solver] | None:
        """Solvers of all trajectories with these settings, allowed to be inaccurate; None where they are refused."""
        if not settings:
            return list(self.solvers)
        if VERSION in settings:
            solvers: list[Solver | None] = [each.coarsened().get(settings[VERSION]) for each in self.solvers]
        elif self.maker is None:
            return None
        else:
            solvers = [buildable(self.maker, row, settings) for row in self.parameters]
        found = []
        for solver in solvers:
            if solver is None:
                return None
            solver.unresolved_allowed = True  # inaccurate on purpose: the error is measured here
            found.append(solver)
        return found

    def delivered(self, solvers: Sequence[Solver], rows: Sequence[int], every: int, linear: bool, many: bool) -> Array:
        """Solutions on the grid and at the times of the data, `(row, time, field, *space)`.

        Arguments:
            solvers: One for each trajectory.
            rows: Which trajectories; repetitions are allowed.
            every: The solver is asked for every so many stored times; a cubic spline gives those in between.
            linear: Whether another grid's values are interpolated linearly.
            many: All at once instead of one by one.

        Raises:
            NumericsError: A computation failed.
        """
        chosen = [solvers[i] for i in rows]
        own, order = chosen[0].grid, _ORDERS[linear]
        start = regrid(self.truth[list(rows), 0], self.grid, own, order)
        known = np.unique([*range(0, self.times.size, every), self.times.size - 1])
        if many:
            u = type(chosen[0]).solve_many(chosen, start, self.times[known])
        else:
            u = np.stack([each.solve(first, self.times[known]) for each, first in zip(chosen, start, strict=True)])
        u = regrid(u, own, self.grid, order)
        return u if every == 1 else CubicSpline(self.times[known], u, axis=1)(self.times)

    def error(self, u: Array, rows: Sequence[int]) -> float:
        """Relative L2 error of a result of `delivered`, pooled as the ROM's is; the initial time does not count."""
        truth, found = self.truth[list(rows), 1:], u[:, 1:]
        if self.mask is not None:
            truth, found = truth[..., self.mask], found[..., self.mask]
        rest = (0, 1, *range(3, truth.ndim))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            ratio = ((found - truth) ** 2).sum(rest) / (truth**2).sum(rest)
        value = float(np.sqrt(ratio.mean()))
        return value if np.isfinite(value) else float("inf")
