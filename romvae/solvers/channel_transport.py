"""Advection and diffusion of a tracer in a channel with walls, inflow, outflow and a block in the stream."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

from romvae.errors import ConfigError
from romvae.schema import Axis, Boundary, Field, Grid
from romvae.solvers.arguments import count, finite, positive
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.finite_volume_2d import SLOPES, block_means, linear_in_cells
from romvae.solvers.groups import advance_in_groups, step_counts
from romvae.solvers.integrators import ssp_rk3, substeps
from romvae.solvers.slow_flow import FlowKind, block_cells, block_faces, channel_velocity

__all__ = ["CASES", "ChannelTransport2d"]

_GROWTH = 2.0  # `fromm` overshoots by some per cent; what is above this many times the data is unstable


class ChannelTransport2d(Solver):
    """u_t + div(a u) = kappa Laplace(u) in a channel of width 1 and length L, with a steady flow a around a block.

    The mean of a along the channel is 1. At x = 0 the concentration is held at `inflow`, at x = L the stream leaves
    with what it carries and nothing diffuses; nothing passes the walls at y = 0 and 1 and the block. The flow is
    computed once per process (`slow_flow.channel_velocity`), without divergence to round-off. All edges of the
    block are faces of cells, so that no grid changes the geometry.

    Averages change by the fluxes through open faces only: the mass balance (`supply`) holds to round-off. With
    `van_leer` and the default step every average after a step of Euler is a mean, with weights >= 0, of averages before
    and of the inflow, and the Runge-Kutta method is a mean of such steps: no new extrema, no negative values.
    Nothing is conserved: tracer enters and leaves.

    Cost and error of one trajectory of the case (61 times in [0, 3]; one core that other work ran beside; relative
    L2 error at t = 0.5 and 1.5, and the largest, at kappa = 0.001 against 192 x 576 cells; kappa = 0.01 is in
    `simulations/channel_transport_2d`):

    | cells | reconstruction | step | relative L2 | largest | least value | s per trajectory |
    |---|---|---|---|---|---|---|
    | 32 x 96 | van_leer | 0.0063 | 0.045, 0.040 | 0.30 | 0 | 0.14 |
    | 64 x 192 | van_leer | 0.0030 | 0.019, 0.016 | 0.12 | 0 | 0.8 |
    | 64 x 192 | van_leer | 0.0040 | 0.019, 0.016 | 0.12 | 0 | 0.7 |
    | 64 x 192 | fromm | 0.0030 | 0.018, 0.013 | 0.10 | -0.005 | 0.8 |
    | 96 x 288 | van_leer | 0.0019 | 0.009, 0.008 | 0.06 | 0 | 3.2 |

    The error is that of space; the step is the longest that keeps the bounds for certain.

    Where it breaks: the limited scheme is of second order in the mean where u is smooth, and flattens extrema. Layers
    along the block are about sqrt(kappa L / 2) thick and want four cells, which sets the largest error at small
    kappa; the velocity of `viscous` flow converges slower than second order at the block's corners. `fromm` is
    second order everywhere, but overshoots. The inflow differs between trajectories, therefore the grid declares
    that side as open too.

    Arguments:
        diffusivity: kappa, width^2 per time; 1e-3 to 1e-2 is a Peclet number of 1000 to 100.
        inflow: Concentration at x = 0.
        points: Cells of the stored averages, (y, x).
        length: L, in widths.
        obstacle: (x low, x high, y low, y high) of the block, on faces of the stored cells; None for none.
        flow: `viscous` (Stokes flow at rest on walls and block) or `potential` (slipping; without a block a plug).
        reconstruction: `van_leer` (limited) or `fromm` (not limited, for smooth fields).
        resolution: Internal cells per stored one along each axis; above 1, going on from a stored field starts
            from limited linear profiles in the stored cells.
        step: Longest time step; None takes 0.9 of the longest that keeps the bounds for certain.

    Raises:
        ConfigError: An argument is out of range.

    References:
        van Leer (1979), Towards the ultimate conservative difference scheme V, J. Comput. Phys. 32, 101.
        LeVeque (2002), Finite Volume Methods for Hyperbolic Problems, chapters 6 and 20.
    """

    name: ClassVar[str] = "channel_transport_2d"
    equation: ClassVar[str] = "u_t + div(a u) = diffusivity Laplace(u), a the steady flow around the obstacle"
    scheme: ClassVar[str] = "finite volumes, van Leer slopes, Runge-Kutta 3 (strong stability preserving)"
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "concentration"),)
    batched: ClassVar[bool] = True
    batched_ensembles: ClassVar[bool] = False

    def __init__(
        self,
        diffusivity: float = 3e-3,
        inflow: float = 1.0,
        points: Sequence[int] = (64, 192),
        length: float = 3.0,
        obstacle: Sequence[float] | None = (0.75, 1.0, 0.375, 0.625),
        flow: FlowKind = "viscous",
        reconstruction: Literal["van_leer", "fromm"] = "van_leer",
        resolution: int = 1,
        step: float | None = None,
    ) -> None:
        self.diffusivity = positive(self.name, "diffusivity", diffusivity)
        self.inflow = finite(self.name, "inflow", inflow)
        if not isinstance(points, Sequence) or len(points) != 2:
            raise ConfigError(f"{self.name}: points is {points!r}, expected two numbers, (y, x)")
        self.points = (count(self.name, "points", points[0], 8), count(self.name, "points", points[1], 8))
        self.length = positive(self.name, "length", length)
        self.resolution = count(self.name, "resolution", resolution, 1)
        if flow not in ("viscous", "potential"):
            raise ConfigError(f"{self.name}: flow is {flow!r}, expected viscous or potential")
        if reconstruction not in SLOPES:
            known = " or ".join(SLOPES)
            raise ConfigError(f"{self.name}: reconstruction is {reconstruction!r}, expected {known}")
        self.flow, self.reconstruction = flow, reconstruction
        self.obstacle = None if obstacle is None else tuple(float(edge) for edge in obstacle)
        self._block = None if obstacle is None else block_cells(self.name, obstacle, self.points, self.length)
        wall, open_end = Boundary("wall"), Boundary("open")
        self.grid = Grid(
            (
                Axis("y", _centres(self.points[0], 1.0), "1", wall, wall),
                Axis("x", _centres(self.points[1], self.length), "1", open_end, open_end),
            )
        )
        self.parameters = {"diffusivity": self.diffusivity, "inflow": self.inflow}
        self._prepare()
        self.step = None if step is None else positive(self.name, "step", step)

    @property
    def settings(self) -> dict[str, Any]:
        """Extent, obstacle, flow, scheme, internal cells per stored one and longest step (None where it follows)."""
        return {
            "length": self.length,
            "obstacle": None if self.obstacle is None else list(self.obstacle),
            "flow": self.flow,
            "reconstruction": self.reconstruction,
            "resolution": self.resolution,
            "step": self.step,
        }

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """True outside the block, `(y, x)`; None without one."""
        return None if self._block is None else block_faces(*self.points, self._block)[0] > 0

    def refined(self) -> Self:
        """Twice as many cells along both axes, and half the step (a quarter where diffusion sets it)."""
        return type(self)(
            self.diffusivity,
            self.inflow,
            self.points,
            self.length,
            self.obstacle,
            self.flow,
            self.reconstruction,
            2 * self.resolution,
            None if self.step is None else self.step / 2,
        )

    @property
    def longest_step(self) -> float:
        """`step`, or 0.9 times the longest at which every new average is a mean of old ones, with weights >= 0.

        The limited face values let a cell lose at most twice the concentration that flows out; diffusion takes
        from four neighbours, and twice as much through the inflow.
        """
        diffusion = self.diffusivity * (3 / self._dx**2 + 2 / self._dy**2)
        return 0.9 / (2 * self._renewal + diffusion) if self.step is None else self.step

    def initial(self, rng: np.random.Generator) -> Array:
        """Inflow up to a smooth front in the first tenth, and one to three round blobs, `(1, y, x)`; 0 in the block."""
        y, x = (np.array(axis.coordinates) for axis in self.grid.axes)
        front = 0.1 * self.length
        u = np.repeat(0.5 * self.inflow * erfc((x - front) / 0.1)[None], y.size, axis=0)
        for _ in range(int(rng.integers(1, 4))):
            x_0, y_0 = rng.uniform(0.15, 0.6) * self.length, rng.uniform(0.15, 0.85)
            width, height = rng.uniform(0.08, 0.16), rng.uniform(0.5, 1.0)
            u += height * np.exp(-((x - x_0) ** 2 + (y[:, None] - y_0) ** 2) / (2 * width**2))
        return (u * block_faces(*self.points, self._block)[0])[None]

    def rate(self, u: Array) -> Array:
        """du/dt of the averages on the internal cells, `(..., y, x)`: the difference of the fluxes through faces."""
        along, across = self._fluxes(u)
        return (along[..., :-1] - along[..., 1:]) / self._dx + (across[..., :-1, :] - across[..., 1:, :]) / self._dy

    def mass(self, u: Array) -> Array:
        """The tracer in the channel, from the stored fields `(..., y, x)` or from internal ones."""
        return u.sum(axis=(-2, -1)) * (self.length / (u.shape[-2] * u.shape[-1]))

    def supply(self, u: Array) -> float:
        """Tracer that enters per time, less what leaves; `u` on the internal cells, `(y, x)`."""
        along = self._fluxes(u)[0]
        return float((along[:, 0] - along[:, -1]).sum() * self._dy)

    def _integrate(self, u0: Array, times: Array) -> Array:
        return self._advance([self], u0[None], times)[0]

    @classmethod
    def _integrate_many(cls, solvers: Sequence[ChannelTransport2d], u0: Array, times: Array) -> Array:
        plans = [
            (
                solver.obstacle,
                solver.flow,
                solver.reconstruction,
                solver.resolution,
                step_counts(times, solver.longest_step),
            )
            for solver in solvers
        ]
        return advance_in_groups(
            lambda rows: cls._advance([solvers[row] for row in rows], u0[rows], times),
            plans,
            u0[0].size * solvers[0].resolution ** 2,
            u0,
            times,
        )

    @classmethod
    def _advance(cls, solvers: Sequence[ChannelTransport2d], u0: Array, times: Array) -> Array:
        """Rows that differ in diffusivity and inflow, and take the same steps, `(row, time, 1, y, x)`."""
        own = solvers[0]._with_rows(solvers)
        u = u0[:, 0]
        if own._block is not None:
            u = u * block_faces(*own.points, own._block)[0]
        if own.resolution > 1:
            slope_y, slope_x = _slopes_in(u, own.points, own._block)
            u = linear_in_cells(u, slope_y, slope_x, own.resolution)
        largest = _GROWTH * np.maximum(np.abs(u).max(axis=(1, 2)), np.abs(own._held[:, 0])) + 1e-12
        out = np.empty((len(solvers), times.size, *u0.shape[1:]))
        out[:, 0] = u0
        for i, interval in enumerate(np.diff(times)):
            steps = substeps(interval, solvers[0].longest_step)
            for _ in range(steps):
                u = ssp_rk3(own.rate, u, interval / steps)
            bounded = np.abs(u).max(axis=(1, 2)) <= largest
            if not bounded.all():
                row = int(np.argmin(bounded))
                why = f"max|u| has grown beyond {largest[row]:.3g}: unstable. Use a smaller step"
                raise solvers[row].failed(times[i + 1], why)
            out[:, i + 1, 0] = block_means(u, own.resolution)
        return out

    def _with_rows(self, solvers: Sequence[ChannelTransport2d]) -> Self:
        """Itself, with diffusivity and inflow of all of them where fluxes are formed."""
        rows = copy(self)
        diffusivity = np.array([solver.diffusivity for solver in solvers])[:, None, None]
        rows._diffusion_x, rows._diffusion_y = -diffusivity / self._dx, -diffusivity / self._dy
        rows._held = np.array([solver.inflow for solver in solvers])[:, None]
        return rows

    def _fluxes(self, u: Array) -> tuple[Array, Array]:
        """Fluxes through faces `(..., y, x + 1)` and `(..., y + 1, x)`."""
        slope = SLOPES[self.reconstruction]
        step_x, step_y = self._differences(u)
        half = slope(step_y[..., :-1, :], step_y[..., 1:, :])
        half /= 2
        across = self._diffusion_y * step_y
        across[..., 1:-1, :] += self._forward_y * (u + half)[..., :-1, :]
        across[..., 1:-1, :] += self._backward_y * (u - half)[..., 1:, :]
        half = slope(step_x[..., :-1], step_x[..., 1:])
        half /= 2
        # The inflow is half a cell away: its difference counts twice, and may not tilt the cell beyond it.
        most = np.abs(step_x[..., 0]) / 2
        np.clip(half[..., 0], -most, most, out=half[..., 0])
        along = self._diffusion_x * step_x
        along[..., 1:-1] += self._forward_x * (u + half)[..., :-1]
        along[..., 1:-1] += self._backward_x * (u - half)[..., 1:]
        along[..., 0] += self._entering * self._held
        along[..., -1] = self._leaving * (u[..., -1] + half[..., -1])
        return along, across

    def _differences(self, u: Array) -> tuple[Array, Array]:
        """Differences across all faces; 0 across closed ones and, for van Leer's slope, across the outflow."""
        *lead, rows, columns = u.shape
        step_x, step_y = np.empty((*lead, rows, columns + 1)), np.zeros((*lead, rows + 1, columns))
        np.subtract(u[..., 1:], u[..., :-1], out=step_x[..., 1:-1])
        np.subtract(u[..., 1:, :], u[..., :-1, :], out=step_y[..., 1:-1, :])
        step_x[..., 1:-1] *= self._open_x
        step_y[..., 1:-1, :] *= self._open_y
        step_x[..., 0] = 2 * (u[..., 0] - self._held)
        step_x[..., -1] = 0.0 if self.reconstruction == "van_leer" else step_x[..., -2]
        return step_x, step_y

    def _prepare(self) -> None:
        """Velocities and open faces on the internal cells."""
        rows, columns = (size * self.resolution for size in self.points)
        block = self._block
        if block is not None:
            top, bottom, left, right = (edge * self.resolution for edge in block)
            block = (top, bottom, left, right)
        self._dy, self._dx = 1.0 / rows, self.length / columns
        along, across = channel_velocity(rows, columns, 1.0, self.length, block, self.flow)
        self._entering, self._leaving = along[:, 0], along[:, -1]
        self._forward_x, self._backward_x = np.maximum(along[:, 1:-1], 0.0), np.minimum(along[:, 1:-1], 0.0)
        self._forward_y, self._backward_y = np.maximum(across[1:-1], 0.0), np.minimum(across[1:-1], 0.0)
        _, open_x, open_y = block_faces(rows, columns, block)
        self._open_x, self._open_y = open_x[:, 1:-1], open_y[1:-1]
        self._diffusion_x: Any = -self.diffusivity / self._dx
        self._diffusion_y: Any = -self.diffusivity / self._dy
        self._held: Any = self.inflow
        leaving = (np.maximum(along[:, 1:], 0) - np.minimum(along[:, :-1], 0)) / self._dx
        leaving += (np.maximum(across[1:], 0) - np.minimum(across[:-1], 0)) / self._dy
        self._renewal = float(leaving.max())  # most volume that leaves a cell per time and volume


def _centres(cells: int, extent: float) -> tuple[float, ...]:
    return tuple(((np.arange(cells) + 0.5) * (extent / cells)).tolist())


def _slopes_in(u: Array, points: tuple[int, int], block: tuple[int, int, int, int] | None) -> tuple[Array, Array]:
    """Limited slopes (along y, along x) of stored averages, for finer cells inside them; 0 at walls and ends."""
    _, open_x, open_y = block_faces(*points, block)
    lead = u.shape[:-2]
    step_x, step_y = np.zeros((*lead, *open_x.shape)), np.zeros((*lead, *open_y.shape))
    step_x[..., 1:-1] = np.diff(u, axis=-1) * open_x[:, 1:-1]
    step_y[..., 1:-1, :] = np.diff(u, axis=-2) * open_y[1:-1]
    slope = SLOPES["van_leer"]
    return slope(step_y[..., :-1, :], step_y[..., 1:, :]), slope(step_x[..., :-1], step_x[..., 1:])


CASES = (
    Case(
        "channel_transport_2d",
        "Blobs of a tracer and an inflow front carried around a block in a channel, random diffusivity and inflow",
        ChannelTransport2d,
        equidistant(3.0, 61),
        150,
        (Range("diffusivity", 1e-3, 1e-2, "log"), Range("inflow", 0.0, 1.0)),
    ),
)
