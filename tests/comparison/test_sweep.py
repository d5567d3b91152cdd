"""The search for the cheapest accurate run, on solvers whose cost and error are formulas, with a clock of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from romvae.boundary import Boundary
from romvae.cost import Run, Workload, cheapest, sweep
from romvae.cost.coarser import Knobs, buildable, nearest
from romvae.cost.sweep import SHARES
from romvae.errors import ConfigError
from romvae.grid import Axis, Grid
from romvae.schema import Field
from romvae.solvers import CASES, get_case
from romvae.solvers.base import Array, Solver

TIMES = np.linspace(0.0, 1.0, 13)
DOUBLINGS = [k / 2 for k in range(13)]


@dataclass
class Law:
    """What a run costs and how wrong it is, and a clock that only its runs move on.

    Arguments:
        error: Of stored points and internal points along the longest axis, and of the step (0 where there is none).
        cost: Of the same.
        own: Points, internal points per point, and step, of the solver as it is.
        refuses: Sizes that the solver does not accept.
    """

    error: Callable[[int, int, float], float]
    cost: Callable[[int, int, float], float]
    own: tuple[tuple[int, ...], int, float | None] = ((32, 96), 3, None)
    refuses: Callable[[Sequence[int]], bool] = lambda points: False
    now: float = 0.0
    made: list[tuple[int, ...]] = field(default_factory=list)

    def clock(self) -> float:
        """Seconds that all runs took."""
        return self.now


class Formula(Solver):
    """u = 1 + e t for an error e that is known: every interpolation in space and time is exact for that."""

    name: ClassVar[str] = "formula"
    equation: ClassVar[str] = "u_t = e"
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "value"),)

    def __init__(
        self, law: Law, points: Sequence[int] = (32, 96), refinement: int = 3, step: float | None = None
    ) -> None:
        if law.refuses(points) or min(points) < 8:
            raise ConfigError(f"points are {points}")
        law.made.append(tuple(points))
        self.law, self.points, self.refinement, self.step = law, tuple(points), refinement, step
        wall = Boundary("wall")
        axes = [Axis(n, tuple((np.arange(k) + 0.5) / k), "1", wall, wall) for n, k in zip("yx", points, strict=True)]
        self.grid = Grid(tuple(axes))
        self.parameters = {}

    def initial(self, rng: np.random.Generator) -> Array:
        return np.ones(self.shape)

    def _integrate(self, u0: Array, times: Array) -> Array:
        sizes = (max(self.points), max(self.points) * self.refinement, self.step or 0.0)
        self.law.now += self.law.cost(*sizes)
        return u0 + self.law.error(*sizes) * times.reshape(-1, 1, 1, 1)


def workload(law: Law) -> Workload:
    points, refinement, step = law.own
    maker = partial(Formula, law, points=points, refinement=refinement, step=step)
    solver = maker()
    truth = np.ones((1, TIMES.size, 1, *points))
    return Workload(maker, (solver,), ({},), truth, TIMES, solver.grid)


def least(law: Law, target: float) -> float:
    """The cost of the cheapest accurate run, from trying every size that is accepted, and every step."""
    points, most, step = law.own
    steps = [0.0] if step is None else [step * 2**k for k in DOUBLINGS]
    costs = []
    for n in range(8, max(points) + 1):
        size = tuple(round(each * n / max(points)) for each in points)
        if law.refuses(size) or min(size) < 8:
            continue
        runs = [(n, n * cells, dt) for cells in range(1, most + 1) for dt in steps]
        costs += [law.cost(*run) for run in runs if _relative(law.error(*run)) <= target]
    return min(costs)


def _relative(error: float) -> float:
    """Of 1 + e t against 1."""
    return error * math.sqrt(float((TIMES[1:] ** 2).mean()))


def block(points: Sequence[int]) -> bool:
    """Whether a block with edges at multiples of an eighth across and a twelfth along cuts a cell."""
    return bool(points[0] % 8 or points[1] % 12)


LAWS: dict[str, Callable[[], Law]] = {
    "own step, internal cells alone": lambda: Law(lambda n, m, dt: 100 / m**2, lambda n, m, dt: 1e-7 * m**3),
    "own step, both grids": lambda: Law(lambda n, m, dt: 20 / n**2 + 30 / m**1.5, lambda n, m, dt: 1e-7 * m**3),
    "stored points are dear": lambda: Law(lambda n, m, dt: 3 / m, lambda n, m, dt: 1e-7 * m**2 + 1e-5 * n**2),
    "a block, one cell per point": lambda: Law(
        lambda n, m, dt: 100 / n**2, lambda n, m, dt: 1e-6 * n**3, ((64, 192), 1, None), block
    ),
    "a block, cells per point": lambda: Law(
        lambda n, m, dt: 10 / n**1.5 + 10 / m**1.5, lambda n, m, dt: 1e-7 * m**3, ((32, 96), 4, None), block
    ),
    "step of first order": lambda: Law(
        lambda n, m, dt: 40 / m**2 + 2 * dt, lambda n, m, dt: 1e-7 * m**2 / dt, ((16, 48), 2, 1e-3)
    ),
    "step of fourth order": lambda: Law(
        lambda n, m, dt: 2 / m + 300 * dt**4, lambda n, m, dt: 1e-7 * m**2 / dt, ((24, 72), 3, 2e-3)
    ),
    "too long a step is unstable": lambda: Law(
        lambda n, m, dt: 2 / m if dt < 0.6 / m else 1e3, lambda n, m, dt: 1e-7 * m**2 / dt, ((24, 72), 2, 1e-3)
    ),
}


@pytest.mark.parametrize("target", [0.1, 0.036, 0.012])
@pytest.mark.parametrize("name", LAWS)
def test_the_cheapest_accurate_run_of_all_sizes_and_steps_is_found_up_to_a_small_factor(name: str, target: float):
    """Two halvings of a gap of at most 3/2 leave (3/2)^(1/4) per axis: 1.36 in a cost that goes with its third power.

    Half a doubling of the step is tried at one size only, where too long a step may be unstable.
    """
    law = LAWS[name]()
    found = sweep(workload(law), [target], cap=math.inf, clock=law.clock)
    best = cheapest(found, target)
    assert best is not None
    assert best.error <= target
    assert best.seconds <= (1.4 if law.own[2] is None else 1.6) * least(law, target)


@pytest.mark.parametrize("name", LAWS)
def test_the_search_itself_takes_no_more_than_some_runs_of_the_solver_as_it_is(name: str):
    """Without leaving out what cannot be cheaper, or cannot be accurate enough, it would be over a hundred."""
    law = LAWS[name]()
    found = sweep(workload(law), [0.036], cap=math.inf, clock=law.clock)
    assert law.now < 25 * found.runs[0].seconds


def test_a_stricter_target_is_searched_for_with_the_runs_of_the_looser():
    law = LAWS["own step, both grids"]()
    found = sweep(workload(law), [0.012, 0.1], cap=math.inf, clock=law.clock)
    keys = [repr((sorted(run.settings.items()), run.every)) for run in found.runs]
    assert len(keys) == len(set(keys))
    for target in (0.012, 0.1):
        assert cheapest(found, target).seconds <= 1.4 * least(law, target)


def test_no_run_is_begun_when_the_time_is_used_up():
    law = LAWS["own step, both grids"]()
    cap = 2.5 * law.cost(96, 288, 0.0)
    found = sweep(workload(law), [0.012], cap=cap, clock=law.clock)
    assert not found.complete
    assert law.now - cap < 5 * max(run.seconds for run in found.runs)  # those of the last are repeated
    assert cheapest(found, 0.012) is not None  # coarse runs came first


def test_a_run_that_fails_is_not_timed_again():
    law = LAWS["own step, both grids"]()
    runs: list[Run] = []
    before = law.now
    sweep(workload(law), [0.0], cap=math.inf, tried=runs.append, clock=law.clock)
    taken = sum((1 if run.settings in ({}, {"refinement": 2}, {"refinement": 1}) else 2) * run.seconds for run in runs)
    assert law.now - before - taken <= 4 * runs[0].seconds  # smooth and linear once each; the reference is repeated


def test_of_sizes_that_are_refused_the_nearest_are_taken_and_the_coarser_of_two():
    law = Law(lambda n, m, dt: 0.0, lambda n, m, dt: 0.0, ((64, 192), 1, None), block)
    work = workload(law)
    knobs = Knobs.of(work.maker, work.solvers[0])

    def found(share: float, low: float, high: float) -> Any:
        at = nearest(knobs, knobs.families[-1], share, (low, high), work.made)
        return None if at is None else at[0]["points"]

    assert found(1 / 3, 1 / 4, 1 / 2) == (24, 72)
    assert found(5 / 6, 2 / 3, 1.0) == (56, 168)
    assert found(7 / 16, 1 / 4, 2 / 3) == (24, 72)  # (32, 96) is as near
    assert found(1 / 12, 1 / 16, 1 / 8) is None


def test_axes_whose_ratio_does_not_fit_change_one_by_one():
    odd = Law(lambda n, m, dt: 0.0, lambda n, m, dt: 0.0, ((33, 96), 1, None), lambda points: bool(points[0] % 11))
    work = workload(odd)
    knobs = Knobs.of(work.maker, work.solvers[0])
    settings, made = nearest(knobs, knobs.families[-1], 1 / 2, (0.45, 0.55), lambda s: _only(s, (15, 48))) or ({}, None)
    assert made == "made"
    assert settings == {"points": (15, 48)}


def _only(settings: dict[str, Any], points: tuple[int, ...]) -> str | None:
    return "made" if settings.get("points") == points else None


@pytest.mark.parametrize("name", list(CASES))
def test_every_case_can_be_made_coarser_in_many_ways(name: str):
    """No solver may keep its cost out of the comparison: from half its points up it has at least two coarser ways."""
    case = get_case(name)
    middle = {r.name: r.at(0.5) for r in case.ranges if not r.of_initial}
    own = case.solver(**middle)
    knobs = Knobs.of(case.solver, own)
    around = (0.0, *SHARES, 2.0)
    at: dict[float, list[Any]] = {}
    for k, share in enumerate(SHARES[:-1]):
        ways = (
            nearest(knobs, each, share, around[k : k + 3 : 2], partial(_made, case, middle)) for each in knobs.families
        )
        at[share] = [way[0] for way in ways if way is not None]
        sizes = knobs.sizes({})
        assert all(np.less(knobs.sizes(settings), sizes).any() for settings in at[share])
    different = {repr(settings) for ways in at.values() for settings in ways}
    assert len(different) >= 4
    assert all(at[share] for share in (1 / 2, 2 / 3, 5 / 6))


def _made(case: Any, values: dict[str, float], settings: dict[str, Any]) -> Solver | None:
    return buildable(case.solver, values, settings)
