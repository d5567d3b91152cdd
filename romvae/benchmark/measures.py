"""Figures that a comparison does not hold: errors in the definitions of published papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from romvae import metrics as score
from romvae.schema import TIME, TRAJECTORY
from romvae.start import after_start, start_of

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["as_published"]

WINDOWS = ((6, 12), (13, 30))


def as_published(rom: ROM, test: xr.Dataset, members: int, seed: int) -> dict[str, float]:
    """Errors of the mean forecast as others define theirs; several fields count alike.

    * `snapshot_relative_l2`: PDEBench's nRMSE, the mean over trajectories and times ahead of |error| / |truth|, each
      norm over all points of a snapshot.
    * `mean_worst_relative_l2`: the LaSDI papers', the largest of these over time, as a mean over trajectories.
    * `vrmse_6_12`, `vrmse_13_30`: The Well's VRMSE, the mean over these steps of the rollout.

    Arguments:
        rom: A trained ROM.
        test: Held-out trajectories.
        members: Members of the forecast.
        seed: Its seed.
    """
    names = list(rom.schema.field_names)
    driven = test if rom.schema.controls else None
    ahead = after_start(rom, test)
    steps = ahead.sizes[TIME] - 1
    guess = rom.rollout(start_of(rom, test), steps=steps, members=members, seed=seed, controls=driven)[names]
    guess = guess.assign_coords({TIME: ahead[TIME]})
    u, v = (score.in_domain(each.isel({TIME: slice(1, None)}), rom.mask) for each in (ahead[names], guess))
    space = [d for d in u.dims if d not in (TRAJECTORY, TIME)]
    each = score.over_fields(score.relative_l2(u, v, space))
    spread = score.over_fields(score.vrmse(u, v)).mean(TRAJECTORY)
    found = {"snapshot_relative_l2": float(each.mean()), "mean_worst_relative_l2": float(each.max(TIME).mean())}
    for first, last in WINDOWS:
        if steps >= last:
            found[f"vrmse_{first}_{last}"] = float(spread.isel({TIME: slice(first - 1, last)}).mean())
    return found
