"""Calibration of forecast variances and intervals on trajectories of their own."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from romvae.errors import DataError

__all__ = ["Calibration", "conformal_quantile"]

LEVELS = (0.5, 0.8, 0.9, 0.95)
FEW = 50
"""With fewer calibration trajectories the factors are smoothed over neighbouring lead times."""


def conformal_quantile(scores: Tensor, level: float, n: int) -> Tensor:
    """Split-conformal quantile along the last axis: the level ceil((n + 1) level) / n of the scores.

    Arguments:
        scores: Shape `(..., values)`.
        level: Nominal coverage.
        n: Exchangeable units behind the values: the number of calibration trajectories, not of points.

    References:
        Angelopoulos and Bates (2023), A gentle introduction to conformal prediction, arXiv:2107.07511.
    """
    adjusted = min(1.0, math.ceil((n + 1) * level) / n)
    count = scores.shape[-1]
    rank = min(count, max(1, math.ceil(adjusted * count)))
    return scores.kthvalue(rank, dim=-1).values


class Calibration(nn.Module):
    r"""Per lead time and field: a factor on the variance, and half-widths of intervals in standard deviations.

    The variance factor is :math:`s^2 = \overline{r^2 / \sigma^2}` over points and calibration trajectories, the exact
    minimiser of the Gaussian likelihood under a scaling. The half-width of the interval of a level is the
    split-conformal quantile of :math:`|r| / (s \sigma)`. With few trajectories both are averaged over neighbouring lead
    times. Both are interpolated in the lead time between the stored
    ones and held constant beyond the last.

    The statement it makes: marginally over points and trajectories from the distribution of the calibration ones, the
    interval holds the truth with the stated probability. It does not hold for parameters outside that distribution.

    Arguments:
        fields: Number of fields.
        leads: Number of stored lead times; 1 before fitting.
    """

    lead: Tensor
    variance_factor: Tensor
    half_width: Tensor
    levels: Tensor
    trajectories: Tensor

    def __init__(self, fields: int, leads: int = 1) -> None:
        super().__init__()
        normal = torch.distributions.Normal(0.0, 1.0)
        levels = torch.tensor(LEVELS)
        self.register_buffer("levels", levels)
        self.register_buffer("lead", torch.arange(leads, dtype=torch.float64))
        self.register_buffer("variance_factor", torch.ones(leads, fields))
        quantiles = normal.icdf(0.5 + levels / 2)
        self.register_buffer("half_width", quantiles[:, None, None].expand(-1, leads, fields).clone())
        self.register_buffer("trajectories", torch.tensor(0))

    @property
    def fitted(self) -> bool:
        return int(self.trajectories) > 0

    def fit(self, lead: Tensor, ratio: Tensor) -> Calibration:
        """Fits the factors.

        Arguments:
            lead: Lead times in stored steps, increasing, shape `(lead,)`.
            ratio: |r| / sigma before calibration, shape `(lead, field, trajectory, point)`.

        Raises:
            DataError: There is no calibration trajectory.
        """
        n = ratio.shape[2]
        if n < 1:
            raise DataError("calibration: no trajectory to calibrate on. Give the split a calibration part.")
        factor = ratio.double().square().mean((2, 3))
        scores = (ratio / factor.sqrt()[..., None, None]).flatten(2)
        widths = torch.stack([conformal_quantile(scores, float(level), n) for level in self.levels])
        self.lead = lead.double()
        if n < FEW:
            factor = _smooth(factor.log()).exp()
            widths = _smooth(widths.double().log().movedim(0, -1)).exp().movedim(-1, 0)
        self.variance_factor, self.half_width = factor.float(), widths.float()
        self.trajectories = torch.tensor(n)
        return self

    def at(self, lead: Tensor, level: float) -> tuple[Tensor, Tensor]:
        """Standard deviation factor and interval half-width at given lead times.

        Arguments:
            lead: Lead times in stored steps, shape `(time,)`.
            level: Nominal coverage, in (0, 1); between the stored levels the half-width is interpolated in the normal
                quantile, outside them extended in proportion.

        Returns:
            Two tensors of shape `(time, field)`; the half-width counts in calibrated standard deviations.
        """
        std = _interpolate(self.lead, self.variance_factor.log(), lead).mul(0.5).exp()
        normal = torch.distributions.Normal(0.0, 1.0)
        nominal = normal.icdf(0.5 + self.levels.double() / 2)
        wanted = normal.icdf(torch.tensor(0.5 + level / 2, dtype=torch.float64))
        relative = self.half_width.double() / nominal[:, None, None]
        flat = relative.flatten(1)
        at_level = _interpolate(nominal, flat, wanted.reshape(1)).reshape(relative.shape[1:])
        return std.float(), (wanted * _interpolate(self.lead, at_level, lead)).float()

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # type: ignore[no-untyped-def]
        fields = self.variance_factor.shape[-1]
        leads = state_dict[prefix + "lead"].numel() if prefix + "lead" in state_dict else 0
        expected = {"lead": (leads,), "variance_factor": (leads, fields), "half_width": (len(LEVELS), leads, fields)}
        for name, shape in expected.items():  # the number of lead times is free, the rest must fit
            if prefix + name in state_dict and tuple(state_dict[prefix + name].shape) == shape and leads:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _smooth(values: Tensor) -> Tensor:
    """Moving average over three neighbouring lead times (axis 0), leaving the first as it is."""
    if len(values) < 4:
        return values
    inner = (values[1:-2] + values[2:-1] + values[3:]) / 3
    last = (values[-2] + values[-1]) / 2
    return torch.cat([values[:1], (values[1] + values[2])[None] / 2, inner, last[None]])


def _interpolate(knots: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """Linear interpolation along axis 0, constant beyond the ends."""
    if len(knots) == 1:
        return values.expand(len(at), *values.shape[1:]).clone()
    at = at.to(knots.dtype).clamp(knots[0], knots[-1])
    right = torch.searchsorted(knots.contiguous(), at.contiguous()).clamp(1, len(knots) - 1)
    weight = (at - knots[right - 1]) / (knots[right] - knots[right - 1])
    weight = weight.reshape(-1, *[1] * (values.ndim - 1)).to(values.dtype)
    return values[right - 1] * (1 - weight) + values[right] * weight
