"""Rayleigh-Benard convection: onset, exact decay, heat and energy balances, symmetries, orders, restart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.polynomial import chebyshev

from romvae.errors import ConfigError, NumericsError
from romvae.solvers import CASES, RayleighBenard2d, verify_solver
from romvae.solvers.boussinesq import Boussinesq
from romvae.solvers.channel import apply_real, channel_modes, wall_polynomials

WALLS = ("no_slip", "stress_free")


def centres(points: int) -> np.ndarray:
    return (np.arange(points) + 0.5) / points


def conduction(solver: RayleighBenard2d) -> np.ndarray:
    u = np.zeros(solver.shape)
    u[0] = 1 - centres(solver.points[0])[:, None]
    return u


def disturbed(solver: RayleighBenard2d, amplitude: float, seed: int = 0) -> np.ndarray:
    """Conduction with a random disturbance of that size, at rest."""
    rest = conduction(solver)
    return rest + 10 * amplitude * (solver.initial(np.random.default_rng(seed)) - rest)


def small(rayleigh: float = 2e4, **changes: object) -> RayleighBenard2d:
    settings = {"points": (32, 24), "resolution": (20, 36), "step": 0.05} | changes
    return RayleighBenard2d(rayleigh, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("walls", WALLS)
def test_conduction_stays(walls: str) -> None:
    solver = small(1e6, walls=walls)
    u = solver.solve(conduction(solver), [0.0, 5.0, 10.0])
    assert u == pytest.approx(np.broadcast_to(conduction(solver), u.shape), abs=1e-13)


def test_shear_and_layered_heat_decay_in_place() -> None:
    """u = sin(2 pi y) is a Stokes mode without net flux, theta = sin(3 pi y) drives nothing."""
    solver = RayleighBenard2d(1e4, 2.0, (32, 16), resolution=(20, 24), step=0.5)
    y, times = centres(32)[:, None], np.array([0.0, 2.0, 6.0])
    u0 = conduction(solver)
    u0[0] += 0.1 * np.sin(3 * np.pi * y)
    u0[1] += 0.3 * np.sin(2 * np.pi * y)
    u = solver.solve(u0, times)
    for i, t in enumerate(times):
        heat = 0.1 * np.sin(3 * np.pi * y) * np.exp(-((3 * np.pi) ** 2) * t / np.sqrt(2e4))
        speed = 0.3 * np.sin(2 * np.pi * y) * np.exp(-((2 * np.pi) ** 2) * t * np.sqrt(2e-4))
        # A polynomial of degree 20 is this far from the sine of three half waves.
        assert u[i, 0] == pytest.approx((1 - y + heat) * np.ones(16), abs=1e-9)
        assert u[i, 1] == pytest.approx(speed * np.ones(16), abs=1e-9)
    assert np.abs(u[:, 2]).max() < 1e-12


def growth(solver: RayleighBenard2d, times: tuple[float, float]) -> float:
    """Growth rate of a disturbance of 1e-6 between two times, late enough that the fastest wave is left."""
    v = solver.solve(disturbed(solver, 1e-6), [0.0, *times])[1:, 2]
    return float(np.log(np.abs(v[1]).max() / np.abs(v[0]).max()) / (times[1] - times[0]))


ONSET = [("no_slip", 3.116324, 1707.76178), ("stress_free", np.pi / np.sqrt(2), 27 * np.pi**4 / 4)]


@pytest.mark.parametrize(("walls", "k", "critical"), ONSET)
def test_onset_is_at_the_critical_rayleigh_number(walls: str, k: float, critical: float) -> None:
    """Chandrasekhar (1961): 1707.762 at k = 3.117; 27 pi^4 / 4 at k = pi / sqrt(2), for any Prandtl number."""
    low, high = (
        growth(RayleighBenard2d(r * critical, 0.7, (24, 12), 2 * np.pi / k, walls, (14, 12), 0.5), (60.0, 70.0))  # type: ignore[arg-type]
        for r in (0.997, 1.003)
    )
    assert low < 0 < high
    found = critical * (0.997 - 0.006 * low / (high - low))
    assert found == pytest.approx(critical, rel=2e-5)  # the growth rate is not quite a straight line in Ra


@pytest.mark.parametrize(
    ("walls", "k", "critical", "prandtl"), [(*ONSET[0], 0.3), (*ONSET[0], 0.71), (*ONSET[1], 0.71)]
)
def test_heat_flux_just_above_onset(walls: str, k: float, critical: float, prandtl: float) -> None:
    """(1 - Ra_c / Ra) / (Nu - 1) of rolls as Ra falls to Ra_c: 0.69942 - 0.00472 / Pr + 0.00832 / Pr^2 between
    plates at rest (Schlueter, Lortz and Busse 1965, J. Fluid Mech. 23, 129), 1 / 2 between free ones.
    """
    found = []
    for excess in (0.025, 0.05, 0.1):
        solver = RayleighBenard2d(critical * (1 + excess), prandtl, (24, 12), 2 * np.pi / k, walls, (14, 18), 1.0)  # type: ignore[arg-type]
        u0 = conduction(solver)
        x = np.arange(12) / 12
        u0[0] += 0.3 * np.sqrt(excess) * np.sin(np.pi * centres(24))[:, None] * np.cos(2 * np.pi * x)
        volume, lower, upper = solver.nusselt(solver.solve(u0, [0.0, 25 / excess])[-1])
        # In a steady state the flux is the same at every height; what is left decays as exp(-25).
        assert (lower, upper) == pytest.approx((volume, volume), rel=1e-4)
        found.append(excess / (1 + excess) / (volume - 1))
    limit = (8 * found[0] - 6 * found[1] + found[2]) / 3  # quadratic in the excess
    exact = 0.5 if walls == "stress_free" else 0.69942 - 0.00472 / prandtl + 0.00832 / prandtl**2
    assert limit == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize(("rayleigh", "prandtl"), [(5e3, 1.0), (2e4, 0.3), (2e4, 6.0)])
def test_growth_between_stress_free_walls(rayleigh: float, prandtl: float) -> None:
    """(s + nu q)(s + kappa q) = k^2 / q with q = k^2 + pi^2 (Rayleigh 1916)."""
    k = 2.5
    q = k**2 + np.pi**2
    nu, kappa = np.sqrt(prandtl / rayleigh), 1 / np.sqrt(prandtl * rayleigh)
    exact = -(nu + kappa) * q / 2 + np.sqrt(((nu - kappa) * q / 2) ** 2 + k**2 / q)
    solver = RayleighBenard2d(rayleigh, prandtl, (24, 8), 2 * np.pi / k, "stress_free", (16, 12), 0.1)
    u0 = conduction(solver)
    u0[0] += 1e-7 * np.sin(np.pi * centres(24))[:, None] * np.cos(2 * np.pi * np.arange(8) / 8)
    v = solver.solve(u0, [0.0, 14.0, 16.0])[1:, 2]
    # The second root of the quadratic has decayed by exp(-10), the square of the amplitude is below 1e-6.
    assert np.log(np.abs(v[1]).max() / np.abs(v[0]).max()) / 2 == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("walls", WALLS)
def test_advection_neither_makes_nor_destroys_energy(walls: str) -> None:
    """For any state: the power on the flow and on theta^2 / 2 both are the mean of v theta, by buoyancy alone."""
    modes = channel_modes(14, walls == "no_slip", 5, 1.7)
    rng = np.random.default_rng(0)
    shape = modes.k.size, modes.decay.shape[1] + modes.heat_decay.shape[1]
    s = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    s[0] = s[0].real
    rate = Boussinesq(modes, 18)(s)
    flows, both = modes.decay.shape[1], np.where(modes.k > 0, 2.0, 1.0)
    n = modes.nodes.size
    v = -1j * apply_real(modes.speeds(modes.nodes), s[:, :flows])[:, n:]
    theta = apply_real(modes.heat(modes.nodes), s[:, flows:])
    buoyancy = both @ (v * theta.conj()).real @ modes.weights
    power = both @ (rate * s.conj()).real
    scale = both @ np.abs(rate * s)
    assert power[:flows].sum() == pytest.approx(buoyancy, abs=1e-13 * scale[:flows].sum())
    assert power[flows:].sum() == pytest.approx(buoyancy, abs=1e-13 * scale[flows:].sum())


@pytest.mark.parametrize("walls", WALLS)
def test_no_divergence_no_flux_and_walls_that_hold(walls: str) -> None:
    """Read off the stored fields alone: differences of a polynomial fit across, of a Fourier series along."""
    solver = RayleighBenard2d(3e4, 1.0, (64, 32), 2.0, walls, (24, 48), 0.05)  # type: ignore[arg-type]
    u = solver.solve(disturbed(solver, 0.1), [0.0, 5.0])[-1]
    y = 2 * centres(64) - 1
    temperature, along, across = (chebyshev.chebfit(y, field, 24) for field in u)
    k = 2j * np.pi / 2.0 * np.fft.rfftfreq(32, 1 / 32)
    gradient = np.fft.irfft(k * np.fft.rfft(u[1], axis=1), 32, axis=1)
    divergence = gradient + 2 * chebyshev.chebval(y, chebyshev.chebder(across)).T
    assert np.abs(divergence).max() < 1e-8 * np.abs(gradient).max()
    flux = chebyshev.chebint(along)
    assert np.abs(chebyshev.chebval(1, flux) - chebyshev.chebval(-1, flux)).max() < 1e-9
    ends = np.array([-1.0, 1.0])
    held = along if walls == "no_slip" else chebyshev.chebder(along)
    assert np.abs(chebyshev.chebval(ends, across)).max() < 1e-9
    # The absence of stress is a natural condition: it holds to the accuracy of the solution, not to round-off.
    assert np.abs(chebyshev.chebval(ends, held)).max() < (1e-9 if walls == "no_slip" else 1e-3)
    assert chebyshev.chebval(ends, temperature) == pytest.approx(np.tile([1.0, 0.0], (32, 1)), abs=1e-9)


@pytest.mark.parametrize(("walls", "least"), [("stress_free", 3.85), ("no_slip", 3.0)])
def test_order_in_time(walls: str, least: float) -> None:
    """Four between free plates. At rest, forces do not vanish at the plates as the modes do, and the order of an
    exponential integrator falls, here to between three and four.
    """
    times, steps = np.array([0.0, 4.0]), np.array([0.16, 0.125, 0.1, 0.08])
    exact_solver = small(step=0.02, walls=walls)
    u0 = disturbed(exact_solver, 0.1)
    exact = exact_solver.solve(u0, times)[-1]
    errors = [np.linalg.norm(small(step=float(h), walls=walls).solve(u0, times)[-1] - exact) for h in steps]
    assert least < np.polyfit(np.log(steps), np.log(errors), 1)[0] < 4.15


@pytest.mark.parametrize("varied", ["y", "x"])
def test_error_falls_exponentially_with_resolution(varied: str) -> None:
    """log(error) is a line in the degree, and in the number of points."""
    times, fine = np.array([0.0, 4.0]), (28, 64)
    u0 = disturbed(small(points=(42, 24)), 0.1)
    resolutions = [(n, 64) for n in (10, 13, 16, 19)] if varied == "y" else [(28, n) for n in (21, 27, 33, 39)]
    exact = small(points=(42, 24), resolution=fine).solve(u0, times)[-1]
    errors = [np.linalg.norm(small(points=(42, 24), resolution=r).solve(u0, times)[-1] - exact) for r in resolutions]
    numbers = [r[0 if varied == "y" else 1] for r in resolutions]
    assert np.corrcoef(numbers, np.log(errors))[0, 1] < -0.98
    assert errors[-1] < 2e-2 * errors[0]


def test_symmetries() -> None:
    """Shift along the plates, left-right mirror, and upside down with hot and cold exchanged."""
    solver, times = small(), np.array([0.0, 2.0, 5.0])
    u0 = disturbed(solver, 0.1)
    u = solver.solve(u0, times)

    def mirrored(u: np.ndarray) -> np.ndarray:
        signs = np.array([1.0, -1.0, 1.0])[:, None, None]
        return signs * np.roll(u[..., ::-1], 1, -1)

    def upside_down(u: np.ndarray) -> np.ndarray:
        turned = np.array([-1.0, 1.0, -1.0])[:, None, None] * u[..., ::-1, :]
        turned[..., 0, :, :] += 1
        return turned

    # Round-off of 1e-16 times the growth by exp(3) or so, and the fit's factor of less than 100.
    assert solver.solve(np.roll(u0, 7, -1), times) == pytest.approx(np.roll(u, 7, -1), abs=1e-11)
    assert solver.solve(mirrored(u0), times) == pytest.approx(mirrored(u), abs=1e-11)
    assert solver.solve(upside_down(u0), times) == pytest.approx(upside_down(u), abs=1e-11)


@pytest.mark.parametrize("walls", WALLS)
def test_stored_fields_hold_the_whole_state(walls: str) -> None:
    """Going on from a stored snapshot is the same solution, beyond the verifier's tolerance by far."""
    solver = small(walls=walls)
    times = np.array([0.0, 3.0, 6.0])
    u = solver.solve(disturbed(solver, 0.1), times)
    assert solver.solve(u[1], times[1:])[-1] == pytest.approx(u[2], abs=1e-11)


@pytest.mark.parametrize("clamped", [False, True])
def test_wall_polynomials(clamped: bool) -> None:
    """They vanish at the walls, with their slope if clamped, are independent, and their derivatives are theirs."""
    ends, y, h = np.array([0.0, 1.0]), np.linspace(0.1, 0.9, 7), 1e-5
    p = wall_polynomials(12, clamped, np.linspace(0, 1, 40))
    assert np.linalg.matrix_rank(p) == p.shape[1] == (9 if clamped else 11)
    assert np.abs(wall_polynomials(12, clamped, ends)).max() < 1e-12
    assert (np.abs(wall_polynomials(12, clamped, ends, 1)).max() < 1e-11) == clamped
    for order in (0, 1):
        difference = wall_polynomials(12, clamped, y + h, order) - wall_polynomials(12, clamped, y - h, order)
        exact = wall_polynomials(12, clamped, y, order + 1)
        assert difference / (2 * h) == pytest.approx(exact, abs=1e-6 * np.abs(exact).max())


@pytest.mark.parametrize("walls", WALLS)
def test_contract(walls: str) -> None:
    solver = RayleighBenard2d(3e4, 0.7, (24, 20), 1.5, walls)  # type: ignore[arg-type]
    verify_solver(solver)
    verify_solver(solver, times=[0.0, 2.0, 6.0])


def test_refined_agrees() -> None:
    solver, times = small(points=(48, 24), resolution=(24, 36)), np.array([0.0, 3.0])
    fine = solver.refined()
    assert (fine.grid, fine.resolution, fine.step) == (solver.grid, (36, 72), 0.025)
    u0 = disturbed(solver, 0.1)
    assert np.linalg.norm(fine.solve(u0, times) - solver.solve(u0, times)) < 1e-4 * np.linalg.norm(u0)


@pytest.mark.slow
def test_case_is_as_accurate_as_documented() -> None:
    """At the largest Rayleigh number, through onset and the first plumes."""
    case = replace(CASES["rayleigh_benard_2d"], times=CASES["rayleigh_benard_2d"].times[:41:8])
    draw = case.draw(0, values={"rayleigh": case.ranges[0].high})
    u, fine = draw.solver.solve(draw.u0, case.times), draw.solver.refined().solve(draw.u0, case.times)
    assert np.linalg.norm(u - fine) < 2e-3 * np.linalg.norm(fine)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rayleigh": 0.0}, "rayleigh is 0.0, expected a number above 0"),
        ({"prandtl": -1.0}, "prandtl is -1.0, expected a number above 0"),
        ({"walls": "slip"}, "walls is 'slip', expected no_slip or stress_free"),
        ({"points": 64}, "points is 64, expected two numbers in the order (y, x)"),
        ({"points": (8, 64)}, "points is 8, expected a whole number of at least 12"),
        ({"resolution": (32, 4)}, "resolution is 4, expected a whole number of at least 8"),
        ({"step": 0.0}, "step is 0.0, expected a number above 0"),
    ],
)
def test_arguments_out_of_range(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        RayleighBenard2d(**arguments)
    assert message in str(error.value)


def test_a_failed_solve_says_when_where_and_why() -> None:
    coarse = RayleighBenard2d(1e7, 1.0, (24, 24), resolution=(12, 24), step=0.05)
    with pytest.raises(NumericsError, match=r"rayleigh_benard_2d: failed at t=\S+ \(rayleigh=1e\+07, prandtl=1\)"):
        coarse.solve(disturbed(coarse, 0.1), np.linspace(0, 20, 11))
