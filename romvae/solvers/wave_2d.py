"""Waves in two dimensions through a medium with a layer and a lens: spectral in space, exact in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from romvae.errors import ConfigError
from romvae.schema import Boundary, Field, Grid
from romvae.solvers.arguments import count, finite, positive
from romvae.solvers.base import Array, Case, Range, Solver, equidistant
from romvae.solvers.chebyshev_time import wave_motion
from romvae.solvers.groups import advance_in_groups
from romvae.solvers.operators import uniform_axis
from romvae.solvers.spectral import fourier_interpolate

__all__ = ["CASES", "Wave2d"]

_UNRESOLVED = 1e-3  # of the largest coefficient: beyond this at the highest modes the pulse is not resolved


class Wave2d(Solver):
    """u_tt = div(c(x, y)^2 grad u) on a square, as u_t = v, v_t = div(c^2 grad u).

    The medium is c = 1 + layer b(y) + lens g(x, y): a band b = exp(-(y - 0.7)^2 / 0.1^2) across the square and
    a round lens g = exp(-r^2 / 0.15^2) around (lens_x, lens_y), lengths in units of the side. Both are summed
    over their images behind the sides, so that c is as smooth there as inside. A subclass may override `speed`.

    Space: cosine series between reflecting walls (no slope of u at the wall) or Fourier series, in the modes
    |k| <= pi (resolution - 1) / L. -div(c^2 grad) is formed as D' c^2 D with D the gradient from modes to
    points and D' its transpose: symmetric to round-off, so that the discrete energy is exactly kept, and a
    source and a receiver can be exchanged. Time: exact by a Chebyshev expansion (`chebyshev_time`).

    Conserved: the energy, mean of v^2 / 2 + c^2 |grad u|^2 / 2, and the mean of v.

    Cost and error on the case `wave_2d` (relative L2 over both fields and all times, against 192 points; first six
    trajectories; process time of one core of an Intel Xeon; the last column is three trajectories in the slowest
    medium that the case can draw, where layer and lens meet):

    | resolution | worst error | median error | ms per trajectory | worst in the slowest medium |
    |---|---|---|---|---|
    | 64 | 8.6e-8 | 6.5e-11 | 45 | 7.8e-5 |
    | 72 | 8.2e-9 | 2.3e-12 | 51 | 1.6e-5 |
    | 80 | 6.5e-10 | 1.3e-13 | 67 | 3.4e-6 |
    | 96 | 3.5e-12 | 1.0e-13 | 110 | |
    | 128 | 1.2e-13 | 1.1e-13 | 230 | |

    The case takes 72. The transforms take 0.4 to 0.5 of the time, the sums over Chebyshev polynomials for 51 stored
    times much of the rest.

    Where it breaks: the field has to be resolved, about four internal points per wavelength at the slowest
    place; where the spectrum has not decayed at the highest modes the solve is refused with a `NumericsError`.
    c has to stay above zero. No absorbing sides, no damping.

    Arguments:
        layer: Relative change of speed in the middle of the band.
        lens: Relative change of speed in the middle of the lens.
        lens_x: Centre of the lens, in units of the side.
        lens_y: Same.
        points: Grid points per axis of fields.
        length: L, the side of the square.
        boundary: `reflecting` or `periodic`, all four sides.
        resolution: Internal points per axis; None takes 1.5 `points`.

    Raises:
        ConfigError: An argument is out of range, or the speed is not positive everywhere.
    """

    name: ClassVar[str] = "wave_2d"
    equation: ClassVar[str] = "u_t = v, v_t = div(c^2 grad u), c = 1 + layer b(y) + lens g(x - lens_x, y - lens_y)"
    scheme: ClassVar[str] = "cosine or Fourier series, Chebyshev expansion in time"
    fields: ClassVar[tuple[Field, ...]] = (Field("u", "1", "displacement"), Field("v", "1", "velocity"))
    batched: ClassVar[bool] = True
    batched_ensembles: ClassVar[bool] = False

    def __init__(
        self,
        layer: float = 0.0,
        lens: float = 0.0,
        lens_x: float = 0.5,
        lens_y: float = 0.5,
        points: int = 64,
        length: float = 1.0,
        boundary: Literal["reflecting", "periodic"] = "reflecting",
        resolution: int | None = None,
    ) -> None:
        self.layer, self.lens = finite(self.name, "layer", layer), finite(self.name, "lens", lens)
        self.lens_x, self.lens_y = finite(self.name, "lens_x", lens_x), finite(self.name, "lens_y", lens_y)
        self.points = count(self.name, "points", points, 8)
        self.length = positive(self.name, "length", length)
        if boundary not in _BASES:
            raise ConfigError(f"{self.name}: boundary is {boundary!r}, expected one of {', '.join(_BASES)}")
        self.boundary = boundary
        self.resolution = (
            (3 * self.points) // 2 if resolution is None else count(self.name, "resolution", resolution, 8)
        )
        if self.resolution < self.points:
            raise ConfigError(
                f"{self.name}: resolution is {self.resolution}, expected at least points={self.points}; raise it"
            )
        side = (Boundary(boundary), Boundary(boundary))
        self.grid = Grid(tuple(uniform_axis(name, self.points, self.length, side) for name in ("y", "x")))
        self.parameters = {"layer": self.layer, "lens": self.lens, "lens_x": self.lens_x, "lens_y": self.lens_y}
        slowest = float(self._speed_at(self.points).min())
        if not slowest > 0:
            raise ConfigError(
                f"{self.name}: the speed falls to {slowest:.3g}, expected above 0 everywhere; raise layer or lens"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Extent, what holds at the sides, internal points."""
        return {"length": self.length, "boundary": self.boundary, "resolution": self.resolution}

    def refined(self) -> Self:
        """Twice the internal points; there is no error in time to refine."""
        finer = copy(self)
        finer.resolution = 2 * self.resolution
        return finer

    def speed(self, x: Array, y: Array) -> Array:
        """C at points of the unit square; arrays that broadcast against each other."""
        image = self._images
        band = image(y, 0.7, 0.1)
        return 1 + self.layer * band + self.lens * image(x, self.lens_x, 0.15) * image(y, self.lens_y, 0.15)

    def initial(self, rng: np.random.Generator) -> Array:
        """A round pulse at rest at a random place, u = exp(-r^2 / (2 (0.06 L)^2)), `(2, y, x)`."""
        x0, y0 = rng.uniform(0.15, 0.85, 2)
        x, y = (np.array(self.grid.axes[i].coordinates) / self.length for i in (1, 0))
        width = 0.06 * np.sqrt(2)
        u = self._images(y, y0, width)[:, None] * self._images(x, x0, width)
        return np.stack([u, np.zeros_like(u)])

    def conserved(self, u: Array) -> dict[str, Array]:
        """Energy per area and the mean of v, from the series through the grid points."""
        basis = _BASES[self.boundary](self.points, self.length)
        gradient = np.stack(basis.gradient(basis.analyse(u[..., 0, :, :])))
        potential = (self._speed_at(self.points) ** 2 * (gradient**2).sum(axis=0)).mean(axis=(-2, -1))
        kinetic = (u[..., 1, :, :] ** 2).mean(axis=(-2, -1))
        return {"energy": 0.5 * (kinetic + potential), "mean_velocity": u[..., 1, :, :].mean(axis=(-2, -1))}

    def _integrate(self, u0: Array, times: Array) -> Array:
        return self._advance([self], u0[None], times)[0]

    @classmethod
    def _integrate_many(cls, solvers: Sequence[Wave2d], u0: Array, times: Array) -> Array:
        return advance_in_groups(
            lambda rows: cls._advance([solvers[row] for row in rows], u0[rows], times),
            [solver.resolution for solver in solvers],
            8 * solvers[0].resolution ** 2,  # the polynomials at work; those collected are touched once
            u0,
            times,
        )

    @staticmethod
    def _advance(solvers: Sequence[Wave2d], u0: Array, times: Array) -> Array:
        """Rows with the same resolution, `(row, time, 2, y, x)`; as many terms as the fastest medium takes."""
        own = solvers[0]
        basis = _BASES[own.boundary](own.resolution, own.length)
        square = np.stack([solver._speed_at(own.resolution) ** 2 for solver in solvers])

        def operator(v: NDArray[Any]) -> NDArray[Any]:
            along_x, along_y = basis.gradient(v)
            along_x *= square
            along_y *= square
            return basis.transposed_gradient(along_x, along_y)

        # The largest eigenvalue of D' c^2 D is at most max c^2 times that of D' D.
        bound = float(square.max()) * basis.largest**2
        start = basis.analyse(u0)
        u, v = wave_motion(operator, bound, start[:, 0], start[:, 1], times - times[0])
        for i, rows in enumerate(u if not own.unresolved_allowed else ()):
            size = np.abs(rows)
            resolved = size[:, basis.outer].max(axis=1) <= _UNRESOLVED * size.max(axis=(1, 2)) + 1e-300
            if not resolved.all():
                why = f"the field is not resolved by resolution={own.resolution}; raise it, or smooth u0"
                raise solvers[int(np.argmin(resolved))].failed(times[i], why)
        return np.stack([basis.values(u, own.points), basis.values(v, own.points)], axis=2).swapaxes(0, 1)

    def _speed_at(self, points: int) -> Array:
        offset = 0.0 if self.boundary == "periodic" else 0.5
        line = (np.arange(points) + offset) / points
        return np.broadcast_to(self.speed(line[None, :], line[:, None]), (points, points))

    def _images(self, x: Array, centre: float, width: float) -> Array:
        """exp(-(x - centre)^2 / width^2) on [0, 1], summed over the images that the sides make of it."""
        centres = [centre + 2 * i for i in (-1, 0, 1)] + [2 * i - centre for i in (-1, 0, 1, 2)]
        if self.boundary == "periodic":
            centres = [centre + i for i in (-2, -1, 0, 1, 2)]
        return np.asarray(sum(np.exp(-(((x - at) / width) ** 2)) for at in centres))


class _Basis(Protocol):
    """Orthonormal modes on an `n` x `n` grid of the square, cut to |k| <= `largest`."""

    largest: float
    outer: NDArray[np.bool_]

    def __init__(self, n: int, length: float) -> None: ...

    def analyse(self, u: Array) -> NDArray[Any]:
        """Coefficients on this grid of values on a grid that is not finer, `(..., y, x)`."""
        ...

    def values(self, v: NDArray[Any], points: int) -> Array:
        """The series at the points of a grid of the square."""
        ...

    def gradient(self, v: NDArray[Any]) -> tuple[Array, Array]:
        """u_x and u_y at the grid points."""
        ...

    def transposed_gradient(self, along_x: Array, along_y: Array) -> NDArray[Any]:
        """The transpose of `gradient`: minus the divergence."""
        ...


class _Cosines:
    """cos(m pi x / L) cos(n pi y / L) on cell centres; derivatives are series of sines in one direction."""

    def __init__(self, n: int, length: float) -> None:
        self.n = n
        k = np.arange(n) * (np.pi / length)
        self.largest = float(k[-1])
        size = np.hypot(k[:, None], k)
        kept = size <= self.largest * (1 + 1e-12)
        self.kx, self.ky = np.where(kept, k, 0.0), np.where(kept, k[:, None], 0.0)
        self.kept, self.outer = kept, kept & (size > 0.9 * self.largest)

    def analyse(self, u: Array) -> Array:
        v = scipy.fft.dctn(u, type=2, axes=(-2, -1), norm="ortho")
        points = u.shape[-1]
        out = np.zeros((*u.shape[:-2], self.n, self.n))
        out[..., :points, :points] = v * (self.n / points)
        return out * self.kept

    def values(self, v: Array, points: int) -> Array:
        # Orthonormal modes at points between those of the own grid: a product of matrices, cheaper than padding.
        modes = np.sqrt(2 / self.n) * np.cos(np.pi * np.outer((np.arange(points) + 0.5) / points, np.arange(self.n)))
        modes[:, 0] /= np.sqrt(2)
        return np.asarray(modes @ v @ modes.T)

    def gradient(self, v: Array) -> tuple[Array, Array]:
        along_x, along_y = np.zeros_like(v), np.zeros_like(v)
        np.multiply(-self.kx[:, 1:], v[..., :, 1:], out=along_x[..., :, :-1])
        np.multiply(-self.ky[1:], v[..., 1:, :], out=along_y[..., :-1, :])
        return _pass(along_x, scipy.fft.idst, scipy.fft.idct), _pass(along_y, scipy.fft.idct, scipy.fft.idst)

    def transposed_gradient(self, along_x: Array, along_y: Array) -> Array:
        x, y = _pass(along_x, scipy.fft.dst, scipy.fft.dct), _pass(along_y, scipy.fft.dct, scipy.fft.dst)
        out = np.zeros_like(x)
        np.multiply(-self.kx[:, 1:], x[..., :, :-1], out=out[..., :, 1:])
        out[..., 1:, :] -= self.ky[1:] * y[..., :-1, :]
        return out


def _pass(u: Array, along_x: Callable[..., Any], along_y: Callable[..., Any]) -> Array:
    """Two orthonormal transforms of type 2."""
    first = along_x(u, type=2, axis=-1, norm="ortho", overwrite_x=True)
    return np.asarray(along_y(first, type=2, axis=-2, norm="ortho", overwrite_x=True))


class _Waves:
    """exp(i k x) on nodes of the periodic square."""

    def __init__(self, n: int, length: float) -> None:
        self.n = n
        ky, kx = 2 * np.pi / length * n * scipy.fft.fftfreq(n), 2 * np.pi / length * np.arange(n // 2 + 1)
        self.largest = 2 * np.pi / length * ((n - 1) // 2)
        size = np.hypot(ky[:, None], kx)
        self.kept = size <= self.largest * (1 + 1e-12)
        self.outer = self.kept & (size > 0.9 * self.largest)
        self.ikx, self.iky = 1j * np.where(self.kept, kx, 0.0), 1j * np.where(self.kept, ky[:, None], 0.0)

    def analyse(self, u: Array) -> NDArray[np.complex128]:
        fine = fourier_interpolate(u, (self.n, self.n))
        return np.asarray(scipy.fft.rfft2(fine, norm="ortho")) * self.kept

    def values(self, v: NDArray[np.complex128], points: int) -> Array:
        return fourier_interpolate(scipy.fft.irfft2(v, s=(self.n, self.n), norm="ortho"), (points, points))

    def gradient(self, v: NDArray[np.complex128]) -> tuple[Array, Array]:
        both = np.stack([self.ikx * v, self.iky * v])
        along_x, along_y = scipy.fft.irfft2(both, s=(self.n, self.n), norm="ortho", overwrite_x=True)
        return along_x, along_y

    def transposed_gradient(self, along_x: Array, along_y: Array) -> NDArray[np.complex128]:
        x, y = scipy.fft.rfft2(np.stack([along_x, along_y]), norm="ortho")
        out: NDArray[np.complex128] = self.ikx * x + self.iky * y
        return -out


_BASES: dict[str, type[_Basis]] = {"reflecting": _Cosines, "periodic": _Waves}

CASES = (
    Case(
        "wave_2d",
        "Waves from a random pulse between reflecting walls, through a layer and a lens that are faster or slower",
        partial(Wave2d, points=64, resolution=72),
        equidistant(1.0, 51),
        150,
        (
            Range("layer", -0.3, 0.3),
            Range("lens", -0.3, 0.3),
            Range("lens_x", 0.3, 0.7),
            Range("lens_y", 0.3, 0.7),
        ),
    ),
)
