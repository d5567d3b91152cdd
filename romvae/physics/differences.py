"""Finite-difference weights on any axis: the matrix of a derivative, with what holds at the two ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from romvae.errors import ConfigError
from romvae.grid import Axis

__all__ = ["Array", "End", "difference_matrix", "difference_weights"]

Array = NDArray[np.float64]

End = Literal["periodic", "even", "odd", "held", "free"]
"""How a field goes on behind an end: wrapped around, mirrored with its sign or with the other one; `held`: its value at
the wall is known; `free`: nothing is known, the differences are one-sided."""

_ROUND = 1e-6


@dataclass(frozen=True)
class _Nodes:
    """Points that a stencil may use, in increasing order: place, column of the matrix (-1, -2: the walls) and sign."""

    place: Array
    column: NDArray[np.int64]
    sign: Array
    first: int


def difference_weights(place: Array, at: float, order: int) -> Array:
    """Weights w with sum_j w_j f(place_j) = f^(order)(at) for all polynomials of degree below the number of places.

    References:
        Fornberg (1988), Generation of finite difference formulas on arbitrarily spaced grids, Math. Comput. 51, 699.
    """
    count = len(place)
    weights = np.zeros((order + 1, count))
    weights[0, 0] = 1.0
    product = 1.0
    for j in range(1, count):
        spread = 1.0
        for i in range(j):
            distance = place[j] - place[i]
            spread *= distance
            for m in range(min(j, order), -1, -1):
                before = weights[m - 1, i] if m else 0.0
                if i == j - 1:
                    last = weights[m - 1, i] if m else 0.0
                    weights[m, j] = product * (m * last - (place[i] - at) * weights[m, i]) / spread
                weights[m, i] = ((place[j] - at) * weights[m, i] - m * before) / distance
        product = spread
    found: Array = weights[order]
    return found


def difference_matrix(
    axis: Axis, order: int, accuracy: int, ends: tuple[End, End], wall: float = 0.5
) -> tuple[Array, Array]:
    """The derivative along an axis as `matrix @ u + held @ (lower value, upper value)`.

    Arguments:
        axis: Points, evenly spaced or not.
        order: Of the derivative, 1 or more.
        accuracy: Order of the error, where the field goes on as `ends` says and is smooth; 2 or 4.
        ends: What holds at the lower and at the upper end.
        wall: Distance of a wall from the last point, in cells: 0.5 for cell centres, 0 where the last point is it.

    Returns:
        Matrix `(points, points)` and what the held values at the walls add, `(points, 2)`.

    Raises:
        ConfigError: The axis has too few points.
    """
    x = np.asarray(axis.coordinates)
    n, width = len(x), order + accuracy
    if n < width + 1:
        raise ConfigError(
            f"derivative along {axis.name!r}: {n} points, order {order} with accuracy {accuracy} takes {width + 1}. "
            "Choose a lower accuracy."
        )
    nodes = _nodes(x, width, ends, wall)
    centred = 2 * ((order + 1) // 2) - 1 + accuracy
    matrix, held = np.zeros((n, n)), np.zeros((n, 2))
    for i in range(n):
        middle, half = nodes.first + i, centred // 2
        low, count = middle - half, centred
        if low < 0 or middle + half >= len(nodes.place) or not _even(nodes.place[low : low + count]):
            count = width
            low = min(max(middle - count // 2, 0), len(nodes.place) - count)
        chosen = slice(low, low + count)
        size = np.ptp(nodes.place[chosen])  # in units of the stencil, so that no power under- or overflows
        weights = difference_weights((nodes.place[chosen] - x[i]) / size, 0.0, order) / size**order
        for weight, column in zip(weights * nodes.sign[chosen], nodes.column[chosen], strict=True):
            if column >= 0:
                matrix[i, column] += weight
            else:
                held[i, -1 - column] += weight
    return matrix, held


def _even(place: Array) -> bool:
    steps = np.diff(place)
    return bool(np.ptp(steps) <= _ROUND * abs(float(steps.mean())))


def _nodes(x: Array, width: int, ends: tuple[End, End], wall: float) -> _Nodes:
    n = len(x)
    if ends[0] == "periodic":
        period = n * (x[-1] - x[0]) / (n - 1)
        index = np.arange(-width, n + width)
        return _Nodes(x[index % n] + period * (index // n), index % n, np.ones(len(index)), width)
    place, column, sign = [x], [np.arange(n)], [np.ones(n)]
    first = 0
    for side, end in enumerate(ends):
        edge, inner = (x[0], x[1]) if side == 0 else (x[-1], x[-2])
        at = edge + wall * (edge - inner)
        if end in ("even", "odd"):
            skip = 1 if wall == 0 else 0  # the point on the wall is its own mirror image
            near = np.arange(skip, min(width + skip, n))
            mirrored = near if side == 0 else n - 1 - near
            more = (2 * at - x[mirrored], mirrored, np.full(len(near), 1.0 if end == "even" else -1.0))
        elif end == "held" and wall > 0:
            more = (np.array([at]), np.array([-1 - side]), np.ones(1))
        else:
            continue
        if side == 0:
            place.insert(0, more[0][::-1])
            column.insert(0, more[1][::-1])
            sign.insert(0, more[2][::-1])
        else:
            place.append(more[0])
            column.append(more[1])
            sign.append(more[2])
        first += len(more[0]) if side == 0 else 0
    return _Nodes(np.concatenate(place), np.concatenate(column), np.concatenate(sign), first)
