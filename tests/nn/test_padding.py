"""Padding follows the boundary: what a smoothing layer must leave unchanged, and what comes from where."""

from __future__ import annotations

import itertools

import pytest
import torch

from romvae.nn import BoundaryPad, Conv, pad_axis
from romvae.nn.padding import KINDS

BOUNDED = ("wall", "open")


def _grid(shape: tuple[int, ...]) -> list[torch.Tensor]:
    return list(torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in shape], indexing="ij"))


def _smoothing(sides: list[tuple[str, str]], kernel: int = 5) -> Conv:
    layer = Conv(1, 1, sides, kernel).double()
    torch.nn.init.constant_(layer.conv.weight, 1 / kernel ** len(sides))
    torch.nn.init.zeros_(layer.conv.bias)
    return layer


@pytest.mark.parametrize("shape", [(11,), (7, 9), (5, 6, 7)])
@pytest.mark.parametrize(("lower", "upper"), list(itertools.product(BOUNDED, BOUNDED)))
def test_linear_field_passes_a_smoothing_layer_unchanged_up_to_the_wall(shape, lower, upper):
    u = sum((k + 1) * axis for k, axis in enumerate(_grid(shape))) + 3.0
    layer = _smoothing([(lower, upper)] * len(shape))
    torch.testing.assert_close(layer(u[None, None])[0, 0], u, rtol=0, atol=1e-12)


def test_reflecting_side_would_bend_a_linear_field():
    u = torch.arange(9, dtype=torch.float64)
    smooth = _smoothing([("reflecting", "reflecting")])(u[None, None])[0, 0]
    assert (smooth[2:-2] - u[2:-2]).abs().max() < 1e-12
    assert (smooth[0] - u[0]).abs() > 0.1


@pytest.mark.parametrize("shape", [(12,), (6, 8), (4, 5, 6)])
def test_reflecting_conserves_the_sum_of_a_symmetric_smoothing(shape):
    u = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    smooth = _smoothing([("reflecting", "reflecting")] * len(shape), 3)(u[None, None])
    torch.testing.assert_close(smooth.sum(), u.sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [1, 3, 7, 12])
def test_periodic_ghosts_come_from_the_other_side(width):
    x = torch.arange(5.0)[None, None]
    padded = pad_axis(x, 2, width, width, ("periodic", "periodic"))[0, 0]
    expected = torch.tensor([float((k - width) % 5) for k in range(5 + 2 * width)])
    assert torch.equal(padded, expected)
    module = BoundaryPad([("periodic", "periodic")], [(width, width)], 1)
    assert torch.equal(module(x)[0, 0], expected)


def test_reflecting_ghosts_mirror_about_the_cell_edge_and_value_ghosts_hold_the_value():
    x = torch.tensor([[[1.0, 2.0, 4.0]]])
    assert pad_axis(x, 2, 2, 2, ("reflecting", "reflecting"))[0, 0].tolist() == [2, 1, 1, 2, 4, 4, 2]
    value = torch.tensor([7.0])
    assert pad_axis(x, 2, 1, 2, ("value", "value"), (value, 2 * value))[0, 0].tolist() == [7, 1, 2, 4, 14, 14]


def test_sides_of_one_axis_may_differ():
    x = torch.tensor([[[1.0, 2.0, 4.0]]])
    assert pad_axis(x, 2, 1, 1, ("reflecting", "open"))[0, 0].tolist() == [1, 1, 2, 4, 6]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(7,), (1,), (5, 3), (2, 1, 4)])
def test_every_kind_pads_every_size(kind, shape):
    x = torch.randn(2, 3, *shape)
    pad = BoundaryPad([(kind, kind)] * len(shape), [(2, 3)] * len(shape), 3)
    y = pad(x)
    assert y.shape == (2, 3, *[n + 5 for n in shape])
    assert y.isfinite().all()
    inner = y[(..., *[slice(2, 2 + n) for n in shape])]
    assert torch.equal(inner, x)


def test_a_periodic_side_needs_a_periodic_partner_and_kinds_are_known():
    with pytest.raises(ValueError, match="periodic opposite side"):
        BoundaryPad([("periodic", "wall")], [(1, 1)], 1)
    with pytest.raises(ValueError, match="unknown boundary kind 'wal'"):
        BoundaryPad([("wal", "wall")], [(1, 1)], 1)


def test_prescribed_values_are_kept_and_learned_ones_are_parameters_only_where_used():
    sides = [("value", "periodic")[:1] * 2]
    given = torch.tensor([[[2.0], [5.0]]])
    held = BoundaryPad(sides, [(1, 1)], 1, given)
    assert held(torch.zeros(1, 1, 3))[0, 0].tolist() == [2, 0, 0, 0, 5]
    assert list(held.parameters()) == []
    assert len(list(BoundaryPad(sides, [(1, 1)], 1).parameters())) == 1
    assert list(BoundaryPad(sides, [(0, 0)], 1).parameters()) == []
