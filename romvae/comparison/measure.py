"""`romvae.compare`: a ROM against held-out truth, the baselines, and the reference solver at equal accuracy."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from romvae import metrics as score
from romvae.baselines import Baseline
from romvae.comparison.card import data_card, data_fingerprint, doubtful_digits, examples
from romvae.comparison.contenders import Contender, contend
from romvae.comparison.result import Comparison
from romvae.comparison.scores import existing_error, part, rom_scores, rom_series
from romvae.comparison.significance import CONFIDENCE, best_of, confidence_intervals, paired_difference
from romvae.comparison.subject import code_scores, code_series, code_summary, named, noise_floor, opponents
from romvae.comparison.sums import Sums, error_sums, statistics, uncertainty_sums
from romvae.cost import cost_at_equal_accuracy
from romvae.errors import DataError, OutOfRangeWarning
from romvae.ragged import even_part, even_snapshots, ragged_lengths
from romvae.schema import TIME, TRAJECTORY, canonical
from romvae.scorecard import band_scores, conserved_scores, further_scores, further_series, quantity_scores
from romvae.solvers.base import Case, Solver

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["compare"]

Report = Callable[..., None]
_TIMED = 4  # trajectories that ROM and solver are timed on


def compare(
    rom: Model,
    test: xr.Dataset,
    *,
    train: xr.Dataset | None = None,
    reference: Case | Solver | None = None,
    baselines: Sequence[Baseline] | None = None,
    seconds: Mapping[str, float] | None = None,
    info: Mapping[str, Any] | None = None,
    split: Mapping[str, int] | None = None,
    members: int = 32,
    seed: int = 0,
    cost_cap: float = 60.0,
    batch: int = 64,
    progress: Report | None = None,
) -> Comparison:
    """Forecasts held-out trajectories from their first field and scores the forecast.

    All scores leave out the initial time: it is input, not forecast. Relative errors of several fields are combined
    by their root mean square, coverages by their mean. Scores have 95 % confidence intervals over trajectories
    (`intervals`), the difference to the best baseline has a paired test (`significance`), and `cost` compares ROM and
    solver at equal accuracy.

    Where test trajectories differ in length, the scores are those of the part in which all have one
    (`romvae.ragged.even_part`; `data.ragged` says what it leaves out), and `relative_l2_all_times` is the error over
    every truth that there is. `baselines_left_out` says which of the usual baselines do not apply to the training data,
    and why.

    Arguments:
        rom: A trained ROM, or a fitted baseline: what that has no part for is left out; `model.not_measured` says why.
        test: Trajectories that no part of the training has seen.
        train: Trajectories to fit the baselines to, the ROM's own training part; None leaves the baselines out.
        reference: Solver or case that is to be compared at equal accuracy.
        baselines: Baselines to fit; None takes those that apply to the data.
        seconds: Wall-clock of earlier stages, carried over into the metrics.
        info: Configuration, environment and training curves for the report.
        split: Trajectories per part, for the record.
        members: Members of the forecast ensemble.
        seed: Seed of the forecast.
        cost_cap: Process seconds after which no other run of the solver is begun; 0 leaves the costs out.
        batch: Trajectories of a batch for the costs; fewer where memory or time is short.
        progress: Called as `progress(stage, done, total, note)`.

    Raises:
        SchemaError: The data are not on the ROM's grid.
        DataError: The trajectories hold a single time.
    """
    report: Report = progress if progress is not None else (lambda *args: None)
    test = canonical(test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # counted in the data card instead
        return _Measurement(rom, test, reference, split, members, seed, report).comparison(
            train, baselines, dict(seconds or {}), info, cost_cap, batch
        )


@dataclass
class _Measurement:
    """What all steps of one comparison share; the steps are in the order of `comparison`."""

    rom: Model
    test: xr.Dataset
    reference: Case | Solver | None
    split: Mapping[str, int] | None
    members: int
    seed: int
    report: Report

    def comparison(
        self,
        train: xr.Dataset | None,
        baselines: Sequence[Baseline] | None,
        clock: dict[str, float],
        info: Mapping[str, Any] | None,
        cap: float,
        batch: int,
    ) -> Comparison:
        """All of it."""
        rom, names = self.rom, list(self.rom.schema.field_names)
        whole, whole_forecast = self.test, self._forecast(clock)
        test, forecast, lengths = self._even(whole, whole_forecast)
        self.test = test
        later = (test[names].isel({TIME: slice(1, None)}), forecast.isel({TIME: slice(1, None)}))
        truth, ahead = (score.in_domain(each, rom.mask) for each in later)
        measured, series = self._scores(later, truth, ahead, forecast)
        card = data_card(rom, test, self.split)
        if floor := noise_floor(rom):
            card["noise_floor"] = floor
        card["fingerprint"] = data_fingerprint(test, names)
        if lengths is not None:
            every, guess = (score.in_domain(each[names], rom.mask) for each in (whole, whole_forecast))
            measured["relative_l2_all_times"] = existing_error(every, guess, lengths)
            card["ragged"] = _left_out(whole, test, lengths)
        sums = self._sums(truth, ahead)
        measured["intervals"] = confidence_intervals(sums, self.seed)
        measured["confidence"] = CONFIDENCE
        own = doubtful_digits(whole, names)
        if own is not None:
            measured["reference_error"] = own
            measured["not_resolvable"] = bool(measured["relative_l2"] < own)
        result: dict[str, Any] = {
            "case": str(test.attrs.get("case", "")),
            "rom": measured,
            "baselines": {},
            **named(rom),
        }
        result |= {"seconds": clock, "data": card}
        series = series.merge(_band("rom_relative_l2_ci", sums, series)).merge(_kept("rom", sums, names))
        if train is not None:
            series = self._against_baselines(result, series, sums, later, train, baselines)
        if cap > 0:
            result["cost"] = self._cost(sums, clock, cap, batch)
            own_seconds = result["cost"].get("solver", {}).get("sweep", [{}])[0].get("seconds")
            if own_seconds is not None:
                clock["solver"] = own_seconds
        extra = {"model": rom.config, **(info or {})}
        return Comparison(result, series, examples(rom, test, forecast), extra, code_summary(rom, test))

    def _forecast(self, clock: dict[str, float]) -> xr.Dataset:
        rom, test = self.rom, self.test
        rom.schema.check(test, source="test trajectories")
        if test.sizes[TIME] < 2:
            raise DataError("test trajectories: hold one time, at least two are needed to score a forecast.")
        begin = time.perf_counter()
        self.report("rollout", 0, 1)
        driven = test if rom.schema.controls else None
        forecast = rom.rollout(
            test.isel({TIME: 0}), steps=test.sizes[TIME] - 1, members=self.members, seed=self.seed, controls=driven
        )
        clock["rollout"] = (time.perf_counter() - begin) / test.sizes[TRAJECTORY]
        self.report("rollout", 1, 1)
        return forecast.assign_coords({TIME: test[TIME]})

    def _even(self, test: xr.Dataset, forecast: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset, np.ndarray | None]:
        """The part in which all trajectories have one length, and the lengths where they differ."""
        lengths = ragged_lengths(test)
        if lengths is None:
            return test, forecast, None
        rows, times = even_part(lengths)
        if times < 2:
            raise DataError("test trajectories: hold one time each, at least two are needed to score a forecast.")
        return even_snapshots(test), forecast.isel({TRAJECTORY: rows, TIME: slice(0, times)}), lengths

    def _scores(
        self, later: tuple[xr.Dataset, xr.Dataset], truth: xr.Dataset, ahead: xr.Dataset, forecast: xr.Dataset
    ) -> tuple[dict[str, Any], xr.Dataset]:
        rom, test = self.rom, self.test
        measured = rom_scores(rom, truth, ahead)
        measured |= code_scores(rom, test[list(rom.schema.field_names)], test)
        measured |= further_scores(rom, *later, start=float(test[TIME][0]))
        measured["bands"] = band_scores(rom, *later)
        measured["quantities"] = quantity_scores(rom, test, self.seed)
        measured["conserved"] = conserved_scores(self.reference, test, forecast)
        series = rom_series(rom, truth, ahead).merge(further_series(rom, *later))
        return measured, series.merge(code_series(rom, test))

    def _sums(self, truth: xr.Dataset, ahead: xr.Dataset) -> dict[str, np.ndarray]:
        names = list(self.rom.schema.field_names)
        mean, std, lower, upper = (part(ahead, names, suffix) for suffix in ("", "_std", "_lower", "_upper"))
        sums = error_sums(truth, mean)
        return sums | uncertainty_sums(truth, mean, std, lower, upper, float(self.test[TIME][0]))

    def _against_baselines(
        self,
        result: dict[str, Any],
        series: xr.Dataset,
        sums: Sums,
        later: tuple[xr.Dataset, xr.Dataset],
        train: xr.Dataset,
        baselines: Sequence[Baseline] | None,
    ) -> xr.Dataset:
        """Fits and scores the baselines, tests the difference to the best, and adds their curves."""
        chosen, left_out = opponents(self.rom, train) if baselines is None else (list(baselines), {})
        if left_out:
            result["baselines_left_out"] = left_out
        found: dict[str, Contender] = {}
        for k, baseline in enumerate(chosen):
            self.report("baselines", k, len(chosen), baseline.name)
            each = contend(baseline, train, self.test, self.rom, later[0], self.seed)
            found[baseline.name] = each
            result["baselines"][baseline.name] = each.scores
            result["seconds"][f"baseline_{baseline.name}"] = each.wall_seconds
            series[f"baseline_{baseline.name}_relative_l2"] = each.curve
            names = list(self.rom.schema.field_names)
            series = series.merge(_band(f"baseline_{baseline.name}_relative_l2_ci", each.sums, series))
            series = series.assign(_kept(f"baseline_{baseline.name}", each.sums, names).data_vars)
        self.report("baselines", len(chosen), len(chosen))
        best = best_of({name: each.scores["relative_l2"] for name, each in found.items()})
        if best is not None:
            words = ("the ROM", f"the best baseline, {best},")
            result["significance"] = {"best": best, **paired_difference(sums, found[best].sums, words, self.seed)}
            series = series.merge(found[best].spectra(series))
            series.attrs["best_baseline"] = best
        return series

    def _cost(self, sums: Sums, clock: Mapping[str, float], cap: float, batch: int) -> dict[str, Any]:
        """On the middle trajectories of equal parts of the ranking by error, so that their error is the usual one."""
        each = statistics(sums)["relative_l2"](np.arange(self.test.sizes[TRAJECTORY])[:, None])
        order = np.argsort(each)
        count = min(_TIMED, len(order))
        rows = np.sort(order[((np.arange(count) + 0.5) / count * len(order)).astype(int)])
        counts = self.split or {}
        simulated = sum(n for name, n in counts.items() if name != "test") or None
        self.report("cost", 0, 1)
        found = cost_at_equal_accuracy(
            self.rom,
            self.test.isel({TRAJECTORY: rows}),
            self.reference,
            ensemble_error=float(statistics(sums)["relative_l2"](rows)),
            members=self.members,
            batch=batch,
            seed=self.seed,
            cap=cap,
            seconds=clock,
            simulated=simulated,
            progress=lambda note: self.report("cost", 0, 1, note),
        )
        self.report("cost", 1, 1)
        return found


def _band(name: str, sums: Sums, series: xr.Dataset) -> xr.Dataset:
    """The bootstrap band of an error over time, `<name>_low` and `<name>_high`."""
    low, high = score.bootstrap_curves(sums["wrong"], sums["size"], CONFIDENCE)
    both = {f"{name}_low": (TIME, low), f"{name}_high": (TIME, high)}
    return xr.Dataset(both, coords={TIME: series[TIME]})


def _kept(name: str, sums: Sums, names: Sequence[str]) -> xr.Dataset:
    """Squares of error and truth per trajectory, from which other comparisons of the same data are made."""
    dims = ("field", "scored")
    kept = {f"{name}_wrong": (dims, sums["wrong"].sum(2)), "truth_size": (dims, sums["size"].sum(2))}
    return xr.Dataset(kept, coords={"field": list(names)})


def _left_out(whole: xr.Dataset, test: xr.Dataset, lengths: np.ndarray) -> dict[str, Any]:
    return {
        "trajectories_left_out": len(lengths) - test.sizes[TRAJECTORY],
        "times_left_out": whole.sizes[TIME] - test.sizes[TIME],
        "share_of_snapshots_scored": float(test.sizes[TRAJECTORY] * test.sizes[TIME] / lengths.sum()),
    }
