"""Conservative transport on a plane of equal cells, some of them closed: slopes, refinement, coarsening."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from romvae.solvers.base import Array

__all__ = ["SLOPES", "block_means", "central", "harmonic", "linear_in_cells"]

_TINY = 1e-300


def harmonic(behind: Array, ahead: Array) -> Array:
    """The slope of van Leer: the harmonic mean of both differences where they agree in sign, else 0.

    At most twice the smaller one, so that a face value lies between the values of the two cells beside it.

    References:
        van Leer (1974), Towards the ultimate conservative difference scheme II, J. Comput. Phys. 14, 361.
    """
    slope = behind * ahead
    np.maximum(slope, 0.0, out=slope)
    slope *= 2
    total = behind + ahead
    # Where the signs agree the sum is far from 0; elsewhere the numerator is 0, and this avoids 0 / 0.
    total += _TINY
    slope /= total
    return slope


def central(behind: Array, ahead: Array) -> Array:
    """Fromm's slope, the mean of both differences: second order everywhere, with overshoots beside steep fronts.

    References:
        Fromm (1968), A method for reducing dispersion in convective difference schemes, J. Comput. Phys. 3, 176.
    """
    return (behind + ahead) / 2


SLOPES: dict[str, Callable[[Array, Array], Array]] = {"van_leer": harmonic, "fromm": central}


def linear_in_cells(u: Array, slope_y: Array, slope_x: Array, parts: int) -> Array:
    """Averages on `parts` x `parts` cells in each cell of the last two axes, from its slopes; its average is kept."""
    offset = (np.arange(parts) + 0.5) / parts - 0.5
    *lead, rows, columns = u.shape
    fine = (
        u[..., :, None, :, None]
        + slope_y[..., :, None, :, None] * offset[:, None, None]
        + slope_x[..., :, None, :, None] * offset
    )
    return fine.reshape(*lead, rows * parts, columns * parts)


def block_means(u: Array, parts: int) -> Array:
    """Means over `parts` x `parts` cells of the last two axes."""
    *lead, rows, columns = u.shape
    return u.reshape(*lead, rows // parts, parts, columns // parts, parts).mean(axis=(-3, -1))
