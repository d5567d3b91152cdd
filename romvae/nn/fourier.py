"""The lowest Fourier modes of a small grid, as products with real matrices: no complex numbers, any number of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["TruncatedFourier"]

MARGIN = 4
"""An axis that is not periodic is longer by one in so many to the transform, so that its ends do not meet."""


class TruncatedFourier(nn.Module):
    r"""Values on a grid to coefficients of the lowest modes, and back.

    Coefficients are :math:`\sum_x f(x)\, e^{-i k x} / \sqrt{n}` per axis, of non-negative wavenumbers along the last
    axis and of both signs along the others, real and imaginary parts apart. `values(*coefficients(f))` is the part of f
    that these modes hold where all axes are periodic. Products with real matrices are what any runtime that models are
    exported to knows, and they leave columns where they are in memory.

    Arguments:
        shape: Points per axis, two or more each.
        periodic: Whether each axis is.
        modes: Wavenumbers per axis, from zero on; at most half the points.

    Attributes:
        kept: Modes per axis: 0, 1, ... along the last, and then those of the negative wavenumbers along the others.
        count: Number of modes in all.

    Raises:
        ValueError: An axis has fewer points than twice its modes.
    """

    def __init__(self, shape: Sequence[int], periodic: Sequence[bool], modes: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.kept: tuple[int, ...] = ()
        for axis, (n, wraps, m) in enumerate(zip(shape, periodic, modes, strict=True)):
            if not 1 <= m <= n // 2:
                raise ValueError(f"axis {axis}: {m} modes of {n} points, expected 1 to {n // 2}. Take fewer modes.")
            last = axis == len(self.shape) - 1
            k = torch.arange(m) if last else torch.cat([torch.arange(m), torch.arange(1 - m, 0)])
            angle = 2 * math.pi / (n if wraps else n + -(-n // MARGIN)) * (k[:, None] * torch.arange(n)).double()
            cos, sin = angle.cos() / math.sqrt(n), angle.sin() / math.sqrt(n)
            matrices = {"cos": cos, "sin": -sin, "cos_back": cos.T, "sin_back": sin.T}
            if last:  # real values: of each pair of conjugates one is there, and counts twice on the way back
                twice = torch.where(k > 0, 2.0, 1.0)
                matrices |= {"cos_back": cos.T * twice, "sin_back": -sin.T * twice}
            for name, matrix in matrices.items():
                self.register_buffer(f"{name}{axis}", matrix.float().contiguous(), persistent=False)
            self.kept += (len(k),)
        self.count = math.prod(self.kept)

    def coefficients(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """`(row, *shape, column)` to real and imaginary parts `(row, mode, column)`, the last axis fastest."""
        rows, last = len(values), len(self.shape) - 1
        flat = values.reshape(rows * math.prod(self.shape[:-1]), self.shape[-1], -1)
        real, imaginary = self._times(f"cos{last}", flat), self._times(f"sin{last}", flat)
        for axis in reversed(range(last)):
            sizes = (rows * math.prod(self.shape[:axis]), self.shape[axis], -1)
            real, imaginary = self._turned("", axis, real.reshape(sizes), imaginary.reshape(sizes))
        return real.reshape(rows, self.count, -1), imaginary.reshape(rows, self.count, -1)

    def values(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Coefficients, each `(row, mode, column)`, to the real part of what they stand for `(row, *shape, column)`."""
        rows, last = len(real), len(self.shape) - 1
        for axis in range(last):
            sizes = (rows * math.prod(self.shape[:axis]), self.kept[axis], -1)
            real, imaginary = self._turned("_back", axis, real.reshape(sizes), imaginary.reshape(sizes))
        sizes = (rows * math.prod(self.shape[:-1]), self.kept[-1], -1)
        found = self._times(f"cos_back{last}", real.reshape(sizes))
        return self._times(f"sin_back{last}", imaginary.reshape(sizes), found).reshape(rows, *self.shape, -1)

    def _turned(self, way: str, axis: int, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The complex matrix of an axis applied along the middle one of real and imaginary parts."""
        cos, sin = f"cos{way}{axis}", f"sin{way}{axis}"
        return self._times(sin, b, self._times(cos, a), -1), self._times(sin, a, self._times(cos, b))

    def _times(self, name: str, t: Tensor, to: Tensor | None = None, sign: int = 1) -> Tensor:
        """A matrix applied along the middle axis, and added to what there is."""
        matrix = self.get_buffer(name).expand(len(t), -1, -1)
        return torch.bmm(matrix, t) if to is None else torch.baddbmm(to, matrix, t, alpha=sign)
