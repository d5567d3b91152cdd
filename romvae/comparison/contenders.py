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
from romvae.comparison.passing import portions
from romvae.comparison.scores import error_curve, error_scores
from romvae.comparison.significance import CONFIDENCE, confidence_intervals
from romvae.comparison.structure import powers, spectra_at, spectrum_times
from romvae.comparison.sums import Sums, error_sums, joined
from romvae.comparison.tally import Means
from romvae.schema import TIME, TRAJECTORY

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
        spectra: `spectrum_baseline_<field>` at the times at which those of the ROM are kept, if any are.
        wall_seconds: Of fit and rollout of all trajectories.
    """

    scores: Mapping[str, Any]
    sums: Sums
    curve: np.ndarray
    spectra: xr.Dataset
    wall_seconds: float


def contend(baseline: Baseline, train: xr.Dataset, test: xr.Dataset, rom: Model, seed: int) -> Contender:
    """Fits a baseline and scores its forecasts of the test trajectories, some of them at a time.

    Arguments:
        baseline: Not fitted yet.
        train: What it is fitted to.
        test: Trajectories with their initial time, which is not scored.
        rom: The model that it is compared with, which knows grid and mask.
        seed: Of the resampling.
    """
    names = list(rom.schema.field_names)
    wall, begin = time.perf_counter(), time.process_time()
    fitted = baseline.fit(train)
    fit_seconds, wall = time.process_time() - begin, time.perf_counter() - wall
    seconds, parts, power = 0.0, [], Means()
    for rows in portions(test, names):
        some = test.isel({TRAJECTORY: rows})
        since, begin = time.perf_counter(), time.process_time()
        guess = fitted.rollout(some.isel({TIME: 0}), some[TIME].values)
        seconds, wall = seconds + time.process_time() - begin, wall + time.perf_counter() - since
        guess = guess[names].assign_coords({TIME: some[TIME]})
        truth, guess = (each.isel({TIME: slice(1, None)}) for each in (some[names].load(), guess))
        kept = guess.isel({TIME: spectrum_times(guess.sizes[TIME])})
        power.add(powers(rom, kept, "baseline"), some.sizes[TRAJECTORY])
        parts.append(error_sums(*(score.in_domain(each, rom.mask) for each in (truth, guess))))
    sums = joined(parts)
    scores = {
        **error_scores(sums),
        "intervals": confidence_intervals(sums, seed),
        "confidence": CONFIDENCE,
        "fit_seconds": fit_seconds,
        "rollout_seconds": seconds / test.sizes[TRAJECTORY],
    }
    found = power.mean
    return Contender(scores, sums, error_curve(sums), spectra_at(found) if found.data_vars else found, wall)
