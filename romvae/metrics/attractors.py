"""Statistics of long runs: two runs of a chaotic flow part, what they visit and how often should not.

Snapshots come some at a time, so that a run may be as long as one likes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from romvae.errors import DataError
from romvae.metrics.matching import space_dims
from romvae.metrics.spectra import spectral_error

__all__ = ["FieldStatistics", "attractor", "attractor_differences", "long_run"]

HELD = 0.99
"""Share of the energy that those wavenumbers hold whose errors are looked at one by one."""
BOUND = 2.0
"""Largest value over that of the truth up to which a run counts as bounded."""
TAIL, STILL = 10, 1e-6
"""Last times of a run, and the share of the standard deviation below which it does not move over them any more."""


class FieldStatistics:
    """Mean, deviation, largest value, spectrum and distribution of one field, over all snapshots that have come.

    Arguments:
        mask: True inside the domain, `(*space)`; None where all points are. Spectra see zeros outside.
        points: Values of every snapshot that stand for its distribution, the same random points each time; None keeps
            all of them.
        tail: Whether the last times of every block are kept, which tell whether the run still moves.
    """

    def __init__(self, mask: NDArray[np.bool_] | None = None, points: int | None = None, tail: bool = False) -> None:
        self.mask, self.points, self.tail = mask, points, tail
        self.count, self.mean, self.finite, self.largest = 0, 0.0, True, 0.0
        self._squares, self._snapshots = 0.0, 0
        self._energy: NDArray[np.float64] | None = None
        self._values: list[NDArray[np.float64]] = []
        self._tails: dict[int, NDArray[np.float64]] = {}

    def add(self, values: NDArray[np.floating], block: int = 0) -> None:
        """Takes up `(trajectory, time, *space)`.

        Arguments:
            values: Of these, times follow those that the same block brought before.
            block: Which trajectories these are.
        """
        u = np.asarray(values, dtype=np.float64)
        if self.mask is not None:
            u = np.where(self.mask, u, 0.0)
        inside = u.reshape(*u.shape[:2], -1) if self.mask is None else u[..., self.mask]
        self.finite = self.finite and bool(np.isfinite(inside).all())
        self.largest = max(self.largest, float(np.abs(inside).max()))
        own, total = float(inside.mean()), self.count + inside.size
        shift = own - self.mean  # Chan, Golub and LeVeque (1979), as for the members of a forecast
        self._squares += float(((inside - own) ** 2).sum()) + shift**2 * self.count * inside.size / total
        self.mean += shift * inside.size / total
        self.count = total
        self._snapshots += u.shape[0] * u.shape[1]
        for row in u:
            power = (np.abs(np.fft.fftn(row, axes=tuple(range(1, row.ndim)))) ** 2).sum(0)
            self._energy = power if self._energy is None else self._energy + power
        size = inside.shape[-1]
        few = None if self.points is None or self.points >= size else self.points
        pick = slice(None) if few is None else np.random.default_rng(0).permutation(size)[:few]
        self._values.append(inside[..., pick].ravel())
        if self.tail:
            before = self._tails.get(block)
            self._tails[block] = (inside if before is None else np.concatenate([before, inside], 1))[:, -TAIL:]

    @property
    def std(self) -> float:
        """Standard deviation over all values."""
        return float(np.sqrt(self._squares / self.count))

    @property
    def values(self) -> NDArray[np.float64]:
        """Those that stand for the distribution."""
        return np.concatenate(self._values)

    @property
    def frozen(self) -> bool:
        """Whether a trajectory is the same at its last times, to a millionth of the standard deviation."""
        changes = [np.diff(each, axis=1) for each in self._tails.values() if each.shape[1] > 1]
        return any(bool((np.sqrt((each**2).mean((1, 2))) <= STILL * self.std).any()) for each in changes)

    @property
    def spectrum(self) -> NDArray[np.float64]:
        """Mean energy per shell of wavenumbers in grid units, `(shell,)`: |u_k|^2 by the length of the wave vector."""
        energy = np.zeros((1,)) if self._energy is None else self._energy
        shape, points = energy.shape, energy.size
        waves = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in shape), indexing="ij")
        shell = np.sqrt(sum(k**2 for k in waves)).round().astype(int)
        total: NDArray[np.float64] = np.bincount(shell.ravel(), energy.ravel()) / (self._snapshots * points**2)
        return total[: min(shape) // 2 + 1]


def attractor(
    run: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], mask: NDArray[np.bool_] | None = None
) -> dict[str, float | bool]:
    """How the statistics of a run differ from those of the truth, the worst over the fields.

    Arguments:
        run: Fields by name, `(trajectory, time, *space)`.
        truth: The same of the truth, of any number of trajectories and times.
        mask: True inside the domain.

    Returns:
        As `attractor_differences`.
    """
    both = []
    for fields in (run, truth):
        found = {name: FieldStatistics(mask, tail=fields is run) for name in truth}
        for name, each in found.items():
            each.add(fields[name])
        both.append(found)
    return attractor_differences(*both)


def attractor_differences(
    run: Mapping[str, FieldStatistics], truth: Mapping[str, FieldStatistics]
) -> dict[str, float | bool]:
    """The worst difference over the fields, whether the run stayed bounded, and whether it came to rest.

    Arguments:
        run: By the name of the field.
        truth: The same of the truth.

    Returns:
        `spectrum_error`, the sum of all differences of the energy spectra over the sum of the true one, and
        `spectrum_error_worst_wavenumber`, the largest relative one among the wavenumbers that hold 99 % of the energy;
        `std_error`, relative; `mean_error` and `distribution_error`, the difference of the means and the Wasserstein-1
        distance between the distributions of values, both over the truth's standard deviation;
        `largest_over_largest`, of absolute values; `bounded`, whether that is below 2 and all values are finite; and
        `frozen`, whether a field of a trajectory stopped moving.
    """
    worst: dict[str, float] = {}
    for name, true in truth.items():
        for key, value in _differences(run[name], true).items():
            worst[key] = max(value, worst.get(key, -np.inf))
    finite = all(each.finite for each in run.values())
    return {
        **worst,
        "bounded": finite and worst["largest_over_largest"] < BOUND,
        "frozen": any(each.frozen for each in run.values()),
    }


def _differences(run: FieldStatistics, true: FieldStatistics) -> dict[str, float]:
    e, f = run.spectrum, true.spectrum
    order = np.argsort(f)[::-1]
    held = order[: int(np.searchsorted(np.cumsum(f[order]), HELD * f.sum())) + 1]
    finite = run.finite and true.finite
    with np.errstate(divide="ignore", invalid="ignore"):
        std = np.float64(true.std)
        apart = stats.wasserstein_distance(run.values, true.values) if finite else np.nan
        return {
            "largest_over_largest": float(run.largest / np.float64(true.largest)),
            "spectrum_error": float(np.abs(e - f).sum() / f.sum()),
            "spectrum_error_worst_wavenumber": float((np.abs(e - f) / f)[held].max()),
            "std_error": float(abs(run.std / std - 1)),
            "mean_error": float(abs(run.mean - true.mean) / std),
            "distribution_error": float(apart / std),
        }


def long_run(truth: xr.DataArray, forecast: xr.DataArray, window: bool = False) -> dict[str, float]:
    """Statistics of two long runs of one field, for chaotic flows: the runs themselves part, these should not.

    Trajectories and times are pooled; the two need not have the same ones, only the same grid.

    Arguments:
        truth: Reference run on its attractor.
        forecast: Forecast run.
        window: As in `spectrum`, for axes that are not periodic.

    Returns:
        `mean`: difference of the means over the truth's standard deviation; `std`: ratio of standard deviations minus
        1; `distribution`: Wasserstein-1 distance between the distributions of values over the truth's standard
        deviation; `spectrum`: `spectral_error`; `largest`: largest absolute value over the truth's.

    Raises:
        DataError: The grids differ.
    """
    space = space_dims(truth)
    if space != space_dims(forecast) or any(not np.array_equal(truth[d], forecast[d]) for d in space):
        raise DataError("long_run: the two runs are on different grids. Interpolate one of them first.")
    u, v = (np.asarray(each.transpose(..., *space).values, dtype=np.float64) for each in (truth, forecast))
    u, v = (each.reshape(-1, *each.shape[each.ndim - len(space) :]) for each in (u, v))
    true, own = FieldStatistics(), FieldStatistics()
    true.add(u[None])
    own.add(v[None])
    coords = {d: truth[d].values for d in space}
    pooled = [xr.DataArray(each, coords, ["sample", *space]) for each in (u, v)]
    count = min(len(u), len(v))
    picks = [each.isel(sample=np.linspace(0, each.sizes["sample"] - 1, count).round().astype(int)) for each in pooled]
    return {
        "mean": (own.mean - true.mean) / true.std,
        "std": own.std / true.std - 1,
        "distribution": float(stats.wasserstein_distance(true.values, own.values)) / true.std,
        "spectrum": float(spectral_error(picks[0], picks[1], window=window)),
        "largest": own.largest / true.largest,
    }
