"""Fisher-KPP and Allen-Cahn: travelling fronts, the uniform problem, maximum principle, energy, orders."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import scipy.fft

from romvae.errors import NumericsError
from romvae.solvers import CASES, ReactionDiffusion1d

Kind = Literal["fisher", "allen_cahn"]
KINDS: tuple[Kind, ...] = ("fisher", "allen_cahn")


def nodes(solver: ReactionDiffusion1d) -> np.ndarray:
    return np.array(solver.grid.axes[0].coordinates)


def test_fisher_front_of_ablowitz_and_zeppetella() -> None:
    """u = (1 + exp(q (x - c t)))^-2 with q = sqrt(r / 6 D), c = 5 sqrt(r D / 6); its tails end below 1e-13."""
    diffusivity, rate = 2e-4, 10.0
    solver = ReactionDiffusion1d(
        "fisher", diffusivity, rate, points=256, boundary="reflecting", resolution=256, step=2.5e-3
    )
    q, c = np.sqrt(rate / (6 * diffusivity)), 5 * np.sqrt(rate * diffusivity / 6)
    times = np.array([0.0, 0.4, 1.0])
    exact = [(1 + np.exp(q * (nodes(solver) - 0.4 - c * t))) ** -2.0 for t in times]
    u = solver.solve(exact[0][None], times)[:, 0]
    assert u == pytest.approx(np.array(exact), abs=1e-7)


@pytest.mark.parametrize("bias", [0.0, 0.3, -0.2])
def test_allen_cahn_front(bias: float) -> None:
    """u = -tanh((x - c t) / w), w = sqrt(2 D / r), c = -b r w: steady without bias."""
    diffusivity, rate = 5e-4, 5.0
    solver = ReactionDiffusion1d(
        "allen_cahn", diffusivity, rate, bias, 256, boundary="reflecting", resolution=384, step=2.5e-3
    )
    width = np.sqrt(2 * diffusivity / rate)
    times = np.array([0.0, 1.0, 3.0])
    exact = [-np.tanh((nodes(solver) - 0.5 + bias * rate * width * t) / width) for t in times]
    u = solver.solve(exact[0][None], times)[:, 0]
    assert u == pytest.approx(np.array(exact), abs=1e-6)


@pytest.mark.parametrize("boundary", ["periodic", "reflecting"])
def test_uniform_fields_follow_the_ordinary_equation(boundary: str) -> None:
    """Logistic growth, and u / sqrt(1 - u^2) growing by exp(r t); default steps are good to 1e-6."""
    times, rate = np.linspace(0, 2, 5), 3.0
    u = ReactionDiffusion1d("fisher", rate=rate, points=16, boundary=boundary).solve(np.full((1, 16), 0.1), times)
    exact = 1 / (1 + 9 * np.exp(-rate * times))
    assert u[:, 0] == pytest.approx(np.broadcast_to(exact[:, None], (5, 16)), abs=1e-6)
    u = ReactionDiffusion1d("allen_cahn", rate=rate, points=16, boundary=boundary).solve(np.full((1, 16), 0.1), times)
    exact = 1 / np.sqrt(1 + 99 * np.exp(-2 * rate * times))
    assert u[:, 0] == pytest.approx(np.broadcast_to(exact[:, None], (5, 16)), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_small_waves_grow_at_the_linear_rate(kind: Kind) -> None:
    """About the unstable state: exp((R' - D k^2) t), R' = r and r (1 - b^2); what is left out is of size 1e-9."""
    bias = 0.25 if kind == "allen_cahn" else 0.0
    solver = ReactionDiffusion1d(kind, 1e-3, 4.0, bias, 64, 2.0, "reflecting", step=2e-3)
    k = 5 * np.pi / 2.0
    wave = 1e-9 * np.cos(k * nodes(solver))
    u = solver.solve(bias + wave[None], [0, 0.5])[-1, 0]
    growth = 4.0 * (1 - bias**2) - 1e-3 * k**2
    assert u - bias == pytest.approx(np.exp(0.5 * growth) * wave, abs=1e-16 + 1e-7 * 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_order_in_time_is_four(kind: Kind) -> None:
    solver = ReactionDiffusion1d(kind, 2e-3, 5.0, points=64)
    u0, steps = solver.initial(np.random.default_rng(0)), [0.04, 0.02, 0.01]

    def end(step: float) -> np.ndarray:
        return ReactionDiffusion1d(kind, 2e-3, 5.0, points=64, step=step).solve(u0, [0, 0.4])[-1]

    exact = end(1e-3)
    errors = [np.abs(end(step) - exact).max() for step in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(4, abs=0.15)


@pytest.mark.parametrize("boundary", ["periodic", "reflecting"])
def test_error_falls_exponentially_with_resolution(boundary: str) -> None:
    """Each 16 points more divide the error by the same factor: log(error) is a line in the resolution."""
    half_waves = 2 if boundary == "periodic" else 1

    def end(resolution: int) -> np.ndarray:
        solver = ReactionDiffusion1d(
            "allen_cahn", 4e-3, 4.0, 0.1, 16, boundary=boundary, resolution=resolution, step=5e-3
        )
        phase = half_waves * np.pi * nodes(solver)
        u0 = 0.6 * np.cos(phase) + 0.3 * np.cos(2 * phase) + 0.1 * np.cos(3 * phase)
        return solver.solve(u0[None], [0, 0.5])[-1, 0]

    exact, resolutions = end(256), np.array([36, 56, 72, 88])
    errors = [np.abs(end(int(n)) - exact).max() for n in resolutions]
    assert np.corrcoef(resolutions, np.log(errors))[0, 1] < -0.99
    assert errors[-1] < 1e-4 * errors[0]


@pytest.mark.parametrize(("name", "low"), [("fisher_1d", 0.0), ("allen_cahn_1d", -1.0)])
def test_fields_stay_between_the_stable_states(name: str, low: float) -> None:
    """The maximum principle, up to the documented error of the case."""
    case = CASES[name]
    draws = [case.draw(i) for i in range(16)]
    u = ReactionDiffusion1d.solve_many([d.solver for d in draws], np.stack([d.u0 for d in draws]), case.times[::4])
    assert u.min() > low - 3e-6
    assert u.max() < 1 + 3e-6


@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_allen_cahn_lowers_its_free_energy(bias: float) -> None:
    """W' = -(u - b) (1 - u^2): W = (1 - u^2)^2 / 4 + b (u - u^3 / 3)."""
    solver = ReactionDiffusion1d("allen_cahn", 1e-3, 6.0, bias, 128)
    u = solver.solve(solver.initial(np.random.default_rng(2)), np.linspace(0, 2, 41))[:, 0]
    slope = scipy.fft.irfft(2j * np.pi * np.arange(65) * scipy.fft.rfft(u), n=128)
    energy = (1e-3 * slope**2 / 2 + 6.0 * ((1 - u**2) ** 2 / 4 + bias * (u - u**3 / 3))).mean(axis=1)
    assert (np.diff(energy) < 1e-10).all()
    assert energy[0] - energy[-1] > 0.1  # it has moved


@pytest.mark.parametrize("kind", KINDS)
def test_symmetries(kind: Kind) -> None:
    """Shift and reflection; without flux the solution is half of an even periodic one; Allen-Cahn with -u and -b."""
    solver = ReactionDiffusion1d(kind, 2e-3, 5.0, points=48)
    u0, times = solver.initial(np.random.default_rng(4)), [0, 0.3, 0.8]
    u = solver.solve(u0, times)
    assert solver.solve(np.roll(u0, 5, -1), times) == pytest.approx(np.roll(u, 5, -1), abs=1e-12)
    assert solver.solve(u0[:, ::-1], times) == pytest.approx(u[..., ::-1], abs=1e-12)
    half = ReactionDiffusion1d(kind, 2e-3, 5.0, points=48, boundary="reflecting")
    v0 = half.initial(np.random.default_rng(5))
    whole = ReactionDiffusion1d(kind, 2e-3, 5.0, points=96, length=2.0, step=half.step)
    even = whole.solve(np.concatenate([v0, v0[:, ::-1]], axis=1), times)
    assert half.solve(v0, times) == pytest.approx(even[..., :48], abs=1e-10)
    if kind == "allen_cahn":
        one, other = (ReactionDiffusion1d(kind, 2e-3, 5.0, b, 48) for b in (0.3, -0.3))
        assert other.solve(-u0, times) == pytest.approx(-one.solve(u0, times), abs=1e-13)


@pytest.mark.parametrize(("name", "bound"), [("fisher_1d", 2e-7), ("allen_cahn_1d", 4e-6)])
def test_default_differs_from_the_refined_solution_by_the_documented_error(name: str, bound: float) -> None:
    """On the steepest of a hundred."""
    case = CASES[name]
    draw = max((case.draw(i) for i in range(100)), key=lambda d: d.solver.rate / d.solver.diffusivity)  # pyright: ignore
    fine, times = draw.solver.refined(), case.times[::20]
    assert fine.grid == draw.solver.grid
    assert np.abs(draw.solver.solve(draw.u0, times) - fine.solve(draw.u0, times)).max() < bound


def test_fronts_that_are_too_steep_are_refused() -> None:
    solver = ReactionDiffusion1d("allen_cahn", 1e-5, 10.0, points=32)
    with pytest.raises(
        NumericsError, match=r"failed at t=2 \(diffusivity=1e-05, rate=10, bias=0\): the fronts are not"
    ):
        solver.solve(solver.initial(np.random.default_rng(0)), [0, 2.0, 4.0])


def test_negative_fisher_fields_run_away_and_are_refused() -> None:
    solver = ReactionDiffusion1d("fisher", 1e-3, 10.0, points=32)
    with pytest.raises(NumericsError, match="outside of the range where the reaction is stable"):
        solver.solve(np.full((1, 32), -0.5), [0, 1.0, 2.0])
