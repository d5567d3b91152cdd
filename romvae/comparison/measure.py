"""`romvae.compare`: a ROM against held-out truth, the baselines, and the reference solver at equal accuracy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from romvae.baselines import Baseline
from romvae.baselines.selection import baseline_names
from romvae.comparison.against import Field, against_baselines, band, squares
from romvae.comparison.bands import quantity_scores
from romvae.comparison.card import data_card, data_fingerprint, doubtful_digits, examples
from romvae.comparison.divergence import divergence
from romvae.comparison.ensembles import ensemble_scores
from romvae.comparison.long_run import check_steps, long_run_scores
from romvae.comparison.passing import Forecasts
from romvae.comparison.result import Comparison
from romvae.comparison.significance import confidence_intervals
from romvae.comparison.structure import ranges_of
from romvae.comparison.subject import code_scores, code_series, code_summary, named, noise_floor
from romvae.comparison.sums import Sums, statistics
from romvae.comparison.tally import Tally
from romvae.comparison.uneven import Uneven
from romvae.cost import cost_at_equal_accuracy
from romvae.errors import DataError, NumericsError, OutOfRangeWarning
from romvae.forecast import Request
from romvae.ragged import even_snapshots
from romvae.schema import TIME, TRAJECTORY, canonical
from romvae.solvers.base import Case, Solver
from romvae.start import after_start

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["compare", "timed"]

Report = Callable[..., None]
_USUAL = 60.0  # seconds of the cap; a longer search is for more settings of the solver, not for more trajectories
_TIMED = (4, 12)  # trajectories that ROM and solver are timed on, least and most
_VALUES = 2**19 / 60.0  # that they hold together at most where there are more than the least, per second of the cap


def compare(
    rom: Model,
    test: xr.Dataset,
    *,
    train: xr.Dataset | None = None,
    validation: xr.Dataset | None = None,
    reference: Case | Solver | None = None,
    baselines: str | Sequence[Baseline | str] | None = None,
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    seconds: Mapping[str, float] | None = None,
    process_seconds: Mapping[str, float] | None = None,
    info: Mapping[str, Any] | None = None,
    split: Mapping[str, int] | None = None,
    members: int = 32,
    seed: int = 0,
    cost_cap: float = 60.0,
    batch: int = 64,
    long_run: int | None = None,
    progress: Report | None = None,
) -> Comparison:
    """Forecasts held-out trajectories from their first field and scores the forecast.

    All scores leave out the initial time: it is input, not forecast. A ROM that is given several fields starts from as
    many of the first times and is scored on what follows; baselines start from the last of them. Relative errors of
    several fields are combined by their root mean square, coverages, CRPS and mean absolute errors by their mean;
    `fields` has the scores of each field alone, in its units. Scores have 95 % confidence intervals over trajectories
    (`intervals`), the difference to the best baseline has a paired test (`significance`), and `cost` compares ROM and
    solver at equal accuracy. A baseline whose forecast of the test trajectories diverges has no error: `relative_l2` is
    None, `diverged` says why, and the others are compared without it. So it is with the model itself: where its
    forecast of some trajectory diverges, `rom.relative_l2` is None, `rom.diverged` says of which trajectories and at
    which step, and the baselines are scored all the same.

    Trajectories are forecast, scored and let go some at a time, so that memory holds a block of them however many there
    are; numbers do not depend on the block. What ranks points (`ause`, `spearman_points`, the sparsification curve) is
    computed from all values up to four million, and from a fixed sample of as many where there are more.

    Where test trajectories differ in length, the scores are those of the part in which all have one
    (`romvae.ragged.even_part`; `data.ragged` says what it leaves out), and `relative_l2_all_times` is the error over
    every truth that there is. `baselines_left_out` says which baselines do not apply to the training data, diverged or
    are not installed or were not asked for though they are the strongest, and why.

    `energy_score` and `ensemble_crps` are of the members, up to 16 of them on up to 64 trajectories: they score what
    the networks and the posterior's spread give, without the decoder's own variance (`romvae.comparison.ensembles`);
    `crps` is that of the whole, calibrated forecast as a Gaussian.

    Arguments:
        rom: A trained ROM, or a fitted baseline: what that has no part for is left out; `model.not_measured` says why.
        test: Trajectories that no part of the training has seen.
        train: Trajectories to fit the baselines to, the ROM's own training part; None leaves the baselines out.
        validation: Trajectories that baselines choose their settings on, the ROM's own part `variance`, on which it
            decides between what it has trained and closed forms; None lets each set some of `train` aside instead.
        reference: Solver or case that is to be compared at equal accuracy. One that has no settings to make it cheaper
            is compared as it is, which `cost.solver.coarsened` and the report say: see `FunctionSolver(coarser=...)`.
        baselines: Baselines to fit, or their names; `"cheap"` are all that cost seconds, apply to the data and are
            installed, `"all"` adds those that are trained like a ROM (POD with network dynamics, a Fourier neural
            operator). None is `"cheap"`. Together the cheap ones take at most a fifth of the ROM's training, but a
            minute in any case.
        model: Settings of the ROM that POD with network dynamics gets too, arguments of `ROM.for_data`; None takes
            those of the ROM's dynamics, where it has a network.
        training: Settings of the ROM's training that it gets too, arguments of `romvae.fit`; None takes the usual ones.
        seconds: Wall-clock of earlier stages, carried over into the metrics.
        process_seconds: Process seconds of the training's stages, `history.process_seconds`; for a stage without, all
            threads of this process count as busy for its wall-clock.
        info: Configuration, environment and training curves for the report.
        split: Trajectories per part, for the record.
        members: Members of the forecast ensemble.
        seed: Seed of the forecast.
        cost_cap: Process seconds after which no other run of the solver is begun; 0 leaves the costs out.
        batch: Trajectories of a batch for the costs; fewer where memory or time is short.
        long_run: Steps of a rollout from a few held-out starts whose statistics are compared with those of the data,
            for chaotic flows; in the metrics as `rom.long_run`, see `romvae.comparison.long_run`. One that diverges is
            reported with its step. None leaves it out.
        progress: Called as `progress(stage, done, total, note)`.

    Raises:
        SchemaError: The data are not on the ROM's grid.
        DataError: The trajectories hold a single time.
        ConfigError: The long run is too short, or a baseline is unknown, or is asked for by its name and not installed.
    """
    check_steps(long_run)
    report: Report = progress if progress is not None else (lambda *args: None)
    test = canonical(test)
    baselines = (baselines,) if isinstance(baselines, str) else baselines
    baseline_names(each for each in baselines or () if isinstance(each, str))  # refused before anything is computed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # counted in the data card instead
        field = None if train is None else Field(train, validation, baselines, model, training)
        clocks = (dict(seconds or {}), dict(process_seconds or {}))
        return _Measurement(rom, test, reference, split, members, seed, report).comparison(
            field, clocks, info, cost_cap, batch, long_run
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
        field: Field | None,
        clocks: tuple[dict[str, float], dict[str, float]],
        info: Mapping[str, Any] | None,
        cap: float,
        batch: int,
        long_run: int | None,
    ) -> Comparison:
        """All of it."""
        rom, test, clock = self.rom, self.test, clocks[0]
        forecasts, tally = self._forecasts(), self._tally()
        try:
            forecasts.each(lambda rows, forecast: self._take(tally, rows, forecast))
        except NumericsError:
            return self._diverged(divergence(forecasts), field, clocks, info)
        clock["rollout"] = forecasts.seconds / self.whole.sizes[TRAJECTORY]
        sums = tally.sums()
        measured = {**tally.scores(sums, self.seed), **code_scores(rom, test)}
        ensemble, over_lead, members = ensemble_scores(rom, self.even, self.members, self.seed)
        train = None if field is None else field.train
        measured |= {**ensemble, **long_run_scores(rom, self.even, train, long_run, self.seed)}
        measured["quantities"] = quantity_scores(rom, self.even, self.seed)
        measured["intervals"] |= confidence_intervals(members, self.seed)
        if self.uneven is not None:
            measured["relative_l2_all_times"] = self.uneven.error()
        own = doubtful_digits(self.whole, self.names)
        if own is not None:
            measured["reference_error"] = own
            measured["not_resolvable"] = bool(measured["relative_l2"] < own)
        result = self._result(measured, clocks)
        series = tally.series(sums).merge(over_lead).merge(code_series(rom, test))
        series = series.merge(band("rom_relative_l2_ci", sums, series)).merge(squares("rom", sums, self.names))
        if field is not None:
            series = against_baselines(rom, test, field, result, series, sums, self.seed, self.report)
        if cap > 0:
            result["cost"] = self._cost(sums, clocks, cap, batch)
            own_seconds = result["cost"].get("solver", {}).get("sweep", [{}])[0].get("seconds")
            if own_seconds is not None:
                clock["solver"] = own_seconds
        extra = {"model": rom.config, **(info or {})}
        shown = examples(rom, test, sums, lambda rows: self._shown(forecasts, rows))
        return Comparison(result, series, shown, extra, code_summary(rom, test))

    def _result(self, measured: dict[str, Any], clocks: tuple[dict[str, float], dict[str, float]]) -> dict[str, Any]:
        """What the metrics begin with."""
        clock, process = clocks
        return {
            "case": str(self.test.attrs.get("case", "")),
            "rom": measured,
            "baselines": {},
            **named(self.rom),
            "seconds": clock,
            **({"process_seconds": process} if process else {}),
            "data": self._card(),
        }

    def _diverged(
        self,
        measured: dict[str, Any],
        field: Field | None,
        clocks: tuple[dict[str, float], dict[str, float]],
        info: Mapping[str, Any] | None,
    ) -> Comparison:
        """The comparison of a model without an error: its code, and the baselines."""
        rom, test = self.rom, self.test
        result = self._result({**measured, **code_scores(rom, test)}, clocks)
        series = code_series(rom, test).assign_coords({TIME: test[TIME].isel({TIME: slice(1, None)})})
        if field is not None:
            series = against_baselines(rom, test, field, result, series, None, self.seed, self.report)
        return Comparison(result, series, xr.Dataset(), {"model": rom.config, **(info or {})}, code_summary(rom, test))

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

    def _cost(self, sums: Sums, clocks: Sequence[Mapping[str, float]], cap: float, batch: int) -> dict[str, Any]:
        """On the middle trajectories of equal parts of the ranking by error, so that their error is the usual one."""
        each = statistics(sums)["relative_l2"](np.arange(self.test.sizes[TRAJECTORY])[:, None])
        order = np.argsort(each)
        count = min(
            timed(math.prod(self.test[self.names[0]].shape[1:]) * len(self.names), min(cap, _USUAL)), len(order)
        )
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
            seconds=clocks[0],
            process=clocks[1],
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
