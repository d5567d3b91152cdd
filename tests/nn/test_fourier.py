"""Truncated Fourier transforms as products with matrices, against the fast ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from romvae.nn.fourier import TruncatedFourier

SHAPES = [((8,), (3,)), ((6, 8), (3, 2)), ((4, 7, 6), (2, 3, 3))]


def _basis(shape, modes, periodic=True) -> TruncatedFourier:
    return TruncatedFourier(shape, [periodic] * len(shape), modes).double()


def _values(*sizes: int) -> Tensor:
    return torch.randn(*sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _kept(basis: TruncatedFourier, x: Tensor) -> Tensor:
    """There and back."""
    return basis.values(*basis.coefficients(x))


@pytest.mark.parametrize(("shape", "modes"), SHAPES)
def test_coefficients_are_those_of_the_fast_transform(shape, modes):
    basis, x = _basis(shape, modes), _values(3, *shape, 5)
    found = torch.fft.rfftn(x, dim=tuple(range(1, x.ndim - 1)), norm="ortho")
    for axis, m in enumerate(modes[:-1], 1):
        kept = torch.cat([torch.arange(m), torch.arange(1 - m, 0)]) % found.shape[axis]
        found = found.index_select(axis, kept)
    found = found.narrow(-2, 0, modes[-1]).flatten(1, -2)
    # The matrices are kept in single precision.
    torch.testing.assert_close(torch.complex(*basis.coefficients(x)), found, rtol=0, atol=1e-6)
    assert basis.count == found.shape[1]


@pytest.mark.parametrize(("shape", "modes"), SHAPES)
def test_there_and_back_is_a_projection_that_keeps_low_waves_and_drops_high_ones(shape, modes):
    basis, x = _basis(shape, modes), _values(2, *shape, 3)
    once = _kept(basis, x)
    torch.testing.assert_close(_kept(basis, once), once, rtol=0, atol=1e-6)
    where = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) / n for n in shape), indexing="ij")
    low = torch.cos(2 * torch.pi * sum(where) + 0.3)[None, ..., None]
    torch.testing.assert_close(_kept(basis, low), low, rtol=0, atol=1e-6)
    high = torch.cos(2 * torch.pi * modes[-1] * where[-1] + 0.3)[None, ..., None]
    if 2 * modes[-1] < shape[-1]:
        assert float(_kept(basis, high).abs().max()) < 1e-6


@pytest.mark.parametrize(("shape", "modes"), SHAPES)
def test_back_is_the_transpose_of_there_but_for_conjugates(shape, modes):
    """So that gradients neither grow nor shrink on the way; waves without a conjugate that is kept count twice."""
    basis, x = _basis(shape, modes, periodic=False), _values(3, *shape, 2)
    real, imaginary = basis.coefficients(x)
    other = torch.randn_like(real), torch.randn_like(imaginary)
    twice = torch.ones(basis.kept[-1], dtype=torch.float64).index_fill_(0, torch.arange(1, basis.kept[-1]), 2.0)
    weight = twice.repeat(basis.count // basis.kept[-1])[:, None]
    left = (basis.values(*other) * x).sum()
    right = ((other[0] * real + other[1] * imaginary) * weight).sum()
    torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-6)


def test_ends_that_do_not_meet_are_not_neighbours():
    """A jump at one end reaches the other through the transform of a periodic axis only."""
    x = torch.zeros(1, 16, 1, dtype=torch.float64)
    x[0, 0] = 1.0
    for periodic, near in ((True, True), (False, False)):
        basis = _basis((16,), (8,), periodic)
        smooth = torch.exp(-0.3 * torch.arange(8))[:, None]
        ahead = basis.values(*(part * smooth for part in basis.coefficients(x)))[0, :, 0]
        assert (abs(float(ahead[-1])) > 0.5 * abs(float(ahead[1]))) == near


def test_more_modes_than_the_grid_holds_are_refused():
    with pytest.raises(ValueError, match="axis 1: 4 modes of 6 points, expected 1 to 3"):
        TruncatedFourier((8, 6), (True, True), (4, 4))
