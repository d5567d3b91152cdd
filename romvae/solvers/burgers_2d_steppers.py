"""How `BurgersHeld2d` advances (u, v) by a step: two sets of differences in space, explicit and implicit in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from romvae.solvers.base import Array
from romvae.solvers.burgers_inviscid import godunov_flux
from romvae.solvers.integrators import ssp_rk3
from romvae.solvers.reconstruction import van_leer

if TYPE_CHECKING:
    from romvae.solvers.burgers_2d_parametric import BurgersHeld2d

__all__ = ["STEPPERS", "BackwardEuler", "Conservative", "Lines", "Stepper"]

_NEWTON = 1e-8  # length of the residual vector at which a backward Euler step counts as solved, as published
_ITERATIONS = 10

Stepper = Callable[[Array, float, float], Array]
"""From w `(2, y, x)`, the step and the time (for messages) to the next w."""


class Lines:
    """Third-order Runge-Kutta for dw/dt, w `(2, y, x)`."""

    def __init__(self, solver: BurgersHeld2d) -> None:
        self.per_dx = (solver.resolution - 1) / solver.length
        self.diffusion = self.per_dx**2 / solver.reynolds

    def __call__(self, w: Array, step: float, _: float) -> Array:
        return ssp_rk3(self.rate, w, step)

    def rate(self, w: Array) -> Array:
        """dw/dt; zero on the sides."""
        out = np.zeros_like(w)
        inner, west, south = w[:, 1:-1, 1:-1], w[:, 1:-1, :-2], w[:, :-2, 1:-1]
        u, v = self.per_dx * inner[0], self.per_dx * inner[1]
        # Collected by neighbour: -(u + v) w + u w_west + v w_south, and the same with the five-point Laplacian.
        change = out[:, 1:-1, 1:-1]
        np.multiply(u + self.diffusion, west, out=change)
        change += (v + self.diffusion) * south
        change += self.diffusion * (w[:, 1:-1, 2:] + w[:, 2:, 1:-1])
        change -= (u + v + 4 * self.diffusion) * inner
        return out


class Conservative:
    """Third-order Runge-Kutta for u_t + (u^2 / 2)_x + (u^2 / 2)_y = Laplace(u) / Re, which u = v fulfils.

    Around every inner node lies a square cell, whose average changes by what flows through its faces (van Leer's
    slopes, Godunov's flux): a shock moves at the speed of the equation, resolved or not.
    """

    def __init__(self, solver: BurgersHeld2d) -> None:
        self.per_dx = (solver.resolution - 1) / solver.length
        self.diffusion = self.per_dx**2 / solver.reynolds

    def __call__(self, w: Array, step: float, _: float) -> Array:
        return np.stack([ssp_rk3(self.rate, w[0], step)] * 2)

    def rate(self, u: Array) -> Array:
        """du/dt; zero on the sides."""
        out = np.zeros_like(u)
        change = out[1:-1, 1:-1]
        change -= np.diff(self._fluxes(u[1:-1]), axis=1)
        change -= np.diff(self._fluxes(u.T[1:-1]), axis=1).T
        change *= self.per_dx
        change += self.diffusion * (u[1:-1, 2:] + u[1:-1, :-2] + u[2:, 1:-1] + u[:-2, 1:-1] - 4 * u[1:-1, 1:-1])
        return out

    @staticmethod
    def _fluxes(u: Array) -> Array:
        left, right = van_leer(np.concatenate([u[:, :1], u, u[:, -1:]], axis=1))
        return godunov_flux(left, right)


class BackwardEuler:
    """w - w_before = step f(w), by Newton's method with a factorised Jacobian that is kept while it serves."""

    def __init__(self, solver: BurgersHeld2d) -> None:
        self.solver, self.lines = solver, Lines(solver)
        n = solver.resolution - 2
        difference, one = sp.diags_array([1.0, -1.0], offsets=[0, -1], shape=(n, n)), sp.eye_array(n)
        second = sp.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(n, n))
        self.along_x = sp.kron(one, difference, format="csr") * self.lines.per_dx
        self.along_y = sp.kron(difference, one, format="csr") * self.lines.per_dx
        self.laplacian = (sp.kron(one, second) + sp.kron(second, one)).tocsr() * self.lines.diffusion
        self._factors: tuple[float, Any] | None = None

    def __call__(self, w: Array, step: float, time: float) -> Array:
        before, w = w, w.copy()
        norm = np.inf
        for fresh in range(_ITERATIONS):
            residual = (w - before - step * self.lines.rate(w))[:, 1:-1, 1:-1]
            last, norm = norm, float(np.linalg.norm(residual))
            if norm < _NEWTON:
                return w
            if self._factors is None or self._factors[0] != step or (fresh and norm > 0.05 * last):
                self._factors = step, splu(self.jacobian(w, step))
            w[:, 1:-1, 1:-1] -= self._factors[1].solve(residual.ravel()).reshape(residual.shape)
        why = f"Newton's method is at a residual of {norm:.3g} after {_ITERATIONS} iterations. Use a smaller step"
        raise self.solver.failed(time, why)

    def jacobian(self, w: Array, step: float) -> Any:
        """The derivative of the residual on the inner nodes, all of u before all of v."""
        per_dx = self.lines.per_dx
        inner = w[:, 1:-1, 1:-1]
        u, v = (sp.diags_array(field.ravel()) for field in inner)
        slopes_x = [sp.diags_array(s.ravel() * per_dx) for s in inner - w[:, 1:-1, :-2]]
        slopes_y = [sp.diags_array(s.ravel() * per_dx) for s in inner - w[:, :-2, 1:-1]]
        moved = sp.eye_array(inner[0].size) + step * (u @ self.along_x + v @ self.along_y - self.laplacian)
        return sp.block_array(
            [
                [moved + step * slopes_x[0], step * slopes_y[0]],
                [step * slopes_x[1], moved + step * slopes_y[1]],
            ],
            format="csc",
        )


STEPPERS: dict[str, Callable[[BurgersHeld2d], Stepper]] = {
    "lines": Lines,
    "gplasdi": BackwardEuler,
    "conservative": Conservative,
}
