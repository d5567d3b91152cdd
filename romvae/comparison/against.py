"""The baselines of a comparison: fitted, scored, and the best of them tested against the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import xarray as xr

from romvae import metrics as score
from romvae.baselines import Baseline
from romvae.comparison.allowance import Allowance
from romvae.comparison.contenders import Contender, Diverged, contend_or_say
from romvae.comparison.significance import CONFIDENCE, best_of, paired_difference
from romvae.comparison.subject import called, opponents
from romvae.comparison.sums import Sums
from romvae.schema import TIME

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["Field", "against_baselines", "band", "squares"]


@dataclass(frozen=True)
class Field:
    """Who is compared with the model, and what they get.

    Arguments:
        train: Trajectories to fit to.
        validation: Trajectories to choose settings on; None lets each set some of `train` aside.
        asked: Baselines, their names, `cheap` or `all`; None is `cheap`.
        model: The ROM's settings, arguments of `ROM.for_data`; None takes what the ROM knows of itself.
        training: Settings of its training, arguments of `romvae.fit`.
    """

    train: xr.Dataset
    validation: xr.Dataset | None = None
    asked: Sequence[Baseline | str] | None = None
    model: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None


def against_baselines(
    rom: Model,
    test: xr.Dataset,
    field: Field,
    result: dict[str, Any],
    series: xr.Dataset,
    sums: Sums | None,
    seed: int,
    report: Callable[..., None],
) -> xr.Dataset:
    """Fits and scores the baselines, tests the difference to the best, if the model has one, and adds their curves.

    Arguments:
        rom: The model.
        test: Held-out trajectories.
        field: The baselines and what they are fitted to.
        result: The metrics so far; gets `baselines`, `baselines_left_out`, `significance` and seconds.
        series: The series so far.
        sums: Of the model's forecast, see `romvae.comparison.sums`; None where it diverged.
        seed: Of the resampling.
        report: Called as `report(stage, done, total, note)`.

    Returns:
        The series with those of the baselines.
    """
    names = list(rom.schema.field_names)
    chosen, left_out = opponents(rom, field.train, field.asked, field.model, field.training)
    given = [each for each in field.asked or () if isinstance(each, Baseline)]
    allowance = Allowance(result["seconds"], result.get("process_seconds"))
    found: dict[str, Contender] = {}
    diverged: list[str] = []
    for k, baseline in enumerate(chosen):
        report("baselines", k, len(chosen), baseline.name)
        budget = None if baseline in given else allowance.of(baseline.name)
        each = contend_or_say(baseline, field.train, test, rom, seed, budget, field.validation)
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
        series = series.merge(band(f"baseline_{baseline.name}_relative_l2_ci", each.sums, series))
        series = series.assign(squares(f"baseline_{baseline.name}", each.sums, names).data_vars)
    report("baselines", len(chosen), len(chosen))
    if left_out:
        result["baselines_left_out"] = left_out
    best = best_of({name: each.scores["relative_l2"] for name, each in found.items()})
    if best is not None and sums is not None:
        words = (called(rom), f"the best baseline, {best},")
        tested = paired_difference(sums, found[best].sums, words, seed)
        if diverged:
            tested["words"] += f" Not tested, because forecasts diverged: {', '.join(diverged)}."
        result["significance"] = {"best": best, **tested}
        series = series.merge(found[best].spectra)
        series.attrs["best_baseline"] = best
    return series


def band(name: str, sums: Sums, series: xr.Dataset) -> xr.Dataset:
    """The bootstrap band of an error over time, `<name>_low` and `<name>_high`."""
    low, high = score.bootstrap_curves(sums["wrong"], sums["size"], CONFIDENCE)
    both = {f"{name}_low": (TIME, low), f"{name}_high": (TIME, high)}
    return xr.Dataset(both, coords={TIME: series[TIME]})


def squares(name: str, sums: Sums, names: Sequence[str]) -> xr.Dataset:
    """Squares of error and truth per trajectory, from which other comparisons of the same data are made."""
    dims = ("field", "scored")
    kept = {f"{name}_wrong": (dims, sums["wrong"].sum(2)), "truth_size": (dims, sums["size"].sum(2))}
    return xr.Dataset(kept, coords={"field": list(names)})
