"""Where an ensemble's parameters lie: at random, on a grid, or spread evenly over their ranges."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import product
from typing import Literal, get_args

import numpy as np
from scipy.stats import qmc

from romvae.errors import ConfigError
from romvae.solvers.arguments import count
from romvae.solvers.base import Array, Case, Range

__all__ = ["DESIGNS", "Design", "placed", "sampled"]

Design = Literal["random", "grid", "latin_hypercube", "sobol"]
"""`random` draws each trajectory on its own. `grid` has equidistant values with both ends of each range,
`latin_hypercube` one value in each of n slices of each range, `sobol` a scrambled low-discrepancy sequence."""

DESIGNS: tuple[Design, ...] = get_args(Design)

_STREAM = 2**20  # apart from the random numbers of the trajectories, which have no spawn key


def sampled(case: Case, n: int, seed: int = 0, design: Design = "random") -> list[dict[str, float]] | None:
    """The parameters of all trajectories of an ensemble; None where each is drawn from (seed, index) alone.

    A pure function of its arguments. Logarithmic ranges are covered evenly in the logarithm. The initial fields
    stay those of (seed, index). What a case plans itself (`Case.plan`) is replaced by any design but `random`.

    Arguments:
        case: Its `ranges` are what is sampled.
        n: Number of trajectories. A Sobol sequence is balanced best where n is a power of two; any n is
            accepted, and the first m of n are those of m.
        seed: Selects the ensemble; a grid does not depend on it.
        design: How the parameters are placed.

    Raises:
        ConfigError: The design is unknown, or the case has no parameter that varies.
    """
    if design not in DESIGNS:
        raise ConfigError(f"simulate: design is {design!r}, expected one of {', '.join(DESIGNS)}")
    n = count("simulate", "n", n, 1)
    if design == "random":
        return None
    if not case.ranges:
        raise ConfigError(f"case {case.name}: no parameter varies, so there is nothing to place. Use the design random")
    return placed(case.ranges, n, seed, design)


def placed(ranges: Sequence[Range], n: int, seed: int = 0, design: Design = "sobol") -> list[dict[str, float]]:
    """`n` points in the box of some ranges; a pure function of its arguments.

    Arguments:
        ranges: One or more.
        n: Number of points. Of `random` and `sobol` the first m of n are those of m.
        seed: Selects the points; a grid does not depend on it.
        design: How they are placed; `random` draws them independently of each other.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM + DESIGNS.index(design),)))
    if design == "random":
        fractions = rng.random((n, len(ranges)))
    elif design == "grid":
        fractions = _grid(len(ranges), n)
    elif design == "latin_hypercube":
        fractions = qmc.LatinHypercube(len(ranges), rng=rng).random(n)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The balance properties", UserWarning)  # said in `sampled`
            fractions = qmc.Sobol(len(ranges), rng=rng).random(n)
    return [_values(ranges, row) for row in fractions]


def _values(ranges: Sequence[Range], fractions: Array) -> dict[str, float]:
    return {r.name: r.at(float(fraction)) for r, fraction in zip(ranges, fractions, strict=True)}


def _grid(dims: int, n: int) -> Array:
    """N points of the smallest near-cubic grid that has as many; points left over are omitted evenly."""
    sizes = [1] * dims
    while math.prod(sizes) < n:
        sizes[sizes.index(min(sizes))] += 1
    axes = [np.linspace(0.0, 1.0, size) if size > 1 else np.array([0.5]) for size in sizes]
    points = np.array(list(product(*axes)))
    return points[np.round(np.linspace(0, len(points) - 1, n)).astype(int)] if n > 1 else points[:1]
