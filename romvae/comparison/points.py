"""Points of a forecast as an exchangeable crowd: distribution, reliability, and whether the spread points at errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from romvae import metrics as score
from romvae.comparison.ranked import ranked_intervals
from romvae.schema import TIME, TRAJECTORY

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["LEVELS", "PointSample", "distribution"]

LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))
PARTS = 5
"""Parts of the horizon of which the distribution is looked at one by one."""
POINTS = 2**22
"""Errors that are ranked, all fields together: of more there are, a sample is taken."""


class PointSample:
    """Errors and standard deviations that are ranked at the end, which takes all of them at once.

    Of data with more than `POINTS` values as many random ones are taken of each trajectory, the same ones each time;
    ranks of four million values are known to three digits, and trajectories, not points, are what there are few of.

    Arguments:
        fields: Number of fields.
        trajectories: Number of trajectories that there will be.
        values: Number of values of each field in each trajectory.
    """

    def __init__(self, fields: int, trajectories: int, values: int) -> None:
        whole = fields * trajectories * values <= POINTS
        self.taken = values if whole else max(1, POINTS // (fields * trajectories))
        self._trajectory = 0
        self._kept: dict[str, list[tuple[NDArray[np.float64], NDArray[Any]]]] = {}

    def add(self, truth: xr.Dataset, mean: xr.Dataset, std: xr.Dataset) -> None:
        """Takes up the next trajectories."""
        dims = (TRAJECTORY, ...)
        count = truth.sizes[TRAJECTORY]
        for name in map(str, truth.data_vars):
            error = (truth[name].astype(np.float64) - mean[name].astype(np.float64)).transpose(*dims).values
            rows = zip(error.reshape(count, -1), std[name].transpose(*dims).values.reshape(count, -1), strict=True)
            for k, (each, spread) in enumerate(rows):
                chosen = self._chosen(self._trajectory + k, each.size)
                self._kept.setdefault(name, []).append((each[chosen], spread[chosen]))
        self._trajectory += count

    def scores(self) -> dict[str, float]:
        """`ause` and `spearman_points`, mean over fields."""
        errors = self._errors()
        return {
            "ause": float(score.over_fields(score.ause(*errors))),
            "spearman_points": float(score.over_fields(score.spearman(*errors))),
        }

    def intervals(self, scores: Mapping[str, float], seed: int = 0) -> dict[str, list[float]]:
        """Bounds of `scores` at the level `CONFIDENCE`, see `romvae.comparison.ranked`."""
        return ranked_intervals(scores, list(self._kept.values()), seed)

    def curve(self) -> xr.DataArray:
        """See `romvae.metrics.sparsification`; mean over fields."""
        return score.over_fields(score.sparsification(*self._errors()))

    def _chosen(self, trajectory: int, values: int) -> Any:
        if self.taken >= values:
            return slice(None)
        return np.sort(np.random.default_rng(trajectory).choice(values, self.taken, replace=False))

    def _errors(self) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
        """Errors of a forecast of zero, that forecast, and its standard deviations."""
        error, std = (
            xr.Dataset(
                {name: ("point", np.concatenate([each[k] for each in kept])) for name, kept in self._kept.items()}
            )
            for k in (0, 1)
        )
        return error, error * 0, std


def distribution(model: Model, truth: xr.Dataset, mean: xr.Dataset, std: xr.Dataset) -> xr.Dataset:
    """`pit`, `pit_parts` and `coverage`, the share of values inside calibrated intervals of each level.

    Means over fields. `pit_parts` is that of each fifth of the horizon, of each time where there are fewer than five.
    Equal numbers of trajectories count the same: means of some trajectories and of others can be averaged.
    """
    windows = np.array_split(np.arange(truth.sizes[TIME]), min(PARTS, truth.sizes[TIME]))
    parts = xr.concat([_transform(*(each.isel({TIME: w}) for each in (truth, mean, std))) for w in windows], "part")
    weights = xr.DataArray([float(len(window)) for window in windows], dims="part")
    found = xr.Dataset({"pit": (parts * weights).sum("part", skipna=False) / truth.sizes[TIME], "pit_parts": parts})
    leads = torch.arange(1, truth.sizes[TIME] + 1)
    dims = (TRAJECTORY, TIME, ...)
    ratios = [(abs(truth[n] - mean[n]) / std[n]).transpose(*dims).values for n in model.schema.field_names]
    inside = np.empty(len(LEVELS))
    for k, level in enumerate(LEVELS):
        _, width = model.calibration.at(leads, level)
        shape = (1, -1, *[1] * (ratios[0].ndim - 2))
        inside[k] = np.mean([np.mean(r <= width[:, f].numpy().reshape(shape)) for f, r in enumerate(ratios)])
    found["coverage"] = ("level", inside)
    return found.assign_coords(level=("level", np.array(LEVELS)))


def _transform(truth: xr.Dataset, mean: xr.Dataset, std: xr.Dataset) -> xr.DataArray:
    return score.over_fields(score.pit_histogram(truth, mean, std))
