"""Wave equation in one dimension, exact in time through the eigenfunctions of the interval."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from romvae.errors import ConfigError
from romvae.schema import Boundary, Field, Grid
from romvae.solvers.arguments import Side, count, positive, sides
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.eigenbasis import Eigenbasis
from romvae.solvers.operators import uniform_axis

__all__ = ["CASES", "Wave1d"]

_INITIAL_MODES = 8


class Wave1d(Solver):
    """u_t = v, v_t = c^2 u_xx on [0, L], each end fixed or free, or both periodic.

    With the eigenfunctions of the interval every mode is an oscillator of frequency omega = c k,

        u_k(t) = u_k cos(omega t) + v_k sin(omega t) / omega        v_k(t) = v_k cos(omega t) - omega u_k sin(omega t)

    so that there is no error in time, and in space none beyond the aliasing of u0. Kept: the energy, the integral
    of (v^2 + c^2 u_x^2) / 2, to round-off; and the momentum, the integral of v, where no end is fixed.

    Cost: one trajectory of the case `wave_1d` (128 points, 101 times) takes 0.6 ms on one core: the transforms
    of all times are done together, and the times may lie as far apart as one likes.

    Where it breaks: a jump or a kink in u0 rings (Gibbs) on its way. Constant speed, no damping. On a periodic axis
    of an even number of points the sawtooth mode stands and does not travel.

    Arguments:
        speed: c, length per time.
        points: Number of grid points.
        length: L.
        boundary: One entry or (lower, upper): `periodic`; `value` (fixed, u = 0) or `reflecting` (free, u_x = 0).

    Raises:
        ConfigError: An argument is out of range, or an end is held at another value than 0.

    References:
        d'Alembert (1747), Recherches sur la courbe que forme une corde tendue mise en vibration, Histoire de l'Academie
        royale des sciences et belles lettres de Berlin 3, 214.
    """

    name: ClassVar[str] = "wave_1d"
    equation: ClassVar[str] = "u_t = v, v_t = speed^2 u_xx"
    scheme: ClassVar[str] = "eigenfunctions of the interval, exact in time"
    exact: ClassVar[bool] = True
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "displacement"), Field("v", "1", "velocity"))

    def __init__(
        self,
        speed: float = 1.0,
        points: int = 128,
        length: float = 1.0,
        boundary: Side | Sequence[Side] = "periodic",
    ) -> None:
        self.speed = positive(self.name, "speed", speed)
        self.length = positive(self.name, "length", length)
        ends = sides(self.name, boundary, ("periodic", "reflecting", "value"))
        for side in ends:
            if side.kind == "value" and dict(side.value)["u"] != 0:
                raise ConfigError(
                    f"{self.name}: an end is held at {dict(side.value)['u']:g}, expected 0; subtract the straight line "
                    "between the held values from u"
                )
        self.grid = Grid((uniform_axis("x", count(self.name, "points", points, 8), self.length, _hold_both(ends)),))
        self.symmetries = self.grid.symmetries
        self.parameters = {"speed": self.speed}
        self._basis = Eigenbasis(points, self.length, (ends[0].kind, ends[1].kind))
        self._square = self._basis.wavenumbers**2

    @property
    def settings(self) -> dict[str, Any]:
        """The extent."""
        return {"length": self.length}

    def conserved(self, u: Array) -> dict[str, Array]:
        """Energy, and momentum where no end is fixed."""
        displacement, velocity = u[..., 0, :], u[..., 1, :]
        curvature = self._basis.inverse(-self._square * self._basis.forward(displacement, -1), -1).real
        # Integrated by parts: the ends contribute nothing, whether fixed or free.
        energy = self.length * (velocity**2 - self.speed**2 * displacement * curvature).mean(axis=-1) / 2
        if any(kind == "value" for kind in self._basis.ends):
            return {"energy": energy}
        return {"energy": energy, "momentum": self.length * velocity.mean(axis=-1)}

    def initial(self, rng: np.random.Generator) -> Array:
        """Random smooth displacement and velocity, `(2, x)`, as strong as each other; max|u| is about 1 to 2."""
        phi, k = self._basis.modes(_INITIAL_MODES, np.array(self.grid.axes[0].coordinates))
        weight = (k > 0) / (1 + (k * self.length / (3 * np.pi)) ** 2)
        amplitude = rng.standard_normal((2, _INITIAL_MODES)) * weight
        amplitude /= np.sqrt((amplitude**2).sum() / 2)
        amplitude[1] *= self.speed * k
        return amplitude @ phi

    def _integrate(self, u0: Array, times: Array) -> Array:
        elapsed = (times - times[0])[:, None]
        frequency = self.speed * np.sqrt(self._square)
        u, v = self._basis.forward(u0, -1)
        cosine = np.cos(frequency * elapsed)
        # sin(omega t) / omega is t at omega = 0: there u grows by v t.
        sine = elapsed * np.sinc(frequency * elapsed / np.pi)
        modes = np.stack([u * cosine + v * sine, v * cosine - u * frequency**2 * sine], axis=1)
        return self._basis.inverse(modes, -1).real


def _hold_both(ends: tuple[Boundary, Boundary]) -> tuple[Boundary, Boundary]:
    """The same ends, where a fixed one holds the velocity at 0 too."""
    still = Boundary("value", (("u", 0.0), ("v", 0.0)))
    lower, upper = (still if end.kind == "value" else end for end in ends)
    return lower, upper


CASES = (
    Case(
        "wave_1d",
        "Wave equation on a string with one fixed and one free end, random smooth displacement, velocity and speed",
        partial(Wave1d, points=128, boundary=("value", "reflecting")),
        equidistant(2.0, 101),
        600,
        (Range("speed", 0.5, 1.5),),
    ),
)
