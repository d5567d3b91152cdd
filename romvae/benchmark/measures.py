"""Figures that a comparison does not hold: in the definitions of published papers, and over very long runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from romvae import metrics as score
from romvae.schema import TIME, TRAJECTORY
from romvae.start import after_start, start_of

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["as_published", "attractor", "long_run"]

WINDOWS = ((6, 12), (13, 30))
HELD = 0.99


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


def long_run(rom: ROM, data: xr.Dataset, starts: xr.Dataset, steps: int, seed: int) -> dict[str, Any]:
    """Statistics of one member far beyond the training horizon beside those of the data.

    Arguments:
        rom: A trained ROM.
        data: Trajectories on the attractor, all parts.
        starts: Held-out trajectories to start from.
        steps: Stored steps; the first tenth is left out of the statistics.
        seed: Seed of the rollout.
    """
    names = list(rom.schema.field_names)
    forecast = rom.rollout(start_of(rom, starts), steps=steps, members=1, seed=seed)[names]
    settled = forecast.isel({TIME: slice(steps // 10, None)})
    return {
        "steps": steps,
        "trajectories": starts.sizes[TRAJECTORY],
        **attractor({n: settled[n].values for n in names}, {n: data[n].values for n in names}),
    }


def attractor(run: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]) -> dict[str, float | bool]:
    """How the statistics of a run differ from those of the truth, the worst over the fields.

    The energy spectrum is the mean of |u_k|^2 over trajectories and times, by the length of the wave vector. Its error
    is the sum of all differences over the sum of the true spectrum; beside it the largest relative difference among
    the wavenumbers that hold 99 % of the energy.

    Arguments:
        run: Fields by name, `(trajectory, time, *space)`.
        truth: The same of the truth, of any number of trajectories and times.
    """
    worst: dict[str, float] = {}
    for name, true in truth.items():
        own = run[name]
        e, f = _spectrum(own), _spectrum(true)
        order = np.argsort(f)[::-1]
        held = order[: int(np.searchsorted(np.cumsum(f[order]), HELD * f.sum())) + 1]
        each = {
            "largest_over_largest": float(np.abs(own).max() / np.abs(true).max()),
            "spectrum_error": float(np.abs(e - f).sum() / f.sum()),
            "spectrum_error_worst_wavenumber": float((np.abs(e - f) / f)[held].max()),
            "std_error": float(abs(own.std() / true.std() - 1)),
            "frozen": float(own[:, -1].std() > 0 and np.diff(own[:, -10:], axis=1).std() < 1e-6 * own.std()),
        }
        worst = {key: max(value, worst.get(key, -np.inf)) for key, value in each.items()}
    finite = all(bool(np.isfinite(u).all()) for u in run.values())
    return {
        **{key: value for key, value in worst.items() if key != "frozen"},
        "bounded": finite and worst["largest_over_largest"] < 2,
        "frozen": bool(worst["frozen"]),
    }


def _spectrum(u: np.ndarray) -> np.ndarray:
    """Mean energy per shell of wavenumbers in grid units, `(shell,)`, for fields `(trajectory, time, *space)`."""
    axes = tuple(range(2, u.ndim))
    energy = np.zeros(u.shape[2:])
    for row in u:
        energy += (np.abs(np.fft.fftn(row.astype(np.float64), axes=tuple(a - 1 for a in axes))) ** 2).mean(0)
    waves = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in u.shape[2:]), indexing="ij")
    shell = np.sqrt(sum(k**2 for k in waves)).round().astype(int)
    points = int(np.prod(u.shape[2:]))
    total: np.ndarray = np.bincount(shell.ravel(), energy.ravel()) / (len(u) * points**2)
    return total[: min(u.shape[2:]) // 2 + 1]
