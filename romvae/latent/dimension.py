"""How many latents do the data need? Bounds from the data, one fit at the upper end, a count, a check."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from scipy.spatial import cKDTree

from romvae.errors import DataError
from romvae.latent.activity import activity_of
from romvae.latent.bound import held_out_bound
from romvae.linear_start import Modes, modes_of
from romvae.normalise import Normaliser
from romvae.schema import TIME, TRAJECTORY, Schema
from romvae.tensors import field_tensor

if TYPE_CHECKING:
    from romvae.data import Parts
    from romvae.rom import ROM

__all__ = ["Bounds", "LatentSize", "bounds_of", "intrinsic_dimension", "pod_curve", "search"]

ENERGY = 0.999
LARGEST = 32
NATS = 2.0
"""A smaller code is accepted if its bound on held-out trajectories is at most so much below the largest one's ..."""
WORSE = 1.05
"""... or its error there is within 5 %, and the bound no lower than those 5 % cost, and two nats more."""
SNAPSHOTS = 4096
"""Snapshots of a part that are used, whole trajectories with evenly spaced times."""


@dataclass(frozen=True)
class LatentSize:
    """An answer with its reasons.

    Arguments:
        latent: The suggested size.
        lower: Intrinsic dimension of one snapshot per trajectory, NaN where there are too few: hardly any smaller
            code can be enough.
        upper: POD modes that hold 99.9 % of the variance, at most 32: no larger code is tried.
        tried: Sizes that were trained, each with `error` (relative to the fields' own deviation, on held-out
            trajectories), `active` latents, and `bound` (the evidence lower bound there, nats).
        kl: Divergence of each latent of the largest fit, nats, largest first; empty for codes without a posterior.
        pod: The same error of POD with 1, 2, ... modes.
    """

    latent: int
    lower: float
    upper: int
    tried: dict[int, dict[str, float]] = field(default_factory=dict)
    kl: np.ndarray = field(default_factory=lambda: np.zeros(0))
    pod: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def sentence(self) -> str:
        """The answer in words."""
        fits = "; ".join(
            f"{size} latents: {found['error']:.2%} error, {found['active']:.0f} active"
            for size, found in sorted(self.tried.items(), reverse=True)
        )
        least = f"at least {self.lower:.1f} ways" if math.isfinite(self.lower) else "an unknown number of ways"
        needs = f"more than {LARGEST} modes" if self.upper >= LARGEST else f"{self.upper} modes"
        return (
            f"{self.latent} latents. The data vary in {least} (nearest neighbours), and POD needs {needs} for 99.9 % "
            f"of the variance. Trained, judged on held-out trajectories: {fits}. {self._beside_pod()}"
            f"{self._at_the_end()}"
        )

    def _at_the_end(self) -> str:
        """What to think of an answer that is the largest size tried."""
        if self.latent < self.upper or self.tried.get(self.upper, {}).get("active") != self.upper:
            return ""
        return f" All {self.upper} are active: a larger code may be more exact still, at the price of the dynamics."

    def _beside_pod(self) -> str:
        """What POD would need, in words."""
        if self.latent > len(self.pod):
            return ""
        error = self.tried.get(self.latent, {}).get("error", math.nan)
        text = f"POD with {self.latent} modes is {self.pod[self.latent - 1]:.2%} off"
        enough = np.flatnonzero(self.pod <= error)
        if not math.isfinite(error) or (len(enough) and enough[0] + 1 <= self.latent):
            return text + "."
        if len(enough):
            return f"{text} and would need {enough[0] + 1} for the same error."
        return f"{text} and does not reach that error with {len(self.pod)}."

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; a lower bound that is not known is None."""
        return {
            "latent": self.latent,
            "lower": self.lower if math.isfinite(self.lower) else None,
            "upper": self.upper,
            "tried": {str(size): dict(found) for size, found in self.tried.items()},
            "kl": [float(v) for v in self.kl],
            "pod": [float(v) for v in self.pod],
            "answer": self.sentence(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LatentSize:
        """The inverse of `to_dict`."""
        lower = content["lower"]
        return cls(
            int(content["latent"]),
            math.nan if lower is None else float(lower),
            int(content["upper"]),
            {int(size): dict(found) for size, found in content["tried"].items()},
            np.asarray(content["kl"], float),
            np.asarray(content["pod"], float),
        )


@dataclass(frozen=True)
class Bounds:
    """What the data alone say of the size of a code: see `LatentSize`."""

    lower: float
    upper: int
    pod: np.ndarray


def intrinsic_dimension(points: np.ndarray) -> float:
    r"""Dimension of the manifold that points lie on, from the ratio of each one's two nearest distances.

    With :math:`\mu_i = r_2 / r_1`, whose logarithm is exponential with the dimension as its rate, the maximum
    likelihood estimate is :math:`n / \sum_i \log \mu_i`; the tenth of the points with the largest ratios is only
    counted as larger than the rest. Points must be independent: neighbours in time would measure the step instead, so
    give it one snapshot per trajectory. Noise raises the estimate; few points in many dimensions lower it, since
    neighbours are then far and see the manifold's edge: with a few hundred it is a lower bound.

    Arguments:
        points: `(sample, feature)`, at least 10 samples.

    Returns:
        The estimate; its standard error is about the estimate over the root of the number of samples.

    Raises:
        DataError: There are fewer than 10 distinct samples.

    References:
        Facco, d'Errico, Rodriguez and Laio (2017), Estimating the intrinsic dimension of datasets by a minimal
        neighborhood information, Sci. Rep. 7, 12140.
    """
    points = np.unique(np.asarray(points, dtype=float), axis=0)
    if len(points) < 10:
        raise DataError(
            f"intrinsic_dimension: {len(points)} distinct samples, expected at least 10. Give more trajectories."
        )
    distance = cKDTree(points).query(points, k=3)[0][:, 1:]
    log_ratio = np.sort(np.log(distance[:, 1] / distance[:, 0]))
    kept = log_ratio[: int(0.9 * len(log_ratio))]
    # Of an exponential law cut at its 90 % quantile: the likelihood counts the rest as beyond the last one.
    total = kept.sum() + (len(log_ratio) - len(kept)) * kept[-1]
    return float(len(kept) / max(total, 1e-300))


def pod_curve(train: torch.Tensor, held: torch.Tensor, most: int = 64) -> np.ndarray:
    """Root mean square error of POD on held-out snapshots with 1, 2, ... modes, `(rank,)`, in the fields' own units.

    Arguments:
        train: Normalised snapshots `(sample, channel, *space)` that the modes come from.
        held: Others.
        most: Largest number of modes.
    """
    return _curve(modes_of(train, most), held)


def _curve(modes: Modes, held: torch.Tensor) -> np.ndarray:
    flat = (held.flatten(1) - modes.mean).double()
    total = float(flat.square().sum())
    caught = (flat @ modes.modes.double().T).square().sum(0).cumsum(0)
    return np.asarray(((total - caught).clamp_min(0) / flat.numel()).sqrt().numpy())


def bounds_of(parts: Parts) -> Bounds:
    """Bounds on the size of a code from the data alone: intrinsic dimension, and POD.

    Arguments:
        parts: From `romvae.split`; training and `variance` part are used.
    """
    schema = Schema.of(parts.train)
    names = schema.field_names
    train, variance = _thinned(parts.train), _thinned(parts.variance)
    blocks = (
        [np.asarray(train[n].isel({TRAJECTORY: i}).values) for n in names] for i in range(train.sizes[TRAJECTORY])
    )
    normaliser = Normaliser.of(blocks, names)
    x, held = (field_tensor(ds, schema, normaliser) for ds in (train, variance))
    modes = modes_of(x.flatten(0, 1), 64)
    upper = int(min(LARGEST, max(2, 1 + int((modes.energy() < ENERGY).sum()))))
    middle = x[:, x.shape[1] // 2].flatten(1)
    try:
        lower = intrinsic_dimension((middle @ modes.modes.T).double().numpy())
    except DataError:  # too few trajectories, or all alike: the search does without
        lower = math.nan
    return Bounds(lower, upper, _curve(modes, held.flatten(0, 1)))


def _thinned(ds: xr.Dataset) -> xr.Dataset:
    """Evenly spaced times of all trajectories, so that there are not many more than `SNAPSHOTS` snapshots."""
    each = max(2, SNAPSHOTS // ds.sizes[TRAJECTORY])
    return ds.isel({TIME: slice(None, None, -(-ds.sizes[TIME] // each))})


def search(
    parts: Parts,
    train: Callable[[int], ROM],
    progress: Callable[[str], None] | None = None,
    sweep: bool = False,
) -> LatentSize:
    """Answers with two or three trainings; `romvae.suggest_latent` calls it with the usual one.

    Bounds from the data; one fit at the upper bound; a count of the latents with more than one nat of divergence and
    an ablation gain above 2 %, plus one; a fit at that size, accepted if on the `variance` part its bound is within two
    nats of the large one's, or its error within 5 % and its bound not lower than those 5 % cost, and two nats more;
    otherwise two latents are added. A periodic phase that the data conserve takes two latents, since a circle does not
    fit on a line.

    Arguments:
        parts: From `romvae.split`; training and `variance` part are used.
        train: `train(latent)` gives a ROM of that size whose encoder and decoder are trained on `parts.train`.
        progress: Told in words what is being tried.
        sweep: Whether to double the size from 2 to the upper bound instead: slower, and thorough.
    """
    say = progress if progress is not None else lambda text: None
    bounds = bounds_of(parts)
    upper = bounds.upper
    tried: dict[int, dict[str, float]] = {}
    spectra: dict[int, np.ndarray] = {}

    def fit(size: int) -> dict[str, float]:
        if size not in tried:
            say(f"training with {size} latents")
            rom = train(size)
            x = rom.normalised(_thinned(parts.variance), spacing=False)[0].flatten(0, 1)
            found = activity_of(rom.vae, x)
            tried[size] = {
                "error": found.relative_error,
                "active": float(found.active),
                "bound": held_out_bound(rom.vae, x).value,
                "values": float(x.shape[1] * rom.vae.decoder.points),
            }
            kl = found.table["kl"].values
            spectra[size] = np.sort(kl)[::-1] if np.isfinite(kl).all() else np.zeros(0)
        return tried[size]

    for size in [2**k for k in range(1, 6) if 2**k < upper] if sweep else []:
        fit(size)
    fit(upper)
    if sweep:
        best = tried[min(tried, key=lambda size: tried[size]["error"])]
        latent = min(size for size, found in tried.items() if _accepted(found, best))
    else:
        latent = int(min(upper, max(2, tried[upper]["active"] + 1)))
        while latent < upper and not _accepted(fit(latent), tried[upper]):
            latent = min(upper, latent + 2)
    shown = {size: {name: v for name, v in found.items() if name != "values"} for size, found in tried.items()}
    return LatentSize(latent, bounds.lower, upper, shown, spectra[upper], bounds.pod)


def _accepted(found: Mapping[str, float], best: Mapping[str, float]) -> bool:
    """Whether a size does as well as the one it is compared with: by its bound, or by its error at a fair price.

    Where the bound is as high, what the larger code reconstructs better is noise.
    """
    lost = best["bound"] - found["bound"]
    price = NATS + found["values"] * math.log(WORSE)
    return lost <= NATS or (found["error"] <= WORSE * best["error"] and lost <= price)
