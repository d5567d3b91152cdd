"""The sweep of a solver: coarser grids give what the fields' smoothness allows, and the cheapest is found."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import xarray as xr

from romvae.boundary import Boundary
from romvae.comparison.measure import timed
from romvae.cost import Run, Workload, cheapest, regrid, sweep
from romvae.cost.coarser import Knobs, longer_step, maker_of
from romvae.cost.sweep import Sweep
from romvae.grid import Axis, Grid
from romvae.schema import Schema
from romvae.solvers import Burgers1d, FunctionSolver, Heat, ShallowWater2d, get_case

from .small_case import SMALL

PERIODIC, WALL = Boundary("periodic"), Boundary("wall")


def _periodic(points: int) -> Axis:
    return Axis("x", tuple(np.arange(points) / points), "1", PERIODIC, PERIODIC)


def _walls(points: int) -> Axis:
    return Axis("y", tuple((np.arange(points) + 0.5) / points), "1", WALL, WALL)


@pytest.mark.parametrize("fine", [20, 31])
def test_waves_that_the_coarse_grid_holds_come_back_to_round_off(fine):
    def wave(points: int) -> np.ndarray:
        x = 2 * np.pi * np.arange(points) / points
        return 0.3 + np.sin(3 * x) - 2 * np.cos(4 * x + 1)

    coarse, grid = Grid((_periodic(10),)), Grid((_periodic(fine),))
    np.testing.assert_allclose(regrid(wave(10), coarse, grid), wave(fine), atol=1e-14)
    np.testing.assert_allclose(regrid(regrid(wave(fine), grid, coarse), coarse, grid), wave(fine), atol=1e-14)


def test_between_walls_a_cubic_is_exact_up_to_the_half_cell():
    def cubic(points: int) -> np.ndarray:
        y = (np.arange(points) + 0.5) / points
        return 1 - y + 2 * y**2 - 3 * y**3

    found = regrid(cubic(8), Grid((_walls(8),)), Grid((_walls(40),)))
    np.testing.assert_allclose(found, cubic(40), atol=1e-13)


def test_linear_interpolation_overshoots_nowhere_across_a_jump():
    u = np.where(np.arange(16) < 8, 0.0, 1.0)[None, :]
    coarse, grid = Grid((_periodic(16),)), Grid((_periodic(50),))
    found = regrid(u, coarse, grid, "linear")
    assert found.min() >= -1e-15
    assert found.max() <= 1 + 1e-15
    assert regrid(u, coarse, grid).max() > 1.01


def test_several_axes_are_brought_over_one_after_the_other():
    x, y = np.arange(12) / 12, (np.arange(9) + 0.5) / 9
    u = (1 + y**2)[:, None] * np.sin(2 * np.pi * x)
    fine = Grid((_walls(18), _periodic(30)))
    expected = (1 + ((np.arange(18) + 0.5) / 18) ** 2)[:, None] * np.sin(2 * np.pi * np.arange(30) / 30)
    np.testing.assert_allclose(regrid(u, Grid((_walls(9), _periodic(12))), fine), expected, atol=1e-13)


def test_a_step_is_lengthened_and_a_tolerance_loosened():
    make = partial(Burgers1d, step=1e-3)
    assert longer_step(make, make(), 4.0) == {"step": 4e-3}
    assert longer_step(Heat, Heat(points=8), 4.0) == {}
    walls = get_case("burgers_1d")
    assert longer_step(walls.solver, walls.solver(viscosity=0.01), 2.0)["step"] == pytest.approx(2e-3)


def test_a_solver_is_made_again_from_its_own_attributes():
    make = maker_of(Burgers1d(viscosity=0.03, points=48, resolution=96, step=1e-2))
    assert make is not None
    other = make(resolution=64)
    assert (other.viscosity, other.points, other.resolution, other.step) == (0.03, 48, 64, 1e-2)
    assert maker_of(FunctionSolver(lambda u0, p, t: np.repeat(u0[None], len(t), 0), ["u"], Grid((_walls(8),)))) is None


def test_a_solver_that_is_no_case_has_the_same_settings():
    own = Burgers1d(viscosity=0.03, points=48, resolution=96, step=1e-2)
    make = maker_of(own)
    assert make is not None
    assert Knobs.of(make, own) == Knobs.of(Burgers1d, own)
    assert {"resolution": 48} in [family(1 / 2) for family in Knobs.of(make, own).families]
    assert longer_step(make, own, 2.0) == {"step": 2e-2}


def test_internal_cells_and_stored_points_are_given_up_in_all_ways_that_leave_as_many_internal_cells():
    own = ShallowWater2d(points=32, refinement=3)

    def ways(share: float) -> list[dict[str, Any]]:
        return [way for each in Knobs.of(ShallowWater2d, own).families if (way := each(share)) is not None]

    assert ways(1 / 2) == [{"points": 16}, {"refinement": 2, "points": 24}, {"refinement": 1}]
    assert ways(1 / 6) == [{"points": 8}, {"refinement": 2, "points": 8}, {"refinement": 1, "points": 16}]
    assert ways(1.0) == [{}, {}, {"refinement": 2}, {"refinement": 1}]


@pytest.fixture(scope="module")
def work(test_part: xr.Dataset) -> Workload:
    found = Workload.of(SMALL, test_part.isel(trajectory=slice(0, 2)), Schema.of(test_part).grid)
    assert isinstance(found, Workload)
    return found


def test_the_reference_repeats_its_own_data(work):
    """What is left is the rounding of the stored fields to float32."""
    assert work.error(work.delivered(work.solvers, [0, 1], 1, False, False), [0, 1]) < 1e-6


def test_the_error_of_the_workload_is_the_score_of_the_comparison(work):
    wrong = 1.1 * work.truth
    assert work.error(wrong, [0, 1]) == pytest.approx(0.1)


def test_one_by_one_and_in_a_batch_give_the_same_fields(work):
    one, many = (work.delivered(work.solvers, [0, 1, 0], 2, False, together) for together in (False, True))
    np.testing.assert_allclose(one, many, atol=1e-12)


def test_the_sweep_finds_a_cheaper_run_that_is_accurate_enough(work):
    found = sweep(work, [1e-2], batch=4, cap=5.0)
    best = cheapest(found, 1e-2)
    assert best is not None
    assert best.error <= 1e-2
    assert best.settings.get("step", 5e-3) > 5e-3 or best.settings.get("resolution", 96) < 96
    assert found.runs[0].settings == {}
    keys = [(sorted(run.settings.items()), run.every) for run in found.runs]
    assert len(keys) == len({repr(key) for key in keys})  # nothing is run twice
    coarse = [run for run in found.runs if 1e-2 < run.error < np.inf]
    assert coarse  # in a batch only what is accurate enough is timed
    assert all(np.isnan(run.seconds_batch) and run.to_dict()["seconds_batch"] is None for run in coarse)
    assert best.seconds_batch <= best.seconds


def test_a_stricter_target_is_never_cheaper():
    runs = tuple(Run({"n": k}, 1, False, 10.0**-k, float(k), 2.0 * k) for k in range(1, 5))
    found = Sweep(runs, True)
    costs = [cheapest(found, target).seconds for target in (0.1, 0.01, 1e-3)]
    assert costs == sorted(costs)
    assert cheapest(found, 1e-9) is None
    assert cheapest(found, 0.5, batch=True).seconds_batch == 2.0


def test_no_time_means_no_search(work):
    found = sweep(work, [1e-2], cap=0.0)
    assert not found.complete
    assert [run.settings for run in found.runs] == [{}]


def test_what_the_data_do_not_tell_is_said(test_part):
    grid = Schema.of(test_part).grid
    unknown = Workload.of(SMALL, test_part.drop_vars("viscosity"), grid)
    assert unknown == "the data do not tell the parameter viscosity, which the solver of small_burgers needs"
    renamed = Workload.of(SMALL, test_part.rename(u="w"), grid)
    assert renamed == "the data do not have the field u, which the solver burgers_1d computes"


@pytest.mark.parametrize("cap", [1.0, 60.0])
def test_more_trajectories_are_timed_where_they_are_small_and_there_is_time(cap):
    counts = [timed(values, cap) for values in (10**7, 10**5, 60_000, 10_000, 10)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (4, 12)
    assert timed(60_000, 60.0) > timed(60_000, 1.0)
