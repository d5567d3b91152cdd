"""Is a new snapshot like those the ROM was calibrated on? A conformal p-value, never the raw likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from romvae.distributions import moments
from romvae.errors import DataError
from romvae.schema import TIME, TRAJECTORY

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["Typicality"]

TIMES = 20
"""Snapshots of each calibration trajectory that are used, evenly spaced."""
NEIGHBOURS = 5


@dataclass(frozen=True)
class Typicality:
    r"""Scores of calibration snapshots, against which a new one is ranked.

    Two scores per snapshot: the mean of r^2 / sigma^2, two-sided, since both too large and too small a normalised
    residual is unlike the data (a high likelihood alone is not typical); and the mean distance of the code to its
    nearest neighbours among the reference codes, in posterior widths. The more extreme of its ranks is the snapshot's
    statistic T, and its p-value is the rank of T among those of the calibration snapshots,

    .. math:: p = \frac{1 + \sum_i \mathrm{mean}_t [T_{it} \le T]}{n + 1} ,

    where all ranks are formed in the pool of the calibration snapshots and the new one, so that none of them is
    privileged. The unit is the trajectory: each of the n counts once, however many of its times are used. With one
    time each, P(p <= a) <= a exactly for a snapshot from the same distribution, and ties apart it is a; with several,
    p is the average over the choices of one, which is close to that, and never more than 2a.

    Arguments:
        codes: Reference codes `(sample, latent)`, from the training part.
        width: Posterior width of each latent.
        residual: Residual scores of the calibration trajectories `(trajectory, time)`.
        distance: Distance scores, same shape.

    References:
        Nalisnick et al. (2019), Detecting out-of-distribution inputs to deep generative models using typicality,
        arXiv:1906.02994. Dunn, Wasserman and Ramdas (2023), Distribution-free prediction sets for two-layer
        hierarchical models, arXiv:1809.07441.
    """

    codes: np.ndarray
    width: np.ndarray
    residual: np.ndarray
    distance: np.ndarray

    @classmethod
    def of(cls, rom: ROM, train: xr.Dataset, calibration: xr.Dataset) -> Typicality:
        """Scores the calibration part of the data.

        Arguments:
            rom: Trained.
            train: Training part; its codes are the reference.
            calibration: Trajectories that neither networks nor variance were fitted on.

        Raises:
            DataError: There are fewer than nine calibration trajectories, with which no p-value can be below 0.1.
        """
        n = calibration.sizes.get(TRAJECTORY, 1)
        if n < 9:
            raise DataError(
                f"typicality: {n} calibration trajectories, expected at least 9: fewer give no p-value below 0.1. "
                "Use more trajectories."
            )
        codes, width = _codes(rom, _thinned(train))
        reference = cls(codes, width, np.zeros((1, 1)), np.zeros((1, 1)))
        residual, distance = reference.scores(rom, _thinned(calibration))
        return cls(codes, width, residual, distance)

    def scores(self, rom: ROM, snapshots: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Residual and distance scores, each `(trajectory, time)`."""
        x = rom.normalised(snapshots, spacing=False)[0]
        flat = x.flatten(0, 1)
        residual, codes = [], []
        with torch.no_grad():
            for part in flat.split(512):
                mean = moments(rom.vae.encoder(part))[0]
                p = rom.vae.decoder(mean)
                ratio = (part - p.mean).square() / p.variance.clamp_min(torch.finfo(part.dtype).tiny)
                residual.append(ratio.flatten(1).mean(1).log())
                codes.append(mean)
        z = torch.cat(codes) / torch.as_tensor(self.width)
        nearest = torch.cdist(z, torch.as_tensor(self.codes / self.width)).topk(
            min(NEIGHBOURS, len(self.codes)), largest=False
        )
        distance = nearest.values.mean(1)
        shape = x.shape[:2]
        return torch.cat(residual).reshape(shape).numpy(), distance.reshape(shape).numpy()

    def p_value(self, rom: ROM, snapshots: xr.Dataset) -> xr.DataArray:
        """P-values on `trajectory, time`; small means foreign. Warn below 0.01, or below 0.05 for few snapshots.

        Arguments:
            rom: The ROM that was scored.
            snapshots: Canonical, on the ROM's grid.
        """
        residual, distance = self.scores(rom, snapshots)
        dims = (TRAJECTORY, TIME)
        coords = {n: snapshots[n] for n in dims if n in snapshots.coords and snapshots[n].dims == (n,)}
        attrs = {"long_name": "conformal p-value", "units": "1", "trajectories": len(self.residual)}
        return xr.DataArray(self.rank(residual, distance), dims=dims, coords=coords, name="p_value", attrs=attrs)

    def rank(self, residual: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """P-values of snapshots with these scores, in their shape."""
        tails = [
            _Tail(self.residual, np.less_equal, 2.0),
            _Tail(self.residual, np.greater_equal, 2.0),
            _Tail(self.distance, np.greater_equal, 1.0),
        ]
        n, out = len(self.residual), np.empty(residual.shape)
        for place in np.ndindex(residual.shape):
            scores = (float(residual[place]), float(residual[place]), float(distance[place]))
            pooled = [tail.with_new(score) for tail, score in zip(tails, scores, strict=True)]
            extreme = np.minimum.reduce([others for others, _ in pooled])
            own = min(new for _, new in pooled)
            out[place] = (1 + (extreme <= own).mean(1).sum()) / (n + 1)
        return out


class _Tail:
    """Ranks of one score in the pool of the calibration snapshots and a new one, each trajectory counting once."""

    def __init__(self, scores: np.ndarray, beyond: Any, factor: float) -> None:
        self.scores, self.beyond, self.factor = scores, beyond, factor
        # A snapshot stands for its trajectory: the others count by the share of their times that lie beyond it.
        self.counts = np.empty(scores.shape)
        for i, row in enumerate(scores):
            others = np.delete(scores, i, 0)
            self.counts[i] = [1 + beyond(others, score).mean(1).sum() for score in row]

    def with_new(self, score: float) -> tuple[np.ndarray, float]:
        """Shares of the pool at least as extreme as each calibration snapshot, and as the new one."""
        pool = len(self.scores) + 1
        others = self.factor * (self.counts + self.beyond(score, self.scores)) / pool
        return others, float(self.factor * (1 + self.beyond(self.scores, score).mean(1).sum()) / pool)


def _thinned(ds: xr.Dataset) -> xr.Dataset:
    return ds.isel({TIME: slice(None, None, max(1, ds.sizes[TIME] // TIMES))}) if ds.sizes.get(TIME, 1) > TIMES else ds


def _codes(rom: ROM, snapshots: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    x = rom.normalised(snapshots, spacing=False)[0].flatten(0, 1)
    with torch.no_grad():
        parts = [moments(rom.vae.encoder(part)) for part in x.split(1024)]
    mean, std = torch.cat([m for m, _ in parts]), torch.cat([s for _, s in parts])
    return mean.numpy(), std.square().mean(0).sqrt().numpy()
