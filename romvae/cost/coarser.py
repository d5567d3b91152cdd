"""A reference solver with fewer points or longer steps, by the arguments that its constructor has for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, TypeVar, cast

import numpy as np

from romvae.errors import RomvaeError
from romvae.solvers.base import Case, Solver
from romvae.solvers.operators import fast_even

__all__ = ["Family", "Knobs", "Maker", "buildable", "longer_step", "maker_of", "nearest"]

Maker = Callable[..., Solver]
"""From physical parameters and settings, as keyword arguments, to a solver."""
Settings = dict[str, Any]
Family = Callable[[float], Settings | None]
"""From a share of the solver's own points per axis to settings of one kind; None where it has none for that share."""
Made = TypeVar("Made")

_LEAST = 8  # points per axis, internal or stored
_NEIGHBOURS = 96  # sizes that are offered where a size is refused


def maker_of(reference: Case | Solver) -> Maker | None:
    """What makes a solver like `reference` with other settings; None where its arguments cannot be known.

    A solver is made again from its own attributes, which have the names of its constructor's arguments.
    """
    if isinstance(reference, Case):
        return reference.solver
    signature = inspect.signature(type(reference))
    known = signature.parameters
    names = list(known)
    if any(p.kind is p.VAR_KEYWORD for p in known.values()) or not all(hasattr(reference, name) for name in names):
        return None
    kept = {name: getattr(reference, name) for name in names}

    def make(**changed: Any) -> Solver:
        return type(reference)(**{**kept, **changed})

    cast(Any, make).__signature__ = signature  # where `Knobs.of` reads which settings there are
    return make


@dataclass(frozen=True)
class Knobs:
    """What a solver's constructor has for the number of points.

    Arguments:
        own: The solver as it is.
        points: Its stored points as its constructor takes them: one number or one per axis; None where it takes none.
        resolution: Its internal points in the same way; None where it has none, or counts them per stored point.
        factor: The argument that counts internal points per stored point, `refinement` or `resolution`; None for none.
    """

    own: Solver
    points: int | tuple[int, ...] | None
    resolution: int | tuple[int, ...] | None
    factor: str | None

    @classmethod
    def of(cls, make: Maker, own: Solver) -> Knobs:
        """Those of a maker's arguments that the solver has as attributes too."""
        known = inspect.signature(make).parameters
        stored = own.grid.shape
        resolution = getattr(own, "resolution", None) if "resolution" in known else None
        # As a multiple of the stored points it is at most a handful.
        multiple = isinstance(resolution, int) and resolution < min(stored)
        given = getattr(own, "points", None)
        one = "points" in known and (
            isinstance(given, int) or (given is None and isinstance(known["points"].default, int))
        )
        return cls(
            own,
            None if "points" not in known else stored[0] if one else tuple(stored),
            None if resolution is None or multiple else resolution if isinstance(resolution, int) else (*resolution,),
            "refinement" if "refinement" in known else "resolution" if multiple else None,
        )

    @property
    def families(self) -> tuple[Family, ...]:
        """All kinds of settings; each has fewer internal points per axis for a smaller share.

        First those that leave the stored grid as it is, since the solver then brings its own result to it.
        """
        found: list[Family] = [partial(self._internal), partial(self._both), partial(self._same)]
        return (*found, *(partial(self._per_point, cells) for cells in range(self._cells, 0, -1)))

    def sizes(self, settings: Mapping[str, Any]) -> tuple[float, ...]:
        """Stored and internal points of every axis: settings are finer where none is smaller."""
        ndim = self.own.grid.ndim
        stored = _axes(settings.get("points", self.points if self.points is not None else self.own.grid.shape), ndim)
        if self.resolution is not None:
            return (*stored, *_axes(settings.get("resolution", self.resolution), ndim))
        cells = self._cells if self.factor is None else settings.get(self.factor, self._cells)
        return (*stored, *(cells * each for each in stored))

    @property
    def known(self) -> bool:
        """Whether any of these settings makes the solver cheaper."""
        return any(family(1 / 2) for family in self.families)

    @property
    def _cells(self) -> int:
        return 1 if self.factor is None else int(getattr(self.own, self.factor, 1))

    def _internal(self, share: float) -> Settings | None:
        """Fewer internal points alone."""
        if share >= 1:
            return {}
        return None if self.resolution is None else {"resolution": _even(self.resolution, share)}

    def _both(self, share: float) -> Settings | None:
        """Fewer of both kinds by the same share."""
        if self.points is None or self.resolution is None or share >= 1:
            return None
        return {"points": _fewer(self.points, share), "resolution": _even(self.resolution, share)}

    def _same(self, share: float) -> Settings | None:
        """Internal points that are the stored ones: below the stored points, and where both grids have to agree."""
        if self.points is None or self.resolution is None or share >= 1:
            return None
        fewer = _fewer(self.points, share)
        inner = _axes(fewer, self.own.grid.ndim)
        return {"points": fewer, "resolution": inner[0] if isinstance(self.resolution, int) else inner}

    def _per_point(self, cells: int, share: float) -> Settings | None:
        """So many internal points per stored one, and as many stored points as that leaves."""
        if self.resolution is not None and cells == self._cells:
            return None
        wide = share * self._cells / cells
        fewer = {} if cells == self._cells else {str(self.factor): cells}
        if wide > 1 - 1e-9:
            return fewer
        return None if self.points is None else {**fewer, "points": _fewer(self.points, wide)}


def nearest(
    knobs: Knobs,
    family: Family,
    share: float,
    between: tuple[float, float],
    made: Callable[[Settings], Made | None],
) -> tuple[Settings, Made] | None:
    """The settings of a family that come nearest to a share and are accepted, the coarser of two that are as near.

    A size may be refused because an obstacle would cut a cell, say. Then the sizes around it are offered, first those
    that keep the ratio of the axes, then those in which the shorter axes have up to two points more or fewer.

    Arguments:
        knobs: Of the solver.
        family: Kind of settings.
        share: Above 0, at most 1.
        between: Shares that belong to the neighbours already: the search stays above the first and below the second.
        made: Gives what the settings make, or None where they are refused.

    Returns:
        The settings and what they make; None where all are refused.
    """
    wanted = family(share)
    if wanted is None:
        return None
    found = made(wanted)
    if found is not None or share >= 1:
        return None if found is None else (wanted, found)
    most = int(max(knobs.sizes({})))
    around = np.arange(1, most) / most
    around = around[(around > between[0]) & (around < between[1])]
    shares = sorted(around.tolist(), key=lambda each: (abs(each - share), each))[:_NEIGHBOURS]
    straight = [settings for each in shares if (settings := family(each)) is not None]
    offered = (*straight, *(skewed for settings in straight for skewed in _skewed(settings)))
    refused, own = {repr(wanted)}, knobs.sizes({})
    for settings in offered:
        coarser = any(each < most for each, most in zip(knobs.sizes(settings), own, strict=True))
        if repr(settings) in refused or not coarser:
            continue
        found = made(settings)
        if found is not None:
            return settings, found
        refused.add(repr(settings))
        if len(refused) > 2 * _NEIGHBOURS:
            break
    return None


def longer_step(make: Maker, own: Solver, times: float) -> Settings:
    """Settings with a step `times` as long, or a tolerance as much looser; empty where the solver sets its own."""
    known = inspect.signature(make).parameters
    step, tolerance = (getattr(own, name, None) if name in known else None for name in ("step", "tolerance"))
    if step is not None:
        return {"step": float(step) * times}
    return {} if tolerance is None else {"tolerance": float(tolerance) * times**4}


def buildable(make: Maker, parameters: Mapping[str, float], settings: Mapping[str, Any]) -> Solver | None:
    """The solver with these settings; None where it does not accept them."""
    try:
        return make(**parameters, **settings)
    except (RomvaeError, ValueError):
        return None


def _skewed(settings: Settings) -> Iterator[Settings]:
    """The same with a few points more or fewer along the shorter axes, where only the stored points are set."""
    points = settings.get("points")
    if not isinstance(points, tuple) or isinstance(settings.get("resolution"), tuple):
        return
    longest = points.index(max(points))
    changes = product(*((0,) if axis == longest else (0, -1, 1, -2, 2) for axis in range(len(points))))
    for change in changes:
        if any(change):
            yield {**settings, "points": tuple(n + more for n, more in zip(points, change, strict=True))}


def _fewer(points: int | Sequence[int], share: float) -> int | tuple[int, ...]:
    if isinstance(points, int):
        return max(_LEAST, round(points * share))
    return tuple(max(_LEAST, round(each * share)) for each in points)


def _even(points: int | Sequence[int], share: float) -> int | tuple[int, ...]:
    """Even numbers that transform quickly."""
    if isinstance(points, int):
        return max(_LEAST, fast_even(points * share))
    return tuple(max(_LEAST, fast_even(each * share)) for each in points)


def _axes(points: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    return (points,) * ndim if isinstance(points, int) else tuple(points)
