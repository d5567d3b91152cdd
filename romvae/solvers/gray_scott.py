"""Gray-Scott reaction-diffusion in two and three periodic dimensions: Fourier pseudo-spectral, ETDRK4 in time."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from romvae.errors import ConfigError
from romvae.schema import Field
from romvae.solvers.arguments import count, positive
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.blobs import random_blobs
from romvae.solvers.box_march import solve_on_box
from romvae.solvers.groups import advance_in_groups
from romvae.solvers.operators import fast_even
from romvae.solvers.spectral import FourierBox, periodic_grid

__all__ = ["CASES", "GrayScott"]

_UNRESOLVED = 0.02


class GrayScott(Solver):
    """u_t = D_u Laplace(u) - u v^2 + F (1 - u), v_t = D_v Laplace(v) + u v^2 - (F + k) v; periodic.

    A substrate u is fed at the rate F and eaten by an activator v, which makes more of itself and is removed at
    the rate F + k. u = 1, v = 0 is stable; blobs of v on it grow into spots that divide, stripes, or holes.
    Coefficients, spacing of the grid (1/64) and kind of initial field follow gray_scott_reaction_diffusion of
    The Well, on a box of half its side.

    Fourier coefficients of u and v; the reaction is formed on `resolution` points per axis, with all modes that
    these hold: no dealiasing, since what is resolved has no products beyond the grid, and more modes on the same
    points serve the accuracy better (measured). Diffusion, feeding and removal are exact (ETDRK4), so that the
    step follows from the reaction alone, not from the grid.

    Balances: d/dt mean(u) = -mean(u v^2) + F (1 - mean(u)), d/dt mean(u + v) = F - F mean(u) - (F + k) mean(v).
    With F = k = 0 the mean of u + v is kept. Uniform fields follow the two ordinary equations.

    Cost and error (relative L2 over both fields and all times; process time of one core of an Intel Xeon). Case
    `gray_scott_2d`, first five trajectories, against 160 points and steps of 0.625:

    | resolution | step | worst error | median error | ms per trajectory |
    |---|---|---|---|---|
    | 80 | 2.5 | 2.8e-3 | 8.3e-4 | 500 |
    | 96 | 5 | 1.9e-3 | 1.7e-3 | 400 |
    | 96 | 2.5 | 1.9e-4 | 1.4e-4 | 700 |
    | 112 | 2.5 | 1.4e-4 | 1.2e-4 | 1070 |
    | 112 | 1.25 | 1.6e-5 | 1.2e-5 | 2050 |
    | 128 | 1.25 | 8.2e-6 | 7.1e-6 | 2490 |

    The case takes 96 and 2.5. Case `gray_scott_3d`, first two trajectories, against 64 points and steps of 1:

    | resolution | step | worst error | seconds per trajectory |
    |---|---|---|---|
    | 36 | 2 | 1.2e-3 | 2.1 |
    | 40 | 4 | 6.8e-4 | 1.6 |
    | 40 | 2 | 3.1e-4 | 2.9 |
    | 44 | 2 | 1.5e-4 | 4.8 |
    | 48 | 2 | 5.4e-5 | 5.6 |
    | 54 | 2 | 4.2e-5 | 8.6 |

    The case takes 40 and 2. The transforms take 0.6 of the time in two dimensions and half of it in three.

    Where it breaks: fronts are about 3 sqrt(D_v / F) wide. Where the spectrum has not decayed to 0.02 at the highest
    modes the solve is refused with a `NumericsError`. Steps beyond about 10 overshoot. Spots that divide
    amplify small errors: between 2000 and 10,000 units of time regimes such as F = 0.014, k = 0.054 (gliders)
    lose the memory of their initial field, and no solver reproduces single trajectories.

    Arguments:
        feed: F, per time; 0.014 to 0.1 in the literature.
        kill: k, per time; 0.045 to 0.066.
        diffusivity_u: D_u, length^2 per time.
        diffusivity_v: D_v.
        points: Grid points per axis of fields.
        dimensions: 2 or 3.
        length: L, the side of the box.
        resolution: Internal points per axis; None takes 0.303 L / sqrt(D_v), and at least `points`.
        step: Longest internal time step.

    Raises:
        ConfigError: An argument is out of range.

    References:
        Pearson (1993), Complex patterns in a simple system, Science 261, 189.
        Kassam and Trefethen (2005), Fourth-order time-stepping for stiff PDEs, SIAM J. Sci. Comput. 26, 1214.
        Ohana et al. (2024), The Well: a large-scale collection of diverse physics simulations for machine
        learning, arXiv 2412.00568.
    """

    name: ClassVar[str] = "gray_scott"
    equation: ClassVar[str] = (
        "u_t = diffusivity_u Laplace(u) - u v^2 + feed (1 - u), "
        "v_t = diffusivity_v Laplace(v) + u v^2 - (feed + kill) v"
    )
    scheme: ClassVar[str] = "Fourier pseudo-spectral, ETDRK4"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("u", "1", "concentration of the substrate"),
        Field("v", "1", "concentration of the activator"),
    )
    batched: ClassVar[bool] = True
    batched_ensembles: ClassVar[bool] = False

    def __init__(
        self,
        feed: float = 0.04,
        kill: float = 0.061,
        diffusivity_u: float = 2e-5,
        diffusivity_v: float = 1e-5,
        points: int = 64,
        dimensions: int = 2,
        length: float = 1.0,
        resolution: int | None = None,
        step: float = 2.5,
    ) -> None:
        self.feed, self.kill = (_rate(self.name, name, value) for name, value in (("feed", feed), ("kill", kill)))
        self.diffusivity_u = positive(self.name, "diffusivity_u", diffusivity_u)
        self.diffusivity_v = positive(self.name, "diffusivity_v", diffusivity_v)
        self.points = count(self.name, "points", points, 8)
        if dimensions not in (2, 3):
            raise ConfigError(f"{self.name}: dimensions is {dimensions!r}, expected 2 or 3")
        self.length = positive(self.name, "length", length)
        needed = max(self.points, 0.303 * self.length / self.diffusivity_v**0.5)
        self.resolution = fast_even(needed) if resolution is None else count(self.name, "resolution", resolution, 8)
        self.step = positive(self.name, "step", step)
        self.lengths = (self.length,) * dimensions
        self.grid = periodic_grid((self.points,) * dimensions, self.lengths)
        self.symmetries = self.grid.symmetries
        self.parameters = {"feed": self.feed, "kill": self.kill}

    @property
    def settings(self) -> dict[str, Any]:
        """Diffusivities, extent, internal points and step."""
        names = ("diffusivity_u", "diffusivity_v", "length", "resolution", "step")
        return {name: getattr(self, name) for name in names}

    def refined(self) -> Self:
        """1.5 times the internal points, half the step: what is left then is below a tenth of the difference."""
        finer = copy(self)
        finer.resolution, finer.step = fast_even(1.5 * self.resolution), self.step / 2
        return finer

    def initial(self, rng: np.random.Generator) -> Array:
        """Three to six blobs b of activator in the substrate, u = 1 - b and v = b / 2, `(2, *space)`.

        They are 0.05 to 0.09 wide where D_v = 1e-5, and in proportion to its root elsewhere.
        """
        scale = (self.diffusivity_v / 1e-5) ** 0.5
        b = random_blobs(rng, self.grid.shape, self.lengths, width=(0.05 * scale, 0.09 * scale))
        return np.stack([1 - b, b / 2])

    def _integrate(self, u0: Array, times: Array) -> Array:
        return self._advance([self], u0[None], times)[0]

    @classmethod
    def _integrate_many(cls, solvers: Sequence[GrayScott], u0: Array, times: Array) -> Array:
        return advance_in_groups(
            lambda rows: cls._advance([solvers[row] for row in rows], u0[rows], times),
            [(solver.resolution, solver.step) for solver in solvers],
            2 * solvers[0].resolution ** solvers[0].grid.ndim,
            u0,
            times,
        )

    @staticmethod
    def _advance(solvers: Sequence[GrayScott], u0: Array, times: Array) -> Array:
        """Rows with the same resolution and step, `(row, time, 2, *space)`."""
        ndim, lengths = solvers[0].grid.ndim, solvers[0].lengths
        box = FourierBox.dealiased((solvers[0].resolution,) * ndim, lengths, degree=1)
        decay = np.stack([solver._decay(box.k_squared) for solver in solvers])
        feed = np.array([solver.feed for solver in solvers])
        mean: tuple[Any, ...] = (slice(None), 0, *[0] * ndim)

        def reaction(w: NDArray[Any]) -> NDArray[Any]:
            values = box.values(w)
            u, v = values[:, 0], values[:, 1]
            u *= v
            u *= v
            rate = np.empty_like(w)
            rate[:, 1] = box.coefficients(u)
            np.negative(rate[:, 1], out=rate[:, 0])
            rate[mean] += feed
            return rate

        return solve_on_box(solvers, box, decay, reaction, u0, times, solvers[0].step, _UNRESOLVED)

    def _decay(self, k_squared: Array) -> Array:
        """What diffusion, feeding and removal multiply the coefficients of u and v with, `(2, *mode)`."""
        return np.stack(
            [
                -self.diffusivity_u * k_squared - self.feed,
                -self.diffusivity_v * k_squared - self.feed - self.kill,
            ]
        )


def _rate(where: str, name: str, value: float) -> float:
    return 0.0 if value == 0 else positive(where, name, value, "or 0")


_PATTERNS = (Range("feed", 0.034, 0.05), Range("kill", 0.06, 0.062))

CASES = (
    Case(
        "gray_scott_2d",
        "Gray-Scott reaction-diffusion, blobs grow into spots, stripes and holes over a range of feed and kill rates",
        partial(GrayScott, points=64, resolution=96, step=2.5),
        equidistant(2000.0, 101),
        150,
        _PATTERNS,
    ),
    Case(
        "gray_scott_3d",
        "Gray-Scott reaction-diffusion in a small cube, blobs grow into balls, shells and tubes",
        partial(GrayScott, points=24, dimensions=3, length=0.5, resolution=40, step=2.0),
        equidistant(800.0, 41),
        60,
        _PATTERNS,
    ),
)
