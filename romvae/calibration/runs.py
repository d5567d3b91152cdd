"""How much worse or better than usual a whole run will be, from its initial field and its parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from romvae.calibration.lead import stored_times
from romvae.calibration.parts import PartWeights
from romvae.calibration.spread import ENOUGH

__all__ = ["RunFactor", "graded", "run_features"]

FLOOR = 1e-10
"""What is smaller counts as this before its logarithm is taken; fields have about unit variance."""
PENALTIES = tuple(10 ** (k / 2) for k in range(9))
"""Ridge penalties that are tried, in units of one trajectory's features."""
MOST_PRODUCTS = 6
"""With more parameters only their squares are looked at, not the products of two."""


def run_features(x: Tensor, c: Tensor, ratio: Tensor, mask: Tensor | None = None) -> Tensor:
    """What is known of a run before it begins, `(trajectory, field, feature)`.

    For each field, logarithms of: its mean square; its mean squared difference at distances of 1, 2, 4, ... points, up
    to a quarter of an axis, which say how much of it is fine; and how far off its reconstruction is. Beside them the
    parameters, their squares and, where they are few, their products.

    Arguments:
        x: Normalised initial fields `(trajectory, field, *space)`.
        c: Normalised parameters `(trajectory, parameter)`.
        ratio: From `romvae.grading.reconstruction_ratio`, `(trajectory, field)`.
        mask: Points of the domain `space`, boolean; None for all.
    """
    own = [_mean_square(x, mask)]
    lag = 1
    while lag <= max(x.shape[2:]) // 4:
        differences = []
        for axis in range(2, x.ndim):
            length = x.shape[axis] - lag
            if lag > x.shape[axis] // 4:
                continue
            both = None
            if mask is not None:
                both = mask.narrow(axis - 2, lag, length) & mask.narrow(axis - 2, 0, length)
            step = x.narrow(axis, lag, length) - x.narrow(axis, 0, length)
            differences.append(_mean_square(step, both))
        own.append(torch.stack(differences).mean(0))
        lag *= 2
    logs = torch.stack([*own, ratio], 2).clamp_min(FLOOR).log()
    beside = [c, c.square()]
    count = c.shape[1]
    if count <= MOST_PRODUCTS:
        beside += [c[:, k : k + 1] * c[:, k + 1 :] for k in range(count - 1)]
    shared = torch.cat(beside, 1).to(logs)
    return torch.cat([logs, shared[:, None].expand(-1, x.shape[1], -1)], 2)


class RunFactor(nn.Module):
    r"""For each field a factor on the variance of a whole run, :math:`\log f = w \cdot (\phi - \bar\phi)`.

    An ensemble that was trained together is wrong together: where a parameter or the fine structure of the initial
    field makes forecasts worse, its members need not disagree more. What the errors of calibration runs have in common
    can be read off them: the features :math:`\phi` are those of `run_features`, and the weights follow by ridge
    regression of the logarithm of the mean square of error over deviation. Their penalty has the least error in
    predicting runs that were left out, one by one, and the factor is taken only where it predicts these better than no
    factor does, by more than the standard error of that.

    A run outside of the range of the calibration runs counts as one at its edge.

    Arguments:
        fields: Number of fields.
    """

    weight: Tensor
    centre: Tensor
    least: Tensor
    most: Tensor
    reach: Tensor

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.fields = fields
        for name in ("weight", "centre", "least", "most"):
            self.register_buffer(name, torch.zeros(fields, 0))
        self.register_buffer("reach", torch.zeros(2, fields))

    @property
    def fitted(self) -> bool:
        """Whether a run has a factor of its own."""
        return bool((self.weight != 0).any())

    def statement(self) -> str:
        """How far the factors reach, in a sentence; empty where there are none."""
        if not self.fitted:
            return ""
        low, high = ((0.5 * each).exp().tolist() for each in self.reach)
        ranges = ", ".join(f"{a:.2g} to {b:.2g}" for a, b in zip(low, high, strict=True))
        return (
            f"The deviation of a whole run is multiplied by {ranges} (by field), as its initial field and its "
            "parameters made runs worse or better in calibration."
        )

    def forward(self, features: Tensor) -> Tensor:
        """Logarithm of the factor on the variance, `(trajectory, field)`; 0 where there is none.

        Arguments:
            features: From `run_features`.
        """
        if self.weight.shape[1] == 0:
            return features.new_zeros(features.shape[:2])
        inside = torch.minimum(torch.maximum(features, self.least.to(features)), self.most.to(features))
        return ((inside - self.centre.to(features)) * self.weight.to(features)).sum(2)

    def fit(
        self, lead: Tensor, square: Tensor, variance: Tensor, features: Tensor, reached: Tensor | None = None
    ) -> Tensor:
        """Finds the weights of each field.

        Arguments:
            lead: Lead times in stored steps, increasing, `(lead,)`.
            square: Squared errors `(lead, field, trajectory, point)`.
            variance: As the forecast has it, same shape.
            features: From `run_features`, `(trajectory, field, feature)`.
            reached: Which lead times each trajectory reaches, `(lead, trajectory)`; None for all.

        Returns:
            Of every trajectory the logarithm of the factor that the others alone give it, `(trajectory, field)`:
            scores of calibration runs are to be in units of that.
        """
        n, fields, count = features.shape
        self.weight, self.centre = torch.zeros(fields, count), torch.zeros(fields, count)
        self.least, self.most = torch.zeros(fields, count), torch.zeros(fields, count)
        self.reach = torch.zeros(2, fields)
        held_out = torch.zeros(n, fields)
        for f in range(fields):
            size = _size(lead, square[:, f].double(), variance[:, f].double(), reached)
            known = size.isfinite() & (size > 0)
            phi = features[:, f].double()
            if int(known.sum()) < ENOUGH or not bool(phi.isfinite().all()):
                continue
            found = _ridge(phi[known], size[known].log())
            if found is None:
                continue
            weight, without = found
            self.weight[f], self.centre[f] = weight.float(), phi[known].mean(0).float()
            self.least[f], self.most[f] = phi[known].amin(0).float(), phi[known].amax(0).float()
            held_out[known, f] = without.float()
            self.reach[:, f] = torch.stack([without.min(), without.max()]).float()
        return held_out

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # type: ignore[no-untyped-def]
        for name, value in self._buffers.items():
            state_dict.setdefault(prefix + name, value)  # a ROM of an earlier version
        shape = state_dict[prefix + "weight"].shape
        if len(shape) == 2 and shape[0] == self.fields:  # the number of features is free, the rest must fit
            for name in ("weight", "centre", "least", "most"):
                setattr(self, name, torch.zeros(shape))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def graded(
    parts: PartWeights,
    runs: RunFactor,
    ratio: Tensor,
    x: Tensor,
    c: Tensor,
    mask: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """What the decoder's and the dynamics' variance of each run are multiplied by, `(2, trajectory, field)`.

    Arguments:
        parts: Of the calibration.
        runs: Of the calibration.
        ratio: From `romvae.grading.reconstruction_ratio`, `(trajectory, field)`.
        x: Normalised initial fields `(trajectory, field, *space)`.
        c: Normalised parameters `(trajectory, parameter)`.
        mask: Points of the domain.
        known: Logarithms of factors of whole runs that count in place of the fitted ones, `(trajectory, field)`, where
            they are no NaN.
    """
    logs = runs(run_features(x, c, ratio, mask))
    if known is not None:
        logs = torch.where(known.isnan(), logs, known.to(logs))
    run = logs.exp()
    return torch.stack([parts.grades(ratio) * run, run])


def _mean_square(x: Tensor, inside: Tensor | None) -> Tensor:
    """Over the points `inside`, `(trajectory, field)`."""
    square = x.square().flatten(2)
    if inside is None:
        return square.mean(2)
    weight = inside.flatten().to(square)
    return (square * weight).sum(2) / weight.sum().clamp_min(1)


def _size(lead: Tensor, square: Tensor, variance: Tensor, reached: Tensor | None) -> Tensor:
    """Mean square of a run's error over its mean variance, `(trajectory,)`, once every lead time has a factor.

    The factors of the lead times are medians over trajectories. Lead times with large errors decide: on `gray_scott_2d`
    means of the ratios of all lead times gave a rank correlation of 0.36, this one 0.54.
    """
    there = torch.ones(square.shape[:2], dtype=torch.bool) if reached is None else reached
    weight = stored_times(lead).double()[:, None] * there
    square, variance = square.mean(2), variance.mean(2)
    nothing = torch.full_like(square, torch.nan)
    factor = torch.where(there, square / variance, nothing).nanmedian(1, keepdim=True).values
    wrong, claimed = (torch.where(weight > 0, weight * each, 0).sum(0) for each in (square, factor * variance))
    return wrong / claimed


def _ridge(phi: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """Weights of the features, and predictions of each row by all others; None where they are no gain.

    Arguments:
        phi: `(row, feature)`.
        y: `(row,)`.

    References:
        Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning, 7.10 (for leaving one out).
    """
    n = len(y)
    std = phi.std(0, correction=0)
    varies = std > 1e-6 * phi.abs().amax(0).clamp_min(1.0)
    scale = torch.where(varies, 1 / std.clamp_min(1e-300), torch.zeros_like(std))
    u, s, vt = torch.linalg.svd((phi - phi.mean(0)) * scale, full_matrices=False)
    centred = y - y.mean()
    projected = u.T @ centred
    plain = centred * n / (n - 1)
    tried = []
    for penalty in PENALTIES:
        shrink = s.square() / (s.square() + penalty)
        leverage = u.square() @ shrink + 1 / n
        off = (centred - u @ (shrink * projected)) / (1 - leverage).clamp_min(1e-12)
        tried.append((off, scale * (vt.T @ (s / (s.square() + penalty) * projected))))
    off, weight = min(tried, key=lambda each: float(each[0].square().mean()))
    gain = plain.square() - off.square()
    if not float(gain.mean()) > float(gain.std()) / n**0.5:
        return None
    return weight, centred - off
