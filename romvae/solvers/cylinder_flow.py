"""Flow past a circular cylinder in two dimensions: the vortex street, with the body immersed in a stretched grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from romvae.errors import ConfigError
from romvae.schema import Axis, Boundary, Field, Grid
from romvae.solvers.arguments import count, positive
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.immersed_flow import ImmersedFlow
from romvae.solvers.integrators import ssp_rk3, substeps
from romvae.solvers.stretched_axis import StretchedAxis

__all__ = ["CASES", "CylinderFlow2d"]

_RADIUS = 0.5
_RETRACTION = 0.4  # cells that the line of forces lies inside the surface: a force acts on 1.5 cells to both sides
_SPACING = 1.5  # cells between neighbouring points of the line
_SPONGE_LENGTH, _SPONGE_RATE = 4.0, 3.0
_CORE_RATE = 10.0  # damping of the fluid enclosed by the line
_COURANT = 0.6  # of the smallest cell per unit speed
_VISCOUS = 0.15  # the fastest decaying wave of the grid is stable up to 0.2
_BOUND = 4.0  # no speed in a resolved flow comes near this
_LEAST_CELLS = 2 / 3  # per length 1 / sqrt(Re), with which drag and frequency already are a fifth too small
_STREET_CELLS, _STREET_REYNOLDS, _STREET_STEP = (0.1159, 0.1146), 100.0, 0.0625
_STREET_START, _STREET_PERIOD, _PHASES = 60.0, 6.0, 24


class CylinderFlow2d(Solver):
    """u_t + (u . grad) u = -grad p + Laplace(u) / Re, div u = 0, past a cylinder of diameter 1 at the origin.

    Lengths in diameters D, speeds in those of the stream U, Re = U D / viscosity. The box reaches 8 D upstream,
    18 D downstream and 8 D to both sides (blockage 1/16). Through its ends the stream enters and leaves with u = 1;
    all sides are free of shear. In the last 4 D a sponge, -sigma(x) (u - 1, v) with sigma up to 3 U/D, brings the wake
    back to the stream: what is stored there is no physical wake. The inflow is declared as (1, 0); v there
    reaches 0.04, the far field of the vortices.

    Cells are finest around the cylinder and up to four (along x) and eight times (along y) larger far away.
    Velocities sit at their centres, and the pressure and the forces on the cylinder follow from both constraints
    exactly (`ImmersedFlow`): a stored field is all of the state, and going on from it changes round-off only. Forces
    act along a line 0.4 cells inside the surface, where drag and frequency converge fastest, for each of them
    acts on 1.5 cells to both sides (Breugem found 0.3). Third-order Runge-Kutta in time, with no splitting error.

    Nothing is conserved: the stream feeds the wake. Not stored: pressure, which follows from u and v.

    Cost and error of one trajectory of the case (81 times in [0, 20]; one core that other work ran beside; relative
    L2 of (u - 1, v) outside the cylinder against 160 x 320 cells; at t = 10 and t = 20):

    | resolution | step | Re = 60 | Re = 110 | Re = 180 | s per trajectory |
    |---|---|---|---|---|---|
    | 48 x 96 | 0.057 | 0.025, 0.047 | 0.045, 0.14 | 0.079, 0.23 | 0.4 |
    | 64 x 128 | 0.043 | 0.015, 0.027 | 0.026, 0.076 | 0.051, 0.19 | 1.1 |
    | 64 x 128 | 0.021 | 0.015, 0.027 | 0.026, 0.076 | 0.051, 0.19 | 2.1 |
    | 80 x 160 | 0.034 | 0.007, 0.010 | 0.012, 0.033 | 0.025, 0.088 | 2.6 |
    | 96 x 192 | 0.029 | 0.004, 0.006 | 0.006, 0.014 | 0.010, 0.037 | 5.5 |
    | 128 x 256 | 0.021 | 0.001, 0.002 | 0.002, 0.003 | 0.003, 0.006 | 17.5 |

    The step, set by stability, adds nothing. Most of the error is phase. Shedding frequency (Strouhal number) and
    mean drag coefficient on 64 x 128, 80 x 160 and 144 x 288 cells: 0.168, 0.169, 0.169 and 1.34, 1.35, 1.35 at Re =
    100; 0.189, 0.195, 0.196 and 1.25, 1.35, 1.31 at Re = 180. Steady wakes become unstable at Re = 47.7.
    Blockage raises both: with 14 D upstream and 16 D to the sides (104 x 184 cells, Re = 100) they are 0.166 and 1.32;
    published for an unbounded stream are 0.164 and 1.33.

    Where it breaks: two dimensions, and real wakes are three-dimensional above Re = 190. Boundary layers want more
    than one cell per length 1 / sqrt(Re), 1.2 at Re = 200 on the default grid. With 0.8 drag and frequency are 15 % and
    5 % too small, with 2/3 both are a fifth (measured at Re = 169), and less than that is refused. Inside the cylinder
    the fields hold enclosed fluid that is damped to rest, with the smeared wall on its rim: up to 0.25 within 1.5 cells
    of the surface. The ends of the box reflect what the sponge lets pass.

    Arguments:
        reynolds: U D / viscosity; 1 to 200, more with a higher resolution.
        points: Cells of the stored fields, (y, x). A grid whose cells differ in size, symmetric about y = 0.
        extent: Distances of the inflow, the outflow and the sides from the centre, in D.
        resolution: Internal cells, (y, x); None takes `points`, and then going on from a stored field is exact. Other
            numbers are the same stretching on more cells, joined by interpolation of sixth order.
        step: Longest time step; None takes 0.6 of the smallest cell, less where viscosity asks for it.

    Raises:
        ConfigError: An argument is out of range.

    References:
        Taira and Colonius (2007), The immersed boundary method: a projection approach, J. Comput. Phys. 225, 2118.
        Breugem (2012), A second-order accurate immersed boundary method for fully resolved simulations of
        particle-laden flows, J. Comput. Phys. 231, 4469 (forces inside the surface).
        Williamson (1996), Vortex dynamics in the cylinder wake, Annu. Rev. Fluid Mech. 28, 477.
    """

    name: ClassVar[str] = "cylinder_flow_2d"
    equation: ClassVar[str] = "u_t + (u . grad) u = -grad p + Laplace(u) / reynolds, div u = 0, u = 0 on the cylinder"
    scheme: ClassVar[str] = "immersed boundary by exact projection, sixth-order differences, Runge-Kutta 3"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("u", "1", "velocity along the stream", "velocity", "x"),
        Field("v", "1", "velocity across the stream", "velocity", "y"),
    )
    symmetries: tuple[str, ...] = ("reflect_y",)

    def __init__(
        self,
        reynolds: float = 100.0,
        points: Sequence[int] = (80, 160),
        extent: Sequence[float] = (8.0, 18.0, 8.0),
        resolution: Sequence[int] | None = None,
        step: float | None = None,
    ) -> None:
        self.reynolds = positive(self.name, "reynolds", reynolds)
        self.points = _two_counts(self.name, "points", points)
        self.resolution = None if resolution is None else _two_counts(self.name, "resolution", resolution)
        self.extent = _extent(self.name, extent)
        x, y = _axes(self.points, self.extent)
        inflow = Boundary("value", (("u", 1.0), ("v", 0.0)))
        side = Boundary("reflecting")
        self.grid = Grid(
            (
                Axis("y", tuple(y.centres.tolist()), "1", side, side),
                Axis("x", tuple(x.centres.tolist()), "1", inflow, Boundary("open")),
            )
        )
        self.parameters = {"reynolds": self.reynolds}
        self.step = None if step is None else positive(self.name, "step", step)
        most = (1 / (_LEAST_CELLS * self._finest)) ** 2
        if self.reynolds > most:
            raise ConfigError(
                f"{self.name}: reynolds is {self.reynolds:.6g}, but the smallest of {self.resolution or self.points} "
                f"cells, {self._finest:.3g}, resolve boundary layers up to {most:.0f} at most; raise resolution"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Extent, internal resolution and longest step (None where it follows from cells and Reynolds number)."""
        return {
            "extent": list(self.extent),
            "resolution": list(self.resolution or self.points),
            "step": self.step,
        }

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True outside the cylinder, `(y, x)`."""
        y, x = (np.array(axis.coordinates) for axis in self.grid.axes)
        return np.hypot(x, y[:, None]) >= _RADIUS

    def refined(self) -> Self:
        """Twice as many cells along both axes, and half the step."""
        rows, columns = self.resolution or self.points
        step = None if self.step is None else self.step / 2
        return type(self)(self.reynolds, self.points, self.extent, (2 * rows, 2 * columns), step)

    @property
    def longest_step(self) -> float:
        """`step`, or the longest that is stable on the internal cells with a margin."""
        if self.step is not None:
            return self.step
        return min(_COURANT * self._finest, _VISCOUS * self._finest**2 * self.reynolds)

    @property
    def _finest(self) -> float:
        """The smallest internal cell."""
        return min(_smallest_cells(self.resolution or self.points, self.extent))

    def initial(self, rng: np.random.Generator) -> Array:
        """A vortex street of random phase at Re = 100, its swing scaled by 0.3 to 1, `(2, y, x)`.

        The street comes from a coarse run that is made once per process (half a second in the box of the case).
        """
        street = _street(self.extent)[int(rng.integers(_PHASES))]
        amplitude = rng.uniform(0.3, 1.0)
        if rng.random() < 0.5:
            street = _mirrored(street)
        u = _resampled(street, self.points, self.extent)
        steady = (u + _mirrored(u)) / 2
        return _flow(self.points, self.extent).admissible(steady + amplitude * (u - steady))

    def vorticity(self, u: Array) -> Array:
        """v_x - u_y of one snapshot `(2, y, x)`, `(y, x)`."""
        return _flow(self.points, self.extent).vorticity(u)

    def force_coefficients(self, u: Array) -> tuple[float, float]:
        """Drag and lift coefficient of one snapshot `(2, y, x)`: force over (1/2) density U^2 diameter."""
        drag, lift = 2 * _flow(self.points, self.extent).force(u, 1 / self.reynolds)
        return float(drag), float(lift)

    def _integrate(self, u0: Array, times: Array) -> Array:
        resolution = self.resolution or self.points
        flow = _flow(resolution, self.extent)
        viscosity, longest = 1 / self.reynolds, self.longest_step
        u = flow.admissible(_resampled(u0, resolution, self.extent))
        out = np.empty((times.size, *u0.shape))
        out[0] = u0
        for i, interval in enumerate(np.diff(times)):
            steps = substeps(interval, longest)
            for _ in range(steps):
                u = ssp_rk3(lambda w: flow.rate(w, viscosity), u, interval / steps)
            largest = float(np.abs(u).max())
            if not largest <= _BOUND:
                why = f"max|u| is {largest:.3g}, above {_BOUND:g}: unstable. Use a smaller step"
                raise self.failed(times[i + 1], why)
            out[i + 1] = _resampled(u, self.points, self.extent)
        return out


def _two_counts(where: str, name: str, value: Sequence[int]) -> tuple[int, int]:
    if not isinstance(value, Sequence) or len(value) != 2:
        raise ConfigError(f"{where}: {name} is {value!r}, expected two numbers, (y, x)")
    return count(where, name, value[0], 24), count(where, name, value[1], 24)


def _extent(where: str, value: Sequence[float]) -> tuple[float, float, float]:
    if not isinstance(value, Sequence) or len(value) != 3:
        raise ConfigError(f"{where}: extent is {value!r}, expected three numbers, (upstream, downstream, to the side)")
    upstream, downstream, side = (positive(where, "extent", entry) for entry in value)
    if upstream < 3 or side < 3 or downstream < 4 + _SPONGE_LENGTH:
        raise ConfigError(
            f"{where}: extent is {value!r}, expected at least 3 upstream and to the side, and 8 downstream"
        )
    return upstream, downstream, side


def _axes(points: tuple[int, int], extent: tuple[float, float, float]) -> tuple[StretchedAxis, StretchedAxis]:
    """(x, y): finest at the cylinder; the law lets cells grow five times along x and 13 times towards the sides."""
    upstream, downstream, side = extent
    x = StretchedAxis(points[1], -upstream, downstream, (2.4, 1.0))
    return x, StretchedAxis(points[0], -side, side, (2.4, 2.4), limit=12.0)


def _smallest_cells(points: tuple[int, int], extent: tuple[float, float, float]) -> tuple[float, float]:
    """Along (y, x)."""
    x, y = _axes(points, extent)
    return float(y.sizes.min()), float(x.sizes.min())


@lru_cache(maxsize=8)
def _flow(points: tuple[int, int], extent: tuple[float, float, float]) -> ImmersedFlow:
    """The flow on this grid with the cylinder and the sponge in front of the outflow."""
    x, y = _axes(points, extent)
    cell = max(x.sizes.min(), y.sizes.min())
    radius = _RADIUS - _RETRACTION * cell
    number = int(2 * np.pi * radius / (_SPACING * cell)) // 2 * 2  # even, and symmetric about both axes
    angle = (np.arange(number) + 0.5) * (2 * np.pi / number)
    flow = ImmersedFlow(x, y, radius * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    ramp = np.clip((x.centres - extent[1] + _SPONGE_LENGTH) / _SPONGE_LENGTH, 0, 1) ** 2
    flow.damp(np.broadcast_to(_SPONGE_RATE * ramp, flow.shape), target=1.0)
    depth = (radius - np.hypot(x.centres, y.centres[:, None])) / cell
    flow.damp(_CORE_RATE * np.clip(depth, 0, 1), target=0.0)
    return flow


@lru_cache(maxsize=4)
def _street(extent: tuple[float, float, float]) -> Array:
    """Snapshots of one period of the developed vortex street on a coarse grid, `(phase, 2, y, x)`.

    40 x 80 cells in the box of the case; in any other as many as give cells of that size at the cylinder.
    """
    here = _smallest_cells((40, 80), extent)
    rows, columns = (
        max(24, round(n * now / wanted)) for n, now, wanted in zip((40, 80), here, _STREET_CELLS, strict=True)
    )
    solver = CylinderFlow2d(_STREET_REYNOLDS, (rows, columns), extent, step=_STREET_STEP)
    y, x = (np.array(axis.coordinates) for axis in solver.grid.axes)
    u0 = np.stack([np.ones(solver.grid.shape), np.exp(-((x - 1.5) ** 2) - y[:, None] ** 2)])
    times = _STREET_START + np.arange(_PHASES) * (_STREET_PERIOD / _PHASES)
    return solver._integrate(u0, np.concatenate([[0.0], times]))[1:]


def _mirrored(u: Array) -> Array:
    """The flow seen in a mirror on the axis y = 0."""
    return np.stack([u[0, ::-1], -u[1, ::-1]])


def _resampled(u: Array, points: tuple[int, int], extent: tuple[float, float, float]) -> Array:
    """Velocities on the same box with other numbers of cells, by sixth-order interpolation in the cells' index."""
    here = (u.shape[1], u.shape[2])
    if here == points:
        return u
    odd_x, even_x, odd_y, even_y = _interpolations(here, points, extent)
    # u - 1 is odd along x and even along y, v the other way round.
    return np.stack([even_y @ (u[0] - 1) @ odd_x.T + 1, odd_y @ u[1] @ even_x.T])


@lru_cache(maxsize=8)
def _interpolations(
    here: tuple[int, int], there: tuple[int, int], extent: tuple[float, float, float]
) -> tuple[Array, Array, Array, Array]:
    x, y = _axes(here, extent)
    return (
        x.interpolation(there[1], "odd"),
        x.interpolation(there[1], "even"),
        y.interpolation(there[0], "odd"),
        y.interpolation(there[0], "even"),
    )


CASES = (
    Case(
        "cylinder_flow_2d",
        "Vortex street behind a cylinder, random phase and swing at the start, Reynolds numbers 60 to 180",
        CylinderFlow2d,
        equidistant(20.0, 81),
        80,
        (Range("reynolds", 60.0, 180.0),),
    ),
)
