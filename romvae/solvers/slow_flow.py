"""Steady flow through a plane channel around a block: the stream function of slow viscous or of potential flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import splu

from romvae.errors import ConfigError
from romvae.solvers.base import Array

__all__ = ["FlowKind", "block_cells", "block_faces", "channel_velocity"]

FlowKind = Literal["viscous", "potential"]
"""`viscous`: Stokes flow, at rest on walls and block. `potential`: free of vorticity, slipping along them."""

Block = tuple[int, int, int, int]
"""Cells (first row, end row, first column, end column) of a block, ends excluded."""

_ALIGNED = 1e-9  # of a cell: how far an edge of a block may lie beside a face


@lru_cache(maxsize=8)
def channel_velocity(
    rows: int, columns: int, height: float, length: float, block: Block | None, kind: FlowKind
) -> tuple[Array, Array]:
    """Velocities through the faces of the cells, with mean speed 1 along the channel.

    The stream function psi at the corners of the cells minimises the dissipation (1/2) int (Laplace psi)^2
    (`viscous`) or the energy (1/2) int |grad psi|^2 (`potential`), with the given flux between the walls, the fully
    developed profile at both ends and one unknown value on the whole block. That minimum is Stokes flow at rest on
    all walls, or potential flow without circulation. One sparse factorisation; second order away from the block's
    corners, where the vorticity of Stokes flow is singular.

    Arguments:
        rows: Cells across the channel.
        columns: Cells along it.
        height: Width of the channel.
        length: Length of the channel.
        block: The obstacle in cells, away from walls and ends; None for an empty channel.
        kind: Which flow.

    Returns:
        Velocity along the channel at `(rows, columns + 1)` faces and across it at `(rows + 1, columns)`. What enters
        a cell leaves it, to round-off; through walls and block nothing flows.
    """
    dy, dx = height / rows, length / columns
    eta = np.linspace(0, 1, rows + 1)
    profile = height * (eta if kind == "potential" else eta**2 * (3 - 2 * eta))
    psi = np.repeat(profile[:, None], columns + 1, axis=1)
    unknown = np.zeros(psi.shape, dtype=bool)
    unknown[1:-1, 1:-1] = True
    number = np.cumsum(unknown).reshape(psi.shape) - 1
    if block is not None:
        top, bottom, left, right = block
        number[top : bottom + 1, left : right + 1] = number[top, left]
    _, column = np.unique(number[unknown], return_inverse=True)
    every = np.arange(psi.size).reshape(psi.shape)
    choose = scipy.sparse.csr_matrix((np.ones(column.size), (every[unknown], column)), (psi.size, column.max() + 1))
    energy = _energy(rows, columns, dy, dx, kind)
    known = np.where(unknown, 0.0, psi).ravel()
    solved = splu((choose.T @ energy @ choose).tocsc()).solve(-choose.T @ (energy @ known))
    psi = (known + choose @ solved).reshape(psi.shape)
    velocity = np.diff(psi, axis=0) / dy, -np.diff(psi, axis=1) / dx
    for component in velocity:
        component.setflags(write=False)
    return velocity


def block_cells(where: str, edges: Sequence[float], points: tuple[int, int], length: float) -> Block:
    """The cells of a block between (x low, x high, y low, y high), in a channel of width 1.

    Raises:
        ConfigError: An edge is not a face of the grid, or the block touches a wall or an end.
    """
    if len(edges) != 4:
        raise ConfigError(f"{where}: obstacle is {edges!r}, expected four numbers, (x low, x high, y low, y high)")
    rows, columns = points
    sizes = (length / columns, length / columns, 1 / rows, 1 / rows)
    faces = []
    for edge, size in zip(edges, sizes, strict=True):
        place = float(edge) / size
        if not math.isfinite(place) or abs(place - round(place)) > _ALIGNED:
            raise ConfigError(
                f"{where}: obstacle edge {edge:.6g} lies inside a cell, expected a multiple of {size:.6g}; "
                "move it or change points"
            )
        faces.append(round(place))
    left, right, top, bottom = faces
    if not (0 < left < right < columns and 0 < top < bottom < rows):
        raise ConfigError(f"{where}: obstacle is {edges!r}, expected low < high, and free cells on all four sides")
    return top, bottom, left, right


def block_faces(rows: int, columns: int, block: Block | None) -> tuple[Array, Array, Array]:
    """1 where a cell, a face along and a face across the channel belong to the fluid, 0 in the block and on walls.

    Returns:
        Cells `(rows, columns)`; faces `(rows, columns + 1)`, open at both ends; faces `(rows + 1, columns)`.
    """
    cells = np.ones((rows, columns))
    if block is not None:
        top, bottom, left, right = block
        cells[top:bottom, left:right] = 0.0
    along, across = np.ones((rows, columns + 1)), np.zeros((rows + 1, columns))
    along[:, 1:-1] = cells[:, 1:] * cells[:, :-1]
    across[1:-1] = cells[1:] * cells[:-1]
    return cells, along, across


def _energy(rows: int, columns: int, dy: float, dx: float, kind: FlowKind) -> scipy.sparse.csr_matrix:
    """The matrix of the quadratic form that psi minimises, over all corners."""
    weight_y, weight_x = (scipy.sparse.diags(np.r_[0.5, np.ones(n - 1), 0.5]) for n in (rows, columns))
    if kind == "potential":
        first_y, first_x = (
            scipy.sparse.diags([-1.0, 1.0], [0, 1], shape=(n, n + 1)) / d for n, d in ((rows, dy), (columns, dx))
        )
        return scipy.sparse.csr_matrix(
            scipy.sparse.kron(first_y.T @ first_y, weight_x) + scipy.sparse.kron(weight_y, first_x.T @ first_x)
        )
    # Mirrored at the walls and at the ends: no slip there, and no flow across.
    second_y, second_x = _mirrored_second(rows, dy), _mirrored_second(columns, dx)
    laplacian = scipy.sparse.kron(second_y, scipy.sparse.eye(columns + 1)) + scipy.sparse.kron(
        scipy.sparse.eye(rows + 1), second_x
    )
    return scipy.sparse.csr_matrix(laplacian.T @ scipy.sparse.kron(weight_y, weight_x) @ laplacian)


def _mirrored_second(cells: int, size: float) -> scipy.sparse.csr_matrix:
    matrix = scipy.sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(cells + 1, cells + 1)).tolil()
    matrix[0, 1] = matrix[-1, -2] = 2.0
    return matrix.tocsr() / size**2
