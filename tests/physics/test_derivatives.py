"""Derivatives: exact on what they hold, their orders, integration by parts, and gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from romvae.boundary import Boundary
from romvae.errors import ConfigError
from romvae.grid import Axis, Grid
from romvae.physics import Derivatives, vorticity_velocity

PERIODIC = Boundary("periodic")
SIDES = {
    "periodic": (PERIODIC, PERIODIC),
    "open": (Boundary("open"), Boundary("wall")),
    "reflecting": (Boundary("reflecting"), Boundary("reflecting")),
    "value": (Boundary("value", (("u", 1.0),)), Boundary("value", (("u", math.e),))),
}


def axis(points, sides, name="x", length=1.0):
    offset = 0.0 if sides[0].kind == "periodic" else 0.5
    return Axis(name, tuple(((np.arange(points) + offset) * length / points).tolist()), "1", *sides)


def coordinate(of):
    return torch.tensor(of.coordinates, dtype=torch.float64)


def smooth(kind, x, order):
    """The derivative of a field that suits the ends."""
    if kind == "periodic":
        return (2 * np.pi) ** order * torch.sin(2 * np.pi * x + order * np.pi / 2)
    if kind == "reflecting":
        return np.pi**order * torch.cos(np.pi * x + order * np.pi / 2)
    return torch.exp(x)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("points", [15, 16])
def test_spectral_derivatives_of_trigonometric_functions_are_exact(order, points):
    info = axis(points, SIDES["periodic"], length=3.0)
    k = 2 * np.pi * 5 / 3.0
    u = torch.sin(k * coordinate(info) + 0.3)
    expected = k**order * torch.sin(k * coordinate(info) + 0.3 + order * np.pi / 2)
    # round-off of the highest of 8 modes, (2 pi 8 / 3)^4 = 8e4 times 1e-16
    torch.testing.assert_close(Derivatives(Grid((info,)))(u, "x", order), expected, rtol=1e-11, atol=1e-9)


def test_the_highest_mode_has_an_even_derivative_only():
    info = axis(8, SIDES["periodic"])
    sawtooth, d = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64), Derivatives(Grid((info,)))
    assert float(d(sawtooth, "x").abs().max()) < 1e-12
    torch.testing.assert_close(d(sawtooth, "x", 2), -((8 * np.pi) ** 2) * sawtooth)


@pytest.mark.parametrize("parity", ["even", "odd"])
def test_mirrored_fields_are_exact_between_walls(parity):
    info = axis(12, SIDES["reflecting"])
    x, d = coordinate(info), Derivatives(Grid((info,)))
    wave, other, sign = (torch.cos, torch.sin, -1) if parity == "even" else (torch.sin, torch.cos, 1)
    u = wave(3 * np.pi * x)
    torch.testing.assert_close(d(u, "x", parity=parity), sign * 3 * np.pi * other(3 * np.pi * x))
    torch.testing.assert_close(d(u, "x", 2, parity=parity), -((3 * np.pi) ** 2) * u)


@pytest.mark.parametrize("accuracy", [2, 4])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("kind", ["open", "value"])
def test_differences_are_exact_on_polynomials(kind, order, accuracy):
    power = order + accuracy - 1
    held = tuple(Boundary("value", (("u", value),)) for value in (0.0, 1.0)) if kind == "value" else SIDES[kind]
    x = np.sort(np.random.default_rng(0).uniform(0.1, 0.9, 14)) if kind == "open" else (np.arange(14) + 0.5) / 14
    info = Axis("x", tuple(x.tolist()), "1", *held)
    t = coordinate(info)
    expected = math.perm(power, order) * t ** (power - order)
    found = Derivatives(Grid((info,)), "differences", accuracy)(t**power, "x", order, field="u")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # uneven cells amplify round-off


@pytest.mark.parametrize("accuracy", [2, 4])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("kind", list(SIDES))
def test_differences_have_their_order(kind, order, accuracy):
    errors = []
    for points in (32, 64):
        info = axis(points, SIDES[kind])
        d = Derivatives(Grid((info,)), "differences", accuracy)
        x = coordinate(info)
        errors.append(float((d(smooth(kind, x, 0), "x", order, field="u") - smooth(kind, x, order)).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(accuracy, abs=0.2)


def test_nodes_on_the_wall_are_not_counted_twice():
    x = np.linspace(0, 1, 17)
    info = Axis("x", tuple(x.tolist()), "1", Boundary("reflecting"), Boundary("reflecting"))
    errors = []
    for points in (17, 33):
        x = np.linspace(0, 1, points)
        info = Axis("x", tuple(x.tolist()), "1", Boundary("reflecting"), Boundary("reflecting"))
        u = torch.cos(np.pi * coordinate(info))
        errors.append(float((Derivatives(Grid((info,)), wall=0.0)(u, "x", 2) + np.pi**2 * u).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize("method", ["spectral", "differences"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_integration_by_parts_on_periodic_grids(dims, method):
    grid = Grid(tuple(axis(n, SIDES["periodic"], name) for n, name in zip((9, 8, 10), "zyx", strict=True))[-dims:])
    generator = torch.Generator().manual_seed(dims)
    u, v = torch.randn(2, *grid.shape, generator=generator, dtype=torch.float64)
    d = Derivatives(grid, method)
    for name in grid.names:  # round-off of sums of some hundred numbers of size 100
        assert float((u * d(v, name)).sum()) == pytest.approx(-float((v * d(u, name)).sum()), abs=1e-8)
        assert float((u * d(v, name, 2)).sum()) == pytest.approx(float((v * d(u, name, 2)).sum()), abs=1e-6)
        assert float(d(u, name).sum()) == pytest.approx(0.0, abs=1e-9)
    assert float((u * d.laplacian(u)).sum()) < 0


def test_derivatives_along_different_axes_commute_and_keep_batches_apart():
    grid = Grid((axis(8, SIDES["reflecting"], "z"), axis(10, SIDES["open"], "y"), axis(12, SIDES["periodic"])))
    u = torch.randn(2, 3, *grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    d = Derivatives(grid)
    for a, b in (("x", "y"), ("y", "z"), ("x", "z")):
        torch.testing.assert_close(d(d(u, a), b), d(d(u, b), a), rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(d(u, "y")[1, 2], d(u[1, 2], "y"))


@pytest.mark.parametrize("kind", list(SIDES))
def test_gradients_are_those_of_the_linear_map(kind):
    d = Derivatives(Grid((axis(11, SIDES[kind]),)))
    u = torch.randn(11, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: d(x, "x", 2, field="u"), (u,))


def test_single_precision_stays_single():
    d = Derivatives(Grid((axis(16, SIDES["periodic"]), axis(16, SIDES["open"], "y"))))
    u = torch.ones(16, 16)
    assert d(u, "x").dtype == d(u, "y").dtype == torch.float32


def test_a_smoothed_jump_commutes_with_derivatives_and_keeps_its_mean():
    info = axis(64, SIDES["periodic"])
    d, u = Derivatives(Grid((info,))), (coordinate(info) < 0.4).double()
    torch.testing.assert_close(d(d.smooth(u, "x", 4), "x"), d.smooth(d(u, "x"), "x", 4))
    assert float(d.smooth(u, "x", 4).mean()) == pytest.approx(float(u.mean()))
    assert float(d.smooth(u, "x", 8).max()) < 1.02  # the series alone overshoots by 9 %


def test_the_velocity_has_its_vorticity_and_no_divergence():
    grid = Grid((axis(16, SIDES["periodic"], "y", 3.0), axis(18, SIDES["periodic"], "x", 2.0)))
    y, x = coordinate(grid.axes[0])[:, None], coordinate(grid.axes[1])
    w = torch.sin(2 * np.pi * x) * torch.cos(4 * np.pi * y / 3) + torch.cos(np.pi * x)
    u, v = vorticity_velocity(w, grid)
    d = Derivatives(grid)
    torch.testing.assert_close(d(v, "x") - d(u, "y"), w, rtol=1e-10, atol=1e-10)
    assert float((d(u, "x") + d(v, "y")).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda g: Derivatives(g, accuracy=3), "accuracy is 3, expected 2 or 4"),
        (lambda g: Derivatives(g, wall=1.0), "wall is 1.0, expected 0.5"),
        (lambda g: Derivatives(g)(torch.ones(4), "y"), "axis 'y' is unknown, expected one of x"),
        (lambda g: Derivatives(g, "spectral")(torch.ones(4), "x"), "there is no Fourier series"),
        (lambda g: Derivatives(g)(torch.ones(4), "x"), "4 points, order 1 with accuracy 4 takes 6"),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(ConfigError, match=words):
        call(Grid((axis(4, SIDES["open"]),)))
