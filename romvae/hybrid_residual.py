"""Mean squares of an equation's residual along decoded forecasts, one number per trajectory, time and equation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from romvae.errors import ConfigError
from romvae.physics.penalty import PhysicsFunction
from romvae.physics.residual import Conserved, Residual, residual_of
from romvae.schema import Schema
from romvae.solvers import Case

__all__ = ["known_residual", "squares"]


def known_residual(solver: object) -> Residual | None:
    """The residual of a case, or of its name; None for a solver of one's own and where the equation is not known."""
    if not isinstance(solver, Case | str):
        return None
    try:
        return residual_of(solver)
    except ConfigError:
        return None


def squares(
    function: PhysicsFunction | Residual | Conserved, u: Tensor, schema: Schema, parameters: Mapping[str, Tensor]
) -> Tensor:
    """Mean squares over the points, `(trajectory, time - 2, equation)`: that of the times k, k + 1, k + 2 at k.

    Arguments:
        function: Is given three neighbouring times at once, as in training.
        u: Physical fields `(trajectory, time, field, *space)`, at least three times.
        schema: Names, grid and time step.
        parameters: Name to physical values `(trajectory,)`.

    Raises:
        ConfigError: The function gave no tensor whose first dim is that of the fields.
    """
    n, centres = u.shape[0], u.shape[1] - 2
    triples = torch.stack([u[:, k : k + centres] for k in range(3)], 2).flatten(0, 1)
    fields = {name: triples[:, :, k] for k, name in enumerate(schema.field_names)}
    values = {name: value.repeat_interleave(centres) for name, value in parameters.items()}
    found = function(fields, schema.grid, values, schema.dt)
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.shape[:1] != (n * centres,):
        shown = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(
            f"hybrid: the residual gave {shown}, expected a tensor of floating-point numbers whose first dim is that "
            f"of the fields, {n * centres}. Return what should vanish for each, without a mean over them."
        )
    rows = found.reshape(n * centres, -1, 1)
    if isinstance(function, Residual | Conserved):  # (batch, time, equation, *space)
        rows = found.flatten(3).movedim(2, -1).flatten(1, -2) if found.ndim > 3 else found.flatten(1, -2)
    return rows.square().mean(1).reshape(n, centres, -1)
