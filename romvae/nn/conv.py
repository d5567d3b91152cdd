"""Convolution in one, two or three dimensions with boundary-aware padding, and the residual block made of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from romvae.nn.padding import BoundaryPad, Sides

__all__ = ["ChannelDropout", "Conv", "ResidualBlock"]

_CONVS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Conv(nn.Module):
    """Convolution whose padding follows the boundary conditions.

    With stride one the output has the input's size. With stride s an axis of n points becomes ceil(n / s).

    Arguments:
        channels_in: Input channels.
        channels_out: Output channels.
        sides: Boundary kinds of each spatial axis; their number is the dimension.
        kernel: Kernel size, the same along every axis.
        stride: Stride, the same along every axis.
        given: Prescribed values beyond sides of kind `value`, see `BoundaryPad`.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        sides: Sequence[Sides],
        kernel: int = 3,
        stride: int = 1,
        given: Tensor | None = None,
    ) -> None:
        super().__init__()
        lower = (kernel - stride) // 2 if kernel > stride else 0
        self.kernel, self.stride, self.lower = kernel, stride, lower
        upper = kernel - 1 - lower
        self.pad = BoundaryPad(sides, [(lower, upper)] * len(sides), channels_in, given)
        self.conv = _CONVS[len(sides)](channels_in, channels_out, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pad(x))


class ChannelDropout(nn.Module):
    """Leaves out whole channels at random in training, and scales the others up so that the mean stays.

    Randomness is given: without a `generator` nothing is dropped, so that no global random state is read. Where the
    samples are the share of a larger batch, `among` is its size and which of it they are: numbers are drawn for the
    whole. A multiple of the share is several samples of each code, one after the other.

    Arguments:
        share: Probability with which a channel of a sample is left out.

    References:
        Tompson et al. (2015), Efficient object localization using convolutional networks, arXiv:1411.4280.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None
        self.among: tuple[int, slice] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.generator is None:
            return x
        kept = self._drawn(*x.shape[:2]) >= self.share
        factor = kept.to(x.dtype) / (1 - self.share)
        return x * factor.to(x.device).reshape(*x.shape[:2], *[1] * (x.ndim - 2))

    def _drawn(self, samples: int, channels: int) -> Tensor:
        if self.among is None:
            return torch.rand(samples, channels, generator=self.generator)
        whole, rows = self.among
        repeats = samples // (rows.stop - rows.start)
        drawn = torch.rand(repeats * whole, channels, generator=self.generator)
        return drawn.unflatten(0, (repeats, whole))[:, rows].flatten(0, 1)


class ResidualBlock(nn.Module):
    """x + conv(act(conv(act(x)))); the last convolution starts at zero, so the block starts as the identity.

    Arguments:
        channels: Channels in and out.
        sides: Boundary kinds of each spatial axis.
        kernel: Kernel size.
        dropout: Share of the inner channels that is left out at random in training.
    """

    def __init__(self, channels: int, sides: Sequence[Sides], kernel: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = Conv(channels, channels, sides, kernel)
        self.second = Conv(channels, channels, sides, kernel)
        nn.init.zeros_(self.second.conv.weight)
        if self.second.conv.bias is not None:
            nn.init.zeros_(self.second.conv.bias)
        self.act = nn.SiLU()
        self.dropout = ChannelDropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.dropout(self.act(self.first(self.act(x)))))
