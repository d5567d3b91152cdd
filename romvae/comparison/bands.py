"""Bands that hold a share of a run, and quantities of interest: intervals that are not those of single points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from scipy import stats

from romvae.baselines.model import BaselineModel
from romvae.calibration import Interval, rank_of, trajectories_needed
from romvae.comparison.passing import Forecasts
from romvae.forecast import Request
from romvae.quantities import standard
from romvae.schema import TIME, TRAJECTORY
from romvae.start import after_start

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["LEVEL", "SHARE", "band_scores", "expected_share", "held_by_bands", "quantity_scores"]

LEVEL, SHARE = 0.9, 0.9
QUANTITY_TRAJECTORIES, MEMBERS = 64, 16
_KINDS: dict[str, tuple[Interval, float]] = {
    "risk_band": ("run", SHARE),
    "risk_band_at_each_time": ("field", SHARE),
    "whole_field_at_each_time": ("field", 1.0),
    "whole_run": ("run", 1.0),
}


def held_by_bands(model: Model, truth: xr.Dataset, mean: xr.Dataset, std: xr.Dataset) -> xr.Dataset:
    """Share of the runs, or of their times, that each band of the level 0.9 holds, `(band, field)`.

    Nothing where no bands are calibrated. The times are one stored step apart, the first of them ahead of the start.
    """
    if model.calibration.bands.trajectories == 0:
        return xr.Dataset()
    space = [d for d in truth.dims if d not in (TRAJECTORY, TIME)]
    held = np.empty((len(_KINDS), len(model.schema.field_names)))
    for row, (interval, share) in enumerate(_KINDS.values()):
        width = _width(model, truth.sizes[TIME], interval, share)
        over = [*space, TIME] if interval == "run" else space
        for k, name in enumerate(model.schema.field_names):
            bound = xr.DataArray(width[:, k], dims=TIME, coords={TIME: truth[TIME]})
            inside = (abs(truth[name] - mean[name]) <= bound * std[name]).mean(over) >= share - 1e-9
            held[row, k] = float(inside.mean())
    return xr.Dataset({"held": (("band", "field"), held)})


def band_scores(model: Model, held: xr.Dataset, times: int, runs: int) -> dict[str, Any]:
    """What the bands held beside the finite-sample interval of what was promised.

    Arguments:
        model: Whose forecast it is.
        held: From `held_by_bands`, over all runs.
        times: Number of times ahead.
        runs: Number of trajectories.
    """
    if "held" not in held:
        return {}
    low, high = expected_share(model.calibration.bands.trajectories, runs)
    result: dict[str, Any] = {}
    for row, (name, (interval, share)) in enumerate(_KINDS.items()):
        wide = _width(model, times, interval, share).mean(0)
        finite = bool(np.isfinite(wide).all())
        result[name] = {
            "level": LEVEL,
            "share_of_points": share,
            "runs_held": float(held["held"].values[row].mean()) if finite else None,
            "expected_low": low,
            "expected_high": high,
            "half_width_in_std": float(wide.mean()) if finite else None,
            "promised": model.calibration.guarantee(LEVEL, interval, share).attained,
        }
    return result


def quantity_scores(rom: Model, test: xr.Dataset, seed: int) -> dict[str, Any]:
    """For each calibrated standard quantity: coverage of its 90 % interval and error, over at most 64 trajectories.

    These are whole ones, with all times that a forecast starts from. A baseline has none.
    """
    if isinstance(rom, BaselineModel):
        return {}
    scalars = rom.calibration.quantities
    needed = trajectories_needed(LEVEL)
    known = {name for name in scalars.names if scalars.trajectories(name) >= needed}
    watched = [quantity for quantity in standard(rom.schema) if quantity.name in known]
    if not watched:
        return {}
    some = test.isel({TRAJECTORY: slice(0, QUANTITY_TRAJECTORIES)})
    ahead = after_start(rom, some)
    inside = None if rom.mask is None else xr.DataArray(rom.mask, dims=rom.schema.grid.names)
    found: dict[str, list[np.ndarray]] = {quantity.name: [] for quantity in watched}

    def take(rows: slice, forecast: xr.Dataset) -> None:
        for quantity in watched:
            field = ahead[quantity.field].isel({TRAJECTORY: rows}).astype(np.float64)
            truth = quantity.of(field if inside is None else field.where(inside))
            parts = (forecast[quantity.name + kind].values for kind in ("", "_lower", "_upper"))
            found[quantity.name].append(np.stack([truth, *parts])[..., 1:])

    ask = Request(ahead.sizes[TIME] - 1, MEMBERS, seed, LEVEL, quantities=tuple(watched))
    Forecasts(rom, some, ask).each(take)
    result = {}
    for name, parts in found.items():
        truth, centre, low, high = np.concatenate(parts, axis=1)
        held = ((low <= truth) & (truth <= high)).mean(1)
        result[name] = {
            "coverage_90": float(held.mean()),
            "coverage_90_se": float(held.std(ddof=1) / len(held) ** 0.5) if len(held) > 1 else float("nan"),
            "rmse": float(np.sqrt(((centre - truth) ** 2).mean())),
            "size": float(np.sqrt((truth**2).mean())),
        }
    return result


def _width(model: Model, times: int, interval: Interval, share: float) -> np.ndarray:
    """Half widths in standard deviations, `(time, field)`."""
    return model.calibration.width(torch.arange(1, times + 1), LEVEL, interval, share).numpy().astype(np.float64)


def expected_share(n: int, runs: int) -> tuple[float, float]:
    """Central 90 % of the share of new trajectories for which a promise of the level 0.9 holds.

    Their number is beta-binomial: the promise rests on the rank of a new trajectory among those of the calibration.

    Arguments:
        n: Calibration trajectories.
        runs: New trajectories.
    """
    k = rank_of(n, LEVEL)
    if k > n:
        return 1.0, 1.0
    low, high = stats.betabinom.ppf([0.05, 0.95], runs, k, n + 1 - k) / runs
    return float(low), float(high)
