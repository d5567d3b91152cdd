"""Every solver keeps the contract of `Solver`, and refuses what it cannot do with one clear line."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.errors import ConfigError, NumericsError
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
    get_case,
    verify_solver,
)

SOLVERS = {
    "advection periodic": Advection1d(points=33),
    "advection inflow": Advection1d(speed=-0.7, points=32, inflow=0.4),
    "heat 1-D": Heat(points=20, boundaries={"x": (0.3, "reflecting")}),
    "heat 2-D": Heat(points=(9, 12), boundaries={"y": (1.0, -1.0)}),
    "heat 3-D": Heat(points=(5, 6, 7), lengths=(1, 2, 3), boundaries={"z": 0.5, "x": "reflecting"}),
    "burgers": Burgers1d(viscosity=0.02, points=48),
    "burgers fixed step": Burgers1d(viscosity=0.05, points=32, resolution=96, step=5e-3),
    "burgers walls": BurgersWalls1d(viscosity=0.05, points=40, lower=0.2, upper=-0.1),
    "inviscid periodic": BurgersInviscid1d(points=41),
    "inviscid open": BurgersInviscid1d(points=40, origin=-1.0, boundary="open", reconstruction="van_leer"),
}


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=list(SOLVERS))
def test_contract(solver: Solver) -> None:
    # 1e-3: the viscous solvers cut u0 down to their modes again when they go on from a stored field.
    verify_solver(solver)


def held_values(solver: Solver) -> list[float]:
    ends = [side for axis in solver.grid.axes for side in (axis.lower, axis.upper)]
    return sorted({dict(side.value)["u"] for side in ends if side.value})


UNIFORM = {name: solver for name, solver in SOLVERS.items() if len(held_values(solver)) < 2}


@pytest.mark.parametrize("solver", UNIFORM.values(), ids=list(UNIFORM))
def test_a_constant_stays_where_the_boundary_allows(solver: Solver) -> None:
    u0 = np.full(solver.shape, [*held_values(solver), 0.7][0])
    assert solver.solve(u0, [0, 0.1, 0.3]) == pytest.approx(np.broadcast_to(u0, (3, *u0.shape)), abs=1e-12)


def test_verify_solver_finds_a_broken_solver() -> None:
    class Restless(Heat):
        def _integrate(self, u0: np.ndarray, times: np.ndarray) -> np.ndarray:
            return super()._integrate(u0, times) * (1 + 0.1 * times[-1])

    with pytest.raises(AssertionError, match=r"going on from a stored field|shift of all times"):
        verify_solver(Restless(points=16))


@pytest.mark.parametrize(
    ("attribute", "value", "law"),
    [
        ("refined", lambda self: Heat(points=18), "refined: has another output grid"),
        ("refined", lambda self: Heat(diffusivity=0.5, points=16), "refined: is a solver of another class"),
        ("mask", np.ones(16), "mask: is not boolean on the grid"),
        ("mask", np.zeros(16, bool), "mask: leaves no point"),
        ("conserved", lambda self, u: {"heat": u.sum()}, "conserved: 'heat' is not one number per snapshot"),
    ],
)
def test_verify_solver_looks_at_what_a_solver_says_of_itself(attribute, value, law) -> None:
    class Talkative(Heat):
        pass

    kind = Heat if law.startswith("refined: has") else Talkative
    solver = kind(points=16)
    if kind is Heat:
        value = value(solver)
        solver.refined = lambda: value  # type: ignore[method-assign]
    else:
        setattr(Talkative, attribute, value)
    with pytest.raises(AssertionError, match=law):
        verify_solver(solver)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Burgers1d(viscosity=0.0),
            "viscosity is 0.0, expected a number above 0; use BurgersInviscid1d",
        ),
        (lambda: Burgers1d(viscosity=float("nan")), "viscosity is nan, expected a finite number"),
        (lambda: Burgers1d(points=2), "points is 2, expected a whole number of at least 8"),
        (lambda: Burgers1d(points=256.0), "points is 256.0, expected a whole number"),  # pyright: ignore
        (lambda: Burgers1d(step=-1e-3), "step is -0.001"),
        (lambda: BurgersWalls1d(tolerance=1e-20), "tolerance is 1e-20, expected at least 1e-12"),
        (
            lambda: BurgersInviscid1d(boundary="wall"),
            "boundary 'wall' is not supported here, expected periodic, open",
        ),
        (lambda: BurgersInviscid1d(boundary="opne"), "boundary condition 'opne' is unknown"),
        (lambda: BurgersInviscid1d(reconstruction="weno"), "expected one of weno5, van_leer"),  # pyright: ignore
        (lambda: BurgersInviscid1d(boundary=("periodic", "open")), "periodic on one side only"),
        (lambda: Advection1d(speed=0.0, inflow=1.0), "has to move"),
        (lambda: Heat(points=(4, 4, 4, 4)), "expected one to three numbers"),
        (lambda: Heat(points=(8, 8), lengths=(1, 2, 3)), "expected 2 numbers"),
        (lambda: Heat(points=8, boundaries={"y": 0.0}), "boundaries name y, but the axes are x"),
        (lambda: Heat(points=(8, 8), boundaries={"y": 0.0, "x": (0.0, 1.0)}), "contradict each other"),
        (
            lambda: Heat(boundaries={"x": {"kind": "value", "value": {"T": 1.0}}}),
            "expected a finite one for 'u'",
        ),
        (lambda: BurgersInviscid1d(refinement=3), "refinement is 3, expected 1, 2 or 4"),  # pyright: ignore
        (lambda: KortewegDeVries1d(dispersion=0), "dispersion is 0, expected a number above 0; use BurgersInviscid1d"),
        (lambda: KuramotoSivashinsky1d(step=0.0), "step is 0.0, expected a number above 0"),
        (lambda: ReactionDiffusion1d("logistic"), "reaction is 'logistic', expected one of fisher, allen_cahn"),  # pyright: ignore
        (lambda: ReactionDiffusion1d(bias=0.1), "bias is 0.1, but reaction 'fisher' has none; leave it at 0"),
        (lambda: ReactionDiffusion1d("allen_cahn", bias=1.0), "bias is 1.0, expected a number between -1 and 1"),
        (lambda: ReactionDiffusion1d(boundary="open"), "'open' is not supported here, expected periodic, reflecting"),
        (lambda: Wave1d(boundary=1.0), "an end is held at 1, expected 0; subtract the straight line"),
        (lambda: get_case("burgers1d"), "case 'burgers1d' is unknown. Did you mean 'burgers_1d'?"),
    ],
)
def test_arguments_out_of_range(make, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("u0", "times", "message"),
    [
        (np.zeros(64), [0, 1], "initial field has shape (64,), expected (field, *space) = (1, 64)"),
        (np.full((1, 64), np.inf), [0, 1], "initial field is not finite at index (0, 0)"),
        (np.zeros((1, 64)), [0, 0.5, 0.5], "times[2] is 0.5, expected finite and strictly increasing times"),
        (np.zeros((1, 64)), [], "expected a list of at least one time"),
        (np.zeros((1, 64)), [0, np.nan], "times[1] is nan"),
    ],
)
def test_bad_initial_field_or_times(u0: np.ndarray, times: list[float], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Burgers1d(points=64).solve(u0, times)
    assert message in str(error.value)


X = (np.arange(64) + 0.5) / 64


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (
            Burgers1d(viscosity=1e-3, points=64, resolution=96, step=1e-3),
            "(viscosity=0.001): the front is not resolved",
        ),
        (Burgers1d(viscosity=1e-3, points=64, resolution=256, step=0.25), "not resolved by resolution=256"),
        (BurgersWalls1d(viscosity=1e-3, points=64, resolution=40), "not resolved by resolution=40"),
        (BurgersInviscid1d(points=64, step=0.25), "unstable. Use a smaller step"),
    ],
)
def test_a_failed_solve_says_when_where_and_why(solver: Solver, message: str) -> None:
    u0 = np.sin(2 * np.pi * X)[None]
    with pytest.raises(NumericsError, match=r"failed at t=\d") as error:
        solver.solve(u0, np.linspace(0, 1, 5))
    assert message in str(error.value)


def test_solve_ivp_failure_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from romvae.solvers import burgers_walls

    class Stopped:
        success, message, t = (
            False,
            "Required step size is less than spacing between numbers.",
            np.array([0.0, 0.25]),
        )

    monkeypatch.setattr(burgers_walls, "solve_ivp", lambda *_, **__: Stopped())
    with pytest.raises(NumericsError, match=r"failed at t=0.25 \(viscosity=0.1\): solve_ivp stopped: Required step"):
        BurgersWalls1d(viscosity=0.1, points=64).solve(np.sin(np.pi * X)[None], [0, 0.25, 0.5])
