"""Random initial fields that several equations share."""

from __future__ import annotations

import numpy as np

from romvae.solvers.base import Array

__all__ = ["random_sines"]


def random_sines(rng: np.random.Generator, x: Array, length: float, amplitude: float = 0.7) -> Array:
    """A periodic field of large scales, `amplitude * sum_{j=1..3} a_j sin(2 pi k_j x / L + phi_j)`.

    k_j is drawn from {1, 2, 3}, a_j uniformly from [-1, 1] and phi_j from [0, 2 pi). The mean is zero.

    Arguments:
        rng: Source of randomness; takes three integers, three amplitudes, three phases, in this order.
        x: Coordinates `(size,)`.
        length: The period L.
        amplitude: Factor in front; no value exceeds three times it.

    Returns:
        Values `(size,)`.
    """
    k = rng.integers(1, 4, size=3)
    a = rng.uniform(-1, 1, size=3)
    phase = rng.uniform(0, 2 * np.pi, size=3)
    return amplitude * (a[:, None] * np.sin(2 * np.pi * k[:, None] * x / length + phase[:, None])).sum(axis=0)
