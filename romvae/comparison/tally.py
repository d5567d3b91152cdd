"""What is kept of a model's forecast while its trajectories pass, and the scores that are made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from romvae import metrics as score
from romvae.comparison.bands import LEVEL, SHARE, band_scores, held_by_bands
from romvae.comparison.horizon import forecast_errors, horizon_scores
from romvae.comparison.points import PointSample, distribution
from romvae.comparison.scores import certainty_scores, error_scores, field_scores, forecast_series
from romvae.comparison.significance import CONFIDENCE, confidence_intervals
from romvae.comparison.structure import conserved_drift, conserved_scores, powers, similarity_sums, spectra_series
from romvae.comparison.sums import Sums, error_sums, joined, uncertainty_sums, variance_sums
from romvae.schema import TIME, TRAJECTORY
from romvae.solvers.base import Case, Solver

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["Means", "Tally", "part", "spread_parts"]

PARTS = ("std_decoder", "std_dynamics", "std_posterior", "std_ensemble")


class Means:
    """A mean over trajectories of Datasets that are means over some of them each."""

    def __init__(self) -> None:
        self._sum, self._count = xr.Dataset(), 0

    def add(self, mean: xr.Dataset, count: int) -> None:
        """Takes up the mean over the next `count` trajectories."""
        self._sum = mean * count if self._count == 0 else self._sum + mean * count
        self._count += count

    @property
    def mean(self) -> xr.Dataset:
        """Over all trajectories so far."""
        return self._sum / max(1, self._count)


class Tally:
    """Sums for every snapshot, means over trajectories, and points to be ranked, of one model's forecast.

    Arguments:
        model: Whose forecast it is.
        test: All trajectories that will come, with the initial time, which no score looks at.
        ranges: Range of each field, see `ranges_of`.
        reference: Case or solver that says what is conserved.
    """

    def __init__(
        self, model: Model, test: xr.Dataset, ranges: Mapping[str, float], reference: Case | Solver | None
    ) -> None:
        self.model, self.ranges, self.reference = model, ranges, reference
        self.names = list(model.schema.field_names)
        self.start, self.time = float(test[TIME][0]), test[TIME].isel({TIME: slice(1, None)})
        self._whole_time = test[TIME]
        self._sums: list[Sums] = []
        self._errors: list[NDArray[np.float64]] = []
        self._points = PointSample(len(self.names), test.sizes[TRAJECTORY], len(self.time) * _points(model))
        self._distribution, self._held, self._powers = Means(), Means(), Means()
        self._drift: list[xr.Dataset] = []

    def add(self, truth: xr.Dataset, forecast: xr.Dataset) -> None:
        """Takes up the next trajectories.

        Arguments:
            truth: Reference fields with the initial time.
            forecast: As `rollout` returns it, at the same times.
        """
        model, names, count = self.model, self.names, truth.sizes[TRAJECTORY]
        self._drift.append(conserved_drift(self.reference, truth, forecast))
        errors = forecast_errors(model, truth[names], forecast)
        if errors is not None:
            self._errors.append(errors)
        later = (each.isel({TIME: slice(1, None)}) for each in (truth[names], forecast))
        fields, ahead = later
        mean = part(ahead, names, "")
        self._powers.add(xr.merge([powers(model, fields, "truth"), powers(model, mean, "rom")]), count)
        similar = similarity_sums(model, fields, mean, self.ranges)
        u, ahead = (score.in_domain(each, model.mask) for each in (fields, ahead))
        mean, std, lower, upper = (part(ahead, names, suffix) for suffix in ("", "_std", "_lower", "_upper"))
        kinds = {kind: part(ahead, names, f"_{kind}") for kind in spread_parts(ahead, names)}
        parts = {kind.replace("std", "variance"): variance_sums(each) for kind, each in kinds.items()}
        certain = uncertainty_sums(u, mean, std, lower, upper, self.start)
        self._sums.append({**error_sums(u, mean), **certain, **parts, **similar})
        self._points.add(u, mean, std)
        self._distribution.add(distribution(model, u, mean, std), count)
        self._held.add(held_by_bands(model, u, mean, std), count)

    def sums(self) -> dict[str, NDArray[np.float64]]:
        """Of all trajectories that have come, see `romvae.comparison.sums`."""
        return joined(self._sums)

    def scores(self, sums: Sums, seed: int = 0) -> dict[str, Any]:
        """All numbers.

        Arguments:
            sums: From `sums`.
            seed: Of the resampling of trajectories.
        """
        runs, times = sums["wrong"].shape[1:]
        errors = np.concatenate(self._errors, 1) if self._errors else None
        trust = horizon_scores(self.model, errors, self._whole_time)
        ranked = self._points.scores()
        return {
            **error_scores(sums),
            **certainty_scores(sums, float(self.time[-1]) - self.start),
            "fields": field_scores(sums, self.model.schema.fields),
            **ranked,
            "calibration": self.model.calibration.statement(LEVEL, SHARE),
            "bands": band_scores(self.model, self._held.mean, times, runs),
            "conserved": conserved_scores(xr.concat(self._drift, TRAJECTORY) if self._drift else xr.Dataset(), seed),
            "intervals": {**confidence_intervals(sums, seed), **self._points.intervals(ranked, seed)},
            "confidence": CONFIDENCE,
            **({"trust": trust} if trust else {}),
        }

    def series(self, sums: Sums) -> xr.Dataset:
        """Scores over lead time, and curves over the transform, the level, the share taken out and the wavenumber."""
        kept = [forecast_series(sums, self.time), self._distribution.mean]
        kept += [xr.Dataset({"sparsification": self._points.curve()}), spectra_series(self.model, self._powers.mean)]
        return xr.merge(kept)


def part(forecast: xr.Dataset, names: list[str], suffix: str) -> xr.Dataset:
    """The variables of a forecast that end with `suffix`, under the names of their fields."""
    return forecast[[n + suffix for n in names]].rename({n + suffix: n for n in names if suffix})


def spread_parts(forecast: xr.Dataset, names: list[str]) -> list[str]:
    """Parts of the standard deviation that a forecast tells for all its fields, as `std_decoder`; none of a baseline's.

    Arguments:
        forecast: As `rollout` of a ROM or of a baseline returns it.
        names: Of the fields.
    """
    return [kind for kind in PARTS if all(f"{name}_{kind}" in forecast for name in names)]


def _points(model: Model) -> int:
    """Points of the domain."""
    return math.prod(model.schema.grid.shape) if model.mask is None else int(model.mask.sum())
