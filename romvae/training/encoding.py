"""Codes of training trajectories and of their symmetric copies."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from romvae.training.batches import random_shift, step_generator
from romvae.vae import VAE

__all__ = ["encode", "encoded_copies", "shifted_copy"]

BLOCK = 1024
"""Snapshots encoded or decoded at once; bounds the memory."""


@torch.no_grad()
def encode(vae: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior means and standard deviations of `(trajectory, time, channel, *space)`."""
    means, stds = [], []
    for part in x.flatten(0, 1).split(BLOCK):
        q = vae.encoder(part).base_dist
        means.append(q.mean)
        stds.append(q.stddev)
    shape = (*x.shape[:2], vae.latent)
    return torch.cat(means).reshape(shape), torch.cat(stds).reshape(shape)


def shifted_copy(x: Tensor, axes: tuple[int, ...], seed: int, stream: str, copy: int) -> Tensor:
    """Copy number `copy` of trajectories `(trajectory, time, channel, *space)`: each is shifted as a whole."""
    if not axes:
        return x
    return random_shift(x.flatten(1, 2), axes, step_generator(seed, stream, copy)).reshape(x.shape)


def encoded_copies(
    vae: VAE, x: Tensor, copies: int, axes: tuple[int, ...], seed: int, report: Callable[..., None]
) -> tuple[Tensor, Tensor]:
    """Encodes the trajectories and their shifted copies.

    Returns:
        Means and standard deviations `(copy, trajectory, time, latent)`.
    """
    means, stds = [], []
    for k in range(copies):
        report("encode", k, copies)
        mean, std = encode(vae, shifted_copy(x, axes, seed, "dynamics shifts", k))
        means.append(mean)
        stds.append(std)
    report("encode", copies, copies)
    return torch.stack(means), torch.stack(stds)
