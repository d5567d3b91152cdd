"""Viscous Burgers, periodic: against Cole-Hopf, in its orders and in its invariants."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from numpy.polynomial.legendre import leggauss

from romvae.solvers import Burgers1d

NU = 0.03


def cole_hopf(nu: float, times: np.ndarray, points: int) -> np.ndarray:
    """u of u0 = sin(2 pi x): u = -2 nu phi_x / phi where phi solves the heat equation.

    phi(x, 0) = exp(-int u0 / 2 nu) is positive and smooth, so that its Fourier series on 1024 points is
    exact.
    """
    fine = 1024
    x = np.arange(fine) / fine
    phi = scipy.fft.rfft(np.exp((np.cos(2 * np.pi * x) - 1) / (4 * np.pi * nu)))
    k = 2 * np.pi * np.arange(phi.size)
    decay = phi * np.exp(-nu * k**2 * times[:, None])
    u = -2 * nu * scipy.fft.irfft(1j * k * decay, n=fine) / scipy.fft.irfft(decay, n=fine)
    return u[:, :: fine // points]


def sine(points: int) -> np.ndarray:
    return np.sin(2 * np.pi * np.arange(points) / points)[None]


def test_cole_hopf() -> None:
    times = np.linspace(0, 1, 6)
    u = Burgers1d(viscosity=NU, points=64).solve(sine(64), times)[:, 0]
    assert u == pytest.approx(cole_hopf(NU, times, 64), abs=2e-6)


def test_cole_hopf_converges_to_round_off() -> None:
    times = np.array([0.0, 0.4])
    u = Burgers1d(viscosity=NU, points=64, resolution=192, step=2e-4).solve(sine(64), times)[:, 0]
    assert u == pytest.approx(cole_hopf(NU, times, 64), abs=1e-10)


def test_order_in_time_is_four() -> None:
    times, steps = np.array([0.0, 0.2]), [0.02, 0.01, 0.005, 0.0025]
    exact = cole_hopf(NU, times, 64)[-1]
    errors = [
        np.abs(Burgers1d(viscosity=NU, points=64, resolution=256, step=h).solve(sine(64), times)[-1, 0] - exact).max()
        for h in steps
    ]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(4, abs=0.15)


def test_error_falls_exponentially_with_resolution() -> None:
    """Each 16 points more divide the error by the same factor: log(error) is a line in the resolution."""
    times = np.array([0.0, 0.2])
    exact = cole_hopf(NU, times, 32)[-1]
    resolutions = np.array([48, 64, 80, 96])
    errors = [
        np.abs(
            Burgers1d(viscosity=NU, points=32, resolution=int(n), step=2.5e-4).solve(sine(32), times)[-1, 0] - exact
        ).max()
        for n in resolutions
    ]
    assert np.corrcoef(resolutions, np.log(errors))[0, 1] < -0.99
    assert errors[-1] < 1e-3 * errors[0]


def test_mean_is_kept_and_energy_falls() -> None:
    solver = Burgers1d(viscosity=0.01, points=96)
    u = solver.solve(0.3 + solver.initial(np.random.default_rng(0)), np.linspace(0, 1, 11))[:, 0]
    assert np.ptp(u.mean(axis=1)) < 1e-14
    assert (np.diff((u**2).mean(axis=1)) < 0).all()


def test_energy_balance() -> None:
    """d/dt of the mean of u^2 / 2 is -nu times the mean of u_x^2, integrated over time by Gauss-Legendre."""
    solver = Burgers1d(viscosity=0.05, points=96, step=1e-3)
    node, weight = leggauss(16)
    times = np.concatenate([[0.0], 0.05 + 0.05 * node, [0.1]])
    u = solver.solve(solver.initial(np.random.default_rng(4)), times)[:, 0]
    gradient = scipy.fft.irfft(2j * np.pi * np.arange(49) * scipy.fft.rfft(u), n=96)
    lost = 0.05 * (gradient[1:-1] ** 2).mean(axis=1) @ weight * 0.05
    assert 0.5 * (u[0] ** 2 - u[-1] ** 2).mean() == pytest.approx(lost, rel=1e-7)


def test_symmetries() -> None:
    """Shift of x, Galilean boost and reflection (u, x) -> (-u, -x), all by whole grid points."""
    solver = Burgers1d(viscosity=0.02, points=64, resolution=128, step=2e-3)
    u0 = solver.initial(np.random.default_rng(3))
    times = np.array([0.0, 0.25, 0.5])
    u = solver.solve(u0, times)
    assert solver.solve(np.roll(u0, 7, -1), times) == pytest.approx(np.roll(u, 7, -1), abs=1e-13)
    reflected = solver.solve(-np.roll(u0[:, ::-1], 1, -1), times)
    assert reflected == pytest.approx(-np.roll(u[..., ::-1], 1, -1), abs=1e-13)
    boosted = solver.solve(u0 + 1.0, times)  # moves by 16 and 32 of 64 points
    expected = np.stack([np.roll(u[i], 16 * i, -1) + 1.0 for i in range(3)])
    assert boosted == pytest.approx(expected, abs=1e-5)  # the boost changes the error of the time steps


def test_rescaled_problem_is_the_same_problem() -> None:
    """u -> U u, x -> L x, t -> t L / U, nu -> nu U L."""
    small = Burgers1d(viscosity=0.02, points=48, resolution=96, step=2e-3)
    large = Burgers1d(viscosity=0.02 * 3 * 5, points=48, length=5.0, resolution=96, step=2e-3 * 5 / 3)
    u0, times = small.initial(np.random.default_rng(8)), np.array([0.0, 0.1, 0.4])
    assert large.solve(3 * u0, times * 5 / 3) == pytest.approx(3 * small.solve(u0, times), abs=1e-12)


def test_default_plan_is_accurate_on_a_steep_front() -> None:
    """Steeper than nearly all of the demo's ensemble (max|u0| / nu = 270 there)."""
    u0, times = 1.35 * sine(256), np.linspace(0, 0.5, 6)
    u = Burgers1d(viscosity=0.005, points=256).solve(u0, times)
    fine = Burgers1d(viscosity=0.005, points=256, resolution=1536, step=2.5e-4).solve(u0, times)
    assert np.abs(u - fine).max() < 5e-5
    assert np.linalg.norm(u - fine) < 3e-6 * np.linalg.norm(fine)
