"""Navier-Stokes in a periodic plane: exact vortices, laminar and unstable Kolmogorov flow, balances, orders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.polynomial.legendre import leggauss

from romvae.errors import ConfigError, NumericsError
from romvae.solvers import CASES, NavierStokes2d, velocity, verify_solver
from romvae.solvers.spectral import FourierBox, random_modes
from romvae.solvers.vorticity import VorticityAdvection


def plane(shape: tuple[int, int], lengths: tuple[float, float] = (2 * np.pi, 2 * np.pi)) -> tuple[np.ndarray, ...]:
    """y and x of the nodes, shaped to broadcast."""
    return tuple(np.ix_(*(np.arange(n) * (length / n) for n, length in zip(shape, lengths, strict=True))))


def smooth(points: int = 32, seed: int = 0, size: float = 3.0) -> np.ndarray:
    return size * random_modes(np.random.default_rng(seed), (points, points), (2 * np.pi,) * 2, 3)[None]


def test_taylor_green_vortices_decay() -> None:
    """One cell of any aspect ratio keeps its shape: w is a function of psi, so that nothing is advected."""
    lengths = (2 * np.pi, np.pi)
    solver = NavierStokes2d(0.05, (24, 16), lengths, drag=0.1, step=0.05)
    y, x = plane((24, 16), lengths)
    w0, times = 3 * np.cos(x * 2 + 0.3) * np.sin(y)[None], np.array([0.0, 0.5, 2.0])
    decay = np.exp(-(0.05 * 5 + 0.1) * times)[:, None, None, None]
    # Round-off, from the transforms of 40 steps.
    assert solver.solve(w0, times) == pytest.approx(decay * w0, abs=1e-13)


def test_waves_of_one_length_decay_together() -> None:
    """All twelve modes with |k| = 5 at once: u . grad w vanishes only by cancellation between them."""
    rng = np.random.default_rng(2)
    y, x = plane((32, 32))
    w0 = np.zeros((1, 32, 32))
    for kx, ky in ((5, 0), (0, 5), (3, 4), (4, 3), (3, -4), (4, -3)):
        w0[0] += rng.standard_normal() * np.cos(kx * x + ky * y + rng.uniform(0, 2 * np.pi))
    times = np.array([0.0, 0.2, 1.0])
    u = NavierStokes2d(0.02, 32, step=0.05).solve(w0, times)
    assert u == pytest.approx(np.exp(-0.02 * 25 * times)[:, None, None, None] * w0, abs=1e-13)


def test_lamb_oseen_vortex_spreads() -> None:
    """w = exp(-r^2 / 4 nu (t + t0)) / (t + t0), less its mean; the periodic images deform it by (r / L)^4."""
    nu, age, times = 0.02, 0.5, np.array([0.0, 0.25, 0.5])
    y, x = plane((96, 96))
    square = (x - np.pi) ** 2 + (y - np.pi) ** 2

    def vortex(t: float) -> np.ndarray:
        w = np.exp(-square / (4 * nu * (t + age))) / (t + age)
        return (w - w.mean())[None]

    u = NavierStokes2d(nu, 96, resolution=144, step=0.025).solve(vortex(0.0), times)
    speed = velocity(u[0, 0])
    assert np.hypot(*speed).max() > 0.05  # it turns: advection is at work, and cancels
    for i, t in enumerate(times):
        assert u[i] == pytest.approx(vortex(t), abs=2e-4 * vortex(t).max())


def test_laminar_kolmogorov_flow_from_rest() -> None:
    """u = F sin(n y) (1 - exp(-s t)) / s with s = nu n^2 + mu; w = -u_y."""
    nu, drag, force, n = 0.05, 0.2, 0.7, 3
    solver = NavierStokes2d(nu, (32, 12), drag=drag, forcing=force, forcing_mode=n, step=0.05)
    times, rate = np.array([0.0, 0.5, 3.0]), nu * n**2 + drag
    y, _ = plane((32, 12))
    profile = -force * n * np.cos(n * y) * np.ones(12)
    exact = (-np.expm1(-rate * times) / rate)[:, None, None] * profile
    assert solver.solve(np.zeros((1, 32, 12)), times)[:, 0] == pytest.approx(exact, abs=1e-13)


def instability(reynolds: float, alpha: float) -> float:
    """Growth rate of exp(i alpha x) waves on U = R sin y at nu = 1, from its eigenvalue problem in 2 x 16 harmonics.

    With psi = sum c_n exp(i (alpha x + n y)) and q = alpha^2 + n^2:
    q_n c_n' = -q_n^2 c_n - (alpha R / 2) [(q_(n-1) - 1) c_(n-1) - (q_(n+1) - 1) c_(n+1)].
    """
    n = np.arange(-16, 17)
    q = alpha**2 + n**2.0
    matrix = np.diag(-(q**2))
    coupling = alpha * reynolds / 2 * (q - 1)
    matrix += np.diag(coupling[1:], 1) - np.diag(coupling[:-1], -1)
    return float(np.linalg.eigvals(matrix / q[:, None]).real.max())


def growth(reynolds: float, alpha: float, times: tuple[float, float]) -> float:
    """The same from the solver: how a wave of amplitude 1e-7 on the laminar flow grows between two times."""
    lengths = (2 * np.pi, 2 * np.pi / alpha)
    solver = NavierStokes2d(1.0, (16, 8), lengths, forcing=reynolds, forcing_mode=1, step=0.125)
    y, x = plane((16, 8), lengths)
    start = -reynolds * np.cos(y) + 1e-7 * np.cos(alpha * x) * (alpha**2 + np.sin(y))
    u = solver.solve(start[None], [0.0, *times])[1:, 0]
    wave = np.abs(np.fft.rfft(u, axis=2)[:, :, 1]).max(axis=1)
    return float(np.log(wave[1] / wave[0]) / (times[1] - times[0]))


@pytest.mark.parametrize(
    ("reynolds", "alpha", "times"), [(4.0, 0.5, (8.0, 12.0)), (3.0, 0.25, (20.0, 30.0)), (1.2, 0.25, (20.0, 30.0))]
)
def test_waves_on_kolmogorov_flow_grow_as_linear_theory_says(
    reynolds: float, alpha: float, times: tuple[float, float]
) -> None:
    # What other waves and the square of the amplitude leave by then, at most.
    assert growth(reynolds, alpha, times) == pytest.approx(instability(reynolds, alpha), abs=2e-6)


def test_kolmogorov_flow_loses_stability_to_long_waves_at_reynolds_number_root_two() -> None:
    """Meshalkin and Sinai (1961): R_c = sqrt(2) as alpha goes to 0, and sqrt(2) (1 + 1.5 alpha^2) before that."""
    below, above = 1.38, 1.46
    low, high = (growth(r, 0.05, (20.0, 30.0)) for r in (below, above))
    assert low < 0 < high
    critical = below - low * (above - below) / (high - low)
    # The growth rate is not quite a straight line in R: 3e-4.
    assert critical == pytest.approx(np.sqrt(2) * (1 + 1.5 * 0.05**2), rel=1e-3)


def test_advection_equals_its_definition() -> None:
    """The stress form against u w_x + v w_y on a grid so fine that no product aliases."""
    box = FourierBox.dealiased((30, 24), (2.0, 3.0))
    w = box.coefficients(random_modes(np.random.default_rng(1), (30, 24), (2.0, 3.0), 7))
    ky, kx = box.k
    fine = (64, 64)
    flow = VorticityAdvection(box)
    u, v = box.values(flow.velocity(w), fine)
    exact = -box.coefficients(u * box.values(1j * kx * w, fine) + v * box.values(1j * ky * w, fine))
    assert np.abs(flow(w) - exact).max() < 1e-14 * np.abs(exact).max() * box.k_squared.max() ** 0.5


def test_energy_and_enstrophy_without_viscosity() -> None:
    """Kept by the dealiased products; what is left is the error of the steps, a tenth and less for half the step."""
    times, w0 = np.array([0.0, 0.4, 0.8]), smooth(64)  # the grid holds all 31 modes, so that its sums are exact
    drift = []
    for step in (0.04, 0.02):
        solver = NavierStokes2d(0.0, 64, resolution=96, step=step)
        kept = solver.conserved(solver.solve(w0, times))
        assert set(kept) == {"mean_vorticity", "energy", "enstrophy"}
        assert np.abs(kept["mean_vorticity"]).max() < 1e-14
        drift.append([np.ptp(kept[name]) / kept[name][0] for name in ("energy", "enstrophy")])
    assert max(drift[1]) < 1e-8
    assert (np.array(drift[1]) < np.array(drift[0]) / 10).all()


def test_energy_balance_with_friction_and_force() -> None:
    """dE/dt = -2 nu Z - 2 mu E + mean(f . u), integrated over time by Gauss-Legendre."""
    nu, drag = 0.02, 0.3
    solver = NavierStokes2d(nu, 48, drag=drag, forcing=0.8, forcing_mode=2, step=0.0125)
    node, weight = leggauss(12)
    times = np.concatenate([[0.0], 0.25 + 0.25 * node, [0.5]])
    w = solver.solve(smooth(48, 5), times)[:, 0]
    u, v = velocity(w)
    energy, enstrophy = 0.5 * (u**2 + v**2).mean(axis=(1, 2)), 0.5 * (w**2).mean(axis=(1, 2))
    y, _ = plane((48, 48))
    power = (0.8 * np.sin(2 * y) * u).mean(axis=(1, 2))
    gained = (-2 * nu * enstrophy - 2 * drag * energy + power)[1:-1] @ weight * 0.25
    assert energy[-1] - energy[0] == pytest.approx(gained, rel=1e-6)


def test_order_in_time_is_four() -> None:
    w0, times, steps = smooth(), np.array([0.0, 0.8]), np.array([0.08, 0.05, 0.04, 0.025])
    exact = NavierStokes2d(0.03, 32, resolution=48, step=0.005).solve(w0, times)[-1]
    errors = [
        np.linalg.norm(NavierStokes2d(0.03, 32, resolution=48, step=h).solve(w0, times)[-1] - exact) for h in steps
    ]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(4, abs=0.15)


def test_error_falls_exponentially_with_resolution() -> None:
    """log(error) is a line in the number of points."""
    w0, times, resolutions = smooth(), np.array([0.0, 0.8]), np.array([36, 48, 60, 72])
    exact = NavierStokes2d(0.03, 32, resolution=128, step=0.01).solve(w0, times)[-1]
    errors = [
        np.abs(NavierStokes2d(0.03, 32, resolution=int(n), step=0.01).solve(w0, times)[-1] - exact).max()
        for n in resolutions
    ]
    assert np.corrcoef(resolutions, np.log(errors))[0, 1] < -0.99
    assert errors[-1] < 1e-2 * errors[0]


def test_symmetries() -> None:
    """Shift by whole points, quarter turn, and mirror image, which turns the vortices' sense round."""
    solver, times = NavierStokes2d(0.02, 32, step=0.05), np.array([0.0, 0.5, 1.0])
    w0 = smooth(seed=4)
    w = solver.solve(w0, times)

    def mirror(w: np.ndarray, axis: int) -> np.ndarray:
        return np.roll(np.flip(w, axis), 1, axis)  # the node at 0 stays in its place

    shifted = solver.solve(np.roll(w0, (5, -3), (-2, -1)), times)
    assert shifted == pytest.approx(np.roll(w, (5, -3), (-2, -1)), abs=1e-12)
    turned = solver.solve(mirror(w0.swapaxes(-1, -2), -1), times)
    assert turned == pytest.approx(mirror(w.swapaxes(-1, -2), -1), abs=1e-12)
    assert solver.solve(-mirror(w0, -1), times) == pytest.approx(-mirror(w, -1), abs=1e-12)


def test_a_mean_vorticity_changes_nothing_else() -> None:
    solver, times = NavierStokes2d(0.02, 32, step=0.05), np.array([0.0, 0.5])
    w0 = smooth(seed=6)
    assert solver.solve(w0 + 2, times) == pytest.approx(solver.solve(w0, times) + 2, abs=1e-13)


def test_velocity_of_vortices() -> None:
    """Taylor-Green on a box of unequal sides; v_x - u_y = w and u_x + v_y = 0 for a random field."""
    lengths = (4.0, 2 * np.pi)
    y, x = plane((20, 16), lengths)
    k = np.pi / 2
    u, v = velocity((1 + k**2) * np.cos(x) * np.cos(k * y), lengths)
    assert u == pytest.approx(-k * np.cos(x) * np.sin(k * y), abs=1e-14)
    assert v == pytest.approx(np.sin(x) * np.cos(k * y), abs=1e-14)
    w = smooth(33, 1)[0]
    hats = np.fft.fft2(np.stack(velocity(w)))
    m = np.fft.fftfreq(33, 1 / 33)
    assert np.fft.ifft2(1j * m * hats[1] - 1j * m[:, None] * hats[0]).real == pytest.approx(w, abs=1e-12)
    assert np.abs(np.fft.ifft2(1j * m * hats[0] + 1j * m[:, None] * hats[1])).max() < 1e-12


@pytest.mark.parametrize(
    "solver",
    [
        NavierStokes2d(0.05, 24, step=0.02),
        NavierStokes2d(0.02, (24, 32), (2.0, 3.0), drag=0.1, forcing=1.0, forcing_mode=2),
    ],
    ids=["decaying", "forced"],
)
def test_contract(solver: NavierStokes2d) -> None:
    verify_solver(solver)


def test_refined_agrees() -> None:
    """Same output grid, and an error that the coarser one can be blamed for."""
    solver, times = NavierStokes2d(0.03, 32, step=0.02), np.array([0.0, 0.4])
    fine = solver.refined()
    assert (fine.grid, fine.resolution, fine.step) == (solver.grid, (96, 96), 0.01)
    w0 = smooth()
    assert np.linalg.norm(fine.solve(w0, times) - solver.solve(w0, times)) < 1e-4 * np.linalg.norm(w0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["navier_stokes_2d_decaying", "kolmogorov_flow_2d"])
def test_cases_are_as_accurate_as_documented(name: str) -> None:
    """At the smallest viscosity, over the first quarter of the time; later chaos decides how far errors grow."""
    case = replace(CASES[name], times=CASES[name].times[:26:5])
    draw = case.draw(0, values={"viscosity": case.ranges[0].low})
    solver = draw.solver
    assert isinstance(solver, NavierStokes2d)
    u, fine = solver.solve(draw.u0, case.times), solver.refined().solve(draw.u0, case.times)
    assert np.linalg.norm(u - fine) < 5e-3 * np.linalg.norm(fine)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"viscosity": -1e-3}, "viscosity is -0.001, expected a number of at least 0"),
        ({"drag": -1.0}, "drag is -1.0, expected a number of at least 0"),
        ({"points": (64, 64, 64)}, "points is (64, 64, 64), expected one number, or two in the order (y, x)"),
        ({"points": 4}, "points is 4, expected a whole number of at least 8"),
        ({"lengths": (1.0, 0.0)}, "length is 0.0, expected a number above 0"),
        ({"forcing": 1.0, "forcing_mode": 40}, "forcing_mode is 40, but 96 internal points keep modes up to 31"),
        ({"step": 0.0}, "step is 0.0, expected a number above 0"),
    ],
)
def test_arguments_out_of_range(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        NavierStokes2d(**arguments)
    assert message in str(error.value)


def test_a_failed_solve_says_when_where_and_why() -> None:
    w0, times = smooth(size=20.0), np.linspace(0, 1, 5)
    with pytest.raises(NumericsError, match=r"navier_stokes_2d: failed at t=\S+ \(viscosity=0.0001, .*not resolved"):
        NavierStokes2d(1e-4, 32, step=0.002).solve(w0, times)
    with pytest.raises(NumericsError, match=r"not (finite|resolved)"):
        NavierStokes2d(0.05, 32, step=0.25).solve(w0, times)
