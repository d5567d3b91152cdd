"""Field decoder: a latent vector becomes one number per field and grid point."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from romvae.nn.compilable import Compilable
from romvae.nn.conv import Conv, ResidualBlock
from romvae.nn.layout import Layout
from romvae.nn.parts import in_parts
from romvae.nn.precision import MixedPrecision

__all__ = ["FieldDecoder", "patches_to_grid"]


def patches_to_grid(x: Tensor, patch: int, shape: tuple[int, ...]) -> Tensor:
    """Spreads channels over patches and crops to the grid (pixel shuffle in 1, 2 or 3 dimensions).

    Arguments:
        x: Shape `(batch, channel * patch**ndim, *positions)`.
        patch: Points per axis of a patch.
        shape: Grid points per axis; positions * patch may exceed it.

    Returns:
        Shape `(batch, channel, *shape)`.
    """
    ndim = len(shape)
    batch, positions = x.shape[0], x.shape[2:]
    x = x.reshape(batch, -1, *[patch] * ndim, *positions)
    order = [0, 1]
    for axis in range(ndim):
        order += [2 + ndim + axis, 2 + axis]
    x = x.permute(order).reshape(batch, x.shape[1], *[n * patch for n in positions])
    for axis, n in enumerate(shape):
        x = x.narrow(2 + axis, 0, n)
    return x


class FieldDecoder(MixedPrecision, Compilable):
    """z -> linear path + patches of a convolutional trunk + a small smoothing correction at full resolution.

    The convolutional part starts at zero. With `linear`, the linear path starts as the POD reconstruction
    (`start_from_pod`); the decoder is then never worse than POD at the start of training. With `layout.skip` the code
    also enters every level (Dieng, Kim, Rush and Blei, 2019, Avoiding latent variable collapse with generative skip
    models, arXiv:1807.04863).

    Arguments:
        layout: Sizes of the network; its `latent` is the input dimension.
        linear: Whether there is a linear path.
        smooth: Channels of the correction at full resolution; zero leaves it out.
    """

    def __init__(self, layout: Layout, linear: bool = True, smooth: int = 4) -> None:
        super().__init__()
        self.layout = layout
        sides = layout.sides
        self.dense = _fully_connected(layout)
        self.levels = nn.ModuleList()
        widths = layout.channels[::-1]
        for level, channels in enumerate(widths):
            blocks: list[nn.Module] = [
                ResidualBlock(channels, sides, dropout=layout.dropout) for _ in range(layout.blocks)
            ]
            if level + 1 < len(widths):
                blocks.append(Conv(channels, widths[level + 1], sides, kernel=1))
            self.levels.append(nn.Sequential(*blocks))
        self.head = Conv(widths[-1], layout.fields * layout.patch**layout.ndim, sides, kernel=1)
        _zero(self.head.conv)
        self.smooth: nn.Sequential | None = None
        if smooth:
            kernel = 5 if layout.ndim == 1 else 3
            last = Conv(smooth, layout.fields, sides, kernel)
            _zero(last.conv)
            self.smooth = nn.Sequential(Conv(layout.fields, smooth, sides, kernel, given=layout.given), nn.SiLU(), last)
        self.linear = nn.Linear(layout.latent, layout.points) if linear else None
        self.skips: nn.ModuleList | None = None
        if layout.skip:
            self.skips = nn.ModuleList(nn.Linear(layout.latent, channels, bias=False) for channels in widths)
            _zero(self.skips)

    def forward(self, z: Tensor) -> Tensor:
        """Decodes latents of shape `(batch, latent)` to `(batch, channel, *space)`."""
        return in_parts(self.passing, z, math.prod(self.layout.shape))

    def one_pass(self, batch: Tensor) -> Tensor:
        """Fields of some codes."""
        layout, z = self.layout, batch
        if self.linear is not None and self._linear_alone():
            return self.linear(z).reshape(z.shape[0], layout.fields, *layout.shape)
        with self.reducing(z):
            x = patches_to_grid(self.head(self.trunk(z)), layout.patch, layout.shape)
        x = x.to(z.dtype)
        if self.linear is not None:
            x = x + self.linear(z).reshape(z.shape[0], layout.fields, *layout.shape)
        if self.smooth is not None:
            with self.reducing(z):
                correction = self.smooth(x)
            x = x + correction.to(z.dtype)
        return x

    def _linear_alone(self) -> bool:
        """Whether the convolutional part is zero and stays it, as where POD was kept: then it need not be computed."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return False
        last = [self.head.conv] if self.smooth is None else [self.head.conv, self.smooth[-1]]
        return not any(bool(parameter.any()) for layer in last for parameter in layer.parameters())

    def trunk(self, z: Tensor) -> Tensor:
        """Features of every patch, `(batch, channel, *positions)`: all that happens below full resolution."""
        layout = self.layout
        x = self.dense(z).reshape(z.shape[0], layout.channels[-1], *layout.sizes[-1])
        for level, blocks in enumerate(self.levels):
            if self.skips is not None:
                x = x + self.skips[level](z).reshape(z.shape[0], -1, *[1] * layout.ndim)
            x = blocks(x)
            if level + 1 < len(self.levels):
                x = _upsample(x, layout.sizes[-2 - level])
        return F.silu(x)

    def reset(self) -> None:
        """Makes the convolutional part zero again, as it was at the start."""
        _zero(self.head.conv)
        if self.smooth is not None:
            _zero(self.smooth[-1])

    @torch.no_grad()
    def start_from_pod(self, mean: Tensor, modes: Tensor, std: Tensor) -> None:
        """Sets the linear path to x = mean + sum_i std_i z_i modes_i; arguments as in `Encoder.start_from_pod`."""
        if self.linear is None:
            return
        self.linear.weight.mul_(1e-3)
        self.linear.weight[:, : modes.shape[0]] = (modes * std[:, None]).T.to(self.linear.weight.dtype)
        self.linear.bias.copy_(mean)

    @torch.no_grad()
    def become_pod(self, mean: Tensor, modes: Tensor, std: Tensor) -> None:
        """Makes the field the POD reconstruction and nothing else; arguments as in `Encoder.start_from_pod`."""
        if self.linear is None:
            raise ValueError("FieldDecoder.become_pod: there is no linear path. Build it with linear=True.")
        self.reset()
        self.linear.weight.zero_()
        self.start_from_pod(mean, modes, std)


def _fully_connected(layout: Layout) -> nn.Module:
    """From the code to the features of the coarsest level."""
    if not layout.expand:
        return nn.Linear(layout.latent, layout.flat)
    return nn.Sequential(
        nn.Linear(layout.latent, layout.expand),
        nn.SiLU(),
        nn.Linear(layout.expand, layout.expand),
        nn.SiLU(),
        nn.Linear(layout.expand, layout.flat),
    )


def _upsample(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Doubles every axis by repetition and crops to `size`."""
    for axis, n in enumerate(size):
        x = x.repeat_interleave(2, dim=2 + axis).narrow(2 + axis, 0, n)
    return x


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
