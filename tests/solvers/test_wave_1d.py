"""The one-dimensional wave equation: d'Alembert, standing modes, reflections, energy."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.solvers import Wave1d

TIMES = np.array([0.0, 0.1, 0.35, 1.7])
ENDS = {
    "periodic": ("periodic", lambda x: np.cos(4 * np.pi * x + 0.3), 4 * np.pi),
    "free": ("reflecting", lambda x: np.cos(3 * np.pi * x), 3 * np.pi),
    "fixed": (0.0, lambda x: np.sin(2 * np.pi * x), 2 * np.pi),
    "fixed, free": (("value", "reflecting"), lambda x: np.sin(1.5 * np.pi * x), 1.5 * np.pi),
    "free, fixed": (("reflecting", 0.0), lambda x: np.cos(2.5 * np.pi * x), 2.5 * np.pi),
}


def pulse(x: np.ndarray) -> np.ndarray:
    """Below 1e-16 where |x| > 0.25, and its spectrum beyond mode 60."""
    return np.exp(-((x / 0.04) ** 2))


def slope(x: np.ndarray) -> np.ndarray:
    return -2 * x / 0.04**2 * pulse(x)


@pytest.mark.parametrize("points", [32, 45])
@pytest.mark.parametrize("ends", ENDS.values(), ids=list(ENDS))
def test_standing_modes(ends: tuple, points: int) -> None:
    """u = phi (cos(w t) + 2 sin(w t)), w = c k, for every pair of ends."""
    boundary, mode, k = ends
    solver = Wave1d(speed=0.7, points=points, length=2.0, boundary=boundary)
    phi = mode(np.array(solver.grid.axes[0].coordinates) / 2.0)
    w = 0.7 * k / 2.0
    t = TIMES[:, None]
    u = phi * (np.cos(w * t) + 2 * np.sin(w * t))
    v = phi * w * (2 * np.cos(w * t) - np.sin(w * t))
    assert solver.solve(np.stack([u[0], v[0]]), TIMES) == pytest.approx(np.stack([u, v], axis=1), abs=1e-12)


def test_d_alembert() -> None:
    """u = (f(x - c t) + f(x + c t)) / 2 from rest, and f(x - c t) alone if v = -c f'."""
    solver = Wave1d(speed=1.3, points=256)
    x = np.array(solver.grid.axes[0].coordinates)

    def centred(x: np.ndarray) -> np.ndarray:
        return (x + 0.5) % 1 - 0.5

    rest = solver.solve(np.stack([pulse(centred(x - 0.5)), 0 * x]), TIMES)
    one_way = solver.solve(np.stack([pulse(centred(x - 0.5)), -1.3 * slope(centred(x - 0.5))]), TIMES)
    for i, t in enumerate(TIMES):
        right, left = centred(x - 0.5 - 1.3 * t), centred(x - 0.5 + 1.3 * t)
        assert rest[i, 0] == pytest.approx((pulse(right) + pulse(left)) / 2, abs=1e-12)
        assert rest[i, 1] == pytest.approx(1.3 * (slope(left) - slope(right)) / 2, abs=1e-10)
        assert one_way[i, 0] == pytest.approx(pulse(right), abs=1e-12)


@pytest.mark.parametrize(("end", "sign"), [("value", -1.0), ("reflecting", 1.0)])
def test_a_fixed_end_turns_a_pulse_over_and_a_free_one_does_not(end: str, sign: float) -> None:
    solver = Wave1d(speed=2.0, points=256, boundary=("reflecting", end))
    x = np.array(solver.grid.axes[0].coordinates)
    u = solver.solve(np.stack([pulse(x - 0.6), -2.0 * slope(x - 0.6)]), [0, 0.4])[-1]  # travels 0.4, back, 0.4
    assert u[0] == pytest.approx(sign * pulse(x - 0.6), abs=1e-12)
    assert u[1] == pytest.approx(sign * 2.0 * slope(x - 0.6), abs=1e-10)


@pytest.mark.parametrize("boundary", [end[0] for end in ENDS.values()], ids=list(ENDS))
def test_energy_and_momentum_are_kept(boundary: object) -> None:
    solver = Wave1d(speed=0.8, points=40, length=3.0, boundary=boundary)  # pyright: ignore
    u = solver.solve(np.random.default_rng(0).standard_normal((2, 40)), np.linspace(0, 4, 9))
    kept = solver.conserved(u)
    assert set(kept) == ({"energy", "momentum"} if boundary in ("periodic", "reflecting") else {"energy"})
    for values in kept.values():
        assert np.ptp(values) < 1e-12 * np.abs(values).max() + 1e-13


def test_energy_of_a_mode_is_that_of_its_formula() -> None:
    """phi = sin(3 pi x / 2): the integrals of phi^2 and phi_x^2 are 1/2 and k^2 / 2."""
    solver = Wave1d(speed=0.8, points=32, boundary=("value", "reflecting"))
    phi = np.sin(1.5 * np.pi * np.array(solver.grid.axes[0].coordinates))
    energy = solver.conserved(np.stack([2 * phi, 3 * phi]))["energy"]
    assert energy == pytest.approx((9 / 2 + 0.8**2 * (1.5 * np.pi) ** 2 * 4 / 2) / 2, rel=1e-13)


def test_a_string_without_ends_drifts_with_its_mean_velocity() -> None:
    solver = Wave1d(points=20, boundary="reflecting")
    u = solver.solve(np.stack([np.zeros(20), np.full(20, 0.3)]), TIMES)
    assert u[:, 0] == pytest.approx(np.broadcast_to(0.3 * TIMES[:, None], (4, 20)), abs=1e-14)


def test_time_runs_backwards_with_the_velocity_turned_round() -> None:
    solver = Wave1d(speed=1.1, points=50, boundary=("value", "reflecting"))
    u0 = solver.initial(np.random.default_rng(1))
    turn = np.array([1.0, -1.0])[:, None]
    end = solver.solve(u0, [0, 2.3])[-1]
    assert turn * solver.solve(turn * end, [0, 2.3])[-1] == pytest.approx(u0, abs=1e-12)


def test_fixed_and_free_ends_are_halves_of_a_periodic_string() -> None:
    """The odd continuation about a fixed and the even one about a free end, on four times the length."""
    solver = Wave1d(points=16, boundary=("value", "reflecting"))
    u0 = solver.initial(np.random.default_rng(2))
    half = np.concatenate([u0, u0[:, ::-1]], axis=1)
    whole = Wave1d(points=64, length=4.0).solve(np.concatenate([half, -half], axis=1), TIMES)
    assert solver.solve(u0, TIMES) == pytest.approx(whole[..., :16], abs=1e-12)
