"""Least squares in closed form for what dynamics start from, and which trajectories judge it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from romvae.dynamics.groups import FEWEST, Groups

__all__ = ["RIDGES", "ROWS", "Regression", "centred", "held_out", "some_of"]

RIDGES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Penalties that are tried."""
ROWS = 40_000
"""Samples that a regression takes; of more, some at random."""


@dataclass(frozen=True)
class Regression:
    """Normal equations, each feature divided by its root mean square; the first feature is a constant.

    They are summed block by block, and one pass over the data serves all penalties and choices that are tried.
    """

    gram: Tensor
    right: Tensor
    size: Tensor
    rows: int

    @classmethod
    def of(cls, blocks: Iterable[tuple[Tensor, Tensor]]) -> Regression:
        """From features `(sample, feature)` and targets `(sample, target)` in parts."""
        gram, right, rows = torch.zeros(()), torch.zeros(()), 0
        for features, targets in blocks:
            gram, right = gram + features.T @ features, right + features.T @ targets
            rows += len(features)
        size = (gram.diagonal() / rows).sqrt()
        size = torch.where(size > 0, size, torch.ones_like(size))
        return cls(gram / size / size[:, None], right / size[:, None], size, rows)

    def weights(self, ridge: float, used: Tensor | None = None) -> Tensor:
        """Of the features that are used; the penalty is relative to the number of rows, and spares the constant."""
        rows = torch.arange(len(self.right)) if used is None else used.nonzero()[:, 0]
        return self._solved(ridge, rows, self.right[rows])

    def moved(
        self,
        blocks: Iterable[tuple[Tensor, Tensor, Tensor]],
        ridge: float,
        used: Tensor,
        times: Sequence[Tensor],
    ) -> list[Tensor]:
        """Weights of samples that were drawn with replacement, to first order in how often each row was drawn.

        Arguments:
            blocks: Features and targets again, and for each sample the row that it is of.
            ridge: The penalty.
            used: Which features are.
            times: How often each row was drawn, `(row,)`, one for each sample.
        """
        rows = used.nonzero()[:, 0]
        whole = self.weights(ridge, used)
        rights = [torch.zeros_like(self.right[rows]) for _ in times]
        for features, targets, row in blocks:
            residual, some = targets - features @ whole, features[:, rows].T
            for right, each in zip(rights, times, strict=True):
                right += some @ (residual * (each[row] - 1).to(residual)[:, None])
        return [whole + self._solved(ridge, rows, right / self.size[rows, None]) for right in rights]

    def _solved(self, ridge: float, rows: Tensor, right: Tensor) -> Tensor:
        penalty = torch.full((len(rows),), ridge * self.rows, dtype=self.gram.dtype)
        penalty[0] = 1e-12 * self.rows
        solved = torch.linalg.solve(self.gram[rows][:, rows] + penalty.diag(), right)
        return torch.zeros_like(self.right).index_copy(0, rows, solved / self.size[rows, None])


def centred(drawn: Sequence[Tensor], whole: Tensor) -> Tensor:
    """Fits of samples, `(sample, ...)`, their mean moved to the fit of all and their spread made unbiased."""
    parts = torch.stack(list(drawn))
    wider = (len(parts) / max(1, len(parts) - 1)) ** 0.5
    return whole + wider * (parts - parts.mean(0))


def some_of(rows: Tensor, most: int) -> Tensor:
    """At most so many of them, always the same random ones: every n-th may well be copies of one trajectory."""
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:most].sort().values]


def held_out(c: Tensor, n: int, group: Tensor | None = None) -> Tensor | None:
    """Every fifth trajectory, boolean `(n,)`, to choose by; None where there are too few.

    Copies of a trajectory are on one side, and so are trajectories with the same parameters, unless nearly all have
    them.

    Arguments:
        c: Parameters `(n, parameter)`.
        n: Number of rows.
        group: Trajectory that each row is a copy of, `(n,)`; None for rows that are all their own.
    """
    groups = Groups.read(group, n)
    if len(groups) < FEWEST:
        return None
    number = torch.arange(len(groups))
    if c.shape[1]:
        _, found = c[groups.first].unique(dim=0, return_inverse=True)
        if int(found.max()) >= FEWEST - 1:
            number = found
    held = (number % 5 == 4)[groups.of]
    return held if bool(held.any()) and not bool(held.all()) else None
