"""Cosine series on boxes without flux through their sides."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.solvers.cosines import CosineBox

BOXES = [CosineBox((9,), (2.0,)), CosineBox((8, 6), (2.0, 3.0)), CosineBox((5, 6, 4), (1.0, 2.0, 3.0))]
EVERY_BOX = pytest.mark.parametrize("box", BOXES, ids=["1-D", "2-D", "3-D"])


def cosines(points: tuple[int, ...], modes: tuple[int, ...]) -> np.ndarray:
    """Product of cos(m pi x / L) at cell centres."""
    value = np.array(1.0)
    for n, m in zip(points, modes, strict=True):
        value = value[..., None] * np.cos(m * np.pi * (np.arange(n) + 0.5) / n)
    return value


@EVERY_BOX
def test_a_mode_has_the_same_coefficient_from_every_grid(box: CosineBox) -> None:
    """Half for each axis along which it varies: cos = (e^i + e^-i) / 2."""
    modes = (2, 3, 0)[: box.ndim]
    for points in (box.points, tuple(n + 3 for n in box.points), tuple(2 * n for n in box.points)):
        v = box.coefficients(cosines(points, modes))
        expected = np.zeros(box.points)
        expected[modes] = 0.5 ** sum(m > 0 for m in modes)
        assert v == pytest.approx(expected, abs=1e-15)
    assert np.abs(box.coefficients(cosines(tuple(2 * n for n in box.points), box.points))).max() < 1e-15


@EVERY_BOX
def test_interpolation_keeps_the_values_and_comes_back(box: CosineBox) -> None:
    """Also of grid noise; three times as many cells have the old centres among theirs."""
    u = np.random.default_rng(0).standard_normal((2, *box.points))
    v = box.coefficients(u)
    assert box.values(v) == pytest.approx(u, abs=1e-14)
    finer = CosineBox(tuple(3 * n for n in box.points), box.lengths)
    w = finer.coefficients(u)
    fine = finer.values(w)
    assert fine[(..., *[slice(1, None, 3)] * box.ndim)] == pytest.approx(u, abs=1e-13)
    assert box.coefficients(fine) == pytest.approx(v, abs=1e-14)
    # Also where the series holds more modes than the grid.
    coarse = tuple(n // 2 for n in box.points)
    every = box.values(v, tuple(3 * n for n in coarse))
    assert box.values(v, coarse) == pytest.approx(every[(..., *[slice(1, None, 3)] * box.ndim)], abs=1e-13)


@EVERY_BOX
def test_laplacians(box: CosineBox) -> None:
    modes = (1, 2, 3)[: box.ndim]
    u = cosines(box.points, modes)
    square = sum((np.pi * m / length) ** 2 for m, length in zip(modes, box.lengths, strict=True))
    assert box.values(box.laplacian() * box.coefficients(u)) == pytest.approx(-square * u, abs=1e-12)
    noise = np.random.default_rng(1).standard_normal(box.points)
    differences = np.zeros(box.points)
    for axis, (n, length) in enumerate(zip(box.points, box.lengths, strict=True)):
        padded = np.pad(noise, [(int(i == axis), int(i == axis)) for i in range(box.ndim)], mode="edge")
        differences += np.diff(padded, n=2, axis=axis) * (n / length) ** 2
    symbol = box.laplacian("five_point")
    assert box.values(symbol * box.coefficients(noise)) == pytest.approx(differences, abs=1e-11)


def test_tail_tells_resolved_from_unresolved() -> None:
    box = CosineBox((40, 30), (1.0, 1.0))
    x = (np.arange(30) + 0.5) / 30
    u = np.stack([np.exp(np.cos(np.pi * x)), (x > 0.5).astype(float), np.full(30, 3.0)])[:, None, :]
    tail = box.tail(box.coefficients(np.broadcast_to(u, (3, 40, 30))))
    assert tail[0] < 1e-10
    assert 0.01 < tail[1] < 0.2  # a jump's spectrum falls as 1/k
    assert tail[2] == 0.0
