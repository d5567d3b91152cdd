"""Random periodic blobs in any dimension, as initial fields of concentrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from romvae.solvers.base import Array

__all__ = ["random_blobs"]


def random_blobs(
    rng: np.random.Generator,
    points: Sequence[int],
    lengths: Sequence[float],
    number: tuple[int, int] = (3, 6),
    width: tuple[float, float] = (0.05, 0.09),
    height: tuple[float, float] = (0.6, 1.0),
) -> Array:
    """1 - product over blobs of (1 - h exp(-r^2 / (2 s^2))): round blobs that cover each other, between 0 and 1.

    The same state of `rng` gives the same function on every grid of the box.

    Arguments:
        rng: Source of randomness.
        points: Grid points per axis.
        lengths: Periods per axis.
        number: Fewest and most blobs; all numbers between have the same chance.
        width: Range of s, in units of the coordinates, far below the periods.
        height: Range of h, within 0 to 1.

    Returns:
        Values `(*points)`.
    """
    clear = np.ones(tuple(points))
    for _ in range(rng.integers(number[0], number[1] + 1)):
        centre = [rng.uniform(0, length) for length in lengths]
        s, h = rng.uniform(*width), rng.uniform(*height)
        blob = np.array(h)
        for size, length, middle in zip(points, lengths, centre, strict=True):
            blob = blob[..., None] * _images(np.arange(size) * (length / size) - middle, length, s)
        clear *= 1 - blob
    return 1 - clear


def _images(x: NDArray[Any], length: float, s: float) -> Array:
    """exp(-x^2 / (2 s^2)) summed over its periodic images."""
    shifts = length * np.arange(-2, 3)[:, None]
    total: Array = np.exp(-0.5 * ((x + shifts) / s) ** 2).sum(axis=0)
    return total
