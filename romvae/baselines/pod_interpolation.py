"""POD of whole trajectories, its coefficients interpolated over the physical parameters."""

from __future__ import annotations

import logging
from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from romvae.baselines.base import Baseline, State, check_rank, check_times
from romvae.baselines.keeping import expect_shape
from romvae.baselines.pod import POD
from romvae.baselines.radial import best_kernel
from romvae.baselines.stack import FieldStack
from romvae.check import require_equal_lengths
from romvae.errors import DataError, SchemaError
from romvae.progress import Progress
from romvae.ragged import ragged_lengths
from romvae.schema import TIME

__all__ = ["PODInterpolation", "UnitRange"]

logger = logging.getLogger("romvae.baselines")

Array = NDArray[np.float64]

MAX_RANK = 64
LARGEST = 2**26
"""Values that the modes may have together: half a gigabyte. At least twenty modes are kept all the same."""


class PODInterpolation(Baseline):
    r"""Trajectory of new parameters: :math:`u(c) = \bar u + \sum_k a_k(c)\, \phi_k`, no time stepping at all.

    The modes span whole training trajectories; a subclass says how their coefficients follow from the parameters. Modes
    that cannot be interpolated, as far as leaving trajectories out can tell, are left out themselves. Only for problems
    whose initial fields follow from the parameters (`applies`): the start's parameters are what counts, its fields are
    ignored. Times between the training data's are interpolated by cubic splines; later ones are refused.

    Arguments:
        rank: Most modes; None takes up to 64, as many as can be interpolated. The number of trajectories less one
            limits it.

    Attributes:
        pod: The fitted `POD` of whole trajectories.
        choice: What was chosen, and its cross-validated relative error.

    References:
        Bui-Thanh, Damodaran and Willcox (2003), Proper orthogonal decomposition extensions for parametric
        applications in compressible aerodynamics, doi:10.2514/6.2003-4213.
        Demo, Tezzele and Rozza (2018), EZyRB: easy reduced basis method, doi:10.21105/joss.00661.
    """

    def __init__(self, rank: int | None = None) -> None:
        super().__init__()
        self.rank = check_rank(self.name, rank)

    @classmethod
    def reason_against(cls, train: xr.Dataset) -> str:
        """Why initial fields do not follow from the parameters alone, judged by the data; empty where they do.

        They do if there is at least one parameter, and initial fields interpolated over the parameters, each left out
        once, have a relative error below 5 % and explain three quarters of the variance between trajectories.
        """
        if ragged_lengths(train) is not None:
            return "needs training trajectories of one length"
        stack = FieldStack.of(train)
        c = stack.parameter_array(train)
        if c.shape[1] == 0 or len(c) < 3:
            return _too_few(c)
        u = stack.array(train.isel({TIME: 0}))
        pod = POD(len(u)).fit(u)
        a = pod.project(u)
        between = float(np.square(a).sum())
        size = float(np.square(u.astype(np.float64) / pod.std).sum())
        found, error = best_kernel(UnitRange.of(c)(c), a)
        if error**2 * between <= min(0.05**2 * size, 0.25 * between):
            return ""
        if found is None:
            return "no kernel interpolates these parameters, which are equal for some trajectories or too few"
        return f"initial fields do not follow from the parameters: interpolated, they are wrong by {100 * error:.3g} %"

    def fit(
        self,
        train: xr.Dataset,
        *,
        validation: xr.Dataset | None = None,
        seed: int = 0,
        budget: float | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Computes the modes of whole trajectories and chooses the interpolation by leaving trajectories out.

        Leaving out uses all of `train`; `validation` is not needed and not looked at.

        Raises:
            DataError: No parameter, fewer than three trajectories, trajectories of different length, or initial fields
                that do not follow from the parameters.
        """
        require_equal_lengths(train, f"{self.name}: ")
        self._require(train)
        self.stack = FieldStack.of(train)
        c = self.stack.parameter_array(train)
        u = self.stack.array(train)
        self.times = check_times(train[TIME].values)
        most = min(MAX_RANK, max(20, LARGEST // u[0].size))
        self.pod = POD(min(self.rank or most, most, len(u))).fit(u, seed)
        self._range = UnitRange.of(c)
        a = self.pod.project(u)
        held_out = self._learn(self._range(c), a, seed, budget)
        # A mode whose interpolation is worse than its mean, zero, adds more error than it removes.
        useful = held_out < np.square(a).sum(0)
        rank = 1 + int(np.flatnonzero(useful).max(initial=0))
        size = float(np.square(a).sum())
        error = float(held_out[:rank].sum() + np.square(a[:, rank:]).sum())
        self.pod.truncate(rank)
        self._truncate(rank)
        self.choice |= {"rank": rank, "cross_validated_error": float(np.sqrt(error / size)) if size > 0 else 0.0}
        logger.info("%s: %s", self.name, self.choice)
        return self

    def rollout(self, start: xr.Dataset, times: ArrayLike) -> xr.Dataset:
        """Forecast from the start's parameters; see `Baseline.rollout`.

        Raises:
            SchemaError: A time lies outside the training data's, or the start does not fit them.
        """
        times = check_times(times)
        start = self.stack.start(start)
        c = self._range(self.stack.parameter_array(start))
        paths = self.pod.reconstruct(self._coefficients(c))
        return self.stack.dataset(self._at(times, paths), start, times)

    def _require(self, train: xr.Dataset) -> None:
        reason = self.reason_against(train)
        if reason:
            raise DataError(f"{self.name}: {reason}. Take a model that starts from the fields, such as pod_linear.")

    @abstractmethod
    def _learn(self, c: Array, a: Array, seed: int, budget: float | None) -> Array:
        """Learns coefficients `(trajectory, mode)` from parameters in [0, 1]; squared errors of those left out."""

    @abstractmethod
    def _truncate(self, rank: int) -> None:
        """Forgets all but the first modes."""

    @abstractmethod
    def _coefficients(self, c: Array) -> Array:
        """Coefficients `(trajectory, mode)` of new parameters."""

    def _at(self, times: Array, paths: Array) -> Array:
        """Trajectories `(trajectory, time, field, point)` at other times within the training data's."""
        tolerance = 1e-6 * float(np.diff(self.times).mean()) if len(self.times) > 1 else 0.0
        if times[0] < self.times[0] - tolerance or times[-1] > self.times[-1] + tolerance:
            raise SchemaError(
                f"{self.name}: times {times[0]:g} to {times[-1]:g} leave the training data's "
                f"{self.times[0]:g} to {self.times[-1]:g}. Ask for times within."
            )
        nearest = np.abs(self.times[:, None] - times).argmin(axis=0)
        if np.abs(self.times[nearest] - times).max() <= tolerance:
            return paths[:, nearest]
        return CubicSpline(self.times, paths, axis=1)(times)

    def _state(self) -> State:
        pod = self.pod.state()
        arrays = {f"pod.{name}": a for name, a in pod.arrays.items()}
        arrays |= {"times": self.times, "low": self._range.low, "high": self._range.high}
        return State({"pod": pod.facts}, arrays)

    def _restore(self, state: State) -> None:
        self.times = check_times(state.arrays["times"])
        shape = (len(self.times), len(self.stack.fields), int(np.prod(self.stack.shape)))
        self.pod = POD.from_state(state.within("pod."), shape)
        self.rank = self.pod.rank
        parameters = len(self.stack.parameters)
        self._range = UnitRange(*(expect_shape(name, state.arrays[name], parameters) for name in ("low", "high")))


@dataclass(frozen=True)
class UnitRange:
    """Parameters to [0, 1] over the training range; those that never vary are left out."""

    low: Array
    high: Array

    @classmethod
    def of(cls, c: Array) -> UnitRange:
        """The range of parameters `(trajectory, parameter)`."""
        return cls(c.min(axis=0), c.max(axis=0))

    @property
    def count(self) -> int:
        """How many parameters vary."""
        return int((self.high > self.low).sum())

    def __call__(self, c: Array) -> Array:
        varying = self.high > self.low
        # Contiguous, so that sums over it are the same to the bit wherever it came from.
        return np.ascontiguousarray(((c - self.low) / np.where(varying, self.high - self.low, 1.0))[:, varying])


def _too_few(c: Array) -> str:
    return f"{len(c)} trajectories with {c.shape[1]} parameters, expected 3 or more with 1 or more"
