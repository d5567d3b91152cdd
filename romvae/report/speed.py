"""What the verdict says of cost: the ROM against the cheapest run of the solver that is as accurate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from romvae.plot.style import plain
from romvae.report.chosen import subject
from romvae.report.reading import lookup, number, percent, ratio, rounded_up, seconds_text

__all__ = ["as_it_is", "costs", "run_text", "slower", "unsearched", "worthless"]


def slower(metrics: Mapping[str, Any]) -> bool:
    """Whether a forecast without uncertainty costs more than the solver at equal accuracy, alone or in a batch."""
    rom = lookup(lookup(lookup(metrics, "cost"), "rom"), "mean")
    factors = [number(rom, name) for name in ("speed_up", "speed_up_batch")]
    return any(factor < 1 for factor in factors)


def as_it_is(metrics: Mapping[str, Any]) -> bool:
    """Whether the solver could not be made cheaper, so that a ratio of costs is not one at equal accuracy."""
    return lookup(lookup(metrics, "cost"), "solver").get("coarsened") is False


def unsearched(metrics: Mapping[str, Any]) -> bool:
    """Whether the time cap ended the search with nothing but the solver as it is, which is no equal accuracy either."""
    cost = lookup(metrics, "cost")
    run = lookup(lookup(lookup(cost, "rom"), "mean"), "solver")
    return lookup(cost, "solver").get("complete") is False and bool(run) and not lookup(run, "settings")


def worthless(metrics: Mapping[str, Any]) -> str:
    """Why a speed-up would say nothing: the mean of the training data forecasts as well; empty where it does not."""
    own, mean = number(metrics, "rom", "relative_l2"), number(metrics, "baselines", "climatology", "relative_l2")
    if not mean <= own:
        return ""
    return (
        f"No speed-up is quoted: {subject(metrics)} is no better than climatology, the mean of the training data, "
        f"which costs nothing ({percent(own)} against {percent(mean)} off)."
    )


def costs(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences on cost; none where none was measured."""
    cost = lookup(metrics, "cost")
    rom = lookup(lookup(cost, "rom"), "mean")
    if not math.isfinite(number(rom, "seconds")):
        return []
    if cost.get("unknown"):
        alone, batch = (seconds_text(number(rom, name)) for name in ("seconds", "seconds_batch"))
        return [
            f"A rollout takes {alone}, and {batch} per trajectory in a batch. Nothing can be said about a speed-up: "
            f"{cost['unknown']}."
        ]
    if worthless(metrics):
        return [*_slow_too(metrics), worthless(metrics)]
    if not lookup(rom, "solver"):
        found = percent(number(lookup(cost, "solver"), "reproduces_data_to"))
        return [
            f"No run of the solver that was tried comes as close to these data as {subject(metrics)} (as it is, it "
            f"is {found} off): nothing can be said about a speed-up."
        ]
    sentences = [
        _headline(rom, metrics),
        _one_by_one(cost),
        _with_uncertainty(lookup(lookup(cost, "rom"), "ensemble")),
        _pays_off(cost),
    ]
    if not lookup(cost, "solver").get("complete", True):
        sentences.append(
            "The search for a cheaper run of the solver was ended by its time cap: the solver may be cheaper than that."
        )
    if lookup(cost, "solver").get("warning"):
        sentences.append(f"A caution: {lookup(cost, 'solver')['warning']}.")
    return [sentence for sentence in sentences if sentence]


def run_text(run: Mapping[str, Any]) -> str:
    """A run of the solver in words.

    >>> run_text({"settings": {"resolution": 24}, "every": 4})
    'the solver with resolution = 24, every 4th time'
    >>> run_text({"settings": {}, "every": 1})
    'the solver as it is'
    """
    words = [f"{plain(name)} = {_short(value)}" for name, value in lookup(run, "settings").items()]
    every = number(run, "every")
    if every > 1:
        ordinal = {2: "2nd", 3: "3rd"}.get(int(every), f"{every:.0f}th")
        words.append(f"every {ordinal} time")
    return f"the solver with {', '.join(words)}" if words else "the solver as it is"


def _headline(rom: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    who = subject(metrics, first=True)
    alone, batch = number(rom, "speed_up"), number(rom, "speed_up_batch")
    run, error = lookup(rom, "solver"), percent(number(rom, "solver", "error"))
    size = f"in batches of {number(rom, 'batch'):.0f}"
    if as_it_is(metrics) or unsearched(metrics):
        return _against_as_it_is(metrics, (alone, batch), size, run_text(run))
    against = f"the cheapest solver run that is as accurate ({run_text(run)}, {error} off)"
    if alone >= 1 and batch >= 1:
        return (
            f"At equal accuracy {subject(metrics)} is {ratio(alone)} faster for one trajectory and "
            f"{ratio(batch)} {size}, against {against}."
        )
    if alone < 1 and batch < 1:
        return (
            f"{who} is slower than the solver at equal accuracy: {ratio(1 / alone)} for one trajectory and "
            f"{ratio(1 / batch)} {size}, against {against}. Where time is what counts, use the solver."
        )
    slow, fast = ("for one trajectory", size) if alone < 1 else (size, "for one trajectory")
    down, up = (alone, batch) if alone < 1 else (batch, alone)
    return (
        f"{who} is slower than the solver at equal accuracy {slow} ({ratio(1 / down)}), and faster {fast} "
        f"({ratio(up)}), against {against}."
    )


def _slow_too(metrics: Mapping[str, Any]) -> list[str]:
    """That a forecast which is worth nothing is slow as well."""
    rom = lookup(lookup(lookup(metrics, "cost"), "rom"), "mean")
    when = {"speed_up": "for one trajectory", "speed_up_batch": f"in batches of {number(rom, 'batch'):.0f}"}
    slow = [f"{ratio(1 / number(rom, name))} {text}" for name, text in when.items() if number(rom, name) < 1]
    than = "as it is" if as_it_is(metrics) or unsearched(metrics) else "at equal accuracy"
    who = subject(metrics, first=True)
    return [f"{who} is slower than the solver {than}: {' and '.join(slow)}."] if slow else []


def _against_as_it_is(metrics: Mapping[str, Any], factors: tuple[float, float], size: str, run: str) -> str:
    """The ratio to a solver for which no cheaper setting is known, which is not one at equal accuracy."""
    who, inside = subject(metrics, first=True), subject(metrics)
    alone, batch = (f"{ratio(max(each, 1 / each))} {'faster' if each >= 1 else 'slower'}" for each in factors)
    why = "No cheaper setting of this solver is known" if as_it_is(metrics) else "No cheaper run was found in time"
    text = (
        f"{who} is {alone} for one trajectory and {batch} {size} than {run}. {why}, so that it is more accurate than "
        f"it would have to be: that flatters {inside}."
    )
    return f"{text} Where time is what counts, use the solver." if max(factors) < 1 else text


def _one_by_one(cost: Mapping[str, Any]) -> str:
    """That a batch of the model stands against single runs, where the solver can compute no more at once."""
    if lookup(cost, "solver").get("batched") is not False:
        return ""
    return "The solver has no batched mode: batches are compared with its runs one by one."


def _with_uncertainty(rom: Mapping[str, Any]) -> str:
    batch, members = number(rom, "speed_up_batch"), number(rom, "members")
    if not math.isfinite(batch):
        return ""
    word = "faster" if batch >= 1 else "slower"
    return (
        f"With its uncertainty ({members:.0f} members), which the solver does not give, it is "
        f"{ratio(max(batch, 1 / batch))} {word} than that in a batch."
    )


def _pays_off(cost: Mapping[str, Any]) -> str:
    paid = lookup(cost, "pay_off")
    training, data = number(paid, "training_seconds"), number(paid, "data_seconds")
    if not math.isfinite(training):
        return ""
    text = f"Training took {seconds_text(training)}"
    if data > 0:
        text += f" and the simulations for it {seconds_text(data)}"
    count = number(paid, "break_even_mean_batch")
    if not math.isfinite(count):
        return f"{text}, which no number of rollouts earns back."
    return f"{text}, which is earned back after about {rounded_up(count)} rollouts in batches."


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " x ".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
