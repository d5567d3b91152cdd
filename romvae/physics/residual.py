"""The residual of an equation, and the drift of what it conserves, on physical fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from romvae.errors import ConfigError
from romvae.grid import Grid
from romvae.physics.equation import Equation, State
from romvae.physics.flow import FLOWS
from romvae.physics.reactions import REACTIONS
from romvae.physics.transport import TRANSPORT
from romvae.physics.waves import WAVES
from romvae.solvers import Case, get_case

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["EQUATIONS", "Conserved", "Residual", "conserved_of", "equation_of", "residual_of"]

EQUATIONS = {**TRANSPORT, **WAVES, **REACTIONS, **FLOWS}
"""By the name of the solver: the equation, from the solver's settings and the largest size of every parameter."""

TimeRule = Literal["simpson", "central"]


@dataclass(frozen=True)
class Residual:
    r"""What is left of dq/dt = F(q) at three neighbouring times, and of the constraints at the middle one.

    `simpson` balances the change over two steps with the rates by Simpson's rule,

    .. math:: (q_{k+1} - q_{k-1}) / (2 dt) - (F_{k-1} + 4 F_k + F_{k+1}) / 6,

    whose error is of fourth order in dt; `central` takes F_k alone, of second order. Snapshots of an exact solution
    leave that error of the time step, and where the grid does not hold the solution that of the derivatives.

    Arguments:
        equation: Rates and constraints.
        mask: Where the domain is, `(*space)`; None where all points belong to it.
        time: The rule.
    """

    equation: Equation
    mask: Tensor | None = None
    time: TimeRule = "simpson"

    @property
    def homogeneous(self) -> bool:
        """Whether moved copies of a solution are solutions."""
        return self.equation.homogeneous

    def terms(
        self, fields: Mapping[str, Tensor], grid: Grid, parameters: Mapping[str, Tensor], dt: float
    ) -> dict[str, Tensor]:
        """The residuals by name, `(batch, time - 2, *space)`, zero where they are not required; see `__call__`."""
        times = next(iter(fields.values())).shape[1]
        if times < 3:
            raise ConfigError(f"residual: fields hold {times} times, expected at least 3. Give neighbouring snapshots.")
        state = _state(self.equation, fields, grid, parameters)
        inside = self.equation.inside(grid, self.mask)
        middle = replace(state, fields={name: u[:, 1:-1] for name, u in fields.items()})
        found = {}
        rates = self.equation.rate(state if self.time == "simpson" else middle)
        for name, q in self.equation.evolved(state).items():
            rate = rates[name]
            if self.time == "simpson":
                rate = (rate[:, :-2] + 4 * rate[:, 1:-1] + rate[:, 2:]) / 6
            found[name] = (q[:, 2:] - q[:, :-2]) / (2 * dt) - rate
        found.update(self.equation.constraints(middle))
        for name, value in found.items():
            where = inside.get(name, inside.get(""))
            if where is not None:
                found[name] = torch.where(where.to(value.device), value, torch.zeros_like(value))
        return found

    def __call__(self, fields: Mapping[str, Tensor], grid: Grid, parameters: Mapping[str, Tensor], dt: float) -> Tensor:
        """The residuals of all equations, `(batch, time - 2, equation, *space)`, in their own units.

        Arguments:
            fields: Name to physical values `(batch, time, *space)` at neighbouring times.
            grid: Their grid.
            parameters: Name to physical values `(batch,)`.
            dt: Time between them.
        """
        return torch.stack(list(self.terms(fields, grid, parameters, dt).values()), 2)


@dataclass(frozen=True)
class Conserved:
    """What an equation keeps, such as mass or energy; called, its change since the first time.

    Arguments:
        equation: Its conserved quantities.
    """

    equation: Equation
    homogeneous: bool = True

    def values(self, fields: Mapping[str, Tensor], grid: Grid, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The quantities by name, `(batch, time)`; arguments as for `Residual`."""
        return dict(self.equation.conserved(_state(self.equation, fields, grid, parameters)))

    def __call__(self, fields: Mapping[str, Tensor], grid: Grid, parameters: Mapping[str, Tensor], dt: float) -> Tensor:
        """The drift, `(batch, time - 1, quantity)`: the first time is the one that the others are held to."""
        found = self.values(fields, grid, parameters)
        if not found:
            raise ConfigError(
                f"physics: {self.equation.text!r} conserves nothing here. Use the residual, or a function of your own."
            )
        values = torch.stack(list(found.values()), 2)
        return values[:, 1:] - values[:, :1]


def residual_of(source: xr.Dataset | Case | str, *, time: TimeRule = "simpson") -> Residual:
    """The residual of a shipped case.

    Arguments:
        source: Snapshots of one (their attributes name the solver), a `Case`, or its name.
        time: See `Residual`.

    Raises:
        ConfigError: The equation is not known.
    """
    equation, mask = equation_of(source)
    return Residual(equation, None if mask is None else torch.as_tensor(mask), time)


def conserved_of(source: xr.Dataset | Case | str) -> Conserved:
    """What a shipped case conserves; arguments as for `residual_of`.

    Raises:
        ConfigError: The equation is not known. That it conserves nothing is seen when it is called.
    """
    equation, _ = equation_of(source)
    return Conserved(equation)


def equation_of(source: xr.Dataset | Case | str) -> tuple[Equation, np.ndarray | None]:
    """The equation of a shipped case, and where its domain is; arguments as for `residual_of`."""
    if isinstance(source, Case | str):
        case = get_case(source) if isinstance(source, str) else source
        solver = case.solver(**{r.name: r.at(1.0) for r in case.ranges if not r.of_initial})
        return _equation(solver.name, solver.settings, dict(solver.parameters)), solver.mask
    from romvae.canonical import mask_of

    name, settings = str(source.attrs.get("solver", "")), json.loads(str(source.attrs.get("solver_settings", "{}")))
    sizes = {str(k): float(np.abs(v.values.astype(float)).max()) for k, v in source.coords.items() if _numeric(v)}
    return _equation(name, settings, sizes), mask_of(source)


def _numeric(array: xr.DataArray) -> bool:
    return bool(np.issubdtype(array.dtype, np.number)) and array.size > 0


def _equation(name: str, settings: Mapping[str, Any], parameters: Mapping[str, float]) -> Equation:
    if name not in EQUATIONS:
        found = f"the data name the solver {name!r}" if name else "the data name no solver (attribute 'solver')"
        raise ConfigError(
            f"physics: {found}, and equations are known for {', '.join(EQUATIONS)}. Give a function "
            "residual(fields, grid, parameters, dt) instead."
        )
    try:
        return EQUATIONS[name](settings, parameters)
    except KeyError as error:
        raise ConfigError(
            f"physics: the attribute 'solver_settings' of {name!r} lacks {error}. Simulate the data again, or give a "
            "function residual(fields, grid, parameters, dt)."
        ) from None


def _state(equation: Equation, fields: Mapping[str, Tensor], grid: Grid, parameters: Mapping[str, Tensor]) -> State:
    like = next(iter(fields.values()))
    shape = (-1, 1, *[1] * grid.ndim)
    broadcast = {name: value.to(like).reshape(shape) for name, value in parameters.items()}
    return State(fields, broadcast, equation.derivatives(grid))
