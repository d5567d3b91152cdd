"""Errors of each field: what the scores of all fields together hide, as a table and a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from romvae.plot.style import plain, units_text
from romvae.report.reading import lookup, number, percent, ratio

__all__ = ["FieldTable", "field_table", "flattered"]

_OFFSET: Final = 3.0
"""How many times its standard deviation a field's mean is from where on its relative error is said to flatter."""


@dataclass(frozen=True)
class FieldTable:
    """A line for each field, the name first; `offset` says which of them are flattered by their mean."""

    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    offset: str


def field_table(metrics: Mapping[str, Any]) -> FieldTable | None:
    """None where nothing was measured by field, as in comparisons of earlier versions."""
    fields = lookup(lookup(metrics, "rom"), "fields")
    if not fields:
        return None
    columns = (
        "Field",
        "Relative L2",
        "RMSE over standard deviation",
        "Mean absolute error",
        "CRPS",
        "90 % intervals hold",
    )
    lines = tuple(
        (
            plain(name),
            _percent(number(each, "relative_l2")),
            _percent(number(each, "nrmse")),
            _with_units(number(each, "mean_absolute_error"), each),
            _with_units(number(each, "crps"), each),
            _percent(number(each, "coverage_90"), ".1f"),
        )
        for name, each in fields.items()
    )
    return FieldTable(columns, lines, flattered(metrics))


def flattered(metrics: Mapping[str, Any]) -> str:
    """Which fields are so far from zero that their relative error looks small, and what it is over their deviation.

    Empty where there is none.
    """
    found = []
    for name, each in lookup(lookup(metrics, "rom"), "fields").items():
        mean, std, error = (number(each, key) for key in ("mean", "standard_deviation", "nrmse"))
        if std > 0 and abs(mean) > _OFFSET * std and math.isfinite(error):
            relative = percent(number(each, "relative_l2"))
            found.append(
                f"The mean of {plain(name)} is {ratio(abs(mean) / std)} its standard deviation, which flatters its "
                f"relative L2 error ({relative}): over the deviation it is {percent(error)}."
            )
    return " ".join(found)


def _percent(share: float, digits: str = "") -> str:
    if not math.isfinite(share):
        return "–"
    return f"{100 * share:{digits}} %" if digits else percent(share)


def _with_units(value: float, field: Any) -> str:
    return f"{value:.3g} {units_text(field.get('units'))}".strip() if math.isfinite(value) else "–"
