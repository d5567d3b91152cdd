"""Kuramoto-Sivashinsky equation on a periodic interval: Fourier pseudo-spectral, ETDRK4 in time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from romvae.schema import Boundary, Field, Grid
from romvae.solvers.arguments import count, finite, positive
from romvae.solvers.base import Array, Case, Solver, equidistant
from romvae.solvers.operators import fast_even, highest_mode, uniform_axis
from romvae.solvers.semilinear import SelfAdvection, check_resolved, solve_semilinear
from romvae.solvers.series import Series

__all__ = ["CASES", "KuramotoSivashinsky1d"]

_UNRESOLVED = 1e-3
_SPIN_UP_STEP = 0.4  # reaching the attractor needs no accuracy; 600 draws at L = 22 and 64 were stable with 0.5


class KuramotoSivashinsky1d(Solver):
    """u_t + u u_x + u_xx + u_xxxx = 0 on a periodic interval of length L: chaotic at L = 22 and beyond.

    Fourier coefficients of u; the product is formed on `resolution` points with the 2/3 rule, growth k^2 - k^4 is
    exact in each mode (ETDRK4). The mean of u is kept to round-off. Modes with 2 pi m / L < 1 grow and hand their
    energy on to the damped ones.

    Cost and error (t in [0, 20], 32 trajectories on the attractor, against 3 `points` and steps of 0.003; one core, in
    batches of 16; the trajectory with the largest error, the median, and the largest relative L2 error at one time):

    | L | points | resolution | step | worst error | median error | worst relative L2 | ms per 20 time units |
    |---|---|---|---|---|---|---|---|
    | 22 | 64 | 64 | 0.25 | 1.2e-2 | 2.0e-3 | 1.2e-2 | 0.7 |
    | 22 | 64 | 64 | 0.05 | 5.0e-5 | 1.0e-5 | 6.4e-5 | 2.4 |
    | 22 | 64 | 64 | 0.025 | 3.5e-6 | 7.8e-7 | 4.8e-6 | 4.2 |
    | 22 | 64 | 96 | 0.025 | 3.5e-6 | 7.7e-7 | 4.8e-6 | 4.9 |
    | 22 | 64 | 96 | 0.0125 | 2.2e-7 | 6.2e-8 | 3.3e-7 | 9.6 |
    | 64 | 128 | 128 | 0.025 | 1.5e-4 | 1.2e-4 | 4.2e-5 | 5.5 |
    | 64 | 128 | 192 | 0.05 | 9.4e-4 | 4.8e-5 | 2.0e-4 | 3.7 |
    | 64 | 128 | 192 | 0.025 | 6.9e-5 | 3.6e-6 | 1.5e-5 | 6.9 |
    | 64 | 128 | 192 | 0.0125 | 4.5e-6 | 2.7e-7 | 9.7e-7 | 13.2 |

    The cases take 96 and 192 points with steps of 0.025. Chaos amplifies these errors: the largest of 48
    trajectories' errors, median 7e-5 and worst 4e-2 at t = 100 (L = 22), median 6e-5 and worst 4e-3 at t = 50 (L = 64).
    The error falls with the third power of steps above 0.01 and with the fourth below.

    Where it breaks: chaos multiplies any error by exp(t / 21) at L = 22 (largest Lyapunov exponent 0.048), and
    faster on longer intervals: compare single trajectories up to a few Lyapunov times, and statistics beyond. A
    spectrum that does not decay is refused with a `NumericsError`; dx = 0.5 of the internal points is the
    coarsest that has a margin.

    Arguments:
        length: L.
        points: Number of grid points of fields.
        resolution: Internal points; None takes 1.5 `points`, which keeps every mode of the grid.
        step: Longest internal time step.
        spin_up: Time for which `initial` lets random waves run, so that transients have died out. It is solved
            with coarse steps.

    Raises:
        ConfigError: An argument is out of range.

    References:
        Kassam and Trefethen (2005), Fourth-order time-stepping for stiff PDEs, SIAM J. Sci. Comput. 26, 1214.
        Cvitanovic, Davidchack and Siminos (2010), On the state space geometry of the Kuramoto-Sivashinsky flow in a
        periodic domain, SIAM J. Appl. Dyn. Syst. 9, 1 (L = 22: equilibria, exponents; arXiv:0709.2944).
    """

    name: ClassVar[str] = "kuramoto_sivashinsky_1d"
    equation: ClassVar[str] = "u_t + u u_x + u_xx + u_xxxx = 0"
    scheme: ClassVar[str] = "Fourier pseudo-spectral, 2/3 rule, ETDRK4 with exact linear growth"
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "velocity", "velocity", "x"),)
    symmetries: tuple[str, ...] = ("reflect_x",)
    batched: ClassVar[bool] = True

    def __init__(
        self,
        length: float = 22.0,
        points: int = 64,
        resolution: int | None = None,
        step: float = 0.025,
        spin_up: float = 50.0,
    ) -> None:
        self.length = positive(self.name, "length", length)
        self.points = count(self.name, "points", points, 8)
        self.resolution = (
            fast_even(1.5 * self.points) if resolution is None else count(self.name, "resolution", resolution, 8)
        )
        self.step = positive(self.name, "step", step)
        self.spin_up = positive(self.name, "spin_up", spin_up) if spin_up else finite(self.name, "spin_up", spin_up)
        ends = (Boundary("periodic"), Boundary("periodic"))
        self.grid = Grid((uniform_axis("x", self.points, self.length, ends),))
        self.parameters = {}

    @property
    def settings(self) -> dict[str, Any]:
        """Extent, internal resolution, step and spin-up."""
        return {"length": self.length, "resolution": self.resolution, "step": self.step, "spin_up": self.spin_up}

    def refined(self) -> Self:
        """Twice the internal points, half the step."""
        return type(self)(self.length, self.points, 2 * self.resolution, self.step / 2, self.spin_up)

    def conserved(self, u: Array) -> dict[str, Array]:
        """The mass, the integral of u."""
        return {"mass": self.length * u[..., 0, :].mean(axis=-1)}

    def initial(self, rng: np.random.Generator) -> Array:
        """A random state of the attractor with zero mean, `(1, x)`: random growing modes after `spin_up`."""
        growing = max(1, int(self.length / (2 * np.pi)))
        modes = np.arange(1, growing + 1)[:, None]
        phase = 2 * np.pi * modes * np.arange(self.points) / self.points + rng.uniform(0, 2 * np.pi, (growing, 1))
        u = (rng.standard_normal((growing, 1)) * np.sin(phase)).sum(axis=0)[None] / np.sqrt(growing)
        if not self.spin_up:
            return u
        coarse = type(self)(self.length, self.points, self.resolution, _SPIN_UP_STEP, 0.0)
        return coarse.solve(u, [0.0, self.spin_up])[1]

    def _integrate(self, u0: Array, times: Array) -> Array:
        return self._integrate_many([self], u0[None], times)[0]

    @classmethod
    def _integrate_many(cls, solvers: Sequence[KuramotoSivashinsky1d], u0: Array, times: Array) -> Array:
        plans = {(solver.resolution, solver.step) for solver in solvers}
        if len(plans) > 1:
            return super()._integrate_many(solvers, u0, times)
        resolution, longest = plans.pop()
        series = Series(solvers[0].length, highest_mode(resolution), resolution)
        why = (
            f"the waves are not resolved by resolution={resolution}, step={longest:g}. Raise resolution, or lower step"
        )
        return solve_semilinear(
            series,
            series.k**2 - series.k**4,
            SelfAdvection(series),
            u0,
            times,
            longest,
            lambda v, time: check_resolved(solvers, v, time, _UNRESOLVED, why),
        )


CASES = (
    Case(
        "kuramoto_sivashinsky_1d",
        "Kuramoto-Sivashinsky chaos on the interval L = 22, started on the attractor",
        partial(KuramotoSivashinsky1d, length=22.0, points=64, resolution=96, step=0.025),
        equidistant(100.0, 401),
        600,
    ),
    Case(
        "kuramoto_sivashinsky_1d_long",
        "Kuramoto-Sivashinsky chaos on the longer interval L = 64, started on the attractor",
        partial(KuramotoSivashinsky1d, length=64.0, points=128, resolution=192, step=0.025),
        equidistant(50.0, 201),
        600,
    ),
)
