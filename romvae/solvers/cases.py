"""The named cases: equation, grid, ensemble of initial fields and parameters, stored times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from romvae.canonical import did_you_mean
from romvae.errors import ConfigError
from romvae.solvers.advection import Advection1d
from romvae.solvers.arguments import Side
from romvae.solvers.base import Case, Draw
from romvae.solvers.burgers import Burgers1d
from romvae.solvers.burgers_inviscid import BurgersInviscid1d
from romvae.solvers.heat import Heat

__all__ = ["CASES", "get_case"]


def _times(end: float, number: int) -> tuple[float, ...]:
    return tuple(np.linspace(0.0, end, number).tolist())


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _advection_1d(index: int, rng: np.random.Generator) -> Draw:
    solver = Advection1d(speed=rng.uniform(0.5, 1.5), points=128)
    return Draw(solver, solver.initial(rng))


def _heat(
    index: int,
    rng: np.random.Generator,
    points: Sequence[int],
    boundaries: Mapping[str, Side | Sequence[Side]],
) -> Draw:
    solver = Heat(diffusivity=_log_uniform(rng, 0.005, 0.05), points=points, boundaries=boundaries)
    return Draw(solver, solver.initial(rng))


def _burgers_1d(index: int, rng: np.random.Generator) -> Draw:
    # Fixed resolution and step, whose error Burgers1d documents, so that any block can be batched.
    solver = Burgers1d(viscosity=_log_uniform(rng, 0.005, 0.05), points=256, resolution=512, step=1e-3)
    return Draw(solver, solver.initial(rng))


def _burgers_1d_inviscid(index: int, rng: np.random.Generator) -> Draw:
    amplitude = rng.uniform(0.5, 1.0)
    solver = BurgersInviscid1d(points=256, step=0.0025)
    u0 = solver.initial(rng)
    return Draw(solver, amplitude * u0 / np.abs(u0).max(), {"amplitude": amplitude})


_PARTS = ("variance", "calibration", "calibration", "test", "test")


def _burgers_1d_parametric(index: int, rng: np.random.Generator) -> Draw:
    if index < 25:
        a, w, split = 0.7 + 0.05 * (index // 5), 0.9 + 0.05 * (index % 5), "train"
    else:
        a, w, split = rng.uniform(0.7, 0.9), rng.uniform(0.9, 1.1), _PARTS[(index - 25) % 5]
    solver = BurgersInviscid1d(points=1001, length=6.0, origin=-3.0, step=0.005)
    x = np.array(solver.grid.axes[0].coordinates)
    return Draw(solver, a * np.exp(-(x**2) / (2 * w**2))[None], {"a": a, "w": w}, split)


_CASES = (
    Case(
        "advection_1d",
        "Linear advection of random large-scale fields on a periodic interval, random speed",
        _advection_1d,
        _times(1.0, 51),
        200,
    ),
    Case(
        "heat_1d",
        "Heat conduction in an insulated rod, random smooth initial temperature and diffusivity",
        partial(_heat, points=(128,), boundaries={"x": "reflecting"}),
        _times(1.0, 51),
        200,
    ),
    Case(
        "heat_2d",
        "Heat conduction in a plate, periodic in x and held at 0 on both sides of y",
        partial(_heat, points=(48, 64), boundaries={"y": 0.0}),
        _times(1.0, 51),
        100,
    ),
    Case(
        "heat_3d",
        "Heat conduction in a block, periodic in x and y and insulated at both sides of z",
        partial(_heat, points=(16, 20, 24), boundaries={"z": "reflecting"}),
        _times(0.5, 21),
        100,
    ),
    Case(
        "burgers_1d",
        "Viscous Burgers equation, three random sines on a periodic interval, viscosity in [0.005, 0.05]",
        _burgers_1d,
        _times(1.0, 101),
        600,
    ),
    Case(
        "burgers_1d_inviscid",
        "Inviscid Burgers equation, three random sines steepening into shocks on a periodic interval",
        _burgers_1d_inviscid,
        _times(1.0, 101),
        300,
    ),
    Case(
        "burgers_1d_parametric",
        "Inviscid Burgers equation, a Gaussian of height a and width w that steepens but does not break",
        _burgers_1d_parametric,
        _times(1.0, 201),
        75,
    ),
)

CASES: dict[str, Case] = {case.name: case for case in _CASES}
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
