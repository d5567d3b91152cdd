"""What is said of forecasts that the dynamics held within the range of its training codes."""

from __future__ import annotations

import warnings

from torch import Tensor

from romvae.dynamics.base import EnsembleDynamics
from romvae.errors import HeldBackWarning, caller_level

__all__ = ["warn_held_back"]


def warn_held_back(
    path: Tensor,
    dynamics: EnsembleDynamics,
    steps: int,
    begin: int = 0,
    first: int = 0,
    leads: Tensor | None = None,
) -> None:
    """Warns of latents at the edge of the range that the dynamics holds them in.

    Arguments:
        path: Latents `(time, ..., trajectory, latent)` from step `begin` on.
        dynamics: What they are from.
        steps: Of the whole forecast.
        begin: As for `romvae.rollout.check_finite`.
        first: As for `romvae.rollout.check_finite`.
        leads: As for `romvae.rollout.check_finite`.

    Warns:
        HeldBackWarning: Some are; the message names the first such trajectory and its step.
    """
    if dynamics.range is None:
        return
    low, high = dynamics.range.to(path)
    at = ((path <= low) | (path >= high)).movedim(-2, 1).flatten(2).any(2)  # (time, trajectory)
    rows = at.any(0).nonzero()[:, 0].tolist()
    if not rows:
        return
    early = int(at[:, rows[0]].nonzero()[0])
    step = begin + early if leads is None else float(leads[early])
    others = f", and so do those of {len(rows) - 1} others" if len(rows) > 1 else ""
    warnings.warn(
        f"rollout: latents of trajectory {first + rows[0]} (the first is 0) go twice as far out as any training code "
        f"at step {step:g} of {steps} and are held there{others}. Do not trust these forecasts from there on. Train "
        "the dynamics on longer windows (--training.horizon) or more data, or take fewer latents.",
        HeldBackWarning,
        stacklevel=caller_level(),
    )
