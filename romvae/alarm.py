"""When a hybrid rollout hands over to the solver, what that promises, and the trials that it was found by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from romvae.alarm_signal import VARIANCE, Signal
from romvae.atomic import atomic_file
from romvae.calibration import trajectories_needed
from romvae.errors import ConfigError, DataError
from romvae.trust import promise

__all__ = ["THRESHOLDS", "Alarm", "Trial", "Trials", "allowed_losses"]

THRESHOLDS = tuple(2.0 ** (k / 4) for k in range(-10, 7))
"""Thresholds that the calibration tries, in units of the tolerance."""


@dataclass(frozen=True)
class Alarm:
    """When a hybrid rollout hands over, and what that was found to promise.

    Arguments:
        threshold: Predicted error at which the solver takes over, in the field's standard deviations over the
            training data; 0 leaves everything to the solver.
        burst: Stored steps that the solver advances before the ROM tries again.
        check: Stored steps between two comparisons of one ROM step with one of the solver; None makes none.
        back: Whether the solver goes on from the last field of its own, and what the ROM made since is given up; else
            it goes on from the ROM's last field.
        tolerance: Error that the runs of the calibration kept; None where nothing was calibrated.
        level: Share of new runs that are to keep it.
        trajectories: Calibration trajectories.
        work: Mean share of solver steps on them.
        signal: What the predicted error is made of.
        steps: Stored steps of the calibration trajectories: nothing is promised of longer runs. None where nothing was
            calibrated.
    """

    threshold: float
    burst: int = 5
    check: int | None = None
    back: bool = False
    tolerance: float | None = None
    level: float = 0.95
    trajectories: int = 0
    work: float = float("nan")
    signal: Signal = VARIANCE
    steps: int | None = None

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise ConfigError(f"hybrid: threshold is {self.threshold}, expected 0 or more. Calibrate it.")
        for name, value in (("burst", self.burst), ("check", self.check)):
            if value is not None and value < 1:
                raise ConfigError(f"hybrid: {name} is {value}, expected 1 or more stored steps. Choose 5, for example.")

    @property
    def statement(self) -> str:
        """What the calibration promises, in a sentence."""
        if self.tolerance is None:
            return "Not calibrated: the threshold was chosen by hand."
        times = "at all times" if self.steps is None else f"at all times of {self.steps} steps"
        return promise(f"the error stays below {self.tolerance:g} {times}", self.level, self.trajectories)


@dataclass(frozen=True)
class Trial:
    """What hybrid rollouts of the calibration trajectories came to with one alarm.

    Arguments:
        worst: Largest error over time, `(trajectory,)`, in the field's standard deviations.
        work: Mean share of the solver's steps.
    """

    worst: np.ndarray
    work: float


@dataclass
class Trials:
    """The trials of a calibration, in a file as soon as they are made, so that one that was stopped goes on from them.

    Arguments:
        path: JSON file; None keeps nothing.
        key: What the trials depend on beside threshold and way: those of another ROM, of other data or of another
            signal do not count. Records that name no signal are of `variance`, which was the only one.
    """

    path: Path | None
    key: Mapping[str, str | float | int | None]
    _made: dict[str, Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is None or not self.path.exists():
            return
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            found = {n: Trial(np.array(t["worst"], float), float(t["work"])) for n, t in content["trials"].items()}
            same = {"signal": "variance", **content["key"]} == {"signal": "variance", **self.key}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self.path}: holds no trials of a calibration ({error!r}). Remove it.") from None
        self._made = found if same else {}

    def get(self, alarm: Alarm) -> Trial | None:
        """The trial of this threshold and way, if it was made."""
        return self._made.get(_name(alarm))

    def keep(self, alarm: Alarm, trial: Trial) -> None:
        """Adds a trial."""
        self._made[_name(alarm)] = trial
        if self.path is None:
            return
        trials = {name: {"worst": each.worst.tolist(), "work": each.work} for name, each in self._made.items()}
        with atomic_file(self.path, overwrite=True) as target:
            target.write_text(json.dumps({"key": dict(self.key), "trials": trials}) + "\n", encoding="utf-8")


def allowed_losses(n: int, level: float) -> int:
    r"""The largest v with :math:`(v + 1) / (n + 1) \le 1 - level`: how many of n runs may miss the tolerance.

    Raises:
        DataError: Not even v = 0 fulfils it.
    """
    allowed = int((n + 1) * (1 - level) + 1e-9) - 1
    if allowed < 0:
        raise DataError(
            f"calibrate_alarm: {n} trajectories, expected at least {trajectories_needed(level)} for the level "
            f"{level:g}. Use more, or lower the level."
        )
    return allowed


def _name(alarm: Alarm) -> str:
    return f"{alarm.threshold!r} {'back' if alarm.back else 'on'}"
