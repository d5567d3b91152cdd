"""Kuramoto-Sivashinsky: linear growth, equilibria, orders, symmetries, and the statistics of its chaos."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.errors import NumericsError
from romvae.solvers import CASES, KuramotoSivashinsky1d, largest_lyapunov_exponent

MODE_ENERGY = (0.04016, 0.31098, 0.22351, 0.10609, 0.016023, 0.0045725, 7.3615e-4, 1.3285e-4)
"""Time means of |v_m|^2 at L = 22, m = 1 .. 8, from `finite_difference_spectrum` over 12 seeds (307,200 time units);
they scatter by 0.3 to 2 per cent between seeds, so that their own error is below 0.6 per cent."""


def nodes(solver: KuramotoSivashinsky1d) -> np.ndarray:
    return np.array(solver.grid.axes[0].coordinates)


def attractor(solver: KuramotoSivashinsky1d, members: int, seed: int = 0) -> np.ndarray:
    """Independent states, spun up together."""
    rng = np.random.default_rng(seed)
    still = KuramotoSivashinsky1d(solver.length, solver.points, spin_up=0)
    start = np.stack([still.initial(rng) for _ in range(members)])
    coarse = KuramotoSivashinsky1d(solver.length, solver.points, step=0.25)
    return coarse.solve_many([coarse] * members, start, [0, 100])[:, 1]


def finite_difference_spectrum(seed: int, length: float = 22.0, points: int = 96, members: int = 64) -> np.ndarray:
    """The same means by another method: sixth-order differences, Crank-Nicolson and Adams-Bashforth, steps of 0.01.

    Nothing is shared with the solver: no Fourier transform in space, no exponential in time, its own transients.
    """
    dx, step, identity = length / points, 0.01, np.eye(points)

    def shift(j: int) -> np.ndarray:
        return np.roll(identity, j, axis=1)

    first = sum(w * (shift(j) - shift(-j)) for j, w in ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))) / dx
    ahead = sum(w * (shift(j) + shift(-j)) for j, w in ((1, 3 / 2), (2, -3 / 20), (3, 1 / 90)))
    second = (ahead - 49 / 18 * identity) / dx**2
    linear = -(second + second @ second)
    inverse = np.linalg.inv(identity - step / 2 * linear)
    carry, source = (inverse @ (identity + step / 2 * linear)).T, (inverse @ first).T * (-step / 2)
    rng, x = np.random.default_rng(seed), np.arange(points) * dx
    k = 2 * np.pi / length * np.arange(1, 4)[:, None, None]
    amplitude, phase = rng.standard_normal((3, members, 1)), rng.uniform(0, 2 * np.pi, (3, members, 1))
    u = (amplitude * np.sin(k * x + phase)).sum(axis=0)
    before, kept = u * u, []
    for i in range(50_000):
        square = u * u
        u, before = u @ carry + (1.5 * square - 0.5 * before) @ source, square
        if i >= 10_000 and i % 200 == 0:
            kept.append((np.abs(np.fft.rfft(u, norm="forward")) ** 2)[:, 1:9].mean(axis=0))
    return np.mean(kept, axis=0)


def test_small_waves_grow_and_decay_at_the_linear_rate() -> None:
    """exp((k^2 - k^4) t): modes 1 to 3 grow and 4, 5 decay; the square of 1e-8 is lost in round-off."""
    solver = KuramotoSivashinsky1d(22.0, 64)
    x, t = nodes(solver), 2.0
    for m in range(1, 6):
        k = 2 * np.pi * m / 22
        wave = 1e-8 * np.cos(k * x + 0.4)
        u = solver.solve(wave[None], [0, t])[-1, 0]
        assert u == pytest.approx(np.exp((k**2 - k**4) * t) * wave, abs=3e-7 * 1e-8)


@pytest.mark.parametrize(("cells", "energy"), [(2, 0.4382), (3, 1.5876)])
def test_equilibria_have_the_published_energies(cells: int, energy: float) -> None:
    """E2 and E3 of Cvitanovic, Davidchack and Siminos (2010) attract the waves of 2 and 3 cells.

    Energy is the mean of u^2 / 2; waves of other lengths are unstable but grow from round-off only.
    """
    solver = KuramotoSivashinsky1d(22.0, 64, step=0.1)
    u = solver.solve(np.sin(2 * np.pi * cells * nodes(solver) / 22)[None], [0, 60, 65])[:, 0]
    assert (u[1] ** 2).mean() / 2 == pytest.approx(energy, abs=5e-5)
    assert u[2] == pytest.approx(u[1], abs=1e-5)


def test_order_in_time_is_four() -> None:
    """From steps of 0.005 down; above, modes with k^4 h of about 1 leave an order between 3 and 4."""
    u0 = KuramotoSivashinsky1d().initial(np.random.default_rng(1))
    steps = [0.005, 0.0025, 0.00125]

    def end(step: float) -> np.ndarray:
        return KuramotoSivashinsky1d(step=step).solve(u0, [0, 2])[-1]

    exact = end(0.0003125)
    errors = [np.abs(end(step) - exact).max() for step in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(4, abs=0.15)


def test_error_falls_exponentially_with_resolution() -> None:
    """Each 6 points more divide the error by the same factor: log(error) is a line in the resolution.

    The root mean square over eight states, since a single one has stronger and weaker high modes.
    """
    u0 = attractor(KuramotoSivashinsky1d(), 8)

    def end(resolution: int) -> np.ndarray:
        solver = KuramotoSivashinsky1d(resolution=resolution)
        return solver.solve_many([solver] * 8, u0, [0, 2])[:, -1]

    exact, resolutions = end(96), np.array([42, 48, 54, 60])
    errors = [np.sqrt(((end(int(n)) - exact) ** 2).mean()) for n in resolutions]
    assert np.corrcoef(resolutions, np.log(errors))[0, 1] < -0.99
    assert errors[-1] < 1e-2 * errors[0]


def test_mean_is_kept_and_random_fields_have_none() -> None:
    solver = KuramotoSivashinsky1d()
    u0 = solver.initial(np.random.default_rng(1))
    assert solver.conserved(u0)["mass"] == pytest.approx(0, abs=1e-13)
    mass = solver.conserved(solver.solve(0.3 + u0, np.linspace(0, 20, 5)))["mass"]
    assert mass == pytest.approx(np.full(5, 0.3 * 22), abs=1e-11)


def test_symmetries() -> None:
    """Shift, reflection (x, u) -> (-x, -u) and Galilean boost, over times in which chaos does not matter."""
    solver = KuramotoSivashinsky1d()
    u0, times = solver.initial(np.random.default_rng(2)), np.array([0.0, 2.75, 5.5])
    u = solver.solve(u0, times)
    assert solver.solve(np.roll(u0, 9, -1), times) == pytest.approx(np.roll(u, 9, -1), abs=1e-11)
    assert solver.solve(-u0[:, ::-1], times) == pytest.approx(-u[..., ::-1], abs=1e-11)
    boosted = solver.solve(u0 + 1.0, times)  # moves by 8 and 16 of 64 points
    expected = np.stack([np.roll(u[i], 8 * i, -1) + 1.0 for i in range(3)])
    assert boosted == pytest.approx(expected, abs=1e-4)  # the boost changes the error of the time steps


@pytest.mark.parametrize(("name", "bound"), [("kuramoto_sivashinsky_1d", 5e-6), ("kuramoto_sivashinsky_1d_long", 1e-4)])
def test_default_differs_from_the_refined_solution_by_the_documented_error(name: str, bound: float) -> None:
    draw = CASES[name].draw(0)
    fine, times = draw.solver.refined(), [0.0, 10.0, 20.0]
    assert fine.grid == draw.solver.grid
    assert np.abs(draw.solver.solve(draw.u0, times) - fine.solve(draw.u0, times)).max() < bound


def test_the_energy_spectrum_is_that_of_an_independent_method() -> None:
    """16,000 time units of the case's own solver, from its own initial fields: these are on the attractor."""
    case = CASES["kuramoto_sivashinsky_1d"]
    solver = KuramotoSivashinsky1d(resolution=64, step=0.25)
    first = np.stack([case.draw(i).u0 for i in range(32)])
    u = solver.solve_many([solver] * 64, np.concatenate([first, -first[..., ::-1]]), np.arange(0, 252, 2.0))
    found = (np.abs(np.fft.rfft(u[:, :, 0], norm="forward")) ** 2)[..., 1:9].mean(axis=(0, 1))
    # Between runs of this length the means scatter by up to 3 per cent; 10 per cent is what a wrong term would show.
    assert found == pytest.approx(np.array(MODE_ENERGY), rel=0.1)


@pytest.mark.slow
def test_the_stored_spectrum_is_what_the_independent_method_gives() -> None:
    assert finite_difference_spectrum(seed=0) == pytest.approx(np.array(MODE_ENERGY), rel=0.06)


@pytest.mark.slow
def test_largest_lyapunov_exponent_is_the_published_one() -> None:
    """0.048 at L = 22 (Cvitanovic, Davidchack and Siminos 2010; 0.043 in Edson et al. 2019 over longer runs)."""
    solver = KuramotoSivashinsky1d(step=0.1)
    found = largest_lyapunov_exponent(solver, attractor(solver, 64), interval=10.0, repeats=50, discard=10)
    assert found.standard_error < 0.002
    assert found.mean == pytest.approx(0.046, abs=0.005)


def test_a_short_estimate_of_the_exponent_sees_the_chaos() -> None:
    solver = KuramotoSivashinsky1d(step=0.25)
    found = largest_lyapunov_exponent(solver, attractor(solver, 32), interval=10.0, repeats=10, discard=4)
    assert found.mean == pytest.approx(0.046, abs=0.02)


def test_too_long_a_step_is_refused() -> None:
    solver = KuramotoSivashinsky1d(64.0, 64, step=2.0)
    u0 = KuramotoSivashinsky1d(64.0, 64, spin_up=0).initial(np.random.default_rng(0))
    with pytest.raises(NumericsError, match=r"the waves are not resolved by resolution=96, step=2\. Raise resolution"):
        solver.solve(5 * u0, np.linspace(0, 100, 11))
