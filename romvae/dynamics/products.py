"""Products of latents with conditions and steps: what is linear in the field and varies with the parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from romvae.dynamics.base import condition, step_pairs
from romvae.dynamics.groups import Groups
from romvae.dynamics.monomials import degrees_of, exponents, highest_degree, monomials
from romvae.dynamics.optional_terms import OptionalTerms
from romvae.dynamics.regression import RIDGES, ROWS, Regression, held_out, some_of

__all__ = ["LinearStart", "ProductTerms", "linear_start"]

POWERS = 3
"""Powers of the step, where the largest one is several stored ones: a third-order expansion of its exponential."""
GAIN = 0.8
"""Share of the mean square error without products that those with them must not exceed: more is a matter of luck."""
GROWTH = 3.0
"""What may grow over a trajectory at most, by the linear map of any of its parameters."""


class ProductTerms(OptionalTerms):
    r"""Sum over k of :math:`g_k(c, \rho)\,(B_k z + b_k)`, one for each network.

    The functions g are products of the step's share :math:`\rho` of the largest one, to the powers 0, 1 and 2, with
    monomials of the conditions c; the constant one belongs to the linear path beside this one. Multiplied by
    :math:`\rho`, as a flow map does it, that is a Taylor expansion of :math:`\exp(\rho T A(c)) z`, of third order in
    the step and to fourth in one or two conditions, second in three or four: an equation that is linear in the field,
    and whose coefficients are parameters, is nearly exact before any network is trained.

    Whether they take part is for the data to say (`linear_start`). They stay as least squares found them: so many
    features that nearly say the same are no work for gradient steps. On `burgers_1d_parametric` 2500 steps that trained
    them along left forecasts of new codes where they began (0.48 % off; 0.04 % with the network trained beside them).

    Arguments:
        latent: Number of latents.
        conditions: Physical parameters, and twice the controls.
        members: Networks.
        stride: Stored steps in the largest step.
    """

    fixed = True

    def __init__(self, latent: int, conditions: int, members: int, stride: int) -> None:
        high = POWERS if stride > 1 else 1
        powers = exponents(conditions, highest_degree(conditions))
        count = high * (1 + len(powers)) - 1
        super().__init__(torch.zeros(members, latent + 1, count * latent))
        self.latent, self.powers, self.count = latent, high, count
        self.register_buffer("exponents", powers, persistent=False)
        self.degrees = torch.cat([degrees_of(powers).new_zeros(1), degrees_of(powers)]).repeat(self.powers)[1:]

    def functions(self, c: Tensor, ratio: Tensor) -> Tensor:
        """The functions g_k, `(..., k)`.

        Arguments:
            c: Conditions `(..., condition)`.
            ratio: Share of the largest step, `(..., 1)`.
        """
        conditions = torch.cat([torch.ones_like(ratio), monomials(c, self.get_buffer("exponents"))], -1)
        every = torch.cat([ratio**power * conditions for power in range(self.powers)], -1)
        return every[..., 1:]

    def forward(self, z: Tensor, c: Tensor, ratio: Tensor) -> Tensor:
        """Sum of the terms, `(member, batch, latent)`.

        Arguments:
            z: Standardised latents `(member, batch, latent)`.
            c: Conditions `(member, batch, condition)`.
            ratio: Share of the largest step, `(member, batch, 1)`.
        """
        if self.idle:
            return torch.zeros_like(z)
        weight = self.used * self.weight
        each = torch.baddbmm(weight[:, -1:], z, weight[:, :-1])
        return (each.unflatten(-1, (self.count, self.latent)) * self.functions(c, ratio).unsqueeze(-1)).sum(-2)


@dataclass(frozen=True)
class LinearStart:
    """What is known in closed form, in standardised units and for the largest step.

    Attributes:
        linear: Of latents and conditions, `(latent + condition, latent)`.
        offset: `(latent,)`.
        products: In the layout of `ProductTerms.weight` without its members; None where they do not help.
    """

    linear: Tensor
    offset: Tensor
    products: Tensor | None


def linear_start(
    terms: ProductTerms,
    z: Tensor,
    c: Tensor,
    controls: Tensor | None,
    stride: int,
    ridge: float,
    group: Tensor | None = None,
) -> LinearStart:
    """Fits the linear path by least squares over the largest step, with products over several steps up to it.

    Penalty, degree, and whether there are products at all, are chosen by the forecasts of every fifth trajectory, in
    large steps to the end; moved copies of a trajectory stay with it. Products are not taken where the map of any
    parameters, those in the corners of the range included, lets something grow more than threefold until the end:
    there, a polynomial easily says too much. With fewer than ten trajectories, however many copies there are of them,
    nothing is chosen, and there are no products.

    Arguments:
        terms: What the products are like.
        z: Standardised latents `(row, time, latent)`.
        c: Parameters `(row, parameter)`.
        controls: Controls `(row, time, control)`.
        stride: Stored steps in the largest step.
        ridge: Penalty where nothing is chosen.
        group: Trajectory that each row is a copy of, `(row,)`; None for rows that are all their own.
    """
    z, c = z.detach().cpu().double(), c.detach().cpu().double()
    controls = None if controls is None else controls.detach().cpu().double()
    plain = 1 + z.shape[-1] + c.shape[-1] + (0 if controls is None else 2 * controls.shape[-1])
    chosen, degree = ridge, -1
    if terms.count:
        held = held_out(c, len(z), group)
        if held is not None:
            some = (z[~held], c[~held], _rows(controls, ~held), stride)
            fits = {products: _regression(terms, *some, products) for products in (False, True)}
            single = Groups.read(group, len(z)).first  # copies have the conditions of their trajectory
            large, places = (z.shape[1] - 1) // stride, _places(c[single], _rows(controls, single))
            least, most = float("inf"), int(terms.degrees.max())
            known = [(-1, ridge), *product((-1, *sorted({min(1, most), min(2, most), most})), RIDGES)]
            for highest, penalty in known:
                weights = fits[highest >= 0].weights(penalty, _used(terms, plain, highest))
                error = _forecast_error(terms, weights, z[held], c[held], _rows(controls, held), stride)
                wanted = GAIN * least if highest >= 0 > degree else least
                if error < wanted and (highest < 0 or _growth(terms, weights, places) ** large < GROWTH):
                    chosen, degree, least = penalty, highest, error
    whole = _regression(terms, z, c, controls, stride, degree >= 0)
    weights = whole.weights(chosen, _used(terms, plain, degree))
    products = weights[plain:].unflatten(0, (terms.count, z.shape[-1] + 1)) if degree >= 0 else None
    laid_out = None if products is None else products.transpose(0, 1).flatten(1)
    return LinearStart(weights[1:plain], weights[0], laid_out)


def _rows(values: Tensor | None, chosen: Tensor) -> Tensor | None:
    return None if values is None else values[chosen]


def _used(terms: ProductTerms, plain: int, degree: int) -> Tensor:
    """Which features take part: the first ones, and of the products those with monomials up to a degree, if any."""
    first = torch.ones(plain, dtype=torch.bool)
    return first if degree < 0 else torch.cat([first, (terms.degrees <= degree).repeat_interleave(terms.latent + 1)])


def _features(terms: ProductTerms, z: Tensor, conditions: Tensor, ratio: float, products: bool) -> Tensor:
    """`(..., feature)`: a constant, latents, conditions, and products with 1 last in each block; times the share."""
    share = torch.full_like(z[..., :1], ratio)
    state = torch.cat([torch.ones_like(share), z, conditions], -1)
    if not products:
        return ratio * state
    g = terms.functions(conditions, share)
    each = g.unsqueeze(-1) * torch.cat([z, torch.ones_like(share)], -1).unsqueeze(-2)
    return ratio * torch.cat([state, each.flatten(-2)], -1)


def _blocks(
    terms: ProductTerms, z: Tensor, c: Tensor, controls: Tensor | None, stride: int, products: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features and increments, some trajectories at once; with products, which know the step, over smaller ones too."""
    steps = sorted({1, (stride + 1) // 2, stride}) if products else [stride]
    pairs = len(steps) * max(1, z.shape[1] - stride)
    rows = some_of(torch.arange(len(z)), max(1, ROWS // pairs))
    for some in rows.split(max(1, 4096 // pairs)):
        driven = None if controls is None else controls[some]
        for step in steps:
            now, later, conditions = step_pairs(z[some], c[some], driven, step)
            features = _features(terms, now, conditions, step / stride, products)
            yield features.flatten(0, 1), (later - now).flatten(0, 1)


def _regression(
    terms: ProductTerms, z: Tensor, c: Tensor, controls: Tensor | None, stride: int, products: bool
) -> Regression:
    return Regression.of(_blocks(terms, z, c, controls, stride, products))


def _forecast_error(
    terms: ProductTerms, weights: Tensor, z: Tensor, c: Tensor, controls: Tensor | None, stride: int
) -> float:
    """Mean square error in large steps; infinite where it is not finite."""
    state, total, count = z[:, 0], 0.0, 0
    for k in range(stride, z.shape[1], stride):
        now = condition(c, controls, k - stride, k)
        state = state + _features(terms, state, now, 1.0, len(weights) > 1 + z.shape[-1] + now.shape[-1]) @ weights
        total, count = total + float((state - z[:, k]).square().mean()), count + 1
        if not total < float("inf"):
            return float("inf")
    return total / max(count, 1)


def _places(c: Tensor, controls: Tensor | None) -> Tensor:
    """Conditions at which a map is looked at: up to 256 of the trajectories', and the corners of their range."""
    if controls is not None:
        c = torch.cat([c, controls[:, 0], controls[:, -1]], -1)
    some = c[:: max(1, len(c) // 256)]
    low, high = c.amin(0), c.amax(0)
    if c.shape[1] > 6:
        return some
    corners = torch.cartesian_prod(*torch.stack([low, high], 1)).reshape(-1, c.shape[1]) if c.shape[1] else some[:0]
    return torch.cat([some, corners])


def _growth(terms: ProductTerms, weights: Tensor, c: Tensor) -> float:
    """The largest modulus of an eigenvalue of the map over a large step, over conditions `(place, condition)`."""
    latent = weights.shape[1]
    plain = 1 + latent + c.shape[1]
    blocks = weights[plain:].unflatten(0, (terms.count, latent + 1))[:, :latent]
    g = terms.functions(c, torch.ones_like(c[:, :1]) if c.shape[1] else c.new_ones(len(c), 1))
    maps = torch.eye(latent).to(weights) + weights[1 : 1 + latent] + torch.einsum("pk,kij->pij", g, blocks)
    return float(torch.linalg.eigvals(maps).abs().max()) if bool(maps.isfinite().all()) else float("inf")
