"""Errors with an exit code: where, what was found, what was expected, what to do."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, ModuleType

__all__ = [
    "NOT_INSTALLED",
    "AssumptionWarning",
    "BeyondCalibrationWarning",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "FewMembersWarning",
    "FewTrajectoriesWarning",
    "NotEnoughMemoryError",
    "NumericsError",
    "OtherStartWarning",
    "OutOfRangeWarning",
    "OutputError",
    "QualityError",
    "RankLostError",
    "RomvaeError",
    "SchemaError",
    "TrainingStoppedError",
    "caller_level",
    "missing_library",
    "optional_import",
]

NOT_INSTALLED = "is not installed"


class RomvaeError(Exception):
    """Base of every error that romvae raises on purpose; the command line exits with `exit_code`."""

    exit_code: int = 1


class ConfigError(RomvaeError, ValueError):
    """A setting or an argument is unknown, of the wrong type or out of range."""

    exit_code = 2


class DataError(RomvaeError, ValueError):
    """Input data are missing, incomplete, broken or not what the model needs."""

    exit_code = 3


class SchemaError(DataError):
    """Fields, units, grid, time step or parameters differ from what was expected."""


class CheckpointError(RomvaeError, ValueError):
    """A saved model is incomplete, damaged or made by an incompatible version."""

    exit_code = 3


class NumericsError(RomvaeError, ArithmeticError):
    """A computation produced a value that is not finite, or a solver did not converge."""

    exit_code = 4


class DivergedError(NumericsError):
    """The latent state of a forecast diverged.

    Arguments:
        steps: First step at which it did, by the trajectory's position among all that are forecast, from 0; whole
            unless times between stored ones were asked for.
        of: Steps of the whole forecast.
        how: What became of the latent state, such as `stopped being finite`.
        outside: Which parameters of a trajectory lie outside of the trained range, in words, by its position.
    """

    def __init__(self, steps: Mapping[int, float], of: int, how: str, outside: Mapping[int, str] | None = None) -> None:
        self.steps, self.of, self.how, self.outside = dict(steps), of, how, dict(outside or {})
        super().__init__(self._words(min(self.steps, key=lambda position: (self.steps[position], position))))

    def __reduce__(self) -> tuple[type[DivergedError], tuple[Mapping[int, float], int, str, Mapping[int, str]]]:
        return type(self), (self.steps, self.of, self.how, self.outside)

    @property
    def step(self) -> float:
        """The first step at which any trajectory diverged."""
        return min(self.steps.values())

    def of_one(self, position: int) -> str:
        """The message of one of the trajectories."""
        return self._words(position, alone=True)

    def _words(self, position: int, alone: bool = False) -> str:
        others = 0 if alone else len(self.steps) - 1
        more = f", that of {others} other{'s' if others > 1 else ''} at that step or later" if others else ""
        beyond = self.outside.get(position, "")
        why = f" Its parameters lie outside of the trained range ({beyond})." if beyond else ""
        return (
            f"rollout: the latent state of trajectory {position} (the first is 0) {self.how} at step "
            f"{self.steps[position]:g} of {self.of}{more}.{why} Roll out fewer steps, or train the dynamics for more "
            "steps (--training.dynamics-steps) or on longer windows (--training.horizon)."
        )


class NotEnoughMemoryError(RomvaeError, MemoryError):
    """A computation needs more memory than there is."""

    exit_code = 5


class OutputError(RomvaeError, OSError):
    """An output cannot be written: it exists already, the disk is full, permission is missing."""

    exit_code = 5


class QualityError(RomvaeError):
    """A result is worse than the bound that the user asked for."""

    exit_code = 6


class RankLostError(RomvaeError):
    """Another process of the same training has ended, or cannot be reached."""

    exit_code = 7


class AssumptionWarning(UserWarning):
    """The data leave something out and romvae assumes it: units, a boundary condition, what a coordinate means."""


class FewMembersWarning(UserWarning):
    """A forecast has too few members for its spread and interval to mean much."""


class FewTrajectoriesWarning(UserWarning):
    """There are too few calibration trajectories for a finite interval, or for a trust horizon."""


class OtherStartWarning(UserWarning):
    """A forecast starts from another number of fields than those that its intervals were calibrated with."""


class OutOfRangeWarning(UserWarning):
    """A parameter lies outside the range that the model was trained on."""


class HeldBackWarning(OutOfRangeWarning):
    """Latents of a forecast left the range of the training codes by far, and were held at its edge."""


class BeyondCalibrationWarning(OutOfRangeWarning):
    """A forecast goes on beyond the lead times that the model was calibrated on."""


class TrainingStoppedError(RomvaeError):
    """A signal asked for a stop.

    Arguments:
        signum: The signal.
        path: File of the training state, where one was written.
    """

    def __init__(self, signum: int, path: Path | None) -> None:
        self.signum, self.path = signum, path
        self.exit_code = 128 + signum
        kept = "nothing was kept" if path is None else f"the state is in {path}"
        super().__init__(f"training stopped by {signal.Signals(signum).name}; {kept}.")


def missing_library(module: str, extra: str, what: str) -> str:
    """What is said where a library is missing; arguments as for `optional_import`."""
    return f"{what} needs {module}, which {NOT_INSTALLED}. Run pip install 'romvae[{extra}]'"


def optional_import(module: str, extra: str, what: str) -> ModuleType:
    """Imports a library that an extra of romvae brings.

    Arguments:
        module: Name of the module.
        extra: Name of the extra in `pip install 'romvae[extra]'`.
        what: What needs it, for the message.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != module.split(".")[0]:
            raise
        raise ConfigError(missing_library(module, extra, what)) from None


def caller_level() -> int:
    """`stacklevel` for a warning that is to name the first line outside of romvae, and not one of its own.

    Between the two stand the frames of torch's decorators.
    """
    own = str(Path(__file__).parent)
    files: list[str] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    level = max(i for i, file in enumerate(files) if file.startswith(own)) + 1
    while level < len(files) - 1 and Path(files[level]).parts[-3:] == ("torch", "utils", "_contextlib.py"):
        level += 1
    return level + 1
