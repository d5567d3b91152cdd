"""What a training step keeps in memory, measured on one snapshot, and the batch that a bound on it allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from romvae.distributions import moments
from romvae.vae import VAE

__all__ = ["STEP_BYTES", "kept_bytes", "largest_batch"]

STEP_BYTES = 2**28
"""What a step on streamed data is meant to take, where nobody has chosen its batch."""

_PEAK = 2.5
"""About what a step takes, in units of what it keeps: work areas of convolutions come on top.

Measured, the weights' share left out (the rows of SCALING.md): 2 in one dimension, 2.4 to 3.9 in three, 1.9 to 3.3 in
two, and 4.3 with 96 x 96 and 128 x 128, so that there a step may take 1.7 times its bound.
"""
_LEAST = 8
"""Smaller batches would cost more in noise of the gradient than they save."""


def kept_bytes(vae: VAE, samples: int = 1) -> int:
    """Bytes that a step keeps for its gradient, for each snapshot of the batch: encoder, and decoder of each sample.

    Counted, not estimated: one snapshot of zeros goes through the networks, and whatever is saved on the way is added
    up, less the weights, which all snapshots share.

    Arguments:
        vae: Trained or not; it is not changed.
        samples: Codes that are decoded for each snapshot.
    """
    layout = vae.encoder.layout
    mode = vae.training
    vae.eval()  # nothing random is drawn
    try:
        x = torch.zeros(1, layout.fields, *layout.shape, device=next(vae.parameters()).device)
        code: list[Tensor] = []
        encoder = _saved(vae, lambda: code.append(moments(vae.encoder(x))[0]))
        decoder = _saved(vae, lambda: vae.decoder(code[0].detach().requires_grad_()).mean)
    finally:
        vae.train(mode)
    return encoder + samples * decoder


def largest_batch(vae: VAE, most: int, samples: int = 1, limit: int = STEP_BYTES) -> int:
    """The largest power of two, `most` at most and eight at least, whose step takes no more than `limit` bytes.

    Arguments:
        vae: What is trained.
        most: Snapshots that are enough; returned as it is where they fit.
        samples: As in `kept_bytes`.
        limit: Bytes.
    """
    fitting = int(limit / (_PEAK * max(1, kept_bytes(vae, samples))))
    if fitting >= most:
        return most
    return min(most, max(_LEAST, 1 << max(0, fitting.bit_length() - 1)))


def _saved(vae: VAE, work: Callable[[], Any]) -> int:
    """Bytes of the storages that autograd saves during some work, each counted once; weights and buffers not."""
    held = {t.untyped_storage().data_ptr() for t in (*vae.parameters(), *vae.buffers())}
    found: dict[int, Tensor] = {}  # tensors, not numbers alone: an address of what was freed could come again

    def keep(t: Tensor) -> Tensor:
        place = t.untyped_storage().data_ptr()
        if place not in held:
            found[place] = t
        return t

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        kept = work()
    del kept
    return sum(t.untyped_storage().nbytes() for t in found.values())
