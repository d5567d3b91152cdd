"""Padding that follows the boundary condition of each side of each axis.

A convolution near the edge needs values from beyond it. What stands there is physics, not convenience:

| kind | ghost values | exact for |
|---|---|---|
| `periodic` | from the opposite side | periodic fields |
| `reflecting` | even mirror image about the edge of the last cell | zero normal gradient |
| `wall` | odd mirror image about the last point, `2 u_edge - u_mirror` | linear fields |
| `open` | straight line through the last two points | linear fields |
| `value` | a given constant per channel | fields held at that value |
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BoundaryPad", "pad_axis"]

Sides = tuple[str, str]
KINDS = ("periodic", "wall", "reflecting", "open", "value")


def _ghost(x: Tensor, dim: int, width: int, kind: str, upper: bool, value: Tensor | None) -> Tensor:
    """Returns `width` ghost layers of `x` beyond one side of `dim`, ordered along the axis."""
    n = x.shape[dim]
    if kind == "periodic":
        if width > n:
            reps = -(-width // n)
            tiled = torch.cat([x] * reps, dim)
            return tiled.narrow(dim, 0, width) if upper else tiled.narrow(dim, reps * n - width, width)
        return x.narrow(dim, 0, width) if upper else x.narrow(dim, n - width, width)
    if kind == "value":
        shape = list(x.shape)
        shape[dim] = width
        if value is None:
            return x.new_zeros(shape)
        return value.reshape(1, -1, *[1] * (x.ndim - 2)).to(x.dtype).expand(shape)
    edge = x.narrow(dim, n - 1 if upper else 0, 1)
    if n == 1:
        return edge.expand(*[width if d == dim else -1 for d in range(x.ndim)])
    steps = torch.arange(1, width + 1, device=x.device)
    if kind == "open":
        inner = x.narrow(dim, n - 2 if upper else 1, 1)
        ramp = (steps if upper else steps.flip(0)).to(x.dtype)
        return edge + (edge - inner) * ramp.reshape([width if d == dim else 1 for d in range(x.ndim)])
    # Distance from the edge point; beyond the far side the outermost point stands in.
    distance = (steps - 1 if kind == "reflecting" else steps).clamp(max=n - 1)
    index = n - 1 - distance if upper else distance.flip(0)
    mirror = x.index_select(dim, index)
    return mirror if kind == "reflecting" else 2 * edge - mirror


def pad_axis(
    x: Tensor,
    dim: int,
    lower: int,
    upper: int,
    sides: Sides,
    values: tuple[Tensor | None, Tensor | None] = (None, None),
) -> Tensor:
    """Pads one axis by `lower` and `upper` layers according to the kinds in `sides`.

    Arguments:
        x: Tensor of shape `(batch, channel, *space)`.
        dim: Which dimension of `x` to pad.
        lower: Layers before the first point.
        upper: Layers after the last point.
        sides: Boundary kind of the lower and of the upper side.
        values: For the kind `value`, the ghost value per channel, shape `(channel,)`; None is zero.

    Returns:
        The padded tensor.
    """
    if lower == 0 and upper == 0:
        return x
    parts = [x]
    if lower:
        parts.insert(0, _ghost(x, dim, lower, sides[0], False, values[0]))
    if upper:
        parts.append(_ghost(x, dim, upper, sides[1], True, values[1]))
    return torch.cat(parts, dim)


class BoundaryPad(nn.Module):
    """Pads every spatial axis by its boundary conditions; axes are padded one after the other.

    On a side of kind `value` the ghost layers hold the given values where the channels are the fields themselves, and
    a learned constant per channel (it starts at zero) inside a network, where nothing physical could be prescribed.

    Arguments:
        sides: Kinds of the lower and upper side of each spatial axis.
        widths: Layers to add before and after each axis.
        channels: Channels of the input; needed where a side is of kind `value`.
        given: Prescribed values, shape `(axis, side, channel)`; None learns them.
    """

    def __init__(
        self,
        sides: Sequence[Sides],
        widths: Sequence[tuple[int, int]],
        channels: int,
        given: Tensor | None = None,
    ) -> None:
        super().__init__()
        for axis, pair in enumerate(sides):
            if ("periodic" in pair) and pair[0] != pair[1]:
                raise ValueError(f"axis {axis}: {pair}: a periodic side needs a periodic opposite side")
            for kind in pair:
                if kind not in KINDS:
                    raise ValueError(f"axis {axis}: unknown boundary kind {kind!r}; choose from {', '.join(KINDS)}")
        self.sides = tuple(tuple(pair) for pair in sides)
        self.widths = tuple(tuple(pair) for pair in widths)
        used = any(
            kind == "value" and width > 0
            for pair, both in zip(sides, widths, strict=True)
            for kind, width in zip(pair, both, strict=True)
        )
        self.ghost: Tensor | None
        if not used:
            self.ghost = None
        elif given is None:
            self.ghost = nn.Parameter(torch.zeros(len(self.sides), 2, channels))
        else:
            self.register_buffer("ghost", given.clone())
        self._circular = len(self.sides) <= 3 and all(pair[0] == "periodic" for pair in sides)
        self._flat = [w for pair in reversed(self.widths) for w in pair]

    def forward(self, x: Tensor) -> Tensor:
        if not any(self._flat):
            return x
        if self._circular and all(max(w) <= n for w, n in zip(self.widths, x.shape[2:], strict=True)):
            return F.pad(x, self._flat, mode="circular")
        for axis, (pair, (lower, upper)) in enumerate(zip(self.sides, self.widths, strict=True)):
            values = (None, None) if self.ghost is None else (self.ghost[axis, 0], self.ghost[axis, 1])
            x = pad_axis(x, axis + 2, lower, upper, (pair[0], pair[1]), values)
        return x
