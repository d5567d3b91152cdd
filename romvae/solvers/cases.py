"""The named cases of all equations. Each equation's file ends with its own `CASES`."""

from __future__ import annotations

from romvae.canonical import did_you_mean
from romvae.errors import ConfigError
from romvae.solvers import (
    advection,
    burgers,
    burgers_inviscid,
    heat,
    korteweg_de_vries,
    kuramoto_sivashinsky,
    reaction_diffusion,
    wave_1d,
)
from romvae.solvers.base import Case

__all__ = ["CASES", "get_case"]

_EQUATIONS = (
    advection,
    heat,
    burgers,
    burgers_inviscid,
    wave_1d,
    reaction_diffusion,
    korteweg_de_vries,
    kuramoto_sivashinsky,
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
