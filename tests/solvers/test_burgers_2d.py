"""Two-component Burgers, periodic: against Cole-Hopf and the one-dimensional solver, in orders and symmetries."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.errors import ConfigError, NumericsError
from romvae.solvers import Burgers1d, Burgers2d, verify_solver

K = 2 * np.pi
X = np.arange(32) / 32


def potential_flow(nu: float, times: np.ndarray, points: int = 32) -> np.ndarray:
    """w = -2 nu grad(phi) / phi, where phi > 0 solves the heat equation, solves Burgers' equations (Cole, Hopf)."""
    x, y = np.meshgrid(np.arange(points) / points, np.arange(points) / points)
    modes = [(0.4, K, 0, 0.0), (0.3, 0, K, 1.0), (0.2, K, K, 2.0)]
    out = []
    for t in times:
        phi, phi_x, phi_y = np.ones_like(x), np.zeros_like(x), np.zeros_like(x)
        for a, k, m, phase in modes:
            a, angle = a * np.exp(-nu * (k**2 + m**2) * t), k * x + m * y + phase
            phi += a * np.cos(angle)
            phi_x -= a * k * np.sin(angle)
            phi_y -= a * m * np.sin(angle)
        out.append([-2 * nu * phi_x / phi, -2 * nu * phi_y / phi])
    return np.array(out)


def test_cole_hopf() -> None:
    """phi falls to 0.1 somewhere, so that w holds modes down to 1e-6 of it on 32 points, to 1e-8 on 96."""
    for points, step, bound in ((32, 2.5e-3, 1e-6), (96, 5e-3, 5e-8)):
        exact = potential_flow(0.1, np.array([0.0, 0.1]), points)
        u = Burgers2d(0.1, points=points, resolution=max(96, points), step=step).solve(exact[0], [0, 0.1])
        assert u == pytest.approx(exact, abs=bound)


def test_order_in_time_is_four() -> None:
    times, steps = np.array([0.0, 0.08]), [0.01, 0.005, 0.0025]
    u0 = Burgers2d(0.02, points=32).initial(np.random.default_rng(0))

    def end(step: float) -> np.ndarray:
        return Burgers2d(0.02, points=32, resolution=72, step=step).solve(u0, times)[-1]

    reference = end(6.25e-4)
    errors = [np.abs(end(h) - reference).max() for h in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(4, abs=0.15)


def test_error_falls_exponentially_with_resolution() -> None:
    """Each 12 points more divide the error by the same factor: log(error) is a line in the resolution."""
    times = np.array([0.0, 0.3])
    u0 = Burgers2d(0.03, points=32).initial(np.random.default_rng(2))

    def end(resolution: int) -> np.ndarray:
        return Burgers2d(0.03, points=32, resolution=resolution, step=5e-3).solve(u0, times)[-1]

    resolutions, reference = np.array([36, 48, 60, 72]), end(128)
    errors = [np.abs(end(int(n)) - reference).max() for n in resolutions]
    assert np.corrcoef(resolutions, np.log(errors))[0, 1] < -0.99
    assert errors[-1] < 1e-2 * errors[0]


@pytest.mark.parametrize("along", ["x", "y"])
def test_a_field_of_one_coordinate_is_the_one_dimensional_solution(along: str) -> None:
    times = np.array([0.0, 0.2, 0.4])
    line = Burgers1d(0.02, points=32, resolution=96, step=5e-3)
    one = line.solve(line.initial(np.random.default_rng(5)), times)[:, 0]
    shape = (3, 32, 32)
    velocity = np.broadcast_to(one[:, None, :] if along == "x" else one[:, :, None], shape)
    fields = [velocity, np.zeros(shape)] if along == "x" else [np.zeros(shape), velocity]
    expected = np.stack(fields, axis=1)
    u = Burgers2d(0.02, points=32, resolution=96, step=5e-3).solve(expected[0], times)
    assert u == pytest.approx(expected, abs=1e-13)


def test_a_carried_shear_layer_decays() -> None:
    """u = sin(k (y - V t)) exp(-nu k^2 t), v = V: not a gradient, so that the curl term has to carry it."""
    nu, speed, times = 0.01, 0.8, np.array([0.0, 0.3, 1.0])
    u = np.array([np.sin(K * (X - speed * t)) * np.exp(-nu * K**2 * t) for t in times])
    expected = np.stack([np.broadcast_to(u[:, :, None], (3, 32, 32)), np.full((3, 32, 32), speed)], axis=1)
    found = Burgers2d(nu, points=32, resolution=48, step=5e-3).solve(expected[0], times)
    assert found == pytest.approx(expected, abs=1e-7)  # the advection of one mode over 200 steps, 4th order


def test_symmetries() -> None:
    """Shifts, exchange of x and y, reflection, a quarter turn, and a moving frame."""
    solver = Burgers2d(0.03, points=32, resolution=64, step=5e-3)
    u0, times = solver.initial(np.random.default_rng(3)), np.array([0.0, 0.125, 0.25])
    u = solver.solve(u0, times)
    assert solver.solve(np.roll(u0, (5, 9), (-2, -1)), times) == pytest.approx(np.roll(u, (5, 9), (-2, -1)), abs=1e-13)

    def exchange(w: np.ndarray) -> np.ndarray:
        return w[..., ::-1, :, :].swapaxes(-1, -2)

    def reflect(w: np.ndarray) -> np.ndarray:
        """x -> -x and u -> -u; node i goes to node -i."""
        return np.roll(w[..., ::-1], 1, -1) * np.array([-1, 1])[:, None, None]

    for turn in (exchange, reflect, lambda w: exchange(reflect(w))):
        assert solver.solve(turn(u0), times) == pytest.approx(turn(u), abs=1e-13)
    boost = np.array([1.0, 2.0])[:, None, None]  # moves by 4 points along x and 8 along y in each interval
    expected = np.stack([np.roll(u[i], (8 * i, 4 * i), (-2, -1)) + boost for i in range(3)])
    assert solver.solve(u0 + boost, times) == pytest.approx(expected, abs=1e-4)  # the boost changes the error in time


def test_extrema_do_not_grow_and_a_potential_flow_keeps_its_mean() -> None:
    solver = Burgers2d(0.02, points=32)
    u = solver.solve(solver.initial(np.random.default_rng(1)), np.linspace(0, 0.6, 7))
    assert (np.diff(u.max(axis=(2, 3)), axis=0) < 1e-3).all()  # on grid points; the crest may come nearer to one
    assert (np.diff((u**2).sum(axis=1).mean(axis=(1, 2))) < 0).all()
    flow = potential_flow(0.05, np.array([0.0]))[0] + 0.2
    mean = Burgers2d(0.05, points=32).solve(flow, [0, 0.3, 0.6]).mean(axis=(2, 3))
    assert np.ptp(mean, axis=0) == pytest.approx(np.zeros(2), abs=1e-12)


def test_refined_agrees_within_the_stated_error() -> None:
    solver = Burgers2d(0.01, points=64, resolution=128, step=5e-3)
    u0, times = solver.initial(np.random.default_rng(0)), np.array([0.0, 0.05])
    u, fine = solver.solve(u0, times), solver.refined().solve(u0, times)
    assert 0 < np.linalg.norm(u - fine) < 2e-6 * np.linalg.norm(fine)


def test_contract_and_errors() -> None:
    verify_solver(Burgers2d(0.05, points=(18, 24)))
    u0 = Burgers2d(points=32).initial(np.random.default_rng(0))
    with pytest.raises(NumericsError, match=r"failed at t=0.5 \(viscosity=0.001\): a front is not resolved by resolu"):
        Burgers2d(1e-3, points=32, resolution=48, step=5e-3).solve(u0, [0, 0.5])
    with pytest.raises(ConfigError, match=r"points is \(8, 8, 8\), expected one number or two"):
        Burgers2d(points=(8, 8, 8))
    with pytest.raises(ConfigError, match=r"viscosity is 0\.0, expected a number above 0"):
        Burgers2d(viscosity=0.0)
