"""FitzHugh-Nagumo reaction-diffusion on a square without flux through its sides: cosine pseudo-spectral, ETDRK4."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from romvae.errors import ConfigError
from romvae.schema import Boundary, Field, Grid
from romvae.solvers.arguments import count, finite, positive
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.box_march import check_decayed
from romvae.solvers.cosines import CosineBox
from romvae.solvers.groups import advance_in_groups
from romvae.solvers.integrators import ETDRK4, substeps
from romvae.solvers.operators import uniform_axis

__all__ = ["CASES", "FitzHughNagumo2d"]

_SMOOTH = 1e-7  # of the largest coefficient: what the outer modes may hold for the internal grid to be halved
_UNRESOLVED = 0.02
_REACTION = 0.25  # steps stay below this over u^2, the fastest rate of the reaction being 3 u^2
_INITIAL_MODES = 6


class FitzHughNagumo2d(Solver):
    """u_t = D_u Laplace(u) + u - u^3 - k - v, v_t = D_v Laplace(v) + u - v; no flux through the sides.

    An activator u with two states near +1 and -1 and an inhibitor v that follows it and spreads further. Fields
    coarsen into patches and bands whose width the diffusivities set. The diffusion-reaction data of PDEBench are
    this equation with the default parameters on [-1, 1]^2.

    Cosine series of u and v; u^3 is formed on `resolution` points per axis with all modes that these hold.
    Diffusion, growth of u and decay of v are exact (ETDRK4). Steps are at most `step` and 0.25 / max u^2 at the
    start of each stored interval. Wherever a field has become so smooth that the outer half of the modes holds
    less than 1e-7 of the largest one, the internal grid is halved, though never below `points`.

    Grid noise as initial field, as in PDEBench: the field meant is the cosine interpolant of the noise on the
    output grid, a smooth function (if a rough one), whose solution is well defined. `points` is thus part of the
    problem and `resolution` of the solver: refining the latter converges. PDEBench itself solves the differences
    of second order between its 128^2 cells. They tend to the same equation as cells shrink under a fixed field,
    but on noise no cell size is fine: of the highest mode they damp by 4 / pi^2 = 0.4 of the rate. For the default
    case both differ by 29 % (relative L2) at t = 0.05, 4.5 % at t = 0.5 and 3 % from t = 1 to 2, when all
    that is left of the noise is smooth. `laplacian="five_point"` with resolution = points solves PDEBench's own
    system of ordinary equations, which the tests compare.

    Balances: d/dt mean(u) = mean(u - u^3 - v) - k, d/dt mean(v) = mean(u) - mean(v), since nothing crosses the
    sides. Uniform fields follow the two ordinary equations.

    Cost and error (relative L2 over both fields and all times; process time of one core of an Intel Xeon). Case
    `fitzhugh_nagumo_2d`, first five trajectories, against 250 points and steps of 0.025:

    | resolution | step | worst error | median error | ms per trajectory |
    |---|---|---|---|---|
    | 64 | 0.1 | 4.7e-5 | 1.3e-6 | 140 |
    | 80 | 0.1 | 1.4e-5 | 1.3e-6 | 190 |
    | 96 | 0.15 | 8.3e-5 | 9.6e-6 | 220 |
    | 96 | 0.1 | 4.1e-6 | 1.3e-6 | 240 |
    | 96 | 0.05 | 1.6e-6 | 2.2e-7 | 310 |
    | 126 | 0.05 | 9.5e-7 | 2.2e-7 | 560 |

    The case takes 80 and 0.1. Case `fitzhugh_nagumo_2d_pdebench`, first two trajectories, against 512 points and steps
    of 0.0125:

    | resolution | step | laplacian | worst error | ms per trajectory |
    |---|---|---|---|---|
    | 128 | 0.05 | exact | 1.4e-2 | 330 |
    | 192 | 0.05 | exact | 8.1e-4 | 700 |
    | 256 | 0.05 | exact | 8.1e-5 | 780 |
    | 384 | 0.05 | exact | 4.2e-5 | 1440 |
    | 128 | 0.05 | five_point | 6.1e-2: PDEBench's own cells | 300 |

    The case takes 256 and 0.05; in an ensemble, where trajectories share the tables of the time step, that is 370 ms.
    The transforms take half of the time.

    Where it breaks: fronts are about sqrt(8 D_u) wide. Where the spectrum has not decayed to 0.02 at the highest modes
    by t = 0.2 the solve is refused with a `NumericsError`; before, noise is allowed to be noise. A smooth field may
    steepen again after its grid was halved: then the error is that of `points` internal points (5e-5 above).

    Arguments:
        diffusivity_u: D_u, length^2 per time; 5e-4 to 5e-3.
        diffusivity_v: D_v.
        offset: k, which shifts the balance between the two states; PDEBench takes 0.005.
        points: Grid points per axis of fields.
        length: Side of the square, which is centred on the origin.
        resolution: Internal points per axis; None takes 2 `points` ("exact") or `points` ("five_point").
        step: Longest internal time step.
        laplacian: `exact`, or `five_point` for second-order differences on the internal grid.

    Raises:
        ConfigError: An argument is out of range.

    References:
        Klaasen and Troy (1984), Stationary wave solutions of a system of reaction-diffusion equations derived
        from the FitzHugh-Nagumo equations, SIAM J. Appl. Math. 44, 96.
        Takamoto et al. (2022), PDEBench: an extensive benchmark for scientific machine learning, arXiv
        2210.07182.
    """

    name: ClassVar[str] = "fitzhugh_nagumo_2d"
    equation: ClassVar[str] = (
        "u_t = diffusivity_u Laplace(u) + u - u^3 - offset - v, v_t = diffusivity_v Laplace(v) + u - v"
    )
    scheme: ClassVar[str] = "cosine pseudo-spectral, ETDRK4"
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "activator"), Field("v", "1", "inhibitor"))
    batched: ClassVar[bool] = True
    batched_ensembles: ClassVar[bool] = False

    def __init__(
        self,
        diffusivity_u: float = 1e-3,
        diffusivity_v: float = 5e-3,
        offset: float = 5e-3,
        points: int = 64,
        length: float = 2.0,
        resolution: int | None = None,
        step: float = 0.05,
        laplacian: Literal["exact", "five_point"] = "exact",
    ) -> None:
        self.diffusivity_u = positive(self.name, "diffusivity_u", diffusivity_u)
        self.diffusivity_v = positive(self.name, "diffusivity_v", diffusivity_v)
        self.offset = finite(self.name, "offset", offset)
        self.points = count(self.name, "points", points, 8)
        self.length = positive(self.name, "length", length)
        if laplacian not in ("exact", "five_point"):
            raise ConfigError(f"{self.name}: laplacian is {laplacian!r}, expected exact or five_point")
        self.laplacian = laplacian
        usual = 2 * self.points if laplacian == "exact" else self.points
        self.resolution = usual if resolution is None else count(self.name, "resolution", resolution, 8)
        if self.resolution < self.points:
            raise ConfigError(
                f"{self.name}: resolution is {self.resolution}, expected at least points={self.points}; raise it"
            )
        self.step = positive(self.name, "step", step)
        self._coarsest = self.points  # internal grids are not halved below this
        ends = (Boundary("reflecting"), Boundary("reflecting"))
        origin = -self.length / 2
        self.grid = Grid(tuple(uniform_axis(name, self.points, self.length, ends, origin) for name in ("y", "x")))
        self.symmetries = self.grid.symmetries
        self.parameters = {
            "diffusivity_u": self.diffusivity_u,
            "diffusivity_v": self.diffusivity_v,
            "offset": self.offset,
        }

    @property
    def settings(self) -> dict[str, Any]:
        """Extent, internal points and step, kind of Laplacian."""
        return {name: getattr(self, name) for name in ("length", "resolution", "step", "laplacian")}

    def refined(self) -> Self:
        """Twice the internal points, at all times, and half the step."""
        finer = copy(self)
        finer.resolution, finer._coarsest, finer.step = 2 * self.resolution, 2 * self._coarsest, self.step / 2
        return finer

    def initial(self, rng: np.random.Generator) -> Array:
        """Smooth random fields `(2, y, x)`, 6 x 6 cosines with normal amplitudes, each of mean square 1/4."""
        modes = np.arange(_INITIAL_MODES)
        amplitude = rng.standard_normal((2, _INITIAL_MODES, _INITIAL_MODES))
        amplitude *= np.exp(-(modes[:, None] ** 2 + modes**2) / 18)
        amplitude *= 0.5 / np.sqrt((amplitude**2).sum(axis=(1, 2), keepdims=True))
        # Every cosine but the constant counts twice in the series and has a mean square of 1/2.
        single = np.where(modes == 0, 1.0, np.sqrt(0.5))
        v = np.zeros((2, self.points, self.points))
        v[:, :_INITIAL_MODES, :_INITIAL_MODES] = amplitude * single[:, None] * single
        return CosineBox((self.points,) * 2, (self.length,) * 2).values(v)

    def longest_step(self, largest: float) -> float:
        """The step while |u| is at most `largest`; never below a hundredth of `step`, so that a solve ends."""
        return min(self.step, max(_REACTION / max(largest, 1e-30) ** 2, self.step / 100))

    def _integrate(self, u0: Array, times: Array) -> Array:
        return self._advance([self], u0[None], times)[0]

    @classmethod
    def _integrate_many(cls, solvers: Sequence[FitzHughNagumo2d], u0: Array, times: Array) -> Array:
        return advance_in_groups(
            lambda rows: cls._advance([solvers[row] for row in rows], u0[rows], times),
            [(solver.laplacian, solver.resolution, solver._coarsest, solver.step) for solver in solvers],
            2 * solvers[0].resolution ** 2,
            u0,
            times,
        )

    @staticmethod
    def _advance(solvers: Sequence[FitzHughNagumo2d], u0: Array, times: Array) -> Array:
        """Rows of equal settings, each with the grids and steps that it would have alone, `(row, time, 2, y, x)`."""
        own, exact = solvers[0], solvers[0].laplacian == "exact"
        out = np.empty((len(solvers), times.size, *u0.shape[1:]))
        out[:, 0] = u0
        finest = CosineBox((own.resolution,) * 2, (own.length,) * 2)
        boxes, states = [finest] * len(solvers), list(finest.coefficients(u0))
        steppers: dict[Any, ETDRK4] = {}
        for i, interval in enumerate(np.diff(times)):
            settled = exact and times[i + 1] - times[0] >= 0.2
            before, steppers = steppers, {}
            for (box, steps), rows in _alike(own, boxes, out[:, i, 0], interval).items():
                some, key = [solvers[row] for row in rows], (box, steps, *rows)
                stepper = before.get(key)
                if stepper is None or abs(stepper.step * steps - interval) > 1e-10 * interval:
                    facts = tuple((each.diffusivity_u, each.diffusivity_v, each.offset) for each in some)
                    facts = facts[:1] if len(set(facts)) == 1 else facts
                    stepper = _stepper(box, own.laplacian, facts, float(interval) / steps)
                steppers[key] = stepper
                v = np.stack([states[row] for row in rows])
                for _ in range(steps):
                    v = stepper(v)
                check_decayed(some, box, v, times[i + 1], _UNRESOLVED if settled else None, stepper.step)
                out[rows, i + 1] = box.values(v, u0.shape[2:])
                half = box.points[0] // 2
                smooth = _empty_beyond(v, half) if exact and half >= own._coarsest else np.zeros(len(rows), bool)
                for row, state, halved in zip(rows, v, smooth, strict=True):
                    states[row] = state[:, :half, :half] if halved else state
                    boxes[row] = CosineBox((half,) * 2, box.lengths) if halved else box
        return out


def _alike(
    own: FitzHughNagumo2d, boxes: Sequence[CosineBox], u: Array, interval: float
) -> dict[tuple[CosineBox, int], list[int]]:
    """The rows of u `(row, y, x)` that have the same grid and take as many steps, by both."""
    alike: dict[tuple[CosineBox, int], list[int]] = {}
    for row, largest in enumerate(np.abs(u).max(axis=(1, 2))):
        alike.setdefault((boxes[row], substeps(interval, own.longest_step(largest))), []).append(row)
    return alike


# The tables of a stepper cost as much as a few steps, and trajectories of the same parameters share them.
@lru_cache(maxsize=8)
def _stepper(
    box: CosineBox,
    laplacian: Literal["exact", "five_point"],
    facts: tuple[tuple[float, float, float], ...],
    step: float,
) -> ETDRK4:
    """For rows with these diffusivities of u and of v and offsets; a single triple stands for all rows."""
    spread = box.laplacian(laplacian)
    linear = np.stack([np.stack([d_u * spread + 1, d_v * spread - 1]) for d_u, d_v, _ in facts])
    return ETDRK4(linear, _Reaction(box, np.array([offset for _, _, offset in facts])), step)


class _Reaction:
    """-u^3 - k - v and u, for coefficients `(row, field, mode, mode)`: what the diagonal part does not hold."""

    def __init__(self, box: CosineBox, offset: Array) -> None:
        self.box, self.offset = box, offset

    def __call__(self, v: Array) -> Array:
        u = self.box.values(v[:, 0])
        cube = u * u
        cube *= u
        rate = np.empty_like(v)
        rate[:, 0] = self.box.coefficients(cube)
        rate[:, 0] += v[:, 1]
        np.negative(rate[:, 0], out=rate[:, 0])
        rate[:, 0, 0, 0] -= self.offset
        rate[:, 1] = v[:, 0]
        return rate


def _empty_beyond(v: Array, modes: int) -> NDArray[np.bool_]:
    """Whether all coefficients of a row from `modes` on, along either axis, are negligible, `(row,)`."""
    size = np.abs(v)
    outer = np.maximum(size[..., modes:, :].max(axis=(2, 3)), size[..., modes:].max(axis=(2, 3)))
    return np.asarray((outer <= _SMOOTH * size.max(axis=(2, 3))).all(axis=1))


def _noise(solver: FitzHughNagumo2d, values: Any, rng: np.random.Generator) -> Array:
    """Independent standard normal numbers in every cell, u first, as PDEBench draws them."""
    return rng.standard_normal(solver.shape)


CASES = (
    Case(
        "fitzhugh_nagumo_2d",
        "FitzHugh-Nagumo reaction-diffusion, smooth random fields, diffusivities and offset vary",
        partial(FitzHughNagumo2d, points=64, resolution=80, step=0.1),
        equidistant(15.0, 101),
        150,
        (
            Range("diffusivity_u", 1e-3, 3e-3, "log"),
            Range("diffusivity_v", 1e-2, 3e-2, "log"),
            Range("offset", -0.05, 0.05),
        ),
    ),
    Case(
        "fitzhugh_nagumo_2d_pdebench",
        "FitzHugh-Nagumo reaction-diffusion as in PDEBench (2-D diffusion-reaction): fixed parameters, grid noise",
        partial(FitzHughNagumo2d, points=128, resolution=256, step=0.05),
        equidistant(5.0, 101),
        60,
        initial=_noise,
    ),
)
