"""What an equation is to a penalty: rates of change, constraints and conserved quantities of physical fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from romvae.grid import Grid
from romvae.physics.derivatives import Derivatives

__all__ = ["Equation", "State", "volume_mean"]

Quantities = Mapping[str, Tensor]


@dataclass(frozen=True)
class State:
    """Physical fields at some times, with what their derivatives need.

    Arguments:
        fields: Name to values `(batch, time, *space)`.
        parameters: Name to values that broadcast against the fields.
        d: Derivatives on the grid.
    """

    fields: Quantities
    parameters: Quantities
    d: Derivatives

    def __getitem__(self, name: str) -> Tensor:
        return self.fields[name]

    def coordinate(self, axis: str) -> Tensor:
        """Coordinates of an axis, in a shape that broadcasts against the fields."""
        grid = self.d.grid
        place = grid.names.index(axis)
        like = next(iter(self.fields.values()))
        values = torch.tensor(grid.axes[place].coordinates, dtype=like.dtype, device=like.device)
        return values.reshape(-1, *[1] * (grid.ndim - 1 - place))


def _fields(state: State) -> Quantities:
    return state.fields


def _nothing(state: State) -> Quantities:
    return {}


def _everywhere(grid: Grid, mask: Tensor | None) -> Mapping[str, Tensor]:
    return {}


@dataclass(frozen=True)
class Equation:
    """dq/dt = rate for quantities q of the fields, and constraint = 0, at every point and time.

    Arguments:
        text: The equation in plain text.
        rate: Right-hand sides by the name of the quantity that changes.
        evolved: The quantities; by default the fields themselves.
        constraints: What vanishes at all times, by name.
        conserved: What keeps its value: name to `(batch, time)`; a mean, an energy.
        inside: `inside(grid, mask)` gives, by the name of a rate or constraint, where it is required, `(*space)`, with
            the key "" for those that are not named; by default everywhere.
        derivatives: Makes the derivatives that suit it from the grid.
        homogeneous: Whether no coordinate enters: moved copies of a solution then are solutions, where the grid wraps.
        left_out: What is not required, in words.
    """

    text: str
    rate: Callable[[State], Quantities] = _nothing
    evolved: Callable[[State], Quantities] = _fields
    constraints: Callable[[State], Quantities] = _nothing
    conserved: Callable[[State], Quantities] = _nothing
    inside: Callable[[Grid, Tensor | None], Mapping[str, Tensor]] = _everywhere
    derivatives: Callable[[Grid], Derivatives] = field(default=Derivatives)
    homogeneous: bool = True
    left_out: str = ""


def volume_mean(u: Tensor, d: Derivatives) -> Tensor:
    """The mean over space, `(batch, time)`; of cells of one size."""
    return u.mean(tuple(range(-d.grid.ndim, 0)))
