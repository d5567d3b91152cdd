"""A small case for tests of comparisons: viscous Burgers on few points, solved in a few milliseconds."""

from __future__ import annotations

from functools import partial

from romvae.solvers import Burgers1d, Case, Range, equidistant

__all__ = ["SMALL"]

SMALL = Case(
    "small_burgers",
    "Viscous Burgers equation on 32 points",
    partial(Burgers1d, points=32, resolution=96, step=5e-3),
    equidistant(0.5, 11),
    40,
    (Range("viscosity", 0.02, 0.05),),
)
