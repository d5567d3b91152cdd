"""Linear advection in one dimension, solved along its characteristics: no error in time."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
import scipy.fft
from scipy.interpolate import make_interp_spline

from romvae.schema import Boundary, Field, Grid
from romvae.solvers.arguments import count, finite, positive
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.initial import random_sines
from romvae.solvers.operators import uniform_axis, wavenumbers

__all__ = ["CASES", "Advection1d"]


class Advection1d(Solver):
    """u_t + c u_x = 0 on [0, L]: the initial field moves with speed c and keeps its shape.

    Periodic (`inflow=None`): the Fourier series of u0 is shifted by c t, exact for every field that the grid
    resolves. Bounded (`inflow` a number): that value enters at the upstream end, the field leaves freely at
    the other, and u(x, t) = u0(x - c t) is read off the quintic spline through u0, of sixth order in the grid
    spacing.

    Limitations: constant speed. A jump in u0 rings (Gibbs, spline overshoot); the jump between u0 and the
    inflow does not. On an even number of points the sawtooth mode cannot move and only changes its amplitude.

    Arguments:
        speed: c, length per time; either sign, not zero if `inflow` is given.
        points: Number of grid points.
        length: L.
        inflow: Value held at the upstream end; None makes the interval periodic.

    Raises:
        ConfigError: An argument is out of range.
    """

    name: ClassVar[str] = "advection_1d"
    equation: ClassVar[str] = "u_t + speed u_x = 0"
    scheme: ClassVar[str] = "characteristics: shifted Fourier series, or quintic spline with an inflow"
    exact: ClassVar[bool] = True
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "transported quantity"),)

    def __init__(self, speed: float = 1.0, points: int = 128, length: float = 1.0, inflow: float | None = None) -> None:
        self.speed = finite(self.name, "speed", speed)
        self.length = positive(self.name, "length", length)
        points = count(self.name, "points", points, 8)
        self.inflow = None if inflow is None else finite(self.name, "inflow", inflow)
        if self.inflow is None:
            ends = (Boundary("periodic"), Boundary("periodic"))
        else:
            direction = positive(self.name, "abs(speed)", abs(self.speed), "with an inflow the field has to move")
            held, free = Boundary("value", (("u", self.inflow),)), Boundary("open")
            ends = (held, free) if self.speed == direction else (free, held)
        self.grid = Grid((uniform_axis("x", points, self.length, ends),))
        self.parameters = {"speed": self.speed}

    @property
    def settings(self) -> dict[str, Any]:
        """Period or extent, and the inflow."""
        return {"length": self.length, "inflow": self.inflow}

    def conserved(self, u: Array) -> dict[str, Array]:
        """Mass and energy, the integrals of u and u^2 / 2; nothing with an inflow."""
        if self.inflow is not None:
            return {}
        q = u[..., 0, :]
        return {"mass": self.length * q.mean(axis=-1), "energy": self.length * (q**2 / 2).mean(axis=-1)}

    def initial(self, rng: np.random.Generator) -> Array:
        """Three random sines, `(1, x)`; where bounded, they fade towards the inflow value at both ends."""
        x = np.array(self.grid.axes[0].coordinates)
        u = random_sines(rng, x, self.length)
        if self.inflow is not None:
            u = self.inflow + u * np.sin(np.pi * x / self.length) ** 4
        return u[None]

    def _integrate(self, u0: Array, times: Array) -> Array:
        travelled = self.speed * (times - times[0])
        shifted = self._shift(u0[0], travelled) if self.inflow is None else self._trace(u0[0], travelled)
        return shifted[:, None]

    def _shift(self, u0: Array, travelled: Array) -> Array:
        coefficients = scipy.fft.rfft(u0)
        k = wavenumbers(coefficients.size - 1, self.length)
        return scipy.fft.irfft(coefficients * np.exp(-1j * travelled[:, None] * k), n=u0.size)

    def _trace(self, u0: Array, travelled: Array) -> Array:
        x = np.array(self.grid.axes[0].coordinates)
        foot = x - travelled[:, None]
        inside = (foot >= 0) & (foot <= self.length)
        # The first and last half cell lie outside the samples: the end polynomials continue there.
        spline = make_interp_spline(x, u0, k=5)
        traced: Array = np.full(foot.shape, self.inflow, dtype=np.float64)
        traced[inside] = spline(foot[inside])
        return traced


CASES = (
    Case(
        "advection_1d",
        "Linear advection of random large-scale fields on a periodic interval, random speed",
        partial(Advection1d, points=128),
        equidistant(1.0, 51),
        200,
        (Range("speed", 0.5, 1.5),),
    ),
)
