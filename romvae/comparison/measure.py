"""`romvae.compare`: a ROM against held-out truth, the baselines, and the reference solver at equal accuracy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from romvae import metrics as score
from romvae.baselines import Baseline
from romvae.baselines.selection import baseline_names
from romvae.comparison.allowance import Allowance
from romvae.comparison.bands import quantity_scores
from romvae.comparison.card import data_card, data_fingerprint, doubtful_digits, examples
from romvae.comparison.contenders import Contender, Diverged, contend_or_say
from romvae.comparison.passing import Forecasts
from romvae.comparison.result import Comparison
from romvae.comparison.significance import CONFIDENCE, best_of, confidence_intervals, paired_difference
from romvae.comparison.structure import ranges_of
from romvae.comparison.subject import called, code_scores, code_series, code_summary, named, noise_floor, opponents
from romvae.comparison.sums import Sums, statistics
from romvae.comparison.tally import Tally
from romvae.comparison.uneven import Uneven
from romvae.cost import cost_at_equal_accuracy
from romvae.errors import DataError, OutOfRangeWarning
from romvae.forecast import Request
from romvae.ragged import even_snapshots
from romvae.schema import TIME, TRAJECTORY, canonical
from romvae.solvers.base import Case, Solver
from romvae.start import after_start

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["compare", "timed"]

Report = Callable[..., None]
_TIMED = (4, 12)  # trajectories that ROM and solver are timed on, least and most
_VALUES = 2**19 / 60.0  # that they hold together at most where there are more than the least, per second of the cap


def compare(
    rom: Model,
    test: xr.Dataset,
    *,
    train: xr.Dataset | None = None,
    reference: Case | Solver | None = None,
    baselines: str | Sequence[Baseline | str] | None = None,
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

    All scores leave out the initial time: it is input, not forecast. A ROM that is given several fields starts from as
    many of the first times and is scored on what follows; baselines start from the last of them. Relative errors of
    several fields are combined by their root mean square, coverages by their mean. Scores have 95 % confidence
    intervals over trajectories (`intervals`), the difference to the best baseline has a paired test (`significance`),
    and `cost` compares ROM and solver at equal accuracy. A baseline whose forecast of the test trajectories diverges
    has no error: `relative_l2` is None, `diverged` says why, and the others are compared without it.

    Trajectories are forecast, scored and let go some at a time, so that memory holds a block of them however many there
    are; numbers do not depend on the block. What ranks points (`ause`, `spearman_points`, the sparsification curve) is
    computed from all values up to four million, and from a fixed sample of as many where there are more.

    Where test trajectories differ in length, the scores are those of the part in which all have one
    (`romvae.ragged.even_part`; `data.ragged` says what it leaves out), and `relative_l2_all_times` is the error over
    every truth that there is. `baselines_left_out` says which baselines do not apply to the training data, diverged or
    are not installed, and why.

    Arguments:
        rom: A trained ROM, or a fitted baseline: what that has no part for is left out; `model.not_measured` says why.
        test: Trajectories that no part of the training has seen.
        train: Trajectories to fit the baselines to, the ROM's own training part; None leaves the baselines out.
        reference: Solver or case that is to be compared at equal accuracy.
        baselines: Baselines to fit, or their names; `"cheap"` are all that cost seconds, apply to the data and are
            installed, `"all"` adds those that are trained like a ROM (POD with network dynamics, a Fourier neural
            operator). None is `"cheap"`. Together the cheap ones take at most a fifth of the ROM's training, but a
            minute in any case.
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
        ConfigError: A baseline is unknown, or is asked for by its name and not installed.
    """
    report: Report = progress if progress is not None else (lambda *args: None)
    test = canonical(test)
    baselines = (baselines,) if isinstance(baselines, str) else baselines
    baseline_names(each for each in baselines or () if isinstance(each, str))  # refused before anything is computed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # counted in the data card instead
        return _Measurement(rom, test, reference, split, members, seed, report).comparison(
            train, baselines, dict(seconds or {}), info, cost_cap, batch
        )


@dataclass
class _Measurement:
    """What all steps of one comparison share; the steps are in the order of `comparison`.

    `whole` are the trajectories that were given, and `even` the part in which all have one length; `ahead` and `test`
    are the same from the initial field of the forecasts on.
    """

    rom: Model
    whole: xr.Dataset
    reference: Case | Solver | None
    split: Mapping[str, int] | None
    members: int
    seed: int
    report: Report

    def __post_init__(self) -> None:
        self.rom.schema.check(self.whole, source="test trajectories")
        if self.whole.sizes[TIME] < 2:
            raise DataError("test trajectories: hold one time, at least two are needed to score a forecast.")
        self.names = list(self.rom.schema.field_names)
        self.ahead = after_start(self.rom, self.whole)
        self.uneven = Uneven.of(self.ahead, self.rom.mask)
        self.even = even_snapshots(self.whole, self.rom.start_times)
        self.test = after_start(self.rom, self.even)

    def comparison(
        self,
        train: xr.Dataset | None,
        baselines: Sequence[Baseline | str] | None,
        clock: dict[str, float],
        info: Mapping[str, Any] | None,
        cap: float,
        batch: int,
    ) -> Comparison:
        """All of it."""
        rom, test = self.rom, self.test
        forecasts, tally = self._forecasts(), self._tally()
        forecasts.each(lambda rows, forecast: self._take(tally, rows, forecast))
        clock["rollout"] = forecasts.seconds / self.whole.sizes[TRAJECTORY]
        sums = tally.sums()
        measured = {**tally.scores(sums), **code_scores(rom, test)}
        measured["quantities"] = quantity_scores(rom, self.even, self.seed)
        measured["intervals"] = confidence_intervals(sums, self.seed)
        measured["confidence"] = CONFIDENCE
        if self.uneven is not None:
            measured["relative_l2_all_times"] = self.uneven.error()
        own = doubtful_digits(self.whole, self.names)
        if own is not None:
            measured["reference_error"] = own
            measured["not_resolvable"] = bool(measured["relative_l2"] < own)
        result: dict[str, Any] = {
            "case": str(test.attrs.get("case", "")),
            "rom": measured,
            "baselines": {},
            **named(rom),
            "seconds": clock,
            "data": self._card(),
        }
        series = tally.series(sums).merge(code_series(rom, test))
        series = series.merge(_band("rom_relative_l2_ci", sums, series)).merge(_kept("rom", sums, self.names))
        if train is not None:
            series = self._against_baselines(result, series, sums, train, baselines)
        if cap > 0:
            result["cost"] = self._cost(sums, clock, cap, batch)
            own_seconds = result["cost"].get("solver", {}).get("sweep", [{}])[0].get("seconds")
            if own_seconds is not None:
                clock["solver"] = own_seconds
        extra = {"model": rom.config, **(info or {})}
        shown = examples(rom, test, sums, lambda rows: self._shown(forecasts, rows))
        return Comparison(result, series, shown, extra, code_summary(rom, test))

    def _forecasts(self) -> Forecasts:
        count = self.whole.sizes[TRAJECTORY]
        ask = Request(self.ahead.sizes[TIME] - 1, self.members, self.seed)
        self.report("rollout", 0, count)
        return Forecasts(self.rom, self.whole, ask, lambda done: self.report("rollout", done, count))

    def _tally(self) -> Tally:
        return Tally(self.rom, self.test, ranges_of(self.test, self.names, self.rom.mask), self.reference)

    def _take(self, tally: Tally, rows: slice, forecast: xr.Dataset) -> None:
        """Scores some trajectories; of ragged ones, those and those times that all have."""
        truth = self.ahead[self.names].isel({TRAJECTORY: rows}).load()
        if self.uneven is not None:
            self.uneven.add(rows, truth, forecast)
            part = {TRAJECTORY: self.uneven.scored(rows), TIME: slice(0, self.uneven.times)}
            truth, forecast = truth.isel(part), forecast.isel(part)
        if truth.sizes[TRAJECTORY]:
            tally.add(truth, forecast)

    def _shown(self, forecasts: Forecasts, rows: Sequence[int]) -> xr.Dataset:
        """Forecasts of trajectories that are numbered among those that are scored."""
        if self.uneven is None:
            return forecasts.of(rows)
        return forecasts.of([int(self.uneven.rows[row]) for row in rows]).isel({TIME: slice(0, self.uneven.times)})

    def _card(self) -> dict[str, Any]:
        card = data_card(self.rom, self.test, self.split)
        if floor := noise_floor(self.rom):
            card["noise_floor"] = floor
        if self.rom.start_times > 1:
            card["start_times"] = self.rom.start_times
        if self.uneven is not None:
            card["ragged"] = self.uneven.left_out()
        return {**card, "fingerprint": data_fingerprint(self.test, self.names)}

    def _against_baselines(
        self,
        result: dict[str, Any],
        series: xr.Dataset,
        sums: Sums,
        train: xr.Dataset,
        baselines: Sequence[Baseline | str] | None,
    ) -> xr.Dataset:
        """Fits and scores the baselines, tests the difference to the best, and adds their curves."""
        chosen, left_out = opponents(self.rom, train, baselines)
        given = [each for each in baselines or () if isinstance(each, Baseline)]
        allowance = Allowance(result["seconds"])
        found: dict[str, Contender] = {}
        diverged: list[str] = []
        for k, baseline in enumerate(chosen):
            self.report("baselines", k, len(chosen), baseline.name)
            budget = None if baseline in given else allowance.of(baseline.name)
            each = contend_or_say(baseline, train, self.test, self.rom, self.seed, budget)
            if isinstance(each, str):
                left_out[baseline.name] = each
                continue
            allowance.take(baseline.name, each.scores["fit_seconds"])
            result["baselines"][baseline.name] = each.scores
            result["seconds"][f"baseline_{baseline.name}"] = each.wall_seconds
            if isinstance(each, Diverged):
                diverged.append(baseline.name)
                continue
            found[baseline.name] = each
            series[f"baseline_{baseline.name}_relative_l2"] = (TIME, each.curve)
            series = series.merge(_band(f"baseline_{baseline.name}_relative_l2_ci", each.sums, series))
            series = series.assign(_kept(f"baseline_{baseline.name}", each.sums, self.names).data_vars)
        self.report("baselines", len(chosen), len(chosen))
        if left_out:
            result["baselines_left_out"] = left_out
        best = best_of({name: each.scores["relative_l2"] for name, each in found.items()})
        if best is not None:
            words = (called(self.rom), f"the best baseline, {best},")
            tested = paired_difference(sums, found[best].sums, words, self.seed)
            if diverged:
                tested["words"] += f" Not tested, because forecasts diverged: {', '.join(diverged)}."
            result["significance"] = {"best": best, **tested}
            series = series.merge(found[best].spectra)
            series.attrs["best_baseline"] = best
        return series

    def _cost(self, sums: Sums, clock: Mapping[str, float], cap: float, batch: int) -> dict[str, Any]:
        """On the middle trajectories of equal parts of the ranking by error, so that their error is the usual one."""
        each = statistics(sums)["relative_l2"](np.arange(self.test.sizes[TRAJECTORY])[:, None])
        order = np.argsort(each)
        count = min(timed(math.prod(self.test[self.names[0]].shape[1:]) * len(self.names), cap), len(order))
        rows = np.sort(order[((np.arange(count) + 0.5) / count * len(order)).astype(int)])
        counts = self.split or {}
        simulated = sum(n for name, n in counts.items() if name != "test") or None
        self.report("cost", 0, 1)
        found = cost_at_equal_accuracy(
            self.rom,
            self.even.isel({TRAJECTORY: rows}),
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


def timed(values: int, cap: float) -> int:
    """Trajectories to time: which run of the solver is just accurate enough is a matter of chance on few of them.

    Arguments:
        values: Numbers that one trajectory holds.
        cap: Process seconds that the search for that run may take.
    """
    least, most = _TIMED
    return int(min(max(cap * _VALUES / values, least), most))


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
