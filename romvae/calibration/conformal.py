"""Split-conformal prediction with the trajectory as the unit: quantiles, and how sure a finite sample makes them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

__all__ = ["Guarantee", "conformal_quantile", "coverage_law", "rank_of", "share_quantile", "trajectories_needed"]

_ROUND = 1e-6
"""Slack against rounding: 0.8 in single precision times 5 is a little more than 4."""


def rank_of(n: int, level: float) -> int:
    """Which of n sorted scores bounds a new one with probability `level`: ceil((n + 1) level); above n none does."""
    return max(1, math.ceil((n + 1) * level - _ROUND))


def trajectories_needed(level: float) -> int:
    """Least number of trajectories with which an interval of this level can be guaranteed at all.

    >>> trajectories_needed(0.9), trajectories_needed(0.95), trajectories_needed(0.99)
    (9, 19, 99)
    """
    n = max(1, math.floor(level / (1 - level)) - 1)
    while rank_of(n, level) > n:
        n += 1
    return n


def conformal_quantile(scores: Tensor, level: float, n: int) -> Tensor:
    r"""Split-conformal quantile along the last axis: the share :math:`(n + 1)\,level / n` of the scores.

    With one score per trajectory that is the one of rank ceil((n + 1) level), and it bounds the score of a new
    trajectory with probability `level` or more. With the scores of all points of n trajectories it bounds that of a
    random point of a new trajectory: each trajectory counts as 1 / (n + 1), and 1 / (n + 1) is left for the unknown
    one. No independence of points is needed.

    Arguments:
        scores: Shape `(..., values)`.
        level: Nominal coverage.
        n: Exchangeable units behind the values: the number of calibration trajectories, not of points.

    Returns:
        The quantile, infinite where n trajectories are too few for the level.

    References:
        Angelopoulos and Bates (2023), A gentle introduction to conformal prediction, arXiv:2107.07511; Lee, Barber
        and Willett (2023), Distribution-free inference with hierarchical data, arXiv:2306.06342.
    """
    count = scores.shape[-1]
    if rank_of(n, level) > n:
        return torch.full(scores.shape[:-1], math.inf, dtype=scores.dtype)
    place = min(count, max(1, math.ceil((n + 1) * level / n * count - _ROUND)))
    return scores.kthvalue(place, dim=-1).values


def share_quantile(scores: Tensor, share: float, weights: Tensor | None = None) -> Tensor:
    """The least bound that at least `share` of the values along the last axis keep; the largest for a share of 1.

    Arguments:
        scores: Shape `(..., values)`.
        share: In (0, 1].
        weights: How many values each of them stands for, shape `(values,)`; None for one each.
    """
    count = scores.shape[-1]
    if weights is None:
        return scores.kthvalue(min(count, max(1, math.ceil(share * count - _ROUND))), dim=-1).values
    ordered, order = scores.sort(dim=-1)
    below = weights.double()[order].cumsum(-1)
    place = (below < share * below[..., -1:] - _ROUND).sum(-1, keepdim=True).clamp(max=count - 1)
    return ordered.gather(-1, place).squeeze(-1)


def coverage_law(n: int, level: float, confidence: float = 0.9) -> tuple[float, float]:
    """Where the true coverage lies, given the n calibration trajectories, with probability `confidence`.

    Over the draw of the calibration trajectories it follows Beta(k, n + 1 - k) with k = ceil((n + 1) level): exactly
    where scores are continuous, one per trajectory.

    Arguments:
        n: Calibration trajectories.
        level: Nominal coverage.
        confidence: Probability of the central interval that is returned.

    References:
        Vovk (2012), Conditional validity of inductive conformal predictors, arXiv:1209.2673.
    """
    k = rank_of(n, level)
    if k > n:
        return 1.0, 1.0
    low, high = stats.beta.ppf([(1 - confidence) / 2, (1 + confidence) / 2], k, n + 1 - k)
    return float(low), float(high)


@dataclass(frozen=True)
class Guarantee:
    """What an interval promises of a new trajectory, and on how much the promise rests.

    Arguments:
        level: Probability, over trajectories, with which it holds.
        what: What then lies inside, in words.
        trajectories: Calibration trajectories.
        of_runs: Whether it is a share of runs; else it is a probability over runs and points together, and the
            interval of the true coverage is that of points which move as one, the widest.
        levels: Those that alone are guaranteed, because the widths of others are read off theirs; None is any.
    """

    level: float
    what: str
    trajectories: int
    of_runs: bool = True
    levels: tuple[float, ...] | None = None

    @property
    def direct(self) -> bool:
        """Whether the width of the level is a quantile of its own."""
        return self.levels is None or any(abs(self.level - level) < _ROUND for level in self.levels)

    @property
    def attained(self) -> bool:
        """Whether it holds: the level is one of those that can be, with trajectories enough for it."""
        return self.direct and rank_of(self.trajectories, self.level) <= self.trajectories

    @property
    def interval(self) -> tuple[float, float]:
        """Central 90 % interval of the true coverage, see `coverage_law`."""
        return coverage_law(self.trajectories, self.level)

    def __str__(self) -> str:
        if not self.direct:
            return (
                f"No {_percent(self.level)} guarantee for {self.what}: the width of the interval is read off those of "
                f"the calibrated levels. Ask for one of {', '.join(_percent(level) for level in self.levels or ())}."
            )
        if not self.attained:
            return (
                f"No {_percent(self.level)} guarantee for {self.what}: that takes at least "
                f"{trajectories_needed(self.level)} calibration trajectories, and there are {self.trajectories}."
            )
        low, high = self.interval
        subject = (
            f"In at least {_percent(self.level)} of new runs the interval holds {self.what}"
            if self.of_runs
            else f"With a probability of at least {_percent(self.level)} the interval holds {self.what}"
        )
        return f"{subject} (given these {self.trajectories}: {_percent(low)} to {_percent(high)}, 90 % confidence)."


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
