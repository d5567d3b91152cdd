"""Checks of a solver's arguments: each names solver, argument, what was found and what was expected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from romvae.boundary import Boundary, BoundaryEntry, as_boundary
from romvae.errors import ConfigError, SchemaError

__all__ = ["Side", "count", "finite", "increasing_times", "positive", "sides"]

Side = BoundaryEntry | float
"""One end of an axis: a kind, a `Boundary`, its JSON form, or a number at which the field is held."""


def finite(where: str, name: str, value: Any) -> float:
    """`value` as a float; raises `ConfigError` unless it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ConfigError(f"{where}: {name} is {value!r}, expected a finite number")
    return float(value)


def positive(where: str, name: str, value: Any, hint: str = "") -> float:
    """`value` as a float; raises `ConfigError` unless it is a finite number above zero."""
    number = finite(where, name, value)
    if number <= 0:
        raise ConfigError(f"{where}: {name} is {value!r}, expected a number above 0{hint and '; ' + hint}")
    return number


def count(where: str, name: str, value: Any, least: int) -> int:
    """`value` as an int; raises `ConfigError` unless it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ConfigError(f"{where}: {name} is {value!r}, expected a whole number of at least {least}")
    return int(value)


def increasing_times(where: str, times: ArrayLike) -> NDArray[np.float64]:
    """`times` as float64 `(time,)`; raises `ConfigError` unless they are finite and strictly increasing."""
    t = np.asarray(times, dtype=np.float64)
    if t.ndim != 1 or t.size == 0:
        raise ConfigError(f"{where}: times have shape {t.shape}, expected a list of at least one time")
    wrong = ~np.isfinite(t)
    wrong[1:] |= ~(np.diff(t) > 0)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ConfigError(f"{where}: times[{i}] is {t[i]:.10g}, expected finite and strictly increasing times")
    return t


def sides(
    where: str, entry: Side | Sequence[Side], allowed: Sequence[str], field: str = "u"
) -> tuple[Boundary, Boundary]:
    """(lower, upper) of one axis; one entry stands for both sides, and a bare kind `value` for the value 0.

    Raises:
        ConfigError: A kind is unknown or not among `allowed`, or one side only is periodic.
    """
    pair: tuple[Any, ...] = (entry, entry)
    if isinstance(entry, Sequence) and not isinstance(entry, str):
        pair = tuple(entry)
    if len(pair) != 2:
        raise ConfigError(f"{where}: boundary is {entry!r}, expected one entry or (lower, upper)")
    lower, upper = (_side(where, side, allowed, field) for side in pair)
    if (lower.kind == "periodic") != (upper.kind == "periodic"):
        raise ConfigError(f"{where}: boundary is periodic on one side only; make both sides periodic or neither")
    return lower, upper


def _side(where: str, entry: Any, allowed: Sequence[str], field: str) -> Boundary:
    if isinstance(entry, int | float | np.number) and not isinstance(entry, bool):
        entry = Boundary("value", ((field, finite(where, "boundary value", entry)),))
    try:
        boundary = as_boundary(entry)
    except SchemaError as error:
        raise ConfigError(f"{where}: {error}") from None
    if boundary.kind not in allowed:
        raise ConfigError(f"{where}: boundary {boundary.kind!r} is not supported here, expected {', '.join(allowed)}")
    if boundary.kind == "value" and not boundary.value:
        return Boundary("value", ((field, 0.0),))
    if any(name != field or not math.isfinite(value) for name, value in boundary.value):
        raise ConfigError(f"{where}: boundary values are {dict(boundary.value)}, expected a finite one for {field!r}")
    return boundary
