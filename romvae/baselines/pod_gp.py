"""POD with a Gaussian process over the parameters for every mode."""

from __future__ import annotations

import time
import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from romvae.baselines.base import State, register
from romvae.baselines.keeping import expect_shape
from romvae.baselines.pod_interpolation import Array, PODInterpolation
from romvae.errors import optional_import

__all__ = ["PODGaussianProcess"]

Family = Literal["rbf", "matern"]
FAMILIES: tuple[Family, ...] = ("rbf", "matern")
OPTIMISED_ON = 150
"""Most trajectories on which the likelihood is maximised; all of them count in the prediction."""
NEGLIGIBLE = 1e-7
"""Modes that hold less than this share of the energy together take the kernels of the last one before them."""


@register
class PODGaussianProcess(PODInterpolation):
    r"""POD of whole trajectories, :math:`a_k(c) \sim \mathcal{GP}(0, k_k)` for every mode; see `PODInterpolation`.

    Kernels have one length per parameter, an amplitude and a noise of their own for every mode, all by maximum
    likelihood (scikit-learn, extra `gp`); for every mode, the squared exponential or Matérn's with :math:`\nu = 5/2` is
    taken, whichever predicts left-out trajectories better (in closed form). Left at scikit-learn's defaults, a Gaussian
    process is a weak opponent: its lengths are those of parameters in their own units.

    References:
        Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, equations 2.25 and 5.12.
        Guo and Hesthaven (2018), Reduced order modeling for nonlinear structural analysis using Gaussian process
        regression, doi:10.1016/j.cma.2018.07.017.
    """

    name = "pod_gp"
    library = ("sklearn.gaussian_process", "gp")

    def _learn(self, c: Array, a: Array, seed: int, budget: float | None) -> Array:
        _library()
        began = time.process_time()
        count, modes = a.shape
        self._c = c
        self._size = np.where(a.std(0) > 0, a.std(0), 1.0)
        self._family: NDArray[Any] = np.zeros(modes, dtype=np.int64)
        self._amplitude, self._lengths = np.ones(modes), np.ones((modes, c.shape[1]))
        self._weights: Array = np.zeros((count, modes))
        held_out: Array = np.zeros(modes)
        some = np.random.default_rng(seed).permutation(count)[:OPTIMISED_ON]
        found: list[tuple[float, Array, float]] = [(1.0, np.ones(c.shape[1]), 1e-6)] * len(FAMILIES)
        tail = np.square(a)[:, ::-1].sum(0).cumsum()[::-1]
        for k in range(modes):
            y = a[:, k] / self._size[k]
            if tail[k] > NEGLIGIBLE * tail[0] and (budget is None or time.process_time() - began < budget):
                found = [_most_likely(family, c[some], y[some], seed) for family in FAMILIES]
            tried = [_left_out(i, c, y, *found[i]) for i in range(len(FAMILIES))]
            best = int(np.argmin([error for error, _ in tried]))
            self._family[k], self._amplitude[k], self._lengths[k] = best, found[best][0], found[best][1]
            held_out[k], self._weights[:, k] = tried[best]
        self.choice = {"kernels": {name: int((self._family == i).sum()) for i, name in enumerate(FAMILIES)}}
        return held_out * np.square(self._size)

    def _truncate(self, rank: int) -> None:
        self._size, self._family, self._amplitude = self._size[:rank], self._family[:rank], self._amplitude[:rank]
        self._lengths, self._weights = self._lengths[:rank], np.ascontiguousarray(self._weights[:, :rank])

    def _coefficients(self, c: Array) -> Array:
        columns = [
            _covariance(FAMILIES[self._family[k]], c, self._c, self._amplitude[k], self._lengths[k]) @ weights
            for k, weights in enumerate(np.ascontiguousarray(self._weights.T))
        ]
        return np.stack(columns, axis=-1) * self._size

    def _state(self) -> State:
        state = super()._state()
        own = {"c": self._c, "size": self._size, "family": self._family, "amplitude": self._amplitude}
        return State(state.facts, {**state.arrays, **own, "lengths": self._lengths, "weights": self._weights})

    def _restore(self, state: State) -> None:
        super()._restore(state)
        rank, parameters, count = self.pod.rank, self._range.count, len(state.arrays["c"])
        shapes = {"c": (count, parameters), "size": (rank,), "family": (rank,), "amplitude": (rank,)}
        shapes |= {"lengths": (rank, parameters), "weights": (count, rank)}
        for name, shape in shapes.items():
            setattr(self, f"_{name}", expect_shape(name, state.arrays[name], *shape))
        if not set(self._family.tolist()) <= set(range(len(FAMILIES))):
            raise ValueError(f"a family of kernels is unknown, expected 0 to {len(FAMILIES) - 1}")


def _library() -> Any:
    return optional_import("sklearn.gaussian_process", "gp", "the baseline pod_gp")


def _most_likely(family: Family, c: Array, y: Array, seed: int) -> tuple[float, Array, float]:
    """Amplitude, lengths and noise of greatest likelihood; variances in units of that of `y`."""
    process, kernels = _library(), optional_import("sklearn.gaussian_process.kernels", "gp", "the baseline pod_gp")
    lengths, bounds = np.ones(c.shape[1]), (0.05, 50.0)
    shape = kernels.RBF(lengths, bounds) if family == "rbf" else kernels.Matern(lengths, bounds, nu=2.5)
    kernel = kernels.ConstantKernel(1.0, (1e-2, 1e4)) * shape + kernels.WhiteKernel(1e-4, (1e-10, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a length at its bound: the mode does not depend on it
        fitted = process.GaussianProcessRegressor(kernel, alpha=0.0, random_state=seed).fit(c, y)
    best = fitted.kernel_
    return float(best.k1.k1.constant_value), np.broadcast_to(best.k1.k2.length_scale, c.shape[1:]), best.k2.noise_level


def _left_out(family: int, c: Array, y: Array, amplitude: float, lengths: Array, noise: float) -> tuple[float, Array]:
    """Sum of squared errors of values predicted from all others (equation 5.12), and the weights of all of them."""
    covariance = _covariance(FAMILIES[family], c, c, amplitude, lengths)
    factor = cho_factor(covariance + (noise + 1e-12 * amplitude) * np.eye(len(c)), lower=True)
    weights = cho_solve(factor, y)
    errors = weights / np.diag(cho_solve(factor, np.eye(len(c))))
    return float(np.square(errors).sum()), weights


def _covariance(family: Family, c: Array, other: Array, amplitude: float, lengths: Array) -> Array:
    squared = np.square((c[:, None] - other) / lengths).sum(-1)
    if family == "rbf":
        return amplitude * np.exp(-squared / 2)
    distance = np.sqrt(5 * squared)
    return amplitude * (1 + distance + distance**2 / 3) * np.exp(-distance)
