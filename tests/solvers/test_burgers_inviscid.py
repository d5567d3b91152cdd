"""Inviscid Burgers: characteristics before the shock, Riemann problems after, and conservation always."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.polynomial.legendre import leggauss

from romvae.solvers import BurgersInviscid1d, get_case
from romvae.solvers.burgers_inviscid import godunov_flux
from romvae.solvers.reconstruction import RECONSTRUCTIONS

SCHEMES = list(RECONSTRUCTIONS)
Function = Callable[[np.ndarray], np.ndarray]


def by_characteristics(u0: Function, slope: Function, x: np.ndarray, t: float) -> np.ndarray:
    """u(x, t) = u0(y) with y + u0(y) t = x, by Newton's method; valid before the first shock."""
    y = x - u0(x) * t
    for _ in range(50):
        y = y - (y + u0(y) * t - x) / (1 + slope(y) * t)
    assert np.abs(y + u0(y) * t - x).max() < 1e-13
    return u0(y)


def averages(f: Function, x: np.ndarray, dx: float) -> np.ndarray:
    """Cell averages by Gauss-Legendre quadrature."""
    node, weight = leggauss(6)
    return np.sum([w / 2 * f(x + n * dx / 2) for n, w in zip(node, weight, strict=True)], axis=0)


def wave(x: np.ndarray) -> np.ndarray:
    return 0.3 + 0.5 * np.sin(2 * np.pi * x)


def wave_slope(x: np.ndarray) -> np.ndarray:
    return np.pi * np.cos(2 * np.pi * x)


@pytest.mark.parametrize(("scheme", "order"), [(name, s.order) for name, s in RECONSTRUCTIONS.items()])
def test_order_in_space(scheme: str, order: int) -> None:
    """In L1, on a wave with sonic points, at half the time of the shock; steps whose error falls as fast."""
    sizes, errors, t = np.array([64, 128, 256]), [], 0.15
    for n in sizes:
        solver = BurgersInviscid1d(int(n), reconstruction=scheme, step=0.5 * n ** -max(1.0, order / 3))  # pyright: ignore
        x = np.array(solver.grid.axes[0].coordinates)
        u = solver.solve(averages(wave, x, 1 / n)[None], [0, t])[-1, 0]
        exact = averages(lambda y: by_characteristics(wave, wave_slope, y, t), x, 1 / n)
        errors.append(np.abs(u - exact).mean())
    assert -np.polyfit(np.log(sizes), np.log(errors), 1)[0] == pytest.approx(order, abs=0.15)


def test_order_in_time_is_three() -> None:
    """Against the same cells with far shorter steps, so that only dt counts."""
    steps = np.array([0.006, 0.003, 0.0015])

    def end(step: float) -> np.ndarray:
        solver = BurgersInviscid1d(64, step=step)
        x = np.array(solver.grid.axes[0].coordinates)
        return solver.solve(averages(wave, x, 1 / 64)[None], [0, 0.12])[-1, 0]

    reference = end(1e-4)
    errors = [np.abs(end(step) - reference).mean() for step in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize(("scheme", "bound"), [("weno5", 1e-4), ("van_leer", 1e-4)])
def test_parametric_case_is_accurate(scheme: str, bound: float) -> None:
    """The corner of `burgers_1d_parametric` where the Gaussian meets its image highest, with a kink."""
    a, w = 0.9, 1.1
    case = get_case("burgers_1d_parametric")
    solver = BurgersInviscid1d(1001, 6.0, -3.0, reconstruction=scheme, step=0.005)  # pyright: ignore
    x = np.array(solver.grid.axes[0].coordinates)

    def u0(y: np.ndarray) -> np.ndarray:
        return a * np.exp(-(((y + 3) % 6 - 3) ** 2) / (2 * w**2))

    times = np.array(case.times)[::50]
    u = solver.solve(u0(x)[None], times)[:, 0]
    exact = [by_characteristics(u0, lambda y: -((y + 3) % 6 - 3) / w**2 * u0(y), x, t) for t in times]
    error = np.linalg.norm(u - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert error.max() < bound


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("left", "right"), [(1.0, 0.0), (1.0, -0.5), (0.4, -1.0)])
def test_shock_speed(scheme: str, left: float, right: float) -> None:
    """A shock moves at the mean of its two states, and is spread over a few cells."""
    n, t, start = 200, 0.4, 0.5
    solver = BurgersInviscid1d(n, boundary="open", reconstruction=scheme)  # pyright: ignore
    x = np.array(solver.grid.axes[0].coordinates)
    u = solver.solve(np.where(x < start, left, right)[None], [0, t])[-1, 0]
    found = (u.mean() - right) / (left - right)  # where the integral puts the jump
    assert found == pytest.approx(start + 0.5 * (left + right) * t, abs=1e-10)
    smeared = (u < left - 0.05 * (left - right)) & (u > right + 0.05 * (left - right))
    assert smeared.sum() <= 4


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("left", "right"), [(0.2, 1.0), (-0.5, 0.7)])
def test_rarefaction(scheme: str, left: float, right: float) -> None:
    """A jump upwards opens into the fan u = x / t, through the sonic point too: no expansion shock."""
    t, start, errors, sizes = 0.3, 0.5, [], [100, 200, 400]
    for n in sizes:
        solver = BurgersInviscid1d(n, boundary="open", reconstruction=scheme)  # pyright: ignore
        x = np.array(solver.grid.axes[0].coordinates)
        u = solver.solve(np.where(x < start, left, right)[None], [0, t])[-1, 0]
        errors.append(np.abs(u - np.clip((x - start) / t, left, right)).mean())
    # The fan's corners and its first moments limit any scheme to about first order in L1.
    assert -np.polyfit(np.log(sizes), np.log(errors), 1)[0] > 0.85
    assert errors[-1] < 2e-3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_after_the_shock_error_falls_with_first_order(scheme: str) -> None:
    """u0 = sin(2 pi x): a standing shock at x = 1/2 whose strength follows from the characteristics."""
    t, errors, sizes = 0.4, [], np.array([64, 128, 256])
    for n in sizes:
        solver = BurgersInviscid1d(int(n), reconstruction=scheme)  # pyright: ignore
        x = np.array(solver.grid.axes[0].coordinates)
        u = solver.solve(np.sin(2 * np.pi * x)[None], [0, t])[-1, 0]
        # The characteristic that arrives at x < 1/2 starts in [0, 1/4]: bisect there; the rest is its mirror.
        at = np.where(x <= 0.5, x, 1 - x)
        low, high = np.zeros_like(x), np.full_like(x, 0.25)
        for _ in range(60):
            middle = (low + high) / 2
            late = middle + np.sin(2 * np.pi * middle) * t < at
            low, high = np.where(late, middle, low), np.where(late, high, middle)
        exact = np.sin(2 * np.pi * low) * np.where(x < 0.5, 1.0, -1.0) * (x != 0.5)
        errors.append(np.abs(u - exact)[x != 0.5].mean())
    assert errors[-1] < 2 / sizes[-1]
    assert -np.polyfit(np.log(sizes), np.log(errors), 1)[0] > 0.85


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mass_is_kept_to_round_off(scheme: str) -> None:
    solver = BurgersInviscid1d(100, reconstruction=scheme)  # pyright: ignore
    u = solver.solve(0.2 + solver.initial(np.random.default_rng(0)), np.linspace(0, 1, 6))[:, 0]
    assert np.ptp(u.mean(axis=1)) < 1e-14


def test_open_mass_changes_by_what_flows_through_the_ends() -> None:
    """The inside of a flux-form scheme cancels: du/dt summed is the difference of the two end fluxes."""
    solver = BurgersInviscid1d(50, boundary="open")
    u = solver.initial(np.random.default_rng(0))
    level = np.concatenate([np.full(5, 0.8), u[0, 5:-5], np.full(5, -0.3)])[None]
    assert solver.rate(level).sum() / 50 == pytest.approx(0.5 * (0.8**2 - 0.3**2), abs=1e-13)


def test_total_variation_does_not_grow_with_van_leer() -> None:
    solver = BurgersInviscid1d(120, reconstruction="van_leer")
    u = solver.solve(solver.initial(np.random.default_rng(1)), np.linspace(0, 1, 21))[:, 0]
    variation = np.abs(np.diff(u, axis=1, append=u[:, :1])).sum(axis=1)
    assert (np.diff(variation) < 1e-12).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_energy_falls_and_overshoot_is_small(scheme: str) -> None:
    solver = BurgersInviscid1d(120, reconstruction=scheme)  # pyright: ignore
    u = solver.solve(solver.initial(np.random.default_rng(2)), np.linspace(0, 1, 21))[:, 0]
    assert (np.diff((u**2).mean(axis=1)) < 1e-12).all()
    assert np.abs(u).max() <= 1.01 * np.abs(u[0]).max()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_shift_and_reflection(scheme: str) -> None:
    solver = BurgersInviscid1d(60, reconstruction=scheme)  # pyright: ignore
    u0, times = solver.initial(np.random.default_rng(3)), [0, 0.2, 0.6]
    u = solver.solve(u0, times)
    assert solver.solve(np.roll(u0, 11, -1), times) == pytest.approx(np.roll(u, 11, -1), abs=1e-14)
    assert solver.solve(-u0[:, ::-1], times) == pytest.approx(-u[..., ::-1], abs=1e-13)


def test_godunov_flux() -> None:
    left = np.array([1.0, 1.0, 0.5, -1.0, -1.0, 1.0])
    right = np.array([2.0, -0.5, -1.0, -2.0, 2.0, 1.0])
    # moving right; shock to the right; shock to the left; moving left; sonic fan; no jump
    assert godunov_flux(left, right) == pytest.approx(np.array([0.5, 0.5, 0.5, 2.0, 0.0, 0.5]))
