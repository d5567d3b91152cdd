"""A plain function as a solver: held to the same laws, and told clearly when what it returns does not fit."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from romvae.errors import ConfigError, NumericsError
from romvae.schema import Field, Grid, Schema
from romvae.solvers import Case, FunctionSolver, Range, equidistant, reference_error, simulate
from romvae.solvers.operators import uniform_axis
from romvae.testing import verify_solver

from decay import PERIODIC  # isort: skip

GRID = Grid((uniform_axis("x", 8, 1.0, PERIODIC),))


def oscillator(u0, parameters, times):
    """Position and velocity at every point: x'' = -k x, exact."""
    w, t = np.sqrt(parameters["stiffness"]), (times - times[0])[:, None]
    x, v = u0
    return np.stack([x * np.cos(w * t) + v / w * np.sin(w * t), v * np.cos(w * t) - x * w * np.sin(w * t)], axis=1)


def start(rng):
    return rng.standard_normal((2, 8))


FIELDS = (Field("place", "m", "position"), "v")


def test_a_function_keeps_the_laws_of_solvers():
    verify_solver(FunctionSolver(oscillator, FIELDS, GRID, start, stiffness=4.0), tolerance=1e-9)


def test_a_case_of_a_function_gives_canonical_snapshots():
    solver = partial(FunctionSolver, oscillator, FIELDS, GRID, start, equation="x'' = -stiffness x", finer=oscillator)
    case = Case("springs", "Springs", solver, equidistant(1.0, 4), 6, (Range("stiffness", 1.0, 9.0),))
    ds = simulate(case, design="grid", error_estimate=True)
    schema = Schema.of(ds)
    assert schema.field_names == ("place", "v")
    assert (ds["place"].attrs["units"], ds["place"].attrs["long_name"]) == ("m", "position")
    assert ds["stiffness"].values == pytest.approx(np.linspace(1, 9, 6))
    assert (ds.attrs["solver"], ds.attrs["equation"]) == ("oscillator", "x'' = -stiffness x")
    assert reference_error(ds)["fields"]["place"]["relative_l2"] == 0.0


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            lambda u0, p, t: np.zeros((3, 8)),
            r"returned shape \(3, 8\), expected \(time, field, \*space\) = \(3, 1, 8\).",
        ),
        (lambda u0, p, t: np.zeros((3, 8)), "keep the axis of a single field"),
        (lambda u0, p, t: None, r"the function returned NoneType, expected numbers|returned shape \(\)"),
        (lambda u0, p, t: "no", "the function returned str, expected numbers"),
        (lambda u0, p, t: np.zeros((2, 1, 8)), r"returned shape \(2, 1, 8\), expected"),
    ],
)
def test_what_does_not_fit_is_named(returned, message):
    solver = FunctionSolver(returned, ["u"], GRID, name="mine")
    with pytest.raises(ConfigError, match=message) as error:
        solver.solve(np.zeros((1, 8)), [0, 1, 2])
    assert str(error.value).startswith("mine: ")


def test_failures_are_numerical_and_name_the_parameters():
    def dividing(u0, parameters, times):
        return 1 / int(parameters["rate"])

    with pytest.raises(NumericsError, match=r"dividing: failed at t=0 \(rate=0\): the function raised ZeroDivisionErr"):
        FunctionSolver(dividing, ["u"], GRID, rate=0.0).solve(np.zeros((1, 8)), [0, 1])
    endless = FunctionSolver(lambda u0, p, t: np.full((2, 1, 8), np.inf), ["u"], GRID, name="endless")
    with pytest.raises(NumericsError, match=r"endless: failed at t=0 .*: the field is not finite"):
        endless.solve(np.zeros((1, 8)), [0, 1])


def test_a_function_may_change_its_arguments():
    def greedy(u0, parameters, times):
        u0[:] = 7
        times[:] = 0
        return np.zeros((2, 1, 8))

    u0, times = np.ones((1, 8)), np.array([0.0, 1.0])
    u = FunctionSolver(greedy, ["u"], GRID).solve(u0, times)
    assert (u[0] == 1).all()
    assert times[1] == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FunctionSolver(oscillator, "u", GRID), "fields is 'u', expected a list"),
        (lambda: FunctionSolver(oscillator, ["x", "v"], GRID), "a field is called 'x', as an axis of the data is"),
        (lambda: FunctionSolver(oscillator, ["u"], GRID, coarser=oscillator), "coarser is function, expected a list"),
        (lambda: FunctionSolver(oscillator, ["u"], GRID, coarser=[0.1]), "expected a list of functions like the first"),
        (lambda: FunctionSolver(oscillator, ["u"], (8,)), "grid is tuple, expected romvae.schema.Grid"),
        (lambda: FunctionSolver(oscillator, ["u"], GRID, k=np.nan), "k is nan, expected a finite number"),
        (lambda: FunctionSolver(oscillator, ["u"], GRID).initial(np.random.default_rng(0)), "no random initial field"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)


def test_cheaper_versions_are_held_to_the_shape_of_the_function():
    verify_solver(FunctionSolver(oscillator, FIELDS, GRID, start, coarser=[oscillator], stiffness=4.0), tolerance=1e-9)

    def fewer_points(u0, parameters, times):
        return oscillator(u0, parameters, times)[..., ::2]

    with pytest.raises(ConfigError, match=r"oscillator, coarser: fewer_points: .* returned shape \(2, 2, 4\)"):
        verify_solver(FunctionSolver(oscillator, FIELDS, GRID, start, coarser=[fewer_points], stiffness=4.0))
