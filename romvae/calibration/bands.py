"""Widths of bands that hold for many points at once: of a field, or of a whole run."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from romvae.calibration.conformal import conformal_quantile, share_quantile
from romvae.calibration.lead import interpolate, stored_times
from romvae.errors import ConfigError, DataError

__all__ = ["SHARES", "Bands", "Interval"]

Interval = Literal["point", "field", "run"]
"""What an interval is to hold: a single value, the points of a field at one time, or all points and times of a run."""

SHARES = (0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Shares of the points that a band can be asked to hold; 1 is simultaneous."""


class Bands(nn.Module):
    r"""One score per calibration trajectory: how wide a band would have had to be to hold a share of its points.

    The score of a trajectory is the quantile over its points of :math:`|r| / \sigma` at the share, for each lead time
    (`field`) and for all calibrated lead times together (`run`); a share of 1 takes the largest. The width of a band
    is the split-conformal quantile of these scores over trajectories. How the points of a trajectory depend on each
    other does not matter: they enter through one number.

    The scores are kept, so that every level has its exact width.

    Arguments:
        fields: Number of fields.

    References:
        Ma, Pitt, Azizzadenesheli and Anandkumar (2024), Calibrated uncertainty quantification for operator learning
        via conformal prediction, arXiv:2402.01960 (the risk band); Diquigiovanni, Fontana and Vantini (2022), The
        importance of being a band, arXiv:2102.06746 (the simultaneous one).
    """

    field_score: Tensor
    run_score: Tensor

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.register_buffer("field_score", torch.zeros(len(SHARES), 1, fields, 0))
        self.register_buffer("run_score", torch.zeros(len(SHARES), fields, 0))

    @property
    def trajectories(self) -> int:
        return self.run_score.shape[-1]

    def fit(self, lead: Tensor, ratio: Tensor, factor: Tensor, alone: Tensor, largest: Tensor) -> None:
        """Keeps the scores.

        Arguments:
            lead: Calibrated lead times, increasing, in stored steps. They lie closer at the start; in the score of a
                run each counts for the stored times around it, so that a share of the run is that of all its times.
            ratio: |r| / sigma before calibration, `(lead, field, trajectory, point)`.
            factor: Factor on the standard deviation, `(lead, field)`.
            alone: The same fitted without the trajectory itself, `(lead, field, trajectory)`. A run's score compares
                lead times, where a factor that had seen the trajectory would flatter it; at a single lead time
                the factor cancels.
            largest: Largest ratio over all points, `(lead, field, trajectory)`: `ratio` may hold a sample of them.
        """
        leads, fields, n, points = ratio.shape
        field = ratio.new_empty(len(SHARES), leads, fields, n)
        run = ratio.new_empty(len(SHARES), fields, n)
        times = stored_times(lead).repeat_interleave(points)
        for i in range(n):  # one trajectory after the other bounds the memory
            at_lead = ratio[:, :, i] / factor[..., None]
            whole = (ratio[:, :, i] / alone[..., i, None]).transpose(0, 1).reshape(fields, leads * points)
            for k, share in enumerate(SHARES):
                field[k, :, :, i] = share_quantile(at_lead, share)
                run[k, :, i] = share_quantile(whole, share, times)
        field[-1] = largest / factor[..., None]
        run[-1] = (largest / alone).amax(0)
        self.field_score, self.run_score = field.float(), run.float()

    def width(self, knots: Tensor, lead: Tensor, level: float, share: float, interval: Interval) -> Tensor:
        """Half-width in calibrated standard deviations, `(time, field)`; infinite with too few trajectories.

        Arguments:
            knots: Calibrated lead times.
            lead: Lead times that are asked for, stored steps.
            level: Share of new trajectories for which the band is to hold.
            share: Share of the points that it is to hold, one of `SHARES`.
            interval: `field` or `run`.

        Raises:
            ConfigError: The share is none of those that were kept.
            DataError: The ROM was calibrated before bands were kept.
        """
        if share not in SHARES:
            known = ", ".join(f"{each:g}" for each in SHARES)
            raise ConfigError(f"rollout: share is {share}, expected one of {known}. Choose one of them.")
        n = self.trajectories
        if n == 0:
            raise DataError(
                f"rollout: interval {interval!r} is not calibrated in this ROM, only 'point' is. Train it with a "
                "calibration part, or calibrate it again with romvae.training.recalibrate."
            )
        place = SHARES.index(share)
        if interval == "run":
            return conformal_quantile(self.run_score[place], level, n).expand(len(lead), -1).float()
        return interpolate(knots, conformal_quantile(self.field_score[place], level, n), lead).float()

    def expect(self, leads: int, trajectories: int) -> None:
        """Makes room for the scores of a saved ROM; without trajectories for none."""
        shares, fields = self.run_score.shape[:2]
        leads = leads if trajectories else 1
        self.field_score = torch.zeros(shares, leads, fields, trajectories)
        self.run_score = torch.zeros(shares, fields, trajectories)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # type: ignore[no-untyped-def]
        for name in ("field_score", "run_score"):
            state_dict.setdefault(prefix + name, getattr(self, name))  # a ROM of an earlier version
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
