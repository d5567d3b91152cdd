"""Trajectories of different length: which snapshots exist, and the part of the data where all have one length."""

from __future__ import annotations

import numpy as np
import xarray as xr

from romvae.canonical import N_STEPS, TIME, TRAJECTORY, lengths_of

__all__ = ["even_part", "even_snapshots", "existing", "ragged_lengths", "thinned"]


def ragged_lengths(ds: xr.Dataset) -> np.ndarray | None:
    """Times of every trajectory, `(trajectory,)`, where they differ from the number of stored ones; else None.

    Times may have been cut off since `n_steps` was written: no trajectory has more of them than are stored.
    """
    lengths = lengths_of(ds)
    if lengths is None or TIME not in ds.dims or not (lengths < ds.sizes[TIME]).any():
        return None
    return np.minimum(lengths, ds.sizes[TIME])


def existing(lengths: np.ndarray, times: int) -> np.ndarray:
    """Which snapshots there are, boolean `(trajectory, time)`."""
    return np.arange(times) < np.asarray(lengths)[:, None]


def even_part(lengths: np.ndarray, least: int = 1) -> tuple[np.ndarray, int]:
    """Trajectories and times of the largest part of ragged data in which all trajectories have one length.

    Longer trajectories are cut to that length, shorter ones left out; the length is the one that keeps most snapshots,
    those that are `least` times away from the end not counted.

    Arguments:
        lengths: Times of every trajectory.
        least: Times that a trajectory has to have more than; 1 where pairs of neighbours are wanted.

    Returns:
        Indices of the trajectories, in their order, and the number of times.

    >>> even_part(np.array([10, 4, 9, 9]))
    (array([0, 2, 3]), 9)
    """
    candidates = np.unique(lengths)
    kept = np.array([(lengths >= n).sum() * max(0, n - least) for n in candidates])
    times = int(candidates[len(kept) - 1 - np.argmax(kept[::-1])])
    return np.flatnonzero(lengths >= times), times


def even_snapshots(ds: xr.Dataset, least: int = 1) -> xr.Dataset:
    """The part of snapshots that `even_part` chooses, without `n_steps`; what is not ragged comes back as it is."""
    lengths = ragged_lengths(ds)
    if lengths is None:
        return ds
    rows, times = even_part(lengths, least)
    return ds.isel({TRAJECTORY: rows, TIME: slice(0, times)}).drop_vars(N_STEPS)


def thinned(ds: xr.Dataset, every: int) -> xr.Dataset:
    """Every n-th time, and `n_steps` counting those that are left."""
    some = ds.isel({TIME: slice(None, None, every)})
    if lengths_of(ds) is None:
        return some
    steps = ds[N_STEPS].variable
    return some.assign_coords({N_STEPS: (TRAJECTORY, -(-steps.values // every), steps.attrs)})
