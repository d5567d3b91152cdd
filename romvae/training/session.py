"""What a training run must not lose: its state on disk, written atomically, and continued to the bit."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from romvae.atomic import atomic_file
from romvae.errors import CheckpointError, ConfigError, RankLostError, TrainingStoppedError
from romvae.kinds import DEFAULTS, LOSS_DEFAULTS, STAGES
from romvae.ranks import ALONE, Ranks

__all__ = ["STAGES", "History", "Session", "TrainingState", "read_state", "write_state"]

logger = logging.getLogger("romvae.training")

FORMAT = 1
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""For each older format, what turns its fields into those of the next one. The first format is the present one."""

_OLDER: dict[str, Any] = {**LOSS_DEFAULTS, "fallback": "never", "precision": "float32", "compile": "off", "ranks": 1}
"""What older states, which lack these, were trained with."""
_ROUNDING = {"threads": "threads", "ranks": "processes"}
"""Settings on which the last bits of the result depend, and nothing else."""

_SIGNALS: list[int] = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]

_MAGIC = b"romvae-training-state\n"
_DIGEST = 64


def _completed(value: Any) -> Any:
    """A model's description with the choices that came after it was written; anything else as it is."""
    try:
        content = json.loads(value)
        return {**content, "model": {**DEFAULTS, **content["model"]}}
    except (TypeError, ValueError, KeyError):
        return value


@dataclass
class History:
    """What happened in training: loss curves and seconds per stage, and decisions taken from the data.

    Attributes:
        curves: Losses by stage and name, with the steps that they belong to.
        seconds: Wall-clock by stage.
        notes: Decisions.
        process_seconds: Seconds that processors worked, by stage: of all threads, and of all processes that train
            together. A stage of which a part was trained by an earlier version, which did not count them, has none.
    """

    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    process_seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "curves": self.curves,
            "seconds": self.seconds,
            "notes": self.notes,
            "process_seconds": self.process_seconds,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> History:
        """The inverse of `to_dict`."""
        process = dict(content.get("process_seconds", {}))  # earlier versions did not count them
        return cls(dict(content["curves"]), dict(content["seconds"]), dict(content["notes"]), process)


@dataclass
class TrainingState:
    """Everything that the rest of a training depends on; the order of samples follows from seed and step.

    Arguments:
        settings: What the run was started with; a continuation must agree.
        stage: Stage that is under way.
        step: Steps of it that are done.
        model: State of the ROM.
        optimiser: State of optimiser and schedule within the stage; empty at its start.
        history: What happened so far.
    """

    settings: dict[str, Any]
    stage: str
    step: int
    model: dict[str, torch.Tensor]
    optimiser: dict[str, Any]
    history: dict[str, Any]


def write_state(state: TrainingState, path: Path) -> None:
    """Writes the state with its SHA-256 beside the target and renames it; the one before is kept as `NAME.previous`."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **vars(state)}, buffer)
    payload = buffer.getvalue()
    with atomic_file(path, overwrite=True) as temporary:
        digest = hashlib.sha256(payload).hexdigest().encode("ascii")
        temporary.write_bytes(_MAGIC + digest + b"\n" + payload)
        if path.exists():
            os.replace(path, _previous(path))


def read_state(path: Path) -> TrainingState:
    """Reads the newest state that is whole; nothing in the file is executed.

    Raises:
        CheckpointError: Neither the state nor the one before it can be used.
    """
    problems = []
    for candidate in (path, _previous(path)):
        try:
            state = _read(candidate)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if problems:
            logger.warning("%s; continuing from %s", problems[0], candidate.name)
        return state
    raise CheckpointError(problems[0])


def _read(path: Path) -> TrainingState:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file, so there is no training to continue. Train anew.") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from error
    start = len(_MAGIC)
    payload = content[start + _DIGEST + 1 :]
    if not content.startswith(_MAGIC):
        raise CheckpointError(f"{path}: is no training state of romvae. Train anew.")
    if hashlib.sha256(payload).hexdigest().encode("ascii") != content[start : start + _DIGEST]:
        raise CheckpointError(f"{path}: its checksum differs: truncated or damaged. Train anew.")
    try:
        fields = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        version = fields.pop("format")
        if version > FORMAT:
            raise CheckpointError(f"{path}: format {version} was written by a newer romvae, this one reads {FORMAT}.")
        for older in range(version, FORMAT):
            if older not in MIGRATIONS:
                raise CheckpointError(f"{path}: format {older} is too old for this romvae. Train anew.")
            fields = MIGRATIONS[older](fields)
        return TrainingState(**fields)
    except CheckpointError:
        raise
    except Exception as error:  # whatever torch makes of a hostile file, it is one refusal
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path}: cannot be loaded without executing code: {reason}") from error


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".previous")


class Session:
    """A training run that can be stopped at any moment and continued exactly.

    Without a path nothing is kept. With one, the state is written at the end of every stage, every `every` seconds
    within it, and when the process is asked to stop; a state that is already there is continued.

    Arguments:
        path: File of the training state; None keeps none.
        settings: What the result depends on; compared with those of the state that is continued.
        every: Seconds between two writes within a stage.
        ranks: Processes that train together: the first one reads and writes the state, and all stop at the same step.

    Raises:
        ConfigError: The state was made with other settings.
        CheckpointError: The state is there but cannot be used.
    """

    def __init__(
        self, path: Path | None, settings: Mapping[str, Any], every: float = 30.0, ranks: Ranks = ALONE
    ) -> None:
        self.path, self.settings, self.every, self.ranks = path, dict(settings), every, ranks
        self.history = History()
        self.found: TrainingState | None = None
        self._signal: int | None = None
        self._listening = False
        self._clock: tuple[str, float, float] | None = None
        self._process: tuple[float, float] | None = None
        self._written = time.monotonic()
        if path is not None:
            self.found = ranks.once(lambda: self._read(path))
        if self.found is not None:
            self.history = History.from_dict(self.found.history)

    def _read(self, path: Path) -> TrainingState | None:
        if not path.exists() and not _previous(path).exists():
            return None
        found = read_state(path)
        self._agree(path, found.settings)
        return found

    def _agree(self, path: Path, before: Mapping[str, Any]) -> None:
        for name, value in self.settings.items():
            earlier = before.get(name, _OLDER.get(name))  # older states lack newer choices
            if name in _ROUNDING:
                if earlier != value:
                    logger.warning(
                        "continuing with %s %s what was begun with %s: the result will differ in the last bits",
                        value,
                        _ROUNDING[name],
                        earlier,
                    )
            elif earlier != value and _completed(earlier) != _completed(value):
                raise ConfigError(
                    f"{path}: was trained with {name} = {before.get(name)!r}, now it is {value!r}. "
                    "Continue with the same settings, or train anew in another folder."
                )

    def begin(self, stage: str) -> None:
        """Starts the clocks of a stage; time spent on it before an interruption counts."""
        spent, process = self.history.seconds.get(stage, 0.0), self.history.process_seconds
        self._clock = (stage, spent, time.perf_counter())
        unknown = spent > 0 and stage not in process
        self._process = None if unknown else (process.get(stage, 0.0), time.process_time())

    def tick(self) -> None:
        """Brings the seconds of the present stage up to date."""
        if self._clock is not None:
            stage, before, begin = self._clock
            self.history.seconds[stage] = before + time.perf_counter() - begin
            if self._process is not None:
                before, begin = self._process
                # The processes have equal shares of the work, so that nobody has to be asked.
                self.history.process_seconds[stage] = before + self.ranks.size * (time.process_time() - begin)

    def finished(self, stage: str) -> bool:
        """Whether the state on disk is past this stage."""
        return self.found is not None and STAGES.index(self.found.stage) > STAGES.index(stage)

    def within(self, stage: str) -> TrainingState | None:
        """The state to continue within this stage, if any of its steps are done."""
        state = self.found
        return state if state is not None and state.stage == stage and state.step > 0 else None

    def save(self, stage: str, step: int, model: Mapping[str, torch.Tensor], optimiser: Mapping[str, Any]) -> None:
        """Writes the state now; only the first process does."""
        if self.path is None or not self.ranks.first:
            return
        self.tick()
        tensors = {name: value.detach().cpu().clone() for name, value in model.items()}
        state = TrainingState(self.settings, stage, step, tensors, dict(optimiser), self.history.to_dict())
        write_state(state, self.path)
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the state should be written after the present step."""
        late = self.ranks.first and time.monotonic() - self._written >= self.every
        return self.path is not None and (late or self.asked)

    @property
    def asked(self) -> bool:
        """Whether a stop was asked for, as all processes know since the same step."""
        return self._signal is not None if self.ranks.size == 1 else self.ranks.called

    def stop_if_asked(self, saved: bool) -> None:
        """Ends the run if a signal asked for it, to whichever process it came; all of them call this together.

        Arguments:
            saved: Whether the state on disk is the present one.

        Raises:
            TrainingStoppedError: A signal came in.
        """
        # Also a meeting: none ends before the first one has written the state.
        signals = [number for number in self.ranks.gathered(self._signal) if number is not None]
        if signals:
            raise TrainingStoppedError(signals[0], self.path if saved else None)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """While it lasts, SIGINT, SIGTERM and SIGUSR1 ask for a stop after the present step; a second SIGINT stops."""
        if self.path is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
        self._listening = True
        self.take_signals()
        try:
            yield
        except RankLostError:
            if self._signal is not None:  # the other process got it too, and was quicker
                raise TrainingStoppedError(self._signal, self.path) from None
            raise
        finally:
            self._listening = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def take_signals(self) -> None:
        """Puts its handlers in the place of others that were set meanwhile; without effect outside of `signals`."""
        if self._listening:
            for number in _SIGNALS:
                signal.signal(number, self._ask)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if self._signal is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal, self.ranks.calling = signum, True

    def watched(self, report: Callable[..., None]) -> Callable[..., None]:
        """`report`, which also ends the run between two units of a stage that has no steps of its own."""

        def reporting(*args: Any) -> None:
            report(*args)
            if self._signal is not None:  # a process by itself: the others may have more or less to report
                raise TrainingStoppedError(self._signal, self.path)

        return reporting
