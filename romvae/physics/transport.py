"""Equations of transport: advection, diffusion and Burgers', in one to three dimensions."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from romvae.errors import ConfigError
from romvae.grid import Grid
from romvae.physics.derivatives import Derivatives
from romvae.physics.equation import Equation, State, volume_mean
from romvae.physics.places import away_from, away_from_ends
from romvae.solvers.flows import AbcFlow, CellularFlow, Flow, ShearFlow, UniformFlow
from romvae.solvers.slow_flow import block_cells, channel_velocity

__all__ = ["TRANSPORT"]

Settings = Mapping[str, Any]
Largest = Mapping[str, float]

FLOWS = {cls.__name__: cls for cls in (AbcFlow, CellularFlow, ShearFlow, UniformFlow)}
WEAK = 8.0
"""Cells that the test functions of weak forms reach to both sides."""


def _volume(grid: Grid) -> float:
    """Of a box of evenly spaced cells."""
    return float(np.prod([axis.size * axis.spacing for axis in grid.axes]))


def _mean(name: str, field: str = "u") -> Any:
    return lambda s: {name: _volume(s.d.grid) * volume_mean(s[field], s.d)}


def advection(settings: Settings, largest: Largest) -> Equation:
    """u_t + c u_x = 0."""

    def conserved(s: State) -> dict[str, Tensor]:
        u, length = s["u"], _volume(s.d.grid)
        return {"mass": length * volume_mean(u, s.d), "energy": length * volume_mean(u.square() / 2, s.d)}

    return Equation(
        "u_t + speed u_x = 0",
        lambda s: {"u": -s.parameters["speed"] * s.d(s["u"], "x", field="u")},
        conserved=conserved if settings.get("inflow") is None else lambda s: {},
    )


def heat(settings: Settings, largest: Largest) -> Equation:
    """u_t = kappa Laplace(u); heat is conserved where no side is held."""

    def conserved(s: State) -> dict[str, Tensor]:
        kinds = {side.kind for axis in s.d.grid.axes for side in (axis.lower, axis.upper)}
        return {} if "value" in kinds else {"heat": _volume(s.d.grid) * volume_mean(s["u"], s.d)}

    return Equation(
        "u_t = diffusivity Laplace(u)",
        lambda s: {"u": s.parameters["diffusivity"] * s.d.laplacian(s["u"], field="u")},
        conserved=conserved,
    )


def burgers(settings: Settings, largest: Largest) -> Equation:
    """u_t + (u^2 / 2)_x = nu u_xx."""

    def rate(s: State) -> dict[str, Tensor]:
        u = s["u"]
        return {"u": s.parameters["viscosity"] * s.d(u, "x", 2, field="u") - u * s.d(u, "x", field="u")}

    def conserved(s: State) -> dict[str, Tensor]:
        return _mean("mass")(s) if s.d.grid.axes[0].periodic else {}

    return Equation("u_t + (u^2 / 2)_x = viscosity u_xx", rate, conserved=conserved)


def burgers_inviscid(settings: Settings, largest: Largest) -> Equation:
    """u_t + (u^2 / 2)_x = 0 times test functions a few cells wide, since the solution jumps."""

    def smoothed(u: Tensor, s: State) -> Tensor:
        return s.d.smooth(u, "x", WEAK) if s.d.grid.axes[0].periodic else u

    def rate(s: State) -> dict[str, Tensor]:
        return {"u": -s.d(smoothed(s["u"].square() / 2, s), "x")}

    return Equation(
        "u_t + (u^2 / 2)_x = 0, weak",
        rate,
        evolved=lambda s: {"u": smoothed(s["u"], s)},
        conserved=lambda s: _mean("mass")(s) if s.d.grid.axes[0].periodic else {},
        left_out="what happens within a few cells of a shock; whether it is one that the entropy allows",
    )


def burgers_2d(settings: Settings, largest: Largest) -> Equation:
    """w_t + (w . grad) w = nu Laplace(w)."""

    def rate(s: State) -> dict[str, Tensor]:
        u, v, d, nu = s["u"], s["v"], s.d, s.parameters["viscosity"]
        return {name: nu * d.laplacian(s[name]) - u * d(s[name], "x") - v * d(s[name], "y") for name in ("u", "v")}

    return Equation("w_t + (w . grad) w = viscosity Laplace(w), w = (u, v)", rate)


def burgers_2d_held(settings: Settings, largest: Largest) -> Equation:
    """The published problem: backward differences between nodes, and sides that do not move."""
    if settings.get("scheme", "lines") == "conservative":
        raise ConfigError("physics: burgers_2d_held with the scheme 'conservative' has no residual. Use 'lines'.")
    extent, reynolds = float(settings["length"]), float(settings["reynolds"])

    def rate(s: State) -> dict[str, Tensor]:
        per_dx = (s.d.grid.shape[-1] - 1) / extent
        u, v = s["u"][..., 1:-1, 1:-1], s["v"][..., 1:-1, 1:-1]
        rates = {}
        for name in ("u", "v"):
            w = s[name]
            inner, west, south = w[..., 1:-1, 1:-1], w[..., 1:-1, :-2], w[..., :-2, 1:-1]
            around = west + south + w[..., 1:-1, 2:] + w[..., 2:, 1:-1] - 4 * inner
            change = per_dx**2 / reynolds * around - per_dx * (u * (inner - west) + v * (inner - south))
            rates[name] = torch.nn.functional.pad(change, (1, 1, 1, 1))
        return rates

    return Equation("w_t + (w . grad) w = Laplace(w) / reynolds, by backward differences", rate, homogeneous=False)


def _flow_of(text: str) -> Flow:
    """The flow whose `repr` this is; nothing is executed."""
    call = ast.parse(text, mode="eval").body
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in FLOWS:
        values = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        return FLOWS[call.func.id](**values)
    raise ConfigError(f"physics: flow {text!r} is unknown, expected one of {', '.join(FLOWS)}. Give a residual.")


def advection_diffusion(settings: Settings, largest: Largest) -> Equation:
    """u_t + strength w(x - phase L) . grad u = kappa Laplace(u), div w = 0."""
    flow, length = _flow_of(str(settings["flow"])), float(settings["length"])

    def rate(s: State) -> dict[str, Tensor]:
        u, d = s["u"], s.d
        angles = [2 * np.pi / length * s.coordinate(name).cpu().double().numpy() for name in d.grid.names]
        angles[-1] = angles[-1] - 2 * np.pi * s.parameters["phase"].detach().cpu().double().numpy()
        carried = torch.zeros_like(u)
        for name, component in zip(d.grid.names, flow(angles), strict=True):
            carried = carried + torch.as_tensor(component).to(u) * d(u, name)
        return {"u": s.parameters["diffusivity"] * d.laplacian(u) - s.parameters["strength"] * carried}

    return Equation(
        "u_t + strength w(x - phase L) . grad u = diffusivity Laplace(u)",
        rate,
        conserved=_mean("mass"),
        homogeneous=False,
    )


def channel_transport(settings: Settings, largest: Largest) -> Equation:
    """u_t + a . grad u = kappa Laplace(u), two cells and more from walls, ends and block."""
    length, obstacle, kind = float(settings["length"]), settings.get("obstacle"), settings["flow"]

    def rate(s: State) -> dict[str, Tensor]:
        rows, columns = s.d.grid.shape
        block = None if obstacle is None else block_cells("physics", obstacle, (rows, columns), length)
        along, across = channel_velocity(rows, columns, 1.0, length, block, kind)
        u, d = s["u"], s.d
        a = torch.as_tensor(0.5 * (along[:, 1:] + along[:, :-1])).to(u)
        b = torch.as_tensor(0.5 * (across[1:] + across[:-1])).to(u)
        return {"u": s.parameters["diffusivity"] * d.laplacian(u) - a * d(u, "x") - b * d(u, "y")}

    return Equation(
        "u_t + a . grad u = diffusivity Laplace(u), a the steady flow around the obstacle",
        rate,
        inside=lambda grid, mask: {"": away_from_ends(grid, 3) & away_from(grid, mask, 3)},
        derivatives=lambda grid: Derivatives(grid, "differences", 2),
        homogeneous=False,
        left_out="three cells beside walls, ends and block",
    )


TRANSPORT = {
    "advection_1d": advection,
    "heat": heat,
    "burgers_1d": burgers,
    "burgers_walls_1d": burgers,
    "burgers_1d_inviscid": burgers_inviscid,
    "burgers_2d": burgers_2d,
    "burgers_2d_held": burgers_2d_held,
    "advection_diffusion": advection_diffusion,
    "channel_transport_2d": channel_transport,
}
"""By the name of the solver: the equation, from the solver's settings and the largest size of every parameter."""
