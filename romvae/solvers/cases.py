"""The named cases of all equations. Each equation's file ends with its own `CASES`."""

from __future__ import annotations

from romvae.canonical import did_you_mean
from romvae.errors import ConfigError
from romvae.solvers import (
    advection,
    advection_diffusion,
    burgers,
    burgers_2d,
    burgers_2d_parametric,
    burgers_inviscid,
    channel_transport,
    cylinder_flow,
    fitzhugh_nagumo,
    gray_scott,
    heat,
    korteweg_de_vries,
    kuramoto_sivashinsky,
    navier_stokes,
    rayleigh_benard,
    reaction_diffusion,
    shallow_water,
    wave_1d,
    wave_2d,
)
from romvae.solvers.base import Case

__all__ = ["CASES", "get_case"]

_EQUATIONS = (
    advection,
    heat,
    burgers,
    burgers_inviscid,
    burgers_2d,
    burgers_2d_parametric,
    wave_2d,
    shallow_water,
    wave_1d,
    reaction_diffusion,
    advection_diffusion,
    gray_scott,
    fitzhugh_nagumo,
    korteweg_de_vries,
    kuramoto_sivashinsky,
    navier_stokes,
    rayleigh_benard,
    channel_transport,
    cylinder_flow,
)

CASES: dict[str, Case] = {case.name: case for equation in _EQUATIONS for case in equation.CASES}
"""All cases by name, simplest first."""


def get_case(name: str) -> Case:
    """The case of this name.

    Raises:
        ConfigError: There is none; the message suggests the nearest.
    """
    if name not in CASES:
        hint = did_you_mean(str(name), list(CASES))
        raise ConfigError(f"case {name!r} is unknown.{hint} Known cases: {', '.join(CASES)}")
    return CASES[name]
