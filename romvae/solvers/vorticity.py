"""Two-dimensional incompressible flow by its vorticity on a periodic box: the velocity, and advection by it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from romvae.solvers.base import Array
from romvae.solvers.spectral import FourierBox

__all__ = ["VorticityAdvection", "velocity"]

Complex = NDArray[np.complex128]


def velocity(vorticity: Array, lengths: Sequence[float] = (2 * np.pi, 2 * np.pi)) -> tuple[Array, Array]:
    """The velocity (u, v) along (x, y) of zero mean with this vorticity, v_x - u_y.

    Arguments:
        vorticity: Values `(..., y, x)` on a periodic grid; its mean has no velocity here and is left out.
        lengths: Periods (L_y, L_x).

    Returns:
        u and v, each `(..., y, x)`, without divergence to round-off.
    """
    points = vorticity.shape[-2:]
    box = FourierBox(points, tuple(lengths), ((points[0] - 1) // 2, (points[1] - 1) // 2))
    u, v = box.values(VorticityAdvection(box).velocity(box.coefficients(vorticity)))
    return u, v


class VorticityAdvection:
    """Advection of vorticity in Fourier space, for rows of coefficients `(..., 2 M_y + 1, M_x + 1)`.

    With Q = u v and P = v^2 - u^2 the curl of the divergence of the stresses is

        u . grad w = (d_xx - d_yy) Q + d_x d_y P,

    two transforms to velocity and two back, where the products u w_x + v w_y would take five.

    Arguments:
        box: Box on which products are formed, made by `FourierBox.dealiased`.
        source: Coefficients of curl f; None is no force.

    References:
        Basdevant (1983), Technical improvements for direct numerical simulation of homogeneous three-dimensional
        turbulence, J. Comput. Phys. 50, 209.
    """

    def __init__(self, box: FourierBox, source: Complex | None = None) -> None:
        self.box = box
        self.source = source
        ky, kx = box.k
        inverse = 1 / np.where(box.k_squared > 0, box.k_squared, np.inf)
        self._velocity = np.stack([1j * ky * inverse, -1j * kx * inverse])
        self._stress = np.stack([kx**2 - ky**2, kx * ky * np.ones(box.shape)])

    def velocity(self, w: Complex) -> Complex:
        """Coefficients of (u, v), `(2, ..., *shape)`."""
        factors = self._velocity.reshape(2, *[1] * (w.ndim - 2), *self.box.shape)
        return np.asarray(factors * w)

    def __call__(self, w: Complex) -> Complex:
        """-u . grad w + curl f."""
        u, v = self.box.values(self.velocity(w))
        products = np.empty((2, *u.shape))
        np.multiply(u, v, out=products[0])
        np.subtract(v, u, out=products[1])
        v += u
        products[1] *= v
        stress = self.box.coefficients(products)
        stress *= self._stress.reshape(2, *[1] * (w.ndim - 2), *self.box.shape)
        rate = stress[0]
        rate += stress[1]
        if self.source is not None:
            rate += self.source
        return rate
