"""Radial basis functions over the parameters, their kernel chosen by leaving trajectories out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import comb
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

__all__ = ["KERNELS", "Kernel", "best_kernel", "held_out_errors", "radial"]

Array = NDArray[np.float64]

LEAVE_ONE_OUT_UP_TO = 50
MOST_TRIED = 300


@dataclass(frozen=True)
class Kernel:
    """A radial basis function with a polynomial of `degree` (-1: none) on parameters scaled to [0, 1]."""

    name: Literal["thin_plate_spline", "cubic", "quintic", "multiquadric", "gaussian"]
    degree: int
    epsilon: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


KERNELS = (
    *(Kernel("thin_plate_spline", degree) for degree in (1, 2, 3)),
    *(Kernel("cubic", degree) for degree in (1, 2, 3)),
    *(Kernel("quintic", degree) for degree in (2, 3)),
    *(Kernel("multiquadric", degree, epsilon) for epsilon in (1.0, 3.0) for degree in (0, 2)),
    *(Kernel("gaussian", degree, epsilon) for epsilon in (0.5, 1.0, 2.0, 4.0) for degree in (-1, 2)),
)


def best_kernel(c: Array, a: Array) -> tuple[Kernel | None, float]:
    """The kernel of least cross-validated error, and that error relative to the size of `a`.

    Arguments:
        c: Parameters in [0, 1], `(trajectory, parameter)`.
        a: Values, `(trajectory, mode)`.
    """
    errors = [(_relative(kernel, c, a), i) for i, kernel in enumerate(KERNELS)]
    error, best = min(errors)
    return (KERNELS[best], error) if np.isfinite(error) else (None, np.inf)


def held_out_errors(kernel: Kernel, c: Array, a: Array) -> Array:
    """Squared errors per column of rows of `a` interpolated from the others; infinite where that is impossible.

    Leaves out one row at a time, a tenth of them where there are more than 50, and looks at no more than 300 rows; the
    errors are those of all rows, as far as these can tell.
    """
    order = np.random.default_rng(0).permutation(len(c))[:MOST_TRIED]
    count = len(order)
    squared: Array = np.zeros(a.shape[1])
    for held in np.array_split(order, count if count <= LEAVE_ONE_OUT_UP_TO else 10):
        kept = np.setdiff1d(order, held)
        if c.shape[1] == 0 or len(kept) < comb(kernel.degree + c.shape[1], c.shape[1]):
            return np.full(a.shape[1], np.inf)  # too few points for the polynomial
        try:
            interpolated = radial(kernel, c[kept], a[kept])(c[held])
        except np.linalg.LinAlgError:
            return np.full(a.shape[1], np.inf)  # equal points: the matrix is singular
        squared += np.square(interpolated - a[held]).sum(0)
    return squared * len(c) / count


def radial(kernel: Kernel, c: Array, a: Array) -> RBFInterpolator:
    """The interpolant through rows of `a` at `c`."""
    return RBFInterpolator(c, a, kernel=kernel.name, degree=kernel.degree, epsilon=kernel.epsilon)


def _relative(kernel: Kernel, c: Array, a: Array) -> float:
    squared, size = float(held_out_errors(kernel, c, a).sum()), float(np.square(a).sum())
    if not np.isfinite(squared):
        return np.inf
    return float(np.sqrt(squared / size)) if size > 0 else 0.0
