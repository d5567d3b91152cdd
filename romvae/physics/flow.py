"""Equations of flows without compression: by their vorticity, heated from below, and past a cylinder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from romvae.grid import Grid
from romvae.physics.derivatives import Derivatives, vorticity_velocity
from romvae.physics.equation import Equation, State, volume_mean
from romvae.physics.places import away_from, away_from_ends

__all__ = ["FLOWS"]

Settings = Mapping[str, Any]
Largest = Mapping[str, float]

SPONGE = 5.0
"""Length before the outflow of the cylinder's box that is left out: the sponge, and a diameter."""
RIM = 4
"""Cells beside the cylinder, and beside ends, that are left out."""


def navier_stokes(settings: Settings, largest: Largest) -> Equation:
    """w_t + u . grad w = nu Laplace(w) - mu w + curl f, the velocity by inversion of w = v_x - u_y."""
    mode, height = int(settings["forcing_mode"]), float(settings["lengths"][0])
    wavenumber = 2 * math.pi * mode / height

    def rate(s: State) -> dict[str, Tensor]:
        w, d, p = s["vorticity"], s.d, s.parameters
        u, v = vorticity_velocity(w, d.grid)
        change = p["viscosity"] * d.laplacian(w) - u * d(w, "x") - v * d(w, "y")
        curl = -p["forcing"] * wavenumber * torch.cos(wavenumber * s.coordinate("y"))
        return {"vorticity": change - p["drag"] * w + curl}

    def conserved(s: State) -> dict[str, Tensor]:
        if largest.get("drag"):
            return {}
        w = s["vorticity"]
        kept = {"mean_vorticity": volume_mean(w, s.d)}
        if not (largest.get("viscosity") or largest.get("forcing")):
            u, v = vorticity_velocity(w, s.d.grid)
            kept["energy"] = 0.5 * volume_mean(u.square() + v.square(), s.d)
            kept["enstrophy"] = 0.5 * volume_mean(w.square(), s.d)
        return kept

    text = "w_t + u . grad w = viscosity Laplace(w) - drag w + curl f, f = (forcing sin(2 pi forcing_mode y / L_y), 0)"
    return Equation(text, rate, conserved=conserved, homogeneous=not largest.get("forcing"))


def rayleigh_benard(settings: Settings, largest: Largest) -> Equation:
    """Temperature, vorticity and divergence; taking the curl removes the pressure."""

    def vorticity(s: State) -> Tensor:
        return s.d(s["v"], "x", field="v") - s.d(s["u"], "y", field="u")

    def rate(s: State) -> dict[str, Tensor]:
        u, v, temperature, d, p = s["u"], s["v"], s["temperature"], s.d, s.parameters
        w = vorticity(s)
        conduction = d.laplacian(temperature, field="temperature") / (p["prandtl"] * p["rayleigh"]).sqrt()
        carried = u * d(temperature, "x") + v * d(temperature, "y", field="temperature")
        friction = (p["prandtl"] / p["rayleigh"]).sqrt() * d.laplacian(w)
        turned = u * d(w, "x") + v * d(w, "y")
        return {"temperature": conduction - carried, "vorticity": friction - turned + d(temperature, "x")}

    return Equation(
        "T_t + u . grad T = Laplace(T) / sqrt(prandtl rayleigh), div u = 0, and the curl of "
        "u_t + (u . grad) u = -grad p + sqrt(prandtl / rayleigh) Laplace(u) + T e_y",
        rate,
        evolved=lambda s: {"temperature": s["temperature"], "vorticity": vorticity(s)},
        constraints=lambda s: {"divergence": s.d(s["u"], "x", field="u") + s.d(s["v"], "y", field="v")},
        inside=lambda grid, mask: {"vorticity": away_from_ends(grid, RIM)},
        left_out="the vorticity within four cells of the plates; the flux along them",
    )


def cylinder_flow(settings: Settings, largest: Largest) -> Equation:
    """Divergence, and the vorticity away from cylinder, sponge and ends."""
    last = float(settings["extent"][1]) - SPONGE

    def vorticity(s: State) -> Tensor:
        return s.d(s["v"], "x", field="v") - s.d(s["u"], "y", field="u")

    def rate(s: State) -> dict[str, Tensor]:
        w, d = vorticity(s), s.d
        turned = s["u"] * d(w, "x", parity="odd") + s["v"] * d(w, "y", parity="odd")
        return {
            "vorticity": (d(w, "x", 2, parity="odd") + d(w, "y", 2, parity="odd")) / s.parameters["reynolds"] - turned
        }

    def inside(grid: Grid, mask: Tensor | None) -> dict[str, Tensor]:
        x = torch.tensor(grid.axes[-1].coordinates)
        good = away_from_ends(grid, RIM) & away_from(grid, mask, RIM) & (x < last)
        return {"": good}

    def divergence(s: State) -> dict[str, Tensor]:
        return {"divergence": s.d(s["u"], "x", field="u") + s.d(s["v"], "y", parity="odd")}

    return Equation(
        "div u = 0, and the curl of u_t + (u . grad) u = -grad p + Laplace(u) / reynolds, outside the cylinder",
        rate,
        evolved=lambda s: {"vorticity": vorticity(s)},
        constraints=divergence,
        inside=inside,
        derivatives=lambda grid: Derivatives(grid, "differences"),
        homogeneous=False,
        left_out="four cells beside cylinder and ends; the sponge",
    )


FLOWS = {
    "navier_stokes_2d": navier_stokes,
    "rayleigh_benard_2d": rayleigh_benard,
    "cylinder_flow_2d": cylinder_flow,
}
"""By the name of the solver: the equation, from the solver's settings and the largest size of every parameter."""
