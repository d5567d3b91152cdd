"""What is exported: the parts of a ROM as functions of tensors in physical units.

A forecast of M members by K networks is held as rows, one latent each: the members first, in rounds of K (the last
round is filled up), then one row per network that starts from the posterior's mean and draws nothing. Row r follows
network r modulo K. What the last K rows disagree on is the ensemble's part of the spread.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from romvae.calibration import Interval
from romvae.distributions import moments, reparameterise
from romvae.dynamics.base import condition
from romvae.dynamics.linear_ensemble import LinearEnsemble

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["Decoding", "Encoding", "Part", "Plan", "Stepping", "frozen"]


@dataclass(frozen=True)
class Plan:
    """What a forecast is fixed to when it is exported.

    Arguments:
        steps: Stored steps.
        members: Members of the forecast.
        level: Nominal coverage of the interval.
        interval: What the interval is to hold, see `ROM.rollout`.
        share: What share of it.
    """

    steps: int
    members: int = 32
    level: float = 0.9
    interval: Interval = "point"
    share: float = 0.9

    def rounds(self, networks: int) -> int:
        """Rounds of networks that the members make up."""
        return -(-self.members // networks)


def frozen(rom: ROM) -> ROM:
    """A copy whose few switches and numbers are constants, not tensors: a graph cannot branch on a tensor's value."""
    rom = copy.deepcopy(rom).eval().requires_grad_(False)
    decoder, dynamics = rom.vae.decoder, rom.dynamics
    if "local" in decoder._buffers:
        decoder.local = bool(decoder._buffers.pop("local"))  # type: ignore[assignment]
    for module in dynamics.modules():
        if "dt" in module._buffers:
            module.dt = float(module._buffers.pop("dt"))  # type: ignore[arg-type,assignment]
    if isinstance(dynamics, LinearEnsemble):
        dynamics.settle()
    return rom


class Part(nn.Module):
    """A ROM's part with its units; `rom` is frozen."""

    mask: Tensor | None

    def __init__(self, rom: ROM) -> None:
        super().__init__()
        self.vae, self.normaliser = rom.vae, rom.normaliser
        self.scaling, self.control_scaling = rom.scaling, rom.control_scaling
        self.register_buffer("mask", rom.vae.decoder.mask)

    def normalised(self, fields: Tensor) -> Tensor:
        """Physical fields `(batch, field, *space)` in normalised units, single precision."""
        x: Tensor = self.normaliser(fields.double()).float()
        return self.vae.decoder.inside(x)

    def conditions(self, parameters: Tensor | None, like: Tensor) -> Tensor:
        """Normalised parameters `(batch, parameter)`; those of a ROM without any are empty."""
        return like.new_zeros(like.shape[0], 0) if parameters is None else self.scaling(parameters)


class Encoding(Part):
    """Fields to the code's `mean` and `std` `(batch, latent)`, and the forecast's `start` `(row, batch, latent)`."""

    def __init__(self, rom: ROM, plan: Plan) -> None:
        super().__init__(rom)
        self.networks, self.latent = rom.dynamics.members, rom.vae.latent
        self.members, self.rounds = plan.members, plan.rounds(rom.dynamics.members)

    def forward(self, fields: Tensor, noise: Tensor | None = None) -> dict[str, Tensor]:
        q = self.vae.encoder(self.normalised(fields))
        mean, std = moments(q)
        rows = (self.rounds, self.networks, *mean.shape)
        if noise is None:
            drawn = mean.expand(rows)
        else:
            filled = self.rounds * self.networks - self.members
            if filled:
                noise = torch.cat([noise, noise.new_zeros(filled, *mean.shape)])
            drawn = reparameterise(q, noise.float().reshape(rows))
        start = torch.cat([drawn.flatten(0, 1), mean.expand(self.networks, *mean.shape)])
        return {"mean": mean, "std": std, "start": start}


class Stepping(Part):
    """One large step of every row: the latents at each of the stored times in it, `(stored step, row, batch, latent)`.

    The last of them is what the next step starts from.
    """

    def __init__(self, rom: ROM, plan: Plan) -> None:
        super().__init__(rom)
        del self.vae  # its weights are no part of a step
        self.dynamics, self.repeats = rom.dynamics, plan.rounds(rom.dynamics.members) + 1

    def forward(
        self,
        history: Tensor,
        parameters: Tensor | None = None,
        controls: Tensor | None = None,
        step_noise: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Latents `(row, batch, time, latent)`, parameters, and controls `(batch, 2, control)` at start and end."""
        batch, networks, dynamics = history.shape[1], self.dynamics.members, self.dynamics
        grouped = torch.cat(history.split(networks), 1)
        driven = None if controls is None or self.control_scaling is None else self.control_scaling(controls)
        c = condition(self.conditions(parameters, history[0, :, 0]), driven, 0, 1).repeat(self.repeats, 1)
        path = dynamics.within(grouped, c)
        if step_noise is not None:
            path = path + dynamics.step_std(grouped[..., -1, :], c) * self.grouped_noise(step_noise[None])[0]
        return {"latents": self.rows(path, batch)}

    def grouped_noise(self, noise: Tensor) -> Tensor:
        """Noise of the members `(step, member, batch, latent)` as `(step, network, row's batch, latent)`."""
        networks = self.dynamics.members
        filled = (self.repeats - 1) * networks - noise.shape[1]
        # The rows of the networks' own means draw nothing, and neither do those that fill up the last round.
        still = noise.new_zeros(noise.shape[0], filled + networks, *noise.shape[2:])
        return torch.cat(torch.cat([noise, still], 1).float().split(networks, 1), 2)

    def rows(self, path: Tensor, batch: int) -> Tensor:
        """Latents `(time, network, row's batch, latent)` as `(time, row, batch, latent)`."""
        return torch.cat([path.narrow(2, k * batch, batch) for k in range(self.repeats)], 1)


class Decoding(Part):
    """Codes `(batch, latent)` to the fields' `mean` and the decoder's own `std`, `(batch, field, *space)`."""

    def forward(self, latents: Tensor) -> dict[str, Tensor]:
        mean, var = self.vae.decoder.moments_of(latents)
        return {"mean": self.normaliser.inverse(mean), "std": self.normaliser.inverse_std(var.sqrt())}
