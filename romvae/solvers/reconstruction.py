"""From cell averages to the values on both sides of each cell face, without new oscillations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from romvae.solvers.base import Array

__all__ = ["RECONSTRUCTIONS", "Reconstruction", "van_leer", "weno5"]


@dataclass(frozen=True)
class Reconstruction:
    """A reconstruction and the number of ghost cells that it needs on both ends.

    Arguments:
        faces: From averages with ghosts `(..., cells + 2 ghosts)` to (left, right) states `(..., cells + 1)`.
        ghosts: Ghost cells per end.
        order: Order in smooth regions.
    """

    faces: Callable[[Array], tuple[Array, Array]]
    ghosts: int
    order: int


def van_leer(u: Array) -> tuple[Array, Array]:
    """Piecewise linear with van Leer's harmonic slope; total variation does not grow. Two ghosts.

    References:
        van Leer (1974), Towards the ultimate conservative difference scheme II, J. Comput. Phys. 14, 361.
    """
    step = np.diff(u, axis=-1)
    behind, ahead = step[..., :-1], step[..., 1:]
    product = np.maximum(behind * ahead, 0.0)
    total = behind + ahead
    # Where the slopes agree in sign their sum vanishes only if both do.
    slope = 2 * product / np.where(product > 0, total, 1.0)
    centre = u[..., 1:-1]
    return (centre + slope / 2)[..., :-1], (centre - slope / 2)[..., 1:]


def weno5(u: Array) -> tuple[Array, Array]:
    """Weighted essentially non-oscillatory, fifth order where u is smooth. Three ghosts.

    References:
        Borges, Carmona, Costa and Don (2008), An improved weighted essentially non-oscillatory scheme for
        hyperbolic conservation laws, J. Comput. Phys. 227, 3191 (the weights "Z").
    """
    n = u.shape[-1] - 5
    a, b, c, d, e, f = (u[..., i : i + n] for i in range(6))
    return _weno5_face(a, b, c, d, e), _weno5_face(f, e, d, c, b)


def _weno5_face(a: Array, b: Array, c: Array, d: Array, e: Array) -> Array:
    """The value at the face between c and d, seen from c."""
    curve_0, curve_1, curve_2 = a - 2 * b + c, b - 2 * c + d, c - 2 * d + e
    smooth_0 = 13 / 12 * curve_0 * curve_0 + 0.25 * (a - 4 * b + 3 * c) ** 2
    smooth_1 = 13 / 12 * curve_1 * curve_1 + 0.25 * (b - d) ** 2
    smooth_2 = 13 / 12 * curve_2 * curve_2 + 0.25 * (3 * c - 4 * d + e) ** 2
    contrast = np.abs(smooth_0 - smooth_2)
    weight_0 = 0.1 * (1 + (contrast / (smooth_0 + _TINY)) ** 2)
    weight_1 = 0.6 * (1 + (contrast / (smooth_1 + _TINY)) ** 2)
    weight_2 = 0.3 * (1 + (contrast / (smooth_2 + _TINY)) ** 2)
    value_0 = 2 * a - 7 * b + 11 * c
    value_1 = -b + 5 * c + 2 * d
    value_2 = 2 * c + 5 * d - e
    return (weight_0 * value_0 + weight_1 * value_1 + weight_2 * value_2) / (6 * (weight_0 + weight_1 + weight_2))


_TINY = 1e-20

RECONSTRUCTIONS = {
    "weno5": Reconstruction(weno5, ghosts=3, order=5),
    "van_leer": Reconstruction(van_leer, ghosts=2, order=2),
}
