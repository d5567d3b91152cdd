"""Derivatives of fields on a grid, with gradients: spectral where the field wraps, differences elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from romvae.errors import ConfigError
from romvae.grid import Axis, Grid
from romvae.physics.differences import End, difference_matrix

__all__ = ["Derivatives", "Method", "Parity", "vorticity_velocity"]

Method = Literal["auto", "spectral", "differences"]
"""`spectral` multiplies Fourier coefficients, `differences` are of second or fourth order; `auto` takes the first along
axes that wrap around or mirror the field at both ends, and the second elsewhere."""

Parity = Literal["even", "odd"]
"""How a field goes on behind walls that mirror it: as it is, or with the other sign (zero at the wall)."""


class Derivatives:
    """Derivatives along the axes of a grid; everything is linear and has gradients.

        d = Derivatives(schema.grid)
        rate = viscosity * d(u, "x", 2) - u * d(u, "x")

    What is behind the end of an axis follows from its boundary condition: `periodic` wraps; `reflecting` mirrors the
    field with its sign; `value` uses the held value of the field, if the name of the field is given and has one; `wall`
    and `open` know nothing, and the differences there are one-sided. A `parity` mirrors the field at both ends whatever
    the boundary condition is called: the momentum across a closed wall is odd.

    Spectral derivatives are exact for the trigonometric functions that the grid holds; of odd order, they leave the
    highest mode of an even number of points out, which has no derivative on the grid. A field that jumps rings: smooth
    it first (`smooth`), or use differences.

    Arguments:
        grid: Axes in the order z, y, x; the last axes of every field.
        method: See `Method`.
        accuracy: Order of the error of differences, 2 or 4.
        wall: Distance of a wall from the last point, in cells: 0.5 for cell centres, 0 where the last point is it.

    Raises:
        ConfigError: An argument is out of range.
    """

    def __init__(self, grid: Grid, method: Method = "auto", accuracy: int = 4, wall: float = 0.5) -> None:
        if accuracy not in (2, 4):
            raise ConfigError(f"derivatives: accuracy is {accuracy}, expected 2 or 4. Choose 4 for smooth fields.")
        if wall not in (0.0, 0.5):
            raise ConfigError(f"derivatives: wall is {wall}, expected 0.5 (cell centres) or 0 (points on the wall).")
        self.grid, self.method, self.accuracy, self.wall = grid, method, accuracy, wall
        self._matrices: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def __call__(
        self, u: Tensor, axis: str, order: int = 1, *, field: str = "", parity: Parity | None = None
    ) -> Tensor:
        """The derivative of some order along an axis, in the shape of `u`.

        Arguments:
            u: Fields `(..., *space)` in physical units.
            axis: Name of the axis.
            order: Of the derivative, 1 or more.
            field: Name of the field, for values that are held at its walls.
            parity: How it goes on behind mirroring walls; None follows the boundary condition.

        Raises:
            ConfigError: The axis is unknown, too short, or `spectral` was asked for where the field does not wrap.
        """
        if axis not in self.grid.names:
            raise ConfigError(f"derivative: axis {axis!r} is unknown, expected one of {', '.join(self.grid.names)}")
        info = self.grid.axes[self.grid.names.index(axis)]
        ends = self._ends(info, field, parity)
        wraps = ends[0] == "periodic" or (ends[0] == ends[1] and ends[0] in ("even", "odd") and self.wall > 0)
        if self.method == "spectral" and not (wraps and info.uniform):
            raise ConfigError(
                f"derivative: along {axis!r} ({info.lower.kind}, {info.upper.kind}) there is no Fourier series. "
                "Use the method 'differences', or 'auto'."
            )
        if wraps and info.uniform and self.method != "differences":
            wavenumbers = self._wavenumbers(info, u, ends[0])
            factor = (1j * wavenumbers) ** order
            if order % 2:
                factor = torch.where(self._highest(info, wavenumbers, ends[0]), torch.zeros_like(factor), factor)
            return self._multiplied(u, info, factor, ends[0])
        matrix, held = self._matrix(info, order, ends, u)
        dim = self._dim(info, u)
        out = torch.movedim(torch.movedim(u, dim, -1) @ matrix.T, -1, dim)
        values = [dict(side.value).get(field, 0.0) for side in (info.lower, info.upper)]
        if any(values):
            added = held @ torch.tensor(values, dtype=u.dtype, device=u.device)
            out = out + added.reshape(-1, *[1] * (u.ndim - 1 - dim))
        return out

    def laplacian(self, u: Tensor, *, field: str = "", parity: Mapping[str, Parity] | None = None) -> Tensor:
        """Sum of the second derivatives; arguments as for the derivative, `parity` by axis."""
        parts = [self(u, name, 2, field=field, parity=(parity or {}).get(name)) for name in self.grid.names]
        return torch.stack(parts).sum(0)

    def smooth(self, u: Tensor, axis: str, cells: float, parity: Parity | None = None) -> Tensor:
        """The mean of a field weighed with a hat that reaches `cells` cells to both sides, along an axis that wraps.

        The product with a test function, as weak forms have it: it commutes with derivatives, and a jump loses its
        ringing.
        """
        info = self.grid.axes[self.grid.names.index(axis)]
        ends = self._ends(info, "", parity)
        half = 0.5 * self._wavenumbers(info, u, ends[0]) * cells * info.spacing
        return self._multiplied(u, info, torch.sinc(half / torch.pi).square(), ends[0])

    def _dim(self, axis: Axis, u: Tensor) -> int:
        return u.ndim - self.grid.ndim + self.grid.names.index(axis.name)

    def _ends(self, axis: Axis, field: str, parity: Parity | None) -> tuple[End, End]:
        def end(kind: str, held: bool) -> End:
            if kind == "periodic":
                return "periodic"
            if parity is not None:
                return parity
            if kind == "reflecting":
                return "even"
            return "held" if kind == "value" and held else "free"

        lower, upper = axis.lower, axis.upper
        return end(lower.kind, field in dict(lower.value)), end(upper.kind, field in dict(upper.value))

    def _matrix(self, axis: Axis, order: int, ends: tuple[End, End], u: Tensor) -> tuple[Tensor, Tensor]:
        key = (axis.name, order, ends, u.dtype, u.device)
        if key not in self._matrices:
            pair = difference_matrix(axis, order, self.accuracy, ends, self.wall)
            first, second = (torch.as_tensor(part).to(u.device, u.dtype) for part in pair)
            self._matrices[key] = (first, second)
        return self._matrices[key]

    def _wavenumbers(self, axis: Axis, u: Tensor, end: End) -> Tensor:
        points = axis.size * (1 if end == "periodic" else 2)
        step = 2 * np.pi / (points * axis.spacing)
        return step * torch.arange(points // 2 + 1, dtype=u.dtype, device=u.device)

    def _highest(self, axis: Axis, wavenumbers: Tensor, end: End) -> Tensor:
        """Which coefficient is that of the highest mode of an even number of points."""
        even = end != "periodic" or axis.size % 2 == 0
        place = torch.arange(len(wavenumbers), device=wavenumbers.device)
        return (place == len(wavenumbers) - 1) & even

    def _multiplied(self, u: Tensor, axis: Axis, factor: Tensor, end: End) -> Tensor:
        dim = self._dim(axis, u)
        if end != "periodic":
            u = torch.cat([u, u.flip(dim) if end == "even" else -u.flip(dim)], dim)
        coefficients = torch.fft.rfft(u, dim=dim) * factor.reshape(-1, *[1] * (u.ndim - 1 - dim))
        return torch.fft.irfft(coefficients, n=u.shape[dim], dim=dim).narrow(dim, 0, axis.size)


def vorticity_velocity(vorticity: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The velocity (u, v) along (x, y) of zero mean whose vorticity v_x - u_y is given, on a doubly periodic grid.

    The mean of the vorticity has no velocity there; the highest modes of even numbers of points are left out.

    Arguments:
        vorticity: Values `(..., y, x)`.
        grid: Axes y and x, both periodic.

    Returns:
        u and v, each `(..., y, x)`, without divergence.
    """
    (ny, nx), (dy, dx) = grid.shape, (axis.spacing for axis in grid.axes)
    ky = 2 * np.pi * torch.fft.fftfreq(ny, float(dy), dtype=vorticity.dtype, device=vorticity.device)[:, None]
    kx = 2 * np.pi * torch.fft.rfftfreq(nx, float(dx), dtype=vorticity.dtype, device=vorticity.device)
    square = ky.square() + kx.square()
    inverse = torch.where(square > 0, 1 / square.clamp_min(1e-300 if vorticity.dtype == torch.float64 else 1e-30), 0.0)
    if ny % 2 == 0:
        inverse[ny // 2] = 0.0
    if nx % 2 == 0:
        inverse[:, -1] = 0.0
    stream = torch.fft.rfft2(vorticity) * inverse
    return tuple(torch.fft.irfft2(1j * k * stream, s=(ny, nx)) for k in (ky, -kx))
