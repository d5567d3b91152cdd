"""Incompressible Navier-Stokes equations in a doubly periodic plane: vorticity, Fourier pseudo-spectral, ETDRK4."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from romvae.errors import ConfigError
from romvae.schema import Field
from romvae.solvers.arguments import count, finite, positive
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.box_march import solve_on_box
from romvae.solvers.groups import advance_in_groups, step_counts
from romvae.solvers.operators import fast_even
from romvae.solvers.spectral import FourierBox, periodic_grid, random_modes
from romvae.solvers.vorticity import VorticityAdvection, velocity

__all__ = ["CASES", "NavierStokes2d"]

Complex = NDArray[np.complex128]

_LEAST_DECAY = 0.03  # of the highest modes below the largest; errors are a few per cent where it is reached
_COURANT = 1.0  # grid widths of the internal grid that the fastest point of u0 may move in a step


class NavierStokes2d(Solver):
    """w_t + u . grad w = nu Laplace(w) - mu w + curl f for the vorticity w = v_x - u_y, div u = 0, periodic.

    The velocity is that of zero mean (`velocity` gives it). The advection of vorticity is the curl of the divergence
    of the stresses, four transforms a stage (`VorticityAdvection`); two thirds of the modes are kept, so that no
    product aliases; friction is exact (ETDRK4). The mean of w stays, and does nothing to the rest; without
    viscosity, friction and force energy and enstrophy are kept but for the error of the time steps.

    Cost and error on the case `navier_stokes_2d_decaying` (64 x 64 points, t in [0, 6], viscosity 0.0066 to 0.018;
    relative L2 over all stored times, eight trajectories, against 288 x 288 points and steps of 0.006; process
    time one by one on one core of an Intel Xeon that was busy otherwise too). Space decides, and the smallest
    viscosity is the worst; steps of 0.03 on 128 x 128 points are unstable for some:

    | resolution | step | worst error | median error | ms per trajectory |
    |---|---|---|---|---|
    | 64 | 0.03 | 4.9e-2 | 1.4e-2 | 95 |
    | 96 | 0.03 | 1.1e-2 | 1.8e-3 | 180 |
    | 128 | 0.02 | 2.4e-3 | 1.9e-4 | 420 |
    | 144 | 0.015 | 1.2e-3 | 6.8e-5 | 760 |
    | 144 | 0.01 | 1.2e-3 | 6.8e-5 | 1200 |
    | 192 | 0.01 | 1.4e-4 | 1.9e-6 | 2400 |

    The same on the case `kolmogorov_flow_2d` (t in [0, 20], Reynolds numbers 17 to 57, eight trajectories, against
    216 x 216 points and steps of 0.01). The worst is the flow at 57, chaotic enough for errors to grow twenty- to
    fortyfold after t = 10; on 144 x 144 points steps of 0.02 are unstable:

    | resolution | step | worst error | median error | worst at t = 20 | ms per trajectory |
    |---|---|---|---|---|---|
    | 64 | 0.04 | 2.4e-1 | 4.5e-4 | 8.5e-1 | 220 |
    | 72 | 0.04 | 1.5e-1 | 2.3e-4 | 5.8e-1 | 270 |
    | 96 | 0.025 | 9.0e-3 | 8.6e-6 | 3.5e-2 | 580 |
    | 108 | 0.025 | 4.3e-4 | 2.2e-6 | 1.2e-3 | 770 |
    | 108 | 0.02 | 4.3e-4 | 1.9e-6 | 1.3e-3 | 930 |
    | 108 | 0.0125 | 4.4e-4 | 1.8e-6 | 1.5e-3 | 1400 |
    | 144 | 0.0125 | 1.2e-5 | 4.4e-8 | 4.3e-5 | 2600 |

    Fourier transforms take about 60 % of that time. Many trajectories are advanced in blocks that stay in the cache,
    at these sizes one by one: sixteen together took 1.6 to 2.2 times as long each.

    Where it breaks: a field is resolved if its spectrum has fallen to a few per mille of its largest
    coefficient at the highest kept modes; above 3 % the solve is refused with a `NumericsError`. Without viscosity
    that happens soon. Steps are limited by the speed, about 1.4 / (highest wavenumber x (|u| + |v|)): a flow that gets
    faster than u0 suggests needs a given `step`.

    Arguments:
        viscosity: nu, length^2 per time; 0 is allowed, for as long as the field stays resolved.
        points: Grid points (y, x) of fields, or one number for both.
        lengths: Periods (L_y, L_x), or one number for both.
        drag: mu, per time: linear friction.
        forcing: F of the body force f = (F sin(2 pi n y / L_y), 0), length per time^2.
        forcing_mode: n.
        resolution: Internal points (y, x), of which two thirds of the modes are kept; None takes 1.5 `points`,
            which keeps the modes that the grid of the fields holds.
        step: Longest internal time step; None lets the fastest point of u0 move by one internal grid width.

    Raises:
        ConfigError: An argument is out of range.

    References:
        Kassam and Trefethen (2005), Fourth-order time-stepping for stiff PDEs, SIAM J. Sci. Comput. 26, 1214.
        Meshalkin and Sinai (1961), Investigation of the stability of a stationary solution of a system of equations
        for the plane movement of an incompressible viscous liquid, J. Appl. Math. Mech. 25, 1700.
        Chandler and Kerswell (2013), Invariant recurrent solutions embedded in a turbulent two-dimensional
        Kolmogorov flow, J. Fluid Mech. 722, 554, arXiv:1207.4682.
    """

    name: ClassVar[str] = "navier_stokes_2d"
    equation: ClassVar[str] = (
        "w_t + u . grad w = viscosity Laplace(w) - drag w + curl f, div u = 0, w = v_x - u_y, "
        "f = (forcing sin(2 pi forcing_mode y / L_y), 0)"
    )
    scheme: ClassVar[str] = "Fourier pseudo-spectral in stress form, 2/3 rule, ETDRK4"
    fields: ClassVar[tuple[Field, ...]] = (Field("vorticity", "1", "vorticity", pseudoscalar=True),)
    batched: ClassVar[bool] = True
    batched_ensembles: ClassVar[bool] = False

    def __init__(
        self,
        viscosity: float = 5e-3,
        points: int | Sequence[int] = 64,
        lengths: float | Sequence[float] = 2 * np.pi,
        drag: float = 0.0,
        forcing: float = 0.0,
        forcing_mode: int = 4,
        resolution: int | Sequence[int] | None = None,
        step: float | None = None,
    ) -> None:
        self.viscosity = self._not_negative("viscosity", viscosity)
        self.drag = self._not_negative("drag", drag)
        self.forcing = finite(self.name, "forcing", forcing)
        self.forcing_mode = count(self.name, "forcing_mode", forcing_mode, 1)
        self.points = tuple(count(self.name, "points", n, 8) for n in self._pair("points", points))
        self.lengths = tuple(positive(self.name, "length", extent) for extent in self._pair("lengths", lengths))
        if resolution is None:
            resolution = tuple(fast_even(1.5 * n) for n in self.points)
        self.resolution = tuple(count(self.name, "resolution", n, 8) for n in self._pair("resolution", resolution))
        self.step = None if step is None else positive(self.name, "step", step)
        self._box = FourierBox.dealiased(self.resolution, self.lengths)
        if self.forcing and self.forcing_mode > self._box.modes[0]:
            raise ConfigError(
                f"{self.name}: forcing_mode is {forcing_mode}, but {self.resolution[0]} internal points keep modes "
                f"up to {self._box.modes[0]}; raise resolution"
            )
        self.grid = periodic_grid(self.points, self.lengths)
        self.symmetries = () if self.forcing else self.grid.symmetries
        self.parameters = {"viscosity": self.viscosity, "drag": self.drag, "forcing": self.forcing}

    @classmethod
    def _not_negative(cls, name: str, value: Any) -> float:
        number = finite(cls.name, name, value)
        if number < 0:
            raise ConfigError(f"{cls.name}: {name} is {value!r}, expected a number of at least 0")
        return number

    @classmethod
    def _pair(cls, name: str, value: Any) -> tuple[Any, ...]:
        pair = tuple(value) if isinstance(value, Sequence) else (value, value)
        if len(pair) != 2:
            raise ConfigError(f"{cls.name}: {name} is {value!r}, expected one number, or two in the order (y, x)")
        return pair

    @property
    def settings(self) -> dict[str, Any]:
        """Extent, wavenumber of the forcing, internal resolution and step (None where it follows from u0)."""
        return {
            "lengths": list(self.lengths),
            "forcing_mode": self.forcing_mode,
            "resolution": list(self.resolution),
            "step": self.step,
        }

    def refined(self) -> NavierStokes2d:
        """Twice the internal points per axis, half the step."""
        step = None if self.step is None else self.step / 2
        return NavierStokes2d(
            self.viscosity,
            self.points,
            self.lengths,
            self.drag,
            self.forcing,
            self.forcing_mode,
            tuple(2 * n for n in self.resolution),
            step,
        )

    def conserved(self, u: Array) -> dict[str, Array]:
        """The circulation per area without drag; energy and enstrophy too without viscosity and forcing."""
        w = np.asarray(u)[..., 0, :, :]
        if self.drag:
            return {}
        kept = {"mean_vorticity": w.mean(axis=(-2, -1))}
        if not (self.viscosity or self.forcing):
            speed = velocity(w, self.lengths)
            kept["energy"] = 0.5 * (speed[0] ** 2 + speed[1] ** 2).mean(axis=(-2, -1))
            kept["enstrophy"] = 0.5 * (w**2).mean(axis=(-2, -1))
        return kept

    def initial(self, rng: np.random.Generator) -> Array:
        """Random eddies of root mean square vorticity 5, about five (on small grids fewer) per side, `(1, y, x)`."""
        return random_eddies(rng, self, peak=min(5.0, min(self.points) / 12), size=5.0)

    def longest_step(self, u0: Array) -> float:
        """The internal time step for this initial field where none is given."""
        u, v = velocity(u0[0], self.lengths)
        # A force F speeds the flow up by about sqrt(F L) before inertia balances it.
        fastest = float(np.sqrt(u * u + v * v).max()) + np.sqrt(abs(self.forcing) * self.lengths[0])
        width = min(length / n for length, n in zip(self.lengths, self.resolution, strict=True))
        return _COURANT * width / max(fastest, 1e-12)

    def _integrate(self, u0: Array, times: Array) -> Array:
        return self._advance([self], self.step or self.longest_step(u0), u0[None], times)[0]

    @classmethod
    def _integrate_many(cls, solvers: Sequence[NavierStokes2d], u0: Array, times: Array) -> Array:
        longest = [solver.step or solver.longest_step(u) for solver, u in zip(solvers, u0, strict=True)]
        plans = [(solver.resolution, step_counts(times, step)) for solver, step in zip(solvers, longest, strict=True)]
        return advance_in_groups(
            lambda rows: cls._advance([solvers[row] for row in rows], longest[rows[0]], u0[rows], times),
            plans,
            2 * math.prod(solvers[0].resolution),
            u0,
            times,
        )

    @staticmethod
    def _advance(solvers: Sequence[NavierStokes2d], longest: float, u0: Array, times: Array) -> Array:
        """Rows with the same resolution, `(row, time, 1, y, x)`."""
        box = solvers[0]._box
        linear = np.stack([-solver.viscosity * box.k_squared[None] - solver.drag for solver in solvers])
        forced = any(solver.forcing for solver in solvers)
        source = np.stack([solver._source()[None] for solver in solvers]) if forced else None
        return solve_on_box(solvers, box, linear, VorticityAdvection(box, source), u0, times, longest, _LEAST_DECAY)

    def _source(self) -> Complex:
        """The coefficients of curl f = -F k cos(k y), half of it in each of the modes +n and -n."""
        source = np.zeros(self._box.shape, dtype=np.complex128)
        n = self.forcing_mode
        if self.forcing:
            source[[n, -n], 0] = -self.forcing * np.pi * n / self.lengths[0]
        return source


def random_eddies(rng: np.random.Generator, solver: NavierStokes2d, peak: float, size: float) -> Array:
    """Random vorticity of zero mean whose spectrum peaks at mode `peak` of the longer side, `(1, y, x)`.

    Normal coefficients with a variance of k^4 exp(-2 (k / k_peak)^2), none above three times the peak;
    `size` is the expected root mean square.
    """
    k_peak = peak * 2 * np.pi / max(solver.lengths)
    highest = min(int(3 * peak), (min(solver.points) - 1) // 2)
    return (
        size
        * random_modes(
            rng, solver.points, solver.lengths, highest, lambda k: (k / k_peak) ** 4 * np.exp(-2 * (k / k_peak) ** 2)
        )[None]
    )


def _decaying(solver: NavierStokes2d, values: Mapping[str, float], rng: np.random.Generator) -> Array:
    return random_eddies(rng, solver, peak=4, size=4.0)


def _forced(solver: NavierStokes2d, values: Mapping[str, float], rng: np.random.Generator) -> Array:
    return random_eddies(rng, solver, peak=3, size=2.5)


CASES = (
    Case(
        "navier_stokes_2d_decaying",
        "Decaying two-dimensional turbulence in a periodic square, random eddies, viscosity in [0.006, 0.02]",
        partial(NavierStokes2d, points=64, resolution=144, step=0.015),
        equidistant(6.0, 101),
        160,
        (Range("viscosity", 0.006, 0.02, "log"),),
        _decaying,
    ),
    Case(
        "kolmogorov_flow_2d",
        "Flow driven by the force sin(4 y) in a periodic square, Reynolds number 1 / viscosity in [15, 60]",
        partial(NavierStokes2d, points=64, forcing=1.0, forcing_mode=4, resolution=108, step=0.02),
        equidistant(20.0, 101),
        160,
        (Range("viscosity", 1 / 60, 1 / 15, "log"),),
        _forced,
    ),
)
