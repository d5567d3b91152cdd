"""Simulates the ensemble of a case: in blocks, on any number of processes with the same result."""

from __future__ import annotations

import json
import math
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from romvae.errors import ConfigError, NumericsError
from romvae.schema import TRAJECTORY, snapshots
from romvae.solvers.arguments import count, increasing_times
from romvae.solvers.base import Case, Draw, Solver
from romvae.solvers.cases import get_case
from romvae.version import __version__

__all__ = ["SPLIT_PARTS", "ensemble_bytes", "simulate"]

SPLIT_PARTS = ("train", "variance", "calibration", "test")
"""The parts of the data in the order of the codes 0 to 3 of the coordinate `split`."""

_BLOCK = 16  # trajectories advanced together: measured, 16 cost a fifth of one by one, and 64 no less than 16


@dataclass(frozen=True)
class _Block:
    """The trajectories `start`, `start + 1`, ... of an ensemble; `u` is `(row, time, field, *space)`."""

    start: int
    u: NDArray[np.float32]
    parameters: list[dict[str, float]]
    splits: list[str | None]


def simulate(
    case: Case | str,
    n: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Solves a case for its random initial fields and parameters.

    Trajectory i depends on (seed, i) only: it has the same bits for every `n` and every number of workers.

    Arguments:
        case: A `Case` or the name of one of `CASES`.
        n: Number of trajectories; None takes the case's own.
        seed: Selects the ensemble.
        workers: Processes; None is one, in this process. More are started afresh ("spawn"), so that a script
            which asks for them needs the usual `if __name__ == "__main__":`, and a `Case` of one's own has to
            be picklable.
        progress: Called as `progress(done, total)` in trajectories.

    Returns:
        The canonical Dataset: float32 fields `(trajectory, time, *space)`, parameters as coordinates,
        boundary conditions, and the solver with its settings in the attributes. A case with a split of its
        own adds the int8 coordinate `split`.

    Raises:
        ConfigError: The case is unknown or an argument is out of range.
        NumericsError: A trajectory failed; the message names its number, its parameters and why.
    """
    case = get_case(case) if isinstance(case, str) else case
    n = case.n_trajectories if n is None else count("simulate", "n", n, 1)
    seed = count("simulate", "seed", seed, 0)
    workers = 1 if workers is None else count("simulate", "workers", workers, 1)
    times = increasing_times(f"case {case.name}", case.times)
    first = case.draw(0, seed).solver
    fields = {field.name: np.empty((n, times.size, *first.grid.shape), dtype=np.float32) for field in first.fields}
    parameters: list[dict[str, float]] = [{}] * n
    splits: list[str | None] = [None] * n
    done = 0
    for block in _solved(case, n, seed, workers):
        rows = slice(block.start, block.start + len(block.splits))
        for i, name in enumerate(fields):
            fields[name][rows] = block.u[:, :, i]
        parameters[rows], splits[rows] = block.parameters, block.splits
        done += len(block.splits)
        if progress is not None:
            progress(done, n)
    return _dataset(case, seed, first, fields, parameters, splits)


def ensemble_bytes(case: Case | str, n: int | None = None) -> int:
    """Bytes of the values that `simulate` gives, so that a full disk is known before anything is computed."""
    case = get_case(case) if isinstance(case, str) else case
    solver = case.draw(0).solver
    n = case.n_trajectories if n is None else count("simulate", "n", n, 1)
    return 4 * n * len(case.times) * math.prod(solver.shape)


def _solved(case: Case, n: int, seed: int, workers: int) -> Iterator[_Block]:
    """The blocks in any order."""
    starts = range(0, n, _BLOCK)
    if min(workers, len(starts)) == 1:
        yield from (_solve_block(case, seed, start, min(start + _BLOCK, n)) for start in starts)
        return
    with _interrupts_held():
        pool = ProcessPoolExecutor(min(workers, len(starts)), mp_context=multiprocessing.get_context("spawn"))
    try:
        with _interrupts_held():
            waiting = [pool.submit(_solve_block, case, seed, start, min(start + _BLOCK, n)) for start in starts]
        for future in as_completed(waiting):
            yield future.result()
    except BrokenProcessPool as error:
        raise NumericsError(
            f"case {case.name}: a worker process ended early, for want of memory or because the calling "
            'script lacks `if __name__ == "__main__":`. Use workers=1'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds Ctrl-C back for a moment; processes started meanwhile leave it to this one for good.

    Otherwise every worker answers it with a traceback of its own. Windows has no such mask.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _solve_block(case: Case, seed: int, start: int, stop: int) -> _Block:
    draws = [case.draw(index, seed) for index in range(start, stop)]
    _check_alike(case, draws)
    solver = type(draws[0].solver)
    # A short last block is filled up: the arrays that a trajectory is part of always have the same shape, so
    # that no vectorised loop can treat it differently.
    filled = draws + draws[-1:] * (_BLOCK - len(draws)) if solver.batched else draws
    try:
        u = solver.solve_many([d.solver for d in filled], np.stack([d.u0 for d in filled]), case.times)
    except NumericsError as error:
        raise NumericsError(f"case {case.name}, seed {seed}, trajectories {start} to {stop - 1}: {error}") from error
    return _Block(
        start,
        u[: len(draws)].astype(np.float32),
        [{**d.solver.parameters, **d.parameters} for d in draws],
        [d.split for d in draws],
    )


def _check_alike(case: Case, draws: Sequence[Draw]) -> None:
    """All trajectories of a Dataset share solver, grid, parameter names and whether they know their part."""
    reference = case.draw(0).solver
    names = {*draws[0].solver.parameters, *draws[0].parameters}
    for draw in draws:
        if type(draw.solver) is not type(reference) or draw.solver.grid != reference.grid:
            raise ConfigError(f"case {case.name}: trajectories have different solvers or grids; use one for all")
        if {*draw.solver.parameters, *draw.parameters} != names:
            raise ConfigError(f"case {case.name}: trajectories have different parameters; store the same for all")
        if draw.split is not None and draw.split not in SPLIT_PARTS:
            raise ConfigError(f"case {case.name}: split is {draw.split!r}, expected one of {', '.join(SPLIT_PARTS)}")


def _dataset(
    case: Case,
    seed: int,
    solver: Solver,
    fields: dict[str, NDArray[np.float32]],
    parameters: Sequence[dict[str, float]],
    splits: Sequence[str | None],
) -> xr.Dataset:
    units = {**solver.units, **{field.name: field.units for field in solver.fields}}
    attrs: dict[str, Any] = {
        "title": case.description,
        "source": f"romvae {__version__}, case {case.name}",
        "case": case.name,
        "seed": seed,
        "solver": solver.name,
        "equation": solver.equation,
        "solver_settings": json.dumps(solver.settings),
    }
    ds = snapshots(
        fields,
        {axis.name: np.array(axis.coordinates) for axis in solver.grid.axes},
        case.times,
        {name: np.array([row[name] for row in parameters]) for name in parameters[0]},
        {axis.name: (axis.lower, axis.upper) for axis in solver.grid.axes},
        units,
        attrs,
    )
    for field in solver.fields:
        ds[field.name].attrs["long_name"] = field.long_name or field.name
    if None in splits:
        return ds
    codes = np.array([SPLIT_PARTS.index(str(part)) for part in splits], dtype=np.int8)
    meaning = {
        "flag_values": np.arange(len(SPLIT_PARTS), dtype=np.int8),
        "flag_meanings": " ".join(SPLIT_PARTS),
    }
    return ds.assign_coords(split=(TRAJECTORY, codes, meaning))
