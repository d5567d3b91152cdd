"""Units of a solver in the data that are made with it."""

from __future__ import annotations

from romvae.solvers import get_case


def test_a_solver_may_state_units_of_axes_and_parameters_that_it_has_not() -> None:
    """One class serves one, two and three dimensions; the data state units of what they hold."""
    solver = get_case("heat_1d").draw(0, 0).solver
    solver.__class__ = type("Heat", (type(solver),), {"units": {**solver.units, "q": "m", "other": "kg"}})
    known = solver.units_of(solver.parameters)
    assert {"x", "time", *(field.name for field in solver.fields)} <= set(known)
    assert not {"q", "other"} & set(known)
    assert solver.units_of(["other"])["other"] == "kg"
