"""What every one-dimensional solver says about itself: scheme, kept quantities, and a more accurate twin."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from romvae.solvers import (
    Advection1d,
    Burgers1d,
    BurgersInviscid1d,
    BurgersWalls1d,
    Heat,
    KortewegDeVries1d,
    KuramotoSivashinsky1d,
    ReactionDiffusion1d,
    Solver,
    Wave1d,
    verify_solver,
)
from romvae.solvers.burgers_inviscid import split_cells

EXACT = {
    "advection": Advection1d(points=24),
    "advection inflow": Advection1d(points=24, inflow=0.4),
    "heat": Heat(points=(6, 8), boundaries={"y": "reflecting"}),
    "heat held": Heat(points=12, boundaries={"x": 0.0}),
    "wave": Wave1d(points=24),
    "wave fixed": Wave1d(points=24, boundary="value"),
}
APPROXIMATE = {
    "burgers": Burgers1d(viscosity=0.02, points=48),
    "burgers fixed": Burgers1d(viscosity=0.02, points=48, resolution=128, step=0.01),
    "burgers walls": BurgersWalls1d(viscosity=0.1, points=40, lower=0.2, upper=-0.1, resolution=24, tolerance=1e-5),
    "inviscid": BurgersInviscid1d(points=64),
    "inviscid van Leer": BurgersInviscid1d(points=64, step=0.01, reconstruction="van_leer"),
    "inviscid open": BurgersInviscid1d(points=64, boundary="open"),
    "korteweg de vries": KortewegDeVries1d(dispersion=2e-3, points=32),
    "kuramoto sivashinsky": KuramotoSivashinsky1d(points=24, step=0.2, spin_up=30.0),
    "fisher": ReactionDiffusion1d("fisher", points=64, diffusivity=4e-3, boundary="reflecting"),
    "allen cahn": ReactionDiffusion1d("allen_cahn", points=32, diffusivity=4e-3, bias=0.2),
}
TIMES = np.array([0.0, 0.02, 0.05, 0.1])
NEW = ("wave", "korteweg", "kuramoto", "fisher", "allen")


@pytest.mark.parametrize("solver", {**EXACT, **APPROXIMATE}.values(), ids=[*EXACT, *APPROXIMATE])
def test_kept_quantities_are_kept(solver: Solver) -> None:
    """To round-off, except for the momentum and energy of Korteweg-de Vries, which the time step changes."""
    assert solver.scheme
    u = solver.solve(solver.initial(np.random.default_rng(0)), TIMES)
    for name, values in solver.conserved(u).items():
        assert values.shape == TIMES.shape
        stepped = isinstance(solver, KortewegDeVries1d) and name != "mass"
        assert np.ptp(values) < (1e-6 if stepped else 1e-12) * (1 + np.abs(values).max())


@pytest.mark.parametrize("solver", EXACT.values(), ids=list(EXACT))
def test_exact_solvers_have_no_finer_twin(solver: Solver) -> None:
    assert solver.exact
    assert solver.refined() is None


@pytest.mark.parametrize("solver", APPROXIMATE.values(), ids=list(APPROXIMATE))
def test_refining_twice_changes_less_than_refining_once(solver: Solver) -> None:
    """The difference to the refined solution is the error, up to the much smaller error of that."""
    assert not solver.exact
    finer = solver.refined()
    assert finer is not None
    finest = finer.refined()
    assert finest is not None
    assert finer.grid == finest.grid == solver.grid
    assert dict(finer.parameters) == dict(solver.parameters)
    assert finer.settings != solver.settings
    u0 = solver.initial(np.random.default_rng(0))
    u, v, w = (s.solve(u0, TIMES) for s in (solver, finer, finest))
    first, second = np.abs(u - v).max(), np.abs(v - w).max()
    assert 0 < first < 0.03
    assert second < 0.5 * first


@pytest.mark.parametrize("name", [name for name in {**EXACT, **APPROXIMATE} if name.startswith(NEW)])
def test_contract(name: str) -> None:
    solver = {**EXACT, **APPROXIMATE}[name]
    verify_solver(solver)
    finer = solver.refined()
    if finer is not None:
        verify_solver(finer)


def test_inviscid_refinement_has_an_end() -> None:
    finest = BurgersInviscid1d(points=16, refinement=4)
    assert finest.refined() is None
    u0 = finest.initial(np.random.default_rng(0))
    assert finest.solve(u0, [0, 0.01]).shape == (2, 1, 16)


@pytest.mark.parametrize("periodic", [True, False])
def test_splitting_cells_keeps_every_mass_and_is_exact_for_quartics(periodic: bool) -> None:
    """Averages of x^4 over halves from averages over cells, away from the ends."""
    edges, half = np.linspace(-1, 1, 13), np.linspace(-1, 1, 25)
    u = np.diff(edges**5 / 5) / np.diff(edges)
    finer = split_cells(u[None], periodic)[0]
    assert finer.reshape(-1, 2).mean(axis=1) == pytest.approx(u, abs=1e-15)
    assert finer[4:-4] == pytest.approx((np.diff(half**5 / 5) / np.diff(half))[4:-4], abs=1e-14)


def test_a_refined_burgers_solver_is_the_one_with_these_numbers() -> None:
    given = Burgers1d(0.02, 32, resolution=96, step=0.01)
    finer = given.refined()
    by_hand = Burgers1d(0.02, 32, resolution=192, step=0.005)
    u0 = given.initial(np.random.default_rng(1))
    assert np.array_equal(finer.solve(u0, [0, 0.1]), by_hand.solve(u0, [0, 0.1]))
    assert dataclasses.asdict(finer.grid) == dataclasses.asdict(by_hand.grid)
