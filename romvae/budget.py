"""What a model costs before its first forecast, and how much training fits into a budget of process time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from romvae.atomic import atomic_file

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["LEAST", "Affordable", "Costs", "affordable", "fit_within", "quietly"]

LEAST = 0.01
"""The smallest share of the wanted steps that is a training at all."""
_TRIALS = (1 / 500, 1 / 100)


@dataclass
class Costs:
    """Process seconds by what they were spent on, kept in a file, so that a model which is continued counts them all.

    Arguments:
        path: The file; None keeps none.
        seconds: By name.
    """

    path: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is not None and self.path.is_file():
            self.seconds = dict(json.loads(self.path.read_text(encoding="utf-8")))

    @property
    def total(self) -> float:
        """Until the model could forecast."""
        return sum(seconds for name, seconds in self.seconds.items() if name != "forecasts")

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Counts what happens inside, also where it ends in an error or is stopped."""
        began = time.process_time()
        try:
            yield
        finally:
            self.add(name, time.process_time() - began)

    def add(self, name: str, seconds: float) -> None:
        """Counts seconds that were measured elsewhere."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.path, overwrite=True) as temporary:
                temporary.write_text(json.dumps(self.seconds), encoding="utf-8")


@dataclass(frozen=True)
class Affordable:
    """What fits into a budget.

    Arguments:
        share: Of the wanted steps: 1 for all, 0 where not even a hundredth of them fits.
        spent: Process seconds that finding it out has cost; they are part of the budget.
        least: Seconds of a training with a hundredth of the steps, calibration included.
    """

    share: float
    spent: float
    least: float


def affordable(
    rom: ROM,
    parts: Any,
    wanted: Mapping[str, int],
    budget: float,
    seed: int,
    training: Mapping[str, Any] | None = None,
) -> Affordable:
    """Measures by two short trainings of copies what a step costs, and what is paid once: encoding and calibration.

    Arguments:
        rom: Not trained yet; it is not changed.
        parts: What it would be trained on.
        wanted: Steps of the stages, as `romvae.fit` takes them.
        budget: Seconds of process time, for these trials, the training and the calibration together.
        seed: Of the training.
        training: Other arguments of `romvae.fit`.
    """
    from romvae.rom import ROM
    from romvae.training import fit

    seconds = []
    for share in _TRIALS:
        copy = ROM.from_description(rom.description())
        copy.load_state_dict(rom.state_dict())
        steps = {stage: max(1, round(share * count)) for stage, count in wanted.items()}
        began = time.process_time()
        with quietly(logging.getLogger("romvae.training")):  # what so short a training decides is no news
            fit(copy, parts, seed=seed, **{**(training or {}), **steps})
        seconds.append(time.process_time() - began)
    return _fitting(seconds, budget)


def _fitting(seconds: list[float], budget: float) -> Affordable:
    (first, second), (one, other) = _TRIALS, seconds
    # The first trial may be the slower one, where a process does something for the first time: then all of the second
    # counts as steps, which is more than they cost.
    slope = (other - one) / (second - first) if other > one else other / second
    fixed = max(0.0, one - slope * first) if other > one else 0.0
    least = fixed + LEAST * slope
    left = budget - sum(seconds)
    share = min(1.0, (left - fixed) / max(slope, 1e-9)) if left >= least else 0.0
    return Affordable(share, sum(seconds), least)


def fit_within(rom: ROM, parts: Any, costs: Costs, progress: Callable[..., None], **training: Any) -> Any:
    """`romvae.fit`, whose cost is counted under `training` and `calibration`.

    Arguments:
        rom: What is trained.
        parts: On what.
        costs: Where it is counted.
        progress: Called as `progress(stage, done, total, note)`.
        training: Other arguments of `romvae.fit`.

    Returns:
        Its history.
    """
    from romvae.training import fit

    began = time.process_time()
    calibrating: list[float] = []

    def reported(stage: str, *rest: Any) -> None:
        if stage == "calibration" and not calibrating:
            calibrating.append(time.process_time())
        progress(stage, *rest)

    try:
        return fit(rom, parts, progress=reported, **training)
    finally:
        ended = time.process_time()
        between = calibrating[0] if calibrating else ended
        costs.add("training", between - began)
        costs.add("calibration", ended - between)


@contextmanager
def quietly(logger: logging.Logger) -> Iterator[None]:
    """Without the messages of a logger."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
