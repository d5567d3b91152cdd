"""Gray-Scott: against its ordinary equations, its linear stability, manufactured solutions and its symmetries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from romvae.errors import ConfigError, NumericsError
from romvae.solvers.blobs import random_blobs
from romvae.solvers.gray_scott import GrayScott
from romvae.solvers.verify import verify_solver

F, K = 0.04, 0.0605


def small(dimensions: int = 2, points: int = 16, **settings: float) -> GrayScott:
    """A box so small that few points resolve it."""
    length = settings.pop("length", 0.25)
    resolution = int(settings.pop("resolution", 2 * points))
    return GrayScott(F, K, points=points, dimensions=dimensions, length=length, resolution=resolution, **settings)


def blob(seed: int) -> np.ndarray:
    """One blob on 16 x 16 points of the small box, which grows into a ring."""
    b = random_blobs(np.random.default_rng(seed), (16, 16), (0.25, 0.25), (1, 1), (0.04, 0.04), (1.0, 1.0))
    return np.stack([1 - b, b / 2])


def reaction(t: float, y: np.ndarray) -> np.ndarray:
    eaten = y[0] * y[1] ** 2
    return np.array([-eaten + F * (1 - y[0]), eaten - (F + K) * y[1]])


@pytest.mark.parametrize("dimensions", [2, 3])
def test_uniform_fields_follow_the_ordinary_equations(dimensions: int) -> None:
    solver = small(dimensions, points=8, step=0.05)
    start, times = np.array([0.5, 0.4]), np.array([0.0, 3.0, 8.0])
    u0 = np.broadcast_to(start.reshape(2, *[1] * dimensions), solver.shape)
    exact = solve_ivp(reaction, (0, 8), start, "DOP853", times, rtol=1e-13, atol=1e-14).y.T
    u = solver.solve(u0, times)
    # The step's own error is (0.05 * 0.3)^4 / 120 of the values.
    assert u == pytest.approx(np.broadcast_to(exact.reshape(3, 2, *[1] * dimensions), u.shape), abs=1e-10)


def uniform_state() -> tuple[float, float]:
    """The steady state with more activator: u v = F + k and F (1 - u) = (F + k) v."""
    f, k = 0.04, 0.055
    u = 0.5 * (1 - np.sqrt(1 - 4 * (f + k) ** 2 / f))
    return u, f * (1 - u) / (f + k)


def test_small_waves_grow_at_the_rate_of_the_linearised_equation() -> None:
    """About a uniform steady state, mode (2, 1) follows exp(A t) with A = J - D k^2; squares are below 1e-10."""
    f, k = 0.04, 0.055
    u_s, v_s = uniform_state()
    solver = GrayScott(f, k, points=16, length=0.25, resolution=24, step=0.5)
    y, x = np.meshgrid(*2 * [2 * np.pi * np.arange(16) / 16], indexing="ij")
    shape, start = np.cos(2 * x + y), np.array([2e-6, -1e-6])
    u0 = np.array([u_s, v_s])[:, None, None] + start[:, None, None] * shape
    square = 5 * (2 * np.pi / 0.25) ** 2
    jacobian = np.array([[-(v_s**2) - f, -2 * u_s * v_s], [v_s**2, 2 * u_s * v_s - f - k]])
    matrix = jacobian - np.diag([2e-5, 1e-5]) * square
    u = solver.solve(u0, [0.0, 20.0, 60.0])
    for t, field in zip((20.0, 60.0), u[1:], strict=True):
        amplitude = 2 * (field * shape).mean(axis=(1, 2))
        assert amplitude == pytest.approx(expm(matrix * t) @ start, abs=2e-10)


def test_without_activator_the_substrate_only_diffuses_and_is_fed() -> None:
    solver = small(points=16)
    y, x = np.meshgrid(*2 * [2 * np.pi * np.arange(16) / 16], indexing="ij")
    u0 = np.stack([0.7 + 0.2 * np.sin(x - 2 * y), 0 * x])
    t = 30.0
    rate = F + 2e-5 * 5 * (2 * np.pi / 0.25) ** 2
    expected = 1 - 0.3 * np.exp(-F * t) + 0.2 * np.exp(-rate * t) * np.sin(x - 2 * y)
    u = solver.solve(u0, [0.0, t])[-1]
    assert u[0] == pytest.approx(expected, abs=1e-13)
    assert np.abs(u[1]).max() == 0


def test_mean_of_both_is_kept_without_feed_and_removal() -> None:
    solver = GrayScott(0.0, 0.0, points=16, length=0.25, resolution=32)
    u = solver.solve(solver.initial(np.random.default_rng(0)), [0.0, 20.0, 40.0])
    total = u.sum(axis=1).mean(axis=(1, 2))
    assert np.ptp(total) < 1e-13
    assert np.ptp(u[:, 1].mean(axis=(1, 2))) > 1e-3


def test_mean_balance() -> None:
    """d/dt mean(u + v) = F - F mean(u) - (F + k) mean(v), integrated by Gauss-Legendre over time."""
    solver = small(step=0.5)
    node, weight = np.polynomial.legendre.leggauss(8)
    times = np.concatenate([[0.0], 5 + 5 * node, [10.0]])
    mean_u, mean_v = solver.solve(solver.initial(np.random.default_rng(1)), times).mean(axis=(2, 3)).T
    gained = (F - F * mean_u - (F + K) * mean_v)[1:-1] @ weight * 5
    # 2e-8: the steps' own error; the mean of the stored points is that of the series but for aliasing of 1e-9.
    assert (mean_u + mean_v)[-1] - (mean_u + mean_v)[0] == pytest.approx(gained, abs=2e-8)


def test_a_travelling_pattern_of_one_dimension_is_the_same_in_every_direction() -> None:
    """A field that varies along one axis only stays so; axes can be exchanged, in two and three dimensions."""
    line = blob(2)[:, 4]
    flat, solid = small(resolution=16), small(3, resolution=16)
    along_x = flat.solve(np.broadcast_to(line[:, None], flat.shape), [0.0, 25.0])[-1]
    assert np.ptp(along_x, axis=1).max() < 1e-13
    in_space = solid.solve(np.broadcast_to(line[:, :, None, None], solid.shape), [0.0, 25.0])[-1]
    assert in_space[:, :, 3, 5] == pytest.approx(along_x[:, 7], abs=1e-12)


def test_symmetries() -> None:
    """Shift, reflection, exchange of axes, quarter turn; errors of the steps obey them too."""
    solver = small(points=16, step=2.5)
    u0, times = blob(3), np.array([0.0, 20.0])
    u = solver.solve(u0, times)[-1]
    for act in (
        lambda a: np.roll(a, (3, 5), (1, 2)),
        lambda a: np.roll(a[:, ::-1], 1, 1),
        lambda a: a.swapaxes(1, 2),
        lambda a: np.roll(np.rot90(a, axes=(1, 2)), 1, 1),
    ):
        assert solver.solve(act(u0), times)[-1] == pytest.approx(act(u), abs=1e-12)


def test_rescaled_problem_is_the_same_problem() -> None:
    """Length by s with diffusivities by s^2."""
    small_box = small(points=16)
    large_box = GrayScott(F, K, 9 * 2e-5, 9 * 1e-5, points=16, length=0.75, resolution=32)
    u0 = small_box.initial(np.random.default_rng(4))
    assert large_box.initial(np.random.default_rng(4)) == pytest.approx(u0, abs=1e-14)
    assert large_box.solve(u0, [0, 20]) == pytest.approx(small_box.solve(u0, [0, 20]), abs=1e-13)


def test_order_in_time_is_four() -> None:
    steps, times = np.array([2.0, 1.0, 0.5]), np.array([0.0, 40.0])
    u0 = blob(5)
    exact = small(step=0.125).solve(u0, times)[-1]
    errors = [np.abs(small(step=h).solve(u0, times)[-1] - exact).max() for h in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(4, abs=0.15)


def test_error_falls_exponentially_with_resolution() -> None:
    times, resolutions = np.array([0.0, 60.0]), np.array([16, 20, 24, 28, 32])
    u0 = blob(6)
    exact = small(resolution=64).solve(u0, times)[-1]
    errors = [np.abs(small(resolution=n).solve(u0, times)[-1] - exact).max() for n in resolutions]
    assert np.corrcoef(resolutions, np.log(errors))[0, 1] < -0.99
    assert errors[-1] < 0.01 * errors[0]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_manufactured_solution(dimensions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the source that makes u = 0.6 + 0.2 cos X cos t / 9, v = 0.3 + 0.1 cos Y a solution.

    The source enters where the reaction does, so that space, diffusion, reaction and time step all take part.
    """
    from romvae.solvers import box_march

    n, length = 12, 0.3
    wave = 2 * np.pi / length
    solver = GrayScott(F, K, points=n, dimensions=dimensions, length=length, resolution=n, step=0.05)
    angle = [2 * np.pi * np.arange(n) / n] * dimensions
    *_, y, x = np.broadcast_arrays(*np.ix_(*angle))

    def exact(t: float) -> np.ndarray:
        return np.stack([0.6 + 0.2 * np.cos(x) * np.cos(t / 9), 0.3 + 0.1 * np.cos(y)])

    def source(t: float) -> np.ndarray:
        u, v = exact(t)
        u_t = -0.2 / 9 * np.cos(x) * np.sin(t / 9)
        eaten = u * v**2
        return np.stack(
            [
                u_t + 2e-5 * wave**2 * (u - 0.6) + eaten - F * (1 - u),
                1e-5 * wave**2 * (v - 0.3) - eaten + (F + K) * v,
            ]
        )

    class Driven(box_march.ETDRK4):
        """Knows the time of the four evaluations of a step: t, t + h/2 twice, t + h."""

        def __init__(self, linear, nonlinear, step) -> None:
            from romvae.solvers.spectral import FourierBox

            box = FourierBox.dealiased((n,) * dimensions, (length,) * dimensions, degree=1)
            self.calls = 0

            def driven(v: np.ndarray) -> np.ndarray:
                done, stage = divmod(self.calls, 4)
                self.calls += 1
                return nonlinear(v) + box.coefficients(source(step * (done + (0, 0.5, 0.5, 1)[stage])))

            super().__init__(linear, driven, step)

    monkeypatch.setattr(box_march, "ETDRK4", Driven)
    # The products hold modes up to 3 of 5, so that nothing is cut off in space.
    assert solver.solve(exact(0.0), [0.0, 4.0])[-1] == pytest.approx(exact(4.0), abs=1e-9)


def test_refined_solver_agrees_within_the_documented_error() -> None:
    solver = GrayScott(F, K, points=16, length=0.25)
    u0 = blob(7)
    finer = solver.refined()
    assert finer.resolution >= 1.5 * solver.resolution
    assert finer.step == solver.step / 2
    assert np.abs(finer.solve(u0, [0, 150]) - solver.solve(u0, [0, 150])).max() < 5e-4


@pytest.mark.parametrize("solver", [small(), small(3, points=8)], ids=["2-D", "3-D"])
def test_contract(solver: GrayScott) -> None:
    verify_solver(solver, (0.0, 5.0, 10.0), tolerance=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GrayScott(feed=-1.0), "feed is -1.0, expected a number above 0; or 0"),
        (lambda: GrayScott(dimensions=1), "dimensions is 1, expected 2 or 3"),
        (lambda: GrayScott(diffusivity_v=0.0), "diffusivity_v is 0.0, expected a number above 0"),
        (lambda: GrayScott(step=0.0), "step is 0.0"),
    ],
)
def test_arguments_out_of_range(make, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("settings", "factor", "message"),
    [
        ({"length": 2.0}, 1, "the field is not resolved: its highest modes reach"),
        ({"length": 0.25, "step": 1e3}, 20, "Use a smaller step than step=1000"),
    ],
)
def test_a_failed_solve_says_when_where_and_why(settings: dict, factor: float, message: str) -> None:
    solver = GrayScott(F, K, points=16, resolution=16, **settings)
    with pytest.raises(NumericsError, match=r"gray_scott: failed at t=\d+ \(feed=0.04, kill=0.0605\)") as error:
        solver.solve(factor * blob(0), [0.0, 100.0, 2e3])
    assert message in str(error.value)
