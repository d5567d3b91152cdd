"""Trajectories of an ensemble that could not be computed: which, with what parameters, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from romvae.errors import NumericsError

__all__ = ["FailedTrajectoriesError", "Failure"]

_NAMED = 8  # trajectories that one message lists


@dataclass(frozen=True)
class Failure:
    """A trajectory that could not be computed: its parameters, when it failed (where that is known) and why."""

    index: int
    parameters: dict[str, float]
    time: float | None
    why: str

    @property
    def line(self) -> str:
        """For people: trajectory, parameters, time and reason."""
        values = ", ".join(f"{name}={value:.6g}" for name, value in self.parameters.items())
        return f"trajectory {self.index} ({values}): {self.why}"


class FailedTrajectoriesError(NumericsError):
    """Some trajectories of an ensemble could not be computed; the others were.

    Arguments:
        where: Case and seed, or the output.
        failures: The trajectories, in any order.
        n: Trajectories in all.
        advice: What to do.
    """

    def __init__(self, where: str, failures: Sequence[Failure], n: int, advice: str) -> None:
        self.where, self.n, self.advice = where, n, advice
        self.failures = sorted(failures, key=lambda failure: failure.index)
        listed = "; ".join(failure.line for failure in self.failures[:_NAMED])
        more = f"; and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
        super().__init__(f"{where}: {len(failures)} of {n} trajectories failed: {listed}{more}. {advice}")

    def __reduce__(self) -> tuple[type, tuple[str, list[Failure], int, str]]:
        return type(self), (self.where, self.failures, self.n, self.advice)

    @property
    def numbers(self) -> str:
        """The trajectories that failed, as a list to read."""
        shown = ", ".join(str(failure.index) for failure in self.failures[:_NAMED])
        return shown + (", ..." if len(self.failures) > _NAMED else "")

    @property
    def summary(self) -> str:
        """The message without the single reasons."""
        return f"{self.where}: {len(self.failures)} of {self.n} trajectories failed ({self.numbers}). {self.advice}"
