"""A baseline in a comparison: fitted, rolled out and scored like the ROM."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from romvae import metrics as score
from romvae.baselines import Baseline
from romvae.comparison.scores import error_over_time, errors
from romvae.comparison.significance import CONFIDENCE, confidence_intervals
from romvae.comparison.sums import error_sums
from romvae.schema import TIME, TRAJECTORY
from romvae.scorecard import spectra_of

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["Contender", "contend"]


@dataclass(frozen=True)
class Contender:
    """What was measured of one baseline.

    Arguments:
        scores: For `metrics.json`, with confidence intervals, and process seconds of fit and rollout per trajectory.
        sums: See `romvae.comparison.sums.error_sums`.
        curve: Relative L2 error over time.
        forecast: Its fields on the whole grid, without the initial time.
        rom: The model that it is compared with, which knows the grid.
        wall_seconds: Of fit and rollout of all trajectories.
    """

    scores: Mapping[str, Any]
    sums: Mapping[str, np.ndarray]
    curve: xr.DataArray
    forecast: xr.Dataset
    rom: Model
    wall_seconds: float

    def spectra(self, series: xr.Dataset) -> xr.Dataset:
        """Spectra `spectrum_baseline_<field>` at the times at which `series` has those of the truth, if it has any."""
        if "spectrum_time" not in series.coords:
            return xr.Dataset()
        times = series["spectrum_time"].values
        return spectra_of(self.rom, self.forecast.sel({TIME: times}), "baseline")


def contend(
    baseline: Baseline, train: xr.Dataset, test: xr.Dataset, rom: Model, truth: xr.Dataset, seed: int
) -> Contender:
    """Fits a baseline and scores its forecast of the test trajectories.

    Arguments:
        baseline: Not fitted yet.
        train: What it is fitted to.
        test: Trajectories with their initial time.
        rom: The model that it is compared with.
        truth: Fields of `test` on the whole grid, without the initial time.
        seed: Of the resampling.
    """
    wall, begin = time.perf_counter(), time.process_time()
    fitted = baseline.fit(train)
    fit_seconds = time.process_time() - begin
    begin = time.process_time()
    guess = fitted.rollout(test.isel({TIME: 0}), test[TIME].values)
    seconds = (time.process_time() - begin) / test.sizes[TRAJECTORY]
    wall = time.perf_counter() - wall
    guess = guess[list(rom.schema.field_names)].assign_coords({TIME: test[TIME]}).isel({TIME: slice(1, None)})
    u, v = (score.in_domain(each, rom.mask) for each in (truth, guess))
    sums = error_sums(u, v)
    scores = {
        **errors(u, v),
        "intervals": confidence_intervals(sums, seed),
        "confidence": CONFIDENCE,
        "fit_seconds": fit_seconds,
        "rollout_seconds": seconds,
    }
    return Contender(scores, sums, error_over_time(u, v), guess, rom, wall)
