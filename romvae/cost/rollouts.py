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
from romvae.memory import available_bytes, snapshots_at_once
from romvae.schema import TIME, TRAJECTORY
from romvae.start import start_of

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["batch_size", "decoder_seconds", "rolled_out", "rollout_seconds"]

_MEMORY_SHARE = 0.25  # of what is available that a timed batch may fill


def batch_size(rom: Model, times: int, wanted: int = 64, *, mean: bool = False) -> int:
    """Trajectories of a batch whose forecast fits into a quarter of the memory that is left; `wanted` at most.

    Arguments:
        rom: That forecasts.
        times: Of each forecast.
        wanted: Trajectories at most.
        mean: Whether the mean alone is forecast, without the maps of its uncertainty.
    """
    fields = len(rom.schema.field_names)
    kinds = 1 if mean else len(KINDS)
    one = 4 * times * rom.schema.grid.points * fields * kinds * 3  # blocks, their union, and a copy
    room = available_bytes()
    return wanted if room is None else max(1, min(wanted, int(_MEMORY_SHARE * room / one)))


def rolled_out(rom: Model, some: xr.Dataset, members: int | None, seed: int) -> xr.Dataset:
    """The forecast of whole trajectories from their start, at their own times; without members the mean alone."""
    driven = some if rom.schema.controls else None
    told: dict[str, Any] = {"members": members or 1}
    if members is None and not isinstance(rom, BaselineModel):
        told["propagation"] = "mean"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewMembersWarning)
        warnings.simplefilter("ignore", OutOfRangeWarning)
        steps = some.sizes[TIME] - rom.start_times
        forecast = rom.rollout(start_of(rom, some), steps=steps, seed=seed, controls=driven, **told)
    return forecast.assign_coords({TIME: some[TIME][rom.start_times - 1 :]})


def rollout_seconds(rom: Model, some: xr.Dataset, members: int | None, seed: int) -> float:
    """Process time of the forecast per trajectory of `some`."""
    seconds, _ = process_seconds(lambda: rolled_out(rom, some, members, seed))
    return seconds / some.sizes[TRAJECTORY]


@torch.no_grad()
def decoder_seconds(rom: Model, frames: int, variance: bool = True) -> float | None:
    """Process time of decoding so many codes, and nothing else; None without a decoder.

    Arguments:
        rom: Whose decoder.
        frames: Codes; as many at once as in a rollout.
        variance: Whether variances are decoded beside the means.
    """
    if isinstance(rom, BaselineModel):
        return None
    decoder = rom.vae.decoder
    at_once = snapshots_at_once(rom.schema.grid.points)
    z = torch.randn(min(frames, at_once), rom.vae.latent, generator=torch.Generator().manual_seed(0))
    whole, rest = divmod(frames, at_once)

    def decode() -> Any:
        for part in [z] * whole + ([z[:rest]] if rest else []):
            if variance:
                p = decoder(part)
                last = p.mean, p.variance
            else:
                last = decoder.mean_of(part), None
        return last

    return process_seconds(decode)[0]
