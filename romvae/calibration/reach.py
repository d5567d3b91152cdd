"""How far ahead a calibration reaches, and what is said of a forecast that goes on beyond it."""

from __future__ import annotations

import warnings

from romvae.calibration.calibration import Calibration
from romvae.errors import BeyondCalibrationWarning, caller_level

__all__ = ["calibrated_steps", "warn_beyond"]


def calibrated_steps(calibration: Calibration) -> int:
    """Stored steps of the last lead time that the uncertainty was calibrated for; 0 before calibration."""
    return int(calibration.lead[-1]) if calibration.fitted else 0


def warn_beyond(calibration: Calibration, steps: int) -> None:
    """Says once that a forecast is longer than the trajectories that its uncertainty was calibrated on.

    Arguments:
        calibration: Of a ROM or of a baseline; one that is not fitted promises nothing at any step.
        steps: Stored steps of the forecast.

    Warns:
        BeyondCalibrationWarning: Some steps lie beyond the last calibrated lead time.
    """
    last = calibrated_steps(calibration)
    if 0 < last < steps:
        which = f"step {steps} is" if steps == last + 1 else f"steps {last + 1} to {steps} are"
        warnings.warn(
            f"rollout: {which} beyond the {last} that this model was calibrated on; intervals there are those of the "
            "last one and not calibrated",
            BeyondCalibrationWarning,
            stacklevel=caller_level(),
        )
