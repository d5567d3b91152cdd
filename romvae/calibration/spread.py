"""What a spread is turned into: a function of it that grows, for each field, found on calibration trajectories."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor

from romvae.calibration.lead import stored_times

__all__ = ["ENOUGH", "EXPONENTS", "best_spread", "frontier", "held_out_spreads", "power_law", "reshaped", "scaled"]

EXPONENTS = tuple(round(0.1 * k, 1) for k in range(2, 15))
"""What is tried; 1 keeps the spread as the networks give it, and 0 would be one number everywhere."""
ENOUGH = 20
"""With fewer calibration trajectories the spread stays as it is."""
BINS, VALUES = 64, 2**20
"""Parts of the range of spreads, equally many values in each, and values of a field that are looked at, about."""
FOLDS = 10
"""Groups of trajectories, each of which is scored with the function that the others give."""
APART = 0.02
"""Logarithms of sigma that are closer are one: a steeper function would make much of round-off."""
TABLE = 256
"""Values that the function is kept as."""
BEYOND = 10.0
"""Factor by which it may differ from the power of the spread."""


def power_law(exponent: Tensor) -> Tensor:
    """The function sigma^b as `best_spread` gives it, for exponents `(field,)`."""
    less = exponent.float() - 1
    ends = torch.stack([less, -torch.ones_like(less), torch.ones_like(less)], 1)
    return torch.cat([ends, less[:, None] * torch.linspace(-1.0, 1.0, TABLE)], 1)


def best_spread(lead: Tensor, ratio: Tensor, std: Tensor, reached: Tensor | None = None) -> Tensor:
    r"""The function h of each field for which :math:`s_l\, h(\sigma)` is the error's deviation at every level of sigma.

    First comes the power of sigma that is most likely (`best_exponents`), with a factor for each lead time. Values of
    all lead times are then sorted by sigma into bins, and the mean squares of their errors, in units of these factors,
    made monotone by isotonic regression. Between the bins the logarithm of h is linear in that of sigma, beyond them
    the power goes on. A single power leaves a spread over error that is wrong by up to 40 percent where the largest
    errors decide it.

    Arguments:
        lead: Calibrated lead times, increasing.
        ratio: |r| / sigma, `(lead, field, trajectory, point)`.
        std: sigma, in normalised units, same shape.
        reached: Which lead times each trajectory reaches, `(lead, trajectory)`; None for all.

    Returns:
        For `scaled`: of each field the exponent less 1, the logarithms of the least and the largest sigma, and between
        them, evenly spaced, the logarithm of h(sigma) / sigma; `(field, 3 + TABLE)`.

    References:
        Zadrozny and Elkan (2002), Transforming classifier scores into accurate multiclass probability estimates (for
        isotonic regression as a calibration).
    """
    points = max(1, VALUES // max(1, ratio.shape[0] * ratio.shape[2]))
    if points < ratio.shape[3]:
        pick = torch.randperm(ratio.shape[3], generator=torch.Generator().manual_seed(0))[:points]
        ratio, std = ratio[..., pick], std[..., pick]
    exponent = best_exponents(lead, ratio, std, reached)
    found = power_law(exponent)
    trajectories = ratio.shape[2] if reached is None else int(reached.all(0).sum())
    if trajectories < ENOUGH:
        return found
    weights = stored_times(lead).double().numpy()
    for f, b in enumerate(exponent.tolist()):
        logs, squares, weight = [], [], []
        for k in np.flatnonzero(weights):
            rows = slice(None) if reached is None else reached[k]
            r, log_std = ratio[k, f, rows].double(), std[k, f, rows].double().log()
            square = (r.log() + (1 - b) * log_std).mul(2).exp()  # (r / sigma^b)^2, also where r is 0
            logs.append(log_std.flatten().numpy())
            squares.append(((square / square.mean()).log() + 2 * b * log_std).exp().flatten().numpy())
            weight.append(np.full(len(logs[-1]), weights[k]))
        values = (np.concatenate(logs), np.concatenate(squares), np.concatenate(weight))
        table = _monotone(*values, b, min(BINS, max(4, trajectories // 3)))
        if table is not None:
            found[f] = table
    return found


def held_out_spreads(
    lead: Tensor, ratio: Tensor, std: Tensor, reached: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For every fold of trajectories its rows, the others' rows, and the function that the others give.

    Scores of trajectories that the function was fitted on would be too small: where the level of sigma differs between
    them, it has learnt their errors.

    Arguments:
        lead: As for `best_spread`, like the others.
        ratio: |r| / sigma.
        std: sigma.
        reached: Which lead times each trajectory reaches.
    """
    fold = torch.arange(ratio.shape[2]) % FOLDS
    for k in range(min(FOLDS, ratio.shape[2])):
        held, others = (fold == k).nonzero()[:, 0], (fold != k).nonzero()[:, 0]
        there = None if reached is None else reached[:, others]
        yield held, others, best_spread(lead, ratio[:, :, others], std[:, :, others], there)


def _monotone(log_std: np.ndarray, square: np.ndarray, weight: np.ndarray, b: float, bins: int) -> Tensor | None:
    """One row of the result; None where the spread has no range, or an error or a spread vanishes everywhere."""
    if not np.isfinite(log_std).all() or not np.isfinite(square).all() or not square.any():
        return None
    order = log_std.argsort(kind="stable")
    log_std, square, weight = log_std[order], square[order], weight[order]
    total = weight.cumsum()
    edges = np.searchsorted(total, np.linspace(0, total[-1], bins + 1)[:-1], side="right")
    starts = np.unique(edges.clip(0, len(log_std) - 1))
    powers = weight * np.exp(2 * b * log_std)
    sums = [np.add.reduceat(part, starts) for part in (weight, weight * log_std, weight * square, powers)]
    # In a bin h goes on as the power does, so that wide ones, as those at the ends, are right in the mean.
    x = sums[1] / sums[0]
    y = sums[2] / sums[3] * np.exp(2 * b * x)
    group = np.unique(np.round(x / APART), return_inverse=True)[1]
    mass = np.bincount(group, sums[0])
    x, y = np.bincount(group, sums[0] * x) / mass, np.bincount(group, sums[0] * y) / mass
    if len(x) < 2:
        return None
    fitted = isotonic_regression(y, weights=mass).x
    log_h = 0.5 * np.log(np.maximum(fitted, 1e-300))
    off = log_h - b * x
    off -= _median(off, mass)  # a mean would follow the points without any error
    log_h = np.maximum.accumulate(b * x + off.clip(-math.log(BEYOND), math.log(BEYOND)))
    grid = np.linspace(x[0], x[-1], TABLE)
    row = np.concatenate([[b - 1, x[0], x[-1]], np.interp(grid, x, log_h) - grid])
    return torch.from_numpy(row).float()


def best_exponents(lead: Tensor, ratio: Tensor, std: Tensor, reached: Tensor | None = None) -> Tensor:
    r"""The exponent b of each field with the largest likelihood of a Gaussian with the deviation :math:`s_l \sigma^b`.

    The factors :math:`s_l` of the lead times take their own best values. Lead times count as in the score of a run.

    Arguments:
        lead: Calibrated lead times, increasing.
        ratio: |r| / sigma, `(lead, field, trajectory, point)`.
        std: sigma, in normalised units, same shape.
        reached: Which lead times each trajectory reaches, `(lead, trajectory)`; None for all.

    Returns:
        One of `EXPONENTS` for each field, float32.
    """
    weights = stored_times(lead).double()
    found = torch.ones(ratio.shape[1])
    enough = ratio.shape[2] if reached is None else int(reached.all(0).sum())
    if enough < ENOUGH:
        return found
    for f in range(ratio.shape[1]):
        score = torch.zeros(len(EXPONENTS), dtype=torch.float64)
        for k in range(len(lead)):
            if weights[k] == 0:
                continue
            rows = slice(None) if reached is None else reached[k]
            r, log_std = ratio[k, f, rows].double(), std[k, f, rows].double().log()
            if bool(log_std.isneginf().any()):  # a spread of nothing has no power
                score.fill_(float("nan"))
                break
            for i, b in enumerate(EXPONENTS):
                raised_square = (r * ((1 - b) * log_std).exp()).square().mean()
                score[i] += weights[k] * (b * log_std.mean() + 0.5 * raised_square.clamp_min(1e-300).log())
        if bool(score.isfinite().all()):
            found[f] = EXPONENTS[int(score.argmin())]
    return found


def _median(values: np.ndarray, weight: np.ndarray) -> float:
    order = values.argsort(kind="stable")
    total = weight[order].cumsum()
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def reshaped(ratio: Tensor, std: Tensor, spread: Tensor) -> Tensor:
    """|r| / h(sigma) from |r| / sigma; `(lead, field, trajectory, point)`."""
    return ratio / scaled(torch.ones((), dtype=ratio.dtype), std.to(ratio), spread, 1)


def frontier(error: Tensor, std: Tensor, most: int = 64) -> tuple[Tensor, Tensor]:
    """The points on the last axis that may have the largest |r| / h(sigma), whatever the growing function h is.

    Those are the points whose error no point with a smaller deviation reaches. Where they are more than `most`,
    neighbours become one that is at least as large.

    Returns:
        |r| / sigma and sigma, `(..., most)`; places that are not needed have a ratio of 0.
    """
    order = std.argsort(-1)
    std, error = std.gather(-1, order), error.gather(-1, order)
    above = torch.cat([torch.zeros_like(error[..., :1]), error.cummax(-1).values[..., :-1]], -1)
    new = error > above
    count = new.sum(-1, keepdim=True)
    place = (new.cumsum(-1) - 1).clamp_min(0)
    place = torch.where(count > most, place * most // count.clamp_min(1), place)
    shape = (*error.shape[:-1], most)
    large = error.new_zeros(shape).scatter_reduce(-1, place, torch.where(new, error, torch.zeros_like(error)), "amax")
    narrow = torch.where(new, std, torch.full_like(std, torch.inf))
    small = error.new_full(shape, torch.inf).scatter_reduce(-1, place, narrow, "amin")
    there = small.isfinite()
    small = torch.where(there, small, torch.ones_like(small))
    return torch.where(there, large / small, torch.zeros_like(large)), small


def scaled(factor: Tensor, std: Tensor, spread: Tensor | None, axis: int) -> Tensor:
    """What a standard deviation and its parts are multiplied by: the factor times h(std) / std.

    Arguments:
        factor: Of the lead time and field, in a shape that goes with `std`.
        std: As the networks give it, normalised units, with the fields on `axis`.
        spread: From `Calibration.spread`, `(field, 3 + table)`; None leaves the factor as it is.
        axis: Of the fields.
    """
    if spread is None:
        return factor
    spread = spread.to(std)
    trailing = [1] * (std.ndim - axis - 1)
    less, low, high = (spread[:, k].reshape(-1, *trailing) for k in range(3))
    table, last = spread[:, 3:].flatten(), spread.shape[1] - 4
    limits = torch.finfo(std.dtype)
    log_std = std.clamp(limits.tiny, limits.max).log()
    inside = torch.minimum(torch.maximum(log_std, low), high)
    place = (inside - low) / (high - low) * last
    left = place.detach().nan_to_num(0.0).floor().clamp(0, last - 1)  # what is not a number stays so: `place` has it
    first = torch.arange(spread.shape[0], device=std.device).reshape(-1, *trailing) * (last + 1)
    index = left.long() + first
    between = table[index] + (place - left) * (table[index + 1] - table[index])
    change = (between + less * (log_std - inside)).exp()
    return factor * torch.where(std > 0, change, torch.ones_like(change))
