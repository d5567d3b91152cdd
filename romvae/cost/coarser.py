"""A reference solver with fewer points or longer steps, by the arguments that its constructor has for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from romvae.errors import RomvaeError
from romvae.solvers.base import Case, Solver
from romvae.solvers.operators import fast_even

__all__ = ["Maker", "buildable", "coarser_settings", "longer_step", "maker_of"]

Maker = Callable[..., Solver]
"""From physical parameters and settings, as keyword arguments, to a solver."""

_LEAST = 8  # points per axis, internal or stored


def maker_of(reference: Case | Solver) -> Maker | None:
    """What makes a solver like `reference` with other settings; None where its arguments cannot be known.

    A solver is made again from its own attributes, which have the names of its constructor's arguments.
    """
    if isinstance(reference, Case):
        return reference.solver
    known = inspect.signature(type(reference)).parameters
    names = list(known)
    if any(p.kind is p.VAR_KEYWORD for p in known.values()) or not all(hasattr(reference, name) for name in names):
        return None
    kept = {name: getattr(reference, name) for name in names}
    return lambda **changed: type(reference)(**{**kept, **changed})


def coarser_settings(make: Maker, own: Solver, share: float) -> Iterator[dict[str, Any]]:
    """Settings with `share` times as many points per axis, those first that leave the stored grid as it is.

    An internal grid (`resolution`), or its ratio to the stored one (`refinement`), is reduced alone where the solver
    can do that: it then brings its own result to the stored grid. Otherwise the stored grid gets coarser too.

    Arguments:
        make: Makes the solver.
        own: The solver as it is.
        share: Above 0, below 1.
    """
    known = inspect.signature(make).parameters
    resolution = getattr(own, "resolution", None) if "resolution" in known else None
    points = own.grid.shape
    # As a multiple of the stored points it is at most a handful.
    multiple = isinstance(resolution, int) and resolution < min(points)
    if resolution is not None and not multiple:
        yield {"resolution": _scaled(resolution, share)}
    factor = "refinement" if "refinement" in known else "resolution" if multiple else None
    if factor is not None and (before := int(getattr(own, factor, 1))) > 1:
        after = max(1, round(before * share))
        if after < before:
            yield {factor: after}
            share = min(1.0, share * before / after)
            if share == 1:
                return
            yield {factor: after, "points": _like(own, known, points, share)}
            return
    if "points" not in known:
        return
    fewer = _like(own, known, points, share)
    if resolution is None or multiple:
        yield {"points": fewer}
        return
    yield {"points": fewer, "resolution": _scaled(resolution, share)}
    yield {"points": fewer, "resolution": fewer}  # where both grids have to agree


def longer_step(make: Maker, own: Solver, times: float) -> dict[str, Any]:
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


def _scaled(value: int | Sequence[int], share: float) -> int | tuple[int, ...]:
    """Even numbers that transform quickly."""
    if isinstance(value, int):
        return max(_LEAST, fast_even(value * share))
    return tuple(max(_LEAST, fast_even(each * share)) for each in value)


def _like(own: Solver, known: Mapping[str, Any], points: tuple[int, ...], share: float) -> int | tuple[int, ...]:
    """Fewer points, as one number where the solver was given one."""
    fewer = tuple(max(_LEAST, round(each * share)) for each in points)
    given = getattr(own, "points", None)
    default = known["points"].default
    one = isinstance(given, int) or (given is None and isinstance(default, int))
    return fewer[0] if one else fewer
