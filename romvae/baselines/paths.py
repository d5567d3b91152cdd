"""Trajectories as paths of POD coefficients, and the times that a stepping baseline can reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from romvae.baselines.base import check_times
from romvae.baselines.pod import POD
from romvae.baselines.stack import FieldStack
from romvae.check import uniform_step
from romvae.errors import SchemaError
from romvae.ragged import existing, ragged_lengths
from romvae.schema import TIME

__all__ = ["Paths", "Snapshots", "steps_of", "time_step"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Snapshots:
    """Fields of trajectories as arrays.

    Attributes:
        u: Fields `(trajectory, time, field, point)`, zero where a trajectory has ended.
        c: Parameters `(trajectory, parameter)`.
        kept: Which snapshots there are, `(trajectory, time)`.
    """

    u: NDArray[np.floating]
    c: Array
    kept: NDArray[np.bool_]

    @classmethod
    def of(cls, ds: xr.Dataset, stack: FieldStack) -> Snapshots:
        """The trajectories of a Dataset."""
        u, c = stack.array(ds), stack.parameter_array(ds)
        lengths = ragged_lengths(ds)
        kept = np.ones(u.shape[:2], dtype=bool) if lengths is None else existing(lengths, u.shape[1])
        if lengths is not None:
            u = np.where(kept[..., None, None], u, u.dtype.type(0))  # whatever stands there is no value of the field
        return cls(u, c, kept)

    def take(self, rows: NDArray[np.intp]) -> Snapshots:
        """Some of the trajectories."""
        return Snapshots(self.u[rows], self.c[rows], self.kept[rows])

    def halves(self, seed: int) -> tuple[Snapshots, Snapshots]:
        """Four fifths to fit to and a fifth to choose on; a single trajectory is both."""
        order = np.random.default_rng(seed).permutation(len(self.u))
        fifth = max(1, round(len(order) / 5))
        held, rest = (order[:fifth], order[fifth:]) if len(order) > 1 else (order, order)
        return self.take(rest), self.take(held)

    def flat(self) -> NDArray[np.floating]:
        """All snapshots that there are, in a row."""
        return self.u.reshape(-1, *self.u.shape[2:]) if self.kept.all() else self.u[self.kept]

    def paths(self, pod: POD) -> Paths:
        """Their coefficients."""
        return Paths(pod.project(self.u), self.c, self.kept)

    def judged(self, pod: POD) -> Paths:
        """Their coefficients, and what the modes do not hold of them: errors with other modes can be compared."""
        z = pod.project(self.u)
        return Paths(z, self.c, self.kept, np.maximum(pod.sizes(self.u) - np.square(z).sum(-1), 0.0))


@dataclass(frozen=True)
class Paths:
    """Coefficients of trajectories.

    Attributes:
        z: Coefficients `(trajectory, time, mode)`.
        c: As in `Snapshots`.
        kept: As in `Snapshots`.
        beyond: Squared size of what the modes do not hold, `(trajectory, time)`; None where it does not count.
    """

    z: Array
    c: Array
    kept: NDArray[np.bool_]
    beyond: Array | None = None

    def first(self, rank: int) -> Paths:
        """The first modes only."""
        return Paths(np.ascontiguousarray(self.z[..., :rank]), self.c, self.kept)

    @property
    def count(self) -> int:
        """Snapshots that there are."""
        return int(self.kept.sum())

    @property
    def lengths(self) -> list[int]:
        """Times of each trajectory."""
        return self.kept.sum(1).tolist()

    def pairs(self) -> tuple[Array, Array, Array]:
        """Coefficients, those one step later, and parameters, of all pairs of neighbours in time."""
        both = self.kept[:, 1:]
        trajectory, _ = both.nonzero()
        return self.z[:, :-1][both], self.z[:, 1:][both], self.c[trajectory]

    def error(self, forecast: Array) -> float:
        """Relative error of forecasts `(trajectory, time, mode)`, modes that they do not have counted as zero.

        So does what lies beyond all modes, where it is known. The first time counts: what the modes cannot represent
        is an error from the start.
        """
        rank = forecast.shape[-1]
        beyond = 0.0 if self.beyond is None else self.beyond
        if not np.isfinite(forecast).all():
            return np.inf
        with np.errstate(over="ignore"):
            squares = np.square(forecast - self.z[..., :rank]).sum(-1) + np.square(self.z[..., rank:]).sum(-1) + beyond
            size = (np.square(self.z).sum(-1) + beyond)[self.kept].sum()
            error = float(np.sqrt(squares[self.kept].sum() / size)) if size > 0 else 0.0
        return error if np.isfinite(error) else np.inf


def time_step(times: ArrayLike, name: str) -> float:
    """The time step; times are taken in the type they are stored in, whose rounding is no fault of theirs.

    Raises:
        SchemaError: There are fewer than two, or they are not uniform.
    """
    stored = np.asarray(times)
    check_times(stored)
    if stored.size < 2:
        raise SchemaError(f"{name}: has one time only, expected two or more. Give a longer series.")
    return uniform_step(xr.DataArray(stored, dims=TIME), name)


def steps_of(times: Array, dt: float, name: str) -> NDArray[np.intp]:
    """How many steps of `dt` lie between the first time and each of them.

    Raises:
        SchemaError: A time lies between two steps.
    """
    steps = (times - times[0]) / dt
    whole = np.round(steps)
    wrong = np.abs(steps - whole) > 1e-4 * np.maximum(1.0, whole)
    if wrong.any():
        raise SchemaError(
            f"{name}: time {times[wrong][0]:.10g} is not a whole number of steps of {dt:.10g} after {times[0]:.10g}. "
            "Ask for times on the training data's step."
        )
    return whole.astype(np.intp)
