"""Boundary conditions: what holds at the lower and at the upper end of an axis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args

import xarray as xr

from romvae.errors import SchemaError

__all__ = [
    "Boundary",
    "BoundaryEntry",
    "BoundaryKind",
    "as_boundary",
    "boundaries_of",
    "boundaries_to_json",
    "both_sides",
]

BoundaryKind = Literal["periodic", "wall", "reflecting", "open", "value"]
KINDS: tuple[str, ...] = get_args(BoundaryKind)


@dataclass(frozen=True)
class Boundary:
    """One side of one axis.

    Arguments:
        kind: `periodic` wraps around; `wall` and `reflecting` mirror the field; `open` lets it leave
            (extrapolation); `value` prescribes it.
        value: For the kind `value`, the prescribed value of each field, in its physical units.
    """

    kind: BoundaryKind
    value: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            near = get_close_matches(str(self.kind), KINDS, n=1)
            hint = f". Did you mean {near[0]!r}?" if near else ""
            raise SchemaError(f"boundary condition {self.kind!r} is unknown; use one of {', '.join(KINDS)}{hint}")
        if self.value and self.kind != "value":
            raise SchemaError(
                f"boundary condition {self.kind!r} takes no value, found {dict(self.value)}; use kind 'value'"
            )

    @property
    def entry(self) -> str | dict[str, Any]:
        """The JSON form: the kind alone, or `{"kind": "value", "value": {"u": 0.0}}`."""
        if self.kind != "value":
            return self.kind
        return {"kind": self.kind, "value": dict(self.value)}


BoundaryEntry = Boundary | str | Mapping[str, Any]


def as_boundary(entry: BoundaryEntry, where: str = "") -> Boundary:
    """Reads a kind, `{"kind": ..., "value": {field: number}}` or a `Boundary`.

    Raises:
        SchemaError: The kind is unknown or a value is no number.
    """
    if isinstance(entry, Boundary):
        return entry
    kind: Any = entry
    value: Any = {}
    if isinstance(entry, Mapping):
        kind, value = entry.get("kind"), entry.get("value", {})
    try:
        return Boundary(kind, tuple(sorted((str(name), float(v)) for name, v in value.items())))
    except (AttributeError, TypeError, ValueError) as error:
        text = str(error) if isinstance(error, SchemaError) else f"cannot read {entry!r} as a boundary condition"
        raise SchemaError(f"{where}{text}") from error


def both_sides(entry: Any) -> Any:
    """(lower, upper) where one condition stands for both; anything else as it is."""
    return (entry, entry) if isinstance(entry, str | Mapping | Boundary) else entry


def boundaries_to_json(boundaries: Mapping[str, tuple[BoundaryEntry, BoundaryEntry] | BoundaryEntry]) -> str:
    """The text of the attribute `boundary_conditions`: (lower, upper) of every axis; one condition stands for both.

    Raises:
        SchemaError: A condition is unknown, or an axis has not two of them.
    """
    return json.dumps(
        {
            axis: [as_boundary(side, f"{axis}: ").entry for side in _sides(axis, both_sides(pair), "")]
            for axis, pair in boundaries.items()
        }
    )


def boundaries_of(ds: xr.Dataset, source: str = "") -> dict[str, tuple[Boundary, Boundary]]:
    """(lower, upper) of every axis that the attribute `boundary_conditions` names.

    Returns:
        Axis name to its two sides; empty where the data do not say.

    Raises:
        SchemaError: The attribute cannot be read, or an axis is periodic on one side only.
    """
    text = ds.attrs.get("boundary_conditions")
    if text is None:
        return {}
    where = f"{source}: boundary_conditions: " if source else "boundary_conditions: "
    try:
        declared = json.loads(text)
        pairs = dict(declared.items())
    except (AttributeError, TypeError, ValueError) as error:
        raise SchemaError(
            f'{where}found {text!r}, expected JSON such as {{"x": ["periodic", "periodic"]}}; correct the attribute'
        ) from error
    found = {}
    for axis, pair in pairs.items():
        lower, upper = (as_boundary(side, f"{where}{axis}: ") for side in _sides(axis, pair, where))
        if (lower.kind == "periodic") != (upper.kind == "periodic"):
            raise SchemaError(f"{where}{axis} is periodic on one side only; make both sides periodic or neither")
        found[axis] = (lower, upper)
    return found


def _sides(axis: str, pair: Any, where: str) -> tuple[BoundaryEntry, BoundaryEntry]:
    if isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2:
        raise SchemaError(f"{where}{axis}: found {pair!r}, expected two entries, (lower, upper)")
    return pair[0], pair[1]
