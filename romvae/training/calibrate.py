"""Rolls out the calibration trajectories and fits the factors on variance and intervals."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from romvae.rollout import forecast_moments, latent_members
from romvae.rom import ROM
from romvae.training.batches import step_generator

__all__ = ["calibrate"]

MEMBERS, POINTS, BLOCK = 16, 4096, 16
"""Members of a forecast, grid points used (at random beyond that many) and trajectories rolled out at once."""


@torch.no_grad()
def calibrate(rom: ROM, x: Tensor, c: Tensor, seed: int, report: Callable[..., None]) -> None:
    """Fits `rom.calibration` to forecasts of trajectories that nothing else was fitted on.

    Arguments:
        rom: Trained; its calibration is replaced.
        x: Normalised trajectories `(trajectory, time, channel, *space)`.
        c: Normalised parameters `(trajectory, parameter)`.
        seed: Seed of the members and of the choice of points.
        report: Progress callable.
    """
    steps = x.shape[1] - 1
    leads = _lead_grid(steps, rom.dynamics.stride)
    points = x[0, 0, 0].numel()
    pick = torch.randperm(points, generator=step_generator(seed, "calibration points", 0))[:POINTS].sort().values
    ratios = []
    for first in range(0, len(x), BLOCK):
        report("calibration", first, len(x))
        block, parameters = x[first : first + BLOCK], c[first : first + BLOCK]
        path = latent_members(rom.vae, rom.dynamics, block[:, 0], parameters, steps, MEMBERS, seed, first=first)
        parts = []
        for moments in forecast_moments(rom.vae, path, leads):
            error = block[:, moments.lead].transpose(0, 1) - moments.mean
            ratio = error.abs() / (moments.decoder_var + moments.dynamics_var).sqrt()
            parts.append(ratio.flatten(3)[..., pick])
        ratios.append(torch.cat(parts).transpose(1, 2))
    rom.calibration.fit(leads, torch.cat(ratios, 2))
    report("calibration", len(x), len(x))


def _lead_grid(steps: int, stride: int, count: int = 24) -> Tensor:
    """Lead times at which to calibrate: every one in the first large steps, where the error changes fast, then even."""
    even = torch.linspace(0, steps, count).round().long()
    return torch.cat([even, torch.arange(min(steps, 4 * stride) + 1)]).unique()
