"""What encoding and decoding alone cost, and what each latent carries: measured without any forecast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr

from romvae import metrics as score
from romvae.comparison.passing import portions
from romvae.comparison.sums import pooled_error
from romvae.schema import TIME, TRAJECTORY

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["compression_error", "kl_per_dimension"]

_SNAPSHOTS = 1000


def compression_error(rom: ROM, test: xr.Dataset) -> float:
    """Relative L2 error of encoding and decoding every snapshot, root mean square over fields."""
    names = list(rom.schema.field_names)
    wrong, size = (np.zeros((len(names), 1)) for _ in range(2))
    for rows in portions(test, names):
        some = test.isel({TRAJECTORY: rows})
        restored = rom.decode(rom.encode(some)["latent_mean"])
        truth, again = (score.in_domain(each[names], rom.mask) for each in (some, restored))
        for k, name in enumerate(names):
            u = truth[name].transpose(TRAJECTORY, TIME, ...).values.astype(np.float64)
            wrong[k] += ((again[name].transpose(TRAJECTORY, TIME, ...).values - u) ** 2).sum()
            size[k] += (u**2).sum()
    return float(pooled_error(wrong, size))


def kl_per_dimension(rom: ROM, test: xr.Dataset) -> np.ndarray:
    """Divergence of each latent from its prior on some 1000 evenly chosen snapshots, largest first."""
    times = test.sizes[TIME]
    every = max(1, test.sizes[TRAJECTORY] * times // _SNAPSHOTS)
    chosen = []
    for rows in portions(test, list(rom.schema.field_names)):
        x, _ = rom.normalised(test.isel({TRAJECTORY: rows}))
        chosen.append(x.flatten(0, 1)[-rows.start * times % every :: every])
    return rom.vae.kl_per_dimension(torch.cat(chosen)).sort(descending=True).values.numpy()
