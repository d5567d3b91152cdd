"""Waves in a medium: standing and plane waves, an exact heterogeneous solution, energy, reciprocity, reversal."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.special

from romvae.errors import ConfigError, NumericsError
from romvae.solvers import Wave2d, verify_solver
from romvae.solvers.chebyshev_time import bessel, wave_motion

TIMES = np.array([0.0, 0.07, 0.5, 3.0])
SIDES = pytest.mark.parametrize("boundary", ["reflecting", "periodic"])


class LinearSpeed(Wave2d):
    """c = 1 + x, which has exact eigenfunctions."""

    def speed(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 1 + x + 0 * y


def medium(boundary: str, points: int = 48) -> Wave2d:
    return Wave2d(-0.2, 0.3, 0.4, 0.6, points=points, boundary=boundary, resolution=points)  # pyright: ignore


def coordinates(solver: Wave2d) -> tuple[np.ndarray, np.ndarray]:
    y, x = (np.array(axis.coordinates) for axis in solver.grid.axes)
    return x[None, :], y[:, None]


@SIDES
def test_standing_waves(boundary: str) -> None:
    """cos(k x) cos(m y) cos(w t) with w = |(k, m)| for constant speed, and the same set in motion by v."""
    solver = Wave2d(points=24, length=2.0, boundary=boundary)  # pyright: ignore
    x, y = coordinates(solver)
    k, m = np.array([3, 2]) * (np.pi / 2 if boundary == "reflecting" else np.pi)
    shape, w = np.cos(k * x) * np.cos(m * y), np.hypot(k, m)
    t = TIMES[:, None, None]
    u = shape * (np.cos(w * t) + 0.7 / w * np.sin(w * t))
    v = shape * (-w * np.sin(w * t) + 0.7 * np.cos(w * t))
    found = solver.solve(np.stack([u[0], v[0]]), TIMES)
    assert found == pytest.approx(np.stack([u, v], axis=1), abs=1e-11)  # round-off times the number of products


def test_plane_wave_travels() -> None:
    solver = Wave2d(points=24, boundary="periodic")
    x, y = coordinates(solver)
    k = 2 * np.pi * np.array([2, -1])
    phase = k[0] * x + k[1] * y - np.hypot(*k) * TIMES[:, None, None]
    exact = np.stack([np.sin(phase), -np.hypot(*k) * np.cos(phase)], axis=1)
    assert solver.solve(exact[0], TIMES) == pytest.approx(exact, abs=1e-11)


def test_mean_velocity_moves_the_mean() -> None:
    """The constant mode has no restoring force: u = v0 t."""
    solver = medium("reflecting", 16)
    u0 = np.stack([np.zeros((16, 16)), np.full((16, 16), 0.5)])
    u = solver.solve(u0, TIMES)
    assert u[:, 0] == pytest.approx(np.broadcast_to(0.5 * TIMES[:, None, None], u[:, 0].shape), abs=1e-12)


def test_exact_solution_in_a_medium() -> None:
    """(c^2 u')' = -w^2 u with c = 1 + x: u = (cos(q s) + sin(q s) / 2q) / sqrt(c), s = log c, w^2 = q^2 + 1/4.

    q = n pi / log 2 makes u' vanish at both walls. There the even continuation of c has a kink, so that the
    cosine series converges with a power only.
    """
    q = 2 * np.pi / np.log(2)
    w, t, errors, sizes = np.sqrt(q**2 + 0.25), 0.4, [], np.array([24, 48, 96])
    for n in sizes:
        solver = LinearSpeed(points=int(n), resolution=int(n))
        s = np.log(1 + coordinates(solver)[0])
        shape = np.broadcast_to((np.cos(q * s) + np.sin(q * s) / (2 * q)) * np.exp(-s / 2), (n, n))
        u = solver.solve(np.stack([shape, np.zeros((n, n))]), [0, t])[-1, 0]
        errors.append(np.abs(u - shape * np.cos(w * t)).max())
    assert errors[-1] < 1e-4
    assert -np.polyfit(np.log(sizes), np.log(errors), 1)[0] > 1.85


@SIDES
def test_error_falls_exponentially_with_resolution(boundary: str) -> None:
    times = [0.0, 0.5]
    kinds = {"lens_x": 0.4, "lens_y": 0.45, "points": 32, "boundary": boundary}
    u0 = Wave2d(**kinds).initial(np.random.default_rng(4))  # pyright: ignore

    def end(resolution: int) -> np.ndarray:
        return Wave2d(0.2, -0.3, **kinds, resolution=resolution).solve(u0, times)[-1, 0]  # pyright: ignore

    sizes, reference = np.array([32, 36, 40, 44]), end(96)
    errors = [np.abs(end(int(n)) - reference).max() for n in sizes]
    assert np.corrcoef(sizes, np.log(errors))[0, 1] < -0.98
    assert errors[-1] < 0.1 * errors[0]


@SIDES
def test_energy_and_mean_velocity_are_kept(boundary: str) -> None:
    solver = medium(boundary)
    u0 = solver.initial(np.random.default_rng(0))
    u0[1] = 3 * u0[0]
    kept = solver.conserved(solver.solve(u0, np.linspace(0, 5, 11)))
    assert kept["energy"] == pytest.approx(np.full(11, kept["energy"][0]), rel=1e-12)
    assert kept["mean_velocity"] == pytest.approx(np.full(11, u0[1].mean()), abs=1e-12)
    flat = Wave2d(points=48, boundary=boundary, resolution=48)  # pyright: ignore
    x, _ = coordinates(flat)
    mode = np.broadcast_to(np.cos(2 * np.pi * x), (48, 48))
    # The mean of (2 pi sin)^2 / 2 is pi^2.
    assert flat.conserved(np.stack([mode, 0 * mode]))["energy"] == pytest.approx(np.pi**2)


@SIDES
def test_time_can_be_turned_back(boundary: str) -> None:
    solver = medium(boundary)
    u0 = solver.initial(np.random.default_rng(1))
    back = np.array([1, -1])[:, None, None]
    end = solver.solve(u0, [0, 1.7])[-1]
    # The resolution is that of the grid, so that only the corner modes of u0, at round-off, are cut.
    assert back * solver.solve(back * end, [0, 1.7])[-1] == pytest.approx(u0, abs=1e-10)


@SIDES
def test_source_and_receiver_can_be_exchanged(boundary: str) -> None:
    """The impulse response from A to B is that from B to A, through any medium."""
    solver = medium(boundary, 32)
    x, y = coordinates(solver)

    def impulse(x0: float, y0: float) -> np.ndarray:
        return np.exp(-(((x - x0) ** 2 + (y - y0) ** 2) / 0.08**2))

    a, b = impulse(0.3, 0.35), impulse(0.6, 0.7)
    from_a, from_b = (solver.solve(np.stack([0 * s, s]), [0, 0.3, 0.9])[1:, 0] for s in (a, b))
    assert (from_a * b).sum(axis=(1, 2)) == pytest.approx((from_b * a).sum(axis=(1, 2)), rel=1e-10)
    assert np.abs((from_a * b).sum(axis=(1, 2))).max() > 0.1


def test_reflection_and_exchange_of_axes() -> None:
    times, n = [0.0, 0.6], 40
    u0 = Wave2d(points=n).initial(np.random.default_rng(7))
    u = Wave2d(0.0, 0.3, 0.35, 0.6, points=n).solve(u0, times)
    mirrored = Wave2d(0.0, 0.3, 0.65, 0.6, points=n).solve(u0[..., ::-1], times)
    turned = Wave2d(0.0, 0.3, 0.6, 0.35, points=n).solve(u0.swapaxes(1, 2), times)
    assert mirrored == pytest.approx(u[..., ::-1], abs=1e-11)
    assert turned == pytest.approx(u.swapaxes(2, 3), abs=1e-11)


def test_nothing_arrives_before_the_fastest_wave() -> None:
    solver = Wave2d(0.3, 0.3, 0.5, 0.7, points=64)
    x, y = coordinates(solver)
    pulse = np.exp(-(((x - 0.5) ** 2 + (y - 0.3) ** 2) / 0.05**2))
    u = solver.solve(np.stack([pulse, 0 * pulse]), [0, 0.2])[-1, 0]
    reach = 0.2 * 1.6 + 5.5 * 0.05  # exp(-5.5^2) = 7e-14
    assert np.abs(u[np.hypot(x - 0.5, y - 0.3) > reach]).max() < 1e-9


def test_chebyshev_expansion_is_the_matrix_function() -> None:
    """Against eigenvectors of a random symmetric matrix with a zero eigenvalue; real and complex."""
    rng = np.random.default_rng(0)
    half = rng.standard_normal((9, 12))
    a = half.T @ half
    values, vectors = scipy.linalg.eigh(a)
    root = np.sqrt(np.maximum(values, 0))[:, None]
    for u0, v0 in (rng.standard_normal((2, 12)), rng.standard_normal((2, 12)) + 1j * rng.standard_normal((2, 12))):
        u, v = wave_motion(lambda z: a @ z, 1.1 * values[-1], u0, v0, TIMES)
        t = TIMES[None]
        sine = t * np.sinc(root * t / np.pi)
        modes_u, modes_v = (vectors.T @ u0)[:, None], (vectors.T @ v0)[:, None]
        u, v = u.T, v.T
        assert u == pytest.approx(vectors @ (np.cos(root * t) * modes_u + sine * modes_v), abs=1e-12)
        assert v == pytest.approx(vectors @ (np.cos(root * t) * modes_v - root**2 * sine * modes_u), abs=1e-11)


def test_bessel_functions() -> None:
    r = np.array([0.0, 0.3, 12.0, 250.0])
    assert bessel(300, r) == pytest.approx(scipy.special.jv(np.arange(301), r[:, None]), abs=2e-14)


def test_refined_contract_and_errors() -> None:
    solver = Wave2d(-0.3, -0.3, 0.5, 0.6, points=64, resolution=80)
    u0, times = solver.initial(np.random.default_rng(2)), [0.0, 0.5, 1.0]
    u, fine = solver.solve(u0, times), solver.refined().solve(u0, times)
    assert np.linalg.norm(u - fine) < 1e-6 * np.linalg.norm(fine)
    verify_solver(Wave2d(0.2, -0.1, points=24), (0.0, 0.1, 0.25))
    verify_solver(Wave2d(0.2, -0.1, points=25, boundary="periodic"), (0.0, 0.1, 0.25))
    with pytest.raises(ConfigError, match=r"the speed falls to -0.\d+, expected above 0 everywhere"):
        Wave2d(layer=-1.2)
    with pytest.raises(ConfigError, match="boundary is 'open', expected one of reflecting, periodic"):
        Wave2d(boundary="open")  # pyright: ignore
    with pytest.raises(ConfigError, match="resolution is 32, expected at least points=64"):
        Wave2d(resolution=32)
    noise = np.random.default_rng(0).standard_normal(Wave2d(points=24).shape)
    with pytest.raises(NumericsError, match=r"failed at t=0 \(layer=0.1, .*the field is not resolved by resolution=24"):
        Wave2d(0.1, points=24, resolution=24).solve(noise, [0, 0.1])
