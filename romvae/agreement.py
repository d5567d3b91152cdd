"""Whether first-order moments may stand for members in a forecast: measured on a few of its frames before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from romvae.distributions import mixture_moments
from romvae.errors import NumericsError
from romvae.first_order import directional, leading_directions, posterior_factor, tangents
from romvae.nn.observation import Observation
from romvae.rollout import latent_members

if TYPE_CHECKING:
    from romvae.forecast import Inputs, Request
    from romvae.rom import ROM

__all__ = ["TOLERANCE", "Agreement", "agreement", "chosen", "sampled"]

TOLERANCE = 0.1
"""Largest error of first-order moments, relative to the standard deviation: what 64 members miss by chance is 0.09."""
SAMPLED, MEMBERS = 3, 16
"""Trajectories and lead times of the frames that are looked at, and members that are followed there."""
_COST = 2.0
"""Members that a decoded direction costs, its derivative in the latent space included; less on large grids."""
_Choice = tuple[Literal["linear", "members"], str]


@dataclass(frozen=True)
class Agreement:
    """What was found on the sampled frames.

    Arguments:
        error: Largest error of mean or standard deviation at a frame and of a field: root mean square over its points
            over that of the standard deviation.
        frames: Frames.
        cost: Members whose decoding costs as much as the first-order moments.
    """

    error: float
    frames: int
    cost: float


def sampled(trajectories: int) -> list[int]:
    """Positions of the trajectories that are looked at, evenly among all: they depend on nothing but the number."""
    return sorted({round(k) for k in np.linspace(0, trajectories - 1, SAMPLED).tolist()})


def chosen(rom: ROM, given: Inputs, ask: Request, leads: Sequence[int], decoder: Observation) -> _Choice:
    """`linear` or `members` for a forecast, and why, in a sentence.

    The choice is one for all trajectories, and made from the same few of them however they are blocked or shared out.

    Arguments:
        rom: Trained.
        given: Where the sampled trajectories start.
        ask: What is wanted.
        leads: Lead times that are wanted.
        decoder: Of the ROM, or a window of it.
    """
    if ask.quantities:
        return "members", "quantities are computed from members"
    if rom.dynamics.stochastic:
        return "members", "the dynamics draw noise, which first-order moments leave out"
    if rom.vae.encoder.kind == "flow":
        return "members", "the posterior is no Gaussian"
    if ask.members <= 2 * _COST:
        return "members", f"{ask.members} cost no more than first-order moments"
    some = sorted({leads[round(k)] for k in np.linspace(0, len(leads) - 1, SAMPLED).tolist()})
    try:
        found = agreement(rom, given, some, decoder)
    except NumericsError:
        return "members", "a derivative in the latent space stopped being finite"
    about = f"{found.error:.2g} of the standard deviation from members at {found.frames} sampled frames"
    if not found.error <= TOLERANCE:
        return "members", f"first-order moments are off by {about}, more than {TOLERANCE:g}"
    if found.cost >= ask.members:
        return (
            "members",
            f"first-order moments cost as much as {found.cost:.0f} members, and {ask.members} are wanted",
        )
    return "linear", f"first-order moments are off by {about}, and cost as much as {found.cost:.0f} members"


@torch.no_grad()
def agreement(rom: ROM, given: Inputs, leads: Sequence[int], decoder: Observation) -> Agreement:
    """Compares first-order moments with members that draw the same noise, so that chance is on neither side.

    Member k follows the networks as it is and to first order; means and variances over the members are compared.

    Arguments:
        rom: Trained, with a Gaussian posterior.
        given: Where trajectories start.
        leads: Lead times to look at.
        decoder: Of the ROM, or a window of it.

    Raises:
        NumericsError: A latent or its derivative stopped being finite.
    """
    vae, dynamics = rom.vae, rom.dynamics
    along: dict[str, Any] = {"past": given.past, "controls": given.controls}
    if given.controls is not None:
        along["controls"] = given.controls[:, : max(leads) + 1]
    value, slope = tangents(vae, dynamics, given.x0, given.c, max(leads), **along)
    path = latent_members(vae, dynamics, given.x0, given.c, max(leads), MEMBERS, 0, **along)
    centre, factor = posterior_factor(vae, given.x0)
    noise = torch.linalg.solve_triangular(factor, (path[0] - centre)[..., None], upper=False)[..., 0]
    network = torch.arange(MEMBERS) % dynamics.members
    directions = leading_directions(vae, slope[list(leads)]).decoded
    worst = 0.0
    for lead in leads:
        offsets = torch.einsum("knd,kdnl->nkl", noise, slope[lead, network])
        for i, offset in enumerate(offsets):
            error = _error(decoder, path[lead, :, i], value[lead, :, i], network, offset)
            worst = max(worst, error) if error == error else float("inf")
    cost = _COST * (1 + float(directions.double().mean()))
    return Agreement(worst, len(leads) * len(given.x0), cost)


def _error(decoder: Observation, members: Tensor, networks: Tensor, network: Tensor, offset: Tensor) -> float:
    """Error of a frame: codes `(member, latent)`, those of the networks, whose each is, and offsets to first order."""
    mean, within, between = mixture_moments(*decoder.moments_of(members))
    centre = networks.mean(0, keepdim=True)
    at_centre, var = decoder.moments_of(centre)
    slopes = directional(decoder, centre.expand_as(offset), at_centre.expand(len(offset), *at_centre.shape[1:]), offset)
    linear = decoder.mean_of(networks)[network] + slopes
    first, _, spread = mixture_moments(linear, torch.zeros_like(linear))
    std, expected = (var[0] + spread).sqrt(), (within + between).sqrt()
    size = _rms(expected).clamp_min(torch.finfo(expected.dtype).tiny)
    return float(torch.maximum(_rms(first - mean) / size, _rms(std - expected) / size).max())


def _rms(values: Tensor) -> Tensor:
    """Root mean square over the points, one for each field."""
    return values.flatten(1).square().mean(1).sqrt()
