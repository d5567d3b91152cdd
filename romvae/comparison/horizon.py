"""Whether forecasts kept a tolerance for as long as their trust horizon said, and how long that was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from romvae.baselines.model import BaselineModel
from romvae.comparison.bands import LEVEL, expected_share
from romvae.errors import DataError
from romvae.schema import TIME, TRAJECTORY
from romvae.trust import horizon_of, predicted_error, true_error

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["TOLERANCES", "forecast_errors", "horizon_scores"]

TOLERANCES = (0.05, 0.1, 0.2)
"""Errors that are accepted, in standard deviations of the training data."""

Errors = NDArray[np.float64]


def forecast_errors(model: Model, truth: xr.Dataset, forecast: xr.Dataset) -> Errors | None:
    """True and predicted error of forecasts at every time with the initial one, `(2, trajectory, time)`.

    None where the model has no trust horizon.

    Arguments:
        model: Whose forecasts they are.
        truth: Reference at the same times.
        forecast: As `rollout` returns it.
    """
    if _reason(model) is not None or isinstance(model, BaselineModel):
        return None
    truth, forecast = (each.drop_vars(list(each.coords)) for each in (truth, forecast))  # they differ by rounding
    both = true_error(model, truth, forecast), predicted_error(model, forecast)
    return np.stack([each.transpose(TRAJECTORY, TIME).values for each in both]).astype(np.float64)


def horizon_scores(model: Model, errors: Errors | None, time: xr.DataArray) -> dict[str, Any]:
    """Trust horizons of all forecasts at the level 0.9, and how they held; nothing of a baseline.

    A forecast is held if its true error does not exceed the tolerance before its horizon. The share of held ones among
    the test runs is beside the interval in which it lies for 90 % of all draws of that many calibration and test runs;
    where few calibration runs ever exceed the tolerance, the horizons are infinite and more are held than that.

    Arguments:
        model: Whose forecasts they are.
        errors: From `forecast_errors`, of all trajectories.
        time: Times with the initial one.

    Returns:
        `tolerances`, a list with `kept`, `expected_low` and `expected_high`, `trusted_to_the_end` (a share), and
        medians in time after the start: `median_horizon`, and `median_possible` of the first time at which the true
        error exceeds the tolerance. Both count the last time where there is none. Or `not_measured`, with the reason.
    """
    if isinstance(model, BaselineModel):
        return {}
    reason = _reason(model)
    if reason is not None or errors is None:
        return {"not_measured": reason}
    lead = np.asarray(time.values, dtype=np.float64) - float(time[0])
    true = errors[0]
    predicted = xr.DataArray(errors[1], {TIME: time.values}, (TRAJECTORY, TIME))
    low, high = expected_share(model.trust.trajectories, len(true))
    found = []
    for tolerance in TOLERANCES:
        horizon = horizon_of(model, predicted, tolerance, LEVEL).values
        late = true > tolerance
        possible = np.where(late.any(1), lead[late.argmax(1)], np.inf)
        found.append(
            {
                "tolerance": tolerance,
                "kept": float((possible >= horizon).mean()),
                "expected_low": low,
                "expected_high": high,
                "trusted_to_the_end": float(np.isinf(horizon).mean()),
                "median_horizon": float(np.median(horizon.clip(max=lead[-1]))),
                "median_possible": float(np.median(possible.clip(max=lead[-1]))),
            }
        )
    return {"level": LEVEL, "calibration_runs": model.trust.trajectories, "tolerances": found}


def _reason(model: Model) -> str | None:
    """Why there is no trust horizon; None where there is one."""
    if isinstance(model, BaselineModel):
        return "it has no trust scores"
    try:
        model.trust.threshold(TOLERANCES[0], LEVEL)
    except DataError as error:
        return str(error)
    return None
