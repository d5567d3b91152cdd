"""What every baseline is: fitted to training trajectories, it forecasts from a start like a ROM does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from romvae.errors import ConfigError, DataError, missing_library

if TYPE_CHECKING:
    from romvae.baselines.stack import FieldStack
    from romvae.progress import Progress

__all__ = ["Baseline", "State", "check_rank", "check_times", "register", "registered"]


@dataclass(frozen=True)
class State:
    """What a fitted baseline knows: all that `Baseline.save` writes.

    Attributes:
        facts: Numbers and names, JSON types only.
        arrays: Arrays by name.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    def within(self, prefix: str) -> State:
        """The arrays whose names begin with `prefix`, without it, and the facts under that name."""
        inner = {name.removeprefix(prefix): a for name, a in self.arrays.items() if name.startswith(prefix)}
        return State(dict(self.facts.get(prefix.rstrip("."), {})), inner)


class Baseline(ABC):
    """A forecast that a ROM has to beat.

    A subclass sets `name` (the key in `metrics.json` and on the command line) and writes `fit`, `rollout`, `_state`
    and `_restore`. A setting that is not given is chosen in `fit`, on trajectories that the candidates were not
    fitted to, and noted in `choice`: an untuned baseline says nothing about a ROM.

    Attributes:
        library: Module that it needs and the extra of romvae that brings it; None where the plain install will do.
        choice: What was chosen and the error that it was chosen by, JSON types only.
    """

    name: ClassVar[str]
    library: ClassVar[tuple[str, str] | None] = None
    stack: FieldStack

    def __init__(self) -> None:
        self.choice: dict[str, Any] = {}

    @classmethod
    def reason_against(cls, train: xr.Dataset) -> str:
        """Why this baseline cannot be fitted to these trajectories, in words; empty where it can."""
        return ""

    @classmethod
    def reason_not_installed(cls) -> str:
        """Which library is missing and how to install it, in words; empty where nothing is. Nothing is imported."""
        if cls.library is None or find_spec(cls.library[0].split(".")[0]) is not None:
            return ""
        return missing_library(*cls.library, f"the baseline {cls.name}")

    @classmethod
    def applies(cls, train: xr.Dataset) -> bool:
        """Whether it can be fitted to these trajectories; `reason_against` says why not."""
        return not cls.reason_against(train)

    @abstractmethod
    def fit(
        self,
        train: xr.Dataset,
        *,
        validation: xr.Dataset | None = None,
        seed: int = 0,
        budget: float | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Fits to training trajectories.

        Arguments:
            train: Trajectories, dims `(trajectory, time, *space)`; they are not changed.
            validation: Trajectories on which settings are chosen; None sets a fifth of `train` aside for that, and
                then fits to all of it (networks are not trained a second time).
            seed: Seed of whatever is random.
            budget: Seconds of process time after which no further candidate is tried, or a network is trained no
                longer; None takes what the method needs.
            progress: Called as `progress(stage, done, total, note)`.

        Returns:
            Itself.

        Raises:
            DataError: It does not apply to these trajectories; `reason_against` says why.
        """

    @abstractmethod
    def rollout(self, start: xr.Dataset, times: ArrayLike) -> xr.Dataset:
        """Forecasts from a start.

        Arguments:
            start: Fields at `times[0]`, dims `(trajectory, *space)`, with parameters as coordinates; a `time`
                dim of size 1 and a missing `trajectory` dim (one trajectory) are accepted.
            times: Times of the forecast, the start's own first, in the data's time units.

        Returns:
            Mean fields in physical units, dims `(trajectory, time, *space)`; the first time is the start as
            the baseline represents it.
        """

    @abstractmethod
    def _state(self) -> State:
        """What `fit` found, beside `stack` and `choice`."""

    @abstractmethod
    def _restore(self, state: State) -> None:
        """Takes up what `_state` gave; `stack` and `choice` are there already.

        Raises:
            KeyError: Something is missing.
            ValueError: Something has another shape than it must have.
        """

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the fitted baseline as a folder of JSON and safetensors; it appears whole or not at all.

        Raises:
            OutputError: The folder exists and `overwrite` is off, or it cannot be written.
        """
        from romvae.baselines.keeping import save_baseline

        return save_baseline(self, Path(folder), overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> Baseline:
        """Reads what `save` wrote; no code in the files is executed. It forecasts the same to the bit.

        Raises:
            CheckpointError: Something is missing, damaged, or made by a newer version.
        """
        from romvae.baselines.keeping import load_baseline

        return load_baseline(Path(folder))

    def _require(self, train: xr.Dataset) -> None:
        reason = self.reason_against(train)
        if reason:
            raise DataError(f"{self.name}: {reason}")


_CLASSES: dict[str, type[Baseline]] = {}


def register(cls: type[Baseline]) -> type[Baseline]:
    """Makes a baseline known by its name, so that it can be loaded; a decorator, for baselines of one's own too."""
    _CLASSES[cls.name] = cls
    return cls


def registered() -> Mapping[str, type[Baseline]]:
    """All known baselines by name."""
    return _CLASSES


def check_times(times: ArrayLike) -> NDArray[np.float64]:
    """Times of a forecast as float64: one or more, finite and increasing.

    Raises:
        DataError: They are not.
    """
    values = np.asarray(times, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all() or (np.diff(values) <= 0).any():
        raise DataError(
            f"baseline: times of shape {values.shape} are not one or more finite, increasing numbers. "
            "Pass the times of the forecast, the start's own first."
        )
    return values


def check_rank(name: str, rank: int | None) -> int | None:
    """The number of modes that was asked for, which has to be positive."""
    if rank is not None and rank < 1:
        raise ConfigError(f"{name}: rank is {rank}, expected 1 or more. Leave it out to have it chosen.")
    return rank
