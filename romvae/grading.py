"""How well a trajectory will be known, by the one field of it that is known, the initial one, and its parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from romvae.calibration import Calibration, graded
from romvae.distributions import moments
from romvae.memory import snapshots_at_once
from romvae.vae import VAE

__all__ = ["initial_grades", "reconstruction_ratio", "squared_over_variance"]


def reconstruction_ratio(vae: VAE, x: Tensor) -> Tensor:
    """Mean squared error of the reconstruction over the decoder's mean variance, `(trajectory, field)`.

    Arguments:
        vae: Trained.
        x: Normalised fields `(trajectory, channel, *space)`.
    """
    parts = []
    for some in x.split(snapshots_at_once(math.prod(x.shape[2:]))):
        mean, variance = vae.decoder.moments_of(moments(vae.encoder(some))[0])
        parts.append(squared_over_variance(some, mean, variance, vae.decoder.mask))
    return torch.cat(parts) if parts else x.new_zeros(0, x.shape[1])


def squared_over_variance(x: Tensor, mean: Tensor, variance: Tensor, mask: Tensor | None) -> Tensor:
    """Squares over variances, each a mean over the points of the domain; `(trajectory, field)`."""
    square, variance = (x - mean).square().flatten(2), variance.flatten(2)
    if mask is not None:
        inside = mask.flatten()
        square, variance = square[..., inside], variance[..., inside]
    return square.mean(2) / variance.mean(2)


@torch.no_grad()
def initial_grades(
    vae: VAE, calibration: Calibration, x0: Tensor, c: Tensor, known: Tensor | None = None
) -> Tensor | None:
    """What variances of decoder and dynamics are multiplied by, `(2, trajectory, field)`; None where they stay.

    Arguments:
        vae: Trained.
        calibration: Of the ROM; see `romvae.calibration.PartWeights` and `romvae.calibration.RunFactor`.
        x0: Normalised initial fields `(trajectory, channel, *space)`.
        c: Normalised parameters `(trajectory, parameter)`.
        known: See `romvae.calibration.graded`.
    """
    if not calibration.graded:
        return None
    ratio = reconstruction_ratio(vae, x0)
    return graded(calibration.parts, calibration.runs, ratio, x0, c, vae.decoder.mask, known)
