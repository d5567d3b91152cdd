"""Viscous Burgers equations for two velocity components in a periodic rectangle: Fourier pseudo-spectral, ETDRK4."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from romvae.errors import ConfigError
from romvae.schema import Field
from romvae.solvers.arguments import count, positive
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.groups import advance_in_groups, step_counts
from romvae.solvers.integrators import ETDRK4, march
from romvae.solvers.operators import fast_even
from romvae.solvers.spectral import FourierBox, periodic_grid, random_modes

__all__ = ["CASES", "Burgers2d"]

_UNRESOLVED = 1e-3  # as in burgers.py: the spectrum of a resolved front has fallen below this
_COURANT = 0.8


class Burgers2d(Solver):
    """w_t + (w . grad) w = nu Laplace(w) for w = (u, v), periodic in x and y.

    The nonlinear part is formed in its rotation form, grad(|w|^2 / 2) + (-v, u) (v_x - u_y): six transforms a
    stage instead of the eight of u u_x + v u_y. Products on `resolution` points with the 2/3 rule, so that no
    kept coefficient is aliased; diffusion is exact (ETDRK4).

    Nothing is conserved, not even the mean of u, unless v_x = u_y: then w stays a gradient, both means are kept
    and Cole and Hopf's substitution solves the equation. The largest |u| and the largest |v| never grow.

    Cost and error on the case `burgers_2d` (relative L2 over both fields and all times, against 256 points and steps
    of 1.25e-3; first five trajectories; process time of one core of an Intel Xeon; the last column is three
    trajectories at the least viscosity):

    | resolution | step | worst error | median error | ms per trajectory | worst at nu = 0.005 |
    |---|---|---|---|---|---|
    | 96 | 1e-2 | 4.3e-4 | 6.0e-7 | 125 | |
    | 128 | 1e-2 | 6.3e-5 | 6.0e-7 | 220 | 1.7e-4 |
    | 128 | 5e-3 | 6.2e-5 | 3.8e-8 | 430 | 1.7e-4 |
    | 160 | 1e-2 | 1.5e-5 | 6.0e-7 | 370 | |
    | 160 | 5e-3 | 9.3e-6 | 3.8e-8 | 690 | 3.3e-5 |
    | 192 | 2.5e-3 | 1.7e-6 | 2.3e-9 | 2020 | |
    | None | None | 3.8e-8 | 1.6e-8 | 1630 | |

    The case takes 160 and 1e-2 (128 points are refused for one of its 150 trajectories); the transforms take 0.6 of
    the time. None and None resolve any front of that height.

    Where it breaks: fronts are about 4 nu / (jump of the velocity across them) wide. If the spectrum has not
    decayed at the highest modes, the solve is refused with a `NumericsError`: raise `resolution`.

    Arguments:
        viscosity: nu, length^2 per time.
        points: Grid points per axis of fields, (y, x); one number for both.
        length: Extent of the square, both axes.
        resolution: Internal points per axis; None takes 1.5 max|w| L / nu, and at least 1.5 `points`.
        step: Longest internal time step; None takes 0.8 dx / (max|u| + max|v|) on the internal points.

    Raises:
        ConfigError: An argument is out of range.

    References:
        Kassam and Trefethen (2005), Fourth-order time-stepping for stiff PDEs, SIAM J. Sci. Comput. 26, 1214.
        Hopf (1950), The partial differential equation u_t + u u_x = mu u_xx, Comm. Pure Appl. Math. 3, 201.
    """

    name: ClassVar[str] = "burgers_2d"
    equation: ClassVar[str] = "u_t + u u_x + v u_y = viscosity Laplace(u), v_t + u v_x + v v_y = viscosity Laplace(v)"
    scheme: ClassVar[str] = "Fourier pseudo-spectral with the 2/3 rule, ETDRK4"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("u", "1", "velocity along x", "velocity", "x"),
        Field("v", "1", "velocity along y", "velocity", "y"),
    )
    batched: ClassVar[bool] = True
    batched_ensembles: ClassVar[bool] = False

    def __init__(
        self,
        viscosity: float = 0.01,
        points: int | Sequence[int] = 64,
        length: float = 1.0,
        resolution: int | None = None,
        step: float | None = None,
    ) -> None:
        shape = tuple(points) if isinstance(points, Sequence) else (points, points)
        if len(shape) != 2:
            raise ConfigError(f"{self.name}: points is {points!r}, expected one number or two, (y, x)")
        self.points = tuple(count(self.name, "points", size, 12) for size in shape)
        self.viscosity = positive(self.name, "viscosity", viscosity, "no scheme here is made for shocks")
        self.length = positive(self.name, "length", length)
        self.resolution = None if resolution is None else count(self.name, "resolution", resolution, 12)
        self.step = None if step is None else positive(self.name, "step", step)
        self.grid = periodic_grid(self.points, (self.length, self.length))
        self.symmetries = self.grid.symmetries
        self.parameters = {"viscosity": self.viscosity}

    @property
    def settings(self) -> dict[str, Any]:
        """Extent, internal resolution and step; None where they follow from u0."""
        return {"length": self.length, "resolution": self.resolution, "step": self.step}

    def refined(self) -> Self:
        """Twice the internal points and half the step."""
        finer = copy(self)
        finer._refinement = 2 * self._refinement
        return finer

    _refinement = 1

    def initial(self, rng: np.random.Generator) -> Array:
        """Two independent smooth random fields of modes up to 2 with largest value 1, `(2, y, x)`."""
        modes = [random_modes(rng, self.points, (self.length,) * 2, highest=2) for _ in self.fields]
        return np.stack([field / np.abs(field).max() for field in modes])

    def plan(self, u0: Array) -> tuple[int, float]:
        """The internal resolution and the longest step for this initial field."""
        largest = [max(float(np.abs(field).max()), 1e-12) for field in u0]
        needed = max(1.5 * max(self.points), 1.5 * max(largest) * self.length / self.viscosity)
        resolution = self._refinement * (self.resolution or fast_even(needed))
        longest = _COURANT * self.length / resolution / sum(largest)
        return resolution, longest if self.step is None else self.step / self._refinement

    def _integrate(self, u0: Array, times: Array) -> Array:
        return self._advance([self], *self.plan(u0), u0[None], times)[0]

    @classmethod
    def _integrate_many(cls, solvers: Sequence[Burgers2d], u0: Array, times: Array) -> Array:
        wanted = [solver.plan(u) for solver, u in zip(solvers, u0, strict=True)]
        return advance_in_groups(
            lambda rows: cls._advance([solvers[row] for row in rows], *wanted[rows[0]], u0[rows], times),
            [(resolution, step_counts(times, longest)) for resolution, longest in wanted],
            3 * max(resolution for resolution, _ in wanted) ** 2,
            u0,
            times,
        )

    @staticmethod
    def _advance(solvers: Sequence[Burgers2d], resolution: int, longest: float, u0: Array, times: Array) -> Array:
        """Rows with the same steps, `(row, time, 2, y, x)`."""
        own = solvers[0]
        box = FourierBox.dealiased((resolution, resolution), (own.length, own.length))
        rate = _Advection(box)
        out = np.empty((len(solvers), times.size, *u0.shape[1:]))
        out[:, 0] = u0
        linear = np.stack([-solver.viscosity * box.k_squared for solver in solvers])
        # The fields come first: what is formed of each is then in one piece.
        start = box.coefficients(u0.swapaxes(0, 1))
        for i, v in march(partial(ETDRK4, linear, rate), start, times, longest):
            resolved = box.tail(v).max(axis=0) <= _UNRESOLVED
            if not (own.unresolved_allowed or resolved.all()):
                why = f"a front is not resolved by resolution={resolution}. Raise resolution, or lower step"
                raise solvers[int(np.argmin(resolved))].failed(times[i], why)
            out[:, i] = box.values(v, own.points).swapaxes(0, 1)
        return out


class _Advection:
    """-(w . grad) w in Fourier space, for coefficients `(2, row, *box.shape)` of (u, v)."""

    def __init__(self, box: FourierBox) -> None:
        self.box = box
        self.iky, self.ikx = (1j * k for k in box.k)

    def __call__(self, w: NDArray[Any]) -> NDArray[Any]:
        all_three = np.empty((3, *w.shape[1:]), dtype=np.complex128)
        all_three[:2] = w
        np.subtract(self.ikx * w[1], self.iky * w[0], out=all_three[2])
        u, v, curl = self.box.values(all_three)
        products = np.empty((3, *u.shape))
        np.multiply(v, curl, out=products[0])
        np.multiply(u, curl, out=products[1])
        u *= u
        v *= v
        u += v
        np.multiply(u, 0.5, out=products[2])
        turned_u, turned_v, energy = self.box.coefficients(products)
        turned_u -= self.ikx * energy
        turned_v += self.iky * energy
        return np.stack([turned_u, -turned_v])


CASES = (
    Case(
        "burgers_2d",
        "Viscous Burgers equations for (u, v), two random smooth fields in a periodic square",
        partial(Burgers2d, points=64, resolution=160, step=1e-2),
        equidistant(1.0, 51),
        150,
        (Range("viscosity", 0.005, 0.03, "log"),),
    ),
)
