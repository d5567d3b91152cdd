"""Test trajectories of different length: the part in which all have one is scored, and what it leaves out is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from romvae import metrics as score
from romvae.comparison.sums import pooled_error
from romvae.errors import DataError
from romvae.ragged import even_part, existing, ragged_lengths
from romvae.schema import TIME, TRAJECTORY

__all__ = ["Uneven"]


class Uneven:
    """Which snapshots of ragged trajectories are scored, and the error over all that there are.

    Arguments:
        lengths: Times of every trajectory.
        times: Times that are stored.
        mask: True inside the domain, `(*space)`; None where all points are.

    Raises:
        DataError: Most trajectories hold a single time.
    """

    def __init__(self, lengths: NDArray[np.integer[Any]], times: int, mask: NDArray[np.bool_] | None) -> None:
        self.rows, self.times = even_part(lengths)
        if self.times < 2:
            raise DataError("test trajectories: hold one time each, at least two are needed to score a forecast.")
        self._lengths, self._stored, self._mask = lengths, times, mask
        self._wrong: list[NDArray[np.float64]] = []
        self._size: list[NDArray[np.float64]] = []

    @classmethod
    def of(cls, test: xr.Dataset, mask: NDArray[np.bool_] | None) -> Uneven | None:
        """None where all trajectories have the stored times."""
        lengths = ragged_lengths(test)
        return None if lengths is None else cls(lengths, test.sizes[TIME], mask)

    def add(self, rows: slice, truth: xr.Dataset, forecast: xr.Dataset) -> None:
        """Takes up the errors of some trajectories at all times ahead that each of them has."""
        kept = existing(self._lengths[rows], self._stored)
        kept[:, 0] = False
        names = list(map(str, truth.data_vars))
        u, v = (score.in_domain(each[names], self._mask) for each in (truth, forecast))
        wrong, size = [], []
        for name in names:
            a, b = (np.asarray(each[name].transpose(TRAJECTORY, TIME, ...).values[kept], float) for each in (u, v))
            wrong.append(((b - a) ** 2).sum())
            size.append((a**2).sum())
        self._wrong.append(np.array(wrong))
        self._size.append(np.array(size))

    def scored(self, rows: slice) -> list[int]:
        """Which of some trajectories belong to the part that is scored, counted from the first of them."""
        return [int(row) - rows.start for row in self.rows if rows.start <= row < rows.stop]

    def error(self) -> float:
        """Relative L2 error over all truth that there is, root mean square over fields."""
        return float(pooled_error(np.stack(self._wrong, 1), np.stack(self._size, 1)))

    def left_out(self) -> dict[str, Any]:
        """How much is not scored."""
        return {
            "trajectories_left_out": len(self._lengths) - len(self.rows),
            "times_left_out": self._stored - self.times,
            "share_of_snapshots_scored": float(len(self.rows) * self.times / self._lengths.sum()),
        }
