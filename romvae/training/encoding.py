"""Codes of training trajectories and of their symmetric copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from romvae.distributions import moments
from romvae.memory import release_freed, snapshots_at_once
from romvae.ranks import ALONE, Ranks
from romvae.streamed import Trajectories
from romvae.symmetry import Symmetry
from romvae.training.batches import step_generator
from romvae.vae import VAE

__all__ = ["block_of", "encode", "encoded_copies", "moved_copy"]


def block_of(x: Tensor) -> int:
    """How many snapshots of trajectories `(trajectory, time, channel, *space)` to work on at once."""
    return snapshots_at_once(math.prod(x.shape[3:]))


@torch.no_grad()
def encode(vae: VAE, x: Tensor, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Posterior means and standard deviations of `(trajectory, time, channel, *space)`.

    Arguments:
        vae: Whose encoder is used.
        x: Trajectories.
        kept: Which snapshots there are, `(trajectory, time)`; the others are not looked at, and their codes are NaN.
    """
    means, stds = [], []
    flat = x.flatten(0, 1)
    for part in flat.split(block_of(x)) if kept is None else _parts(flat, kept, block_of(x)):
        mean, std = moments(vae.encoder(part))
        means.append(mean)
        stds.append(std)
    shape = (*x.shape[:2], vae.latent)
    if kept is None:
        return torch.cat(means).reshape(shape), torch.cat(stds).reshape(shape)
    return _spread(torch.cat(means), kept, shape), _spread(torch.cat(stds), kept, shape)


def _parts(flat: Tensor, kept: Tensor, size: int) -> Iterator[Tensor]:
    for rows in kept.flatten().nonzero()[:, 0].split(size):
        yield flat[rows]


def _spread(values: Tensor, kept: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Values of the snapshots that there are at their places, and NaN at the others."""
    out = values.new_full(shape, torch.nan)
    out[kept] = values
    return out


def moved_copy(x: Tensor, symmetry: Symmetry, seed: int, stream: str, copy: int) -> Tensor:
    """Copy number `copy` of trajectories `(trajectory, time, channel, *space)`: each is moved as a whole."""
    if not symmetry:
        return x
    return symmetry.random(x.flatten(1, 2), step_generator(seed, stream, copy)).reshape(x.shape)


def encoded_copies(
    vae: VAE,
    x: Tensor | Trajectories,
    copies: int,
    symmetry: Symmetry,
    seed: int,
    report: Callable[..., None],
    kept: Tensor | None = None,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, Tensor]:
    """Encodes the trajectories and their moved copies.

    Several processes share the trajectories, and all get all codes.

    Arguments:
        vae: Whose encoder is used.
        x: Trajectories, in memory or on disk.
        copies: How many.
        symmetry: What makes the moved ones.
        seed: Of the moves.
        report: Progress callable.
        kept: Which snapshots there are, as in `encode`; trajectories on disk know it themselves.
        ranks: Those processes.

    Returns:
        Means and standard deviations `(copy, trajectory, time, latent)`; NaN beyond the end of a trajectory.
    """
    if isinstance(x, Trajectories) or ranks.size > 1:
        return _copies_in_blocks(vae, x, copies, symmetry, seed, report, kept, ranks)
    means, stds = [], []
    for k in range(copies):
        report("encode", k, copies)
        mean, std = encode(vae, moved_copy(x, symmetry, seed, "dynamics shifts", k), kept)
        means.append(mean)
        stds.append(std)
    report("encode", copies, copies)
    return torch.stack(means), torch.stack(stds)


def _copies_in_blocks(
    vae: VAE,
    x: Tensor | Trajectories,
    copies: int,
    symmetry: Symmetry,
    seed: int,
    report: Callable[..., None],
    kept: Tensor | None,
    ranks: Ranks,
) -> tuple[Tensor, Tensor]:
    """The same for trajectories on disk, or shared among processes: each is read once and moved as it would be."""
    on_disk = isinstance(x, Trajectories)
    if isinstance(x, Trajectories):
        kept = None if x.kept is None else torch.from_numpy(x.kept)
    flat = (len(x), x.shape[1] * x.shape[2], *x.shape[3:])
    drawn = [symmetry.draw(flat, step_generator(seed, "dynamics shifts", k)) for k in range(copies)]
    mine, size = ranks.part(len(x)), x.block if isinstance(x, Trajectories) else len(x)
    mean = torch.empty(copies, len(mine), x.shape[1], vae.latent)
    std = torch.empty_like(mean)
    for first in range(mine.start, mine.stop, size):
        report("encode", first, len(x))
        if on_disk:
            release_freed()
        rows = slice(first, min(first + size, mine.stop))
        here = slice(rows.start - mine.start, rows.stop - mine.start)
        block, there = x[rows], None if kept is None else kept[rows]
        for k in range(copies):
            moved = symmetry.apply(block.flatten(1, 2), [numbers[rows] for numbers in drawn[k]]).reshape(block.shape)
            mean[k, here], std[k, here] = encode(vae, moved, there)
    report("encode", len(x), len(x))
    means, stds = zip(*ranks.gathered((mean, std)), strict=True)
    return torch.cat(means, 1), torch.cat(stds, 1)


@torch.no_grad()
def sensitivity(vae: VAE, z: Tensor, samples: int = 128) -> Tensor:
    r"""How much each latent moves the field, in units of the decoder's noise: 1 + mean of |d mu / d z_i|^2 / sigma^2.

    For a posterior of finite width that is its precision, to first order; codes without a posterior need it as the
    weight of their errors.

    Arguments:
        vae: Trained encoder and decoder.
        z: Codes `(..., latent)`; `samples` of them, the same random ones every time, are used: every n-th one would be
            of few times and trajectories, where their numbers divide n.
        samples: Number of codes.

    Returns:
        Shape `(latent,)`.
    """
    flat = z.flatten(0, -2)
    if flat.isnan().any():  # beyond the end of a trajectory
        flat = flat[~flat.isnan().any(-1)]
    some = flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))[:samples].to(flat.device)]
    var = vae.decoder.log_var_shared.exp().reshape(-1, *[1] * vae.encoder.layout.ndim)
    rows = []
    for i in range(some.shape[1]):
        direction = torch.zeros_like(some)
        direction[:, i] = 1.0
        moved = torch.func.jvp(vae.decoder.mean, (some,), (direction,))[1]
        rows.append((moved.square() / var).flatten(1).sum(1).mean())
    return 1 + torch.stack(rows)
