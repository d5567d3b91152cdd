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
from romvae.baselines.rank_search import MOST_OPERATIONS, RankSearch, modes_of
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
    by the rollout error on trajectories that nothing was fitted to; a candidate that diverges there is out. Where that
    error is least at the largest of `ranks`, larger ones are tried, as far as `RankSearch` says: up to a number of
    operations, which bounds a fit to some tens of seconds beyond that with `ranks` (256 trajectories, 200 times, 4096
    points, one core). Trajectories may differ in length: what lies beyond an end is neither fitted nor scored.

    Arguments:
        rank: Number of modes; None tries those of `ranks`, and larger ones where they promise to be better.

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
        began = time.process_time()
        self.stack = FieldStack.of(train)
        self.dt = time_step(train[TIME].values, self.name)
        whole = Snapshots.of(train, self.stack)
        self._prepare(whole.c)
        known, held = whole.halves(seed) if validation is None else (whole, Snapshots.of(validation, self.stack))
        until = np.inf if budget is None else began + budget
        best, pod = self._chosen(known, held, seed, until, progress or silent)
        if validation is None:
            pod = modes_of(whole, best["rank"], seed, max(self._grid))
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

    @property
    def _grid(self) -> list[int]:
        return sorted(self.ranks) if self.rank is None else [self.rank]

    def _chosen(
        self, known: Snapshots, held: Snapshots, seed: int, until: float, progress: Progress
    ) -> tuple[dict[str, Any], POD]:
        """Settings of the least error on `held` of models learned from `known`, and the modes."""
        usual = most = self._grid[-1]
        pod = modes_of(known, most, seed, usual)
        learned, judged = known.paths(pod), held.judged(pod)
        search = RankSearch(self._grid, lambda family, rank: self._operations(family, rank, learned, judged))
        todo = self._first(search, pod.rank)
        while todo:
            self._try(todo, learned, judged, search, until, progress)
            todo = {} if self.rank is not None or time.process_time() > until else search.further()
            wanted = max((max(ranks) for ranks in todo.values()), default=0)
            if wanted > most == pod.rank:  # else the data have no more modes
                most = wanted
                pod = modes_of(known, most, seed, usual)
                learned, judged = known.paths(pod), held.judged(pod)
            todo = search.untried(todo, pod.rank)
        if search.best is None:
            raise NumericsError(
                f"{self.name}: every candidate diverges on held-out trajectories, up to {pod.rank} modes. Give "
                "more trajectories, or a shorter time step."
            )
        self.choice = {**search.best, "held_out_error": search.least}
        logger.info("%s: %s", self.name, self.choice)
        return search.best, pod

    def _first(self, search: RankSearch, most: int) -> dict[str, list[int]]:
        """The numbers of modes of the grid by family; a number that was asked for, where it is not too much work."""
        todo: dict[str, list[int]] = {}
        for rank in sorted({min(rank, most) for rank in self._grid}):
            for family in dict.fromkeys(self._family(settings) for settings in self._settings(rank)):
                if rank <= self._usual(family) or (
                    self.rank is not None and search.operations(family, rank) <= MOST_OPERATIONS
                ):
                    todo.setdefault(family, []).append(rank)
        return todo

    def _try(
        self,
        todo: dict[str, list[int]],
        learned: Paths,
        judged: Paths,
        search: RankSearch,
        until: float,
        progress: Progress,
    ) -> None:
        """Fits and judges the candidates, the small ones first."""
        ranks = sorted({rank for some in todo.values() for rank in some})
        for k, rank in enumerate(ranks):
            progress(self.name, k, len(ranks), f"rank {rank}")
            part = learned.first(rank)
            for settings in self._settings(rank):
                family = self._family(settings)
                if rank not in todo.get(family, ()):
                    continue
                if search.best is not None and time.process_time() > until:
                    break
                search.note(family, rank, np.inf, {})
                for more, model in self._variants(settings, part):
                    search.note(family, rank, _rollout_error(model, judged, rank), {"rank": rank, **more})
        progress(self.name, len(ranks), len(ranks))

    def _prepare(self, c: Array) -> None:
        """Learns what does not depend on the settings, such as the range of the parameters `(trajectory, ...)`."""

    @abstractmethod
    def _settings(self, rank: int) -> Iterator[dict[str, Any]]:
        """Settings to try with this many modes, the cheap and safe ones first."""

    def _family(self, settings: dict[str, Any]) -> str:
        """Which settings cost alike, and are tried with more modes or not by their own errors."""
        return ""

    def _usual(self, family: str) -> float:
        """The largest number of modes with which a family is tried however long it takes."""
        return np.inf if self.rank is not None else max(self.ranks)

    @abstractmethod
    def _operations(self, family: str, rank: int, known: Paths, held: Paths) -> float:
        """About how many additions and multiplications all candidates of a family take with so many modes.

        Those of a decomposition count ten times or more, since they take as much longer than a product of matrices.
        Infinite where the data do not allow it.
        """

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
