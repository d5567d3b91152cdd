"""Korteweg-de Vries: solitons, cnoidal waves, conserved quantities, orders and symmetries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ellipj, ellipk

from romvae.errors import NumericsError
from romvae.solvers import CASES, KortewegDeVries1d
from romvae.solvers.korteweg_de_vries import soliton


def nodes(solver: KortewegDeVries1d) -> np.ndarray:
    return np.array(solver.grid.axes[0].coordinates)


def two_solitons(x: np.ndarray, t: float, k: tuple[float, float], start: tuple[float, float]) -> np.ndarray:
    """Hirota's solution for delta = 1 on the whole line: u = 12 (log F)_xx, F = 1 + e^a + e^b + c e^(a + b).

    a = k_1 (x - k_1^2 t - x_1), b likewise, c = ((k_1 - k_2) / (k_1 + k_2))^2. (log F)_xx is the variance of the
    exponents' slopes 0, k_1, k_2, k_1 + k_2 under weights proportional to the four terms.
    """
    a, b = (kappa * (x - kappa**2 * t - at) for kappa, at in zip(k, start, strict=True))
    exponents = np.stack([0 * x, a, b, a + b + 2 * np.log((k[0] - k[1]) / (k[0] + k[1]))])
    slopes = np.array([0.0, k[0], k[1], k[0] + k[1]])[:, None]
    weights = np.exp(exponents - exponents.max(axis=0))
    weights /= weights.sum(axis=0)
    return 12 * ((weights * slopes**2).sum(axis=0) - (weights * slopes).sum(axis=0) ** 2)


def test_one_soliton_keeps_its_shape_and_moves_at_a_third_of_its_height() -> None:
    """Its width is 0.02, so that its periodic images are below exp(-50) of it half a period away."""
    height, dispersion = 1.5, 5e-5
    solver = KortewegDeVries1d(dispersion, 256, resolution=384, step=5e-4)
    times = np.array([0.0, 0.3, 0.6])
    u = solver.solve(soliton(nodes(solver) - 0.4, height, dispersion, 1.0)[None], times)[:, 0]
    exact = [soliton(nodes(solver) - 0.4 - height / 3 * t, height, dispersion, 1.0) for t in times]
    assert u == pytest.approx(np.array(exact), abs=5e-6)  # the error of the time step


def test_two_solitons_pass_through_each_other() -> None:
    """The fast one starts behind and ends in front, both displaced by the encounter; tails stay below 1e-11."""
    solver = KortewegDeVries1d(1.0, 256, length=100.0, resolution=384, step=0.005)
    x, k, start = nodes(solver) - 40.0, (1.5, 1.0), (-8.0, 0.0)
    u = solver.solve(two_solitons(x, 0.0, k, start)[None], [0.0, 6.0, 14.0])[:, 0]
    for i, t in enumerate([0.0, 6.0, 14.0]):
        assert u[i] == pytest.approx(two_solitons(x, t, k, start), abs=1e-5)  # the error of the time step
    # Not the sum of the two: without the encounter's phase shift they would be elsewhere.
    far = [soliton(x - at - kappa**2 * 14.0, 3 * kappa**2, 1.0, 100.0) for kappa, at in zip(k, start, strict=True)]
    assert np.abs(u[2] - np.sum(far, axis=0)).max() > 0.5


def test_cnoidal_wave() -> None:
    """u = 12 delta m q^2 cn^2(q (x - s t) | m), s = 4 delta (2 m - 1) q^2: exact and periodic."""
    m, dispersion, waves = 0.9, 1e-3, 2
    q = 2 * waves * ellipk(m)
    solver = KortewegDeVries1d(dispersion, 64, resolution=128, step=5e-4)

    def exact(t: float) -> np.ndarray:
        cn = ellipj(q * (nodes(solver) - 4 * dispersion * (2 * m - 1) * q**2 * t), m)[1]
        return 12 * dispersion * m * q**2 * cn**2

    times = np.array([0.0, 0.5, 1.0])
    u = solver.solve(exact(0.0)[None], times)[:, 0]
    assert u == pytest.approx(np.array([exact(t) for t in times]), abs=1e-6)


def test_order_in_time_is_four() -> None:
    solver = KortewegDeVries1d(1e-3, 64)
    u0, times = solver.initial(np.random.default_rng(1)), [0.0, 0.3]
    steps = [1e-3, 5e-4, 2.5e-4]

    def end(step: float) -> np.ndarray:
        return KortewegDeVries1d(1e-3, 64, resolution=96, step=step).solve(u0, times)[-1]

    exact = end(6.25e-5)
    errors = [np.abs(end(step) - exact).max() for step in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(4, abs=0.15)


def test_error_falls_exponentially_with_resolution() -> None:
    """Each 32 points more divide the error by the same factor: log(error) is a line in the resolution."""
    height, dispersion, t = 1.0, 1e-3, 0.1

    def error(resolution: int) -> float:
        solver = KortewegDeVries1d(dispersion, 256, 4.0, resolution, step=1e-3)
        u = solver.solve(soliton(nodes(solver) - 2.0, height, dispersion, 4.0)[None], [0, t])[-1, 0]
        return float(np.abs(u - soliton(nodes(solver) - 2.0 - height / 3 * t, height, dispersion, 4.0)).max())

    resolutions = np.array([128, 160, 192, 224])
    errors = [error(int(n)) for n in resolutions]
    assert np.corrcoef(resolutions, np.log(errors))[0, 1] < -0.99
    assert errors[-1] < 1e-2 * errors[0]


def test_mass_momentum_and_energy_are_kept() -> None:
    """Mass to round-off; the other two as well as the step allows, to fourth order and better."""
    solver = KortewegDeVries1d(4e-4, 128, resolution=192, step=1e-3)
    u0, times = 0.2 + solver.initial(np.random.default_rng(5)), np.linspace(0, 1, 6)
    coarse, fine = (s.conserved(s.solve(u0, times)) for s in (solver, solver.refined()))
    assert np.ptp(coarse["mass"]) < 1e-14
    for name in ("momentum", "energy"):
        size = np.abs(coarse[name]).max()
        assert np.ptp(coarse[name]) < 1e-5 * size
        assert np.ptp(fine[name]) < np.ptp(coarse[name]) / 14 + 1e-12 * size


def test_conserved_values_of_a_soliton() -> None:
    """Of a sech^2(x / w): mass 2 a w, momentum 2 a^2 w / 3, energy 8 a^3 w / 45 - 8 delta a^2 / (15 w)."""
    height, dispersion = 1.5, 1e-4
    solver = KortewegDeVries1d(dispersion, 128)
    w = np.sqrt(12 * dispersion / height)
    kept = solver.conserved(soliton(nodes(solver) - 0.31, height, dispersion, 1.0)[None])
    assert kept["mass"] == pytest.approx(2 * height * w, rel=1e-9)
    assert kept["momentum"] == pytest.approx(2 * height**2 * w / 3, rel=1e-9)
    assert kept["energy"] == pytest.approx(8 * height**3 * w / 45 - 8 * dispersion * height**2 / (15 * w), rel=1e-9)


def test_symmetries() -> None:
    """Shift, Galilean boost, and (x, t) -> (-x, -t): a mirrored end runs back to the mirrored start."""
    solver = KortewegDeVries1d(5e-4, 64, resolution=96, step=1e-3)
    u0, times = solver.initial(np.random.default_rng(3)), np.array([0.0, 0.25, 0.5])
    u = solver.solve(u0, times)
    assert solver.solve(np.roll(u0, 7, -1), times) == pytest.approx(np.roll(u, 7, -1), abs=1e-12)
    boosted = solver.solve(u0 + 1.0, times)  # moves by 16 and 32 of 64 points
    expected = np.stack([np.roll(u[i], 16 * i, -1) + 1.0 for i in range(3)])
    assert boosted == pytest.approx(expected, abs=1e-4)  # the boost changes the error of the time steps
    back = solver.solve(u[-1, :, ::-1], times)[-1, :, ::-1]
    assert back == pytest.approx(u0, abs=1e-4)


def test_rescaled_problem_is_the_same_problem() -> None:
    """u -> U u, x -> L x, t -> t L / U, delta -> delta U L^2."""
    small = KortewegDeVries1d(1e-3, 48, resolution=72, step=2e-3)
    large = KortewegDeVries1d(1e-3 * 3 * 25, 48, length=5.0, resolution=72, step=2e-3 * 5 / 3)
    u0, times = small.initial(np.random.default_rng(8)), np.array([0.0, 0.1, 0.4])
    assert large.solve(3 * u0, times * 5 / 3) == pytest.approx(3 * small.solve(u0, times), abs=1e-11)


@pytest.mark.parametrize(("name", "bound"), [("korteweg_de_vries_1d", 2e-5), ("korteweg_de_vries_1d_solitons", 2e-6)])
def test_default_differs_from_the_refined_solution_by_the_documented_error(name: str, bound: float) -> None:
    case = CASES[name]
    draw = max((case.draw(i) for i in range(40)), key=lambda d: np.abs(d.u0).max() / d.solver.parameters["dispersion"])
    times = case.times[:31:10]
    fine = draw.solver.refined()
    assert fine.grid == draw.solver.grid
    assert np.abs(draw.solver.solve(draw.u0, times) - fine.solve(draw.u0, times)).max() < bound


def test_waves_that_are_too_narrow_are_refused() -> None:
    x = np.arange(64) / 64
    solver = KortewegDeVries1d(1e-6, 64)
    with pytest.raises(
        NumericsError, match=r"failed at t=0.5 \(dispersion=1e-06\): the waves are not resolved by resol"
    ):
        solver.solve(np.sin(2 * np.pi * x)[None], [0, 0.5, 1.0])
