"""Fields between two walls, periodic along them: polynomial eigenmodes of viscous decay and of conduction."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.linalg
from numpy.polynomial import legendre
from numpy.typing import NDArray

from romvae.solvers.base import Array
from romvae.solvers.operators import wavenumbers

__all__ = ["ChannelModes", "apply_real", "channel_modes", "wall_polynomials"]

Complex = NDArray[np.complex128]


def wall_polynomials(degree: int, clamped: bool, y: Array, derivative: int = 0) -> Array:
    """All polynomials up to `degree` that vanish at y = 0 and y = 1, with their slope if `clamped`.

    Sums of two or three Legendre polynomials, which makes them independent to round-off.

    Arguments:
        degree: Highest degree, at least 2 (4 if `clamped`).
        clamped: Whether the slope vanishes at the walls too.
        y: Points in [0, 1].
        derivative: Order of the derivative to return.

    Returns:
        Values `(len(y), degree - 1)`, or two columns less if `clamped`.

    References:
        Shen (1994), Efficient spectral-Galerkin method I, SIAM J. Sci. Comput. 15, 1489.
    """
    j = np.arange(degree - 3 if clamped else degree - 1)
    series = np.zeros((degree + 1, j.size))
    series[j, j] = 1.0
    if clamped:
        series[j + 2, j] = -2 * (2 * j + 5) / (2 * j + 7)
        series[j + 4, j] = (2 * j + 3) / (2 * j + 7)
    else:
        series[j + 2, j] = -1.0
    # The chain rule for the map from [0, 1] to [-1, 1] gives a factor of 2 per derivative.
    differentiated = legendre.legder(series, derivative) if derivative else series
    return np.asarray(legendre.legval(2 * y - 1, differentiated).T * 2.0**derivative)


def apply_real(matrix: Array, v: Complex) -> Complex:
    """`matrix @ v` for a real matrix `(..., m, n)` and complex columns `(k, n)`, without making it complex.

    Of columns `(k, n, row)` all rows enter one product of matrices.
    """
    columns = v if v.ndim == 3 else v[..., None]
    pairs = np.ascontiguousarray(columns).view(np.float64)
    out = np.matmul(matrix, pairs).view(np.complex128)
    return out if v.ndim == 3 else out[..., 0]


class ChannelModes:
    """Modes exp(i k x) phi(y) of slow flow, and exp(i k x) chi(y) of conduction, between walls at y = 0 and 1.

    The flow has the stream function psi = sum over k, j of a_kj phi_kj(y) exp(i k x), u = psi_y, v = -psi_x, so
    that it has no divergence and no net flux. Without advection a_kj decays as exp(-nu decay_kj t), and
    temperature coefficients as exp(-kappa heat_decay_kj t). The modes of one k are polynomials up to `degree`:
    within these, a solution expanded in them is spectrally accurate, whatever holds at the walls.

    Flow modes are orthonormal in the kinetic energy, int phi' phi' + k^2 phi phi dy, heat modes in int chi chi dy.

    Arguments:
        degree: Highest degree in y, at least 6.
        no_slip: phi = phi' = 0 at the walls; otherwise phi = phi'' = 0 (no stress), which the weak form brings.
        modes: Wavenumbers 0 .. `modes` times 2 pi / `length`.
        length: Period along the walls.
    """

    def __init__(self, degree: int, no_slip: bool, modes: int, length: float) -> None:
        self.degree = degree
        self.no_slip = no_slip
        self.k = wavenumbers(modes, length)
        # Exact for products of three of the polynomials, two differentiated once.
        nodes, weights = legendre.leggauss((3 * degree) // 2)
        self.nodes: Array = (nodes + 1) / 2
        self.weights: Array = weights / 2
        p, p_y, p_yy = (wall_polynomials(degree, no_slip, self.nodes, i) for i in range(3))
        size = p.shape[1]
        self._flow = np.empty((self.k.size, size, size))
        self.decay = np.empty((self.k.size, size))
        for i, k in enumerate(self.k):
            curl = p_yy - k**2 * p
            energy = self._product(p_y, p_y) + k**2 * self._product(p, p)
            self.decay[i], self._flow[i] = scipy.linalg.eigh(self._product(curl, curl), energy)
        p, p_y = (wall_polynomials(degree, False, self.nodes, i) for i in range(2))
        conduction, self._heat = scipy.linalg.eigh(self._product(p_y, p_y), self._product(p, p))
        self.heat_decay: Array = conduction + self.k[:, None] ** 2

    def _product(self, f: Array, g: Array) -> Array:
        return np.asarray((f.T * self.weights) @ g)

    def flow(self, y: Array, derivative: int = 0) -> Array:
        """phi_kj or a derivative at `y`, `(k, len(y), j)`."""
        return np.asarray(wall_polynomials(self.degree, self.no_slip, y, derivative) @ self._flow)

    def heat(self, y: Array, derivative: int = 0) -> Array:
        """chi_j or a derivative at `y`, `(len(y), j)`; the same for all k."""
        return np.asarray(wall_polynomials(self.degree, False, y, derivative) @ self._heat)

    def speeds(self, y: Array) -> Array:
        """The matrix `(k, 2 len(y), j)` from a_kj to u at all of `y`, then i v, both as coefficients of exp(i k x)."""
        return np.concatenate([self.flow(y, 1), self.k[:, None, None] * self.flow(y)], axis=1)

    def polynomials(self, s: Complex) -> tuple[Complex, Complex]:
        """Coefficients of `wall_polynomials`, by rising degree, of psi and theta for states (a_kj, then b_kj).

        States are `(k, mode)` or `(k, mode, row)`, as everywhere here.
        """
        flows = self.decay.shape[1]
        return apply_real(self._flow, s[:, :flows]), apply_real(self._heat, s[:, flows:])

    def fits(self, y: Array) -> tuple[Array, Array]:
        """The matrices back from values at `y`: from (u, i v) to a_kj, `(k, j, 2 len(y))`, and to chi_j.

        Least squares among the polynomials up to two thirds of the number of points, which equidistant points
        determine well (errors of the values grow by less than 100 times); exact for those.
        """
        low = channel_modes(min(self.degree, max(6, 2 * y.size // 3)), self.no_slip, self.k.size - 1, self._length)
        # Projection onto the modes of full degree: exact, because they contain the others.
        flow = (self.speeds(self.nodes).transpose(0, 2, 1) * np.tile(self.weights, 2)) @ low.speeds(self.nodes)
        heat = self._product(self.heat(self.nodes), low.heat(self.nodes))
        return flow @ np.linalg.pinv(low.speeds(y)), heat @ np.linalg.pinv(low.heat(y))

    @property
    def _length(self) -> float:
        return float(2 * np.pi / self.k[1])


@lru_cache(maxsize=8)
def channel_modes(degree: int, no_slip: bool, modes: int, length: float) -> ChannelModes:
    """The `ChannelModes` of these arguments; made once, since an ensemble needs them for every trajectory."""
    return ChannelModes(degree, no_slip, modes, length)
