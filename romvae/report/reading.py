"""Numbers out of `metrics.json`, and as readers want to see them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["interval_text", "lookup", "multiple", "number", "percent", "ratio", "rounded_up", "seconds_text"]


def lookup(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping under `key`, or an empty one where there is none."""
    found = mapping.get(key)
    return found if isinstance(found, Mapping) else {}


def number(mapping: Any, *path: str) -> float:
    """The number at a path of keys; NaN where a key is missing or holds no number."""
    for key in path:
        if not isinstance(mapping, Mapping):
            return math.nan
        mapping = mapping.get(key)
    try:
        return float(mapping)
    except (TypeError, ValueError):
        return math.nan


def percent(share: float) -> str:
    """A share as per cent with two significant digits.

    >>> percent(0.0321), percent(0.5), percent(0.00012), percent(33.0)
    ('3.2 %', '50 %', '0.012 %', '3300 %')
    """
    if not math.isfinite(share):
        return "not finite"
    value = 100 * share
    if value == 0:
        return "0 %"
    if value > 1e5:
        return "over 100000 %"
    value = float(f"{value:.1e}")  # rounded first: 9.99 is 10, not 10.0
    return f"{value:.{max(0, 1 - math.floor(math.log10(abs(value))))}f} %"


def seconds_text(seconds: float) -> str:
    """A duration for readers.

    >>> seconds_text(0.0123), seconds_text(42.2), seconds_text(185)
    ('0.012 s', '42 s', '3 min 5 s')
    """
    if seconds >= 99.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def ratio(factor: float) -> str:
    """A factor of two numbers in words."""
    if not math.isfinite(factor):
        return "infinitely many times"
    return f"{multiple(factor)} times"


def multiple(factor: float) -> str:
    """A factor of two numbers with the digits that tell it from one.

    >>> multiple(1.02), multiple(3.4), multiple(12.3)
    ('1.02', '3.4', '12')
    """
    return f"{factor:.2f}" if factor < 1.095 else f"{factor:.1f}" if factor < 9.95 else f"{factor:.0f}"


def rounded_up(value: float) -> str:
    """Two significant digits, rounded up.

    >>> rounded_up(1145)
    '1200'
    """
    step = 10 ** max(0, math.floor(math.log10(max(value, 1.0))) - 1)
    return str(max(1, math.ceil(value / step) * step))


def interval_text(scores: Mapping[str, Any], name: str) -> str:
    """The confidence interval of a relative error, to stand behind it in brackets; empty where there is none."""
    bounds = lookup(scores, "intervals").get(name) or (None, None)
    low, high, level = number({"v": bounds[0]}, "v"), number({"v": bounds[1]}, "v"), number(scores, "confidence")
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"; {100 * level:.0f} % confidence: {percent(low)} to {percent(high)}"
