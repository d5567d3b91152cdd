"""How long a forecast is good for, and what it keeps constant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from romvae.errors import ConfigError, DataError
from romvae.metrics.matching import Fields, mean_over, per_field, space_dims
from romvae.schema import TIME, TRAJECTORY

__all__ = ["conservation", "valid_prediction_time"]


def valid_prediction_time(
    truth: Fields,
    forecast: Fields,
    threshold: float = 0.5,
    start: float | None = None,
    lyapunov_time: float | None = None,
) -> Fields:
    r"""Time for which the normalised error stays at or below a threshold, for each trajectory.

    .. math:: e(t) = \|v(t) - u(t)\| / \sqrt{\langle \|u\|^2 \rangle}

    with the norm over space and the mean over the trajectory's times. The last time before the first that exceeds
    the threshold counts; a forecast that never does gets the whole horizon, so that a mean over trajectories is a
    lower bound where some never do.

    Arguments:
        truth: Reference fields, with times as coordinates.
        forecast: Forecast fields.
        threshold: Largest error that is valid.
        start: Time at which the forecast began; None takes the first time given.
        lyapunov_time: Time in which errors grow by e, 1 / (largest Lyapunov exponent): the result is then a number of
            Lyapunov times instead of a time.

    Raises:
        ConfigError: The threshold or the Lyapunov time is not positive.

    References:
        Vlachas et al. (2020), Backpropagation algorithms and reservoir computing in recurrent neural networks for the
        forecasting of complex spatiotemporal dynamics, arXiv:1910.05266.
    """
    for name, value in (("threshold", threshold), ("lyapunov_time", lyapunov_time)):
        if value is not None and not value > 0:
            raise ConfigError(f"valid_prediction_time: {name} is {value}, expected above zero. Correct it.")

    def one(u: xr.DataArray, v: xr.DataArray) -> xr.DataArray:
        inner: list[str] = space_dims(u)
        size = mean_over(u**2, [*inner, TIME])
        error = (mean_over((v - u) ** 2, inner) / size) ** 0.5
        times = np.asarray(u[TIME].values, dtype=np.float64)
        begin = float(times[0]) if start is None else start
        bad = ~(error <= threshold)  # not a number is bad
        first = bad.argmax(TIME)
        leads = np.concatenate([[begin], times]) - begin
        good = xr.where(bad.any(TIME), first, len(times))
        return good.copy(data=leads[good.values] / (lyapunov_time or 1.0))

    return per_field("valid_prediction_time", one, truth, forecast)


def conservation(
    conserved: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    truth: xr.Dataset,
    forecast: xr.Dataset,
    fields: Sequence[str],
    each: bool = False,
) -> xr.Dataset:
    """How far a forecast is from keeping what the equation keeps, over time.

    Arguments:
        conserved: A solver's `conserved`: fields `(..., field, *space)` to values `(...)` by name.
        truth: Reference fields, the initial time included.
        forecast: Forecast fields with the same coordinates.
        fields: Their order.
        each: Gives the values of each trajectory, on a dim `trajectory`, instead of root mean squares over them.

    Returns:
        For each conserved quantity, with dim `time`: `<name>_drift`, the root mean square over trajectories of the
        forecast's value minus the truth's initial one; `<name>_truth`, the same of the truth itself, which is the
        solver's own error; and `<name>_size`, the root mean square of the truth's values, a number, to compare with.
    """
    dims = [d for d in truth[fields[0]].dims if d in (TRAJECTORY, TIME)]
    space = space_dims(truth)

    def values(ds: xr.Dataset) -> Mapping[str, np.ndarray]:
        u = np.stack([ds[f].transpose(TRAJECTORY, TIME, *space).values for f in fields], axis=2)
        return conserved(u.astype(np.float64))

    if set(dims) != {TRAJECTORY, TIME}:
        raise DataError(f"conservation: dims are {dims}, expected {TRAJECTORY} and {TIME}. Expand them.")
    exact, found = values(truth), values(forecast)
    squares: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for name, value in exact.items():
        begin = value[:, :1]
        squares[f"{name}_drift"] = ((TRAJECTORY, TIME), (found[name] - begin) ** 2)
        squares[f"{name}_truth"] = ((TRAJECTORY, TIME), (value - begin) ** 2)
        squares[f"{name}_size"] = ((TRAJECTORY,), (value**2).mean(1))
    own = xr.Dataset(squares, {TIME: truth[TIME]})
    root: xr.Dataset = (own if each else own.mean(TRAJECTORY)) ** 0.5
    return root
