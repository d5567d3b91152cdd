"""Advection and diffusion of a concentration in a given flow on a periodic box: Fourier pseudo-spectral, ETDRK4."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from romvae.errors import ConfigError
from romvae.schema import Field
from romvae.solvers.arguments import count, finite, positive
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.blobs import random_blobs
from romvae.solvers.box_march import solve_on_box
from romvae.solvers.flows import AbcFlow, CellularFlow, Flow
from romvae.solvers.groups import advance_in_groups, step_counts
from romvae.solvers.operators import fast_even
from romvae.solvers.spectral import FourierBox, periodic_grid

__all__ = ["CASES", "AdvectionDiffusion"]

_UNRESOLVED = 1e-2
_FLOW_POINTS = 24  # per axis, on which a flow is examined


class AdvectionDiffusion(Solver):
    """u_t + div(strength w u) = kappa Laplace(u) on a periodic square or cube, w a steady flow without divergence.

    Fourier coefficients of u; the products w_d u are formed on `resolution` points per axis. A flow that holds
    modes up to b carries modes up to M to M + b, so that on N points M = (N - 1 - b) / 2 modes are kept without
    aliasing: all but a few, where a square of u would leave two thirds. Diffusion is exact (ETDRK4).

    Kept: the mean of u, to round-off. The variance falls at the rate 2 kappa mean(|grad u|^2). The extrema of the
    solution never grow; the series oversteps them by no more than its error.

    Cost and error (relative L2 over all times; process time of one core of an Intel Xeon). Case
    `advection_diffusion_2d`, first five trajectories, against 160 points and steps of 1e-3; the last column is the
    least diffusive and fastest flow that the case can draw, two trajectories:

    | resolution | step | worst error | median error | ms per trajectory | worst in the corner |
    |---|---|---|---|---|---|
    | 64 | None | 2.3e-4 | 1.5e-6 | 145 | refused |
    | 80 | None | 1.3e-5 | 4.7e-7 | 224 | 7e-4 |
    | 96 | None | 2.0e-6 | 1.9e-7 | 350 | 1e-4 |
    | 96 | 2e-3 | 3.8e-7 | 3.8e-9 | 1010 | |
    | 112 | None | 7.9e-7 | 1.9e-7 | 580 | |
    | 128 | None | 7.9e-7 | 9.2e-8 | 830 | |

    Case `advection_diffusion_3d`, first three trajectories, against 48 points and steps of 2.5e-3:

    | resolution | step | worst error | median error | ms per trajectory | worst in the corner |
    |---|---|---|---|---|---|
    | 24 | None | 2.6e-4 | 2.1e-5 | 170 | refused |
    | 30 | None | 1.9e-5 | 4.1e-6 | 380 | 1e-3 |
    | 36 | None | 4.1e-6 | 2.3e-6 | 770 | 1.2e-4 |
    | 40 | None | 4.1e-6 | 2.2e-6 | 1180 | |

    The cases take 96 and 36, the least with 1e-4 in the corner. The transforms take 0.55 of the time.

    Where it breaks: diffusion against stretching leaves sheets about sqrt(kappa L / strength) wide. Where the
    spectrum has not decayed to 0.01 at the highest modes the solve is refused with a `NumericsError`. The flow is
    steady: a time-dependent one would make the solution depend on more than u0 and the time since.

    Arguments:
        diffusivity: kappa, length^2 per time.
        strength: Factor of the flow, length per time; any sign.
        phase: Shift of the flow along x, in units of L: 0.25 is a quarter of the box.
        points: Grid points per axis of fields.
        dimensions: 2 or 3.
        length: L.
        flow: w; None takes `CellularFlow()` in two and `AbcFlow()` in three dimensions. Up to 11 waves
            per axis; its divergence is checked.
        resolution: Internal points per axis; None takes 1.5 `points`.
        step: Longest internal time step; None takes 0.8 dx / (strength max over x of the sum of |w_d|) on the internal
            points; 0.89 is where the highest modes would become unstable without diffusion.

    Raises:
        ConfigError: An argument is out of range, or the flow is not free of divergence.
    """

    name: ClassVar[str] = "advection_diffusion"
    equation: ClassVar[str] = "u_t + div(strength w(x - phase L) u) = diffusivity Laplace(u)"
    scheme: ClassVar[str] = "Fourier pseudo-spectral, ETDRK4"
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "concentration"),)
    batched: ClassVar[bool] = True
    batched_ensembles: ClassVar[bool] = False

    def __init__(
        self,
        diffusivity: float = 3e-3,
        strength: float = 1.0,
        phase: float = 0.0,
        points: int = 64,
        dimensions: int = 2,
        length: float = 1.0,
        flow: Flow | None = None,
        resolution: int | None = None,
        step: float | None = None,
    ) -> None:
        self.diffusivity = positive(self.name, "diffusivity", diffusivity)
        self.strength, self.phase = finite(self.name, "strength", strength), finite(self.name, "phase", phase)
        self.points = count(self.name, "points", points, 8)
        if dimensions not in (2, 3):
            raise ConfigError(f"{self.name}: dimensions is {dimensions!r}, expected 2 or 3")
        self.length = positive(self.name, "length", length)
        self.flow: Flow = flow if flow is not None else CellularFlow() if dimensions == 2 else AbcFlow()
        self.resolution = (
            fast_even(1.5 * self.points) if resolution is None else count(self.name, "resolution", resolution, 8)
        )
        self.step = None if step is None else positive(self.name, "step", step)
        self.lengths = (self.length,) * dimensions
        self.grid = periodic_grid((self.points,) * dimensions, self.lengths)
        self.parameters = {"diffusivity": self.diffusivity, "strength": self.strength, "phase": self.phase}
        self._bandwidth = _bandwidth(self.name, self.flow, dimensions)

    @property
    def settings(self) -> dict[str, Any]:
        """Flow, extent, internal points and step; None where the step follows from the flow."""
        return {"flow": repr(self.flow), "length": self.length, "resolution": self.resolution, "step": self.step}

    def refined(self) -> Self:
        """1.5 times the internal points; half the step."""
        finer = copy(self)
        finer.resolution = fast_even(1.5 * self.resolution)
        finer.step = 0.5 * self.longest_step(self.velocity(self.resolution))
        return finer

    def conserved(self, u: Array) -> dict[str, Array]:
        """The mass: the mean of u times the volume."""
        axes = tuple(range(-self.grid.ndim - 1, 0))  # the only field is averaged over too
        return {"mass": u.mean(axis=axes) * self.length**self.grid.ndim}

    def initial(self, rng: np.random.Generator) -> Array:
        """Two to five round blobs, 0.05 to 0.1 of the box wide (3-D: 0.08 to 0.14), between 0 and 1, `(1, *space)`."""
        low, high = (0.05, 0.1) if self.grid.ndim == 2 else (0.08, 0.14)
        width = (low * self.length, high * self.length)
        return random_blobs(rng, self.grid.shape, self.lengths, number=(2, 5), width=width)[None]

    def velocity(self, points: int) -> Array:
        """`strength` w on a grid of so many points per axis, `(axis, *space)` in the order of the axes."""
        return self.strength * _velocity(self.flow, self.grid.ndim, points, self.phase)

    def longest_step(self, velocity: Array) -> float:
        """The step, or what a Courant number of 0.8 allows for this velocity on its grid."""
        if self.step is not None:
            return self.step
        fastest = float(np.abs(velocity).sum(axis=0).max())
        return 0.8 * self.length / velocity.shape[-1] / max(fastest, 1e-300)

    def _integrate(self, u0: Array, times: Array) -> Array:
        velocity = self.velocity(self.resolution)
        return self._advance([self], velocity[None], self.longest_step(velocity), u0[None], times)[0]

    @classmethod
    def _integrate_many(cls, solvers: Sequence[AdvectionDiffusion], u0: Array, times: Array) -> Array:
        velocity = [solver.velocity(solver.resolution) for solver in solvers]
        longest = [solver.longest_step(w) for solver, w in zip(solvers, velocity, strict=True)]
        plans = [
            (solver.resolution, solver._bandwidth, step_counts(times, step))
            for solver, step in zip(solvers, longest, strict=True)
        ]

        def advance(rows: list[int]) -> Array:
            flows = np.stack([velocity[row] for row in rows])
            return cls._advance([solvers[row] for row in rows], flows, longest[rows[0]], u0[rows], times)

        return advance_in_groups(advance, plans, velocity[0].size, u0, times)

    @staticmethod
    def _advance(
        solvers: Sequence[AdvectionDiffusion], velocity: Array, longest: float, u0: Array, times: Array
    ) -> Array:
        """Rows with the same resolution and bandwidth of the flow, `(row, time, 1, *space)`."""
        ndim, n = solvers[0].grid.ndim, solvers[0].resolution
        kept = (n - 1 - solvers[0]._bandwidth) // 2
        if kept < 1:
            raise solvers[0].failed(times[0], f"resolution={n} does not hold the flow. Raise resolution")
        box = FourierBox((n,) * ndim, solvers[0].lengths, (kept,) * ndim)
        gradient = [-1j * k for k in box.k]
        decay = np.stack([-solver.diffusivity * box.k_squared[None] for solver in solvers])

        def transport(v: NDArray[Any]) -> NDArray[Any]:
            flux = box.coefficients(velocity * box.values(v))
            rate = gradient[0] * flux[:, :1]
            for axis, k in enumerate(gradient[1:], 1):
                rate += k * flux[:, axis : axis + 1]
            return np.asarray(rate)

        return solve_on_box(solvers, box, decay, transport, u0, times, longest, _UNRESOLVED)


def _velocity(flow: Flow, ndim: int, points: int, phase: float) -> Array:
    """The flow on a grid, shifted along x, `(axis, *space)`."""
    angle = 2 * np.pi * np.arange(points) / points
    angles = [angle] * (ndim - 1) + [angle - 2 * np.pi * phase]
    components = flow(np.ix_(*angles))
    if len(components) != ndim:
        raise ConfigError(f"advection_diffusion: flow={flow!r} has {len(components)} components, expected {ndim}")
    return np.stack([np.broadcast_to(component, (points,) * ndim) for component in components])


def _bandwidth(where: str, flow: Flow, ndim: int) -> int:
    """The highest mode that the flow holds along any axis, to round-off; refuses one with divergence."""
    box = FourierBox.dealiased((_FLOW_POINTS,) * ndim, (2 * np.pi,) * ndim, degree=1)
    components = _velocity(flow, ndim, _FLOW_POINTS, 0.0)
    scale = max(float(np.abs(components).max()), 1e-300)
    v = box.coefficients(components)
    # More waves than the grid holds show on any other grid.
    elsewhere = _velocity(flow, ndim, _FLOW_POINTS + 1, 0.0)
    if not np.abs(box.values(v, elsewhere.shape[1:]) - elsewhere).max() <= 1e-8 * scale:
        raise ConfigError(
            f"{where}: flow={flow!r} holds more than {box.modes[0]} waves per axis, or jumps; use a smoother one"
        )
    divergence = np.zeros(box.points)
    for k, along in zip(box.k, v, strict=True):
        divergence += box.values(1j * k * along)
    largest = float(np.abs(divergence).max())
    if not largest <= 1e-8 * scale:
        raise ConfigError(
            f"{where}: the divergence of flow={flow!r} reaches {largest:.2g} (on a period of 2 pi), expected 0; "
            "use a flow that keeps volumes"
        )
    held = np.abs(v).max(axis=0) > 1e-12 * scale
    return max(int(np.abs(np.broadcast_to(m, box.shape)[held]).max(initial=0)) for m in box.numbers)


CASES = (
    Case(
        "advection_diffusion_2d",
        "Advection and diffusion of blobs among cat's-eye vortices; diffusivity, strength and phase of the flow vary",
        partial(AdvectionDiffusion, points=64, resolution=96),
        equidistant(2.5, 101),
        200,
        (Range("diffusivity", 1e-3, 1e-2, "log"), Range("strength", 0.5, 1.5), Range("phase", 0.0, 1.0)),
    ),
    Case(
        "advection_diffusion_3d",
        "Advection and diffusion of blobs in an Arnold-Beltrami-Childress flow of varying strength and phase",
        partial(AdvectionDiffusion, points=24, dimensions=3, resolution=36),
        equidistant(1.0, 41),
        80,
        (Range("diffusivity", 3e-3, 1.2e-2, "log"), Range("strength", 0.5, 1.5), Range("phase", 0.0, 1.0)),
    ),
)
