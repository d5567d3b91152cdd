"""Four parts by trajectory: one to learn the mean, one the variance, one to calibrate, one to test.

Snapshots of one trajectory resemble each other: a split within a trajectory would test on data that were
almost seen. And the error on new trajectories, which the variance has to learn, cannot be seen on those that
trained the mean. So whole trajectories are dealt out, each to one part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from romvae.canonical import TRAJECTORY, did_you_mean
from romvae.errors import ConfigError, DataError

__all__ = ["FRACTIONS", "MINIMUM", "PARTS", "PartName", "Parts", "in_all", "split"]

PartName = Literal["train", "variance", "calibration", "test"]
PARTS: tuple[PartName, ...] = ("train", "variance", "calibration", "test")
MINIMUM = 8

FRACTIONS = (0.5, 0.15, 0.15, 0.2)
_SPLIT = "split"


@dataclass(frozen=True, eq=False)
class Parts:
    """Snapshots split by trajectory.

    Arguments:
        train: Trajectories that the mean and the latent dynamics are fitted on.
        variance: Trajectories that the local variance is fitted on; the mean never saw them.
        calibration: Trajectories that scale the forecast's variance.
        test: Trajectories that nothing is fitted on.
        whole: All trajectories, with the coordinate `split`.
    """

    train: xr.Dataset
    variance: xr.Dataset
    calibration: xr.Dataset
    test: xr.Dataset
    whole: xr.Dataset

    @property
    def labels(self) -> xr.DataArray:
        """The part of every trajectory, `(trajectory,)`: an index into `PARTS`."""
        return self.whole[_SPLIT]

    def labelled(self) -> xr.Dataset:
        """All trajectories, with the coordinate `split`; `split` of it returns the same parts."""
        return self.whole


def split(
    ds: xr.Dataset,
    seed: int = 0,
    fractions: Mapping[str, float] | Sequence[float] | None = None,
) -> Parts:
    """Deals trajectories out to train, variance, calibration and test.

    A coordinate `split` that the data already have is used as it is.

    Arguments:
        ds: Snapshots of at least 8 trajectories.
        seed: The same seed and number of trajectories give the same parts.
        fractions: Part to share (a float) or to count (an int); a sequence is in the order train, variance,
            calibration, test. Shares divide what the counts leave and sum to one. The default is 0.5, 0.15,
            0.15 and 0.2.

    Returns:
        Four Datasets, each with its trajectories in the order of `ds`, and at least one each.

    Raises:
        DataError: There are too few trajectories, or the stored split cannot be read.
        ConfigError: The fractions do not add up, name an unknown part, or contradict a stored split.
    """
    if TRAJECTORY not in ds.dims:
        raise DataError("split: the data have no dim 'trajectory'. Add it with ds.expand_dims('trajectory')")
    if _SPLIT in ds.coords:
        if fractions is not None:
            raise ConfigError(
                "split: the data are split already, and fractions were given. "
                "Leave them out, or drop the stored split with ds.drop_vars('split')"
            )
        return _parts(ds, _stored_labels(ds[_SPLIT]))
    n = ds.sizes[TRAJECTORY]
    if n < MINIMUM:
        raise DataError(
            f"split: found {n} trajectories, needed are at least {MINIMUM} for four parts (train, variance, "
            f"calibration, test). Simulate {MINIMUM - n} more"
        )
    counts = _counts(n, _by_name(fractions))
    labels = np.empty(n, dtype=np.int8)
    labels[np.random.default_rng(seed).permutation(n)] = np.repeat(np.arange(len(PARTS)), counts)
    return _parts(ds, labels)


def in_all(part: PartName, count: int) -> int:
    """Trajectories that there are, about, where a part has `count` of them and the shares are the usual ones.

    >>> in_all("calibration", 9)
    60
    """
    return math.ceil(count / FRACTIONS[PARTS.index(part)] - 1e-9)


def _parts(ds: xr.Dataset, labels: np.ndarray) -> Parts:
    about = {
        "long_name": "part of the data that a trajectory belongs to",
        "flag_values": np.arange(len(PARTS), dtype=np.int8),
        "flag_meanings": " ".join(PARTS),
    }
    whole = ds.assign_coords({_SPLIT: (TRAJECTORY, labels.astype(np.int8), about)})
    found = {part: np.flatnonzero(labels == i) for i, part in enumerate(PARTS)}
    empty = [part for part in PARTS if not len(found[part])]
    if empty:
        raise DataError(
            f"split: the stored split has no trajectory for {', '.join(empty)}. Label at least one, or drop "
            "the split with ds.drop_vars('split')"
        )
    return Parts(**{part: whole.isel({TRAJECTORY: index}) for part, index in found.items()}, whole=whole)


def _stored_labels(stored: xr.DataArray) -> np.ndarray:
    """Indices into `PARTS`, from names or from flags."""
    if stored.dims != (TRAJECTORY,):
        raise DataError(f"split: coordinate 'split' has dims {stored.dims}, expected ('trajectory',)")
    values = stored.values
    names: dict[object, str] = {part: part for part in PARTS}
    if values.dtype.kind in "iu":
        meanings = str(stored.attrs.get("flag_meanings", "")).split()
        flags = np.atleast_1d(stored.attrs.get("flag_values", [])).tolist()
        if not meanings or len(meanings) != len(flags):
            raise DataError(
                "split: coordinate 'split' holds numbers without flag_values and flag_meanings. "
                f"Store the names of the parts instead ({', '.join(PARTS)})"
            )
        names = dict(zip(flags, meanings, strict=True))
    labels = np.empty(values.shape, dtype=np.int8)
    for i, value in enumerate(values.tolist()):
        part = names.get(value)
        if part not in PARTS:
            raise DataError(
                f"split: trajectory {i} is labelled {part or value!r}, expected one of {', '.join(PARTS)}."
                f"{did_you_mean(str(part or value), PARTS)} Relabel it, or drop the split with "
                "ds.drop_vars('split')"
            )
        labels[i] = PARTS.index(part)
    return labels


def _by_name(fractions: Mapping[str, float] | Sequence[float] | None) -> dict[str, float]:
    if fractions is None:
        return dict(zip(PARTS, FRACTIONS, strict=True))
    if not isinstance(fractions, Mapping):
        if len(fractions) != len(PARTS):
            raise ConfigError(f"split: found {len(fractions)} fractions, expected one for each of {', '.join(PARTS)}")
        return dict(zip(PARTS, fractions, strict=True))
    for name in fractions:
        if name not in PARTS:
            raise ConfigError(
                f"split: part {name!r} is unknown, expected {', '.join(PARTS)}."
                f"{did_you_mean(str(name), PARTS)} Rename it"
            )
    missing = [part for part in PARTS if part not in fractions]
    if missing:
        raise ConfigError(f"split: fractions leave out {', '.join(missing)}. Give all of {', '.join(PARTS)}")
    return dict(fractions)


def _counts(n: int, fractions: Mapping[str, float]) -> list[int]:
    """Trajectories per part: counts as given, the rest by the largest remainder, at least one each."""
    given = np.array([fractions[part] for part in PARTS], dtype=float)
    is_count = np.array([isinstance(fractions[part], int | np.integer) for part in PARTS])
    rest = n - int(given[is_count].sum())
    if not (given > 0).all():
        raise ConfigError(f"split: fractions are {dict(fractions)}, expected all of them above zero")
    if is_count.all():
        if rest:
            raise ConfigError(f"split: counts sum to {n - rest}, but there are {n} trajectories. Make them sum to {n}")
        return given.astype(int).tolist()
    shares = np.where(is_count, 0.0, given)
    if abs(shares.sum() - 1) > 1e-6:
        raise ConfigError(f"split: shares sum to {shares.sum():.6g}, expected 1 (whole numbers are counts)")
    if rest < int((~is_count).sum()):
        raise ConfigError(f"split: counts take {n - rest} of {n} trajectories and leave too few for the other parts")
    ideal = shares * rest
    counts = np.where(is_count, given, np.maximum(1, np.floor(ideal))).astype(int)
    while counts.sum() < n:
        counts[np.argmax(np.where(is_count, -np.inf, ideal - counts))] += 1
    while counts.sum() > n:
        counts[np.argmax(np.where(is_count | (counts == 1), -np.inf, counts - ideal))] -= 1
    return counts.tolist()
