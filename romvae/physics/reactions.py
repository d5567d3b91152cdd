"""Equations of reaction and diffusion: Fisher, Allen-Cahn, Gray-Scott, FitzHugh-Nagumo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from romvae.errors import ConfigError
from romvae.physics.equation import Equation, State

__all__ = ["REACTIONS"]

Settings = Mapping[str, Any]
Largest = Mapping[str, float]


def reaction_diffusion(settings: Settings, largest: Largest) -> Equation:
    """u_t = D u_xx + R(u) with the R of Fisher or of Allen and Cahn."""
    kind = str(settings["reaction"]).partition(",")[0]
    if kind not in ("fisher", "allen_cahn"):
        raise ConfigError(f"physics: reaction {kind!r} is unknown, expected fisher or allen_cahn. Give a residual.")

    def rate(s: State) -> dict[str, Tensor]:
        u, p = s["u"], s.parameters
        reaction = u * (1 - u) if kind == "fisher" else (u - p["bias"]) * (1 - u.square())
        return {"u": p["diffusivity"] * s.d(u, "x", 2) + p["rate"] * reaction}

    return Equation(f"u_t = diffusivity u_xx + {str(settings['reaction']).partition(', ')[2]}", rate)


def gray_scott(settings: Settings, largest: Largest) -> Equation:
    """Feeding, an autocatalytic reaction, and removal."""
    diffusivity_u, diffusivity_v = float(settings["diffusivity_u"]), float(settings["diffusivity_v"])

    def rate(s: State) -> dict[str, Tensor]:
        u, v, p = s["u"], s["v"], s.parameters
        reaction = u * v.square()
        return {
            "u": diffusivity_u * s.d.laplacian(u) - reaction + p["feed"] * (1 - u),
            "v": diffusivity_v * s.d.laplacian(v) + reaction - (p["feed"] + p["kill"]) * v,
        }

    text = "u_t = D_u Laplace(u) - u v^2 + feed (1 - u), v_t = D_v Laplace(v) + u v^2 - (feed + kill) v"
    return Equation(text, rate)


def fitzhugh_nagumo(settings: Settings, largest: Largest) -> Equation:
    """Activator and inhibitor between walls without flux."""

    def rate(s: State) -> dict[str, Tensor]:
        u, v, p = s["u"], s["v"], s.parameters
        return {
            "u": p["diffusivity_u"] * s.d.laplacian(u) + u - u**3 - p["offset"] - v,
            "v": p["diffusivity_v"] * s.d.laplacian(v) + u - v,
        }

    return Equation("u_t = D_u Laplace(u) + u - u^3 - offset - v, v_t = D_v Laplace(v) + u - v", rate)


REACTIONS = {
    "reaction_diffusion_1d": reaction_diffusion,
    "gray_scott": gray_scott,
    "fitzhugh_nagumo_2d": fitzhugh_nagumo,
}
"""By the name of the solver: the equation, from the solver's settings and the largest size of every parameter."""
