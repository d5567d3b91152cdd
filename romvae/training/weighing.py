"""Rolls out calibration trajectories, to find how much the parts of the spread count, and how they differ by run."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor

from romvae.calibration import run_features
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
) -> Tensor | None:
    """Fits `rom.calibration.parts` and `rom.calibration.runs`, on which the factors depend.

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

    Returns:
        Of the trajectories that were looked at, the logarithm of the factor that `RunFactor` has for each if it is
        fitted to the others, `(trajectory, field)`, NaN for those that were not; None where nothing was fitted.
    """
    every = max(1, -(-len(x) // TRAJECTORIES))
    chosen = range(0, len(x), every)
    n = len(chosen)
    if steps < 1 or n == 0:
        return None
    leads = torch.linspace(0, steps, min(LEADS, steps) + 1).round().long().unique()[1:]
    inside = torch.arange(math.prod(x.shape[3:]))
    if rom.vae.decoder.mask is not None:
        inside = inside[rom.vae.decoder.mask.flatten()]
    pick = inside[torch.randperm(len(inside), generator=step_generator(seed, "weighing", 0))[:POINTS]]

    def measured() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None:
        found: list[list[Tensor]] = [[], [], []]
        ratios, features = [], []
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
            features.append(run_features(block[:, 0], c[rows], ratios[-1], rom.vae.decoder.mask))
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
        return square, decoder, dynamics, torch.cat(ratios), torch.cat(features)

    values = ranks.once(measured)
    if values is None:
        return None
    square, decoder, dynamics, ratio, features = values
    calibration = rom.calibration
    reached = None if kept is None else kept[::every, leads].T
    calibration.parts.fit(leads, square, decoder, dynamics, ratio, reached)
    grade = calibration.parts.grades(ratio)
    grades = torch.stack([grade, torch.ones_like(grade)])
    decoder, dynamics = calibration.parts.weighted(decoder.transpose(1, 2), dynamics.transpose(1, 2), grades)
    variance = (decoder + dynamics).transpose(1, 2)
    without = torch.full((len(x), square.shape[1]), torch.nan)
    without[::every] = calibration.runs.fit(leads, square, variance, features, reached)
    return without
