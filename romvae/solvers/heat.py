"""Heat conduction in one, two and three dimensions, exact in time through the eigenfunctions of the box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from romvae.errors import ConfigError
from romvae.schema import SPACE, Field, Grid
from romvae.solvers.arguments import Side, count, positive, sides
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.eigenbasis import Eigenbasis
from romvae.solvers.groups import advance_in_groups
from romvae.solvers.operators import uniform_axis

__all__ = ["CASES", "Heat"]

_INITIAL_MODES = 5


class Heat(Solver):
    """u_t = kappa Laplace(u) on a box, each side of each axis periodic, insulated or held at a value.

    With the eigenfunctions of the box, every coefficient decays by exp(-kappa k^2 t), so there is no error in
    time, and in space none beyond the aliasing of u0. Values are held at the walls by subtracting a steady
    field that fulfils them.

    Where it breaks: a u0 that contradicts a held value jumps at the wall at t=0, and the series rings (Gibbs)
    until diffusion has smoothed the jump over a few cells, t > dx^2 / kappa. Constant conductivity; no
    source.

    Arguments:
        diffusivity: kappa, length^2 per time.
        points: Grid points per axis in the order (z,) (y,) x; one number for 1-D.
        lengths: Extent per axis in the same order, or one number for all.
        boundaries: Axis name to its end conditions, (lower, upper) or one for both: `periodic`, `reflecting`
            (no flux), or a number at which u is held (`value` is 0). Axes that are left out are periodic.

    Raises:
        ConfigError: An argument is out of range, or held values contradict each other at an edge of the box.
    """

    name: ClassVar[str] = "heat"
    equation: ClassVar[str] = "u_t = diffusivity * Laplace(u)"
    scheme: ClassVar[str] = "eigenfunctions of the box, exact in time"
    exact: ClassVar[bool] = True
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "temperature"),)
    batched: ClassVar[bool] = True
    batched_ensembles: ClassVar[bool] = False

    def __init__(
        self,
        diffusivity: float = 0.01,
        points: int | Sequence[int] = 128,
        lengths: float | Sequence[float] = 1.0,
        boundaries: Mapping[str, Side | Sequence[Side]] | None = None,
    ) -> None:
        shape = list(points) if isinstance(points, Sequence) else [points]
        if not 1 <= len(shape) <= 3:
            raise ConfigError(f"{self.name}: points is {points!r}, expected one to three numbers, (z,) (y,) x")
        names = SPACE[-len(shape) :]
        extents = list(lengths) if isinstance(lengths, Sequence) else [lengths] * len(shape)
        if len(extents) != len(shape):
            raise ConfigError(f"{self.name}: lengths is {lengths!r}, expected {len(shape)} numbers, one per axis")
        boundaries = boundaries or {}
        unknown = sorted(set(boundaries) - set(names))
        if unknown:
            raise ConfigError(f"{self.name}: boundaries name {', '.join(unknown)}, but the axes are {', '.join(names)}")
        allowed = ("periodic", "reflecting", "value")
        self.diffusivity = positive(self.name, "diffusivity", diffusivity)
        self.lengths = tuple(positive(self.name, "length", extent) for extent in extents)
        self.grid = Grid(
            tuple(
                uniform_axis(name, count(self.name, "points", size, 4), length, sides(name, ends, allowed))
                for name, size, length, ends in zip(
                    names,
                    shape,
                    self.lengths,
                    [boundaries.get(name, "periodic") for name in names],
                    strict=True,
                )
            )
        )
        self.symmetries = self.grid.symmetries
        self.parameters = {"diffusivity": self.diffusivity}
        self._bases = [
            Eigenbasis(axis.size, length, (axis.lower.kind, axis.upper.kind))
            for axis, length in zip(self.grid.axes, self.lengths, strict=True)
        ]
        self._steady = self._lift()

    @property
    def settings(self) -> dict[str, Any]:
        """The extent of the box."""
        return {"lengths": list(self.lengths)}

    def conserved(self, u: Array) -> dict[str, Array]:
        """The heat, the integral of u, where no side is held at a value."""
        if any(side.kind == "value" for axis in self.grid.axes for side in (axis.lower, axis.upper)):
            return {}
        space = tuple(range(-self.grid.ndim, 0))
        return {"heat": float(np.prod(self.lengths)) * u.mean(axis=space)[..., 0]}

    def initial(self, rng: np.random.Generator) -> Array:
        """The steady field plus random smooth eigenfunctions, `(1, *space)`; the deviation is at most 1."""
        deviation: NDArray[Any] = rng.standard_normal((_INITIAL_MODES,) * self.grid.ndim)
        for axis, basis in zip(self.grid.axes, self._bases, strict=True):
            phi, k = basis.modes(_INITIAL_MODES, np.array(axis.coordinates))
            weights = phi / (1 + (k * basis.length / np.pi) ** 2)[:, None]
            # Contracts the leading mode index and appends the axis: after all axes the order is theirs again.
            deviation = np.tensordot(deviation, weights, axes=(0, 0))
        return (self._steady + deviation / np.abs(deviation).max())[None]

    def _integrate(self, u0: Array, times: Array) -> Array:
        return self._advance([self], u0[None], times)[0]

    @classmethod
    def _integrate_many(cls, solvers: Sequence[Heat], u0: Array, times: Array) -> Array:
        return advance_in_groups(
            lambda rows: cls._advance([solvers[row] for row in rows], u0[rows], times),
            [solver.lengths for solver in solvers],
            4 * u0[0].size,
            u0,
            times,
        )

    @staticmethod
    def _advance(solvers: Sequence[Heat], u0: Array, times: Array) -> Array:
        """Rows that differ in diffusivity, `(row, time, 1, *space)`."""
        own = solvers[0]
        square = sum(np.ix_(*(basis.wavenumbers**2 for basis in own._bases)), start=np.zeros(()))
        diffusivity = np.array([solver.diffusivity for solver in solvers]).reshape(-1, *[1] * own.grid.ndim)
        # Real transforms first: the complex ones of periodic axes follow.
        order = sorted(range(own.grid.ndim), key=lambda axis: own._bases[axis].periodic)
        v: NDArray[Any] = u0[:, 0] - own._steady
        for axis in order:
            v = own._bases[axis].forward(v, axis + 1)
        out = np.empty((len(solvers), times.size, *u0.shape[1:]))
        for i, t in enumerate(times - times[0]):
            u = v * np.exp(-diffusivity * square * t)
            for axis in reversed(order):
                u = own._bases[axis].inverse(u, axis + 1)
            out[:, i, 0] = u.real + own._steady
        return out

    def _lift(self) -> Array:
        """A field with zero Laplacian that takes the held values: linear along one axis, or one constant."""
        held = {
            i: [dict(side.value)["u"] for side in (axis.lower, axis.upper) if side.kind == "value"]
            for i, axis in enumerate(self.grid.axes)
        }
        held = {i: values for i, values in held.items() if values}
        values = sorted({value for pair in held.values() for value in pair})
        if len(held) > 1 and len(values) > 1:
            raise ConfigError(
                f"{self.name}: held values {', '.join(f'{value:g}' for value in values)} on more than one "
                "axis contradict each other where the sides meet; use one value, or hold one axis only"
            )
        steady = np.full(self.grid.shape, values[0] if values else 0.0)
        for i, pair in held.items():
            axis = self.grid.axes[i]
            along = [1] * self.grid.ndim
            along[i] = axis.size
            fraction = np.array(axis.coordinates).reshape(along) / self.lengths[i]
            steady = np.broadcast_to(pair[0] + (pair[-1] - pair[0]) * fraction, self.grid.shape)
        return steady


_DIFFUSIVITY = (Range("diffusivity", 0.005, 0.05, "log"),)

CASES = (
    Case(
        "heat_1d",
        "Heat conduction in an insulated rod, random smooth initial temperature and diffusivity",
        partial(Heat, points=(128,), boundaries={"x": "reflecting"}),
        equidistant(1.0, 51),
        200,
        _DIFFUSIVITY,
    ),
    Case(
        "heat_2d",
        "Heat conduction in a plate, periodic in x and held at 0 on both sides of y",
        partial(Heat, points=(48, 64), boundaries={"y": 0.0}),
        equidistant(1.0, 51),
        100,
        _DIFFUSIVITY,
    ),
    Case(
        "heat_3d",
        "Heat conduction in a block, periodic in x and y and insulated at both sides of z",
        partial(Heat, points=(16, 20, 24), boundaries={"z": "reflecting"}),
        equidistant(0.5, 21),
        100,
        _DIFFUSIVITY,
    ),
)
