"""The sizes of a network's levels, as a function of the grid: shared by encoder and decoder."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from romvae.nn.padding import Sides

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """What the convolutional trunk looks like on a given grid.

    A patch of `patch` points per axis becomes one position of the first level; every further level halves the
    positions. Nothing but the outermost layers runs at full resolution.

    Arguments:
        fields: Number of physical fields (channels of the normalised snapshot).
        shape: Grid points per spatial axis.
        sides: Boundary kind of the lower and upper side of each axis.
        latent: Latent dimension.
        patch: Points per axis in one patch.
        channels: Channels of each level, finest first.
        blocks: Residual blocks per level.
        values: For sides of kind `value`, the prescribed value of each field in normalised units, by axis and side;
            empty where no side is.
        skip: Whether the code enters every level of the decoder, and not the coarsest alone.
        dropout: Share of channels that residual blocks leave out at random in training.
        expand: Width of two fully connected hidden layers between the code and the coarsest level of the decoder; zero
            leaves them out, and the features there are linear in the code.
    """

    fields: int
    shape: tuple[int, ...]
    sides: tuple[Sides, ...]
    latent: int
    patch: int
    channels: tuple[int, ...]
    blocks: int = 2
    values: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()
    skip: bool = False
    dropout: float = 0.0
    expand: int = 0

    @property
    def given(self) -> Tensor | None:
        """`values` as a tensor `(axis, side, field)`, for the layers whose channels are the fields."""
        return torch.tensor(self.values) if self.values else None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def points(self) -> int:
        return self.fields * math.prod(self.shape)

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """Positions per axis at each level, finest first; a size that is no multiple is rounded up."""
        size = tuple(-(-n // self.patch) for n in self.shape)
        sizes = [size]
        for _ in self.channels[1:]:
            size = tuple(-(-n // 2) for n in size)
            sizes.append(size)
        return tuple(sizes)

    @property
    def flat(self) -> int:
        """Number of features at the coarsest level."""
        return self.channels[-1] * math.prod(self.sizes[-1])

    @classmethod
    def for_grid(
        cls,
        fields: int,
        shape: tuple[int, ...],
        sides: tuple[Sides, ...],
        latent: int,
        patch: int | None = None,
        channels: int | None = None,
        blocks: int = 2,
        values: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (),
        skip: bool = False,
        dropout: float = 0.0,
        expand: int | None = 0,
    ) -> Layout:
        """Chooses patch and levels for a grid so that a step on a CPU stays cheap.

        The patch is the largest of a short list that leaves at least 8 positions along the shortest axis (32 in one
        dimension), preferring one that divides every axis; levels are added until about 8 positions per axis remain.
        In two dimensions a grid that needs no second level has 64 channels, and an `expand` of None is 8 times the
        channels: fully connected layers cost a CPU a fraction of convolutions on fine patches and place fronts better.
        """
        if patch is None:
            patch = _patch(shape)
        size = [-(-n // patch) for n in shape]
        if channels is None:
            channels = {1: 32, 2: 32 if max(size) > 8 else 64, 3: 24}[len(shape)]
        if expand is None:
            expand = 8 * channels if len(shape) == 2 else 0
        widths = [channels]
        while max(size) > 8 and len(widths) < 6:
            size = [-(-n // 2) for n in size]
            widths.append(min(widths[-1] * 2, 4 * channels))
        return cls(
            fields, tuple(shape), tuple(sides), latent, patch, tuple(widths), blocks, values, skip, dropout, expand
        )


def _patch(shape: tuple[int, ...]) -> int:
    candidates = {1: range(4, 17), 2: range(2, 9), 3: range(2, 5)}[len(shape)]
    positions = {1: 32, 2: 8, 3: 8}[len(shape)]
    fitting = [p for p in candidates if min(shape) >= p * positions] or [min(candidates)]
    dividing = [p for p in fitting if all(n % p == 0 for n in shape)]
    return max(dividing) if dividing else max(fitting)
