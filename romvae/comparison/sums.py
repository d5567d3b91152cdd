"""What the scores of a forecast are made of, for each trajectory: whole trajectories are the independent samples.

Everything here has dims `(field, trajectory)`, or `(field, trajectory, time)`. A score is a function of some rows of
them, so that it can be computed again for any choice of trajectories: for confidence intervals and exchanges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from romvae import metrics as score
from romvae.metrics.resampling import Statistic
from romvae.schema import TIME, TRAJECTORY

__all__ = ["Sums", "error_sums", "pooled_error", "statistics", "uncertainty_sums"]

Sums = Mapping[str, NDArray[np.float64]]


def error_sums(truth: xr.Dataset, mean: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """`wrong` and `size`, squares of error and truth summed over space, `(field, trajectory, time)`, and means.

    The means, `(field, trajectory)`, are those over time and space of `vrmse`, of the truth, `mean`, and of its square.

    Arguments:
        truth: Reference fields, without the initial time.
        mean: Forecast at the same times.
    """
    space = [d for d in truth.dims if d not in (TRAJECTORY, TIME)]
    rest = [TIME, *space]
    u, v = truth.astype(np.float64), mean.astype(np.float64)
    return {
        "wrong": _stacked(((v - u) ** 2).sum(space, skipna=False)),
        "size": _stacked((u**2).sum(space, skipna=False)),
        "vrmse": _stacked(score.vrmse(u, v).mean(TIME, skipna=False)),
        "mean": _stacked(u.mean(rest, skipna=False)),
        "square": _stacked((u**2).mean(rest, skipna=False)),
        "error": _stacked(((v - u) ** 2).mean(rest, skipna=False)),
    }


def uncertainty_sums(
    truth: xr.Dataset, mean: xr.Dataset, std: xr.Dataset, lower: xr.Dataset, upper: xr.Dataset, start: float
) -> dict[str, NDArray[np.float64]]:
    """Means over time and space of each trajectory, `(field, trajectory)`, of what scores of the spread are made of.

    Arguments:
        truth: Reference fields, without the initial time.
        mean: Forecast.
        std: Its standard deviation.
        lower: Lower ends of its 90 % intervals.
        upper: Upper ends.
        start: The initial time.
    """
    rest = [d for d in truth.dims if d != TRAJECTORY]
    return {
        "coverage_90": _stacked(score.coverage(truth, lower, upper, rest)),
        "crps": _stacked(score.gaussian_crps(truth, mean, std, rest)),
        "nll": _stacked(score.gaussian_nll(truth, mean, std, rest)),
        "absolute": _stacked(abs(truth.astype(np.float64) - mean.astype(np.float64)).mean(rest, skipna=False)),
        "variance": _stacked((std.astype(np.float64) ** 2).mean(rest, skipna=False)),
        "valid_prediction_time": _stacked(score.valid_prediction_time(truth, mean, start=start)),
        "interval_score_90": _stacked(score.interval_score(truth, lower, upper, 0.9, rest)),
    }


def pooled_error(wrong: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative L2 error, root mean square over fields of ratios of sums: `(..., field, trajectory)` to `(...)`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = wrong.sum(-1) / size.sum(-1)
    return np.sqrt(np.where(wrong.sum(-1) == 0, 0.0, ratio).mean(-1))


def statistics(sums: Sums) -> dict[str, Statistic]:
    """Functions of numbers of trajectories `(..., trajectory)` by the score's name, as far as `sums` has their parts.

    What is a maximum (`worst_*`) or ranks single points has no entry: resampling trajectories says little of it.
    """
    whole = {name: values.sum(2) if values.ndim == 3 else values for name, values in sums.items()}

    def rows(name: str, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        """`(field, ...,  trajectory)` with the field brought beside the trajectory: `(..., field, trajectory)`."""
        return np.moveaxis(whole[name][:, chosen], 0, -2)

    def average(name: str) -> Statistic:
        return lambda chosen: rows(name, chosen).mean((-1, -2))

    def ratio(over: str, under: str, power: float) -> Statistic:
        return lambda chosen: ((rows(over, chosen).mean(-1) / rows(under, chosen).mean(-1)) ** power).mean(-1)

    def nrmse(chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        variance = rows("square", chosen).mean(-1) - rows("mean", chosen).mean(-1) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.sqrt((rows("error", chosen).mean(-1) / variance).mean(-1))

    def ranked(chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        p, q = (stats.rankdata(rows(name, chosen), axis=-1) for name in ("variance", "error"))
        p, q = p - p.mean(-1, keepdims=True), q - q.mean(-1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return ((p * q).sum(-1) / np.sqrt((p**2).sum(-1) * (q**2).sum(-1))).mean(-1)

    known: dict[str, tuple[Sequence[str], Statistic]] = {
        "relative_l2": (("wrong", "size"), lambda chosen: pooled_error(rows("wrong", chosen), rows("size", chosen))),
        "vrmse": (("vrmse",), average("vrmse")),
        "nrmse": (("error", "square", "mean"), nrmse),
        "mean_absolute_error": (("absolute",), average("absolute")),
        "crps_over_mae": (("crps", "absolute"), ratio("crps", "absolute", 1.0)),
        "spread_skill": (("variance", "error"), ratio("variance", "error", 0.5)),
        "spearman_trajectories": (("variance", "error"), ranked),
    }
    plain = ("coverage_90", "crps", "nll", "interval_score_90", "valid_prediction_time", "ssim")
    known |= {name: ((name,), average(name)) for name in plain}
    return {name: function for name, (parts, function) in known.items() if all(part in whole for part in parts)}


def _stacked(ds: xr.Dataset) -> NDArray[np.float64]:
    """Fields as the first axis, then trajectory, then time."""
    return np.stack([np.asarray(ds[n].transpose(TRAJECTORY, ...).values, dtype=np.float64) for n in ds.data_vars])
