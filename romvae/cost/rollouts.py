"""What a rollout of the ROM costs: one trajectory, a batch, and against the bare decoder's own arithmetic."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr

from romvae.baselines.model import BaselineModel
from romvae.cost.clock import process_seconds
from romvae.errors import FewMembersWarning, OutOfRangeWarning
from romvae.forecast import KINDS
from romvae.memory import available_bytes
from romvae.schema import TIME, TRAJECTORY

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["batch_size", "decoder_seconds", "rolled_out", "rollout_seconds"]

_FRAMES = 1024  # decoded at once, as a rollout does
_MEMORY_SHARE = 0.25  # of what is available that a timed batch may fill


def batch_size(rom: Model, times: int, wanted: int = 64) -> int:
    """Trajectories of a batch whose forecast fits into a quarter of the memory that is left; `wanted` at most."""
    fields = len(rom.schema.field_names)
    one = 4 * times * rom.schema.grid.points * fields * len(KINDS) * 3  # blocks, their union, and a copy
    room = available_bytes()
    return wanted if room is None else max(1, min(wanted, int(_MEMORY_SHARE * room / one)))


def rolled_out(rom: Model, some: xr.Dataset, members: int, seed: int) -> xr.Dataset:
    """The forecast of trajectories from their first field, at their own times."""
    driven = some if rom.schema.controls else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewMembersWarning)
        warnings.simplefilter("ignore", OutOfRangeWarning)
        steps = some.sizes[TIME] - 1
        forecast = rom.rollout(some.isel({TIME: 0}), steps=steps, members=members, seed=seed, controls=driven)
    return forecast.assign_coords({TIME: some[TIME]})


def rollout_seconds(rom: Model, some: xr.Dataset, members: int, seed: int) -> float:
    """Process time of the forecast per trajectory of `some`."""
    seconds, _ = process_seconds(lambda: rolled_out(rom, some, members, seed))
    return seconds / some.sizes[TRAJECTORY]


@torch.no_grad()
def decoder_seconds(rom: Model, frames: int) -> float | None:
    """Process time of decoding so many codes to means and variances, and nothing else; None without a decoder."""
    if isinstance(rom, BaselineModel):
        return None
    decoder = rom.vae.decoder
    z = torch.randn(min(frames, _FRAMES), rom.vae.latent, generator=torch.Generator().manual_seed(0))
    whole, rest = divmod(frames, _FRAMES)

    def decode() -> Any:
        for part in [z] * whole + ([z[:rest]] if rest else []):
            p = decoder(part)
            last = p.mean, p.variance
        return last

    return process_seconds(decode)[0]
