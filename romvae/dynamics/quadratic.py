"""Quadratic terms of a latent vector field, fitted in closed form where they forecast better."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from romvae.dynamics.optional_terms import OptionalTerms
from romvae.dynamics.regression import RIDGES, ROWS, Regression, held_out

__all__ = ["QuadraticTerms", "quadratic_start"]

MOST_LATENTS = 24
"""With more there would be too many products."""
REACH = 8.0
"""Standard deviations beyond which a latent counts no more in products: quadratic growth would end in infinity."""
GAIN = 0.8
"""Share of the linear field's mean square error that a quadratic one must not exceed: more is a matter of luck."""
JUDGES = 128
"""Held-out trajectories that are forecast to choose."""
_SPAN = 7
"""Stored times of a difference quotient of sixth order."""


class QuadraticTerms(OptionalTerms):
    r""":math:`\sum_i B_i(c)\, z_i + \sum_{ij} H_{ij}(c)\, z_i z_j`, B and H affine in the conditions c, per network.

    Equations with quadratic terms, as those of fluids, stay quadratic in any linear code; `quadratic_start` finds the
    terms by operator inference (Peherstorfer and Willcox, 2016, doi:10.1016/j.cma.2016.03.025). There are none with
    more than 24 latents.

    Arguments:
        latent: Number of latents.
        conditions: Physical parameters.
        members: Networks.
    """

    def __init__(self, latent: int, conditions: int, members: int) -> None:
        products = latent * (latent + 1) if latent <= MOST_LATENTS else 0
        super().__init__(torch.zeros(members, products * (1 + conditions), latent))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Sum of the terms, `(member, batch, latent)`.

        Arguments:
            z: Standardised latents `(member, batch, latent)`.
            c: Conditions `(member, batch, condition)`.
        """
        if self.idle:
            return torch.zeros_like(z)
        z = z.clamp(-REACH, REACH)
        products = torch.cat([z, (z.unsqueeze(-1) * z.unsqueeze(-2)).flatten(-2)], -1)
        return torch.bmm(_affine(products, c), self.used * self.weight)


def quadratic_start(z: Tensor, c: Tensor, linear: Tensor, stride: int, substeps: int) -> tuple[Tensor, Tensor] | None:
    """A quadratic field by least squares on difference quotients of sixth order; None where a linear one is as good.

    The penalty, and whether there is such a field at all, are chosen by forecasts of every fifth trajectory to its end,
    with the classical Runge-Kutta method in the steps that the model takes: where those are too long to follow the
    field, it is not taken.

    Arguments:
        z: Standardised latents `(trajectory, time, latent)`.
        c: Parameters `(trajectory, parameter)`.
        linear: The linear field that is known, `(1 + latent + parameter, latent)`, a constant first.
        stride: Stored steps in the unit of time.
        substeps: Runge-Kutta steps in the unit of time.

    Returns:
        The field's linear part, like `linear`, and its quadratic one in the layout of `QuadraticTerms.weight` without
        its members.
    """
    z, c = z.detach().cpu().double(), c.detach().cpu().double()
    held = held_out(c, len(z)) if z.shape[1] > _SPAN and z.shape[-1] <= MOST_LATENTS else None
    if held is None:
        return None
    judged = held.nonzero()[:, 0]
    judged = judged[:: -(-len(judged) // JUDGES)]
    fitted = Regression.of(_rates(z[~held], c[~held], stride))
    least = GAIN * _forecast_error(linear.cpu().double(), z[judged], c[judged], stride, substeps)
    chosen = None
    for ridge in RIDGES:
        error = _forecast_error(fitted.weights(ridge), z[judged], c[judged], stride, substeps)
        if error < least:
            chosen, least = ridge, error
    if chosen is None:
        return None
    weights = Regression.of(_rates(z, c, stride)).weights(chosen)
    return weights[: len(linear)], _laid_out(weights[len(linear) :], z.shape[-1], c.shape[-1])


def _laid_out(weights: Tensor, latent: int, conditions: int) -> Tensor:
    """Weights of products, each of which is there once, in the layout of `QuadraticTerms.weight`."""
    first, second = torch.triu_indices(latent, latent)
    found = torch.zeros(1 + conditions, latent + latent * latent, latent, dtype=weights.dtype)
    square = torch.zeros(1 + conditions, latent, latent, latent, dtype=weights.dtype)
    square[0, first, second] = weights[: len(first)]
    if conditions:
        rest = weights[len(first) :].unflatten(0, (conditions, -1))
        found[1:, :latent] = rest[:, :latent]
        square[1:, first, second] = rest[:, latent:]
    found[:, latent:] = (0.5 * (square + square.transpose(1, 2))).flatten(1, 2)
    return found.flatten(0, 1)


def _affine(products: Tensor, c: Tensor) -> Tensor:
    """Products, and products times each condition, `(..., (1 + condition) * product)`."""
    if not c.shape[-1]:
        return products
    factors = torch.cat([torch.ones_like(c[..., :1]), c], -1)
    return (factors.unsqueeze(-1) * products.unsqueeze(-2)).flatten(-2)


def _features(z: Tensor, c: Tensor, quadratic: bool = True) -> Tensor:
    """`(..., feature)`: a constant, latents, conditions, products of two latents, and of conditions with both."""
    plain = torch.cat([torch.ones_like(z[..., :1]), z, c], -1)
    if not quadratic:
        return plain
    first, second = torch.triu_indices(z.shape[-1], z.shape[-1])
    z = z.clamp(-REACH, REACH)
    squares = z[..., first] * z[..., second]
    return torch.cat([plain, _affine(torch.cat([z, squares], -1), c)[..., z.shape[-1] :]], -1)


def _rates(z: Tensor, c: Tensor, stride: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Features and rates of change, some trajectories at once."""
    times = z.shape[1] - _SPAN + 1
    rows = torch.arange(0, len(z), max(1, -(-len(z) * times // ROWS)))
    weights = (-1, 9, -45, 0, 45, -9, 1)
    for some in rows.split(max(1, 4096 // times)):
        part = z[some]
        rate = sum(w * part[:, k : k + times] for k, w in enumerate(weights)) * (stride / 60)
        now = part[:, _SPAN // 2 : _SPAN // 2 + times]
        conditions = c[some, None].expand(-1, times, -1)
        yield _features(now, conditions).flatten(0, 1), torch.as_tensor(rate).flatten(0, 1)


def _forecast_error(weights: Tensor, z: Tensor, c: Tensor, stride: int, substeps: int) -> float:
    """Mean square error at large steps; infinite where it is not finite."""
    state, total, count, h = z[:, 0], 0.0, 0, 1 / substeps
    quadratic = len(weights) > 1 + z.shape[-1] + c.shape[-1]

    def field(state: Tensor) -> Tensor:
        return _features(state, c, quadratic) @ weights

    for k in range(stride, z.shape[1], stride):
        for _ in range(substeps):
            k1 = field(state)
            k2 = field(state + h / 2 * k1)
            k3 = field(state + h / 2 * k2)
            state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + field(state + h * k3))
        total, count = total + float((state - z[:, k]).square().mean()), count + 1
        if not total < float("inf"):
            return float("inf")
    return total / max(count, 1)
