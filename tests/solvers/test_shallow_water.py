"""Shallow water: Stoker's dam break, small waves, order, and what a finite-volume scheme has to keep."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import brentq

from romvae.errors import ConfigError, NumericsError
from romvae.solvers import ShallowWater2d, verify_solver
from romvae.solvers.reconstruction import RECONSTRUCTIONS
from romvae.solvers.shallow_water import hllc_flux

SCHEMES = pytest.mark.parametrize("scheme", list(RECONSTRUCTIONS))


def stoker(x: np.ndarray, t: float, deep: float, shallow: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth and velocity of a dam break at x = 0 on a wet bed with g = 1: a fan, a plateau, a bore."""
    fan, below = np.sqrt(deep), shallow

    def mismatch(h: float) -> float:
        return 2 * (fan - np.sqrt(h)) - (h - below) * np.sqrt(0.5 * (1 / h + 1 / below))

    h = brentq(mismatch, shallow, deep, xtol=1e-15)
    u = 2 * (fan - np.sqrt(h))
    bore, xi = u * h / (h - shallow), x / t
    regions = [xi < -fan, xi < u - np.sqrt(h), xi < bore]
    depth = np.select(regions, [deep, (2 * fan - xi) ** 2 / 9, h], shallow)
    return depth, np.select(regions, [0.0, 2 / 3 * (fan + xi), u], 0.0)


@SCHEMES
@pytest.mark.parametrize("shallow", [1.0, 0.1])
def test_dam_break_with_first_order(scheme: str, shallow: float) -> None:
    """First order in L1, as any scheme with a bore: it is spread over a fixed number of cells."""
    errors, sizes, t = [], np.array([50, 100, 200]), 1.2
    for n in sizes:
        solver = ShallowWater2d((4, int(n)), 10.0, -5.0, refinement=1, reconstruction=scheme)  # pyright: ignore
        x = np.array(solver.grid.axes[1].coordinates)
        u0 = np.zeros(solver.shape)
        u0[0] = np.where(x < 0, 2.0, shallow)
        u = solver.solve(u0, [0, t])[-1]
        depth, velocity = stoker(x, t, 2.0, shallow)
        errors.append([np.abs(u[0] - depth).mean(), np.abs(u[1] - velocity).mean()])
        assert np.abs(u[2]).max() == 0
        assert np.array_equal(u, np.broadcast_to(u[:, :1], u.shape))
    for error in np.transpose(errors):
        assert -np.polyfit(np.log(sizes), np.log(error), 1)[0] == pytest.approx(1, abs=0.15)
    assert errors[-1][0] < 0.005


@SCHEMES
def test_depth_stays_positive_at_a_ratio_of_a_thousand(scheme: str) -> None:
    solver = ShallowWater2d((4, 100), 10.0, -5.0, refinement=1, reconstruction=scheme)  # pyright: ignore
    u0 = np.zeros(solver.shape)
    u0[0] = np.where(np.array(solver.grid.axes[1].coordinates) < 0, 1.0, 1e-3)
    u = solver.solve(u0, np.linspace(0, 1.5, 6))
    assert u[:, 0].min() > 0.999e-3
    assert u[:, 0].max() < 1 + 1e-9


def hump(x: np.ndarray) -> np.ndarray:
    return 1 + 0.1 * np.exp(-(((x - 0.3) / 0.8) ** 2))


@pytest.mark.parametrize(("scheme", "order"), [("van_leer", 2), ("weno5", 5)])
def test_order_in_space_along_one_axis(scheme: str, order: int) -> None:
    """In L1 on a smooth hump; the steps are short enough for only the cells to count."""
    t, errors, sizes = 0.5, [], np.array([32, 64, 128] if scheme == "van_leer" else [24, 32, 48])

    def end(n: int) -> np.ndarray:
        solver = ShallowWater2d((4, n), 8.0, -4.0, refinement=1, reconstruction=scheme, step=0.008)  # pyright: ignore
        x, dx = np.array(solver.grid.axes[1].coordinates), 8.0 / n
        node, weight = np.polynomial.legendre.leggauss(6)
        mean = np.sum([w / 2 * hump(x + p * dx / 2) for p, w in zip(node, weight, strict=True)], axis=0)
        u0 = np.zeros(solver.shape)
        u0[0] = mean
        return solver.solve(u0, [0, t])[-1, 0, 0]

    reference = end(384)
    errors = [np.abs(end(int(n)) - reference.reshape(n, -1).mean(axis=1)).mean() for n in sizes]
    # van Leer's limiter is of first order at the crest.
    assert -np.polyfit(np.log(sizes), np.log(errors), 1)[0] == pytest.approx(order, abs=0.15 if order == 2 else 0.5)


def test_order_in_time_is_three() -> None:
    def end(step: float) -> np.ndarray:
        solver = ShallowWater2d((4, 40), 8.0, -4.0, refinement=1, reconstruction="weno5", step=step)
        u0 = np.zeros(solver.shape)
        u0[0] = hump(np.array(solver.grid.axes[1].coordinates))
        return solver.solve(u0, [0, 0.8])[-1, 0]

    steps, reference = [0.08, 0.04, 0.02], end(0.005)
    errors = [np.abs(end(h) - reference).mean() for h in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(3, abs=0.15)


def test_small_waves_travel_with_the_root_of_g_h() -> None:
    """A standing wave of height 1e-6 comes back after its period 2 pi / (k sqrt(g h)), in both directions."""
    g, depth, n = 2.5, 1.6, 32
    solver = ShallowWater2d(n, 1.0, 0.0, g, refinement=1, reconstruction="weno5")
    y, x = (np.array(axis.coordinates) for axis in solver.grid.axes)
    k = np.pi * np.array([2.0, 1.0])
    shape = np.outer(np.cos(k[1] * y), np.cos(k[0] * x))
    w = np.hypot(*k) * np.sqrt(g * depth)
    u0 = np.zeros(solver.shape)
    u0[0] = depth + 1e-6 * shape
    times = 2 * np.pi / w * np.array([0, 0.25, 0.5, 1])
    wave = (solver.solve(u0, times)[:, 0] - depth) / 1e-6
    # What is left is the flux through a face taken at its middle: of second order.
    expected = np.cos(w * times)[:, None, None] * shape
    assert wave == pytest.approx(expected, abs=5e-3)


def test_a_lake_at_rest_stays_at_rest() -> None:
    solver = ShallowWater2d((6, 9))
    u0 = np.zeros(solver.shape)
    u0[0] = 1.37
    assert np.array_equal(solver.solve(u0, [0, 1, 5]), np.broadcast_to(u0, (3, *u0.shape)))


@SCHEMES
def test_volume_is_kept_to_round_off_and_energy_falls(scheme: str) -> None:
    solver = ShallowWater2d(16, refinement=2, reconstruction=scheme)  # pyright: ignore
    u = solver.solve(solver.initial(np.random.default_rng(0)), np.linspace(0, 4, 9))
    assert np.ptp(solver.conserved(u)["volume"]) < 1e-13
    energy = (0.5 * u[:, 0] * (u[:, 1] ** 2 + u[:, 2] ** 2) + 0.5 * u[:, 0] ** 2).mean(axis=(1, 2))
    assert (np.diff(energy) < 0).all()


@SCHEMES
def test_exchange_of_axes_and_reflection(scheme: str) -> None:
    solver = ShallowWater2d(12, reconstruction=scheme)  # pyright: ignore
    rng = np.random.default_rng(1)
    u0 = solver.initial(rng)
    u0[1:] = 0.2 * rng.standard_normal((2, 12, 12))
    times = [0.0, 0.7, 2.0]
    u = solver.solve(u0, times)
    turned = solver.solve(u0[[0, 2, 1]].swapaxes(1, 2), times)
    assert turned == pytest.approx(u[:, [0, 2, 1]].swapaxes(2, 3), abs=1e-13)
    sign = np.array([1, -1, 1])[:, None, None]
    assert solver.solve(sign * u0[..., ::-1], times) == pytest.approx(sign * u[..., ::-1], abs=1e-12)


def test_a_central_column_spreads_in_circles() -> None:
    """Along the diagonal as along the axes: the depth at 21 radii differs by at most 2.5 % of the column's height."""
    solver = ShallowWater2d(63, refinement=2)
    u = solver.solve(solver.column(0.7, 2.0), [0, 0.8])[-1, 0]
    middle, cell = 31, 5 / 63
    at = np.arange(21)
    axis = u[middle, middle + at]
    diagonal = np.interp(at * cell, np.arange(21) * cell * np.sqrt(2), u[middle + at, middle + at])
    assert np.abs(axis - diagonal).max() < 0.025
    assert np.ptp(axis) > 0.1


def test_a_moving_frame_changes_nothing_away_from_walls() -> None:
    """Galilean invariance of the flux: F(q + boost) = F(q) at a face that moves with it, for smooth states."""
    rng = np.random.default_rng(2)
    h, u, v = rng.uniform(0.5, 2, 50), rng.uniform(-1, 1, 50), rng.uniform(-1, 1, 50)
    q = np.stack([h, h * u, h * v])
    exact = np.stack([h * u, h * u**2 + 1.3 * h**2 / 2, h * u * v])
    assert hllc_flux(q, q, 1.3) == pytest.approx(exact, abs=1e-14)


def test_flux_of_a_mirror_is_pressure_only() -> None:
    left = np.array([1.3, 0.4, 0.2])[:, None]
    right = left * np.array([1, -1, 1])[:, None]
    flux = hllc_flux(left, right, 1.0)
    assert flux[0] == 0
    assert flux[2] == 0
    assert flux[1] > 1.3**2 / 2  # water that runs against a wall presses harder than at rest


def test_flux_at_a_shear_takes_the_velocity_of_the_water_that_crosses() -> None:
    left, right = np.array([1.0, 0.3, 0.5])[:, None], np.array([1.0, 0.3, -0.5])[:, None]
    assert hllc_flux(left, right, 1.0)[2] == pytest.approx(0.3 * 0.5)
    still = np.array([1, 0, 1])[:, None]
    assert hllc_flux(left * still, right * still, 1.0)[2] == 0  # a shear at rest is not smeared


@pytest.mark.parametrize("make", [lambda n: n, lambda n: (n - 4, n)])
def test_what_enters_is_spread_over_cells_without_loss(make: Callable) -> None:
    solver = ShallowWater2d(make(16), refinement=3)
    u0 = solver.initial(np.random.default_rng(3))
    u = solver.solve(u0, [0, 1e-9])
    assert u[1] == pytest.approx(u0, abs=1e-7)


def test_refined_contract_and_errors() -> None:
    verify_solver(ShallowWater2d((12, 20)), tolerance=0.02)  # what is stored on the way is spread over cells again
    solver = ShallowWater2d(24, refinement=1)
    u0 = solver.initial(np.random.default_rng(4))
    finer = solver.refined()
    assert finer.settings["refinement"] == 2
    u, fine = solver.solve(u0, [0, 0.5])[-1], finer.solve(u0, [0, 0.5])[-1]
    assert 0 < np.abs(u[0] - fine[0]).mean() < 0.02
    with pytest.raises(ConfigError, match="initial depth is 0 somewhere, expected above 0 everywhere"):
        solver.solve(np.zeros(solver.shape), [0, 1])
    with pytest.raises(ConfigError, match="reconstruction is 'eno', expected one of weno5, van_leer"):
        ShallowWater2d(reconstruction="eno")  # pyright: ignore
    with pytest.raises(ConfigError, match="points is \\(8,\\), expected one number or two"):
        ShallowWater2d(points=(8,))
    with pytest.raises(NumericsError, match=r"failed at t=\S+ \(\): the depth fell to .*dry ground is not solved for"):
        ShallowWater2d(24, step=2.0).solve(u0, [0, 20])
