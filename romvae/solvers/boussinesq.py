"""Advection and buoyancy of a Boussinesq fluid between walls, in the weak form that needs no pressure."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from romvae.solvers.channel import ChannelModes, apply_real

__all__ = ["Boussinesq", "boussinesq"]

Complex = NDArray[np.complex128]


class Boussinesq:
    """Advection and buoyancy for states `(k, flow modes, then heat modes)`, in free-fall units.

    States of several trajectories are `(k, mode, row)`: what lies across the layer is then a product of matrices.

    theta is the temperature less that of conduction, 1 - y. The momentum equation times a mode without
    divergence, (phi', -i k phi) exp(i k x), has no pressure in it; by parts, with P = u^2 - v^2 and Q = u v,

        a_t = int -i k P phi' + Q (phi'' + k^2 phi) + i k theta phi dy,
        b_t = int (v - i k u theta) chi + v theta chi' dy.

    On nodes that integrate these products exactly, advection neither makes nor destroys energy. Seven
    transforms along x; those across are matrices, which at this size cost no more.

    Arguments:
        modes: What the fields are sums of.
        resolution: Points along x on which products are formed, more than three times the highest mode.
    """

    def __init__(self, modes: ChannelModes, resolution: int) -> None:
        y, weights = modes.nodes, modes.weights
        self.resolution = resolution
        self.ik = 1j * modes.k[:, None]
        self.flows = modes.decay.shape[1]
        self.speeds = modes.speeds(y)
        self.heat = modes.heat(y)
        k = modes.k[:, None, None]
        phi, phi_y, phi_yy = (modes.flow(y, i) for i in range(3))
        tests = np.concatenate([phi_y, phi_yy + k**2 * phi, k * phi], axis=1)
        self.to_flow = np.ascontiguousarray((tests * np.tile(weights, 3)[:, None]).transpose(0, 2, 1))
        tests = np.concatenate([self.heat, modes.heat(y, 1)])
        self.to_heat = np.ascontiguousarray((tests * np.tile(weights, 2)[:, None]).T)

    def __call__(self, s: Complex) -> Complex:
        n, modes, rows = self.heat.shape[0], s.shape[0], s.shape[2:]
        ik = self.ik.reshape(modes, 1, *[1] * len(rows))
        hats = np.empty((3, modes, n, *rows), dtype=np.complex128)
        flow = apply_real(self.speeds, s[:, : self.flows])
        hats[0] = flow[:, :n]
        np.multiply(flow[:, n:], -1j, out=hats[1])
        hats[2] = apply_real(self.heat, s[:, self.flows :])
        u, v, theta = scipy.fft.irfft(hats, n=self.resolution, axis=1, norm="forward")
        products = np.empty((4, self.resolution, n, *rows))
        np.multiply(u - v, u + v, out=products[0])
        np.multiply(u, v, out=products[1])
        np.multiply(u, theta, out=products[2])
        np.multiply(v, theta, out=products[3])
        stress, shear, along, across = scipy.fft.rfft(products, axis=1, norm="forward")[:, :modes]
        momentum = np.empty((modes, 3 * n, *rows), dtype=np.complex128)
        np.multiply(stress, -ik, out=momentum[:, :n])
        momentum[:, n : 2 * n] = shear
        np.multiply(hats[2], 1j, out=momentum[:, 2 * n :])
        energy = np.empty((modes, 2 * n, *rows), dtype=np.complex128)
        np.multiply(along, -ik, out=energy[:, :n])
        energy[:, :n] += hats[1]
        energy[:, n:] = across
        rate = np.empty_like(s)
        rate[:, : self.flows] = apply_real(self.to_flow, momentum)
        rate[:, self.flows :] = apply_real(self.to_heat, energy)
        return rate


@lru_cache(maxsize=8)
def boussinesq(modes: ChannelModes, resolution: int) -> Boussinesq:
    """The `Boussinesq` of these arguments; made once, since an ensemble needs it for every trajectory."""
    return Boussinesq(modes, resolution)
