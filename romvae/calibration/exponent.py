"""How much of a spread's structure is to be believed: the power that it enters the calibrated one with."""

from __future__ import annotations

import torch
from torch import Tensor

from romvae.calibration.lead import stored_times

__all__ = ["ENOUGH", "EXPONENTS", "best_exponents", "raised", "raised_largest", "scaled"]

EXPONENTS = tuple(round(0.1 * k, 1) for k in range(2, 15))
"""What is tried; 1 keeps the spread as the networks give it, and 0 would be one number everywhere."""
ENOUGH = 20
"""With fewer calibration trajectories the exponent stays 1."""


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


def raised(ratio: Tensor, std: Tensor, exponent: Tensor) -> Tensor:
    """|r| / sigma^b, for b of each field; `(lead, field, trajectory, point)`."""
    return ratio * std.pow((1 - exponent).to(std).reshape(-1, 1, 1))


def raised_largest(error: Tensor, std: Tensor) -> Tensor:
    """The largest |r| / sigma^b over the last axis for every exponent that may be chosen, on a new first axis."""
    log_std = std.log()
    return torch.stack([(error * (-b * log_std).exp()).amax(-1) for b in EXPONENTS])


def scaled(factor: Tensor, std: Tensor, powers: Tensor | None, axis: int) -> Tensor:
    """What a standard deviation and its parts are multiplied by: the factor times std^(exponent - 1).

    Arguments:
        factor: Of the lead time and field, in a shape that goes with `std`.
        std: As the networks give it, normalised units, with the fields on `axis`.
        powers: From `Calibration.powers`.
        axis: Of the fields.
    """
    if powers is None:
        return factor
    power = std.pow(powers.to(std).reshape(-1, *[1] * (std.ndim - axis - 1)))
    return factor * torch.where(std > 0, power, torch.ones_like(power))
