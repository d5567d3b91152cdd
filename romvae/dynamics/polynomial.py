"""Polynomial terms of a latent vector field, fitted in closed form where they forecast better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement, product

import torch
from torch import Tensor

from romvae.dynamics.optional_terms import OptionalTerms
from romvae.dynamics.regression import RIDGES, ROWS, Regression, held_out, some_of

__all__ = ["PolynomialTerms", "cubic", "polynomial_start"]

HIGHEST, MOST = 5, 1500
"""Highest degree; lower where there would be more terms than this."""
REACH = 5.0
"""Standard deviations beyond which a latent counts no more in products: polynomial growth would end in infinity."""
GAIN = 0.8
"""Share of the linear field's mean square error that a polynomial must not exceed: more is a matter of luck."""
SLIGHT, TINY = 0.05, 1e-6
"""What longer steps of the solver may change, squared: relative to the forecast's own error, or in deviations."""
JUDGES = 32
"""Held-out trajectories that are forecast to choose."""
LONGEST = 500
"""Large steps of these forecasts at most."""
AT_ONCE = 256
"""States whose products are made at once where no gradient is wanted: they stay in the processor's cache."""
_SPAN = 7
"""Stored times of a difference quotient of sixth order."""


class PolynomialTerms(OptionalTerms):
    r"""A polynomial of the latents, its coefficients affine in the conditions c, one for each network.

    Constant and linear terms belong to the linear path beside it, but not their products with c. Equations with
    quadratic terms, as those of fluids, stay quadratic in any linear code, and `polynomial_start` is operator inference
    then; in the codes of a deep encoder higher degrees take part. There are none where those of second degree are more
    than `MOST` already.

    Arguments:
        latent: Number of latents.
        conditions: Physical parameters.
        members: Networks.

    References:
        Peherstorfer and Willcox (2016), Data-driven operator inference for nonintrusive projection-based model
        reduction, doi:10.1016/j.cma.2016.03.025.
    """

    def __init__(self, latent: int, conditions: int, members: int) -> None:
        degree = max(k for k in range(1, HIGHEST + 1) if k == 1 or _terms(latent, conditions, k) <= MOST)
        self.degree = degree if degree > 1 else 0
        super().__init__(torch.zeros(members, _terms(latent, conditions, self.degree), latent))
        self.latent, self.conditions = latent, conditions
        for k in range(2, self.degree + 1):
            parent, last = _lists(latent, k)
            self.register_buffer(f"parent{k}", parent, persistent=False)
            self.register_buffer(f"last{k}", last, persistent=False)

    def features(self, z: Tensor, c: Tensor, degree: int) -> Tensor:
        """What the weights multiply, by degree: products of latents, and all of them and the latents times each c.

        Arguments:
            z: Standardised latents `(..., latent)`.
            c: Conditions `(..., condition)`.
            degree: Highest degree.
        """
        return torch.cat(list(self._blocks(z, c, degree)), -2).mT

    def _blocks(self, z: Tensor, c: Tensor, degree: int) -> Iterator[Tensor]:
        """The same in parts, with the batch on the last axis: long rows are picked and multiplied as a whole."""
        c, z = c.mT, z.clamp(-REACH, REACH).mT.contiguous()
        level = z
        for k in range(1, degree + 1):
            if k > 1:
                parent, last = (self.get_buffer(f"{name}{k}").to(z.device) for name in ("parent", "last"))
                level = level.index_select(-2, parent) * z.index_select(-2, last)
                yield level
            for i in range(self.conditions):
                yield c[..., i : i + 1, :] * level

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Sum of the terms, `(member, batch, latent)`.

        Arguments:
            z: Standardised latents `(member, batch, latent)`.
            c: Conditions `(member, batch, condition)`.
        """
        if self.idle:
            return torch.zeros_like(z)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._sum(z, c)
        parts = zip(z.split(AT_ONCE, -2), c.split(AT_ONCE, -2), strict=True)
        return torch.cat([self._sum(some, beside) for some, beside in parts], -2)

    def _sum(self, z: Tensor, c: Tensor) -> Tensor:
        weight, at, total = self.weight.mT, 0, torch.zeros_like(z).mT
        for block in self._blocks(z, c, self.level):
            total = torch.baddbmm(total, weight[..., at : at + block.shape[-2]], block)
            at += block.shape[-2]
        return total.mT

    @torch.no_grad()
    def start_at(self, weight: Tensor | None) -> None:
        """As `start`, with the weights up to some degree."""
        if weight is None:
            self.start(None)
            return
        degree = next(k for k in range(2, self.degree + 1) if _terms(self.latent, self.conditions, k) == len(weight))
        self.start(torch.cat([weight, weight.new_zeros(self.weight.shape[1] - len(weight), self.latent)]))
        self.take_part(degree)


def polynomial_start(
    terms: PolynomialTerms,
    z: Tensor,
    c: Tensor,
    linear: Tensor,
    stride: int,
    substeps: int,
    group: Tensor | None = None,
) -> tuple[Tensor, Tensor, int, bool] | None:
    """A polynomial field by least squares on difference quotients of sixth order; None where a linear one is as good.

    Degree and penalty, and whether there is such a field at all, are chosen by forecasts of held-out trajectories, at
    most `JUDGES` of every fifth one and over `LONGEST` large steps, with the classical Runge-Kutta method in the steps
    that the model takes: where those are too long to follow the field, it is not taken. Where a single step in the unit
    of time changes the forecast by far less than it is wrong, in most of the held-out trajectories, that is enough, and
    where the cubic through its ends and their rates of change does not change it more at the times in between, they
    need no steps of their own.

    Arguments:
        terms: What the polynomials are like.
        z: Standardised latents `(row, time, latent)`.
        c: Parameters `(row, parameter)`.
        linear: The linear field that is known, `(1 + latent + parameter, latent)`, a constant first.
        stride: Stored steps in the unit of time.
        substeps: Runge-Kutta steps in the unit of time.
        group: Trajectory that each row is a copy of, `(row,)`; None for rows that are all their own.

    Returns:
        The field's linear part, like `linear`, the other terms up to the degree that was chosen, the Runge-Kutta
        steps that are enough (`substeps`, or one), and whether the times in between are read off the cubic.
    """
    z, c = z.detach().cpu().double(), c.detach().cpu().double()
    held = held_out(c, len(z), group) if z.shape[1] > _SPAN and terms.degree else None
    if held is None:
        return None
    plain = len(linear)
    counts = {k: plain + _terms(z.shape[-1], c.shape[-1], k) for k in range(2, terms.degree + 1)}
    judged = some_of(held.nonzero()[:, 0], JUDGES)
    some = (z[judged, : 1 + LONGEST * stride], c[judged], stride)
    times = (*some, substeps)
    fitted = Regression.of(_rates(terms, z[~held], c[~held], stride))
    least = GAIN * _forecast_error(terms, linear.cpu().double(), 1, *times)
    chosen = None
    for degree, ridge in product(counts, RIDGES):
        weights = fitted.weights(ridge, torch.arange(len(fitted.right)) < counts[degree])
        error = _forecast_error(terms, weights[: counts[degree]], degree, *times, bound=least)
        if error < least:
            chosen, least = (degree, ridge, weights[: counts[degree]]), error
    if chosen is None:
        return None
    degree, ridge, tried = chosen
    enough, between = _enough(_field(terms, tried, degree, some[1]), some[0], stride, substeps)
    whole = Regression.of(_rates(terms, z, c, stride))
    weights = whole.weights(ridge, torch.arange(len(whole.right)) < counts[degree])
    return weights[:plain], weights[plain : counts[degree]], enough, between


def cubic(begin: Tensor, end: Tensor, leaving: Tensor, arriving: Tensor, phase: float) -> Tensor:
    """The cubic through two states with two rates of change, at a phase between them (0 the first, 1 the second).

    Hermite interpolation: its error is of fourth order in the step, as that of the classical Runge-Kutta method.

    Arguments:
        begin: The first state.
        end: The second state, of the same shape.
        leaving: Rate of change at the first, per whole step.
        arriving: Rate of change at the second.
        phase: Where between them.
    """
    rest = 1 - phase
    known = rest**2 * (1 + 2 * phase) * begin + phase**2 * (3 - 2 * phase) * end
    return known + phase * rest * (rest * leaving - phase * arriving)


def _terms(latent: int, conditions: int, degree: int) -> int:
    """How many there are up to a degree; none at degree 0."""
    products = math.comb(latent + degree, degree) - 1
    return products * (1 + conditions) - (latent if degree else 0)


def _lists(latent: int, degree: int) -> tuple[Tensor, Tensor]:
    """Each monomial of a degree as one of the degree before, by its place there, times a latent."""
    before = {names: i for i, names in enumerate(combinations_with_replacement(range(latent), degree - 1))}
    names = list(combinations_with_replacement(range(latent), degree))
    return torch.tensor([before[each[:-1]] for each in names]), torch.tensor([each[-1] for each in names])


def _features(terms: PolynomialTerms, z: Tensor, c: Tensor, degree: int) -> Tensor:
    """`(..., feature)`: a constant, latents, conditions, and the terms up to a degree."""
    plain = torch.cat([torch.ones_like(z[..., :1]), z, c], -1)
    return plain if degree < 2 else torch.cat([plain, terms.features(z, c, degree)], -1)


def _rates(terms: PolynomialTerms, z: Tensor, c: Tensor, stride: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Features and rates of change, some trajectories at once."""
    times = z.shape[1] - _SPAN + 1
    rows = some_of(torch.arange(len(z)), ROWS)
    per_row = min(times, max(1, ROWS // len(rows)))
    at = (torch.arange(per_row) * times) // per_row
    factors = (-1, 9, -45, 0, 45, -9, 1)
    for some in rows.split(max(1, 4096 // per_row)):
        for times_at in at.split(4096):
            # Each trajectory at times of its own: copies of one another are not asked for the same ones.
            here = (times_at + 7 * some[:, None]) % times
            parts = [z[some[:, None], here + k] for k in range(_SPAN)]
            rate = torch.stack([w * part for w, part in zip(factors, parts, strict=True)]).sum(0) * (stride / 60)
            conditions = c[some, None].expand(-1, len(times_at), -1)
            yield _features(terms, parts[_SPAN // 2], conditions, terms.degree).flatten(0, 1), rate.flatten(0, 1)


def _forecast_error(
    terms: PolynomialTerms,
    weights: Tensor,
    degree: int,
    z: Tensor,
    c: Tensor,
    stride: int,
    substeps: int,
    bound: float = math.inf,
) -> float:
    """Mean square error at large steps; infinite where it is not finite, or known to exceed a bound."""
    state, total, field = z[:, 0], 0.0, _field(terms, weights, degree, c)
    ends = range(stride, z.shape[1], stride)
    for end in ends:
        for _ in range(substeps):
            state = _runge_kutta(field, state, 1 / substeps)[0]
        total += float((state - z[:, end]).square().mean())
        if not total < bound * len(ends):
            return math.inf
    return total / max(1, len(ends))


def _enough(field: _Field, z: Tensor, stride: int, substeps: int) -> tuple[int, bool]:
    """Runge-Kutta steps in the unit of time, and whether the cubic is enough for what lies between two of them."""
    whole, fine = (z.shape[1] - 1) // stride, -(-substeps // stride)
    z = z[:, : 1 + whole * stride]
    exact = _path(field, z[:, 0], whole * stride * fine, 1 / (stride * fine))[0][:, ::fine]
    ends, rates = _path(field, z[:, 0], whole, 1.0)
    own = (exact - z).square().sum((1, 2))

    def as_good(found: Tensor, expected: Tensor) -> bool:
        off = (found - expected).square()
        return bool((off.sum((1, 2)) / own).median() <= SLIGHT or off.mean() <= TINY)

    if not as_good(ends, exact[:, ::stride]):
        return substeps, False
    parts = [cubic(ends[:, :-1], ends[:, 1:], rates[:, :-1], rates[:, 1:], j / stride) for j in range(stride)]
    between = torch.stack(parts, 2).flatten(1, 2)
    return 1, stride > 1 and as_good(between, exact[:, :-1])


_Field = Callable[[Tensor], Tensor]


def _field(terms: PolynomialTerms, weights: Tensor, degree: int, c: Tensor) -> _Field:
    return lambda state: _features(terms, state, c, degree) @ weights


def _path(field: _Field, state: Tensor, steps: int, h: float) -> tuple[Tensor, Tensor]:
    """States and their rates of change, both `(trajectory, steps + 1, latent)`."""
    states, rates = [state], []
    for _ in range(steps):
        state, rate = _runge_kutta(field, state, h)
        states.append(state)
        rates.append(rate)
    return torch.stack(states, 1), torch.stack([*rates, field(state)], 1)


def _runge_kutta(field: _Field, state: Tensor, h: float) -> tuple[Tensor, Tensor]:
    """The state a step later, and the rate of change at its start."""
    k1 = field(state)
    k2 = field(state + h / 2 * k1)
    k3 = field(state + h / 2 * k2)
    return state + h / 6 * (k1 + 2 * k2 + 2 * k3 + field(state + h * k3)), k1
