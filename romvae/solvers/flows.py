"""Steady flows on a periodic box that keep volumes: what carries a passive concentration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from romvae.solvers.base import Array

__all__ = ["AbcFlow", "CellularFlow", "Flow", "ShearFlow", "UniformFlow"]


class Flow(Protocol):
    """A velocity without divergence; its `repr` says everything about it."""

    def __call__(self, angles: Sequence[Array]) -> list[Array]:
        """The components (z,) (y,) x at angles 2 pi x_d / L_d of the axes in the same order, which broadcast.

        A component may have any shape that broadcasts against the grid.
        """
        ...


@dataclass(frozen=True)
class UniformFlow:
    """The same velocity everywhere.

    Arguments:
        components: (z,) (y,) x.
    """

    components: tuple[float, ...]

    def __call__(self, angles: Sequence[Array]) -> list[Array]:
        """See `Flow`."""
        return [np.full((1,) * len(angles), component) for component in self.components]


@dataclass(frozen=True)
class ShearFlow:
    """Along x only, sin(mode Y) + mean, in two or three dimensions.

    Arguments:
        mode: Waves over the height of the box.
        mean: Added everywhere.
    """

    mode: int = 1
    mean: float = 0.0

    def __call__(self, angles: Sequence[Array]) -> list[Array]:
        """See `Flow`."""
        still = [np.zeros((1,) * len(angles)) for _ in angles[:-1]]
        return [*still, np.sin(self.mode * angles[-2]) + self.mean]


@dataclass(frozen=True)
class CellularFlow:
    """Two-dimensional vortices, psi = sin X sin Y + eccentricity cos X cos Y; w_x = psi_Y, w_y = -psi_X.

    Eccentricity 0 gives a chequerboard of closed cells (the steady Taylor-Green vortices), 1 a shear flow along
    the diagonal; between them, cat's eyes with channels that wind between the vortices.

    References:
        Childress and Soward (1989), Scalar transport and alpha-effect for a family of cat's-eye flows, J. Fluid
        Mech. 205, 99.
    """

    eccentricity: float = 0.3

    def __call__(self, angles: Sequence[Array]) -> list[Array]:
        """See `Flow`."""
        y, x = angles
        e = self.eccentricity
        w_x = np.sin(x) * np.cos(y) - e * np.cos(x) * np.sin(y)
        w_y = -np.cos(x) * np.sin(y) + e * np.sin(x) * np.cos(y)
        return [w_y, w_x]


@dataclass(frozen=True)
class AbcFlow:
    """Arnold, Beltrami and Childress: w = (A sin Z + C cos Y, B sin X + A cos Z, C sin Y + B cos X) along x, y, z.

    Three-dimensional with chaotic streamlines between vortices that wind along the axes; curl w = w.

    References:
        Dombre, Frisch, Greene, Henon, Mehr and Soward (1986), Chaotic streamlines in the ABC flows, J. Fluid
        Mech. 167, 353.
    """

    a: float = 0.7
    b: float = 0.5
    c: float = 0.4

    def __call__(self, angles: Sequence[Array]) -> list[Array]:
        """See `Flow`."""
        z, y, x = angles
        return [
            self.c * np.sin(y) + self.b * np.cos(x),
            self.b * np.sin(x) + self.a * np.cos(z),
            self.a * np.sin(z) + self.c * np.cos(y),
        ]
