"""An independent check: the same problems solved by py-pde's finite differences, on grids fine enough to compare.

py-pde discretises in space to second order on cell centres, so that its error falls by four when its grid is halved;
the difference between the two programs must fall likewise, and extrapolation to the limit must meet our solution.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from romvae.solvers import GrayScott, Heat, KuramotoSivashinsky1d, ReactionDiffusion1d, Solver

# py-pde takes seconds to import: only tests that run do it.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("pde") is None, reason="needs py-pde: pip install 'romvae[test]'"),
]

Function = Callable[[np.ndarray], np.ndarray]


def by_py_pde(
    equation: Any, method: str, points: int, length: float, periodic: bool, u0: Function, t: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cell centres and values at time t, with an adaptive scheme of scipy under py-pde's operators."""
    import pde

    grid = pde.CartesianGrid([[0, length]], points, periodic=periodic)
    start = pde.ScalarField(grid, u0(grid.axes_coords[0]))
    end = equation.solve(
        start, t_range=t, solver="scipy", method=method, rtol=1e-7, atol=1e-9, tracker=None, backend="numpy"
    )
    return grid.axes_coords[0], end.data


def differences(
    equation: Any,
    method: str,
    ours: Callable[[int], Solver],
    sizes: tuple[int, int],
    length: float,
    u0: Function,
    t: float,
) -> tuple[float, float, float]:
    """The largest differences on two grids, and that of the extrapolation to the limit, relative to max|u|."""
    found = []
    for points in sizes:
        solver = ours(points)
        periodic = solver.grid.axes[0].periodic
        x, theirs = by_py_pde(equation, method, points, length, periodic, u0, t)
        # Periodic nodes of ours lie half a cell before py-pde's centres.
        shift = 0.5 * length / points if periodic else 0.0
        mine = solver.solve(u0(np.array(solver.grid.axes[0].coordinates) + shift)[None], [0, t])[-1, 0]
        assert x == pytest.approx(np.array(solver.grid.axes[0].coordinates) + shift, abs=1e-12)
        found.append(theirs - mine)
    scale = float(np.abs(mine).max())
    # The error c(x) h^2 is smooth: on every third coarse centre the fine grid (three times as many) has a centre too.
    limit = found[1][1::3] - (found[0] - found[1][1::3]) / 8
    return tuple(float(np.abs(e).max()) / scale for e in (found[0], found[1], limit))  # pyright: ignore


def check(difference: tuple[float, float, float], bound: float) -> None:
    coarse, fine, limit = difference
    assert coarse / fine == pytest.approx(9, rel=0.2)  # second order: a third of the cell, a ninth of the error
    assert limit < bound


def test_heat_conduction() -> None:
    import pde

    equation = pde.DiffusionPDE(diffusivity=0.02, bc={"derivative": 0})

    def u0(x: np.ndarray) -> np.ndarray:
        return np.cos(np.pi * x) + 0.5 * np.cos(3 * np.pi * x) - 0.25 * np.cos(4 * np.pi * x)

    found = differences(
        equation, "DOP853", lambda n: Heat(0.02, n, boundaries={"x": "reflecting"}), (32, 96), 1.0, u0, 0.5
    )
    check(found, 1e-4)


def test_allen_cahn() -> None:
    import pde

    class AllenCahn(pde.PDEBase):
        """By py-pde's operators, applied one by one: compiling an expression would take half a minute."""

        def evolution_rate(self, state: Any, t: float = 0) -> Any:
            return 0.004 * state.laplace({"derivative": 0}) + 5 * (state - 0.2) * (1 - state**2)

    def u0(x: np.ndarray) -> np.ndarray:
        return 0.6 * np.cos(np.pi * x) + 0.3 * np.cos(3 * np.pi * x)

    found = differences(
        AllenCahn(),
        "DOP853",
        lambda n: ReactionDiffusion1d("allen_cahn", 0.004, 5.0, 0.2, n, boundary="reflecting", resolution=192),
        (64, 192),
        1.0,
        u0,
        1.0,
    )
    check(found, 1e-3)


def test_kuramoto_sivashinsky() -> None:
    import pde

    class KuramotoSivashinsky(pde.PDEBase):
        def evolution_rate(self, state: Any, t: float = 0) -> Any:
            curvature = state.laplace("periodic")
            return -0.5 * (state**2).gradient("periodic")[0] - curvature - curvature.laplace("periodic")

    def u0(x: np.ndarray) -> np.ndarray:
        return np.cos(2 * np.pi * x / 22) + 0.5 * np.sin(4 * np.pi * x / 22)

    found = differences(
        KuramotoSivashinsky(),
        "BDF",
        lambda n: KuramotoSivashinsky1d(22.0, n, resolution=96, step=0.02),
        (64, 192),
        22.0,
        u0,
        4.0,
    )
    check(found, 1e-3)


def test_gray_scott_in_two_dimensions() -> None:
    """Both fields, on cell centres of 24 and 72 cells per axis; fields and places are not symmetric in x and y."""
    import pde

    length, feed, kill, t = 0.25, 0.04, 0.061, 30.0

    class Reaction(pde.PDEBase):
        def evolution_rate(self, state: Any, t: float = 0) -> Any:
            u, v = state
            eaten = u * v**2
            u_t = 2e-5 * u.laplace("periodic") - eaten + feed * (1 - u)
            v_t = 1e-5 * v.laplace("periodic") + eaten - (feed + kill) * v
            return pde.FieldCollection([u_t, v_t])

    def start(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        k = 2 * np.pi / length
        blob = np.exp(np.cos(k * x) + 2 * np.cos(k * y - 1.0) - 3)
        return np.stack([1 - blob, 0.5 * blob])

    found = []
    for n in (24, 72):
        grid = pde.CartesianGrid([[0, length]] * 2, n, periodic=True)
        centres = grid.axes_coords[0]
        u0 = start(centres[None, :], centres[:, None])  # (field, y, x), as ours
        state = pde.FieldCollection([pde.ScalarField(grid, field.T) for field in u0])
        end = Reaction().solve(
            state, t_range=t, solver="scipy", method="DOP853", rtol=1e-7, atol=1e-9, tracker=None, backend="numpy"
        )
        # Nodes of ours lie half a cell before the centres: the box is periodic, so both are moved together.
        ours = GrayScott(feed, kill, points=n, length=length, resolution=72, step=0.5).solve(u0, [0, t])[-1]
        found.append(end.data.swapaxes(1, 2) - ours)
        assert np.abs(ours - u0).max() > 0.1
    on_coarse = found[1][:, 1::3, 1::3]
    limit = on_coarse - (found[0] - on_coarse) / 8
    check((float(np.abs(found[0]).max()), float(np.abs(found[1]).max()), float(np.abs(limit).max())), 2e-4)
