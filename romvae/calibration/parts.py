"""How much the parts of a forecast's variance count, before a function of their sum is calibrated."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from romvae.calibration.lead import stored_times
from romvae.calibration.spread import ENOUGH

__all__ = ["PartWeights"]

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the grade of the initial field that are tried; 0 leaves it out."""
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""On the variance of the dynamics that are tried."""
SHAPES = (0.6, 1.0, 1.4)
"""Powers of the whole variance at which the choices are compared: the calibration chooses its own afterwards."""


class PartWeights(nn.Module):
    r"""For each field the variance :math:`g^w\, \sigma_{dec}^2 + k\, \sigma_{dyn}^2` in place of the plain sum.

    The law of total variance adds the decoder's variance to that of the dynamics as they are. Networks understate them
    by different factors, and which of them is larger then decides which forecast seems worse than which, wrongly. And
    a decoder cannot know how much of *this* trajectory it loses; but the initial field is known, and with it how large
    the error of its reconstruction is. The grade :math:`g` of a trajectory is its mean square over the variance that
    the decoder claims there, in units of what is usual.

    Both numbers are chosen by likelihood on calibration trajectories, and taken only where the gain is larger than its
    own standard error over them. They are two of a few dozen for each field, and chosen once for all trajectories, so
    that they do not bend to single ones as the function h of `romvae.calibration.Calibration` would.

    Arguments:
        fields: Number of fields.
    """

    power: Tensor
    factor: Tensor
    usual: Tensor
    least: Tensor

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.register_buffer("power", torch.zeros(fields))
        self.register_buffer("factor", torch.ones(fields))
        self.register_buffer("usual", torch.zeros(fields))
        self.register_buffer("least", torch.zeros(fields))

    @property
    def graded(self) -> bool:
        """Whether the initial field takes part."""
        return bool((self.power > 0).any())

    def statement(self) -> str:
        """How much the parts count, in a sentence; empty where they count as they are."""
        if not self.graded and bool((self.factor == 1).all()):
            return ""
        factors = ", ".join(f"{k:g}" for k in self.factor.tolist())
        powers = ", ".join(f"{w:g}" for w in self.power.tolist())
        return (
            f"In the spread the variance of the dynamics counts {factors} times, and the decoder's is multiplied by "
            f"its error on the initial field, in units of what is usual, to the power {powers} (by field)."
        )

    def grades(self, ratio: Tensor) -> Tensor:
        """What the decoder's variance of each trajectory is multiplied by, `(trajectory, field)`.

        Arguments:
            ratio: Of the initial fields, mean squared error of the reconstruction over the decoder's mean variance,
                `(trajectory, field)`. It counts as the least that was seen in fitting where it is less than that, so
                that a field that happens to be reconstructed exactly does not promise an exact forecast.
        """
        found = torch.maximum(ratio.log(), self.least.to(ratio)) - self.usual.to(ratio)
        power = self.power.to(ratio)
        return torch.where(power > 0, (power * found).exp(), torch.ones_like(ratio))

    def weighted(
        self, decoder: Tensor, dynamics: Tensor, grades: Tensor | None = None, axis: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Both parts of the variance as they count, with the fields on axis 2.

        Arguments:
            decoder: Variance of the decoder.
            dynamics: Variance of the dynamics, same shape.
            grades: What the decoder's and the dynamics' variance are multiplied by, `(2, trajectory, field)`, see
                `romvae.calibration.graded`; None counts every trajectory as usual.
            axis: Of the trajectories.
        """
        shape = [1] * decoder.ndim
        shape[2] = self.factor.shape[0]
        dynamics = self.factor.to(dynamics).reshape(shape) * dynamics
        if grades is not None:
            shape[axis] = -1  # how many there are stays open in an exported program
            decoder = grades[0].to(decoder).reshape(shape) * decoder
            dynamics = grades[1].to(dynamics).reshape(shape) * dynamics
        return decoder, dynamics

    def fit(
        self,
        lead: Tensor,
        square: Tensor,
        decoder: Tensor,
        dynamics: Tensor,
        ratio: Tensor,
        reached: Tensor | None = None,
    ) -> PartWeights:
        """Chooses both numbers for each field.

        Arguments:
            lead: Lead times in stored steps, increasing, `(lead,)`.
            square: Squared errors `(lead, field, trajectory, point)`.
            decoder: Variance of the decoder, same shape.
            dynamics: Variance of the dynamics, same shape.
            ratio: Of the initial fields, as `grades` takes it.
            reached: Which lead times each trajectory reaches, `(lead, trajectory)`; None for all. Errors at the others
                are not looked at.
        """
        n = square.shape[2]
        self.power, self.factor = torch.zeros_like(self.power), torch.ones_like(self.factor)
        self.usual, self.least = torch.zeros_like(self.usual), torch.zeros_like(self.least)
        there = torch.ones(len(lead), n, dtype=torch.bool) if reached is None else reached
        weight = stored_times(lead).double()[:, None] * there
        there = there & (weight > 0)
        if int(there.any(0).sum()) < ENOUGH:
            return self
        weight = weight[there.any(1)]
        rows = there.any(1)
        for f in range(square.shape[1]):
            parts = (square[rows, f].double(), decoder[rows, f].double(), dynamics[rows, f].double())
            log_ratio = ratio[:, f].double().log()
            known = bool(log_ratio.isfinite().all())
            log_ratio = log_ratio if known else torch.zeros_like(log_ratio)
            usual, least = log_ratio.mean(), log_ratio.min()
            power, factor = _best(parts, log_ratio - usual, weight, there[rows], POWERS if known else POWERS[:1])
            self.power[f], self.factor[f] = power, factor
            self.usual[f], self.least[f] = usual, least
        return self

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # type: ignore[no-untyped-def]
        for name, value in self._buffers.items():
            state_dict.setdefault(prefix + name, value)  # a ROM of an earlier version
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _best(
    parts: tuple[Tensor, Tensor, Tensor],
    log_grade: Tensor,
    weight: Tensor,
    there: Tensor,
    powers: tuple[float, ...],
) -> tuple[float, float]:
    """Power and factor with the best score, or 0 and 1 where the gain over these is within its standard error."""
    square, decoder, dynamics = parts
    plain = _score(square, decoder + dynamics, weight, there)
    if plain is None:
        return 0.0, 1.0
    found, choice = plain, (0.0, 1.0)
    for power in powers:
        graded = decoder * (power * log_grade).exp()[:, None]
        for factor in FACTORS:
            score = _score(square, graded + factor * dynamics, weight, there)
            if score is not None and float(score.mean()) < float(found.mean()):
                found, choice = score, (power, factor)
    gain = plain - found
    return choice if float(gain.mean()) > float(gain.std()) / len(gain) ** 0.5 else (0.0, 1.0)


def _score(square: Tensor, variance: Tensor, weight: Tensor, there: Tensor) -> Tensor | None:
    """Each trajectory's share of the negative log-likelihood, the best over `SHAPES`; None where no variance is there.

    Each lead time has the factor that is best for it.
    """
    log_variance = variance.log()
    if not bool(log_variance.isfinite().all()):
        return None
    level = log_variance.mean(2)
    best: Tensor | None = None
    for shape in SHAPES:
        size = (square * (-shape * log_variance).exp()).mean(2)
        size = torch.where(there, size, torch.zeros_like(size))  # there is no truth at the others
        scale = size.sum(1, keepdim=True) / there.sum(1, keepdim=True)
        each = 0.5 * (shape * level + size / scale + scale.log())
        score = torch.where(there, weight * each, torch.zeros_like(each)).sum(0)[there.any(0)]
        if bool(score.isfinite().all()) and (best is None or float(score.mean()) < float(best.mean())):
            best = score
    return best
