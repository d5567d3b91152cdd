"""How far codes reach: the scale that networks take their units from, and the bounds of a forecast."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["latent_scale", "twice_the_range", "unbounded"]


def unbounded(latent: int) -> Tensor:
    """Bounds of latents that hold nothing back, `(2, latent)`; finite, as all of a state is."""
    largest = torch.finfo(torch.float32).max
    return torch.tensor([[-largest], [largest]]).repeat(1, latent)


def twice_the_range(z: Tensor) -> Tensor:
    """Bounds of latents, `(2, latent)`: twice the range of some `(sample, latent)`, and three deviations at least."""
    low, high = z.amin(0), z.amax(0)
    middle, half = (low + high) / 2, torch.maximum((high - low) / 2, 3 * latent_scale(z))
    return torch.stack([middle - 2 * half, middle + 2 * half])


def latent_scale(z: Tensor) -> Tensor:
    """Standard deviation of latents `(sample, latent)`, from which networks take their units.

    A latent that hardly varies, such as a mode beyond the rank of the data, counts a thousandth of the one that varies
    most: in units of its own, the noise that codes are trained with would be all that a network sees.
    """
    std = z.std(0)
    return std.clamp_min(1e-3 * float(std.max())).clamp_min(1e-6)
