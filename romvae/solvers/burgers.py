"""Viscous Burgers equation in one periodic dimension: dealiased Fourier pseudo-spectral, ETDRK4 in time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from romvae.schema import Boundary, Field, Grid
from romvae.solvers.arguments import count, positive
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.initial import random_sines
from romvae.solvers.operators import fast_even, highest_mode, uniform_axis
from romvae.solvers.semilinear import SelfAdvection, check_resolved, solve_semilinear
from romvae.solvers.series import Series

__all__ = ["CASES", "Burgers1d"]

_UNRESOLVED = 1e-3  # a resolved front's spectrum has fallen below this at the highest modes; 1/k has not


class Burgers1d(Solver):
    """u_t + (u^2 / 2)_x = nu u_xx on a periodic interval of length L.

    Fourier coefficients v_k of u, the product formed on `resolution` points with the 2/3 rule, so that no
    kept coefficient is aliased; diffusion is exact (ETDRK4). The mean of u is kept to round-off and the
    energy falls.

    Cost and error on the case `burgers_1d` (256 points, t in [0, 1]; against 2048 points and steps of 2.5e-4;
    the 24 steepest of 300 trajectories and 24 typical ones; one core, in batches of 16):

    | resolution | step | worst error | typical error | worst relative L2 | ms per trajectory |
    |---|---|---|---|---|---|
    | 384 | 2.5e-3 | 5.5e-5 | 5.2e-8 | 4.7e-6 | 6 |
    | 384 | 1e-3 | 3.7e-6 | 1.4e-9 | 4.8e-7 | 14 |
    | 512 | 1.25e-3 | 3.6e-6 | 3.3e-9 | 3.3e-7 | 12 |
    | 512 | 1e-3 | 1.6e-6 | 1.4e-9 | 1.4e-7 | 16 |
    | 768 | 5e-4 | 1.1e-7 | 8.0e-11 | 8.5e-9 | 45 |
    | None | None | 7.7e-6 | 4.5e-8 | 6.6e-7 | 35 one by one |

    The steepest of 6000 trajectories (max|u0| / nu = 350) is off by 6e-5 at 512 points, the next by 1e-5. A
    sine of amplitude 2.1 at nu = 0.005, the steepest that the case can draw, is off by 6e-4 there and by 5e-5
    with None and None.

    Where it breaks: fronts are about 4 nu / (jump of u) wide. If the spectrum has not decayed at the highest
    mode, the solve is refused with a `NumericsError`: raise `resolution` or use `BurgersInviscid1d`.

    Arguments:
        viscosity: nu, length^2 per time.
        points: Number of grid points of fields.
        length: L.
        resolution: Internal points; None takes 1.5 max|u0| L / nu, and at least 1.5 `points`, which
            resolves the steepest front of that height.
        step: Longest internal time step; None takes dx / max|u0| on the internal points. |u| never grows, so
            that this stays stable.
        refinement: Multiplies the internal points and divides the step, given or chosen.

    Raises:
        ConfigError: An argument is out of range.

    References:
        Kassam and Trefethen (2005), Fourth-order time-stepping for stiff PDEs, SIAM J. Sci. Comput. 26, 1214.
    """

    name: ClassVar[str] = "burgers_1d"
    equation: ClassVar[str] = "u_t + (u^2 / 2)_x = viscosity u_xx"
    scheme: ClassVar[str] = "Fourier pseudo-spectral, 2/3 rule, ETDRK4 with exact diffusion"
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "velocity", "velocity", "x"),)
    symmetries: tuple[str, ...] = ("reflect_x",)
    batched: ClassVar[bool] = True

    def __init__(
        self,
        viscosity: float = 0.01,
        points: int = 256,
        length: float = 1.0,
        resolution: int | None = None,
        step: float | None = None,
        refinement: int = 1,
    ) -> None:
        self.viscosity = positive(self.name, "viscosity", viscosity, "use BurgersInviscid1d without viscosity")
        self.points = count(self.name, "points", points, 8)
        self.length = positive(self.name, "length", length)
        self.resolution = None if resolution is None else count(self.name, "resolution", resolution, 8)
        self.step = None if step is None else positive(self.name, "step", step)
        self.refinement = count(self.name, "refinement", refinement, 1)
        ends = (Boundary("periodic"), Boundary("periodic"))
        self.grid = Grid((uniform_axis("x", self.points, self.length, ends),))
        self.parameters = {"viscosity": self.viscosity}

    @property
    def settings(self) -> dict[str, Any]:
        """Extent, internal resolution and step (None where they follow from u0), and their refinement."""
        return {
            "length": self.length,
            "resolution": self.resolution,
            "step": self.step,
            "refinement": self.refinement,
        }

    def refined(self) -> Self:
        """Twice the internal points, half the step."""
        return type(self)(self.viscosity, self.points, self.length, self.resolution, self.step, 2 * self.refinement)

    def conserved(self, u: Array) -> dict[str, Array]:
        """The mass, the integral of u."""
        return {"mass": self.length * u[..., 0, :].mean(axis=-1)}

    def initial(self, rng: np.random.Generator) -> Array:
        """0.7 times three sines with random wavenumbers 1 to 3, amplitudes and phases, `(1, x)`."""
        return random_sines(rng, np.array(self.grid.axes[0].coordinates), self.length)[None]

    def plan(self, u0: Array) -> tuple[int, float]:
        """The internal resolution and the longest step for this initial field."""
        largest = max(float(np.abs(u0).max()), 1e-12)
        needed = max(1.5 * self.points, 1.5 * largest * self.length / self.viscosity)
        resolution = self.resolution or fast_even(needed)
        step = self.step or self.length / resolution / largest
        return resolution * self.refinement, step / self.refinement

    def _integrate(self, u0: Array, times: Array) -> Array:
        return self._integrate_many([self], u0[None], times)[0]

    @classmethod
    def _integrate_many(cls, solvers: Sequence[Burgers1d], u0: Array, times: Array) -> Array:
        plans = {solver.plan(u) for solver, u in zip(solvers, u0, strict=True)}
        if len(plans) > 1:
            return super()._integrate_many(solvers, u0, times)
        resolution, longest = plans.pop()
        series = Series(solvers[0].length, highest_mode(resolution), resolution)
        viscosity = np.array([solver.viscosity for solver in solvers])[:, None]
        why = (
            f"the front is not resolved by resolution={resolution}. Raise resolution, or lower "
            "step if the field is not smooth at all"
        )
        return solve_semilinear(
            series,
            -viscosity * series.k**2,
            SelfAdvection(series),
            u0,
            times,
            longest,
            lambda v, time: check_resolved(solvers, v, time, _UNRESOLVED, why),
        )


CASES = (
    Case(
        "burgers_1d",
        "Viscous Burgers equation, three random sines on a periodic interval, viscosity in [0.005, 0.05]",
        # Fixed resolution and step, whose error is documented above, so that any block can be batched.
        partial(Burgers1d, points=256, resolution=512, step=1e-3),
        equidistant(1.0, 101),
        600,
        (Range("viscosity", 0.005, 0.05, "log"),),
    ),
)
