"""FitzHugh-Nagumo: against its ordinary equations, its linear stability, differences, and its symmetries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.optimize import brentq

from romvae.errors import ConfigError, NumericsError
from romvae.solvers import fitzhugh_nagumo
from romvae.solvers.cases import get_case
from romvae.solvers.cosines import CosineBox
from romvae.solvers.fitzhugh_nagumo import FitzHughNagumo2d
from romvae.solvers.verify import verify_solver

K = 0.03


def small(points: int = 16, **settings: float | str) -> FitzHughNagumo2d:
    """Wide fronts that few points resolve."""
    arguments = {"diffusivity_u": 1e-2, "diffusivity_v": 3e-2, "offset": K, **settings}
    return FitzHughNagumo2d(points=points, **arguments)  # type: ignore[arg-type]


def reaction(y: np.ndarray) -> np.ndarray:
    return np.stack([y[0] - y[0] ** 3 - K - y[1], y[0] - y[1]])


def test_uniform_fields_follow_the_ordinary_equations() -> None:
    start, times = np.array([0.8, -0.3]), np.array([0.0, 1.3, 4.0])
    exact = solve_ivp(lambda t, y: reaction(y), (0, 4), start, "DOP853", times, rtol=1e-13, atol=1e-14).y.T
    solver = small(points=8, resolution=8, step=5e-3)
    u = solver.solve(np.broadcast_to(start[:, None, None], solver.shape), times)
    assert u == pytest.approx(np.broadcast_to(exact[..., None, None], u.shape), abs=2e-10)


def test_small_waves_grow_at_the_rate_of_the_linearised_equation() -> None:
    """About the uniform steady state u^3 = -k, v = u, cos(2 pi x / L) cos(pi y / L) follows exp(A t)."""
    steady = brentq(lambda u: u**3 + K, -1, 0, xtol=1e-15)
    solver = small(points=16, resolution=16, step=0.02)
    centre = np.pi * (np.arange(16) + 0.5) / 16
    shape, start = np.cos(centre)[:, None] * np.cos(2 * centre), np.array([2e-6, 1e-6])
    square = 5 * (np.pi / 2) ** 2
    matrix = np.array([[1 - 3 * steady**2, -1], [1, -1]]) - np.diag([1e-2, 3e-2]) * square
    u = solver.solve(steady + start[:, None, None] * shape, [0.0, 1.0, 3.0])
    for t, field in zip((1.0, 3.0), u[1:], strict=True):
        amplitude = 4 * (field * shape).mean(axis=(1, 2))
        assert amplitude == pytest.approx(expm(matrix * t) @ start, abs=5e-11)


@pytest.mark.parametrize("kind", ["white", "smooth"])
def test_five_point_laplacian_is_the_finite_volume_scheme(kind: str) -> None:
    """The system of ordinary equations of PDEBench, written out with differences, by an adaptive Runge-Kutta."""
    n = 10
    solver = small(points=n, step=0.01, laplacian="five_point")
    rng = np.random.default_rng(0)
    u0 = rng.standard_normal(solver.shape) if kind == "white" else solver.initial(rng)
    spread = np.array([1e-2, 3e-2])[:, None, None] * (n / 2.0) ** 2

    def rate(t: float, y: np.ndarray) -> np.ndarray:
        u = y.reshape(2, n, n)
        padded = np.pad(u, [(0, 0), (1, 1), (1, 1)], mode="edge")
        five = np.diff(padded[:, :, 1:-1], n=2, axis=1) + np.diff(padded[:, 1:-1], n=2, axis=2)
        return (reaction(u) + spread * five).ravel()

    times = np.array([0.0, 0.3, 1.0])
    exact = solve_ivp(rate, (0, 1), u0.ravel(), "DOP853", times, rtol=1e-11, atol=1e-12).y.T.reshape(3, 2, n, n)
    assert solver.solve(u0, times) == pytest.approx(exact, abs=2e-7)


def test_differences_converge_to_the_equation_at_order_two() -> None:
    """The field is given on 12 points; the differences use more and more cells between them."""
    times = np.array([0.0, 0.5])
    u0 = small(12).initial(np.random.default_rng(1))
    exact = small(12, resolution=48, step=0.0125).solve(u0, times)[-1]
    cells = np.array([60, 84, 120])
    errors = [
        np.abs(small(12, resolution=int(n), step=0.0125, laplacian="five_point").solve(u0, times)[-1] - exact).max()
        for n in cells
    ]
    assert np.polyfit(np.log(1 / cells), np.log(errors), 1)[0] == pytest.approx(2, abs=0.15)


def test_order_in_time_is_four() -> None:
    steps, times = np.array([0.05, 0.025, 0.0125]), np.array([0.0, 1.0])
    u0 = small().initial(np.random.default_rng(2))  # so small that the step's own bound is never met
    exact = small(step=0.003125).solve(u0, times)[-1]
    errors = [np.abs(small(step=h).solve(u0, times)[-1] - exact).max() for h in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(4, abs=0.15)


def test_error_falls_exponentially_with_resolution() -> None:
    times, resolutions = np.array([0.0, 2.0]), np.array([12, 16, 20, 24, 28])
    u0 = small(12).initial(np.random.default_rng(3))
    exact = small(12, resolution=60).solve(u0, times)[-1]
    errors = [np.abs(small(12, resolution=int(n)).solve(u0, times)[-1] - exact).max() for n in resolutions]
    assert np.corrcoef(resolutions, np.log(errors))[0, 1] < -0.99
    assert errors[-1] < 1e-2 * errors[0]


def test_mean_balance() -> None:
    """d/dt mean(v) = mean(u) - mean(v), since nothing crosses the sides; integrated by Gauss-Legendre."""
    solver = small(step=0.02)
    node, weight = np.polynomial.legendre.leggauss(8)
    times = np.concatenate([[0.0], 0.25 + 0.25 * node, [0.5]])
    mean_u, mean_v = solver.solve(solver.initial(np.random.default_rng(4)), times).mean(axis=(2, 3)).T
    assert mean_v[-1] - mean_v[0] == pytest.approx((mean_u - mean_v)[1:-1] @ weight * 0.25, abs=1e-7)


def test_symmetries() -> None:
    """Reflection, exchange of axes, quarter turn, and (u, v, k) -> (-u, -v, -k)."""
    solver, times = small(), np.array([0.0, 0.5, 1.0])
    u0 = solver.initial(np.random.default_rng(5))
    u = solver.solve(u0, times)
    for act in (lambda a: a[..., ::-1], lambda a: a.swapaxes(-1, -2), lambda a: np.rot90(a, axes=(-2, -1))):
        assert solver.solve(act(u0), times) == pytest.approx(act(u), abs=1e-12)
    assert small(offset=-K).solve(-u0, times) == pytest.approx(-u, abs=1e-12)


def test_it_is_the_mirrored_periodic_problem() -> None:
    """Two boxes side by side, the second one mirrored, evolve as one box of twice the length does."""
    u0 = small(12).initial(np.random.default_rng(6))
    one = small(12, resolution=24).solve(u0, [0, 1])[-1]
    double = np.concatenate([u0, u0[..., ::-1]], axis=-1)
    double = np.concatenate([double, double[:, ::-1]], axis=-2)
    both = small(24, resolution=48, length=4.0).solve(double, [0, 1])[-1]
    assert both[:, :12, :12] == pytest.approx(one, abs=1e-12)


def test_a_smooth_field_is_solved_on_fewer_points_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 64 internal points down to 32, against the same without halving."""
    solver, times = small(resolution=64, diffusivity_u=3e-2), np.linspace(0, 3, 5)
    u0 = solver.initial(np.random.default_rng(7))
    halved = solver.solve(u0, times)
    monkeypatch.setattr(fitzhugh_nagumo, "_SMOOTH", 0.0)
    difference = np.abs(halved - solver.solve(u0, times)).max()
    assert 1e-12 < difference < 2e-6


def test_fields_on_one_grid_are_the_same_function_on_another() -> None:
    coarse, fine = (small(n).initial(np.random.default_rng(8)) for n in (8, 24))
    assert fine[:, 1::3, 1::3] == pytest.approx(coarse, abs=1e-13)
    assert (fine**2).mean(axis=(1, 2)) == pytest.approx([0.25, 0.25], abs=1e-12)


def test_pdebench_case_is_what_it_says() -> None:
    case = get_case("fitzhugh_nagumo_2d_pdebench")
    draw = case.draw(0)
    assert dict(draw.solver.parameters) == {"diffusivity_u": 1e-3, "diffusivity_v": 5e-3, "offset": 5e-3}
    assert draw.u0.shape == (2, 128, 128)
    # White: neighbours do not correlate. Standard errors of 16384 numbers are 0.008.
    assert draw.u0.mean(axis=(1, 2)) == pytest.approx([0, 0], abs=0.04)
    assert draw.u0.std(axis=(1, 2)) == pytest.approx([1, 1], abs=0.03)
    assert (draw.u0[:, 1:] * draw.u0[:, :-1]).mean() == pytest.approx(0, abs=0.03)
    x = np.array(draw.solver.grid.axes[1].coordinates)
    assert (x[0], x[-1]) == pytest.approx((-1 + 1 / 128, 1 - 1 / 128))
    assert (len(case.times), case.times[-1]) == (101, 5.0)


@pytest.mark.slow
def test_pdebench_case_keeps_its_documented_error() -> None:
    """Against twice the points and half the step; and PDEBench's cells are 2 to 5 % away once noise has gone."""
    case = get_case("fitzhugh_nagumo_2d_pdebench")
    draw = case.draw(0)
    times = [0.0, 0.05, 1.0]
    u, finer = (solver.solve(draw.u0, times)[1:] for solver in (draw.solver, draw.solver.refined()))

    def difference(other: np.ndarray) -> np.ndarray:
        return np.sqrt(((other - finer) ** 2).mean(axis=(1, 2, 3)) / (finer**2).mean(axis=(1, 2, 3)))

    assert (difference(u) < [1e-3, 2e-4]).all()
    cells = FitzHughNagumo2d(points=128, step=0.05, laplacian="five_point").solve(draw.u0, times)[1:]
    assert difference(cells)[0] > 0.1
    assert 0.01 < difference(cells)[1] < 0.06


def test_refined_solver_agrees_within_the_documented_error() -> None:
    case = get_case("fitzhugh_nagumo_2d")
    draw = case.draw(0, 0, {"diffusivity_u": 1e-3, "diffusivity_v": 1e-2, "offset": 0.0})
    u, finer = (solver.solve(draw.u0, case.times[:11])[-1] for solver in (draw.solver, draw.solver.refined()))
    assert np.abs(u - finer).max() < 1e-4


@pytest.mark.parametrize("settings", [{}, {"laplacian": "five_point"}, {"resolution": 16}], ids=str)
def test_contract(settings: dict) -> None:
    verify_solver(small(**settings), (0.0, 0.1, 0.2), tolerance=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FitzHughNagumo2d(diffusivity_u=-1.0), "diffusivity_u is -1.0, expected a number above 0"),
        (lambda: FitzHughNagumo2d(offset=float("inf")), "offset is inf, expected a finite number"),
        (lambda: FitzHughNagumo2d(points=64, resolution=32), "resolution is 32, expected at least points=64"),
        (lambda: FitzHughNagumo2d(laplacian="fv"), "laplacian is 'fv', expected exact or five_point"),  # type: ignore[arg-type]
    ],
)
def test_arguments_out_of_range(make, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)


def test_a_failed_solve_says_when_where_and_why() -> None:
    solver = FitzHughNagumo2d(1e-5, 5e-3, points=16, resolution=16)
    with pytest.raises(
        NumericsError, match=r"failed at t=5 \(diffusivity_u=1e-05, diffusivity_v=0.005, offset"
    ) as error:
        solver.solve(solver.initial(np.random.default_rng(0)), [0.0, 0.1, 5.0])
    assert "the field is not resolved: its highest modes reach" in str(error.value)
    with pytest.raises(NumericsError, match=r"failed at t=0.1 .*the field is not finite\. Use a smaller step"):
        FitzHughNagumo2d(points=16).solve(np.full((2, 16, 16), 1e80), [0.0, 0.1])


def test_cosine_box_is_what_the_fields_are_drawn_in() -> None:
    """The random field has no modes beyond the sixth."""
    v = CosineBox((16, 16), (2.0, 2.0)).coefficients(small().initial(np.random.default_rng(9)))
    assert np.abs(v[:, 6:]).max() < 1e-14
    assert np.abs(v[:, :6, :6]).max() > 0.02
