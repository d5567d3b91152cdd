"""The local variance: fitted to the errors that the finished mean makes on trajectories it never saw."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from romvae.memory import snapshots_at_once
from romvae.nn.observation import LocalGaussian, SharedGaussian
from romvae.ranks import ALONE, Ranks
from romvae.symmetry import Symmetry
from romvae.training.batches import StepSeeds
from romvae.training.encoding import block_of, encode, moved_copy
from romvae.training.stages import Stage, VarianceStage
from romvae.vae import VAE

__all__ = ["fit_variance"]

logger = logging.getLogger("romvae.training")

COPIES = 4
TIMES = 50
"""Copies of each trajectory, and at most about so many of its times, whose errors are used."""


def fit_variance(
    vae: VAE,
    x: Tensor,
    symmetry: Symmetry,
    steps: int,
    rate: float,
    seed: int,
    run: Callable[[Stage, StepSeeds], None],
    kept: Tensor | None = None,
    batch_size: int = 128,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Fits the variance to the errors on new trajectories.

    A local variance is kept only where it beats the shared one on trajectories set aside for that. Observation models
    whose variance is given, or was learned with the mean, stay as they are.

    Arguments:
        vae: Its encoder and mean decoder are finished and stay as they are.
        x: Normalised trajectories that the mean never saw, `(trajectory, time, channel, *space)`.
        symmetry: What makes the moved copies that are added.
        steps: Training steps.
        rate: Peak learning rate.
        seed: Seed of copies and order.
        run: Runs the stage.
        kept: Which snapshots there are, boolean `(trajectory, time)`; None for all.
        batch_size: Snapshots per step; 128 at most.
        ranks: Processes among which the trajectories are divided; all get the errors on all.

    Returns:
        Notes: whether the local variance was kept, and the negative log-likelihoods it was judged by.
    """
    decoder = vae.decoder
    if not isinstance(decoder, SharedGaussian) or (isinstance(decoder, LocalGaussian) and decoder.rule != "profiled"):
        return {"local_variance": isinstance(decoder, LocalGaussian)}
    aside = max(1, len(x) // 5) if len(x) > 1 else 0
    every = max(1, x.shape[1] // TIMES)
    kept = None if kept is None else kept[:, ::every]
    z, squared = _errors(vae, x[:, ::every], symmetry, seed, kept, ranks)

    def used(values: Tensor, rows: slice) -> Tensor:
        """Of some trajectories, the snapshots that there are, in a row."""
        if kept is None:
            return values[rows].flatten(0, 2)
        return values[rows].transpose(0, 1)[:, kept[rows]].flatten(0, 1)

    # The start is the shared variance on *new* trajectories; the errors on the training ones are smaller.
    decoder.fit_variance(squared if kept is None else used(squared, slice(None)))
    if not isinstance(decoder, LocalGaussian):
        return {"local_variance": False}
    fitted = len(x) - aside
    run(
        VarianceStage(decoder, steps, rate),
        _Pairs(used(z, slice(fitted)), used(squared, slice(fitted)), min(128, batch_size), steps, seed),
    )
    decoder.local.fill_(True)
    if not aside:
        return {"local_variance": True}
    held, target = used(z, slice(fitted, None)), used(squared, slice(fitted, None))
    shared, local = _nll(decoder, held, target, shared=True), _nll(decoder, held, target, shared=False)
    if not local < shared:
        logger.warning("the local variance does not beat the shared one on new trajectories; the shared one is kept")
        decoder.log_var.reset()
    return {"local_variance": local < shared, "variance_nll": {"local": local, "shared": shared}}


@torch.no_grad()
def _errors(
    vae: VAE, x: Tensor, symmetry: Symmetry, seed: int, kept: Tensor | None, ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """Codes `(trajectory, copy, time, latent)` and squared errors of the mean `(trajectory, copy, time, *field)`."""
    mine = ranks.part(len(x))
    own = slice(mine.start, mine.stop)
    kept = None if kept is None else kept[own]
    there = torch.ones(len(mine), x.shape[1], dtype=torch.bool) if kept is None else kept
    copies = symmetry.copies(COPIES)
    codes, squares = [], x.new_full((len(mine), copies, *x.shape[1:]), torch.nan)
    for k in range(copies):
        shifted = moved_copy(x, symmetry, seed, "variance shifts", k)[own]
        z, _ = encode(vae, shifted, kept)
        for rows, times in zip(*(part.split(block_of(shifted)) for part in there.nonzero().T), strict=True):
            squares[rows, k, times] = (shifted[rows, times] - vae.decoder(z[rows, times]).mean).square()
        codes.append(z)
    parts = ranks.gathered((torch.stack(codes, 1), squares))
    return torch.cat([part for part, _ in parts]), torch.cat([part for _, part in parts])


@torch.no_grad()
def _nll(decoder: LocalGaussian, z: Tensor, squared: Tensor, shared: bool) -> float:
    """Score per point, without its constant, at the local or at the shared variance."""
    total = 0.0
    block = snapshots_at_once(math.prod(squared.shape[2:]))
    for code, square in zip(z.split(block), squared.split(block), strict=True):
        score = decoder.shared_loss(square) if shared else decoder.variance_loss(code, square)
        total += float(score) * len(code)
    return total / len(z)


class _Pairs(StepSeeds):
    """Random codes with their squared errors."""

    stream = "pairs"

    def __init__(self, z: Tensor, squared: Tensor, batch_size: int, steps: int, seed: int) -> None:
        super().__init__(steps, seed)
        self.z, self.squared, self.batch_size = z, squared, min(batch_size, len(z))

    def batch(self, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        index = torch.randint(len(self.z), (self.batch_size,), generator=generator)[self.rows]
        return {"z": self.z[index], "squared": self.squared[index]}
