"""How sure the scores are, and whether the ROM differs from the best baseline by more than chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from romvae.comparison.sums import Sums, pooled_error, statistics
from romvae.metrics import bootstrap_rows, sign_flip_p_value

__all__ = ["CONFIDENCE", "SURE", "best_of", "confidence_intervals", "paired_difference"]

CONFIDENCE = 0.95
SURE = 0.05  # p-value below which a difference is called more than chance
_FEW = 6  # with fewer pairs not even the most extreme exchange reaches a p-value of 0.05: 2 / 2^5 = 0.06


def confidence_intervals(sums: Sums, seed: int = 0) -> dict[str, list[float]]:
    """Bounds `[low, high]` of every score that `statistics` knows, at the level `CONFIDENCE`."""
    count = next((each.shape[1] for each in sums.values()), 0)
    found = {name: bootstrap_rows(each, count, CONFIDENCE, seed=seed) for name, each in statistics(sums).items()}
    return {name: [each.low, each.high] for name, each in found.items()}


def best_of(errors: Mapping[str, float]) -> str | None:
    """The name with the smallest finite error; None where there is none."""
    finite = {name: error for name, error in errors.items() if np.isfinite(error)}
    return min(finite, key=finite.__getitem__) if finite else None


def paired_difference(first: Sums, second: Sums, names: tuple[str, str], seed: int = 0) -> dict[str, Any]:
    """The difference of two pooled relative L2 errors over the same trajectories, with what chance allows.

    Arguments:
        first: Of one forecast, see `error_sums`.
        second: Of the other, of the same trajectories in the same order.
        names: What the sentence calls them.
        seed: Of resampling and exchanges.

    Returns:
        `difference` (second minus first: positive where the first is better), its interval `low` and `high` at the
        level `confidence`, `p_value`, the number of `trajectories`, on how many of them the first is better
        (`better_on`), the `median` of the errors of single trajectories of both, and `words`.
    """
    (wrong, size), (other, _) = ((s["wrong"].sum(2), s["size"].sum(2)) for s in (first, second))
    count = wrong.shape[1]

    def gap(chosen: np.ndarray) -> np.ndarray:
        a, b, u = (np.moveaxis(each[:, chosen], 0, -2) for each in (wrong, other, size))
        return pooled_error(b, u) - pooled_error(a, u)

    interval = bootstrap_rows(gap, count, CONFIDENCE, seed=seed)
    p_value = sign_flip_p_value(wrong, other, lambda each: pooled_error(each, size), seed=seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        own, others = (np.where(each == 0, 0.0, each / size).mean(0) for each in (wrong, other))
    better = int((own < others).sum())
    return {
        "difference": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "confidence": CONFIDENCE,
        "p_value": p_value,
        "trajectories": count,
        "better_on": better,
        "median": [float(np.sqrt(np.median(each))) for each in (own, others)],
        "words": _words(names, interval.estimate, p_value, better, count),
    }


def _words(names: tuple[str, str], difference: float, p_value: float, better: int, count: int) -> str:
    if not np.isfinite(difference):
        return f"{names[0]} and {names[1]} cannot be told apart: an error is not finite."
    winner, wins = (names[0], better) if difference >= 0 else (names[1], count - better)
    few = f"; {count} trajectories are too few to tell" if count < _FEW else ""
    where = f"smaller on {wins} of {count} trajectories"
    chance = "p < 0.001" if p_value < 1e-3 else f"p = {p_value:.2g}"
    if 2 * wins < count:
        other = names[1] if winner == names[0] else names[0]
        explained = "" if p_value < SURE else ", which chance explains too"
        return (
            f"The error of {winner} is smaller in all, because of a few runs in which {other} is far off: {other} is "
            f"better on {count - wins} of {count} trajectories ({chance} for the error in all{explained}){few}."
        )
    if p_value < SURE:
        return f"The error of {winner} is {where}: more than chance ({chance})."
    return f"The error of {winner} is {where}, which chance explains too ({chance}){few}."
