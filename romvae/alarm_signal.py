"""What an alarm looks at: a predicted error, made of quantities that rise with the true one by learned weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from romvae.errors import DataError
from romvae.physics.penalty import PhysicsFunction
from romvae.physics.residual import Conserved, Residual

__all__ = ["FOLDS", "VARIANCE", "Signal", "SignalKind", "held_out", "learned", "rank_correlation"]

SignalKind = Literal["auto", "variance", "residual", "ranks"]
"""`variance`: the calibrated standard deviation of the forecast. `residual`: how far the decoded mean is from solving
the equation. `ranks`: both parts of the variance and the residual, weighed. `auto`: the one that ranks errors best."""

FOLDS = 4
"""Groups of trajectories, each of which is predicted by what the others taught."""
_TINY = 1e-30
_DIGITS = 4
_VARIES = 1e-3  # of the logarithm: a part that is the same within a thousandth tells nothing


@dataclass(frozen=True)
class Signal:
    r"""Predicted error :math:`e^a \prod_k s_k^{w_k}` of parts :math:`s_k`, with weights :math:`w_k > 0`.

    It rises with every part, and is in the units of the tolerance because a and w are those of true errors. Without
    parts it is the calibrated standard deviation of the forecast, `variance`.

    Arguments:
        kind: How it is called.
        parts: Names of the parts: `decoder`, `disagreement`, `residual 1`, ... as `romvae.hybrid_run` makes them.
        weights: Their exponents.
        offset: The logarithm a.
        correlations: Held-out rank correlation with the true error of every kind that was tried.
        residual: Function that the parts `residual` are made by; None where there are none.
    """

    kind: str = "variance"
    parts: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    offset: float = 0.0
    correlations: tuple[tuple[str, float], ...] = ()
    residual: PhysicsFunction | Residual | Conserved | None = field(default=None, compare=False, repr=False)

    @property
    def formula(self) -> str:
        """The predicted error in plain text, such as `ranks: 0.42 * disagreement^0.3 * residual 1^0.5`."""
        if not self.parts:
            return self.kind
        powers = [f"{name}^{weight:g}" for name, weight in zip(self.parts, self.weights, strict=True)]
        return f"{self.kind}: " + " * ".join([f"{math.exp(self.offset):.6g}", *powers])

    @property
    def statement(self) -> str:
        """What it is and how well it ranks errors, in a sentence; empty where nothing was learned."""
        if not self.correlations:
            return ""
        found = ", ".join(f"{kind} {value:.2f}" for kind, value in self.correlations)
        return f"The alarm's signal is {self.formula} (rank correlation with the true error, held out: {found})."

    def error(self, parts: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Predicted error from the parts, in their shape; NaN where one of them is."""
        logs = [w * np.log(np.maximum(parts[n], _TINY)) for n, w in zip(self.parts, self.weights, strict=True)]
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(self.offset + np.sum(logs, axis=0)))


VARIANCE = Signal()
"""The calibrated standard deviation of the forecast."""


def learned(kind: str, parts: Mapping[str, NDArray[np.float64]], true: NDArray[np.float64]) -> Signal:
    r"""The mean of the parts' standardised logarithms, on the line that predicts log errors best in least squares.

    Every part that rises with the error counts alike, :math:`w_k = b / (K \sigma_k)` with the standard deviation of its
    logarithm, and only the slope b and the offset are fitted to errors: free weights, none below zero, were tried
    instead and left out one part or another when they were learned on few trajectories. Parts that do not vary, or
    fall where the error rises, do not count.

    Arguments:
        kind: How the signal is called.
        parts: Name to values, all of the shape of `true`.
        true: Errors, `(trajectory, time)`; those that are not finite do not count.

    Raises:
        DataError: No part rises with the error.
    """
    columns = np.stack([np.log(np.maximum(value, _TINY)).ravel() for value in parts.values()], 1)
    wanted = np.log(np.maximum(true, _TINY)).ravel()
    good = np.isfinite(true.ravel()) & np.isfinite(columns).all(1)
    columns, wanted = columns[good], wanted[good]
    std = columns.std(0) if len(wanted) else np.zeros(columns.shape[1])
    rises = [k for k in np.flatnonzero(std > _VARIES) if np.cov(columns[:, k], wanted)[0, 1] > 0]
    names = [name for k, name in enumerate(parts) if k in rises]
    kept: dict[str, float] = {}
    if rises:
        mean = (columns[:, rises] / std[rises]).mean(1)
        slope = float(np.cov(mean, wanted)[0, 1] / np.var(mean, ddof=1))
        kept = {name: _rounded(slope / (len(rises) * std[k])) for name, k in zip(names, rises, strict=True)}
    if not kept:
        raise DataError(
            f"calibrate_alarm: on the trajectories that the signal {kind!r} is learned on, none of "
            f"{', '.join(parts)} rises with the true error. Use signal='variance', or more trajectories."
        )
    offset = float(wanted.mean() - columns[:, rises].mean(0) @ np.array(list(kept.values())))
    return Signal(kind, tuple(kept), tuple(kept.values()), _rounded(offset))


def held_out(
    kind: str, parts: Mapping[str, NDArray[np.float64]], true: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Predicted errors of every trajectory by weights that others gave; None where those found nothing that rises."""
    found = np.full(true.shape, np.nan)
    for k in range(FOLDS):
        own = np.arange(len(true)) % FOLDS == k
        try:
            signal = learned(kind, {name: value[~own] for name, value in parts.items()}, true[~own])
        except DataError:
            return None
        found[own] = signal.error({name: value[own] for name, value in parts.items()})
    return found


def rank_correlation(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Spearman's, over all trajectories and times where the error is finite; NaN where one of the two is constant."""
    good = np.isfinite(true)
    p, q = (stats.rankdata(values[good]) for values in (np.where(np.isnan(predicted), np.inf, predicted), true))
    if len(p) == 0 or np.ptp(p) == 0 or np.ptp(q) == 0:
        return math.nan
    return float(np.corrcoef(p, q)[0, 1])


def _rounded(value: float) -> float:
    """To so few digits that one machine finds what another has found."""
    return float(f"{value:.{_DIGITS}g}")
