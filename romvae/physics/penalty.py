"""A penalty on decoded fields: the mean square of a residual, or of the drift of what an equation conserves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from romvae.errors import ConfigError
from romvae.normalise import Normaliser
from romvae.physics.residual import Conserved, Residual
from romvae.schema import Schema

__all__ = ["Penalty", "PhysicsFunction"]

PhysicsFunction = Callable[[Mapping[str, Tensor], object, Mapping[str, Tensor], float], Tensor]
"""`residual(fields, grid, parameters, dt)`: fields `(batch, time, *space)` in physical units at three neighbouring
times, parameters `(batch,)`; whatever it returns should vanish."""


@dataclass(frozen=True)
class Penalty:
    """Mean squares of a residual of normalised fields, one per equation, in units of given scales.

    Arguments:
        function: Residual, conserved quantities, or a function of one's own.
        schema: Names, grid and time step.
        normaliser: From normalised to physical fields.
        scale: Mean square of each equation that counts as 1; empty for 1, infinite for one that does not count.
    """

    function: PhysicsFunction | Residual | Conserved
    schema: Schema
    normaliser: Normaliser
    scale: Sequence[float] = ()

    @property
    def drift(self) -> bool:
        """Whether the first snapshot is the given one that later ones are held to."""
        return isinstance(self.function, Conserved)

    @property
    def homogeneous(self) -> bool:
        """Whether moved copies of solutions are solutions; of a function of one's own that is not assumed."""
        return bool(getattr(self.function, "homogeneous", False))

    def squares(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Mean squares, shape `(equation,)`.

        Arguments:
            x: Normalised fields `(batch, time, channel, *space)`.
            parameters: Physical parameters `(batch, parameter)`.

        Raises:
            ConfigError: The function gave no tensor of numbers that depend on the fields, or nothing to hold to.
        """
        u = self.normaliser.inverse(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        fields = {name: u[:, :, k] for k, name in enumerate(self.schema.field_names)}
        values = {name: parameters[:, k] for k, name in enumerate(self.schema.parameter_names)}
        found = self.function(fields, self.schema.grid, values, self.schema.dt)
        if not isinstance(found, Tensor) or not found.is_floating_point() or found.numel() == 0:
            shown = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise ConfigError(
                f"physics: the residual gave {shown}, expected a tensor of floating-point numbers. "
                "Return what should vanish, computed from the fields."
            )
        if isinstance(self.function, Residual | Conserved):
            return found.square().mean([d for d in range(found.ndim) if d != 2])
        return found.square().mean().reshape(1)

    def weighed(self, squares: Tensor) -> Tensor:
        """Mean over equations of mean square over scale, a scalar."""
        if self.scale:
            squares = squares / torch.tensor(self.scale, dtype=squares.dtype, device=squares.device)
        return squares.mean()
