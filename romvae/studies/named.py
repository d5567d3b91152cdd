"""Quantities of interest by name: `mean:u`, `l2:u`, `max:u`, `min:u` and `probe:u@x=0.3,y=0.5`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from romvae.canonical import did_you_mean
from romvae.errors import ConfigError
from romvae.quantities import Quantity, l2, maximum, mean, minimum, probe, standard
from romvae.schema import Schema

__all__ = ["KINDS", "named", "resolved"]

KINDS: dict[str, Callable[[str], Quantity]] = {
    "mean": mean,
    "l2": l2,
    "max": maximum,
    "maximum": maximum,
    "min": minimum,
    "minimum": minimum,
}
_FORM = "KIND:FIELD, such as mean:u, l2:u, max:u, min:u or probe:u@x=0.3"


def resolved(quantities: Sequence[Quantity | str], schema: Schema) -> tuple[Quantity, ...]:
    """Quantities by name or as they are; mean, L2, maximum and minimum of every field where there are none.

    Raises:
        ConfigError: A name is not understood, or there are two of one name.
        SchemaError: There is no such field.
    """
    found = tuple(named(each, schema) if isinstance(each, str) else each for each in quantities) or standard(schema)
    names = [each.name for each in found]
    for quantity in found:
        quantity.check(schema)
        if names.count(quantity.name) > 1:
            raise ConfigError(f"quantity {quantity.name!r} is given twice. Leave one out, or rename it.")
    return found


def named(text: str, schema: Schema) -> Quantity:
    """The quantity that a text names; a probe is called after its place, such as `u_probe_x0p3`.

    Raises:
        ConfigError: It is not understood, or a probe lies outside of the grid.
    """
    kind, colon, rest = text.partition(":")
    field, at, place = rest.partition("@")
    if not colon or not field or (kind != "probe" and at):
        raise ConfigError(f"quantity {text!r}: is not understood, expected {_FORM}.")
    if kind in KINDS:
        return KINDS[kind](field)
    if kind != "probe":
        raise ConfigError(
            f"quantity {text!r}: kind is {kind!r}.{did_you_mean(kind, [*KINDS, 'probe'])} Expected {_FORM}."
        )
    where = _place(text, place)
    names = schema.grid.names
    if set(where) != set(names):
        example = ",".join(f"{name}=0.5" for name in names)
        raise ConfigError(f"quantity {text!r}: the place needs {', '.join(names)}, such as probe:{field}@{example}.")
    for axis in schema.grid.axes:
        low, high = axis.coordinates[0], axis.coordinates[-1]
        room = (high - low) / max(1, axis.size - 1)
        if not low - room <= where[axis.name] <= high + room:
            raise ConfigError(
                f"quantity {text!r}: {axis.name} = {where[axis.name]:g} lies outside of the grid, {low:g} to {high:g}. "
                "Choose a place inside."
            )
    shown = "_".join(f"{name}{_identifier(where[name])}" for name in sorted(names))
    return probe(field, f"{field}_probe_{shown}", **where)


def _place(text: str, place: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in place.split(",") if place else ():
        name, equals, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals or name.strip() == "":
            raise ConfigError(f"quantity {text!r}: {part!r} is no place, expected AXIS=NUMBER, such as x=0.3.")
    return found


def _identifier(value: float) -> str:
    """A number as part of a variable's name: `0.3` as `0p3`, `-1` as `m1`."""
    return f"{value:.10g}".replace("-", "m").replace(".", "p").replace("+", "")
