"""Which simulations to run next: those on which the networks of a ROM disagree most, spread over the candidates."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from romvae.canonical import TIME, TRAJECTORY, canonical
from romvae.distributions import moments
from romvae.errors import ConfigError, OutOfRangeWarning
from romvae.propagation import network_paths
from romvae.start import history_of

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["DISAGREEMENT", "acquire", "disagreement", "spread_picks"]

DISAGREEMENT = "disagreement"
BLOCK = 64
"""Candidates that are rolled out at once."""


def acquire(
    rom: ROM, candidates: xr.Dataset, n: int, *, steps: int | None = None, known: xr.Dataset | None = None
) -> xr.Dataset:
    r"""The n candidates that a ROM has most to learn from.

    The networks of the dynamics ensemble forecast every candidate; the score :math:`s_i` is the largest disagreement
    over lead times, a root mean square over the domain. Picking the n largest would pick neighbours. So scores count as
    the standard deviations of a Gaussian process over the candidates, with the correlation
    :math:`\exp(-d_{ij}^2 / 2 \ell^2)` in the initial codes and parameters, and candidates are picked one after the
    other by what the earlier picks (and `known`) leave of their variance.

    Disagreement sees what the dynamics does not know; what the code cannot represent moves no network.

    Arguments:
        rom: Trained, with two networks or more.
        candidates: One snapshot per trajectory, with parameters: initial fields are cheap where simulations are not.
        n: How many to pick.
        steps: Stored steps to forecast; None takes the length of a training trajectory.
        known: Starts that were simulated already: candidates near them count as explained.

    Returns:
        The picked candidates in the order of the picks, with the coordinate `disagreement(trajectory)`, in the field's
        standard deviations over the training data.

    Raises:
        ConfigError: n is out of range, or there is a single network.
        SchemaError: The candidates are not on the ROM's grid.

    References:
        Musekamp, Kalimuthu, Holzmüller, Takamoto and Niepert (2025), Active learning for neural PDE solvers, ICLR,
        arXiv:2408.01536 (disagreement, and the need for diverse batches).
    """
    candidates = canonical(candidates)
    count = candidates.sizes.get(TRAJECTORY, 0)
    if not 1 <= n <= count:
        raise ConfigError(f"acquire: n is {n}, expected 1 to the {count} candidates. Give more candidates, or lower n.")
    score, features = _scored(rom, candidates, steps)
    before = features[:0] if known is None else _features(rom, canonical(known))
    picks = spread_picks(score, features, n, before)
    chosen = candidates.isel({TRAJECTORY: picks})
    about = {
        "long_name": "largest disagreement of the networks over lead times",
        "units": "1",
        "romvae_role": "score",  # not a parameter of the trajectory
    }
    return chosen.assign_coords({DISAGREEMENT: (TRAJECTORY, score[picks], about)})


def disagreement(rom: ROM, starts: xr.Dataset, steps: int | None = None) -> xr.DataArray:
    """Largest disagreement of the networks over lead times, `(trajectory,)`; arguments as in `acquire`."""
    starts = canonical(starts)
    values, _ = _scored(rom, starts, steps)
    return xr.DataArray(values, {TRAJECTORY: starts[TRAJECTORY]}, TRAJECTORY, DISAGREEMENT)


def spread_picks(score: np.ndarray, features: np.ndarray, n: int, known: np.ndarray) -> np.ndarray:
    """Indices of n candidates, each the one with most variance left by the picks before it.

    Arguments:
        score: Standard deviations `(candidate,)`.
        features: Where the candidates are, `(candidate, feature)`.
        n: How many to pick.
        known: Where the outcome is known already, `(place, feature)`.
    """
    centre, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 1e-9 * np.abs(features).max(initial=1e-300), scale, np.inf)
    x, old = (features - centre) / scale, (known - centre) / scale
    every = x[:: max(1, len(x) // 200)]
    apart = np.sqrt(_squares(every, every)[np.triu_indices(len(every), 1)])
    length = 0.5 * float(np.median(apart)) if apart.size and np.median(apart) > 0 else 1.0
    both, first = np.concatenate([old, x]), len(old)
    size = np.concatenate([np.full(first, score.max(initial=0.0)), score])
    left = size**2
    columns = np.zeros((len(both), first + n))
    free = np.arange(len(both)) >= first
    picks: list[int] = []
    for k in range(first + n):  # a pivoted Cholesky factorisation that begins with what is known
        i = k if k < first else int(np.argmax(np.where(free, left, -np.inf)))
        kernel = size * size[i] * np.exp(-0.5 * _squares(both, both[i : i + 1])[:, 0] / length**2)
        rest = max(left[i], 1e-12 * size[i] ** 2 + 1e-300)
        columns[:, k] = (kernel - columns @ columns[i]) / np.sqrt(rest)
        left = np.maximum(left - columns[:, k] ** 2, 0.0)
        free[i] = False
        picks.append(i - first)
    return np.array(picks[first:])


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances, `(len(a), len(b))`."""
    squares: np.ndarray = ((a[:, None] - b[None]) ** 2).sum(-1)
    return squares


@torch.no_grad()
def _scored(rom: ROM, starts: xr.Dataset, steps: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Scores and features of the starts."""
    if rom.dynamics.members < 2:
        raise ConfigError(
            f"acquire: this ROM has {rom.dynamics.members} network, expected at least 2 that can disagree. Train it "
            "with --model.members 4."
        )
    if rom.schema.controls:
        raise ConfigError("acquire: this ROM is driven by controls, which candidates do not carry. Use another ROM.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # candidates may well lie outside
        x, c = rom.normalised(starts)
    steps = rom.steps_ahead if steps is None else steps
    mask = None if rom.mask is None else torch.from_numpy(rom.mask.ravel())
    scores = []
    for first in range(0, len(x), BLOCK):
        some, beside = x[first : first + BLOCK, -rom.start_times :], c[first : first + BLOCK]
        path = network_paths(rom.vae, rom.dynamics, some[:, -1], beside, steps, past=history_of(rom, some))
        worst = torch.zeros(path.shape[2])
        for z in path[:: rom.dynamics.stride]:
            mean = torch.stack([rom.vae.decoder(each).mean for each in z]).flatten(3)
            var = (mean if mask is None else mean[..., mask]).var(0).mean(-1)
            worst = torch.maximum(worst, var.sqrt().amax(-1))
        scores.append(worst)
    return torch.cat(scores).double().numpy(), _stacked(rom, x[:, -1], c)


@torch.no_grad()
def _features(rom: ROM, starts: xr.Dataset) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # so may what was asked for and is not simulated yet
        x, c = rom.normalised(starts.isel({TIME: slice(0, 1)}) if TIME in starts.dims else starts)
    return _stacked(rom, x[:, 0], c)


def _stacked(rom: ROM, x: Tensor, c: Tensor) -> np.ndarray:
    """Initial codes and parameters, `(trajectory, latent + parameter)`."""
    return torch.cat([moments(rom.vae.encoder(x))[0], c], 1).double().numpy()
