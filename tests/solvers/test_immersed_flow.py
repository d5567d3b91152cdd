"""Incompressible flow on stretched axes: exact vortices, orders, the projection's laws, the kept energy."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.solvers.immersed_flow import ImmersedFlow
from romvae.solvers.integrators import ssp_rk3
from romvae.solvers.stretched_axis import StretchedAxis

NONE = np.zeros((0, 2))


def ring(number: int, radius: float) -> np.ndarray:
    angle = (np.arange(number) + 0.5) * 2 * np.pi / number
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def immersed(stream: float = 0.0) -> ImmersedFlow:
    """A ring of radius 0.5 in a box of 36 x 40 stretched cells, the smallest of 0.1."""
    x = StretchedAxis(40, -2.0, 4.0, (1.0, 0.5))
    return ImmersedFlow(x, StretchedAxis(36, -2.5, 2.5, (0.5, 0.5)), ring(20, 0.5), stream)


def fitted_order(sizes: list[int], errors: list[float]) -> float:
    return -float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


@pytest.mark.parametrize("parity", ["even", "odd"])
@pytest.mark.parametrize("second", [False, True])
def test_differences_have_order_six_on_equal_cells(parity: str, second: bool) -> None:
    k = 3 * np.pi / 2
    sizes, errors = [24, 36, 48, 72], []
    for n in sizes:
        axis = StretchedAxis(n, -1.0, 1.0)
        z = k * (axis.centres + 1)
        u, slope = (np.cos(z), -k * np.sin(z)) if parity == "even" else (np.sin(z), k * np.cos(z))
        found = (axis.second_derivative if second else axis.derivative)(parity) @ u  # pyright: ignore
        errors.append(np.abs(found - (-(k**2) * u if second else slope)).max())
    assert fitted_order(sizes, errors) == pytest.approx(6, abs=0.15)


def test_differences_have_order_six_on_stretched_cells_inside() -> None:
    """Away from the ends, where the map is smooth; the growth over 0.15 is resolved from about 200 cells on."""
    sizes, errors = [200, 300, 400, 600], []
    for n in sizes:
        axis = StretchedAxis(n, -2.0, 3.0, (2.0, 1.0))
        found = axis.derivative("even") @ np.exp(-(axis.centres**2) * 4)
        errors.append(np.abs(found + 8 * axis.centres * np.exp(-(axis.centres**2) * 4))[20:-20].max())
    assert fitted_order(sizes, errors) == pytest.approx(6, abs=0.15)


def test_cells_follow_the_law_and_fill_the_axis() -> None:
    axis = StretchedAxis(100, -8.0, 18.0, (2.4, 1.0))
    # The means of neighbours are the trapezoidal rule for dx/di, off by the curvature of the growth.
    assert np.diff(axis.centres) == pytest.approx(axis.sizes[:-1] / 2 + axis.sizes[1:] / 2, rel=5e-3)
    assert axis.sizes.sum() == pytest.approx(26.0, rel=1e-3)
    assert axis.sizes.max() / axis.sizes.min() <= 5.0
    core = np.abs(axis.centres) < 0.3  # three smoothing lengths inside the core: exp(-3) of the growth is left
    assert np.ptp(axis.sizes[core]) < 0.05 * axis.sizes.min()


def test_derivatives_of_both_parities_are_adjoint() -> None:
    """Summation by parts, on which orthogonality of the projection and the kept energy rest."""
    axis = StretchedAxis(31, -1.0, 2.0, (1.0, 0.4))
    even, odd = np.random.default_rng(0).standard_normal((2, 31))
    left = (axis.sizes * even * (axis.derivative("odd") @ odd)).sum()
    assert left == pytest.approx(-(axis.sizes * odd * (axis.derivative("even") @ even)).sum(), rel=1e-12)


@pytest.mark.parametrize("parity", ["even", "odd"])
def test_interpolation_has_order_six_and_keeps_the_same_grid(parity: str) -> None:
    sizes, errors = [16, 24, 32, 48], []
    for n in sizes:
        axis, fine = StretchedAxis(n, -1.0, 1.0), StretchedAxis(2 * n, -1.0, 1.0)
        assert np.array_equal(axis.interpolation(n, parity), np.eye(n))  # pyright: ignore
        wave = np.cos if parity == "even" else np.sin
        found = axis.interpolation(2 * n, parity) @ wave(1.5 * np.pi * (axis.centres + 1))  # pyright: ignore
        errors.append(np.abs(found - wave(1.5 * np.pi * (fine.centres + 1))).max())
    assert fitted_order(sizes, errors) == pytest.approx(6, abs=0.15)


def vortex_error(points: int, steps: int, end: float = 0.5) -> float:
    """Of the Taylor-Green vortices u = sin(kx) cos(ky) exp(-2 nu k^2 t), an exact solution with free-slip sides."""
    axis, k, viscosity = StretchedAxis(points, -1.0, 1.0), np.pi, 0.05
    flow = ImmersedFlow(axis, axis, NONE, stream=0.0)
    x, y = k * np.meshgrid(axis.centres + 1, axis.centres + 1)[0], k * (axis.centres[:, None] + 1)
    u0 = np.stack([np.sin(x) * np.cos(y), -np.cos(x) * np.sin(y)])
    u = u0
    for _ in range(steps):
        u = ssp_rk3(lambda w: flow.rate(w, viscosity), u, end / steps)
    return float(np.abs(u - u0 * np.exp(-2 * viscosity * k**2 * end)).max())


def test_taylor_green_vortices_decay_with_order_six_in_space() -> None:
    sizes = [16, 20, 24, 32]
    errors = [vortex_error(n, 200) for n in sizes]  # the error of 200 steps is below 1e-9
    assert errors[-1] < 2e-6
    assert fitted_order(sizes, errors) == pytest.approx(6, abs=0.15)


def test_projection_reaches_both_conditions_and_changes_nothing_twice() -> None:
    flow = immersed(stream=1.0)
    u = flow.admissible(np.random.default_rng(1).standard_normal((2, *flow.shape)))
    # Differences of numbers of order one over cells of 0.1, and the small matrix's condition of about 100.
    assert np.abs(flow.divergence(u)).max() < 1e-11
    assert np.abs(flow.on_line(u)).max() < 1e-12
    assert flow.admissible(u) == pytest.approx(u, abs=1e-12)
    rate = flow.rate(u, 0.01)
    assert np.abs(rate[0] @ flow.x.derivative("odd").T + flow.y.derivative("odd") @ rate[1]).max() < 1e-9
    assert np.abs(flow.on_line(rate)).max() < 1e-10 * np.abs(rate).max() + 1e-11


def test_projection_is_orthogonal() -> None:
    """What is taken away is orthogonal to what is left, in the energy sum(area (u^2 + v^2))."""
    flow = immersed()
    area = flow.y.sizes[:, None] * flow.x.sizes
    w = np.random.default_rng(2).standard_normal((2, *flow.shape))
    u = flow.admissible(w)
    assert abs((area * u * (w - u)).sum()) < 1e-12 * (area * w**2).sum()
    assert (area * u**2).sum() < (area * w**2).sum()


def test_energy_is_kept_without_viscosity() -> None:
    flow = immersed()
    area = flow.y.sizes[:, None] * flow.x.sizes
    u = flow.admissible(np.random.default_rng(3).standard_normal((2, *flow.shape)))
    rate = flow.rate(u, 0.0)
    assert abs((area * u * rate).sum()) < 1e-12 * np.sqrt((area * u**2).sum() * (area * rate**2).sum())


def test_a_stream_without_vorticity_is_steady_without_viscosity() -> None:
    """The impulsively started flow: irrotational except for the sheet on the ring, whose force is all that acts."""
    axis = StretchedAxis(32, -2.0, 2.0, (0.5, 0.5))
    flow = ImmersedFlow(axis, axis, NONE, stream=0.7)
    u = np.stack([np.full(flow.shape, 0.7), np.zeros(flow.shape)])
    assert flow.rate(u, 0.01) == pytest.approx(np.zeros_like(u), abs=1e-13)
    u[1] += np.exp(-(axis.centres**2) - axis.centres[:, None] ** 2)
    flow.damp(np.ones(flow.shape), target=0.7)
    # With nothing but damping towards the stream, v of a field without divergence falls at rate one.
    plain = ImmersedFlow(axis, axis, NONE, stream=0.7)
    u = plain.admissible(u)
    difference = flow.rate(u, 0.0) - plain.rate(u, 0.0)
    assert difference == pytest.approx(np.stack([0.7 - u[0], -u[1]]), abs=1e-12)
