"""POD coefficients stepped through time: what DMD, operator inference and linear dynamics have in common."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from romvae.baselines.base import Baseline, State, check_rank, check_times
from romvae.baselines.paths import Paths, Snapshots, steps_of, time_step
from romvae.baselines.pod import POD
from romvae.baselines.stack import FieldStack
from romvae.errors import NumericsError
from romvae.progress import Progress, silent
from romvae.schema import TIME

__all__ = ["PODStepper", "StepModel"]

logger = logging.getLogger("romvae.baselines")

Array = NDArray[np.float64]


class StepModel(Protocol):
    """A fitted model of the coefficients."""

    def path(self, z0: Array, c: Array, steps: int) -> Array:
        """Coefficients `(trajectory, steps + 1, mode)` from starts `(trajectory, mode)`; not finite once diverged."""

    def state(self) -> State:
        """What it was fitted to be."""


class PODStepper(Baseline):
    """POD of snapshots, and a model that steps its coefficients.

    A subclass says which settings there are to try and how a model is learned with them. Rank and settings are chosen
    by the rollout error on trajectories that nothing was fitted to; a candidate that diverges there is out.
    Trajectories may differ in length: what lies beyond an end is neither fitted nor scored.

    Arguments:
        rank: Number of modes; None tries those of `ranks`.

    Attributes:
        pod: The fitted `POD`.
        choice: The chosen settings and their relative rollout error on held-out trajectories, truncation included.
    """

    ranks: tuple[int, ...] = (4, 8, 16, 32, 64)
    pod: POD
    dt: float

    def __init__(self, rank: int | None = None) -> None:
        super().__init__()
        self.rank = check_rank(self.name, rank)

    def fit(
        self,
        train: xr.Dataset,
        *,
        validation: xr.Dataset | None = None,
        seed: int = 0,
        budget: float | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Chooses rank and settings on held-out trajectories, then fits to all that may be fitted to.

        Raises:
            DataError: It does not apply to these trajectories.
            SchemaError: Their times are not uniform.
            NumericsError: All candidates diverge on the held-out trajectories.
        """
        self._require(train)
        self.stack = FieldStack.of(train)
        self.dt = time_step(train[TIME].values, self.name)
        whole = Snapshots.of(train, self.stack)
        self._prepare(whole.c)
        known, held = whole.halves(seed) if validation is None else (whole, Snapshots.of(validation, self.stack))
        most = self.rank or max(self.ranks)
        pod = POD(most).fit(known.flat(), seed)
        best = self._chosen(known.paths(pod), held.paths(pod), budget, progress or silent)
        if validation is None:
            pod = POD(best["rank"]).fit(whole.flat(), seed)
        self.pod = pod.truncate(best["rank"])
        self.model = self._learn(best, whole.paths(self.pod))
        return self

    def rollout(self, start: xr.Dataset, times: ArrayLike) -> xr.Dataset:
        """Forecast of the mean; see `Baseline.rollout`.

        Raises:
            SchemaError: Times are not multiples of the training data's step, or the start does not fit the data.
            NumericsError: The forecast diverged.
        """
        times = check_times(times)
        steps = steps_of(times, self.dt, self.name)
        start = self.stack.start(start)
        z0 = self.pod.project(self.stack.array(start))
        path = self.model.path(z0, self.stack.parameter_array(start), int(steps[-1]))[:, steps]
        if not np.isfinite(path).all():
            trajectory, step = (int(i) for i in np.argwhere(~np.isfinite(path).all(-1))[0])
            raise NumericsError(
                f"{self.name}: the forecast of trajectory {trajectory} diverged before time {times[step]:g}. Forecast "
                "less far, or use a model that stays bounded."
            )
        return self.stack.dataset(self.pod.reconstruct(path), start, times)

    def _chosen(self, known: Paths, held: Paths, budget: float | None, progress: Progress) -> dict[str, Any]:
        """Settings of the least error on the paths `held` of models learned from `known`."""
        began = time.process_time()
        ranks = [self.rank] if self.rank is not None else list(self.ranks)
        possible = sorted({min(rank, known.z.shape[-1]) for rank in ranks})
        best: dict[str, Any] | None = None
        least = np.inf
        for k, rank in enumerate(possible):
            progress(self.name, k, len(possible), f"rank {rank}")
            part = known.first(rank)
            for settings in self._settings(rank):
                if best is not None and budget is not None and time.process_time() - began > budget:
                    break
                for more, model in self._variants(settings, part):
                    error = _rollout_error(model, held, rank)
                    if error < least:
                        best, least = {"rank": rank, **more}, error
        progress(self.name, len(possible), len(possible))
        if best is None:
            raise NumericsError(
                f"{self.name}: every candidate diverges on held-out trajectories, up to {max(possible)} modes. Give "
                "more trajectories, or a shorter time step."
            )
        self.choice = {**best, "held_out_error": least}
        logger.info("%s: %s", self.name, self.choice)
        return best

    def _prepare(self, c: Array) -> None:
        """Learns what does not depend on the settings, such as the range of the parameters `(trajectory, ...)`."""

    @abstractmethod
    def _settings(self, rank: int) -> Iterator[dict[str, Any]]:
        """Settings to try with this many modes, the cheap and safe ones first."""

    def _variants(self, settings: dict[str, Any], paths: Paths) -> Iterator[tuple[dict[str, Any], StepModel]]:
        """Fitted models and their full settings: one, where a fit does not serve for several."""
        try:
            yield settings, self._learn(settings, paths)
        except (np.linalg.LinAlgError, FloatingPointError):
            return  # a candidate that cannot be computed is none

    @abstractmethod
    def _learn(self, settings: dict[str, Any], paths: Paths) -> StepModel:
        """The model of these settings, fitted to the paths."""

    @abstractmethod
    def _restored(self, state: State) -> StepModel:
        """The model from its state."""

    def _state(self) -> State:
        pod, model = self.pod.state(), self.model.state()
        arrays = {f"pod.{name}": a for name, a in pod.arrays.items()}
        arrays |= {f"model.{name}": a for name, a in model.arrays.items()}
        return State({"dt": self.dt, "pod": pod.facts, "model": model.facts}, arrays)

    def _restore(self, state: State) -> None:
        self.dt = float(state.facts["dt"])
        if not self.dt > 0:
            raise ValueError(f"the time step is {self.dt}")
        self.pod = POD.from_state(state.within("pod."), (len(self.stack.fields), int(np.prod(self.stack.shape))))
        self.rank = self.pod.rank
        self.model = self._restored(state.within("model."))


def _rollout_error(model: StepModel, held: Paths, rank: int) -> float:
    """Infinite where the model diverges or cannot be evaluated."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return held.error(model.path(held.z[:, 0, :rank], held.c, held.z.shape[1] - 1))
    except (np.linalg.LinAlgError, NumericsError):
        return np.inf
