"""The page's section on cost: the ROM against the cheapest run of the solver that is as accurate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from romvae import plot
from romvae.report.chosen import model_title, subject
from romvae.report.picture import Picture, as_picture
from romvae.report.reading import lookup, number, percent, ratio, seconds_text
from romvae.report.speed import as_it_is, run_text

__all__ = ["cost_charts", "cost_lead", "cost_rows"]

_KINDS = {"mean": "mean forecast, without uncertainty", "ensemble": "with its uncertainty"}


_LINE = (
    "A model is worth its training where its star lies to the left of the dark line at its own height: that distance "
    "is the speed-up. Where the line leaves the chart it goes on to the solver as the data were made with. "
)


def cost_lead(metrics: Mapping[str, Any]) -> tuple[str, str]:
    """Title of the section and what stands below it."""
    if as_it_is(metrics):
        return "Cost", (
            "What counts is the cheapest run of the solver that is still as accurate as "
            f"{subject(metrics)}. That is not known here, because this solver has no settings that make it cheaper: "
            f"figures are for the solver as it is, which flatters {subject(metrics)}."
        )
    return "Cost at equal accuracy", (
        "A solver can be made faster by making it coarser. What counts is the cheapest run of it that is still as "
        f"accurate as {subject(metrics)}."
    )


def cost_charts(metrics: Mapping[str, Any]) -> list[Picture]:
    """Error against seconds; nothing where no costs were measured."""
    cost = lookup(metrics, "cost")
    rom = {}
    for kind, text in _KINDS.items():
        each = lookup(lookup(cost, "rom"), kind)
        error = number(each, "relative_l2")
        if math.isfinite(error) and number(each, "seconds") > 0:
            rom[f"{model_title(metrics)}, {text.split(',')[0]}"] = (number(each, "seconds"), error)
    if not rom:
        return []
    runs = [run for run in lookup(cost, "solver").get("sweep") or () if isinstance(run, Mapping)]
    # The reference as it is repeats the data; its error is that of the data themselves, where that is known.
    own = number(metrics, "rom", "reference_error")
    points = [(number(run, "seconds"), number(run, "error")) for run in runs[1:]]
    if runs and own > 0:
        points.append((number(runs[0], "seconds"), own))
    others = {
        name: (number(scores, "rollout_seconds"), number(scores, "relative_l2"))
        for name, scores in lookup(metrics, "baselines").items()
        if number(scores, "rollout_seconds") > 0
    }
    what = "the solver with fewer points and longer steps, " if points else ""
    what = "the solver asked for fewer times, " if points and as_it_is(metrics) else what
    return [
        as_picture(
            plot.cost_accuracy(points, rom, others, own if own > 0 else None),
            "What accuracy costs",
            f"Each mark is a way to get the same forecasts: {what}{subject(metrics)}, and the baselines. Further left "
            f"is cheaper, further down more accurate. {'' if as_it_is(metrics) else _LINE}Process time, one trajectory "
            "at a time; batches are in the table.",
            "Scatter chart of relative L2 error over seconds per trajectory: "
            + "; ".join(f"{name} {percent(error)} at {seconds_text(s)}" for name, (s, error) in rom.items()),
        )
    ]


def cost_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lines of the table of costs; what was not measured is left out."""
    cost = lookup(metrics, "cost")
    lines = []
    for kind, text in _KINDS.items():
        each = lookup(lookup(cost, "rom"), kind)
        members = f" ({number(each, 'members'):.0f} members)" if kind == "ensemble" else ""
        for suffix, when in (("", "one trajectory"), ("_batch", f"batch of {number(each, 'batch'):.0f}")):
            line = _against(each, suffix)
            if line:
                lines.append((f"{model_title(metrics)} {text}{members}, {when}", line))
        over = number(each, "over_decoder")
        if math.isfinite(over):
            lines.append((f"{model_title(metrics)} {text}: rollout over the bare decoder's arithmetic", f"{over:.2g}"))
    runs = lookup(cost, "solver").get("sweep") or ()
    if runs:
        lines.append(
            ("solver as the data were made with", f"{seconds_text(number(runs[0], 'seconds'))} per trajectory")
        )
        tried = "none: no cheaper one is known" if as_it_is(metrics) else str(len(runs))
        lines.append(("settings of the solver that were tried", tried))
    batched = lookup(cost, "solver").get("batched")
    if batched is not None:
        lines.append(("the solver in a batch", "all at once" if batched else "one by one: it has no batched mode"))
    paid = lookup(cost, "pay_off")
    if math.isfinite(number(paid, "training_seconds")):
        text = f"{seconds_text(number(paid, 'training_seconds'))} of training"
        if number(paid, "data_seconds") > 0:
            text += f", {seconds_text(number(paid, 'data_seconds'))} for {paid.get('simulated')} simulations"
        lines.append(("before the first rollout", text))
    if cost.get("unknown"):
        lines.append(("not known", str(cost["unknown"])))
    if math.isfinite(number(cost, "threads")):
        count = f"{number(cost, 'threads'):.0f}"
        lines.append(
            ("measured", f"process time, {count} thread{'' if count == '1' else 's'}, same process and trajectories")
        )
    return lines


def _against(each: Mapping[str, Any], suffix: str) -> str:
    seconds = number(each, f"seconds{suffix}")
    if not math.isfinite(seconds):
        return ""
    text = f"{seconds_text(seconds)} at {percent(number(each, 'relative_l2'))} error"
    run, factor = lookup(each, f"solver{suffix}"), number(each, f"speed_up{suffix}")
    if not math.isfinite(factor):
        return text
    word = "faster" if factor >= 1 else "slower"
    solver = seconds_text(number(run, f"seconds{suffix}"))
    error = percent(number(run, "error"))
    return f"{text}: {ratio(max(factor, 1 / factor))} {word} than {run_text(run)}, which takes {solver} for {error}"
