"""Scores of a forecast against held-out truth, as numbers and over lead time, from the sums of its snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from romvae import metrics as score
from romvae.comparison.sums import Sums, pooled_error, statistics
from romvae.metrics.intervals import fifths_of
from romvae.schema import TIME, TRAJECTORY, Field

__all__ = ["certainty_scores", "error_curve", "error_scores", "field_scores", "forecast_series", "snapshot_nrmse"]

_RESAMPLED = ("nrmse", "nll", "crps", "crps_over_mae", "mean_absolute_error", "interval_score_90")
_BY_FIELD = ("relative_l2", "nrmse", "vrmse", "mean_absolute_error", "crps", "coverage_90")
_RANKED = ("coverage_90", "spread_skill", "spearman_trajectories")


def error_scores(sums: Sums) -> dict[str, Any]:
    """The scores that a forecast without uncertainty has, over all trajectories and times ahead."""
    every = np.arange(sums["wrong"].shape[1])
    known = statistics(sums)
    return {
        "relative_l2": float(known["relative_l2"](every)),
        "worst_relative_l2": float(_relative(sums).max((1, 2)).mean()),
        "worst_nrmse": float(np.sqrt((snapshot_nrmse(sums) ** 2).mean(0)).max()),
        "vrmse": float(known["vrmse"](every)),
    }


def field_scores(sums: Sums, fields: Sequence[Field]) -> dict[str, dict[str, Any]]:
    """The scores of each field alone, in its units where they have some, and how large the truth is.

    `nrmse` is the root mean square error over `standard_deviation`, that of all held-out values about their `mean`.

    Arguments:
        sums: Of errors and uncertainty.
        fields: In the order of the sums.
    """
    found = {}
    for k, field in enumerate(fields):
        alone = {name: values[k : k + 1] for name, values in sums.items()}
        every, known = np.arange(alone["wrong"].shape[1]), statistics(alone)
        mean, within = alone["mean"], alone["within"]
        found[field.name] = {
            "units": field.units,
            **{name: float(known[name](every)) for name in _BY_FIELD if name in known},
            "mean": float(mean.mean()),
            "standard_deviation": float(np.sqrt(within.mean() + mean.var())),
        }
    return found


def snapshot_nrmse(sums: Sums) -> NDArray[np.float64]:
    """Root mean square error of each snapshot over the root mean square of all held-out values.

    Where fields may be close to zero, a relative error of a single snapshot says nothing; this one does.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(sums["wrong"] / sums["size"].mean((1, 2), keepdims=True))


def error_curve(sums: Sums) -> NDArray[np.float64]:
    """Pooled relative L2 error at each time."""
    return pooled_error(*(np.moveaxis(sums[name], 2, 0) for name in ("wrong", "size")))


def certainty_scores(sums: Sums, length: float) -> dict[str, Any]:
    """Coverage, spread and what follows from it, as one number each.

    Arguments:
        sums: Of errors and uncertainty.
        length: Time from the start to the last time.
    """
    every, known = np.arange(sums["wrong"].shape[1]), statistics(sums)
    inside = sums["coverage_90"].mean(0)
    fifths = fifths_of(xr.DataArray(inside, dims=(TRAJECTORY, TIME)), min(5, inside.shape[1]))
    valid = sums["valid_prediction_time"].mean(0)
    found: dict[str, Any] = {name: float(known[name](every)) for name in (*_RESAMPLED, *_RANKED)}
    found |= {
        "coverage_90_se": _standard_error(inside.mean(1)),
        "coverage_90_fifths": fifths["coverage"].values.tolist(),
        "coverage_90_fifths_se": fifths["standard_error"].values.tolist(),
        "valid_prediction_time": {
            "threshold": 0.5,
            "mean": float(valid.mean()),
            "standard_error": _standard_error(valid),
            "whole_horizon": float((valid >= length * (1 - 1e-9)).mean()),
        },
    }
    if "ssim" in sums:
        found["ssim"] = float(sums["ssim"].mean())
    return found


def forecast_series(sums: Sums, time: xr.DataArray) -> xr.Dataset:
    """The same over lead time, with the parts of the spread if it has any.

    `rom_nrmse` is the root mean square error over the truth's standard deviation at that time, over trajectories and
    space; `rom_vrmse` is the mean of the snapshots' own.

    Arguments:
        sums: Of errors and uncertainty.
        time: Times of the forecast, the initial one left out.
    """
    both = (0, 1)
    each = np.sqrt((_relative(sums) ** 2).mean(0))
    low, high = np.quantile(each, [0.1, 0.9], axis=0)
    error, variance = sums["error"].mean(1), sums["variance"].mean(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(variance / error).mean(0)
        nrmse = np.sqrt((error / (sums["within"].mean(1) + sums["mean"].var(1))).mean(0))
    curves = {
        "rom_relative_l2": error_curve(sums),
        "rom_relative_l2_low": low,
        "rom_relative_l2_high": high,
        "rom_coverage_90": sums["coverage_90"].mean(both),
        "rom_crps": sums["crps"].mean(both),
        "rom_rmse": np.sqrt(error.mean(0)),
        "rom_nrmse": nrmse,
        "rom_nll": sums["nll"].mean(both),
        "rom_spread_skill": ratio,
        "rom_vrmse": sums["vrmse"].mean(both),
    }
    kinds = [name for name in sums if name.split("_")[0] == "variance"]
    curves |= {name.replace("variance", "rom_std", 1): np.sqrt(sums[name].mean(both)) for name in kinds}
    if "ssim" in sums:
        curves["rom_ssim"] = sums["ssim"].mean(both)
    return xr.Dataset({name: (TIME, values) for name, values in curves.items()}, {TIME: time.variable})


def _relative(sums: Sums) -> NDArray[np.float64]:
    """Relative L2 error of each snapshot; a zero field scores 0 if perfect, else infinity."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums["wrong"] == 0, 0.0, np.sqrt(sums["wrong"] / sums["size"]))


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(score.standard_error(xr.DataArray(values, dims=TRAJECTORY)))
