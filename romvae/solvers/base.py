"""What every reference solver and every named case is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from romvae.errors import ConfigError, NumericsError
from romvae.schema import Field, Grid
from romvae.solvers.arguments import increasing_times

__all__ = ["Array", "Case", "Draw", "Range", "Solver", "equidistant"]

Array = NDArray[np.float64]


class Solver(ABC):
    """A reference simulation of one equation on one grid.

    Grids: a periodic axis of `points` points and length L has x_i = origin + i L / points (the far end is the
    first point again); a bounded axis has the centres of `points` equal cells, x_i = origin + (i + 1/2) L /
    points, so that both walls lie half a cell outside the first and the last point.

    A subclass sets `grid` and `parameters` in its constructor and writes `initial` and `_integrate`; one that
    can advance many trajectories at once overrides `_integrate_many` too and sets `batched`. A subclass of such a one
    that overrides `_integrate` alone is advanced one by one.
    `romvae.solvers.verify_solver` holds it to the laws below.

    Attributes:
        name: What messages and stores call the solver.
        equation: The equation in plain text.
        scheme: The discretisation in a few words.
        exact: Whether the only errors are those of round-off and of sampling `u0` on the grid.
        fields: Name, units and long name of every field, in the order of the arrays' first axis.
        units: Units of parameters, axes and `time`; what is not listed is dimensionless ("1").
        batched: Whether `solve_many` advances all trajectories together.
        batched_ensembles: Whether `simulate` uses that, in blocks of a fixed size; of little use where a trajectory
            alone is work enough, and then a trajectory that fails or is asked for alone costs a whole block.
        unresolved_allowed: Whether a result is given although its highest modes hold too much, which is refused
            otherwise: for who measures the error of a coarse run, as `romvae.compare` does.
        symmetries: Reflections and quarter turns that take solutions to solutions for every value of the parameters,
            such as `reflect_x`; see `romvae.symmetry.Operation` for what they do to the components of vectors.
        grid: The axes, in the order z, y, x, with what holds at their ends.
        parameters: Physical parameters by name, such as `viscosity`.
    """

    name: ClassVar[str]
    equation: ClassVar[str]
    scheme: ClassVar[str] = ""
    exact: ClassVar[bool] = False
    fields: ClassVar[tuple[Field, ...]]
    units: ClassVar[Mapping[str, str]] = {}
    batched: ClassVar[bool] = False
    batched_ensembles: ClassVar[bool] = True
    symmetries: tuple[str, ...] = ()
    unresolved_allowed: bool = False

    grid: Grid
    parameters: Mapping[str, float]

    @property
    def settings(self) -> dict[str, Any]:
        """What the numbers depend on beside the parameters (resolution, step, tolerance), for the record."""
        return {}

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """Which grid points belong to the domain, `(*space)`; None where all do (no obstacle)."""
        return None

    def refined(self) -> Self | None:
        """The same problem on the same output grid, computed more accurately; None where there is no such knob.

        About twice the internal resolution, and a smaller step or tolerance: what changes between the two is
        an estimate of the error of this solver. It accepts the same `u0`.
        """
        return None

    def coarsened(self) -> Mapping[str, Solver]:
        """Cheaper and less accurate versions by name, from the most accurate to the cheapest.

        For solvers whose constructor has none of the arguments that `romvae.compare` knows how to lower (`points`,
        `resolution`, `refinement`, `step`, `tolerance`). Each accepts what this one accepts; its grid may be another.
        """
        return {}

    def conserved(self, u: Array) -> dict[str, Array]:
        """What the equation keeps constant in time, such as mass or energy, up to the discretisation.

        Arguments:
            u: Fields `(..., field, *space)` in physical units.

        Returns:
            Name to values `(...)`; empty where nothing is conserved.
        """
        return {}

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one snapshot, `(field, *space)`."""
        return (len(self.fields), *self.grid.shape)

    def units_of(self, parameters: Iterable[str]) -> dict[str, str]:
        """Stated units of its fields, of its axes and `time`, and of some parameters; a class may state more."""
        there = {"time", *self.grid.names, *parameters}
        return {name: u for name, u in self.units.items() if name in there} | {f.name: f.units for f in self.fields}

    @abstractmethod
    def initial(self, rng: np.random.Generator) -> Array:
        """A random initial field that suits the boundary, `(field, *space)` in physical units."""

    @abstractmethod
    def _integrate(self, u0: Array, times: Array) -> Array:
        """`(time, field, *space)` for checked float64 arguments that it must not change."""

    @classmethod
    def _integrate_many(cls, solvers: Sequence[Any], u0: Array, times: Array) -> Array:
        """`(trajectory, time, field, *space)`; row i belongs to `solvers[i]` and to `u0[i]`."""
        return np.stack([solver._integrate(u, times) for solver, u in zip(solvers, u0, strict=True)])

    def solve(self, u0: ArrayLike, times: ArrayLike) -> Array:
        """The solution at the given times.

        Arguments:
            u0: Field at `times[0]`, `(field, *space)` in physical units.
            times: Strictly increasing times, in the units of `units["time"]`; any spacing.

        Returns:
            float64 `(time, field, *space)`; the first entry is `u0` itself.

        Raises:
            ConfigError: `u0` or `times` do not fit.
            NumericsError: The computation failed; the message names time, parameters and why.
        """
        return self.solve_many([self], np.asarray(u0, dtype=np.float64)[None], times)[0]

    @classmethod
    def solve_many(cls, solvers: Sequence[Any], u0: ArrayLike, times: ArrayLike) -> Array:
        """Solutions of many trajectories at the same times; faster than one by one where `batched`.

        Arguments:
            solvers: One solver of this class per trajectory, on the same grid.
            u0: Fields at `times[0]`, `(trajectory, field, *space)`.
            times: Strictly increasing times.

        Returns:
            float64 `(trajectory, time, field, *space)`.

        Raises:
            ConfigError: `u0` or `times` do not fit.
            NumericsError: The computation failed; the message names time, parameters and why.
        """
        t = increasing_times(cls.name, times)
        start = np.array(u0, dtype=np.float64)
        if not solvers or any(solver.grid != solvers[0].grid for solver in solvers):
            raise ConfigError(f"{cls.name}: expected at least one solver, and all on the same grid")
        expected = (len(solvers), *solvers[0].shape)
        if start.shape != expected:
            raise ConfigError(
                f"{cls.name}: initial field has shape {start.shape[1:]}, expected (field, *space) = {expected[1:]}"
            )
        if not np.isfinite(start).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(start))[0][1:])
            raise ConfigError(f"{cls.name}: initial field is not finite at index {index}; repair it")
        with np.errstate(over="ignore", invalid="ignore"):
            u = cls._many()(solvers, start, t)
        _check_finite(solvers, u, t)
        u[:, 0] = start
        return u

    @classmethod
    def _many(cls) -> Callable[[Sequence[Any], Array, Array], Array]:
        """`_integrate_many`, unless a subclass has another `_integrate`, which that does not know of."""
        own, many = (
            next(i for i, c in enumerate(cls.__mro__) if name in vars(c)) for name in ("_integrate", "_integrate_many")
        )
        if own < many:
            return lambda solvers, u0, times: np.stack(
                [solver._integrate(u, times) for solver, u in zip(solvers, u0, strict=True)]
            )
        return cls._integrate_many

    def failed(self, time: float, why: str) -> NumericsError:
        """The error to raise where a computation breaks down."""
        values = ", ".join(f"{name}={value:.6g}" for name, value in self.parameters.items())
        return NumericsError(f"{self.name}: failed at t={time:.6g} ({values}): {why}")


def _check_finite(solvers: Sequence[Solver], u: Array, times: Array) -> None:
    good = np.isfinite(u).all(axis=tuple(range(2, u.ndim)))
    if not good.all():
        row, step = np.argwhere(~good)[0]
        raise solvers[row].failed(times[step], "the field is not finite. Use a smaller step or a higher resolution")


@dataclass(frozen=True)
class Range:
    """A parameter that varies over an ensemble, and the interval that it is drawn from.

    Arguments:
        name: An argument of the solver, or a parameter of the initial field.
        low: Lower end.
        high: Upper end.
        scale: `linear` draws uniformly, `log` uniformly in the logarithm.
        of_initial: Whether it shapes the initial field and is unknown to the solver.
    """

    name: str
    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"
    of_initial: bool = False

    def at(self, fraction: float) -> float:
        """The value at a fraction of the interval, from 0 (`low`) to 1 (`high`)."""
        if self.scale == "log":
            return math.exp(math.log(self.low) + fraction * (math.log(self.high) - math.log(self.low)))
        return self.low + fraction * (self.high - self.low)

    def draw(self, rng: np.random.Generator) -> float:
        """A random value; takes one number from `rng`."""
        if self.scale == "log":
            return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class Draw:
    """One member of an ensemble: the solver with its parameters, and the initial field.

    Arguments:
        solver: With the physical parameters of this trajectory.
        u0: Initial field, `(field, *space)`.
        parameters: Parameters to store beside the solver's own, such as those of the initial field.
        split: The part of the data this trajectory belongs to by the case's own rule; None leaves it to
            `romvae.split`.
    """

    solver: Solver
    u0: Array
    parameters: Mapping[str, float] = field(default_factory=dict)
    split: str | None = None


@dataclass(frozen=True)
class Case:
    """A named, complete problem: everything that `simulate` needs.

    Arguments:
        name: As typed on the command line.
        description: One sentence.
        solver: Makes the solver from the values of `ranges` as keyword arguments, such as
            `partial(Burgers1d, points=256)`; the same class and grid for all values. Picklable, for several processes.
        times: The stored times, strictly increasing.
        n_trajectories: The default size of the ensemble.
        ranges: What varies over the ensemble beside the initial field.
        initial: `initial(solver, values, rng)` gives the initial field `(field, *space)`; None takes
            `solver.initial(rng)`.
        plan: `plan(index, rng)` gives values and part of the data of trajectory `index` where the case prescribes
            them (a training grid, say); None draws the values from `ranges`.
    """

    name: str
    description: str
    solver: Callable[..., Solver]
    times: tuple[float, ...]
    n_trajectories: int
    ranges: tuple[Range, ...] = ()
    initial: Callable[[Any, Mapping[str, float], np.random.Generator], Array] | None = None
    plan: Callable[[int, np.random.Generator], tuple[Mapping[str, float], str | None]] | None = None

    def draw(self, index: int, seed: int = 0, values: Mapping[str, float] | None = None) -> Draw:
        """Trajectory number `index` of the ensemble `seed`; it depends on the arguments only.

        Arguments:
            index: Number of the trajectory.
            seed: Selects the ensemble.
            values: Parameters to use instead of those that belong to (seed, index); the initial field is still
                drawn with the random numbers of (seed, index).
        """
        rng = np.random.default_rng(np.random.SeedSequence((seed, index)))
        split: str | None = None
        if self.plan is None:
            drawn: Mapping[str, float] = {r.name: r.draw(rng) for r in self.ranges}
        else:
            drawn, split = self.plan(index, rng)
        if values is not None:
            drawn, split = values, None
        of_initial = {r.name for r in self.ranges if r.of_initial}
        solver = self.solver(**{name: value for name, value in drawn.items() if name not in of_initial})
        u0 = solver.initial(rng) if self.initial is None else self.initial(solver, drawn, rng)
        return Draw(solver, u0, {name: value for name, value in drawn.items() if name in of_initial}, split)


def equidistant(end: float, number: int) -> tuple[float, ...]:
    """`number` times from 0 to `end`."""
    return tuple(np.linspace(0.0, end, number).tolist())
