"""Fields from one grid to another of the same box, axis by axis."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from romvae.grid import Axis, Grid

__all__ = ["regrid"]

_WRAPPED = 3  # points beyond each end of a periodic axis: what a cubic spline sees of the other side


def regrid(
    u: NDArray[np.float64], source: Grid, target: Grid, order: Literal["smooth", "linear"] = "smooth"
) -> NDArray[np.float64]:
    """Values on `target` of fields on `source`.

    `smooth` is the trigonometric polynomial through the points of a uniform periodic axis, and a cubic spline along any
    other axis, which goes on to the half cell that a coarse grid leaves at a wall. `linear` overshoots nowhere and
    suits fields with jumps.

    Arguments:
        u: `(..., *space)` on `source`.
        source: Where the values are known.
        target: Where they are wanted; the same axes over the same box.
        order: Kind of interpolation.
    """
    for k, (old, new) in enumerate(zip(source.axes, target.axes, strict=True)):
        if old.coordinates == new.coordinates:
            continue
        axis = k - source.ndim
        if order == "smooth" and old.periodic and old.uniform and new.uniform:
            u = _trigonometric(u, axis, new.size)
        else:
            u = _spline(u, axis, old, np.asarray(new.coordinates), 1 if order == "linear" else 3)
    return u


def _trigonometric(u: NDArray[np.float64], axis: int, points: int) -> NDArray[np.float64]:
    """Both grids begin at the same place; modes that only one of them holds are dropped."""
    v = scipy.fft.rfft(u, axis=axis, norm="forward")
    kept = (min(u.shape[axis], points) - 1) // 2 + 1  # without the highest mode of an even grid, whose sine is unknown
    index = [slice(None)] * u.ndim
    index[axis] = slice(0, kept)
    out: NDArray[np.float64] = scipy.fft.irfft(v[tuple(index)], n=points, axis=axis, norm="forward")
    return out


def _spline(u: NDArray[np.float64], axis: int, old: Axis, x: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    known = np.asarray(old.coordinates, dtype=np.float64)
    if old.periodic:
        period = known[-1] - known[0] + np.diff(known).mean()
        ends = min(_WRAPPED, known.size)
        known = np.concatenate([known[-ends:] - period, known, known[:ends] + period])
        first, last = (np.take(u, rows, axis=axis) for rows in (range(ends), range(old.size - ends, old.size)))
        u = np.concatenate([last, u, first], axis=axis)
    out: NDArray[np.float64] = make_interp_spline(known, u, k=min(degree, known.size - 1), axis=axis)(x)
    return out
