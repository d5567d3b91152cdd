"""Whether 90 % intervals hold what they promise, over the whole horizon and in each fifth of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from romvae.report.chosen import subject
from romvae.report.reading import lookup, number

__all__ = ["coverage_in_words"]

# What a coverage of 0.9 may be and still count as kept.
_WHOLE: Final = (0.88, 0.92)
_FIFTH: Final = (0.85, 0.95)
# With fewer trajectories the limits are wider by a standard error: chance moves the coverage by that.
_MANY: Final = 200
_ORDINALS: Final = ("1st", "2nd", "3rd", "4th", "5th")


def coverage_in_words(metrics: Mapping[str, Any]) -> str:
    """A clause on the intervals: that they can be taken at their word, or where they are too narrow or too wide.

    They can be taken at their word where the coverage is from 88 to 92 % in all and from 85 to 95 % in every fifth of
    the horizon; with fewer than 200 test trajectories these limits are wider by the coverage's standard error.

    Arguments:
        metrics: `rom.coverage_90`, `rom.coverage_90_fifths`, their standard errors under the same names with `_se`, and
            `data.split.test`.
    """
    rom, count = lookup(metrics, "rom"), number(metrics, "data", "split", "test")
    wider = not count >= _MANY
    whole = _side(number(rom, "coverage_90"), number(rom, "coverage_90_se") if wider else 0.0, _WHOLE)
    found, errors = rom.get("coverage_90_fifths") or (), rom.get("coverage_90_fifths_se") or ()
    fifths = [number({"v": each}, "v") for each in found]
    deviations = [number({"v": each}, "v") if wider else 0.0 for each in errors] + [0.0] * len(fifths)
    sides = [_side(each, error, _FIFTH) for each, error in zip(fifths, deviations, strict=False)]
    where = " and ".join(
        f"too {side} in the {_listed([f'{_ORDINALS[k]} ({100 * fifths[k]:.0f} %)' for k in chosen])} fifth"
        for side in ("narrow", "wide")
        if (chosen := [k for k, each in enumerate(sides[:5]) if each == side])
    )
    if whole:
        meaning = "overconfident" if whole == "narrow" else "knowing more than it claims"
        apart = f"; by lead time they are {where} of the horizon" if where else ""
        return f"they are too {whole}, so treat {subject(metrics)} as {meaning}{apart}"
    if where:
        return f"that is right on average only, for they are {where} of the horizon"
    if not any(math.isfinite(each) for each in fifths):
        return "that is right on average, but how they do early and late was not measured"
    return "they can be taken at their word"


def _side(coverage: float, error: float, limits: tuple[float, float]) -> str:
    """`narrow`, `wide`, or nothing where the coverage is within limits or was not measured."""
    error = error if math.isfinite(error) else 0.0
    return "narrow" if coverage < limits[0] - error else "wide" if coverage > limits[1] + error else ""


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
