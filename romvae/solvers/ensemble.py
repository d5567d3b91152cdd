"""Simulates the ensemble of a case in memory: in blocks, on any number of processes with the same result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from romvae.solvers.arguments import count
from romvae.solvers.base import Case
from romvae.solvers.blocks import (
    SPLIT_PARTS,
    Block,
    Ensemble,
    FailedTrajectoriesError,
    Failure,
    Row,
    Solved,
    solve_block,
)
from romvae.solvers.cases import get_case
from romvae.solvers.discretisation import Difference, Doubt, compared, doubts, merged_error, unknown_error
from romvae.solvers.listing import typical_solver
from romvae.solvers.sampling import Design
from romvae.solvers.solved import solved_dataset
from romvae.tasks.shared import shared_out
from romvae.tasks.workers import LostWorkerError

__all__ = ["SPLIT_PARTS", "ensemble_bytes", "estimated_error", "failures_of", "simulate"]


def simulate(
    case: Case | str,
    n: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    design: Design = "random",
    scheduler: str | None = None,
    error_estimate: bool = False,
) -> xr.Dataset:
    """Solves a case for its random initial fields and parameters.

    Trajectory i depends on (seed, i) only: it has the same bits for every `n` and every number of workers. (With
    another `design` than `random`, its parameters depend on `n` too.) `simulate_to` does the same on disk and
    goes on after a kill.

    Arguments:
        case: A `Case` or the name of one of `CASES`.
        n: Number of trajectories; None takes the case's own.
        seed: Selects the ensemble.
        workers: Processes; None is one, in this process. More are started afresh ("spawn"), so that a script
            which asks for them needs the usual `if __name__ == "__main__":`, and a `Case` of one's own has to
            be picklable. One that is killed is replaced, and its block is solved again.
        progress: Called as `progress(done, total)` in trajectories, those of the error estimate included.
        design: How the parameters are placed in their ranges, see `romvae.solvers.sampled`.
        scheduler: Address of a Dask scheduler whose workers do the work, or `local` for a cluster of `workers`
            processes; needs `pip install 'romvae[dask]'`.
        error_estimate: Whether to solve three to five trajectories again, finer, and store the difference as
            the attribute that `reference_error` reads; this can cost as much as many more trajectories.

    Returns:
        The canonical Dataset: float32 fields `(trajectory, time, *space)`, parameters as coordinates,
        boundary conditions, and the solver with its settings in the attributes. A case with a split of its
        own adds the int8 coordinate `split`; a solver with a mask the int8 variable `mask`.

    Raises:
        ConfigError: The case is unknown or an argument is out of range.
        NumericsError: Trajectories failed; the message names each, its parameters and why.
    """
    ensemble = Ensemble.of(case, n, seed, design)
    n, workers = ensemble.n, 1 if workers is None else count("simulate", "workers", workers, 1)
    first = ensemble.draw(0).solver
    shape = (n, len(ensemble.case.times), *first.grid.shape)
    u = [np.empty(shape, dtype=np.float32) for _ in first.fields]
    rows: dict[int, Row] = {}
    failures: list[Failure] = []
    report = progress if progress is not None else lambda done, total: None
    report(0, n)
    for block, solved in shared_out(solve_block, ensemble.blocks(range(n), workers), workers, scheduler):
        for row in solved.rows if isinstance(solved, Solved) else ():
            for i, values in enumerate(u):
                values[row.index] = row.u[i]
            rows[row.index] = Row(row.index, row.u[:, :0], row.parameters, row.split)
        failures += failures_of(block, solved)
        report(len(rows) + len(failures), n)
    if failures:
        raise FailedTrajectoriesError(ensemble.where, failures, n, "romvae.solvers.simulate_to can leave them out")
    parameters = [rows[i].parameters for i in range(n)]
    error = None
    if error_estimate:
        error = estimated_error(
            ensemble, range(n), parameters, workers, scheduler, lambda done, more: report(n + done, n + more)
        )
    fields = {field.name: values for field, values in zip(first.fields, u, strict=True)}
    return solved_dataset(ensemble, range(n), fields, parameters, [rows[i].split for i in range(n)], error)


def ensemble_bytes(case: Case | str, n: int | None = None) -> int:
    """Bytes of the values that `simulate` gives, so that a full disk is known before anything is computed."""
    case = get_case(case) if isinstance(case, str) else case
    solver = typical_solver(case)
    n = case.n_trajectories if n is None else count("simulate", "n", n, 1)
    return 4 * n * len(case.times) * math.prod(solver.shape)


def failures_of(block: Block, solved: Solved | LostWorkerError) -> list[Failure]:
    """The trajectories of a block that were not solved, all of them where its workers were lost."""
    if isinstance(solved, Solved):
        return solved.failures
    return [
        Failure(index, {**draw.solver.parameters, **draw.parameters}, None, str(solved))
        for index, draw in block.draws().items()
    ]


def estimated_error(
    ensemble: Ensemble,
    indices: Sequence[int],
    parameters: Sequence[dict[str, float]],
    workers: int,
    scheduler: str | None,
    report: Callable[[int, int], None],
) -> dict[str, Any]:
    """What `reference_error` reads: a few trajectories against finer runs of themselves.

    Arguments:
        ensemble: What was solved.
        indices: The trajectories that were.
        parameters: Theirs.
        workers: Processes.
        scheduler: As in `simulate`.
        report: Called as `report(done, total)` in trajectories solved twice.
    """
    error = unknown_error(ensemble)
    if error is not None:
        return error
    tasks = doubts(ensemble, indices, parameters)
    report(0, len(tasks))
    found: list[Difference] = []
    for doubt, difference in shared_out(compared, tasks, workers, scheduler):
        found.append(difference if isinstance(difference, Difference) else _unknown(doubt, difference))
        report(len(found), len(tasks))
    return merged_error(ensemble, found)


def _unknown(doubt: Doubt, lost: LostWorkerError) -> Difference:
    none = np.zeros((0, 0))
    return Difference(doubt.index, none, none, str(lost))
