"""Viscous Burgers between walls: fronts with known shape, odd periodic solutions, convergence."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.solvers import Burgers1d, BurgersWalls1d
from romvae.solvers.operators import chebyshev, interpolation_matrix


def front(x: np.ndarray, t: float, nu: float, speed: float = 1.0, height: float = 1.0) -> np.ndarray:
    """The exact travelling front from speed + height down to speed - height."""
    return speed - height * np.tanh(height * (x - 0.35 - speed * t) / (2 * nu))


def test_travelling_front() -> None:
    """The held values are those of the front at the walls within 1e-13 over the whole time."""
    solver = BurgersWalls1d(viscosity=0.01, points=200, lower=2.0, upper=0.0)
    x = np.array(solver.grid.axes[0].coordinates)
    times = np.linspace(0, 0.3, 4)
    u = solver.solve(front(x, 0.0, 0.01)[None], times)[:, 0]
    assert u == pytest.approx(np.array([front(x, t, 0.01) for t in times]), abs=1e-5)


def test_steady_front_stays() -> None:
    x = (np.arange(100) + 0.5) / 100
    steady = -np.tanh((x - 0.5) / 0.1)
    ends = np.tanh(0.5 / 0.1)
    u = BurgersWalls1d(viscosity=0.05, points=100, lower=ends, upper=-ends).solve(steady[None], [0, 0.5, 1.0])
    assert u == pytest.approx(np.broadcast_to(steady, u.shape), abs=1e-6)


def test_zero_walls_are_the_odd_periodic_problem() -> None:
    """With u = 0 at both walls the odd continuation is a periodic solution on twice the length."""
    x = (np.arange(64) + 0.5) / 64
    half = 0.8 * np.sin(np.pi * x) - 0.5 * np.sin(3 * np.pi * x)
    times = np.array([0.0, 0.1, 0.5])
    walls = BurgersWalls1d(viscosity=0.02, points=64).solve(half[None], times)
    odd = np.concatenate([-half[::-1], half])[None]
    periodic = Burgers1d(viscosity=0.02, points=128, length=2.0).solve(odd, times)
    assert walls == pytest.approx(periodic[..., 64:], abs=1e-5)


def test_energy_falls_between_zero_walls() -> None:
    solver = BurgersWalls1d(viscosity=0.01, points=80)
    u = solver.solve(solver.initial(np.random.default_rng(0)), np.linspace(0, 1, 6))[:, 0]
    assert (np.diff((u**2).sum(axis=1)) < 0).all()


def test_tolerance_and_resolution_buy_accuracy() -> None:
    x = (np.arange(256) + 0.5) / 256
    exact = front(x, 0.2, 0.02)

    def error(resolution: int, tolerance: float) -> float:
        solver = BurgersWalls1d(0.02, 256, 1.0, 2.0, 0.0, resolution=resolution, tolerance=tolerance)
        return float(np.abs(solver.solve(front(x, 0.0, 0.02)[None], [0, 0.2])[-1, 0] - exact).max())

    assert error(96, 1e-3) > 10 * error(96, 1e-6)
    # Exponential in the degree: 24 nodes more are worth the same factor each time.
    coarse, middle, fine = (error(n, 1e-8) for n in (48, 72, 96))
    assert middle < 0.2 * coarse
    assert fine < 0.2 * middle


def test_chebyshev_matrix_and_interpolation_are_exact_for_polynomials() -> None:
    nodes, derivative = chebyshev(12, 3.0)
    assert nodes[0] == 0.0
    assert nodes[-1] == pytest.approx(3.0, abs=1e-15)
    assert (np.diff(nodes) > 0).all()
    p = np.polynomial.Polynomial(np.random.default_rng(0).standard_normal(13) / 3.0 ** np.arange(13))
    assert derivative @ p(nodes) == pytest.approx(p.deriv()(nodes), abs=1e-12)
    x = np.concatenate([np.linspace(0, 3, 9), nodes[3:5]])
    assert interpolation_matrix(12, 3.0, x) @ p(nodes) == pytest.approx(p(x), abs=1e-13)
