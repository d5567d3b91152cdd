"""Linear advection against its exact solution."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.solvers import Advection1d


@pytest.mark.parametrize("points", [33, 64])
@pytest.mark.parametrize("speed", [-0.7, 1.3])
def test_returns_after_a_period(points: int, speed: float) -> None:
    solver = Advection1d(speed=speed, points=points, length=2.0)
    u0 = solver.initial(np.random.default_rng(1))
    u = solver.solve(u0, [0, 2.0 / abs(speed), 6.0 / abs(speed)])
    assert u == pytest.approx(np.broadcast_to(u0, u.shape), abs=1e-13)


def test_periodic_shift_is_exact_for_resolved_fields() -> None:
    solver = Advection1d(speed=0.3, points=48)
    x = np.array(solver.grid.axes[0].coordinates)
    times = [0.5, 0.8, 1.7]  # need not start at zero
    u = solver.solve(np.exp(np.sin(2 * np.pi * x))[None], times)[:, 0]
    exact = [np.exp(np.sin(2 * np.pi * (x - 0.3 * (t - 0.5)))) for t in times]
    assert u == pytest.approx(np.array(exact), abs=1e-12)  # the series of exp(sin) is below 1e-16 beyond mode 20


def test_mean_and_energy_are_kept() -> None:
    solver = Advection1d(speed=1.0, points=45)
    u = solver.solve(np.random.default_rng(0).standard_normal((1, 45)), np.linspace(0, 3, 7))[:, 0]
    assert np.ptp(u.mean(axis=1)) < 1e-14
    assert np.ptp((u**2).mean(axis=1)) < 1e-13


@pytest.mark.parametrize("speed", [-1.0, 1.0])
def test_inflow_enters_and_the_field_leaves(speed: float) -> None:
    solver = Advection1d(speed=speed, points=40, inflow=0.25)
    u = solver.solve(solver.initial(np.random.default_rng(2)), [0, 0.5, 1.0])[:, 0]
    upstream = u[1, :20] if speed > 0 else u[1, 20:]
    assert np.array_equal(upstream, np.full(20, 0.25))
    assert np.array_equal(u[2], np.full(40, 0.25))


def test_inflow_order_is_six() -> None:
    """Quintic splines, read half-way between the nodes on every grid."""
    errors, sizes = [], np.array([128, 256, 512])
    for n in sizes:
        solver = Advection1d(speed=1.0, points=int(n), inflow=0.0)
        x = np.array(solver.grid.axes[0].coordinates)
        t = (int(0.3 * n) + 0.5) / n
        u = solver.solve(np.exp(-(((x - 0.4) / 0.06) ** 2))[None], [0, t])[-1, 0]
        errors.append(np.abs(u - np.exp(-(((x - 0.4 - t) / 0.06) ** 2))).mean())
    assert -np.polyfit(np.log(sizes), np.log(errors), 1)[0] == pytest.approx(6, abs=0.15)


def test_reflection_symmetry() -> None:
    right, left = (Advection1d(speed=c, points=32, inflow=0.0) for c in (0.6, -0.6))
    u0 = right.initial(np.random.default_rng(3))
    times = [0, 0.2, 0.4]
    assert left.solve(u0[:, ::-1], times) == pytest.approx(right.solve(u0, times)[..., ::-1], abs=1e-12)
