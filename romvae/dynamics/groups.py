"""Which rows are copies of one trajectory: they count as one where trajectories are counted, set aside or drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from romvae.errors import DataError

__all__ = ["FEWEST", "Groups"]

FEWEST = 10
"""Trajectories of which every fifth is set aside to choose by; of fewer, none is."""


@dataclass(frozen=True)
class Groups:
    """Rows by trajectory: a trajectory and its copies that symmetries moved are one, since one simulation made them.

    Trajectories are numbered in the order in which they first appear, whatever the labels of their rows.

    Attributes:
        of: Number of each row's trajectory, `(row,)`.
        rows: The rows of each trajectory, in ascending order.

    >>> groups = Groups.read(torch.tensor([7, 3, 7, 3]), 4)
    >>> groups.of.tolist(), [rows.tolist() for rows in groups.rows]
    ([0, 1, 0, 1], [[0, 2], [1, 3]])
    """

    of: Tensor
    rows: tuple[Tensor, ...]

    @classmethod
    def read(cls, group: Tensor | None, n: int) -> Groups:
        """From a label per row, the same for all copies of a trajectory.

        Arguments:
            group: Integers `(row,)`; None for every row being a trajectory of its own.
            n: Number of rows.

        Raises:
            DataError: There is not one label per row.
        """
        if group is None:
            return cls(torch.arange(n), torch.arange(n).split(1))
        if tuple(group.shape) != (n,):
            raise DataError(
                f"latent dynamics: group has shape {tuple(group.shape)}, expected ({n},), the number of latents' rows. "
                "Pass one trajectory number per row, or none."
            )
        _, label = group.detach().cpu().unique(return_inverse=True)
        count = int(label.max()) + 1 if n else 0
        first = torch.full((count,), n).scatter_reduce(0, label, torch.arange(n), "amin")
        number = first.argsort().argsort()[label]
        return cls(number, number.argsort(stable=True).split(number.bincount(minlength=count).tolist()))

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self.rows)

    @property
    def first(self) -> Tensor:
        """The first row of each trajectory, `(trajectory,)`."""
        return torch.stack([rows[0] for rows in self.rows])

    def among(self, chosen: Tensor) -> Groups:
        """Those of some rows, by their indices or as boolean `(row,)`."""
        of = self.of[chosen]
        return Groups.read(of, len(of))

    def rows_of(self, trajectories: Tensor) -> Tensor:
        """All rows of trajectories `(drawn,)`, as often as they occur there: a bootstrap draws them whole."""
        return torch.cat([self.rows[k] for k in trajectories.tolist()])

    def thinned(self, most: int) -> Tensor:
        """At most so many rows: of every n-th trajectory its first copies, as many of each as there is room for."""
        kept = self.rows[:: max(1, -(-len(self) // most))]
        return torch.cat([rows[: max(1, most // len(kept))] for rows in kept])

    def held_out(self) -> Tensor | None:
        """Every fifth trajectory with all of its copies, boolean `(row,)`, to choose by; None with fewer than ten."""
        return None if len(self) < FEWEST else self.of % 5 == 4
