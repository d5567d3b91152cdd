"""Symmetries of an equation on a grid: shifts, reflections and quarter turns, with the signs of vector components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from romvae.errors import SchemaError
from romvae.grid import Axis
from romvae.schema import Schema

__all__ = ["Operation", "Symmetry", "operation", "operations_of"]


@dataclass(frozen=True)
class Operation:
    """A reflection or a quarter turn of snapshots; repeating it `order` times changes nothing.

    A reflection along a turns the sign of the a-component of every vector and of every pseudoscalar (vorticity in the
    plane). A quarter turn in the plane (a, b) takes f(a, b) to f(b, -a) and a vector's components to (-v_b, v_a).

    Arguments:
        name: `reflect_x` or `rotate_xy`, for instance.
        axis: Spatial axis that is reversed, counted from 0.
        wraps: Whether that axis is periodic: the point 0 then stays where it is.
        channels: For every field, the one that it is taken from.
        signs: For every field, the factor that it takes.
        offsets: For every field, what is added; not zero where normalisation has moved the field's zero.
        inside: Where the domain is, `(*space)`; the rest stays zero. None where all points belong to it.
        swap: Spatial axes that change places first, in a quarter turn.
        order: 2 for a reflection, 4 for a quarter turn.
    """

    name: str
    axis: int
    wraps: bool
    channels: tuple[int, ...]
    signs: tuple[float, ...]
    swap: tuple[int, int] | None = None
    order: int = 2
    offsets: tuple[float, ...] = ()
    inside: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The moved snapshots.

        Arguments:
            x: Shape `(batch, channel, *space)`; the channels may be those of several snapshots in turn.
        """
        if self.swap is not None:
            x = x.transpose(*(2 + axis for axis in self.swap))
        x = x.flip(2 + self.axis)
        if self.wraps:
            x = x.roll(1, 2 + self.axis)
        each = x.unflatten(1, (-1, len(self.channels)))[:, :, list(self.channels)]
        shape = (-1, *[1] * (x.ndim - 2))
        moved = each * torch.tensor(self.signs, dtype=x.dtype, device=x.device).reshape(shape)
        if any(self.offsets):
            moved = moved + torch.tensor(self.offsets, dtype=x.dtype, device=x.device).reshape(shape)
        moved = moved.flatten(1, 2)
        return moved if self.inside is None else torch.where(self.inside.to(x.device), moved, torch.zeros_like(moved))

    @property
    def unsigned(self) -> Operation:
        """The same for variances of fields."""
        return replace(self, signs=tuple(sign**2 for sign in self.signs), offsets=())

    def normalised(self, mean: Sequence[float], std: Sequence[float]) -> Operation:
        """The same for fields x = (u - mean) / std, one mean and one standard deviation per field."""
        pairs = list(zip(self.channels, self.signs, range(len(self.signs)), strict=True))
        signs = tuple(sign * std[source] / std[k] for source, sign, k in pairs)
        offsets = tuple((sign * mean[source] - mean[k]) / std[k] for source, sign, k in pairs)
        return replace(self, signs=signs, offsets=offsets)


@dataclass(frozen=True)
class Symmetry:
    """What may be done to a trajectory so that it stays one of the same equation.

    Arguments:
        axes: Periodic axes along which any shift is allowed, counted from 0.
        operations: Reflections and quarter turns.
    """

    axes: tuple[int, ...] = ()
    operations: tuple[Operation, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.axes or self.operations)

    def copies(self, most: int) -> int:
        """How many moved copies of a data set are worth having: `most`, or fewer where few differ."""
        if self.axes:
            return most
        found = 1
        for one in self.operations:
            found *= one.order
        return min(most, 2 * found) if found > 1 else 1

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> list[Tensor]:
        """For every axis a random number of points per snapshot, for every operation how often it is done.

        Arguments:
            shape: Of the snapshots, `(batch, channel, *space)`.
            generator: Source of the numbers.
        """
        tops = [shape[axis + 2] for axis in self.axes] + [one.order for one in self.operations]
        return [torch.randint(top, (shape[0],), generator=generator) for top in tops]

    def apply(self, x: Tensor, drawn: Sequence[Tensor]) -> Tensor:
        """Moves every snapshot `(batch, channel, *space)` by its own numbers."""
        for axis, shift in zip(self.axes, drawn, strict=False):
            x = _rolled(x, axis + 2, shift)
        for one, times in zip(self.operations, drawn[len(self.axes) :], strict=True):
            for k in range(1, one.order):
                chosen = (times >= k).to(x.device).reshape(-1, *[1] * (x.ndim - 1))
                x = torch.where(chosen, one(x), x)
        return x

    def random(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Moves every snapshot `(batch, channel, *space)` at random."""
        return self.apply(x, self.draw(x.shape, generator)) if self else x


def _rolled(x: Tensor, dim: int, shift: Tensor) -> Tensor:
    batch, n = x.shape[0], x.shape[dim]
    index = (torch.arange(n) + shift[:, None]) % n
    shape = [batch] + [1] * (x.ndim - 1)
    shape[dim] = n
    return x.gather(dim, index.to(x.device).reshape(shape).expand_as(x))


def operations_of(schema: Schema, mask: np.ndarray | None = None) -> tuple[Operation, ...]:
    """The reflections and quarter turns that a schema declares.

    Raises:
        SchemaError: One is unknown, or grid, boundaries, fields or obstacle are not symmetric in that way.
    """
    return tuple(operation(name, schema, mask) for name in schema.symmetries)


def operation(name: str, schema: Schema, mask: np.ndarray | None = None) -> Operation:
    """The operation of a name, `reflect_x` or `rotate_xy`, on a grid with its fields.

    Arguments:
        name: What is declared in the attribute `symmetries` of the data.
        schema: Fields, grid and boundary conditions.
        mask: Where the domain is, `(*space)`.

    Raises:
        SchemaError: It is unknown, or grid, boundaries, fields or obstacle are not symmetric in that way.
    """
    kind, _, letters = name.partition("_")
    names = schema.grid.names
    known = [f"reflect_{a}" for a in names] + [f"rotate_{b}{a}" for i, a in enumerate(names) for b in names[i + 1 :]]
    if name not in known:
        raise SchemaError(f"symmetry {name!r} is unknown, expected one of {', '.join(known)}")
    places = [names.index(letter) for letter in letters]
    axes = [schema.grid.axes[place] for place in places]
    found = _reflection(name, schema, places[0]) if kind == "reflect" else _quarter_turn(name, schema, places)
    why = _mirrored(axes[0], schema, found) if kind == "reflect" else _alike(axes[0], axes[1])
    if not why and mask is not None:
        whole = torch.from_numpy(np.broadcast_to(mask, (len(schema.fields), *mask.shape)).astype(np.float32))[None]
        why = "" if torch.equal(found.unsigned(whole), whole) else "the obstacle is not symmetric in that way"
        found = replace(found, inside=torch.from_numpy(np.array(mask, dtype=bool)))
    if why:
        raise SchemaError(f"symmetry {name!r}: {why}. Take it out of the attribute `symmetries`")
    return found


def _reflection(name: str, schema: Schema, axis: int) -> Operation:
    letter = schema.grid.names[axis]
    signs = tuple(-1.0 if f.pseudoscalar or f.component == letter else 1.0 for f in schema.fields)
    return Operation(name, axis, schema.grid.axes[axis].periodic, tuple(range(len(signs))), signs)


def _quarter_turn(name: str, schema: Schema, places: Sequence[int]) -> Operation:
    a, b = (schema.grid.names[place] for place in places)
    channels, signs = [], []
    for k, field in enumerate(schema.fields):
        if field.component not in (a, b):
            channels.append(k)
            signs.append(1.0)
            continue
        other = b if field.component == a else a
        partner = [i for i, f in enumerate(schema.fields) if (f.vector, f.component) == (field.vector, other)]
        if not partner:
            raise SchemaError(f"symmetry {name!r}: vector {field.vector!r} has no component {other!r}. Add it")
        channels.append(partner[0])
        signs.append(-1.0 if field.component == a else 1.0)
    first, second = places
    wraps = schema.grid.axes[first].periodic
    return Operation(name, first, wraps, tuple(channels), tuple(signs), (second, first), 4)


def _mirrored(axis: Axis, schema: Schema, found: Operation) -> str:
    """Why the grid does not allow a reflection; empty where it does."""
    if axis.lower.kind != axis.upper.kind:
        return f"{axis.name!r} is {axis.lower.kind!r} at one end and {axis.upper.kind!r} at the other"
    low, high = dict(axis.lower.value), dict(axis.upper.value)
    for field, sign in zip(schema.fields, found.signs, strict=True):
        if low.get(field.name, 0.0) != sign * high.get(field.name, 0.0):
            return f"the values of {field.name!r} at the two ends of {axis.name!r} do not go over into each other"
    coordinates = np.asarray(axis.coordinates)
    centre = coordinates + coordinates[::-1]
    if np.ptp(centre) > 1e-4 * float(np.diff(coordinates).min()):
        return f"the points of {axis.name!r} are not the same seen from its other end"
    return ""


def _alike(one: Axis, other: Axis) -> str:
    """Why the grid does not allow a quarter turn; empty where it does."""
    if one.size != other.size:
        return f"{one.name!r} has {one.size} points, {other.name!r} has {other.size}"
    if {one.lower, one.upper, other.lower, other.upper} != {one.lower}:
        return f"{one.name!r} and {other.name!r} have other boundary conditions"
    steps, others = np.diff(one.coordinates), np.diff(other.coordinates)
    if np.abs(steps - others).max() > 1e-4 * float(np.abs(steps).max()):
        return f"the points of {one.name!r} and {other.name!r} have other distances"
    return ""
