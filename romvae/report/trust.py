"""How long forecasts can be trusted, and whether that held: a table and a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from romvae.plot.style import units_text
from romvae.report.reading import lookup, number, percent

__all__ = ["TrustTable", "trust_sentence", "trust_table"]

_USUAL: Final = 0.1
"""Tolerance of the sentence."""


@dataclass(frozen=True)
class TrustTable:
    """Trust horizons for several tolerances: a line for each, of texts with what stands below them."""

    caption: str
    columns: tuple[str, ...]
    lines: tuple[tuple[tuple[str, str], ...], ...]


def trust_table(metrics: Mapping[str, Any]) -> TrustTable | None:
    """None where nothing was measured."""
    trust = lookup(lookup(metrics, "rom"), "trust")
    found = _tolerances(trust)
    if not found:
        return None
    horizon = number(lookup(metrics, "data"), "horizon")
    whole = f" Forecasts end at {_time(metrics, horizon)}." if math.isfinite(horizon) else ""
    caption = (
        "The trust horizon is the lead time until which the ROM says that its error stays below a tolerance, in "
        "standard deviations of the field over the training data. Held are the runs whose error did stay below it "
        f"until then; {percent(number(trust, 'level'))} or more are promised, and below stands what chance allows with "
        f"{number(trust, 'calibration_runs'):.0f} calibration runs.{whole} The last column is what a horizon that knew "
        "the error would be."
    )
    columns = ("Tolerance", "Held", "Trusted to the end", "Median horizon", "Median time until the error is larger")
    lines = tuple(
        (
            (percent(number(each, "tolerance")), ""),
            (percent(number(each, "kept")), _chance(each)),
            (percent(number(each, "trusted_to_the_end")), ""),
            (_until(metrics, number(each, "median_horizon"), horizon), ""),
            (_until(metrics, number(each, "median_possible"), horizon), ""),
        )
        for each in found
    )
    return TrustTable(caption, columns, lines)


def trust_sentence(metrics: Mapping[str, Any]) -> str:
    """How long half of the forecasts are trusted at ten per cent, and how often that held; empty where unknown."""
    found = [each for each in _tolerances(lookup(lookup(metrics, "rom"), "trust")) if each.get("tolerance") == _USUAL]
    if not found:
        return ""
    median, end = number(found[0], "median_horizon"), number(lookup(metrics, "data"), "horizon")
    if median <= 0:
        return f"Fewer than half of its forecasts are trusted to stay below {_limit()} at all."
    long = "to the end" if _is_end(median, end) else f"for {_time(metrics, median)} or longer"
    return (
        f"Half of its forecasts are trusted {long} to stay below {_limit()}, and "
        f"{percent(number(found[0], 'kept'))} of the runs stayed below it for as long as that was said of them."
    )


def _limit() -> str:
    return f"an error of {percent(_USUAL)} of the field's standard deviation"


def _tolerances(trust: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = trust.get("tolerances") or ()
    return [each for each in found if isinstance(each, Mapping) and math.isfinite(number(each, "kept"))]


def _chance(each: Mapping[str, Any]) -> str:
    return f"{percent(number(each, 'expected_low'))} to {percent(number(each, 'expected_high'))}"


def _is_end(time: float, end: float) -> bool:
    return math.isfinite(end) and time >= end * (1 - 1e-6)


def _until(metrics: Mapping[str, Any], time: float, end: float) -> str:
    return "the end" if _is_end(time, end) else _time(metrics, time)


def _time(metrics: Mapping[str, Any], time: float) -> str:
    return f"{time:.3g} {units_text(lookup(metrics, 'data').get('time_units'))}".strip()
