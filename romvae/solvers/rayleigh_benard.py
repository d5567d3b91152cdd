"""Rayleigh-Benard convection between two plates: Fourier modes along them, polynomials across, ETDRK4 in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from romvae.errors import ConfigError
from romvae.schema import Boundary, Field, Grid
from romvae.solvers.arguments import count, positive
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.boussinesq import boussinesq
from romvae.solvers.channel import ChannelModes, apply_real, channel_modes
from romvae.solvers.groups import advance_in_groups, step_counts
from romvae.solvers.integrators import ETDRK4, march
from romvae.solvers.operators import fast_even, highest_mode, synthesise, uniform_axis

__all__ = ["CASES", "RayleighBenard2d"]

Complex = NDArray[np.complex128]

_UNRESOLVED = 0.02  # of the largest coefficient, in the outer tenth of the modes along x or of the degrees in y
_COURANT = 1.5  # internal grid widths per step at the free-fall velocity


class RayleighBenard2d(Solver):
    """A fluid layer heated from below and cooled from above, Boussinesq approximation, two dimensions.

        u_t + (u . grad) u = -grad p + sqrt(Pr / Ra) Laplace(u) + T e_y,    div u = 0,
        T_t + u . grad T = Laplace(T) / sqrt(Pr Ra),    T = 1 at y = 0 and T = 0 at y = 1,

    in units of the height H, the temperature difference D and the free-fall time sqrt(H / (g alpha D)), in which
    speeds are of order 1. The plates are at rest or free of stress; x is periodic. No fluid is pumped along
    the plates: the net flux vanishes.

    The flow is a sum of Stokes modes, polynomials in y whose viscous decay is known, and the temperature one of
    conduction modes (`ChannelModes`): decay is exact by ETDRK4, there is no divergence and no splitting error,
    and the basis is the same for all Ra and Pr. Nothing is conserved: heat enters below, leaves above.

    A given u0 is read by least squares in y, among polynomials of a degree up to two thirds of the number of
    points. If the degree of `resolution` is at most that, stored fields hold the whole state, and going on from
    them is exact; above that (`refined`), what they cannot hold is lost. Divergence of u0 is dropped.

    Cost and error on the case `rayleigh_benard_2d` (48 x 96 points, t in [0, 25]; largest relative L2 error of the
    three fields at one of 26 times, the worst of three trajectories at each Ra, against (64, 192) and steps of
    0.0125; process time on one core of an Intel Xeon that was busy otherwise too):

    | resolution | step | Ra = 1e4 | Ra = 1e5 | Ra = 3e5 | ms per trajectory |
    |---|---|---|---|---|---|
    | (20, 64) | 0.05 | 2.8e-6 | 1.3e-3 | 1.1e-2 | 250 |
    | (24, 64) | 0.05 | 2.0e-7 | 4.2e-4 | 6.5e-3 | 310 |
    | (32, 64) | 0.05 | 1.2e-7 | 1.4e-4 | 5.8e-3 | 410 |
    | (32, 96) | 0.0625 | 2.2e-7 | 4.4e-5 | 2.1e-3 | 510 |
    | (32, 96) | 0.05 | 1.0e-7 | 4.4e-5 | 2.1e-3 | 590 |
    | (32, 96) | 0.042 | 7.2e-8 | 4.4e-5 | 2.1e-3 | 740 |
    | (40, 96) | 0.042 | 7.2e-8 | 4.6e-6 | 8.0e-4 | 1000 |
    | (40, 128) | 0.031 | 3.2e-8 | 4.5e-6 | 7.7e-4 | 1800 |
    | (48, 144) | 0.025 | 1.7e-8 | 5.2e-7 | 2.4e-4 | 3100 |

    Transforms along x take a third of that time and matrices across another third. In time the order is four
    between free plates and between three and four between plates at rest, where forces do not fulfil what the
    modes do; the error of the steps is the smaller one everywhere above.

    Where it breaks: the thermal boundary layers are about 1 / (2 Nu) thick, Nu = 4 to 5 at Ra = 1e5. A spectrum
    that has not decayed is refused with a `NumericsError`: raise `resolution`. Beyond Ra = 1e7 or so explicit
    steps become short, and the flow of a real fluid is no longer two-dimensional much earlier.

    Arguments:
        rayleigh: Ra = g alpha D H^3 / (nu kappa). Without motion up to 1707.76 (no_slip), 657.51 (stress_free).
        prandtl: Pr = nu / kappa.
        points: Grid points (y, x) of fields; y has cell centres, both walls half a cell outside.
        length: Period along x, in heights.
        walls: `no_slip` (u = v = 0) or `stress_free` (v = 0, u_y = 0).
        resolution: Polynomial degree in y, and internal points in x of which two thirds of the modes are kept;
            None takes two thirds of the points in y, and all of the modes that the points in x hold.
        step: Longest internal time step; None takes 1.5 internal grid widths at speed 1, or at max|u0| if
            that is larger.

    Raises:
        ConfigError: An argument is out of range.

    References:
        Chandrasekhar (1961), Hydrodynamic and Hydromagnetic Stability, chapter II (critical Rayleigh numbers).
        Shen (1994), Efficient spectral-Galerkin method I, SIAM J. Sci. Comput. 15, 1489.
        Hochbruck and Ostermann (2005), Explicit exponential Runge-Kutta methods for semilinear parabolic problems,
        SIAM J. Numer. Anal. 43, 1069 (the order at walls).
    """

    name: ClassVar[str] = "rayleigh_benard_2d"
    equation: ClassVar[str] = (
        "u_t + (u . grad) u = -grad p + sqrt(prandtl / rayleigh) Laplace(u) + T e_y, div u = 0, "
        "T_t + u . grad T = Laplace(T) / sqrt(prandtl rayleigh)"
    )
    scheme: ClassVar[str] = "Fourier-Legendre Galerkin in Stokes and conduction modes, 2/3 rule, ETDRK4"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("temperature", "1", "temperature"),
        Field("u", "1", "velocity along x", "velocity", "x"),
        Field("v", "1", "velocity along y", "velocity", "y"),
    )
    symmetries: tuple[str, ...] = ("reflect_x",)
    batched: ClassVar[bool] = True
    batched_ensembles: ClassVar[bool] = False

    def __init__(
        self,
        rayleigh: float = 1e5,
        prandtl: float = 1.0,
        points: Sequence[int] = (48, 96),
        length: float = 2.0,
        walls: Literal["no_slip", "stress_free"] = "no_slip",
        resolution: Sequence[int] | None = None,
        step: float | None = None,
    ) -> None:
        self.rayleigh = positive(self.name, "rayleigh", rayleigh)
        self.prandtl = positive(self.name, "prandtl", prandtl)
        self.points = self._pair("points", points, (12, 8))
        self.length = positive(self.name, "length", length)
        if walls not in ("no_slip", "stress_free"):
            raise ConfigError(f"{self.name}: walls is {walls!r}, expected no_slip or stress_free")
        self.walls: Literal["no_slip", "stress_free"] = walls
        if resolution is None:
            resolution = (2 * self.points[0] // 3, fast_even(1.5 * self.points[1]))
        self.resolution = self._pair("resolution", resolution, (8, 8))
        self.step = None if step is None else positive(self.name, "step", step)
        ends = (Boundary("periodic"), Boundary("periodic"))
        self.grid = Grid(
            (
                uniform_axis("y", self.points[0], 1.0, self._plates()),
                uniform_axis("x", self.points[1], self.length, ends),
            )
        )
        self.parameters = {"rayleigh": self.rayleigh, "prandtl": self.prandtl}

    @classmethod
    def _pair(cls, name: str, value: Any, least: tuple[int, int]) -> tuple[int, int]:
        if not isinstance(value, Sequence) or len(value) != 2:
            raise ConfigError(f"{cls.name}: {name} is {value!r}, expected two numbers in the order (y, x)")
        return count(cls.name, name, value[0], least[0]), count(cls.name, name, value[1], least[1])

    def _plates(self) -> tuple[Boundary, Boundary]:
        if self.walls == "stress_free":  # T and v are held but u is not: "wall" continues all of them linearly
            return Boundary("wall"), Boundary("wall")
        rest = (("u", 0.0), ("v", 0.0))
        return Boundary("value", (("temperature", 1.0), *rest)), Boundary("value", (("temperature", 0.0), *rest))

    @property
    def settings(self) -> dict[str, Any]:
        """Extent, walls, internal resolution and step (None where it follows from u0)."""
        return {
            "length": self.length,
            "walls": self.walls,
            "resolution": list(self.resolution),
            "step": self.step,
        }

    @property
    def modes(self) -> ChannelModes:
        """The modes that flow and temperature are sums of."""
        degree, points = self.resolution
        return channel_modes(degree, self.walls == "no_slip", highest_mode(points), self.length)

    def refined(self) -> RayleighBenard2d:
        """1.5 times the degree in y, twice the internal points in x, half the step."""
        return RayleighBenard2d(
            self.rayleigh,
            self.prandtl,
            self.points,
            self.length,
            self.walls,
            (3 * self.resolution[0] // 2, 2 * self.resolution[1]),
            None if self.step is None else self.step / 2,
        )

    def initial(self, rng: np.random.Generator) -> Array:
        """Fluid at rest, conduction and a smooth random disturbance of the temperature by at most 0.1, `(3, y, x)`.

        Wavenumbers 1 to 6 along x, 1 to 3 half waves in y, normal amplitudes that fall off with the latter.
        """
        y, x = (np.array(axis.coordinates) for axis in self.grid.axes)
        waves = np.exp(2j * np.pi / self.length * np.arange(1, 7)[:, None] * x)
        across = np.sin(np.pi * np.arange(1, 4)[:, None] * y) / np.arange(1, 4)[:, None]
        real, imaginary = rng.standard_normal((2, 3, 6))
        disturbance = (across.T @ (real + 1j * imaginary) @ waves).real
        out = np.zeros(self.shape)
        out[0] = 1 - y[:, None] + 0.1 * disturbance / np.abs(disturbance).max()
        return out

    def nusselt(self, u: Array) -> tuple[float, float, float]:
        """Heat flux in units of that of conduction: mean over the fluid, at the lower, at the upper plate.

        Arguments:
            u: One snapshot `(3, y, x)`.
        """
        s, modes = self._analyse(u[None])[..., 0], self.modes
        flows = modes.decay.shape[1]
        n = modes.nodes.size
        v = -1j * apply_real(modes.speeds(modes.nodes), s[:, :flows])[:, n:]
        theta = apply_real(modes.heat(modes.nodes), s[:, flows:])
        both = np.where(modes.k > 0, 2.0, 1.0)  # k and -k
        carried = float(both @ (v * theta.conj()).real @ modes.weights)
        lower, upper = 1 - modes.heat(np.array([0.0, 1.0]), 1) @ s[0, flows:].real
        return 1 + float(np.sqrt(self.prandtl * self.rayleigh)) * carried, float(lower), float(upper)

    def _integrate(self, u0: Array, times: Array) -> Array:
        return self._advance([self], self.step or self._longest_step(u0), u0[None], times)[0]

    @classmethod
    def _integrate_many(cls, solvers: Sequence[RayleighBenard2d], u0: Array, times: Array) -> Array:
        longest = [solver.step or solver._longest_step(u) for solver, u in zip(solvers, u0, strict=True)]
        plans = [
            (solver.walls, solver.resolution, step_counts(times, step))
            for solver, step in zip(solvers, longest, strict=True)
        ]
        return advance_in_groups(
            lambda rows: cls._advance([solvers[row] for row in rows], longest[rows[0]], u0[rows], times),
            plans,
            3 * math.prod(solvers[0].resolution),
            u0,
            times,
        )

    @classmethod
    def _advance(cls, solvers: Sequence[RayleighBenard2d], longest: float, u0: Array, times: Array) -> Array:
        """Rows with the same walls and resolution, `(row, time, 3, y, x)`."""
        own, modes = solvers[0], solvers[0].modes
        rate = boussinesq(modes, own.resolution[1])
        rayleigh, prandtl = (
            np.array([getattr(solver, name) for solver in solvers]) for name in ("rayleigh", "prandtl")
        )
        viscous = np.sqrt(prandtl / rayleigh) * modes.decay[..., None]
        conductive = modes.heat_decay[..., None] / np.sqrt(prandtl * rayleigh)
        linear = -np.concatenate([viscous, conductive], axis=1)
        out = np.empty((len(solvers), times.size, *u0.shape[1:]))
        out[:, 0] = u0
        start = own._analyse(u0)
        for i, s in march(lambda step: ETDRK4(linear, rate, step), start, times, longest):
            cls._check(solvers, s, times[i])
            out[:, i] = own._synthesise(s)
        return out

    def _longest_step(self, u0: Array) -> float:
        width = min(self.length / self.resolution[1], 1 / self.modes.nodes.size)
        return _COURANT * width / max(1.0, float(np.abs(u0[1:]).max()))

    def _analyse(self, u: Array) -> Complex:
        """The states `(k, flow modes, then heat modes, row)` of snapshots `(row, 3, y, x)`."""
        deviation = u.copy()
        deviation[:, 0] -= _conduction(self.points[0])
        known = scipy.fft.rfft(deviation, axis=3, norm="forward").transpose(1, 3, 2, 0)[:, : self.modes.k.size]
        if self.points[1] % 2 == 0 and known.shape[1] > self.points[1] // 2:
            known[:, self.points[1] // 2] = 0  # of the highest wave of an even grid only the cosine is known
        every = np.zeros((3, self.modes.k.size, self.points[0], u.shape[0]), dtype=np.complex128)
        every[:, : known.shape[1]] = known
        theta, along, across = every
        to_flow, to_heat = _fits(self.modes, self.points[0])
        flow = apply_real(to_flow, np.concatenate([along, 1j * across], axis=1))
        return np.concatenate([flow, apply_real(to_heat, theta)], axis=1)

    def _synthesise(self, s: Complex) -> Array:
        """The snapshots `(row, 3, y, x)` of states `(k, mode, row)`."""
        speeds, heat = _samples(self.modes, self.points[0])
        flow = apply_real(speeds, s[:, : speeds.shape[2]])
        along, across = flow[:, : self.points[0]], -1j * flow[:, self.points[0] :]
        hats = np.stack([apply_real(heat, s[:, speeds.shape[2] :]), along, across])
        out = synthesise(hats.transpose(3, 0, 2, 1), self.points[1])
        out[:, 0] += _conduction(self.points[0])
        return out

    @staticmethod
    def _check(solvers: Sequence[RayleighBenard2d], s: Complex, time: float) -> None:
        """Refuses rows of states `(k, mode, row)` whose spectrum has not decayed, or that are not finite."""
        own = solvers[0]
        if own.unresolved_allowed:
            return
        for size in map(np.abs, own.modes.polynomials(s)):
            waves, degrees = (max(1, n // 10) for n in size.shape[:2])
            tail = np.maximum(size[-waves:].max(axis=(0, 1)), size[:, -degrees:].max(axis=(0, 1)))
            decayed = tail <= _UNRESOLVED * size.max(axis=(0, 1)) + 1e-13
            if not decayed.all():
                raise solvers[int(np.argmin(decayed))].failed(
                    time,
                    f"the spectrum has not decayed at the highest modes (resolution={own.resolution}). "
                    "Raise resolution, or lower step if the flow is fast",
                )


def _centres(points: int) -> Array:
    return (np.arange(points) + 0.5) / points


def _conduction(points: int) -> Array:
    return 1 - _centres(points)[:, None]


@lru_cache(maxsize=8)
def _fits(modes: ChannelModes, points: int) -> tuple[Array, Array]:
    return modes.fits(_centres(points))


@lru_cache(maxsize=8)
def _samples(modes: ChannelModes, points: int) -> tuple[Array, Array]:
    return modes.speeds(_centres(points)), modes.heat(_centres(points))


CASES = (
    Case(
        "rayleigh_benard_2d",
        "Rayleigh-Benard convection between plates at rest, random disturbance, Rayleigh number in [1e4, 3e5]",
        partial(RayleighBenard2d, points=(48, 96), length=2.0, resolution=(32, 96), step=0.05),
        equidistant(25.0, 101),
        100,
        (Range("rayleigh", 1e4, 3e5, "log"),),
    ),
)
