"""Fourier series of real fields on periodic boxes of any dimension: transforms, dealiasing, random fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from romvae.errors import ConfigError
from romvae.schema import SPACE, Boundary, Grid
from romvae.solvers.base import Array
from romvae.solvers.operators import uniform_axis

__all__ = ["FourierBox", "fourier_interpolate", "periodic_grid", "random_modes"]

Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class FourierBox:
    """The Fourier modes kept on a periodic box, and the grid on which products of fields are formed.

    A field is u(x) = sum over m of v_m exp(i sum_d 2 pi m_d x_d / L_d) with |m_d| <= modes_d; v_0 is its mean.
    Since u is real, only m_d >= 0 is stored on the last axis: coefficients have the shape `(..., 2 M_1 + 1, ...,
    2 M_last + 1)` with the last entry replaced by M_last + 1, in the order 0, 1, .., M, -M, .., -1 on all axes
    but the last. Leading dimensions (rows, fields) pass through.

    Dropped modes are neither stored nor transformed: with the 2/3 rule in two dimensions that leaves 4/9 of the
    coefficients to step in time and saves a third of the complex transforms.

    Arguments:
        points: Collocation points per axis, in the order (z,) (y,) x.
        lengths: Periods per axis.
        modes: Highest kept mode per axis, at most (points - 1) / 2, so that the grid holds all of them.
    """

    points: tuple[int, ...]
    lengths: tuple[float, ...]
    modes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.points) == len(self.lengths) == len(self.modes):
            raise ConfigError(
                f"FourierBox: points, lengths, modes have {len(self.points)}, {len(self.lengths)}, "
                f"{len(self.modes)} entries, expected one per axis in each"
            )
        for axis, (points, modes) in enumerate(zip(self.points, self.modes, strict=True)):
            if not 0 <= 2 * modes < points:
                raise ConfigError(
                    f"FourierBox: modes[{axis}] is {modes}, expected 0 to {(points - 1) // 2} on {points} points; "
                    "give more points"
                )

    @classmethod
    def dealiased(cls, points: Sequence[int], lengths: Sequence[float], degree: int = 2) -> FourierBox:
        """The most modes for which products of `degree` kept fields alias onto none of them.

        A product of degree d holds modes up to d M; on N points d M appears as d M - N, which stays below -M
        if N > (d + 1) M: the 2/3 rule for quadratic products, the 1/2 rule for cubic ones.

        References:
            Orszag (1971), On the elimination of aliasing in finite-difference schemes, J. Atmos. Sci. 28, 1074.
        """
        return cls(tuple(points), tuple(lengths), tuple((n - 1) // (degree + 1) for n in points))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.points)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of the coefficients of one field."""
        return (*(2 * m + 1 for m in self.modes[:-1]), self.modes[-1] + 1)

    @cached_property
    def numbers(self) -> tuple[NDArray[np.int64], ...]:
        """The integers m_d of every axis, shaped to broadcast against coefficients."""
        sizes = [np.arange(m + 1) for m in self.modes]
        full = [np.concatenate([n, -n[:0:-1]]) for n in sizes[:-1]]
        return tuple(np.ix_(*full, sizes[-1]))

    @cached_property
    def k(self) -> tuple[Array, ...]:
        """The wavenumbers 2 pi m_d / L_d of every axis, shaped to broadcast; i k_d v differentiates along d."""
        steps = [2 * np.pi / length for length in self.lengths]
        return tuple(n.astype(np.float64) * step for n, step in zip(self.numbers, steps, strict=True))

    @cached_property
    def k_squared(self) -> Array:
        """|k|^2 of every coefficient, `shape`; -|k|^2 v is the Laplacian."""
        square = np.zeros(self.shape)
        for k in self.k:
            square += k**2
        return square

    def coefficients(self, u: Array) -> Complex:
        """Coefficients of the trigonometric interpolant of values on any grid of the box, `(..., *shape)`.

        Modes that the grid does not hold are zero, and those not kept are dropped. The highest mode of an even
        grid, of which only the cosine is known, is shared by +m and -m.
        """
        v = _half_axis(scipy.fft.rfft(u, axis=-1, norm="forward"), u.shape[-1], self.modes[-1])
        for axis in range(-2, -self.ndim - 1, -1):
            v = scipy.fft.fft(v, axis=axis, norm="forward", overwrite_x=True)
            v = _full_axis(v, axis, self.modes[axis])
        return v

    def values(self, v: Complex, points: Sequence[int] | None = None) -> Array:
        """The series at the nodes of a grid, `(..., *points)`; None takes the collocation points.

        On a grid too coarse for the kept modes these still are the series' true values: nothing is cut off.
        """
        sizes = self.points if points is None else tuple(points)
        for axis in range(-self.ndim, -1):
            stride = -(-(2 * self.modes[axis] + 1) // sizes[axis])
            v = _pad(v, axis, stride * sizes[axis])
            v = scipy.fft.ifft(v, axis=axis, norm="forward", overwrite_x=True)
            if stride > 1:
                v = v[_along(axis, slice(None, None, stride))]
        stride = -(-(2 * self.modes[-1] + 1) // sizes[-1])
        return scipy.fft.irfft(v, n=stride * sizes[-1], axis=-1, norm="forward")[..., ::stride]

    def product(self, v: Complex, w: Complex) -> Complex:
        """Coefficients of the product of two fields; free of aliasing on a box made by `dealiased`."""
        return self.coefficients(self.values(v) * self.values(w))

    def tail(self, v: Complex) -> Array:
        """How far the spectrum has decayed: the largest coefficient in the outer tenth over the largest of all.

        The outer tenth of the modes of any axis counts, the mean does not. Coefficients below 1e-12 of the
        largest one (here with the mean) are round-off and taken as zero. Leading dimensions are kept.
        """
        size = np.abs(v)
        axes = tuple(range(-self.ndim, 0))
        size[size < 1e-12 * size.max(axis=axes, keepdims=True)] = 0.0
        outer = np.zeros(self.shape, dtype=bool)
        for n, modes in zip(self.numbers, self.modes, strict=True):
            outer |= np.abs(n) > modes - max(1, modes // 10)
        size[..., self.k_squared == 0] = 0.0
        largest = size.max(axis=axes)
        return np.divide((size * outer).max(axis=axes), largest, out=np.zeros_like(largest), where=largest > 0)


def _half_axis(v: Complex, size: int, modes: int) -> Complex:
    """Modes 0 .. `modes` of a real transform of `size` points along the last axis."""
    if modes <= (size - 1) // 2:
        return np.ascontiguousarray(v[..., : modes + 1])
    out = np.zeros((*v.shape[:-1], modes + 1), dtype=np.complex128)
    out[..., : v.shape[-1]] = v
    if size % 2 == 0:
        out[..., size // 2] /= 2
    return out


def _full_axis(v: Complex, axis: int, modes: int) -> Complex:
    """Modes 0 .. M, -M .. -1 of a complex transform along a negative `axis`."""
    size = v.shape[axis]
    kept = min(modes, (size - 1) // 2)
    low, high = v[_along(axis, slice(0, kept + 1))], v[_along(axis, slice(size - kept, size))]
    if kept == modes:
        return np.concatenate([low, high], axis=axis)
    out = _pad(np.concatenate([low, high], axis=axis), axis, 2 * modes + 1)
    if size % 2 == 0:
        middle = v[_along(axis, size // 2)] / 2
        out[_along(axis, size // 2)] = middle
        out[_along(axis, 2 * modes + 1 - size // 2)] = middle
    return out


def _pad(v: Complex, axis: int, size: int) -> Complex:
    """Zeros between the modes 0 .. M and -M .. -1 of a negative `axis`, up to `size` entries."""
    modes = v.shape[axis] // 2
    shape = list(v.shape)
    shape[axis] = size
    out = np.empty(shape, dtype=np.complex128)
    out[_along(axis, slice(0, modes + 1))] = v[_along(axis, slice(0, modes + 1))]
    out[_along(axis, slice(modes + 1, size - modes))] = 0.0
    out[_along(axis, slice(size - modes, size))] = v[_along(axis, slice(modes + 1, None))]
    return out


def _along(axis: int, index: int | slice) -> tuple[Any, ...]:
    """The index that selects along a negative `axis` and takes all of the others."""
    return (..., index, *[slice(None)] * (-axis - 1))


def fourier_interpolate(u: Array, points: Sequence[int]) -> Array:
    """Values of the trigonometric interpolant of `u` at the nodes of another grid of the same periodic box.

    Exact where the grid of `u` resolves the field; going to a finer grid and back gives `u` to round-off.

    Arguments:
        u: Values `(..., *space)`; the last `len(points)` dimensions are space.
        points: Nodes per axis of the new grid.

    Returns:
        Values `(..., *points)`.
    """
    held = tuple(n // 2 for n in u.shape[-len(points) :])
    box = FourierBox(tuple(2 * m + 1 for m in held), (1.0,) * len(points), held)
    return box.values(box.coefficients(u), points)


def periodic_grid(points: Sequence[int], lengths: Sequence[float], origin: float = 0.0) -> Grid:
    """A periodic grid with the axes (z,) (y,) x, each from `origin` to `origin + length`."""
    ends = (Boundary("periodic"), Boundary("periodic"))
    names = SPACE[-len(points) :]
    return Grid(
        tuple(
            uniform_axis(name, size, length, ends, origin)
            for name, size, length in zip(names, points, lengths, strict=True)
        )
    )


def random_modes(
    rng: np.random.Generator,
    shape: Sequence[int],
    lengths: Sequence[float],
    highest: int = 4,
    spectrum: Callable[[Array], Any] | None = None,
) -> Array:
    """A smooth random periodic field: a Gaussian process of zero mean and variance 1, stationary in space.

    The coefficients are normal and independent. The same state of `rng` gives the same function of x on every
    grid that holds its modes, and the field shifts with the origin in distribution.

    Arguments:
        rng: Source of randomness; takes 2 (2 `highest` + 1)^(d - 1) (`highest` + 1) normal numbers.
        shape: Grid points per axis, each more than 2 `highest`.
        lengths: Periods per axis.
        highest: The highest mode per axis.
        spectrum: Variance of a coefficient, up to a factor, as a function of its |k| > 0; None gives all modes
            with |k| up to that of `highest` along the longest axis the same variance.

    Returns:
        Values `(*shape)`; the mean over the box is zero exactly.
    """
    if min(shape) <= 2 * highest:
        raise ConfigError(f"random_modes: highest is {highest}, expected less than half of every size of {shape}")
    box = FourierBox(tuple(shape), tuple(lengths), (highest,) * len(shape))
    size = np.sqrt(box.k_squared)
    inside = size > 0
    if spectrum is None:
        variance = inside & (size <= 2 * np.pi * highest / max(lengths) * (1 + 1e-12))
    else:
        variance = np.where(inside, np.asarray(spectrum(np.where(inside, size, 1.0)), dtype=np.float64), 0.0)
    if not (np.isfinite(variance).all() and variance.min() >= 0 and variance.max() > 0):
        raise ConfigError("random_modes: spectrum gives a negative, infinite or no variance; return numbers above 0")
    normal = rng.standard_normal((2, *box.shape))
    v = np.sqrt(variance / 2) * (normal[0] + 1j * normal[1])
    # The plane of last mode 0 holds m and -m both: their mean with the conjugate partner makes the field real.
    plane = v[..., 0]
    partner = np.conj(np.flip(plane))
    for axis in range(plane.ndim):
        partner = np.roll(partner, 1, axis)
    v[..., 0] = (plane + partner) / np.sqrt(2)
    stored_twice = np.where(box.numbers[-1] > 0, 2.0, 1.0)
    return box.values(v / np.sqrt((stored_twice * variance).sum()))
