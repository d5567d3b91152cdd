"""Further baselines in a comparison that was made before."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from romvae import metrics as score
from romvae.baselines import Baseline
from romvae.canonical import canonical
from romvae.comparison.contenders import Contender, Diverged, contend_or_say
from romvae.comparison.passing import Forecasts
from romvae.comparison.significance import best_of, paired_difference
from romvae.comparison.subject import called
from romvae.comparison.sums import Sums, error_sums, joined
from romvae.errors import OutOfRangeWarning
from romvae.forecast import Request
from romvae.ragged import even_snapshots
from romvae.schema import TIME, TRAJECTORY
from romvae.start import after_start

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["with_baselines"]


def with_baselines(
    metrics: Mapping[str, Any],
    rom: Model,
    test: xr.Dataset,
    *,
    train: xr.Dataset,
    baselines: Sequence[Baseline],
    members: int,
    seed: int,
    progress: Callable[..., None] | None = None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The metrics of `romvae.compare` with more baselines in them, and why some of these are not.

    What was measured of the model and of the other baselines stays. Only where a new baseline is the best of all is the
    model's forecast repeated, for the paired test against it; members and seed have to be those of the comparison.

    Arguments:
        metrics: Of the comparison; not changed.
        rom: The model that was compared.
        test: The same held-out trajectories.
        train: Trajectories to fit to.
        baselines: To be fitted.
        members: Members of the model's forecast.
        seed: Its seed.
        progress: Called as `progress(stage, done, total, note)`.

    Returns:
        New metrics, and by name what could not be fitted; what diverged is in the metrics, without an error.
    """
    report = progress if progress is not None else (lambda *args: None)
    test = even_snapshots(canonical(test), rom.start_times)
    ahead = after_start(rom, test)
    found: dict[str, Contender] = {}
    diverged: dict[str, Diverged] = {}
    failed: dict[str, str] = {}
    seconds = dict(metrics.get("seconds", {}))
    for k, baseline in enumerate(baselines):
        report("baselines", k, len(baselines), baseline.name)
        each = contend_or_say(baseline, train, ahead, rom, seed)
        if isinstance(each, str):
            failed[baseline.name] = each
            continue
        seconds[f"baseline_{baseline.name}"] = each.wall_seconds
        if isinstance(each, Diverged):
            diverged[baseline.name] = each
        else:
            found[baseline.name] = each
    report("baselines", len(baselines), len(baselines))
    new = {name: dict(each.scores) for name, each in found.items()}
    new |= {name: each.scores for name, each in diverged.items()}
    scores = {**metrics.get("baselines", {}), **new}
    result = {**metrics, "baselines": scores, "seconds": seconds}
    left_out = {name: why for name, why in metrics.get("baselines_left_out", {}).items() if name not in new}
    result |= {"baselines_left_out": left_out} if "baselines_left_out" in metrics else {}
    errors = {name: each.get("relative_l2") for name, each in scores.items()}
    best = best_of({name: error for name, error in errors.items() if error is not None})
    if best in found and not metrics.get("rom", {}).get("diverged"):
        words = (called(rom), f"the best baseline, {best},")
        tested = paired_difference(_own_sums(rom, test, members, seed), found[best].sums, words, seed)
        result["significance"] = {"best": best, **tested}
    return result, failed


def _own_sums(rom: Model, test: xr.Dataset, members: int, seed: int) -> Sums:
    """What the model's error is made of, for each trajectory."""
    names, parts, ahead = list(rom.schema.field_names), [], after_start(rom, test)

    def take(rows: slice, forecast: xr.Dataset) -> None:
        both = (ahead[names].isel({TRAJECTORY: rows}).load(), forecast[names])
        later = (each.isel({TIME: slice(1, None)}) for each in both)
        parts.append(error_sums(*(score.in_domain(each, rom.mask) for each in later)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # counted by the comparison
        Forecasts(rom, test, Request(ahead.sizes[TIME] - 1, members, seed)).each(take)
    return joined(parts)
