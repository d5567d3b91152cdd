"""Rolls out calibration trajectories, to find how much the parts of the spread count."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor

from romvae.distributions import mixture_moments
from romvae.errors import NumericsError
from romvae.grading import reconstruction_ratio
from romvae.memory import release_freed
from romvae.ranks import ALONE, Ranks
from romvae.rollout import decoded_members, latent_members
from romvae.rom import ROM
from romvae.start import split_start
from romvae.streamed import Trajectories
from romvae.training.batches import step_generator

__all__ = ["BLOCK", "MEMBERS", "weigh_parts"]

logger = logging.getLogger("romvae.training")

TRAJECTORIES = 128
"""Trajectories that are looked at, at most; evenly through the data."""
LEADS, POINTS = 8, 128
"""Lead times and grid points that are looked at."""
MEMBERS, BLOCK = 16, 16
"""Members of a forecast, and trajectories rolled out at once, in all of the calibration."""


@torch.no_grad()
def weigh_parts(
    rom: ROM,
    x: Tensor | Trajectories,
    c: Tensor,
    seed: int,
    steps: int,
    report: Callable[..., None],
    controls: Tensor | None = None,
    kept: Tensor | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Fits `rom.calibration.parts`, on which the factors depend.

    Where a forecast diverges, the parts count as they are, and the log says why.

    Arguments:
        rom: Trained.
        x: Normalised trajectories `(trajectory, time, channel, *space)`.
        c: Normalised parameters `(trajectory, parameter)`.
        seed: Seed of the members and of the choice of points.
        steps: Stored steps up to the last lead time that is calibrated.
        report: Progress callable.
        controls: Normalised controls `(trajectory, time, control)`, from the initial field of the forecasts on.
        kept: Which snapshots there are from there on, boolean `(trajectory, time)`; None for all.
        ranks: Processes; the first one does it for all.
    """
    every = max(1, -(-len(x) // TRAJECTORIES))
    chosen = range(0, len(x), every)
    n = len(chosen)
    if steps < 1 or n == 0:
        return
    leads = torch.linspace(0, steps, min(LEADS, steps) + 1).round().long().unique()[1:]
    inside = torch.arange(math.prod(x.shape[3:]))
    if rom.vae.decoder.mask is not None:
        inside = inside[rom.vae.decoder.mask.flatten()]
    pick = inside[torch.randperm(len(inside), generator=step_generator(seed, "weighing", 0))[:POINTS]]

    def measured() -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        found: list[list[Tensor]] = [[], [], []]
        ratios = []
        size = min(x.block if isinstance(x, Trajectories) else BLOCK, n)
        for first in range(0, n, size):
            report("calibration", first, n, "parts of the spread")
            if isinstance(x, Trajectories):
                release_freed()
            some = chosen[first : first + size]
            rows = slice(some.start, some.stop, every)
            past, block = split_start(rom, x[rows])
            driven = None if controls is None else controls[rows]
            try:
                start = (rom.vae, rom.dynamics, block[:, 0], c[rows])
                path = latent_members(*start, steps, MEMBERS, seed, first, past=past, controls=driven)
            except NumericsError as error:
                logger.warning("the parts of the spread count as they are: %s", error)
                return None
            ratios.append(reconstruction_ratio(rom.vae, block[:, 0]))
            chunks: list[list[Tensor]] = [[], [], []]
            for lead, mean, var in decoded_members(rom.vae, path, leads):
                centre, decoder, dynamics = mixture_moments(mean, var, dim=1)
                square = (block[:, lead].transpose(0, 1) - centre).square()
                for chunk, values in zip(chunks, (square, decoder, dynamics), strict=True):
                    chunk.append(values.flatten(3)[..., pick])
            for all_blocks, chunk in zip(found, chunks, strict=True):
                all_blocks.append(torch.cat(chunk).transpose(1, 2))
        report("calibration", n, n, "parts of the spread")
        square, decoder, dynamics = (torch.cat(each, 2) for each in found)
        return square, decoder, dynamics, torch.cat(ratios)

    values = ranks.once(measured)
    if values is None:
        return
    reached = None if kept is None else kept[::every, leads].T
    rom.calibration.parts.fit(leads, *values, reached)
