"""POD of whole trajectories, its coefficients interpolated over the physical parameters."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from math import comb
from typing import Literal, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline, RBFInterpolator

from romvae.baselines.base import Baseline, check_times
from romvae.baselines.pod import POD
from romvae.baselines.stack import FieldStack
from romvae.check import require_equal_lengths
from romvae.errors import DataError, SchemaError
from romvae.schema import TIME

__all__ = ["PODInterpolation"]

logger = logging.getLogger("romvae.baselines")

Array = NDArray[np.float64]

MAX_RANK = 20
LEAVE_ONE_OUT_UP_TO = 50
MOST_TRIED = 300


@dataclass(frozen=True)
class _Kernel:
    """A radial basis function with a polynomial of `degree` (-1: none) on parameters scaled to [0, 1]."""

    name: Literal["thin_plate_spline", "cubic", "quintic", "multiquadric", "gaussian"]
    degree: int
    epsilon: float = 1.0


KERNELS = (
    *(_Kernel("thin_plate_spline", degree) for degree in (1, 2, 3)),
    *(_Kernel("cubic", degree) for degree in (1, 2, 3)),
    *(_Kernel("quintic", degree) for degree in (2, 3)),
    *(_Kernel("multiquadric", degree, epsilon) for epsilon in (1.0, 3.0) for degree in (0, 2)),
    *(_Kernel("gaussian", degree, epsilon) for epsilon in (0.5, 1.0, 2.0, 4.0) for degree in (-1, 2)),
)


class PODInterpolation(Baseline):
    r"""Trajectory of new parameters: :math:`u(c) = \bar u + \sum_k a_k(c)\, \phi_k`, no time stepping at all.

    The modes span whole training trajectories; each coefficient is interpolated over the parameters by radial
    basis functions, whose kernel is chosen by cross-validation (leave one out, ten folds above 50) on the
    training trajectories. Only for problems whose initial fields follow from the parameters (`applies`): the
    start's parameters are what counts, its fields are ignored. Times between the training data's are
    interpolated by cubic splines; later ones are refused.

    Arguments:
        rank: Most modes; the number of trajectories less one and 20 limit it.

    Attributes:
        pod: The fitted `POD` of whole trajectories.
        choice: The chosen kernel and its cross-validated relative error.

    References:
        Bui-Thanh, Damodaran and Willcox (2003), Proper orthogonal decomposition extensions for parametric
        applications in compressible aerodynamics, doi:10.2514/6.2003-4213.
        Demo, Tezzele and Rozza (2018), EZyRB: easy reduced basis method, doi:10.21105/joss.00661.
    """

    name = "pod_interpolation"

    def __init__(self, rank: int = MAX_RANK) -> None:
        self.rank = rank

    @staticmethod
    def applies(train: xr.Dataset) -> bool:
        """Whether initial fields follow from the parameters alone, judged by the data.

        There is at least one parameter, and initial fields interpolated over the parameters, each left out
        once, have a relative error below 5 % and explain three quarters of the variance between trajectories.
        """
        stack = FieldStack.of(train)
        c = stack.parameter_array(train)
        if c.shape[1] == 0 or len(c) < 3:
            return False
        u = stack.array(train.isel({TIME: 0}))
        pod = POD(len(u)).fit(u)
        a = pod.project(u)
        between = float(np.square(a).sum())
        size = float(np.square(u.astype(np.float64) / pod.std).sum())
        _, error = _best_kernel(_Scaling.of(c)(c), a)
        return error**2 * between <= min(0.05**2 * size, 0.25 * between)

    def fit(self, train: xr.Dataset) -> Self:
        """Computes the modes of whole trajectories and chooses the kernel by cross-validation.

        Raises:
            DataError: No parameter, fewer than three trajectories, trajectories of different length, or no kernel
                interpolates the parameters.
        """
        require_equal_lengths(train, "pod_interpolation: ")
        self.stack = FieldStack.of(train)
        c = self.stack.parameter_array(train)
        if c.shape[1] == 0 or len(c) < 3:
            raise DataError(
                f"pod_interpolation: {len(c)} trajectories with {c.shape[1]} parameters, expected 3 or more "
                "with 1 or more. Ask applies(train) first."
            )
        u = self.stack.array(train)
        self.times = check_times(train[TIME].values)
        self.pod = POD(min(self.rank, MAX_RANK, len(u))).fit(u)
        a = self.pod.project(u)
        self._scaling = _Scaling.of(c)
        kernel, error = _best_kernel(self._scaling(c), a)
        if kernel is None:
            raise DataError(
                "pod_interpolation: no kernel interpolates these parameters, expected them to differ between "
                "trajectories. Ask applies(train) first."
            )
        self.choice = {**vars(kernel), "cross_validated_error": error}
        logger.info("pod_interpolation: %s", self.choice)
        self._interpolant = _rbf(kernel, self._scaling(c), a)
        return self

    def rollout(self, start: xr.Dataset, times: ArrayLike) -> xr.Dataset:
        """Forecast from the start's parameters; see `Baseline.rollout`.

        Raises:
            SchemaError: A time lies outside the training data's, or the start does not fit them.
        """
        times = check_times(times)
        start = self.stack.start(start)
        c = self._scaling(self.stack.parameter_array(start))
        paths = self.pod.reconstruct(self._interpolant(c))
        return self.stack.dataset(self._at(times, paths), start, times)

    def _at(self, times: Array, paths: Array) -> Array:
        """Trajectories `(trajectory, time, field, point)` at other times within the training data's."""
        tolerance = 1e-6 * float(np.diff(self.times).mean()) if len(self.times) > 1 else 0.0
        if times[0] < self.times[0] - tolerance or times[-1] > self.times[-1] + tolerance:
            raise SchemaError(
                f"pod_interpolation: times {times[0]:g} to {times[-1]:g} leave the training data's "
                f"{self.times[0]:g} to {self.times[-1]:g}. Ask for times within."
            )
        nearest = np.abs(self.times[:, None] - times).argmin(axis=0)
        if np.abs(self.times[nearest] - times).max() <= tolerance:
            return paths[:, nearest]
        return CubicSpline(self.times, paths, axis=1)(times)


@dataclass(frozen=True)
class _Scaling:
    """Parameters to [0, 1] over the training range; those that never vary are left out."""

    low: Array
    high: Array

    @classmethod
    def of(cls, c: Array) -> _Scaling:
        return cls(c.min(axis=0), c.max(axis=0))

    def __call__(self, c: Array) -> Array:
        varying = self.high > self.low
        return ((c - self.low) / np.where(varying, self.high - self.low, 1.0))[:, varying]


def _best_kernel(c: Array, a: Array) -> tuple[_Kernel | None, float]:
    """The kernel of least cross-validated error, and that error relative to the size of `a`."""
    errors = [(_cross_validated(kernel, c, a), i) for i, kernel in enumerate(KERNELS)]
    error, best = min(errors)
    return (KERNELS[best], error) if np.isfinite(error) else (None, np.inf)


def _cross_validated(kernel: _Kernel, c: Array, a: Array) -> float:
    """Relative error of rows of `a` interpolated from the others, on at most `MOST_TRIED` rows."""
    order = np.random.default_rng(0).permutation(len(c))[:MOST_TRIED]
    count = len(order)
    squared = 0.0
    for held in np.array_split(order, count if count <= LEAVE_ONE_OUT_UP_TO else 10):
        kept = np.setdiff1d(order, held)
        if c.shape[1] == 0 or len(kept) < comb(kernel.degree + c.shape[1], c.shape[1]):
            return np.inf  # too few points for the polynomial
        try:
            interpolated = _rbf(kernel, c[kept], a[kept])(c[held])
        except np.linalg.LinAlgError:
            return np.inf  # equal points: the matrix is singular
        squared += float(np.square(interpolated - a[held]).sum())
    size = float(np.square(a[order]).sum())
    return float(np.sqrt(squared / size)) if size > 0 else 0.0


def _rbf(kernel: _Kernel, c: Array, a: Array) -> RBFInterpolator:
    return RBFInterpolator(c, a, kernel=kernel.name, degree=kernel.degree, epsilon=kernel.epsilon)
