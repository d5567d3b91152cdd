"""Advection and diffusion in a given flow: against translation, shear and manufactured solutions, and in its orders."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm

from romvae.errors import ConfigError, NumericsError
from romvae.solvers.advection_diffusion import AdvectionDiffusion
from romvae.solvers.flows import AbcFlow, CellularFlow, ShearFlow, UniformFlow
from romvae.solvers.spectral import random_modes
from romvae.solvers.verify import verify_solver

KAPPA = 4e-3


def small(dimensions: int = 2, points: int = 16, diffusivity: float = 2e-2, **settings) -> AdvectionDiffusion:
    return AdvectionDiffusion(diffusivity, points=points, dimensions=dimensions, **settings)


def smooth(seed: int, points: int, dimensions: int) -> np.ndarray:
    """A random field of the modes up to 2."""
    return random_modes(np.random.default_rng(seed), (points,) * dimensions, (1.0,) * dimensions, highest=2)[None]


def angles(solver: AdvectionDiffusion) -> list[np.ndarray]:
    """2 pi x / L of every axis, in the order (z,) y, x, each on the whole grid."""
    return [
        2 * np.pi / solver.length * x for x in np.meshgrid(*(a.coordinates for a in solver.grid.axes), indexing="ij")
    ]


@pytest.mark.parametrize("components", [(0.4, -0.7), (0.3, -0.2, 0.5)], ids=["2-D", "3-D"])
def test_uniform_flow_carries_waves_that_decay(components: tuple[float, ...]) -> None:
    ndim = len(components)
    solver = AdvectionDiffusion(KAPPA, 1.5, 0.2, 12, ndim, length=2.0, flow=UniformFlow(components), step=0.01)
    *_, y, x = angles(solver)
    k = np.pi  # of mode 1 on a period of 2
    times = np.array([0.0, 0.3, 1.0])
    u0 = np.cos(2 * x - y + 0.4)[None]
    speed = 1.5 * k * (2 * components[-1] - components[-2])
    exact = [np.exp(-KAPPA * 5 * k**2 * t) * np.cos(2 * x - y + 0.4 - speed * t) for t in times]
    # The faster one turns by 0.085 a step, each off by 0.085^5 / 120: 3.7e-6 after 100 steps, a 256th after 400.
    assert solver.solve(u0, times)[:, 0] == pytest.approx(np.stack(exact), abs=4e-6)
    finer = AdvectionDiffusion(KAPPA, 1.5, 0.2, 12, ndim, length=2.0, flow=UniformFlow(components), step=0.0025)
    assert finer.solve(u0, times)[:, 0] == pytest.approx(np.stack(exact), abs=1.6e-8)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_along_a_shear_flow_nothing_happens_but_diffusion(dimensions: int) -> None:
    """A field that varies across the flow only is not carried."""
    solver = small(dimensions, flow=ShearFlow(2, 0.5))
    across = angles(solver)[-2]
    u = solver.solve(np.sin(3 * across)[None], [0.0, 0.1])[-1, 0]
    assert u == pytest.approx(np.exp(-2e-2 * (6 * np.pi) ** 2 * 0.1) * np.sin(3 * across), abs=1e-14)


def test_shear_flow_against_its_matrix_exponential() -> None:
    """u = Re f(y) exp(i X) with f' = (kappa (d_yy - k^2) - i k sin Y) f: coupled modes of Y, written as a matrix."""
    solver = AdvectionDiffusion(1e-2, 1.0, 0.0, 32, flow=ShearFlow(), resolution=64, step=2e-3)
    y, x = angles(solver)
    k, m = 2 * np.pi, np.arange(-24, 25)
    matrix = np.diag(-1e-2 * k**2 * (m**2 + 1.0)).astype(complex)
    # sin Y = (e^{iY} - e^{-iY}) / 2i moves mode m to m + 1 and to m - 1.
    matrix += -1j * k * (np.diag(np.full(48, 1 / 2j), -1) - np.diag(np.full(48, 1 / 2j), 1))
    start = np.where(m == 0, 1.0, 0.0)
    f = expm(matrix * 0.8) @ start
    exact = (np.exp(1j * y[..., None] * m) @ f * np.exp(1j * x)).real
    assert solver.solve(np.cos(x)[None], [0.0, 0.8])[-1, 0] == pytest.approx(exact, abs=1e-9)


def test_shear_flow_without_decay_tilts_the_field() -> None:
    """With hardly any diffusion, u(x, y, t) = u0(x - t sin Y, y), which is cos(X - 2 pi t sin Y)."""
    solver = AdvectionDiffusion(1e-12, 1.0, 0.0, 48, flow=ShearFlow(), resolution=96, step=2e-3)
    y, x = angles(solver)
    u = solver.solve(np.cos(x)[None], [0.0, 0.5])[-1, 0]
    assert u == pytest.approx(np.cos(x - np.pi * np.sin(y)), abs=1e-8)


@pytest.mark.parametrize("flow", [CellularFlow(0.0), CellularFlow(0.6), AbcFlow()], ids=str)
def test_manufactured_solution(flow: CellularFlow | AbcFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source that makes u = cos(X + Y) e^-t a solution, added where the flow acts; the flow's own formula in it."""
    from romvae.solvers import box_march
    from romvae.solvers.spectral import FourierBox

    ndim = 3 if isinstance(flow, AbcFlow) else 2
    solver = AdvectionDiffusion(KAPPA, 0.8, 0.15, 12, ndim, flow=flow, resolution=12, step=5e-3)
    turned = [*angles(solver)[:-1], angles(solver)[-1] - 2 * np.pi * 0.15]
    w = [0.8 * np.broadcast_to(component, turned[0].shape) for component in flow(turned)]
    *_, y, x = angles(solver)
    k, wave = 2 * np.pi, np.cos(x + y)
    slope = -np.sin(x + y) * k
    source = (-wave + KAPPA * 2 * k**2 * wave + (w[-1] + w[-2]) * slope)[None]
    box = FourierBox((12,) * ndim, (1.0,) * ndim, (5,) * ndim)

    class Driven(box_march.ETDRK4):
        """Knows the time of the four evaluations of a step: t, t + h/2 twice, t + h."""

        def __init__(self, linear, nonlinear, step) -> None:
            self.calls = 0

            def driven(v: np.ndarray) -> np.ndarray:
                done, stage = divmod(self.calls, 4)
                self.calls += 1
                t = step * (done + (0, 0.5, 0.5, 1)[stage])
                modes = tuple(n // 2 for n in v.shape[2:-1]) + (v.shape[-1] - 1,)
                kept = FourierBox(box.points, box.lengths, modes)
                return nonlinear(v) + np.exp(-t) * kept.coefficients(source)

            super().__init__(linear, driven, step)

    monkeypatch.setattr(box_march, "ETDRK4", Driven)
    u = solver.solve(wave[None], [0.0, 0.5])[-1, 0]
    assert u == pytest.approx(np.exp(-0.5) * wave, abs=1e-9)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_mass_is_kept_variance_falls_and_extrema_do_not_grow(dimensions: int) -> None:
    solver = small(dimensions, points=20, diffusivity=8e-3)
    u = solver.solve(solver.initial(np.random.default_rng(0)), np.linspace(0, 0.6, 7))
    assert np.ptp(solver.conserved(u)["mass"]) < 1e-15 * 24
    axes = tuple(range(1, u.ndim))
    assert (np.diff((u**2).mean(axis=axes)) < 0).all()
    # The documented bound: what the series oversteps is its error.
    assert u.max() <= u[0].max() + 1e-4
    assert u.min() >= u[0].min() - 1e-4


def test_variance_falls_as_diffusion_demands() -> None:
    """d/dt mean(u^2) = -2 kappa mean(|grad u|^2), whatever the flow; integrated by Gauss-Legendre."""
    solver = small(points=32, diffusivity=1e-2)
    node, weight = np.polynomial.legendre.leggauss(8)
    times = np.concatenate([[0.0], 0.1 + 0.1 * node, [0.2]])
    u = solver.solve(solver.initial(np.random.default_rng(1)), times)[:, 0]
    v = np.fft.rfft2(u, norm="forward")
    m_y, m_x = np.fft.fftfreq(32, 1 / 32)[:, None], np.arange(17)
    power = np.where((m_x > 0) & (m_x < 16), 2.0, 1.0) * np.abs(v) ** 2
    gradient = (power * 4 * np.pi**2 * (m_x**2 + m_y**2)).sum(axis=(1, 2))
    lost = 2e-2 * gradient[1:-1] @ weight * 0.1
    assert (u[0] ** 2 - u[-1] ** 2).mean() == pytest.approx(lost, rel=1e-6)


def test_symmetries() -> None:
    """A shift along x with the phase; half a turn; adding a constant; the flow reversed by half a period."""
    solver, times = small(phase=0.125), np.array([0.0, 0.2])
    u0 = solver.initial(np.random.default_rng(2))
    u = solver.solve(u0, times)[-1]
    shifted = small(phase=0.25).solve(np.roll(u0, 2, -1), times)[-1]
    assert shifted == pytest.approx(np.roll(u, 2, -1), abs=1e-12)
    # psi(-x, -y) = psi(x, y): the flow without phase is turned into itself by half a turn about the origin.
    still = small()
    turned = np.roll(u0[:, ::-1, ::-1], 1, (1, 2))
    expected = np.roll(still.solve(u0, times)[-1][:, ::-1, ::-1], 1, (1, 2))
    assert still.solve(turned, times)[-1] == pytest.approx(expected, abs=1e-12)
    assert solver.solve(3 * u0 + 2, times)[-1] == pytest.approx(3 * u + 2, abs=1e-12)
    closed = [AdvectionDiffusion(2e-2, s, p, 16, flow=CellularFlow(0.0)) for s, p in ((-1.0, 0.0), (1.0, 0.5))]
    assert closed[0].solve(u0, times) == pytest.approx(closed[1].solve(u0, times), abs=1e-12)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_order_in_time_is_four(dimensions: int) -> None:
    steps, times = np.array([0.02, 0.01, 0.005]), np.array([0.0, 0.2])

    def solve(step: float) -> np.ndarray:
        return small(dimensions, points=12, resolution=20, step=step).solve(smooth(3, 12, dimensions), times)[-1]

    exact = solve(0.00125)
    errors = [np.abs(solve(h) - exact).max() for h in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(4, abs=0.15)


def test_error_falls_exponentially_with_resolution() -> None:
    times, resolutions = np.array([0.0, 0.3]), np.array([24, 28, 32, 36, 40])

    def solve(n: int) -> np.ndarray:
        return small(diffusivity=8e-3, resolution=n, step=2.5e-3).solve(smooth(4, 16, 2), times)[-1]

    exact = solve(72)
    errors = [np.abs(solve(int(n)) - exact).max() for n in resolutions]
    assert np.corrcoef(resolutions, np.log(errors))[0, 1] < -0.99
    assert errors[-1] < 1e-2 * errors[0]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_refined_solver_agrees_within_the_documented_error(dimensions: int) -> None:
    solver = small(dimensions, points=20 if dimensions == 2 else 16)
    u0 = solver.initial(np.random.default_rng(5))
    assert np.abs(solver.refined().solve(u0, [0, 0.2]) - solver.solve(u0, [0, 0.2])).max() < 1e-4


@pytest.mark.parametrize(
    "solver", [small(points=32, resolution=32), small(3, diffusivity=0.3, phase=0.3, resolution=16)], ids=["2-D", "3-D"]
)
def test_contract(solver: AdvectionDiffusion) -> None:
    verify_solver(solver, tolerance=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdvectionDiffusion(0.0), "diffusivity is 0.0, expected a number above 0"),
        (lambda: AdvectionDiffusion(dimensions=4), "dimensions is 4, expected 2 or 3"),
        (lambda: AdvectionDiffusion(strength=float("nan")), "strength is nan, expected a finite number"),
        (
            lambda: AdvectionDiffusion(flow=lambda angles: [np.sin(angles[0]), np.cos(angles[1])]),
            "the divergence of flow=",
        ),
        (lambda: AdvectionDiffusion(flow=ShearFlow(13)), "flow=ShearFlow(mode=13, mean=0.0) holds more than 11 waves"),
        (
            lambda: AdvectionDiffusion(flow=UniformFlow((1.0, 2.0, 3.0))),
            "flow=UniformFlow(components=(1.0, 2.0, 3.0)) has 3 components, expected 2",
        ),
    ],
)
def test_arguments_out_of_range(make, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)


def test_a_failed_solve_says_when_where_and_why() -> None:
    solver = AdvectionDiffusion(1e-5, points=16)
    u0 = solver.initial(np.random.default_rng(0))
    with pytest.raises(NumericsError, match=r"failed at t=2 \(diffusivity=1e-05, strength=1, phase=0\)") as error:
        solver.solve(u0, [0.0, 2.0])
    assert "the field is not resolved: its highest modes reach" in str(error.value)
    with pytest.raises(NumericsError, match=r"resolution=8 does not hold the flow\. Raise resolution"):
        AdvectionDiffusion(1e-2, points=8, resolution=8, flow=ShearFlow(7)).solve(np.zeros((1, 8, 8)), [0.0, 1.0])
