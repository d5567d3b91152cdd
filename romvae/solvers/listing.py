"""What the cases are, as facts to list: equation, grid, parameters, size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from romvae.solvers.base import Case, Solver
from romvae.solvers.cases import CASES

__all__ = ["case_facts", "catalogue", "typical_solver"]


def catalogue(cases: Mapping[str, Case] = CASES) -> list[dict[str, Any]]:
    """The facts of all cases, as JSON types."""
    return [case_facts(case) for case in cases.values()]


def case_facts(case: Case) -> dict[str, Any]:
    """The facts of one case; nothing is simulated and no initial field is made."""
    solver = typical_solver(case)
    return {
        "name": case.name,
        "description": case.description,
        "equation": solver.equation,
        "scheme": solver.scheme,
        "exact": solver.exact,
        "fields": [field.name for field in solver.fields],
        "grid": {axis.name: axis.size for axis in solver.grid.axes},
        "boundary": {axis.name: [axis.lower.kind, axis.upper.kind] for axis in solver.grid.axes},
        "times": {"count": len(case.times), "start": case.times[0], "end": case.times[-1]},
        "trajectories": case.n_trajectories,
        "parameters": [{"name": r.name, "low": r.low, "high": r.high, "scale": r.scale} for r in case.ranges],
        "bytes": 4 * case.n_trajectories * len(case.times) * math.prod(solver.shape),
    }


def typical_solver(case: Case) -> Solver:
    """The case's solver in the middle of its ranges: for what does not depend on the parameters, such as the grid.

    A case that plans its parameters without stating ranges is asked for its first trajectory.
    """
    if case.plan is not None and not case.ranges:
        return case.draw(0).solver
    return case.solver(**{r.name: r.at(0.5) for r in case.ranges if not r.of_initial})
