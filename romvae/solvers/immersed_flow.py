"""Incompressible flow in a box with slippery sides, held at rest on a closed line of points inside it."""

from __future__ import annotations

import math

import numpy as np

from romvae.solvers.base import Array
from romvae.solvers.stretched_axis import StretchedAxis

__all__ = ["ImmersedFlow"]

_REACH = 1.5  # cells that a point of the line acts on, to either side


class ImmersedFlow:
    """Right-hand side of u_t = P(u x omega + nu Laplace(u) - damping (u - target)), u = (U, 0) on the box's ends.

    Velocities sit at the centres of the cells. (u - U, v) is free of normal flow and of shear on all four sides:
    u - U is odd in x and even in y, v even in x and odd in y. P takes away, by a pressure and by forces on the
    points of the line, what violates div u = 0 (in the same differences of sixth order) or u = 0 on the line. It is
    a projection, orthogonal in the kinetic energy: without viscosity and damping the energy is kept, a field
    that fulfils both conditions is not changed, and a Runge-Kutta method keeps its order, for there is no splitting.

    The pressure follows from four products with the eigenvectors of the second differences of both axes
    (tensor product), which on 64 x 128 cells is as fast as a transform and needs no uniform grid. Forces are spread
    over three cells per axis by Roma's kernel and velocities are read with the same weights; the small matrix
    from forces to velocities on the line is inverted once.

    Arguments:
        x: Axis along the stream.
        y: Axis across.
        line: Points at which the velocity is held at 0, `(point, 2)` as (x, y), one to two cells apart; may be
            empty. The grid has to be nearly uniform around them.
        stream: U.

    References:
        Taira and Colonius (2007), The immersed boundary method: a projection approach, J. Comput. Phys. 225, 2118.
        Roma, Peskin and Berger (1999), An adaptive version of the immersed boundary method, J. Comput. Phys. 153.
        Lynch, Rice and Thomas (1964), Direct solution of partial difference equations by tensor product methods,
        Numerische Mathematik 6, 185.
    """

    def __init__(self, x: StretchedAxis, y: StretchedAxis, line: Array, stream: float = 1.0) -> None:
        self.x, self.y, self.stream = x, y, stream
        self.shape = (y.points, x.points)
        values_x, vectors_x, inverse_x = _eigenvectors(x)
        values_y, vectors_y, inverse_y = _eigenvectors(y)
        total = values_y[:, None] + values_x
        # The only zero belongs to the constant pressure, which does nothing.
        self._inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total < 1e-9 * total.min())
        self._to_x, self._to_y = np.ascontiguousarray(inverse_x.T), inverse_y
        self._divergence_x = np.ascontiguousarray((inverse_x @ x.derivative("odd")).T)
        self._divergence_y = inverse_y @ y.derivative("odd")
        self._from_x, self._from_y = np.ascontiguousarray(vectors_x.T), vectors_y
        self._gradient_x = np.ascontiguousarray((x.derivative("even") @ vectors_x).T)
        self._gradient_y = y.derivative("even") @ vectors_y
        self._dx_even, self._dy_even = np.ascontiguousarray(x.derivative("even").T), y.derivative("even")
        self._dx_odd, self._dy_odd = np.ascontiguousarray(x.derivative("odd").T), y.derivative("odd")
        self._dxx = {p: np.ascontiguousarray(x.second_derivative(p).T) for p in ("odd", "even")}
        self._dyy = {p: y.second_derivative(p) for p in ("odd", "even")}
        self.damping = np.zeros(self.shape)
        self.drive = np.zeros(self.shape)
        self._place(np.asarray(line, dtype=np.float64).reshape(-1, 2))

    def damp(self, rate: Array, target: float) -> None:
        """Adds a force -`rate` (u - `target`, v), `rate` >= 0 per unit time on `(y, x)`."""
        self.damping = self.damping + rate
        self.drive = self.drive + rate * target

    def rate(self, u: Array, viscosity: float) -> Array:
        """du/dt of velocities `(2, y, x)`; it keeps div u = 0 and the velocity on the line."""
        return self._project(self._forced(u, viscosity))[0]

    def admissible(self, u: Array) -> Array:
        """The nearest field without divergence and with zero velocity on the line, `(2, y, x)`."""
        return self._project(u, self.stream)[0]

    def force(self, u: Array, viscosity: float) -> Array:
        """The force of the flow on the line, (x, y), for unit density."""
        return np.asarray(self._project(self._forced(u, viscosity))[1].sum(axis=1))

    def divergence(self, u: Array) -> Array:
        """u_x + v_y, `(y, x)`."""
        return (u[0] - self.stream) @ self._dx_odd + self._dy_odd @ u[1]

    def vorticity(self, u: Array) -> Array:
        """v_x - u_y, `(y, x)`."""
        return u[1] @ self._dx_even - self._dy_even @ u[0]

    def on_line(self, u: Array) -> Array:
        """The velocity at the points of the line, `(2, point)`."""
        return self._patch(u).reshape(2, -1) @ self._weights

    def _forced(self, u: Array, viscosity: float) -> Array:
        omega, excess = self.vorticity(u), u[0] - self.stream
        out = np.empty_like(u)
        out[0] = viscosity * (excess @ self._dxx["odd"] + self._dyy["even"] @ excess) + u[1] * omega
        out[1] = viscosity * (u[1] @ self._dxx["even"] + self._dyy["odd"] @ u[1]) - u[0] * omega
        out -= self.damping * u
        out[0] += self.drive
        return out

    def _project(self, u: Array, stream: float = 0.0) -> tuple[Array, Array]:
        """The projection of `u` and the forces on the line `(2, point)`; u[0] - `stream` is odd in x."""
        out = u.copy()
        out[0] -= stream
        pressure = (self._to_y @ out[0] @ self._divergence_x + self._divergence_y @ out[1] @ self._to_x) * self._inverse
        forces = np.zeros((2, len(self._weights.T)))
        if forces.size:
            # What the pressure alone would leave on the line, from the cells around it only.
            left = (self._patch(out) - self._patch_gradient(pressure)).reshape(2, -1) @ self._weights
            left[0] += stream
            forces = (self._from_velocity @ left.ravel()).reshape(2, -1)
            spread = self._spread(forces)
            pressure -= self._patch_pressure(spread)
            self._patch(out)[...] -= spread
        out[0] -= self._from_y @ (pressure @ self._gradient_x)
        out[1] -= self._gradient_y @ (pressure @ self._from_x)
        out[0] += stream
        return out, forces

    def _place(self, line: Array) -> None:
        """Weights of the points of `line`, and the matrix from velocities on it to the forces that undo them."""
        along, across = _kernel(self.x, line[:, 0]), _kernel(self.y, line[:, 1])
        self._rows, self._columns = _extent(across), _extent(along)
        rows, columns = self._rows, self._columns
        both = across[:, rows, None] * along[:, None, columns]
        self._patch_shape = both.shape[1:]
        self._weights = np.ascontiguousarray(both.reshape(len(line), math.prod(self._patch_shape)).T)
        self._area = (self.y.sizes[rows, None] * self.x.sizes[columns]).ravel()
        if not len(line):
            return
        matrix = np.empty((2 * len(line), 2 * len(line)))
        for column, unit in enumerate(np.eye(2 * len(line))):
            spread = self._spread(unit.reshape(2, -1))
            left = spread - self._patch_gradient(self._patch_pressure(spread))
            matrix[:, column] = (left.reshape(2, -1) @ self._weights).ravel()
        self._from_velocity = np.linalg.inv(matrix)

    def _patch(self, u: Array) -> Array:
        return u[:, self._rows, self._columns]

    def _spread(self, forces: Array) -> Array:
        """Force per area in the cells around the line, `(2, *patch)`."""
        return (forces @ self._weights.T / self._area).reshape(2, *self._patch_shape)

    def _patch_pressure(self, spread: Array) -> Array:
        rows, columns = self._rows, self._columns
        return self._inverse * (
            self._to_y[:, rows] @ spread[0] @ self._divergence_x[columns]
            + self._divergence_y[:, rows] @ spread[1] @ self._to_x[columns]
        )

    def _patch_gradient(self, pressure: Array) -> Array:
        rows, columns = self._rows, self._columns
        return np.stack(
            [
                self._from_y[rows] @ pressure @ self._gradient_x[:, columns],
                self._gradient_y[rows] @ pressure @ self._from_x[:, columns],
            ]
        )


def _eigenvectors(axis: StretchedAxis) -> tuple[Array, Array, Array]:
    """Eigenvalues of D_odd D_even, its eigenvectors as columns, and the inverse of their matrix."""
    root = np.sqrt(axis.sizes)
    # Symmetric in this scaling, up to round-off.
    matrix = root[:, None] * (axis.derivative("odd") @ axis.derivative("even")) / root
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return values, vectors / root[:, None], vectors.T * root


def _kernel(axis: StretchedAxis, at: Array) -> Array:
    """Weights `(len(at), points)` of the three cells around every place; they add up to 1."""
    z = np.abs(axis.centres - at[:, None]) / axis.sizes
    inner = (1 + np.sqrt(np.maximum(1 - 3 * z**2, 0))) / 3
    outer = (5 - 3 * z - np.sqrt(np.maximum(1 - 3 * (1 - z) ** 2, 0))) / 6
    weight = np.where(z < 0.5, inner, np.where(z < _REACH, outer, 0.0))
    return weight / weight.sum(axis=1, keepdims=True)


def _extent(weights: Array) -> slice:
    used = np.flatnonzero(weights.any(axis=0))
    return slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0)
