"""Tables of what rollouts cost beside the solver and the baselines, and what came before the first one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from romvae.benchmark.ahead import OWN, errors_of
from romvae.benchmark.result import Result, value_at
from romvae.benchmark.words import markdown, milliseconds, named, over, percent, plain, seconds_of, spread

if TYPE_CHECKING:
    from romvae.benchmark.page import Group

__all__ = ["UNSKILLED", "break_even", "has_skill", "rollout_table", "speed_up", "work_table"]

UNSKILLED = "no skill"
"""In place of a speed-up, where climatology is as accurate."""
_MEAN = "metrics.cost.rom.mean."


def has_skill(result: Result) -> bool:
    """Whether the forecast is better than climatology, as far as that was run."""
    own = value_at(result.content, "metrics.rom.relative_l2")
    by_mean = value_at(result.content, "metrics.baselines.climatology.relative_l2")
    return own is None or by_mean is None or own < by_mean


def speed_up(results: Sequence[Result]) -> float | None:
    """Of a batch at equal accuracy, the mean over seeds; None where it is not known, or without skill."""
    found = [value_at(result.content, _MEAN + "speed_up_batch") for result in results]
    if not found or not all(isinstance(each, (int, float)) for each in found) or not all(map(has_skill, results)):
        return None
    return sum(found) / len(found)


def break_even(result: Result) -> int | None:
    """Rollouts in batches after which simulations and training are earned back, by measured process time.

    None where the solver is cheaper, or where a cost is not known.
    """
    own, solver = (value_at(result.content, _MEAN + name) for name in ("seconds_batch", "solver_batch.seconds_batch"))
    training = value_at(result.content, "cost.process_seconds.train")
    data = value_at(result.content, "metrics.cost.pay_off.data_seconds") or 0.0
    if own is None or solver is None or training is None or solver <= own or not has_skill(result):
        return None
    return math.ceil((training + data) / (solver - own))


def rollout_table(groups: Sequence[Group]) -> str:
    """A rollout beside solver, baselines and decoder, at equal accuracy."""
    head = ["problem", "error to reach", "batch of", "rollout, ms", "solver as it is, ms", "solver as accurate, ms"]
    head += ["its batches", "speed-up: one run", "batch", "batch with members", "baseline as accurate, ms"]
    times = [_MEAN + "seconds_batch", "metrics.cost.solver.sweep.0.seconds_batch", _MEAN + "solver_batch.seconds_batch"]
    ratios = [_MEAN + "speed_up", _MEAN + "speed_up_batch", "metrics.cost.rom.ensemble.speed_up_batch"]
    rows = []
    for problem, results in groups:
        skilled = all(map(has_skill, results))
        factors = [over(results, path, plain) if skilled else UNSKILLED for path in ratios]
        rows.append(
            [
                named(problem, results),
                over(results, _MEAN + "relative_l2", percent),
                over(results, _MEAN + "batch", lambda size: f"{size:.0f}"),
                *(over(results, path, milliseconds) for path in times),
                _batches(results),
                *factors,
                _cheaper(results),
                over(results, _MEAN + "over_decoder", plain),
            ]
        )
    return markdown([*head, "rollout / decoder"], rows)


def work_table(groups: Sequence[Group]) -> str:
    """What came before the first rollout, and after how many it is earned back."""
    head = ["problem", "trajectories", "simulate", "train", "baselines", "compare", "rollouts to break even"]
    rows = []
    for problem, results in groups:
        parts = value_at(results[0].content, "metrics.data.split") or {}
        counts = [parts.get(name) for name in ("train", "variance", "calibration", "test")]
        stages = [over(results, f"cost.process_seconds.{name}", seconds_of) for name in head[2:6]]
        sizes = " + ".join("-" if each is None else str(each) for each in counts)
        rows.append([named(problem, results), sizes, *stages, spread(map(break_even, results), plain)])
    return markdown(head, rows)


def _batches(results: Sequence[Result]) -> str:
    """How the solver computes many trajectories, and whether the search for its cheapest run was cut short."""
    found = [value_at(result.content, "metrics.cost.solver.batched") for result in results]
    words = {True: "together", False: "one by one", None: "-"}
    kinds = " or ".join(dict.fromkeys(words[each] for each in found))
    cut = any(value_at(result.content, "metrics.cost.solver.complete") is False for result in results)
    return kinds + (", search cut short" if cut else "")


def _cheaper(results: Sequence[Result]) -> str:
    """The baseline with the cheapest rollout of those that are as accurate as romvae; `-` where a seed has none."""
    names: dict[str, None] = {}
    times = []
    for result in results:
        each = errors_of([result])
        own = each.pop(OWN)[result.seed]
        good = {}
        for name, errors in each.items():
            seconds, error = value_at(result.content, f"metrics.baselines.{name}.rollout_seconds"), errors[result.seed]
            if seconds is not None and error is not None and own is not None and error <= own:
                good[name] = seconds
        if not good:
            return "-"
        best = min(good, key=good.__getitem__)
        names[best.replace("_", " ")] = None
        times.append(good[best])
    return f"{' or '.join(names)}, {spread(times, milliseconds)}"
