"""Confidence intervals of scores that rank single points: whole trajectories are drawn, with all of their points.

A trajectory that is drawn twice counts twice: points carry weights, and nothing is sorted again for a draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from romvae.comparison.significance import CONFIDENCE
from romvae.metrics import bootstrap_rows
from romvae.metrics.sharpness import FRACTIONS

__all__ = ["ranked_intervals", "weighted", "weighted_ause", "weighted_spearman"]

DRAWS, TAKEN, AT_ONCE = 400, 2**13, 2**21
"""Draws of trajectories; points of a field that stand for all in them; and weights that are held at once."""

Points = Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]]
"""Errors and standard deviations of the points of each trajectory, equally many."""
Weighted = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.integer]], NDArray[np.float64]]
"""From errors, standard deviations `(point,)` and weights `(draw, point)` to a score `(draw,)`."""


def ranked_intervals(scores: Mapping[str, float], fields: Sequence[Points], seed: int = 0) -> dict[str, list[float]]:
    """Bounds `[low, high]` of `ause` and `spearman_points` at the level `CONFIDENCE`; NaN for a single trajectory.

    Where there are more than `TAKEN` points of a field, as many random ones of each trajectory are drawn with it, and
    how far the bounds lie from their own score is put around that of all.

    Arguments:
        scores: Of all points.
        fields: The points of each field.
        seed: Of the draws.
    """
    count, rng = len(fields[0]), np.random.default_rng(seed)
    some = [_some(points, rng) for points in fields]
    bounds = {}
    for name, score in scores.items():

        def statistic(chosen: NDArray[np.intp], function: Weighted = _SCORES[name]) -> NDArray[np.float64]:
            weights = (chosen[..., None, :] == np.arange(count)[:, None]).sum(-1).reshape(-1, count)
            found = np.mean([weighted(function, *each, weights) for each in some], axis=0)
            return found.reshape(chosen.shape[:-1])

        found = bootstrap_rows(statistic, count, CONFIDENCE, DRAWS, seed)
        bounds[name] = [score + bound - found.estimate for bound in (found.low, found.high)]
    return bounds


def _some(points: Points, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Errors and standard deviations `(trajectory, point)` of all points, or of random ones of each trajectory."""
    most = max(1, TAKEN // len(points))
    rows = []
    for error, std in points:
        chosen = slice(None) if error.size <= most else np.sort(rng.choice(error.size, most, replace=False))
        rows.append((error[chosen], std[chosen]))
    errors, stds = (np.array(each, dtype=np.float64) for each in zip(*rows, strict=True))
    return errors, stds


def weighted(
    function: Weighted, error: NDArray[np.float64], std: NDArray[np.float64], weights: NDArray[np.integer]
) -> NDArray[np.float64]:
    """A score where each trajectory counts so many times, `(draw,)`, of some draws at once.

    Arguments:
        function: `weighted_ause` or `weighted_spearman`.
        error: Errors `(trajectory, point)`.
        std: Standard deviations, likewise.
        weights: How often each trajectory was drawn, `(draw, trajectory)`.
    """
    at_once = max(1, AT_ONCE // error.size)
    parts = [
        function(error.ravel(), std.ravel(), np.repeat(weights[first : first + at_once], error.shape[1], axis=1))
        for first in range(0, len(weights), at_once)
    ]
    return np.concatenate(parts)


def weighted_ause(
    error: NDArray[np.float64], std: NDArray[np.float64], weights: NDArray[np.integer]
) -> NDArray[np.float64]:
    """As `romvae.metrics.ause` of points repeated by their weights `(draw, point)`, all draws of as many."""
    total, squares = weights[0].sum(), error**2
    kept = np.maximum(1, np.round((1 - np.array(FRACTIONS)) * total))
    areas: list[NDArray[np.float64]] = []
    for by in (std, squares):
        order = np.argsort(by, kind="stable")
        count = weights[:, order].cumsum(1)
        left = (weights[:, order] * squares[order]).cumsum(1)
        curves = np.empty((len(weights), len(kept)))
        for row, (counted, sums) in enumerate(zip(count, left, strict=True)):
            last = counted.searchsorted(kept)  # a repeated point may count in part
            inside = sums[last] - (counted[last] - kept) * squares[order][last]
            curves[row] = np.sqrt(inside / kept / (sums[-1] / total))
        areas.append(np.asarray(np.trapezoid(curves, FRACTIONS, axis=1)))
    return (areas[0] - areas[1]) / (FRACTIONS[-1] - areas[1])


def weighted_spearman(
    error: NDArray[np.float64], std: NDArray[np.float64], weights: NDArray[np.integer]
) -> NDArray[np.float64]:
    """As `romvae.metrics.spearman` of points repeated by their weights; ties share their mean rank."""
    total = weights.sum(1, keepdims=True)
    p, q = (_ranks(values, weights) for values in (abs(error), std))
    p, q = (each - (weights * each).sum(1, keepdims=True) / total for each in (p, q))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (weights * p * q).sum(1) / np.sqrt((weights * p**2).sum(1) * (weights * q**2).sum(1))


def _ranks(values: NDArray[np.float64], weights: NDArray[np.integer]) -> NDArray[np.float64]:
    order = np.argsort(values, kind="stable")
    begins = np.concatenate([[0], np.flatnonzero(np.diff(values[order])) + 1])
    together = np.add.reduceat(weights[:, order], begins, axis=1)
    middle = together.cumsum(1) - together / 2 + 0.5
    ranks = np.empty(weights.shape)
    ranks[:, order] = np.repeat(middle, np.diff([*begins, len(values)]), axis=1)
    return ranks


_SCORES: dict[str, Weighted] = {"ause": weighted_ause, "spearman_points": weighted_spearman}
