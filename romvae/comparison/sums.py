"""What the scores of a forecast are made of, for each trajectory: whole trajectories are the independent samples.

Everything here has dims `(field, trajectory, time)`, or `(field, trajectory)` where it belongs to a run as a whole. A
score is a function of some trajectories, so that it can be computed again for any choice of them: for confidence
intervals and exchanges. Sums of some trajectories are put behind those of others by `joined`.
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

__all__ = ["Sums", "error_sums", "joined", "pooled_error", "statistics", "uncertainty_sums", "variance_sums"]

Sums = Mapping[str, NDArray[np.float64]]


def error_sums(truth: xr.Dataset, mean: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """Of every snapshot: `wrong` and `size`, squares of error and truth summed over space, and means over space.

    The means are those of the squared error, `error`, and of the truth, `mean`; `within` is the truth's variance over
    space, and `vrmse` the snapshot's own score.

    Arguments:
        truth: Reference fields, without the initial time.
        mean: Forecast at the same times.
    """
    space = [d for d in truth.dims if d not in (TRAJECTORY, TIME)]
    u, v = truth.astype(np.float64), mean.astype(np.float64)
    square = (v - u) ** 2
    return {
        "wrong": _stacked(square.sum(space, skipna=False)),
        "size": _stacked((u**2).sum(space, skipna=False)),
        "error": _stacked(square.mean(space, skipna=False)),
        "mean": _stacked(u.mean(space, skipna=False)),
        "within": _stacked(u.var(space, skipna=False)),
        "vrmse": _stacked(score.vrmse(u, v)),
    }


def uncertainty_sums(
    truth: xr.Dataset, mean: xr.Dataset, std: xr.Dataset, lower: xr.Dataset, upper: xr.Dataset, start: float
) -> dict[str, NDArray[np.float64]]:
    """Means over space of every snapshot of what scores of the spread are made of, and a time for each trajectory.

    Arguments:
        truth: Reference fields, without the initial time.
        mean: Forecast.
        std: Its standard deviation.
        lower: Lower ends of its 90 % intervals.
        upper: Upper ends.
        start: The initial time.
    """
    space = [d for d in truth.dims if d not in (TRAJECTORY, TIME)]
    return {
        "coverage_90": _stacked(score.coverage(truth, lower, upper, space)),
        "crps": _stacked(score.gaussian_crps(truth, mean, std, space)),
        "nll": _stacked(score.gaussian_nll(truth, mean, std, space)),
        "absolute": _stacked(abs(truth.astype(np.float64) - mean.astype(np.float64)).mean(space, skipna=False)),
        "variance": variance_sums(std),
        "interval_score_90": _stacked(score.interval_score(truth, lower, upper, 0.9, space)),
        "valid_prediction_time": _stacked(score.valid_prediction_time(truth, mean, start=start)),
    }


def variance_sums(std: xr.Dataset) -> NDArray[np.float64]:
    """Mean over space of a standard deviation's square, for every snapshot."""
    space = [d for d in std.dims if d not in (TRAJECTORY, TIME)]
    return _stacked((std.astype(np.float64) ** 2).mean(space, skipna=False))


def joined(parts: Sequence[Sums]) -> dict[str, NDArray[np.float64]]:
    """Sums of some trajectories after those of others; what some of them lack is left out."""
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in names}


def pooled_error(wrong: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative L2 error, root mean square over fields of ratios of sums: `(..., field, trajectory)` to `(...)`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = wrong.sum(-1) / size.sum(-1)
    return np.sqrt(np.where(wrong.sum(-1) == 0, 0.0, ratio).mean(-1))


def statistics(sums: Sums) -> dict[str, Statistic]:
    """Functions of numbers of trajectories `(..., trajectory)` by the score's name, as far as `sums` has their parts.

    What is a maximum (`worst_*`) has no entry: resampling trajectories says little of it.
    """
    whole = {name: values.mean(2) if values.ndim == 3 else values for name, values in sums.items()}
    if "within" in sums:  # the variance over time and space of each trajectory
        whole["within"] = whole["within"] + sums["mean"].var(2)

    def rows(name: str, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        """`(field, ...,  trajectory)` with the field brought beside the trajectory: `(..., field, trajectory)`."""
        return np.moveaxis(whole[name][:, chosen], 0, -2)

    def average(name: str) -> Statistic:
        return lambda chosen: rows(name, chosen).mean((-1, -2))

    def ratio(over: str, under: str, power: float) -> Statistic:
        def found(chosen: NDArray[np.intp]) -> NDArray[np.float64]:
            with np.errstate(divide="ignore", invalid="ignore"):
                return ((rows(over, chosen).mean(-1) / rows(under, chosen).mean(-1)) ** power).mean(-1)

        return found

    def nrmse(chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        variance = rows("within", chosen).mean(-1) + rows("mean", chosen).var(-1)
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
        "nrmse": (("error", "within", "mean"), nrmse),
        "mean_absolute_error": (("absolute",), average("absolute")),
        "crps_over_mae": (("crps", "absolute"), ratio("crps", "absolute", 1.0)),
        "spread_skill": (("variance", "error"), ratio("variance", "error", 0.5)),
        "spearman_trajectories": (("variance", "error"), ranked),
    }
    plain = ["coverage_90", "crps", "nll", "interval_score_90", "valid_prediction_time", "ssim"]
    plain += ["energy_score", "ensemble_crps"]
    known |= {name: ((name,), average(name)) for name in plain}
    return {name: function for name, (parts, function) in known.items() if all(part in whole for part in parts)}


def _stacked(ds: xr.Dataset) -> NDArray[np.float64]:
    """Fields as the first axis, then trajectory, then time."""
    return np.stack([np.asarray(ds[n].transpose(TRAJECTORY, ...).values, dtype=np.float64) for n in ds.data_vars])
