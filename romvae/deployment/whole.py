"""The whole rollout as one function of tensors in physical units, and how rows of latents become a forecast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from romvae.calibration import graded, scaled
from romvae.deployment.programs import Encoding, Part, Plan, Stepping
from romvae.distributions import mixture_moments, moments
from romvae.errors import ConfigError
from romvae.grading import squared_over_variance
from romvae.memory import snapshots_at_once

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["OUTPUTS", "Forecast", "Rolling"]

OUTPUTS = ("mean", "std", "std_decoder", "std_dynamics", "std_posterior", "std_ensemble", "lower", "upper")
"""Fields that a forecast consists of, in the order of `romvae.forecast.KINDS`."""
FRAMES = 1024
"""Snapshots per trajectory that the whole rollout decodes at once; bounds its memory."""


class Forecast(Part):
    """From rows at some lead times to the forecast: mean, calibrated spread in its parts, and interval."""

    factor: Tensor
    width: Tensor
    weights: Tensor
    spread: Tensor | None

    def __init__(self, rom: ROM, plan: Plan) -> None:
        super().__init__(rom)
        networks, calibration = rom.dynamics.members, rom.calibration
        self.members, self.networks = plan.members, networks
        self.parts, self.graded = calibration.parts, calibration.graded
        self.runs = calibration.runs
        # Lead times are whole, and constant beyond the last calibrated one: a table holds all there is to know.
        leads = torch.arange(int(calibration.lead[-1].ceil()) + 1)
        self.register_buffer("factor", calibration.at(leads, plan.level)[0])
        self.register_buffer("width", calibration.width(leads, plan.level, plan.interval, plan.share).clone())
        self.register_buffer("spread", calibration.spread)
        counts = torch.bincount(torch.arange(plan.members) % networks, minlength=networks)
        self.register_buffer("weights", (counts / plan.members)[: min(networks, plan.members)].float())

    @property
    def starts(self) -> bool:
        """Whether it has to know the initial fields."""
        return self.graded or self.mask is not None

    def forward(
        self, latents: Tensor, lead: Tensor, fields: Tensor | None = None, parameters: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Rows `(lead, row, batch, latent)` at the lead times `lead`; each output `(batch, lead, field, *space)`.

        Where there is a mask, or the variance is graded, `fields` are those of the start: they stand outside of the
        mask, and with the `parameters` they say how well the rest will be known.
        """
        means, variances = self._decoded(latents[:, : self.members])
        mean, within, between = mixture_moments(means, variances, dim=1)
        grades = None
        if self.graded:
            if fields is None:
                raise ConfigError("forecast: the initial fields are missing, which grade this spread. Give fields.")
            x = self.normalised(fields)
            again = self.vae.decoder.moments_of(moments(self.vae.encoder(x))[0])
            ratio = squared_over_variance(x, *again, self.mask)
            c = self.conditions(parameters, x.flatten(1))
            grades = graded(self.parts, self.runs, ratio, x, c, self.mask)
        ensemble = torch.minimum(self._ensemble(latents[:, -self.networks :], mean), between)
        within, between = self.parts.weighted(within, between, grades)
        ensemble = self.parts.weighted(within, ensemble, grades)[1]
        row = lead.clamp(max=len(self.factor) - 1)
        trailing = (latents.shape[0], 1, -1, *[1] * (mean.ndim - 3))
        factor, width = self.factor[row].reshape(trailing), self.width[row].reshape(trailing)
        given = (within + between).sqrt()
        factor = scaled(factor, given, self.spread, 2)
        total = factor * given
        half = torch.where(total > 0, width * total, torch.zeros_like(total))
        stds = {
            "std": total,
            "std_decoder": factor * within.sqrt(),
            "std_dynamics": factor * between.sqrt(),
            "std_posterior": factor * (between - ensemble).sqrt(),
            "std_ensemble": factor * ensemble.sqrt(),
        }
        centre, reach = self._physical(mean, std=False), self._physical(half)
        out = {"mean": centre, **{k: self._physical(v) for k, v in stds.items()}}
        out |= {"lower": centre - reach, "upper": centre + reach}
        return {name: self._outside(out[name].transpose(0, 1), name, fields) for name in OUTPUTS}

    def _decoded(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances `(lead, row, batch, field, *space)`."""
        layout = self.vae.encoder.layout
        shape = (*latents.shape[:3], layout.fields, *layout.shape)
        mean, var = self.vae.decoder.moments_of(latents.reshape(-1, latents.shape[-1]))
        return mean.reshape(shape), var.reshape(shape)

    def _ensemble(self, centres: Tensor, like: Tensor) -> Tensor:
        """Variance between the networks, as `romvae.propagation.between_networks` has it."""
        if self.members == 1:
            return torch.zeros_like(like)
        means, _ = self._decoded(centres[:, : len(self.weights)])
        weights = self.weights.reshape(-1, *[1] * (means.ndim - 2))
        middle = (weights * means).sum(1, keepdim=True)
        return self.members / (self.members - 1) * (weights * (means - middle).square()).sum(1)

    def _physical(self, values: Tensor, std: bool = True) -> Tensor:
        flat = values.flatten(0, 1)
        return (self.normaliser.inverse_std(flat) if std else self.normaliser.inverse(flat)).reshape(values.shape)

    def _outside(self, values: Tensor, name: str, fields: Tensor | None) -> Tensor:
        if self.mask is None or fields is None:
            return values
        kept = torch.zeros_like(values) if name.startswith("std") else fields.float().unsqueeze(1)
        return torch.where(self.mask, values, kept)


class Rolling(nn.Module):
    """The whole rollout: encode, `steps` stored steps of every row, decode in chunks of lead times."""

    def __init__(self, rom: ROM, plan: Plan) -> None:
        super().__init__()
        self.encoding, self.forecast, self.stepping = Encoding(rom, plan), Forecast(rom, plan), Stepping(rom, plan)
        self.steps, self.members = plan.steps, plan.members
        layout = rom.vae.encoder.layout
        at_once = min(FRAMES, snapshots_at_once(layout.points // layout.fields))
        self.leads = max(1, at_once // plan.members)

    def forward(
        self,
        fields: Tensor,
        noise: Tensor | None = None,
        parameters: Tensor | None = None,
        controls: Tensor | None = None,
        step_noise: Tensor | None = None,
        earlier: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Fields `(batch, field, *space)` and what else there is to start from.

        Each output is `(batch, time, field, *space)`, beside `latent` `(batch, time, latent)`, the members' mean.
        """
        path = self.path(fields, noise, parameters, controls, step_noise, earlier)
        lead = torch.arange(self.steps + 1, device=path.device)
        needed = self.forecast.starts
        parts = [
            self.forecast(
                path[first : first + self.leads],
                lead[first : first + self.leads],
                fields if needed else None,
                parameters if self.forecast.graded else None,
            )
            for first in range(0, self.steps + 1, self.leads)
        ]
        out = {name: torch.cat([part[name] for part in parts], 1) for name in OUTPUTS}
        return out | {"latent": path[:, : self.members].mean(1).transpose(0, 1)}

    def path(
        self,
        fields: Tensor,
        noise: Tensor | None,
        parameters: Tensor | None,
        controls: Tensor | None,
        step_noise: Tensor | None,
        earlier: Tensor | None,
    ) -> Tensor:
        """Latents `(steps + 1, row, batch, latent)`."""
        part, step = self.encoding, self.stepping
        start = part(fields, noise)["start"]
        past = None
        if earlier is not None:
            codes = moments(part.vae.encoder(part.normalised(earlier.flatten(0, 1))))[0]
            past = codes.reshape(earlier.shape[0], earlier.shape[1], -1).repeat(step.repeats, 1, 1)
        networks, batch = part.networks, start.shape[1]
        z0 = torch.cat(start.split(networks), 1)
        driven = None if controls is None or part.control_scaling is None else part.control_scaling(controls)
        drawn = None
        if step_noise is not None:
            drawn = step.grouped_noise(step_noise)
        path = step.dynamics.rollout(
            z0,
            part.conditions(parameters, start[0]).repeat(step.repeats, 1),
            float(step.dynamics.dt),
            self.steps,
            past=past,
            controls=None if driven is None else driven.repeat(step.repeats, 1, 1),
            noise=drawn,
        )
        return step.rows(path, batch)
