"""How a run far beyond the training horizon went, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from romvae.plot.style import units_text
from romvae.report.reading import lookup, multiple, number, percent

__all__ = ["long_run_sentence"]


def long_run_sentence(metrics: Mapping[str, Any]) -> str:
    """Whether a long run stayed bounded, and whether its statistics are those of the data; empty where there was none.

    Arguments:
        metrics: `rom.long_run`, see `romvae.comparison.long_run.long_run`; units and horizon in `data`.
    """
    run = lookup(lookup(metrics, "rom"), "long_run")
    steps, starts = number(run, "steps"), number(run, "trajectories")
    if not math.isfinite(steps):
        return ""
    whence = "a held-out start" if starts == 1 else f"{starts:.0f} held-out starts"
    late = number(run, "diverged_at_step")
    if math.isfinite(late):
        when = _time(metrics, late / steps * number(run, "time"))
        return f"A run from {whence} diverged at step {late:.0f} of {steps:.0f}{when}: do not use it for long runs."
    over = f"Over {steps:.0f} steps from {whence}{_length(metrics, number(run, 'time'))}"
    if not run.get("bounded"):
        largest = number(run, "largest_over_largest")
        how = f"its largest value is {multiple(largest)} times theirs" if math.isfinite(largest) else "it is not finite"
        return f"{over} it left the range of the data ({how}): do not use it for long runs."
    if run.get("frozen"):
        return f"{over} it stayed bounded but came to rest: do not use it for long runs."
    chance = number(run, "data_spectrum_error")
    apart = f" (that of the held-out data alone by {percent(chance)})" if math.isfinite(chance) else ""
    return (
        f"{over} it stayed bounded: its energy spectrum differs from that of the data by "
        f"{percent(number(run, 'spectrum_error'))}{apart}, its standard deviation by "
        f"{percent(number(run, 'std_error'))}, and its values are distributed as theirs to "
        f"{percent(number(run, 'distribution_error'))} of that."
    )


def _time(metrics: Mapping[str, Any], time: float) -> str:
    units = units_text(lookup(metrics, "data").get("time_units"))
    return f", time {f'{time:.3g} {units}'.strip()}" if math.isfinite(time) else ""


def _length(metrics: Mapping[str, Any], time: float) -> str:
    """How many held-out trajectories a run is long."""
    factor = time / (number(metrics, "data", "horizon") or math.nan)
    return f", {multiple(factor)} times as long as these forecasts," if math.isfinite(factor) and factor > 1 else ""
