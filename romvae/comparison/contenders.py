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
from romvae.errors import NumericsError, RomvaeError, TrainingStoppedError
from romvae.schema import TIME, TRAJECTORY

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["Contender", "Diverged", "contend", "contend_or_say"]


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


@dataclass(frozen=True)
class Diverged:
    """A baseline whose forecast broke down: it has no error on all trajectories, and any on fewer would flatter it.

    Arguments:
        reason: In words.
        fit_seconds: Process seconds of the fit.
        wall_seconds: Of the fit, and of the rollouts up to there.
    """

    reason: str
    fit_seconds: float
    wall_seconds: float

    @property
    def scores(self) -> dict[str, Any]:
        """For `metrics.json`: no error, and why."""
        return {"relative_l2": None, "diverged": self.reason, "fit_seconds": self.fit_seconds}


def contend_or_say(
    baseline: Baseline,
    train: xr.Dataset,
    test: xr.Dataset,
    rom: Model,
    seed: int,
    budget: float | None = None,
    validation: xr.Dataset | None = None,
) -> Contender | Diverged | str:
    """What `contend` gives, or why the baseline could not be fitted: one that fails ends no comparison."""
    try:
        return contend(baseline, train, test, rom, seed, budget, validation)
    except TrainingStoppedError:  # whoever asked for a stop means all of it
        raise
    except RomvaeError as error:
        return str(error)


def contend(
    baseline: Baseline,
    train: xr.Dataset,
    test: xr.Dataset,
    rom: Model,
    seed: int,
    budget: float | None = None,
    validation: xr.Dataset | None = None,
) -> Contender | Diverged:
    """Fits a baseline and scores its forecasts of the test trajectories, some of them at a time.

    A forecast that fails with a `NumericsError`, or that is not finite inside the domain, ends that: the baseline is
    listed as diverged.

    Arguments:
        baseline: Not fitted yet.
        train: What it is fitted to.
        test: Trajectories with their initial time, which is not scored.
        rom: The model that it is compared with, which knows grid and mask.
        seed: Of the resampling.
        budget: Process seconds that the fit may take; None leaves that to the baseline.
        validation: What it chooses its settings on; None leaves it some of `train`.
    """
    names = list(rom.schema.field_names)
    wall, begin = time.perf_counter(), time.process_time()
    fitted = baseline.fit(train, validation=validation, budget=budget)
    fit_seconds, wall = time.process_time() - begin, time.perf_counter() - wall
    seconds, parts, power = 0.0, [], Means()
    for rows in portions(test, names):
        some = test.isel({TRAJECTORY: rows})
        since, begin = time.perf_counter(), time.process_time()
        try:
            guess = fitted.rollout(some.isel({TIME: 0}), some[TIME].values)
        except NumericsError as error:
            return Diverged(str(error), fit_seconds, wall + time.perf_counter() - since)
        seconds, wall = seconds + time.process_time() - begin, wall + time.perf_counter() - since
        guess = guess[names].assign_coords({TIME: some[TIME]})
        truth, guess = (each.isel({TIME: slice(1, None)}) for each in (some[names].load(), guess))
        part = error_sums(*(score.in_domain(each, rom.mask) for each in (truth, guess)))
        broken = ~np.isfinite(part["wrong"]).all((0, 1))
        if broken.any():
            when = f"{float(truth[TIME].values[broken.argmax()]):.4g}"
            return Diverged(f"{baseline.name}: a forecast is not finite at time {when}.", fit_seconds, wall)
        kept = guess.isel({TIME: spectrum_times(guess.sizes[TIME])})
        power.add(powers(rom, kept, "baseline"), some.sizes[TRAJECTORY])
        parts.append(part)
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
