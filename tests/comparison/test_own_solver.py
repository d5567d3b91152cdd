"""A function as the reference: with cheaper versions there is equal accuracy, without them nobody claims it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

from romvae.boundary import Boundary
from romvae.cost import Workload, cheapest, sweep
from romvae.cost.coarser import maker_of
from romvae.grid import Axis, Grid
from romvae.solvers import Case, FunctionSolver, Range, equidistant
from romvae.solvers.base import Array, Solver

PERIODIC = Boundary("periodic")
GRID = Grid((Axis("x", tuple(np.arange(8) / 8), "1", PERIODIC, PERIODIC),))
TIMES = np.linspace(0.0, 1.0, 13)
WORK: list[float] = []
"""What the calls of `line` cost, one entry each: the clock of these tests."""


def line(u0: Array, parameters: Mapping[str, float], times: Array, error: float = 0.0, cost: float = 16.0) -> Array:
    """u = 1 + e t, exact for every interpolation in time."""
    WORK.append(cost)
    return u0 + error * (times - times[0]).reshape(-1, 1, 1)


COARSER = [partial(line, error=e, cost=c) for e, c in ((0.001, 8.0), (0.01, 4.0), (0.1, 2.0), (1.0, 1.0))]


@pytest.fixture(autouse=True)
def _from_zero() -> None:
    WORK.clear()


def case(**options: Any) -> Case:
    solver = partial(FunctionSolver, line, ["u"], GRID, **options)
    return Case("line", "A line", solver, equidistant(1.0, 13), 4, (Range("slope", 1.0, 2.0),))


def workload(reference: Case | Solver) -> Workload:
    solver = reference.solver(slope=1.0) if isinstance(reference, Case) else reference
    return Workload(maker_of(reference), (solver,), ({"slope": 1.0},), np.ones((1, 13, 1, 8)), TIMES, GRID)


@pytest.mark.parametrize("bare", [False, True])
def test_without_cheaper_versions_the_solver_is_run_as_it_is_and_that_is_said(bare: bool) -> None:
    found = sweep(workload(FunctionSolver(line, ["u"], GRID) if bare else case()), [0.02], clock=lambda: sum(WORK))
    assert found.complete
    assert not found.coarsened
    assert {repr(run.settings) for run in found.runs} == {"{}"}


@pytest.mark.parametrize(("target", "cost"), [(0.0001, 16.0), (0.002, 8.0), (0.02, 4.0), (0.2, 2.0), (2.0, 1.0)])
@pytest.mark.parametrize("bare", [False, True])
def test_of_the_cheaper_versions_the_cheapest_that_is_accurate_enough_is_found(bare, target, cost) -> None:
    reference = FunctionSolver(line, ["u"], GRID, coarser=COARSER) if bare else case(coarser=COARSER)
    found = sweep(workload(reference), [target], cap=math.inf, clock=lambda: sum(WORK))
    best = cheapest(found, target)
    assert found.coarsened
    assert best is not None
    assert best.error <= target
    assert best.seconds == cost


def test_versions_that_are_not_tried_for_want_of_time_are_known_all_the_same() -> None:
    found = sweep(workload(case(coarser=COARSER)), [0.02], cap=0.0, clock=lambda: sum(WORK))
    assert (found.complete, found.coarsened) == (False, True)
    assert [run.settings for run in found.runs] == [{}]


def test_versions_are_named_by_what_was_fixed_and_each_once() -> None:
    solver = FunctionSolver(line, ["u"], GRID, coarser=[*COARSER[:1], line, line], slope=2.0)
    versions = solver.coarsened()
    assert list(versions) == ["line, error = 0.001, cost = 8.0", "line", "line, number 3"]
    for each in versions.values():
        assert each.grid == GRID
        assert each.parameters == {"slope": 2.0}
        assert each.coarsened() == {}
    assert solver.coarsened().keys() == versions.keys()  # the solver itself is as it was
    assert FunctionSolver(line, ["u"], GRID).coarsened() == {}
