"""Units of time in messages: what a step is in another unit, and whether two steps differ by a unit only."""

from __future__ import annotations

import math

__all__ = ["looks_like_units", "measured", "same_time"]

_SECONDS = {
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("us", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}


def measured(value: float, units: str) -> str:
    """A number with its units, if it has any."""
    return f"{value:.10g}" if units == "1" else f"{value:.10g} {units}"


def same_time(step: float, units: str, own: float, own_units: str) -> str:
    """` (50 ms = 0.05 s)`; both steps where a unit is not known, and nothing where there is no step.

    Arguments:
        step: Of the data, NaN for a single time.
        units: In which it is.
        own: Step of the model.
        own_units: In which that is.
    """
    if math.isnan(step):
        return ""
    if units in _SECONDS and own_units in _SECONDS:
        converted = step * _SECONDS[units] / _SECONDS[own_units]
        return f" ({measured(step, units)} = {measured(converted, own_units)})"
    return f" (its step is {measured(step, units)}, that of this ROM {measured(own, own_units)})"


def looks_like_units(ratio: float) -> bool:
    """Whether a ratio is a power of ten or of 60, as between two units of time."""
    return any(abs(power - round(power)) < 1e-6 for power in (math.log10(ratio), math.log(ratio, 60)))
