"""Ensembles in blocks of trajectories that are solved together, and what becomes of one that fails."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from romvae.errors import ConfigError, NumericsError
from romvae.solvers.arguments import count, increasing_times
from romvae.solvers.base import Case, Draw, Solver
from romvae.solvers.cases import get_case
from romvae.solvers.sampling import Design, sampled
from romvae.tasks.failures import FailedTrajectoriesError, Failure

__all__ = ["SPLIT_PARTS", "Block", "Ensemble", "FailedTrajectoriesError", "Failure", "Row", "Solved", "solve_block"]

SPLIT_PARTS = ("train", "variance", "calibration", "test")
"""The parts of the data in the order of the codes 0 to 3 of the coordinate `split`."""

_TOGETHER = 16  # trajectories advanced together: measured, 16 cost a fifth of one by one, and 64 no less than 16
_BLOCK_BYTES = 2**29  # of the float64 solution of a block, which a worker holds in memory
_TASKS = 16  # per worker, at least, where trajectories are solved one by one


@dataclass(frozen=True)
class Block:
    """Trajectories of an ensemble to be solved in one go.

    Arguments:
        case: The problem.
        seed: Selects the ensemble.
        start: First trajectory of the block; trajectory i has the place i - `start` in the arrays.
        size: Places in the arrays.
        indices: The trajectories wanted.
        values: Their parameters, where a design has placed them.
    """

    case: Case
    seed: int
    start: int
    size: int
    indices: tuple[int, ...]
    values: tuple[Mapping[str, float], ...] | None = None

    def draws(self) -> dict[int, Draw]:
        """The trajectories wanted, by their number."""
        placed: Sequence[Mapping[str, float] | None] = self.values or [None] * len(self.indices)
        return {
            index: self.case.draw(index, self.seed, values=values)
            for index, values in zip(self.indices, placed, strict=True)
        }


@dataclass(frozen=True)
class Row:
    """A solved trajectory; `u` is float32 `(field, time, *space)`."""

    index: int
    u: NDArray[np.float32]
    parameters: dict[str, float]
    split: str | None


@dataclass(frozen=True)
class Solved:
    """What came of a block."""

    rows: list[Row]
    failures: list[Failure]


@dataclass(frozen=True)
class Ensemble:
    """What is to be simulated: every trajectory follows from these facts and its number.

    Arguments:
        case: The problem.
        n: Number of trajectories.
        seed: Selects the ensemble.
        design: How the parameters are placed.
    """

    case: Case
    n: int
    seed: int = 0
    design: Design = "random"
    values: list[dict[str, float]] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, case: Case | str, n: int | None = None, seed: int = 0, design: Design = "random") -> Ensemble:
        """Checks the arguments of `romvae.solvers.simulate`.

        Raises:
            ConfigError: The case or the design is unknown, or an argument is out of range.
        """
        case = get_case(case) if isinstance(case, str) else case
        n = case.n_trajectories if n is None else count("simulate", "n", n, 1)
        seed = count("simulate", "seed", seed, 0)
        increasing_times(f"case {case.name}", case.times)
        return cls(case, n, seed, design, sampled(case, n, seed, design))

    @property
    def where(self) -> str:
        """For messages."""
        return f"case {self.case.name}, seed {self.seed}"

    def draw(self, index: int) -> Draw:
        """Trajectory number `index`."""
        return self.case.draw(index, self.seed, values=None if self.values is None else self.values[index])

    def blocks(self, wanted: Sequence[int], workers: int = 1) -> list[Block]:
        """The trajectories wanted, in blocks that do not depend on which others are.

        A solver that advances trajectories one by one gives the same bits in blocks of any size: those are
        chosen so that all workers are busy to the end and progress is seen.
        """
        solver = self.draw(0).solver
        size = together(solver, len(self.case.times))
        shared = _in_blocks(solver)
        per_task = size if shared else max(1, min(size, len(wanted) // (_TASKS * workers)))
        groups: dict[int, list[int]] = {}
        for place, index in enumerate(sorted(wanted)):
            groups.setdefault((index if shared else place) // per_task, []).append(index)
        return [self._block(indices, size if shared else 1) for indices in groups.values()]

    def _block(self, indices: list[int], size: int) -> Block:
        values = None if self.values is None else tuple(self.values[index] for index in indices)
        return Block(self.case, self.seed, indices[0] // size * size, size, tuple(indices), values)


def _in_blocks(solver: Solver) -> bool:
    """Whether trajectories of an ensemble are advanced together."""
    return solver.batched and solver.batched_ensembles


def together(solver: Solver, times: int) -> int:
    """Trajectories that are advanced together: 16, or fewer where their solution would not fit in memory."""
    most = max(1, _BLOCK_BYTES // (8 * times * math.prod(solver.shape)))
    return min(_TOGETHER, 2 ** int(math.log2(most)))


def solve_block(block: Block, keep: Callable[[Row], bool] | None = None) -> Solved:
    """Solves a block; trajectories that fail are sorted out, and the others have the bits they would have without.

    Arguments:
        block: The trajectories.
        keep: Takes each as soon as it is solved; those for which it gives True are left out of the result.

    Raises:
        ConfigError: The draws do not fit together.
    """
    draws = block.draws()
    _check_alike(block.case, list(draws.values()))
    together = _in_blocks(next(iter(draws.values())).solver)
    rows, failures = [], []
    for solved in [_solve_together(block, draws)] if together else _one_by_one(block, draws):
        rows += [row for row in solved.rows if keep is None or not keep(row)]
        failures += solved.failures
    return Solved(rows, failures)


def _one_by_one(block: Block, draws: Mapping[int, Draw]) -> Iterator[Solved]:
    for index, draw in draws.items():
        try:
            row = _row(index, draw, draw.solver.solve(draw.u0, block.case.times))
        except NumericsError as error:
            yield Solved([], [_failure(index, draw, error)])
        else:
            yield Solved([row], [])


def _solve_together(block: Block, draws: Mapping[int, Draw]) -> Solved:
    """All draws at their places in arrays of always the same shape; halves where one of them fails.

    Places that are not wanted are filled with a trajectory that is, so that no vectorised loop can treat a
    trajectory differently for want of its neighbours.
    """
    filler = next(iter(draws.values()))
    placed = [draws.get(block.start + place, filler) for place in range(block.size)]
    solver = type(filler.solver)
    try:
        u = solver.solve_many([d.solver for d in placed], np.stack([d.u0 for d in placed]), block.case.times)
    except NumericsError as error:
        if len(draws) == 1:
            return Solved([], [_failure(index, draw, error) for index, draw in draws.items()])
        indices = sorted(draws)
        middle = len(indices) // 2
        parts = [_solve_together(block, {i: draws[i] for i in half}) for half in (indices[:middle], indices[middle:])]
        return Solved([r for part in parts for r in part.rows], [f for part in parts for f in part.failures])
    return Solved([_row(index, draw, u[index - block.start]) for index, draw in draws.items()], [])


def _row(index: int, draw: Draw, u: NDArray[np.float64]) -> Row:
    return Row(index, np.swapaxes(u, 0, 1).astype(np.float32), _parameters(draw), draw.split)


def _failure(index: int, draw: Draw, error: NumericsError) -> Failure:
    found = re.search(r"failed at t=([-+.\w]+)", str(error))  # as `Solver.failed` words it
    return Failure(index, _parameters(draw), float(found[1]) if found else None, str(error))


def _parameters(draw: Draw) -> dict[str, float]:
    return {**draw.solver.parameters, **draw.parameters}


def _check_alike(case: Case, draws: Sequence[Draw]) -> None:
    """All trajectories of a Dataset share solver, grid, parameter names and whether they know their part."""
    reference = case.draw(0)
    names = set(_parameters(reference))
    for draw in draws:
        if type(draw.solver) is not type(reference.solver) or draw.solver.grid != reference.solver.grid:
            raise ConfigError(f"case {case.name}: trajectories have different solvers or grids; use one for all")
        if set(_parameters(draw)) != names:
            raise ConfigError(f"case {case.name}: trajectories have different parameters; store the same for all")
        if draw.split is not None and draw.split not in SPLIT_PARTS:
            raise ConfigError(f"case {case.name}: split is {draw.split!r}, expected one of {', '.join(SPLIT_PARTS)}")
