"""Decoding a region of the grid: the trunk runs on patches, and full resolution is computed where it is wanted."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from romvae.nn.conv import Conv
from romvae.nn.decoder import FieldDecoder, patches_to_grid
from romvae.nn.linear import LinearDecoder
from romvae.nn.observation import Observation

__all__ = ["windowed"]

Window = Sequence[slice]


def windowed(decoder: Observation, window: Window) -> Observation:
    """The same observation model on some points of the grid, with the weights as they are now: for evaluation.

    Arguments:
        decoder: Of the whole grid.
        window: Points along each axis, `slice(start, stop)`.

    Returns:
        p(x | z) whose events are `(channel, *points of the window)`.
    """
    part = copy.copy(decoder)
    part._modules, part._buffers = dict(decoder._modules), dict(decoder._buffers)
    for name in ("mean", "log_var"):
        whole = decoder._modules.get(name)
        if isinstance(whole, FieldDecoder | LinearDecoder):
            part._modules[name] = _Part(whole, tuple(window))
    if decoder.mask is not None:
        part._buffers["mask"] = decoder.mask[tuple(window)]
    return part


class _Part(nn.Module):
    """A decoder on a window of its grid.

    The correction at full resolution sees a few points around the window. Where those would lie beyond the grid, what
    stands there depends on the boundary condition: such an axis is computed as a whole and cut afterwards.
    """

    def __init__(self, whole: FieldDecoder | LinearDecoder, window: tuple[slice, ...]) -> None:
        super().__init__()
        layout = whole.layout
        self._whole, self.layout = [whole], replace(layout, shape=tuple(w.stop - w.start for w in window))
        smooth = whole.smooth if isinstance(whole, FieldDecoder) else None
        margin = 0 if smooth is None else sum(m.kernel // 2 for m in smooth if isinstance(m, Conv))
        wide, positions = [], []
        patch = layout.patch
        for w, n in zip(window, layout.shape, strict=True):
            low, high = w.start - margin, w.stop + margin
            one = slice(0, n) if low < 0 or high > n else slice(low, high)
            positions.append(slice(one.start // patch, -(-one.stop // patch)))
            wide.append(one)
        self._positions = tuple(positions)
        self._wide = tuple(wide)
        self._inner = tuple(slice(w.start - o.start, w.stop - o.start) for w, o in zip(window, wide, strict=True))
        self._linear: tuple[Tensor, Tensor] | None = None
        if whole.linear is not None:
            index = torch.arange(layout.points).reshape(layout.fields, *layout.shape)
            rows = index[(slice(None), *self._wide)].reshape(-1).to(whole.linear.weight.device)
            self._linear = whole.linear.weight.detach()[rows], whole.linear.bias.detach()[rows]

    def forward(self, z: Tensor) -> Tensor:
        whole, batch = self._whole[0], z.shape[0]
        sizes = tuple(w.stop - w.start for w in self._wide)
        linear = z.new_zeros(())
        if self._linear is not None:
            linear = nn.functional.linear(z, *self._linear).reshape(batch, self.layout.fields, *sizes)
        if isinstance(whole, LinearDecoder):
            return linear
        patch = whole.layout.patch
        trunk = whole.trunk(z)[(slice(None), slice(None), *self._positions)]
        shape = tuple(w.stop - p.start * patch for w, p in zip(self._wide, self._positions, strict=True))
        x = patches_to_grid(whole.head(trunk), patch, shape)
        first = (slice(w.start - p.start * patch, None) for w, p in zip(self._wide, self._positions, strict=True))
        x = x[(slice(None), slice(None), *first)] + linear
        if whole.smooth is not None:
            x = x + whole.smooth(x)
        return x[(slice(None), slice(None), *self._inner)]
