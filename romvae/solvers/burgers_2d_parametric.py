"""Burgers equations for (u, v) in a square with held sides: the parametric problem of LaSDI-type papers."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
from scipy.interpolate import RectBivariateSpline

from romvae.errors import ConfigError
from romvae.schema import Axis, Boundary, Field, Grid
from romvae.solvers.arguments import count, finite, positive
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.burgers_2d_steppers import STEPPERS
from romvae.solvers.integrators import substeps

__all__ = ["CASES", "BurgersHeld2d"]

_COURANT = 0.5


class BurgersHeld2d(Solver):
    """w_t + (w . grad) w = Laplace(w) / Re for w = (u, v) >= 0 on a square, all sides held at their first values.

    Space as in GPLaSDI's two-dimensional Burgers problem: `points` nodes per axis, both walls included, first
    differences u_x = (u_ij - u_i,j-1) / dx in the advective form, five points for the Laplacian. `scheme` is

    * `lines`: Runge-Kutta of third order. The solution of these ordinary differential equations, that is what
      the published scheme tends to as its step goes to zero.
    * `gplasdi`: the same differences, backward Euler with steps of 0.005 and Newton's method, as published.
    * `conservative`: for u = v, cells with van Leer's slopes and Godunov's flux, Runge-Kutta of third order. What the
      equation itself does: its shock has the right speed.

    Nothing is conserved; u and v keep their sign and their largest value does not grow.

    Cost and error on the case `burgers_2d_parametric` (relative L2 over both fields and all times, against `lines`
    with steps of 3e-4; first three trajectories; process time of one core of an Intel Xeon):

    | scheme | step | worst error | ms per trajectory |
    |---|---|---|---|
    | lines | 5e-3 | 1.2e-5 | 75 |
    | lines | 2.5e-3 | 1.5e-6 | 104 |
    | lines | 1.25e-3 | 1.9e-7 | 178 |
    | gplasdi | 5e-3 | 0.027 (0.074 at the worst time, in the middle of the parameters) | 2840 |
    | conservative | 2.5e-3 | 0.44: another limit, see below | 177 |

    The case takes `lines` with steps of 5e-3: 38 times as fast as the published scheme, and closer to its limit.

    Where it breaks: only for velocities that are not negative, where backward differences are upwind. They act
    like a viscosity of |u| dx / 2, and in advective form they move an unresolved shock at a speed of their own:
    `lines` and `gplasdi` converge in time, but on 60 nodes to something that is far from the equation once the
    shock has formed. The published problem is this system of ordinary equations, not the equation.

    Arguments:
        reynolds: Re, that is 1 / viscosity in units of length 1 and velocity 1.
        points: Nodes per axis of fields, y and x alike.
        length: Extent of the square in the equation.
        origin: Coordinate of the lower ends.
        extent: Extent of the coordinates that label the nodes; None is `length`. The published problem lives on
            the unit square, but its nodes are labelled -3 to 3.
        resolution: Internal nodes per axis, m (points - 1) + 1 with a whole number m; None is `points`.
        scheme: `lines`, `gplasdi` or `conservative`.
        step: Longest time step; None takes 0.5 dx / (max u + max v) on the internal nodes, less where diffusion asks
            for it, and 0.005 for `gplasdi`.

    Raises:
        ConfigError: An argument is out of range.
    """

    name: ClassVar[str] = "burgers_2d_held"
    equation: ClassVar[str] = "u_t + u u_x + v u_y = Laplace(u) / reynolds, v_t + u v_x + v v_y = Laplace(v) / reynolds"
    scheme: ClassVar[str] = "backward differences, third-order Runge-Kutta (or backward Euler)"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("u", "1", "velocity along x"),
        Field("v", "1", "velocity along y"),
    )

    def __init__(
        self,
        reynolds: float = 1e4,
        points: int = 60,
        length: float = 1.0,
        origin: float = 0.0,
        extent: float | None = None,
        resolution: int | None = None,
        scheme: Literal["lines", "gplasdi", "conservative"] = "lines",
        step: float | None = None,
    ) -> None:
        self.reynolds = positive(self.name, "reynolds", reynolds)
        self.points = count(self.name, "points", points, 8)
        self.length = positive(self.name, "length", length)
        self.origin = finite(self.name, "origin", origin)
        self.extent = self.length if extent is None else positive(self.name, "extent", extent)
        self.resolution = self.points if resolution is None else count(self.name, "resolution", resolution, 8)
        if (self.resolution - 1) % (self.points - 1):
            raise ConfigError(
                f"{self.name}: resolution is {resolution}, expected m * {self.points - 1} + 1 with a whole number m, "
                "so that the stored nodes are among the internal ones"
            )
        if scheme not in STEPPERS:
            raise ConfigError(f"{self.name}: scheme is {scheme!r}, expected one of {', '.join(STEPPERS)}")
        self.variant = scheme
        self.step = None if step is None else positive(self.name, "step", step)
        nodes = tuple((self.origin + self.extent * np.linspace(0, 1, self.points)).tolist())
        held = Boundary("value", (("u", 0.0), ("v", 0.0)))
        self.grid = Grid(tuple(Axis(name, nodes, "1", held, held) for name in ("y", "x")))
        self.parameters = {}

    @property
    def settings(self) -> dict[str, Any]:
        """Reynolds number, extents, internal nodes, scheme and step; a step of None follows from u0."""
        return {
            "reynolds": self.reynolds,
            "length": self.length,
            "origin": self.origin,
            "extent": self.extent,
            "resolution": self.resolution,
            "scheme": self.variant,
            "step": self.step,
        }

    def refined(self) -> Self:
        """The same differential equations in time with half the step; the differences in space stay."""
        finer = copy(self)
        finer._fraction = self._fraction / 2
        return finer

    _fraction = 1.0  # of the longest step; smaller in a refined solver

    def initial(self, rng: np.random.Generator) -> Array:
        """The published Gaussian with random a in [0.7, 0.9] and w in [0.9, 1.1], in units of extent / 6."""
        return self.gaussian(rng.uniform(0.7, 0.9), rng.uniform(0.9, 1.1))

    def gaussian(self, a: float, w: float) -> Array:
        """U = v = a exp(-(X^2 + Y^2) / w), `(2, y, x)`; X and Y run from -3 to 3 across the square."""
        line = np.exp(-(np.linspace(-3, 3, self.points) ** 2) / w)
        return np.stack([a * np.outer(line, line)] * 2)

    def longest_step(self, u0: Array) -> float:
        """The longest time step for this initial field."""
        if self.step is not None:
            return self.step * self._fraction
        if self.variant == "gplasdi":
            return 0.005 * self._fraction
        dx = self.length / (self.resolution - 1)
        fastest = float(u0[0].max() + u0[1].max()) / dx + 4 / (self.reynolds * dx**2)
        return _COURANT / fastest * self._fraction

    def _integrate(self, u0: Array, times: Array) -> Array:
        if u0.min() < 0:
            raise ConfigError(
                f"{self.name}: initial field has the value {u0.min():.6g}, expected no negative velocity, for which "
                "backward differences are unstable; use Burgers2d"
            )
        if self.variant == "conservative" and not np.array_equal(u0[0], u0[1]):
            raise ConfigError(f"{self.name}: initial u and v differ, expected u = v for 'conservative'; use 'lines'")
        longest = self.longest_step(u0)
        stride = (self.resolution - 1) // (self.points - 1)
        w = _prolonged(u0, self.resolution)
        bound = 1.01 * w.max() + 1e-12
        advance = STEPPERS[self.variant](self)
        out = np.empty((times.size, *u0.shape))
        out[0] = u0
        for i, interval in enumerate(np.diff(times)):
            steps = substeps(interval, longest)
            for _ in range(steps):
                w = advance(w, interval / steps, times[i + 1])
            if not np.abs(w).max() <= bound:
                why = f"the largest velocity has grown beyond {bound:.3g}: unstable. Use a smaller step"
                raise self.failed(times[i + 1], why)
            out[i + 1] = w[:, ::stride, ::stride]
        return out


def _prolonged(u0: Array, nodes: int) -> Array:
    """Fields `(2, y, x)` at more nodes of the same square, by quintic splines that keep the given values."""
    if u0.shape[-1] == nodes:
        return u0
    coarse, fine = np.linspace(0, 1, u0.shape[-1]), np.linspace(0, 1, nodes)
    return np.stack([RectBivariateSpline(coarse, coarse, field, kx=5, ky=5)(fine, fine) for field in u0])


# The pairs (a, w) of the comparison this case is for: a grid of 3 x 3, and five between.
_TRAIN = (
    *((a, w) for a in (0.7, 0.8, 0.9) for w in (0.9, 1.0, 1.1)),
    *((0.74, 0.94), (0.86, 0.94), (0.74, 1.06), (0.86, 1.06), (0.8, 0.96)),
)
_GRID = tuple((round(0.7 + 0.02 * i, 2), round(0.9 + 0.02 * j, 2)) for i in range(11) for j in range(11))
_TEST = tuple(pair for pair in _GRID if pair not in _TRAIN)
_PARTS = ("variance", "test", "calibration", *("test",) * 5, "calibration", *("test",) * 3)


def _training_pairs(index: int, rng: np.random.Generator) -> tuple[Mapping[str, float], str | None]:
    """14 pairs for training; then the other 107 of the 11 x 11 grid for the test, and random ones between them."""
    if index < len(_TRAIN):
        a, w = _TRAIN[index]
        return {"a": a, "w": w}, "train"
    turn, place = divmod(index - len(_TRAIN), len(_PARTS))
    part = _PARTS[place]
    tested = turn * _PARTS.count("test") + _PARTS[:place].count("test")
    if part == "test" and tested < len(_TEST):
        a, w = _TEST[41 * tested % len(_TEST)]  # 41 and 107 have no common factor: all are met, far ones in turn
        return {"a": a, "w": w}, part
    return {"a": rng.uniform(0.7, 0.9), "w": rng.uniform(0.9, 1.1)}, part


def _gaussian(solver: BurgersHeld2d, values: Mapping[str, float], _: np.random.Generator) -> Array:
    return solver.gaussian(values["a"], values["w"])


CASES = (
    Case(
        "burgers_2d_parametric",
        "Burgers equations for (u, v) at Re = 10000 as published with GPLaSDI: a Gaussian of height a and width w",
        partial(BurgersHeld2d, points=60, origin=-3.0, extent=6.0, step=5e-3),
        equidistant(1.0, 201),
        157,
        (Range("a", 0.7, 0.9, of_initial=True), Range("w", 0.9, 1.1, of_initial=True)),
        _gaussian,
        _training_pairs,
    ),
)
