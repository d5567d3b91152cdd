"""What a hybrid rollout has made so far, and what the ROM has in the air."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

__all__ = ["BY_ROM", "BY_SOLVER", "GIVEN", "Course", "Flight", "Stretch"]

GIVEN, BY_ROM, BY_SOLVER = 0, 1, 2


@dataclass
class Course:
    """What a hybrid rollout has made so far.

    Arguments:
        u: Fields `(trajectory, time, field, *space)`, physical units, float64.
        source: Where each came from, `(trajectory, time)`: given, ROM or solver.
        predicted: Predicted error at the times of the ROM, NaN elsewhere.
        at: Last time that is filled, `(trajectory,)`.
        solved: Steps of the solver, comparisons included, `(trajectory,)`.
        hand_overs: How often the solver took over, `(trajectory,)`.
    """

    u: np.ndarray
    source: np.ndarray
    predicted: np.ndarray
    at: np.ndarray
    solved: np.ndarray
    hand_overs: np.ndarray

    @classmethod
    def from_start(cls, u0: np.ndarray, steps: int) -> Course:
        n = len(u0)
        u = np.full((n, steps + 1, *u0.shape[1:]), np.nan)
        u[:, 0] = u0
        source = np.zeros((n, steps + 1), np.int8)
        zero = np.zeros(n, np.int64)
        return cls(u, source, np.full((n, steps + 1), np.nan), zero.copy(), zero.copy(), zero.copy())


@dataclass
class Flight:
    """Latents of the trajectories that the ROM has in the air.

    Arguments:
        rows: Which trajectories, `(flight,)`.
        z: Latent of every network at the last large step, `(network, flight, latent)`.
        lead: Stored steps since the ROM took over, the same for all; a multiple of the large step.
        defect: Errors of single steps added up, `(flight,)`.
        grades: Of the fields where the ROM took over, `(2, flight, field)`, see `romvae.calibration.graded`.
        behind: The last two decoded means, or the one of the take-over, `(flight, time, field, *space)`, physical
            units; None where no residual is asked for.
        residual: Mean squares of the residual added up since the take-over, `(flight, equation)`.
    """

    rows: np.ndarray
    z: Tensor
    lead: int
    defect: np.ndarray
    grades: Tensor
    behind: Tensor | None = None
    residual: Tensor | float = 0.0

    def only(self, some: np.ndarray) -> Flight:
        """Those of the flight that stay in the air, by their places."""
        return replace(
            self,
            rows=self.rows[some],
            z=self.z[:, some],
            defect=self.defect[some],
            grades=self.grades[:, some],
            behind=None if self.behind is None else self.behind[some],
            residual=self.residual[some] if isinstance(self.residual, Tensor) else self.residual,
        )


@dataclass
class Stretch:
    """What the ROM makes of a flight in a few large steps.

    Arguments:
        mean: Decoded mean of the networks `(flight, time, field, *space)`, normalised units.
        variance: Calibrated standard deviation over the domain `(flight, time)`, the largest of all fields.
        parts: What signals are made of, by name, `(flight, time)`; see `romvae.alarm_signal.Signal`.
        after: The flight at its end.
    """

    mean: Tensor
    variance: np.ndarray
    parts: Mapping[str, np.ndarray]
    after: Flight
