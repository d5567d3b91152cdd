"""Factors on variances and widths of intervals, per lead time and field, and what they promise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from romvae.calibration.bands import Bands, Interval
from romvae.calibration.conformal import Guarantee, conformal_quantile, rank_of
from romvae.calibration.lead import interpolate, smooth
from romvae.calibration.parts import PartWeights
from romvae.calibration.runs import RunFactor
from romvae.calibration.scalars import ScalarScores
from romvae.calibration.spread import ENOUGH, FOLDS, best_spread, held_out_spreads, power_law, reshaped, scaled
from romvae.errors import ConfigError, DataError

__all__ = ["FEW", "LEVELS", "Calibration"]

LEVELS = (0.5, 0.8, 0.9, 0.95)
FEW = 50
"""With fewer calibration trajectories the factors are smoothed over neighbouring lead times."""


class Calibration(nn.Module):
    r"""Per lead time and field: a factor on the variance, and half-widths of intervals in standard deviations.

    The calibrated standard deviation is :math:`s\, h(\sigma)` in normalised units. The function h of a field grows, and
    says what the networks' spread is worth: at every level of it, h is as large as the errors are there
    (`best_spread`). Without it, one factor would be decided by the points where the spread is far too small, or too
    large. With it, the variance factor is :math:`s^2 = \overline{r^2 / h(\sigma)^2}` over points and calibration
    trajectories, the exact minimiser of the Gaussian likelihood under a scaling. The half-width of the interval of a
    level is the split-conformal quantile of :math:`|r| / (s\, h(\sigma))`, over all points for a single value, and over
    one score per trajectory for `bands`. With few trajectories the factors, and the widths for single values, are
    averaged over neighbouring lead times. Everything is interpolated in the lead time between the stored ones and held
    constant beyond the last. What a trajectory's score is compared with comes from other trajectories: h is fitted ten
    times, each time without a tenth of them, for the scores of that tenth.

    The statement it makes (`statement` has it in words, with the finite-sample interval): for trajectories from the
    distribution of the calibration ones, the interval holds the truth with the stated probability. It does not hold
    for parameters outside that distribution. With too few trajectories for a level, the width for single values is
    that of a Gaussian with the scaled variance, or of a lower level where that is wider, without a guarantee, and
    bands are infinitely wide.

    Arguments:
        fields: Number of fields.
        leads: Number of stored lead times; 1 before fitting.
    """

    lead: Tensor
    variance_factor: Tensor
    half_width: Tensor
    levels: Tensor
    trajectories: Tensor
    shape: Tensor
    representation: Tensor

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
        self.register_buffer("shape", power_law(torch.ones(fields)))
        self.register_buffer("representation", torch.ones(fields))
        self.bands = Bands(fields)
        self.parts = PartWeights(fields)
        self.runs = RunFactor(fields)
        self.quantities = ScalarScores()

    @property
    def fitted(self) -> bool:
        return int(self.trajectories) > 0

    @property
    def graded(self) -> bool:
        """Whether the initial field or the parameters of a run say how much its spread counts."""
        return self.parts.graded or self.runs.fitted

    def fit(
        self,
        lead: Tensor,
        ratio: Tensor,
        largest: tuple[Tensor, Tensor] | None = None,
        reached: Tensor | None = None,
        std: Tensor | None = None,
    ) -> Calibration:
        """Fits the factors and widths; what was known of quantities is forgotten.

        Arguments:
            lead: Lead times in stored steps, increasing, shape `(lead,)`.
            ratio: |r| / sigma before calibration, shape `(lead, field, trajectory, point)`.
            largest: Where `ratio` holds a sample of the points, from `frontier` of all of them: ratios and deviations
                that the largest one of each trajectory is among, each `(lead, field, trajectory, candidate)`. None
                takes it from `ratio`.
            reached: Which lead times each trajectory reaches, boolean `(lead, trajectory)`, where some end early; the
                other ratios are not looked at. A factor and a width rest on the trajectories that reach their lead
                time; bands, and the number of trajectories of every statement, on those that reach the last one.
            std: sigma in normalised units, the shape of `ratio`; None leaves h(sigma) = sigma.

        Raises:
            DataError: There is no calibration trajectory, or none reaches the last lead time.
        """
        if reached is not None and bool(reached.all()):
            reached = None
        n = ratio.shape[2] if reached is None else int(reached.all(0).sum())
        if n < 1:
            raise DataError("calibration: no trajectory to calibrate on. Give the split a calibration part.")
        self.shape = power_law(torch.ones(ratio.shape[1]))
        tops = ratio.amax(-1) if largest is None else largest[0].amax(-1)
        if std is not None and n - -(-n // FOLDS) < ENOUGH:
            std = None
        if std is not None:
            self.shape = best_spread(lead, ratio, std, reached)
        factor = _factors(ratio if std is None else reshaped(ratio, std, self.shape), reached)
        fresh = std is not None and self.spread is not None
        if std is not None and fresh:
            ratio, tops = _held_out(lead, ratio, std, largest, reached, factor)
        each = [ratio[k] if reached is None else ratio[k][:, reached[k]] for k in range(len(ratio))]
        counts = [part.shape[1] for part in each]
        scores = [(part / f.sqrt()[:, None, None]).flatten(1) for part, f in zip(each, factor, strict=True)]
        widths = torch.stack(
            [
                torch.stack([self._width(s, float(level), m) for s, m in zip(scores, counts, strict=True)])
                for level in self.levels
            ]
        )
        if reached is not None:
            whole = reached.all(0)
            ratio, tops = ratio[:, :, whole], tops[..., whole]
        # Levels that take more trajectories have the width of a Gaussian, maybe less than that of a lower level.
        widths = widths.cummax(0).values
        alone = factor[..., None].expand(-1, -1, n)
        if not fresh and n > 1:  # else the scores are of trajectories that had no part in what they are compared with
            others = (factor[..., None] * n - ratio.double().square().mean(3)) / (n - 1)
            alone = torch.where(others > 0, others, factor[..., None])
        self.lead = lead.double()
        if n < FEW:
            factor = smooth(factor.log()).exp()
            alone = smooth(alone.log()).exp()
            widths = smooth(widths.double().log().movedim(0, -1)).exp().movedim(-1, 0)
        self.variance_factor, self.half_width = factor.float(), widths.float()
        self.trajectories = torch.tensor(n)
        self.bands.fit(lead, ratio, factor.sqrt(), alone.sqrt(), tops)
        self.quantities = ScalarScores()
        self.representation = torch.ones_like(self.representation)
        return self

    def at(self, lead: Tensor, level: float) -> tuple[Tensor, Tensor]:
        """Factor of the standard deviation, see `scaled`, and half-width of a single value's interval at lead times.

        Arguments:
            lead: Lead times in stored steps, shape `(time,)`.
            level: Nominal coverage, in (0, 1); between the stored levels the half-width is interpolated in the normal
                quantile, outside them extended in proportion, which guarantees nothing.

        Returns:
            Two tensors of shape `(time, field)`; the half-width counts in calibrated standard deviations.
        """
        std = interpolate(self.lead, self.variance_factor.log(), lead).mul(0.5).exp()
        normal = torch.distributions.Normal(0.0, 1.0)
        nominal = normal.icdf(0.5 + self.levels.double() / 2)
        wanted = normal.icdf(torch.tensor(0.5 + level / 2, dtype=torch.float64))
        relative = self.half_width.double() / nominal[:, None, None]
        flat = relative.flatten(1)
        at_level = interpolate(nominal, flat, wanted.reshape(1)).reshape(relative.shape[1:])
        return std.float(), (wanted * interpolate(self.lead, at_level, lead)).float()

    @property
    def spread(self) -> Tensor | None:
        """The function h as `scaled` takes it, `(field, numbers)`; None where h(sigma) = sigma."""
        return None if bool((self.shape[:, 3:] == 0).all() and (self.shape[:, 0] == 0).all()) else self.shape

    def fit_representation(self, error: Tensor, std: Tensor) -> None:
        """Puts `decoder_std` right in the mean square; after `fit`.

        Arguments:
            error: Of the mean at lead time 0, `(field, trajectory, point)`.
            std: The decoder's deviation there, same shape.
        """
        self.representation = torch.ones_like(self.representation)
        claimed = self.decoder_std(std, 0).double().square().mean((1, 2))
        found = (error.double().square().mean((1, 2)) / claimed).sqrt()
        self.representation = torch.where(claimed > 0, found, torch.ones_like(found)).float()

    def decoder_std(self, std: Tensor, axis: int) -> Tensor:
        """Deviation of a field about what a code that is known exactly decodes to: what so few numbers leave out.

        Arguments:
            std: The decoder's own, normalised units, with the fields on `axis`.
            axis: Of the fields.
        """
        trailing = [1] * (std.ndim - axis - 1)
        factor = self.representation * self.at(torch.zeros(1), 0.9)[0][0]
        calibrated = scaled(factor.to(std).reshape(-1, *trailing), std, self.spread, axis) * std
        return torch.where(std > 0, calibrated, torch.zeros_like(std))

    def width(self, lead: Tensor, level: float, interval: Interval = "point", share: float = 0.9) -> Tensor:
        """Half-width in calibrated standard deviations, `(time, field)`, for any kind of interval.

        Arguments:
            lead: Lead times in stored steps.
            level: Probability with which the interval is to hold.
            interval: What it is to hold: a single value (`point`), the points of a field at one time (`field`), all
                points at all calibrated lead times of a run (`run`).
            share: Share of those points, one of `SHARES`; 1 asks for all of them. Nothing for `point`.

        Raises:
            ConfigError: The interval or the share is unknown.
            DataError: The ROM has no such calibration.
        """
        if interval == "point":
            return self.at(lead, level)[1]
        if interval not in ("field", "run"):
            raise ConfigError(f"rollout: interval is {interval!r}, expected point, field or run. Choose one of them.")
        return self.bands.width(self.lead, lead, level, share, interval)

    def guarantee(self, level: float = 0.9, interval: Interval = "point", share: float = 0.9) -> Guarantee:
        """What an interval promises; its `str` is a sentence."""
        if interval == "point":
            what = "the value at a random point of a new run"
            return Guarantee(level, what, int(self.trajectories), of_runs=False, levels=LEVELS)
        points = "all points" if share == 1 else f"at least {100 * share:.3g} % of the points"
        place = "of the field at each calibrated lead time taken by itself"
        whole = "of the whole run, all calibrated lead times together"
        each = ", for each field by itself" if len(self.shape) > 1 else ""
        return Guarantee(level, f"{points} {place if interval == 'field' else whole}{each}", self.bands.trajectories)

    def statement(self, level: float = 0.9, share: float = 0.9) -> str:
        """What the calibration promises, on how much that rests and what it assumes, in sentences."""
        n = int(self.trajectories)
        if n == 0:
            return "Not calibrated: variances and intervals are as the networks give them. Train with calibration data."
        first = (
            f"Calibrated on {n} trajectories that nothing else was fitted on. It assumes that new ones come from the "
            "same distribution of initial fields and parameters; outside of it nothing is promised."
        )
        kinds: tuple[tuple[Interval, float], ...] = (("run", share), ("field", 1.0), ("point", 1.0))
        kept = [kind for kind in kinds if kind[0] == "point" or self.bands.trajectories]
        lead = f"Lead times: {len(self.lead)} between 0 and {float(self.lead[-1]):g} stored steps."
        said = [first, *(str(self.guarantee(level, kind, part)) for kind, part in kept), lead]
        said += [self.parts.statement(), self.runs.statement()]
        return " ".join(part for part in said if part)

    def _width(self, scores: Tensor, level: float, n: int) -> Tensor:
        if rank_of(n, level) <= n:
            return conformal_quantile(scores, level, n)
        normal = torch.distributions.Normal(0.0, 1.0)
        return normal.icdf(torch.tensor(0.5 + level / 2)).to(scores).expand(scores.shape[:-1])

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # type: ignore[no-untyped-def]
        fields = self.variance_factor.shape[-1]
        leads = state_dict[prefix + "lead"].numel() if prefix + "lead" in state_dict else 0
        expected = {"lead": (leads,), "variance_factor": (leads, fields), "half_width": (len(LEVELS), leads, fields)}
        for name, shape in expected.items():  # the number of lead times is free, the rest must fit
            if prefix + name in state_dict and tuple(state_dict[prefix + name].shape) == shape and leads:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        exponent = state_dict.pop(prefix + "exponent", torch.ones(fields))  # of earlier versions, or not even that
        state_dict.setdefault(prefix + "shape", power_law(exponent))
        state_dict.setdefault(prefix + "representation", torch.ones(fields))
        self.bands.expect(leads, int(state_dict.get(prefix + "bands.run_score", self.bands.run_score).shape[-1]))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _factors(ratio: Tensor, reached: Tensor | None) -> Tensor:
    """Mean square of the ratios at each lead time, `(lead, field)`, float64."""
    each = [ratio[k] if reached is None else ratio[k][:, reached[k]] for k in range(len(ratio))]
    return torch.stack([part.double().square().mean((1, 2)) for part in each])


def _held_out(
    lead: Tensor,
    ratio: Tensor,
    std: Tensor,
    largest: tuple[Tensor, Tensor] | None,
    reached: Tensor | None,
    factor: Tensor,
) -> tuple[Tensor, Tensor]:
    """|r| / h(sigma) with h and its factor from the other trajectories, in the units of `factor`; and the largest."""
    out = torch.empty_like(ratio)
    tops = ratio.new_empty(ratio.shape[:3])
    for held, others, shape in held_out_spreads(lead, ratio, std, reached):
        there = None if reached is None else reached[:, others]
        own = _factors(reshaped(ratio[:, :, others], std[:, :, others], shape), there)
        scale = torch.where(own > 0, factor / own, torch.ones_like(own)).sqrt()[..., None, None].to(ratio)
        out[:, :, held] = reshaped(ratio[:, :, held], std[:, :, held], shape) * scale
        if largest is not None:
            top = reshaped(largest[0][:, :, held], largest[1][:, :, held], shape) * scale
            tops[:, :, held] = top.amax(-1)
        else:
            tops[:, :, held] = out[:, :, held].amax(-1)
    return out, tops
