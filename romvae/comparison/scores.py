"""Scores of a forecast against held-out truth, as numbers and over lead time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from romvae import metrics as score
from romvae.ragged import existing
from romvae.schema import TIME, TRAJECTORY
from romvae.scorecard import spread_parts

if TYPE_CHECKING:
    from romvae.baselines.model import Model
    from romvae.rom import ROM

__all__ = [
    "compression_error",
    "error_over_time",
    "errors",
    "existing_error",
    "kl_per_dimension",
    "part",
    "rom_scores",
    "rom_series",
    "snapshot_nrmse",
]

LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))


def existing_error(truth: xr.Dataset, guess: xr.Dataset, lengths: np.ndarray) -> float:
    """Relative L2 error over all times ahead that each trajectory has."""
    kept = existing(lengths, truth.sizes[TIME])
    kept[:, 0] = False
    squares = []
    for name in truth.data_vars:
        u, v = (np.asarray(each[name].transpose(TRAJECTORY, TIME, ...).values[kept], float) for each in (truth, guess))
        squares.append(((v - u) ** 2).sum() / max((u**2).sum(), np.finfo(float).tiny))
    return float(np.sqrt(np.mean(squares)))


def _pooled(result: xr.Dataset) -> float:
    return float(score.over_fields(result, root_mean_square=True))


def errors(truth: xr.Dataset, guess: xr.Dataset) -> dict[str, Any]:
    """The scores that a forecast without uncertainty has, over all trajectories and times ahead."""
    return {
        "relative_l2": _pooled(score.relative_l2(truth, guess)),
        "worst_relative_l2": float(score.over_fields(score.worst_relative_l2(truth, guess)).max()),
        "worst_nrmse": float(score.over_fields(snapshot_nrmse(truth, guess), root_mean_square=True).max()),
        "vrmse": float(score.over_fields(score.vrmse(truth, guess)).mean()),
    }


def snapshot_nrmse(truth: xr.Dataset, guess: xr.Dataset) -> xr.Dataset:
    """Root mean square error of each snapshot over the root mean square of all held-out values.

    Where fields may be close to zero, a relative error of a single snapshot says nothing; this one does.
    """
    space = [d for d in truth.dims if d not in (TRAJECTORY, TIME)]
    return score.rmse(truth, guess, space) / score.rmse(truth, truth * 0)


def error_over_time(truth: xr.Dataset, guess: xr.Dataset) -> xr.DataArray:
    """Pooled relative L2 error at each time."""
    dims = [d for d in truth.dims if d != TIME]
    return score.over_fields(score.relative_l2(truth, guess, dims), root_mean_square=True)


def part(forecast: xr.Dataset, names: Sequence[str], suffix: str) -> xr.Dataset:
    """The variables of a forecast that end with `suffix`, under the names of their fields."""
    return forecast[[n + suffix for n in names]].rename({n + suffix: n for n in names if suffix})


def rom_scores(rom: Model, truth: xr.Dataset, forecast: xr.Dataset) -> dict[str, Any]:
    """Errors, coverage and spread of the ROM's forecast, as one number each."""
    names = list(rom.schema.field_names)
    mean, std = part(forecast, names, ""), part(forecast, names, "_std")
    lower, upper = part(forecast, names, "_lower"), part(forecast, names, "_upper")
    space = [d for d in truth.dims if d != TRAJECTORY]
    each = score.over_fields(score.coverage(truth, lower, upper, space))
    fifths = score.coverage_fifths(truth, lower, upper, min(5, truth.sizes[TIME]))
    error = {n: abs(truth[n] - mean[n]).mean() for n in names}
    return {
        **errors(truth, mean),
        "coverage_90": float(each.mean()),
        "coverage_90_se": float(score.standard_error(each)),
        "coverage_90_fifths": fifths["coverage"].values.tolist(),
        "coverage_90_fifths_se": fifths["standard_error"].values.tolist(),
        "crps": float(score.over_fields(score.gaussian_crps(truth, mean, std)).mean()),
        "mean_absolute_error": float(np.mean([float(v) for v in error.values()])),
        "spread_skill": float(score.over_fields(score.spread_skill(truth, mean, std)).mean()),
        "spearman_trajectories": float(score.over_fields(score.spearman_over_trajectories(truth, mean, std)).mean()),
    }


def rom_series(rom: Model, truth: xr.Dataset, forecast: xr.Dataset) -> xr.Dataset:
    """The same over lead time, with the parts of the spread if it has any, and the coverage at every level."""
    names = list(rom.schema.field_names)
    mean, std = part(forecast, names, ""), part(forecast, names, "_std")
    space = [d for d in truth.dims if d not in (TRAJECTORY, TIME)]
    others = [TRAJECTORY, *space]
    each = score.over_fields(score.relative_l2(truth, mean, space), root_mean_square=True)
    inside = score.coverage(truth, part(forecast, names, "_lower"), part(forecast, names, "_upper"), others)

    def spread(part: xr.Dataset) -> xr.DataArray:
        return score.over_fields((part.astype(np.float64) ** 2).mean(others), False) ** 0.5

    series = xr.Dataset(
        {
            "rom_relative_l2": error_over_time(truth, mean),
            "rom_relative_l2_low": each.quantile(0.1, TRAJECTORY).drop_vars("quantile"),
            "rom_relative_l2_high": each.quantile(0.9, TRAJECTORY).drop_vars("quantile"),
            "rom_coverage_90": score.over_fields(inside),
            "rom_crps": score.over_fields(score.gaussian_crps(truth, mean, std, others)),
            "rom_rmse": score.over_fields(score.rmse(truth, mean, others), root_mean_square=True),
            "rom_std": spread(std),
        }
    )
    for kind in spread_parts(forecast, names):
        series[f"rom_{kind}"] = spread(part(forecast, names, f"_{kind}"))
    series["coverage"] = ("level", _reliability(rom, truth, mean, std))
    return series.assign_coords(level=("level", np.array(LEVELS)))


def _reliability(rom: Model, truth: xr.Dataset, mean: xr.Dataset, std: xr.Dataset) -> np.ndarray:
    """Empirical coverage of the calibrated intervals at each nominal level, mean over fields."""
    leads = torch.arange(1, truth.sizes[TIME] + 1)
    dims = (TRAJECTORY, TIME, ...)
    ratios = [(abs(truth[n] - mean[n]) / std[n]).transpose(*dims).values for n in rom.schema.field_names]
    result = np.empty(len(LEVELS))
    for k, level in enumerate(LEVELS):
        _, width = rom.calibration.at(leads, level)
        shape = (1, -1, *[1] * (ratios[0].ndim - 2))
        result[k] = np.mean([np.mean(r <= width[:, f].numpy().reshape(shape)) for f, r in enumerate(ratios)])
    return result


def compression_error(rom: ROM, truth: xr.Dataset, test: xr.Dataset) -> float:
    """Relative L2 error of encoding and decoding every snapshot, without any forecast."""
    restored = rom.decode(rom.encode(test)["latent_mean"])[list(rom.schema.field_names)]
    restored = restored.assign_coords({d: truth[d] for d in truth.dims})
    return _pooled(score.relative_l2(score.in_domain(truth, rom.mask), score.in_domain(restored, rom.mask)))


def kl_per_dimension(rom: ROM, test: xr.Dataset) -> np.ndarray:
    """Divergence of each latent from its prior on at most 1000 snapshots, largest first."""
    x, _ = rom.normalised(test)
    flat = x.flatten(0, 1)
    return rom.vae.kl_per_dimension(flat[:: max(1, len(flat) // 1000)]).sort(descending=True).values.numpy()
