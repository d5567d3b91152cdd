"""Several ROMs on the same held-out trajectories: which is best, and by more than chance?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from romvae.comparison.result import Comparison
from romvae.comparison.significance import CONFIDENCE, paired_difference
from romvae.errors import DataError

__all__ = ["Ranking", "rank"]


@dataclass(frozen=True)
class Ranking:
    """Several comparisons, best first.

    Arguments:
        metrics: `runs` (for each `name`, `relative_l2` with `interval`, coverage, costs, and `against_best`, see
            `paired_difference`), `baseline` (name and error of the best one, and `against_best`, where it is known by
            trajectory), `fingerprint` of the data,
            `trajectories`, `confidence`.
        series: `relative_l2`, `low` and `high`, the bounds of its interval, each `(run, time)`.
        info: The configuration of each run by its name.
    """

    metrics: dict[str, Any]
    series: xr.Dataset
    info: dict[str, Any] = field(default_factory=dict)


def rank(comparisons: Mapping[str, Comparison], seed: int = 0) -> Ranking:
    """Orders comparisons by their pooled relative L2 error and tests each against the best, trajectory by trajectory.

    A run whose forecast diverged has no error, is last and is not tested.

    Arguments:
        comparisons: By the name that each is shown under.
        seed: Of resampling and exchanges.

    Raises:
        DataError: There is only one, one was made by an earlier version, they are of different data, or all diverged.
    """
    if len(comparisons) < 2:
        raise DataError(f"rank: {len(comparisons)} comparison was given, expected two or more. Add a run.")
    _check_same(comparisons)
    names = list(comparisons)
    if all(_broken(comparisons[name]) for name in names):
        raise DataError(
            "rank: the forecasts of all runs diverged, so that there is no error to rank them by. Train the dynamics "
            "for more steps or on longer windows."
        )
    order = [names[k] for k in np.argsort([_error(comparisons[name]) for name in names], kind="stable")]  # NaN is last
    best = order[0]
    runs = []
    for name in order:
        row = _row(name, comparisons[name])
        if name != best and not _broken(comparisons[name]):
            both = _sums(comparisons[best]), _sums(comparisons[name])
            row["against_best"] = paired_difference(*both, (best, name), seed)
        runs.append(row)
    first = comparisons[best].metrics
    metrics: dict[str, Any] = {
        "case": first["case"],
        "runs": runs,
        "baseline": _best_baseline(comparisons, best, seed),
        "fingerprint": first["data"]["fingerprint"],
        "trajectories": int(comparisons[best].series.sizes["scored"]),
        "confidence": CONFIDENCE,
        "data": first["data"],
    }
    info = {name: comparisons[name].info.get("configuration", {}) for name in order}
    return Ranking(metrics, _curves(comparisons, [name for name in order if not _broken(comparisons[name])]), info)


def _check_same(comparisons: Mapping[str, Comparison]) -> None:
    prints = {name: each.metrics.get("data", {}).get("fingerprint") for name, each in comparisons.items()}
    first, *others = prints
    for name in prints:
        if prints[name] is None:
            raise DataError(
                f"{name}: its comparison tells no fingerprint of its data. Run `romvae compare` on it again."
            )
    for name in others:
        if prints[name] != prints[first]:
            raise DataError(
                f"{name}: its held-out trajectories are not those of {first}, so the two cannot be ranked. Train both "
                "on the same data with the same --seed, which decides what is held out."
            )


def _error(comparison: Comparison) -> float:
    error = comparison.metrics["rom"]["relative_l2"]
    return np.nan if error is None else float(error)


def _broken(comparison: Comparison) -> bool:
    """Whether the run's forecast diverged, so that it has no error."""
    return bool(comparison.metrics["rom"].get("diverged"))


def _sums(comparison: Comparison, name: str = "rom") -> dict[str, np.ndarray]:
    """As `paired_difference` wants them, with a single time; of the ROM, or of `baseline_<name>`."""
    series = comparison.series
    return {"wrong": series[f"{name}_wrong"].values[..., None], "size": series["truth_size"].values[..., None]}


def _row(name: str, comparison: Comparison) -> dict[str, Any]:
    rom, cost = comparison.metrics["rom"], comparison.metrics.get("cost", {})
    mean, paid = cost.get("rom", {}).get("mean", {}), cost.get("pay_off", {})
    return {
        "name": name,
        "model": _model(comparison),
        "relative_l2": rom["relative_l2"],
        "interval": rom.get("intervals", {}).get("relative_l2"),
        **{score: rom.get(score) for score in ("vrmse", "worst_nrmse", "crps", "coverage_90")},
        **({"diverged": rom["diverged"]} if _broken(comparison) else {}),
        "compression_relative_l2": rom.get("compression_relative_l2"),
        "not_resolvable": bool(rom.get("not_resolvable", False)),
        "seconds": mean.get("seconds"),
        "seconds_batch": mean.get("seconds_batch"),
        "speed_up": mean.get("speed_up"),
        "speed_up_batch": mean.get("speed_up_batch"),
        "coarsened": cost.get("solver", {}).get("coarsened", True),
        "training_seconds": paid.get("training_seconds"),
        "latent": comparison.info.get("model", {}).get("latent"),
    }


def _model(comparison: Comparison) -> str:
    """What kind of model it is, by the names of `romvae train --model`."""
    chosen = comparison.metrics.get("ranking", {}).get("chosen")
    return str(chosen or comparison.metrics.get("model", {}).get("name") or "vae")


def _best_baseline(comparisons: Mapping[str, Comparison], best: str, seed: int) -> dict[str, Any] | None:
    """The smallest error that a baseline has in any of the comparisons, tested against the best run."""
    found = [
        (float(scores["relative_l2"]), baseline, run)
        for run, each in comparisons.items()
        for baseline, scores in each.metrics.get("baselines", {}).items()
        if scores["relative_l2"] is not None and np.isfinite(scores["relative_l2"])
    ]
    if not found:
        return None
    error, baseline, run = min(found)
    row: dict[str, Any] = {"name": baseline, "relative_l2": error}
    if f"baseline_{baseline}_wrong" in comparisons[run].series:  # not in those of earlier versions
        both = _sums(comparisons[best]), _sums(comparisons[run], f"baseline_{baseline}")
        row["against_best"] = paired_difference(*both, (best, baseline), seed)
    return row


def _curves(comparisons: Mapping[str, Comparison], order: list[str]) -> xr.Dataset:
    kinds = {"relative_l2": "", "low": "_ci_low", "high": "_ci_high"}
    time = comparisons[order[0]].series["time"]
    data = {
        kind: (("run", "time"), np.stack([comparisons[n].series[f"rom_relative_l2{suffix}"].values for n in order]))
        for kind, suffix in kinds.items()
    }
    return xr.Dataset(data, coords={"run": order, "time": time})
