"""Units of a solver in the data that are made with it."""

from __future__ import annotations

from romvae.solvers import get_case


def test_a_solver_may_state_units_of_axes_and_parameters_that_it_has_not() -> None:
    """One class serves one, two and three dimensions; the data state units of what they hold."""
    solver = get_case("heat_1d").draw(0, 0).solver
    stated = {"time": "s", "x": "m", "q": "m", "other": "kg"}
    solver.__class__ = type("Heat", (type(solver),), {"units": stated})
    known = solver.units_of(solver.parameters)
    assert known == {"x": "m", "time": "s", **{field.name: field.units for field in solver.fields}}
    assert solver.units_of(["other"])["other"] == "kg"
