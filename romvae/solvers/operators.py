"""Shared operators: grids, wavenumbers, dealiasing, resampling, ghost cells, Chebyshev collocation."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from romvae.schema import Axis, Boundary
from romvae.solvers.base import Array

__all__ = [
    "chebyshev",
    "chebyshev_coefficients",
    "fast_even",
    "highest_mode",
    "interpolation_matrix",
    "pad_ghosts",
    "synthesise",
    "uniform_axis",
    "wavenumbers",
]

Complex = NDArray[np.complex128]


def uniform_axis(name: str, points: int, length: float, sides: tuple[Boundary, Boundary], origin: float = 0.0) -> Axis:
    """An axis from `origin` to `origin + length`: periodic nodes, or cell centres where it is bounded."""
    offset = 0.0 if sides[0].kind == "periodic" else 0.5
    coordinates = origin + (np.arange(points) + offset) * (length / points)
    return Axis(name, tuple(coordinates.tolist()), "1", *sides)


def wavenumbers(modes: int, length: float) -> Array:
    """k_m = 2 pi m / L for m = 0 .. modes."""
    return np.arange(modes + 1, dtype=np.float64) * (2 * np.pi / length)


def highest_mode(resolution: int) -> int:
    """The highest mode whose square, on `resolution` points, does not alias onto a kept mode (2/3 rule).

    References:
        Orszag (1971), On the elimination of aliasing in finite-difference schemes, J. Atmos. Sci. 28, 1074.
    """
    return (resolution - 1) // 3


def fast_even(points: float) -> int:
    """The next even transform length that factorises well."""
    return 2 * scipy.fft.next_fast_len(int(np.ceil(points / 2)), real=True)


def synthesise(v: Complex, points: int) -> Array:
    """Values at `points` equidistant nodes of the Fourier series with coefficients `v`, `(..., modes + 1)`.

    Modes beyond the grid's own are evaluated, not dropped: these are the series' true point values.
    Coefficients are normalised ("forward"): v_0 is the mean.
    """
    stride = -(-(2 * v.shape[-1] - 1) // points)
    return scipy.fft.irfft(v, n=stride * points, axis=-1, norm="forward")[..., ::stride]


def pad_ghosts(u: Array, width: int, periodic: bool) -> Array:
    """`width` ghost cells on both ends of the last axis: wrapped, or the edge's own value (open)."""
    if periodic:
        return np.concatenate([u[..., -width:], u, u[..., :width]], axis=-1)
    edge = [*u.shape[:-1], width]
    return np.concatenate([np.broadcast_to(u[..., :1], edge), u, np.broadcast_to(u[..., -1:], edge)], axis=-1)


def chebyshev(degree: int, length: float) -> tuple[Array, Array]:
    """Chebyshev-Gauss-Lobatto nodes on [0, L] and the matrix that differentiates on them.

    Returns:
        Increasing nodes `(degree + 1,)` and the matrix `(degree + 1, degree + 1)`.

    References:
        Trefethen (2000), Spectral Methods in MATLAB, chapter 6. Differences of nodes are computed from sines,
        and the diagonal from the row sums, against cancellation.
    """
    j = np.arange(degree + 1)
    theta = np.pi * j / degree
    x = np.sin(np.pi * (2 * j - degree) / (2 * degree))
    half_sum, half_difference = (theta[:, None] + theta) / 2, (theta[:, None] - theta) / 2
    difference = 2 * np.sin(half_sum) * np.sin(half_difference)
    np.fill_diagonal(difference, 1.0)
    c = (-1.0) ** j
    c[[0, -1]] *= 2
    matrix = c[:, None] / c / difference
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, -matrix.sum(axis=1))
    return length * (x + 1) / 2, 2 / length * matrix


def interpolation_matrix(degree: int, length: float, x: Array) -> Array:
    """The matrix `(len(x), degree + 1)` from values at the Chebyshev nodes on [0, L] to values at `x`.

    References:
        Berrut and Trefethen (2004), Barycentric Lagrange interpolation, SIAM Review 46, 501.
    """
    nodes = chebyshev(degree, length)[0]
    weights = (-1.0) ** np.arange(degree + 1)
    weights[[0, -1]] /= 2
    difference = x[:, None] - nodes
    hit = np.abs(difference) < 1e-14 * length
    terms = weights / np.where(hit, 1.0, difference)
    matrix = terms / terms.sum(axis=1, keepdims=True)
    rows = hit.any(axis=1)
    matrix[rows] = hit[rows]
    return matrix


def chebyshev_coefficients(u: Array) -> Array:
    """Magnitudes of the Chebyshev coefficients of values on Gauss-Lobatto nodes, `(..., degree + 1)`."""
    return np.abs(scipy.fft.dct(u, type=1, axis=-1)) / (u.shape[-1] - 1)
