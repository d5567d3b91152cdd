"""Speed-ups with what they rest on: members, size of the batch, search for the solver's cheapest run, machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from romvae.benchmark.costs import has_skill, speed_up
from romvae.benchmark.machines import on_what
from romvae.benchmark.result import Result, value_at
from romvae.benchmark.words import over, plain

if TYPE_CHECKING:
    from romvae.benchmark.page import Group

__all__ = ["BATCH", "FAST", "conditions", "is_sound", "speed_row", "speed_sentence", "timed_sentence"]

FAST = 10.0
"""Speed-up of a batch at equal accuracy that is wanted on some two-dimensional problems."""
BATCH = 64
"""Trajectories of a batch; fewer where memory was short."""
_WANTED = 3
_SIZE, _COMPLETE = "metrics.cost.rom.mean.batch", "metrics.cost.solver.complete"
_MEMBERS = "metrics.cost.rom.ensemble.speed_up_batch"


def is_sound(results: Sequence[Result]) -> bool:
    """Whether batches had `BATCH` trajectories and the search for the solver's cheapest run came to its end."""
    sizes = [value_at(result.content, _SIZE) for result in results]
    return all(size is not None and size >= BATCH for size in sizes) and all(
        value_at(result.content, _COMPLETE) is True for result in results
    )


def conditions(results: Sequence[Result]) -> list[str]:
    """In words what differs from a batch of `BATCH` and from a search that came to its end."""
    sizes = dict.fromkeys(value_at(result.content, _SIZE) for result in results)
    ends = {value_at(result.content, _COMPLETE) for result in results}
    words = [f"batch of {size or 'unknown size'}" for size in sizes if size != BATCH]
    words += ["search cut short"] if False in ends else []
    return words + (["search of unknown end"] if None in ends else [])


def speed_sentence(groups: Sequence[Group]) -> str:
    """On how many problems a batch is much faster than the solver, and on how many slower; empty without any."""
    found = _known(groups)
    if not found:
        return ""
    fast = {name: results for name, (value, results) in found.items() if value >= FAST}
    slow = sum(value < 1 for value, _ in found.values())
    members = {name: value for name, (_, results) in found.items() if (value := _with_members(results)) is not None}
    where = f": {_all_quoted(fast)}" if fast else ""
    text = (
        f"A batch of rollouts (the mean alone) is at least {FAST:g} times faster than the cheapest run of the solver "
        f"that is as accurate on {len(fast)} of {len(found)} problems{where}. It is slower than the solver on "
        f"{slow}: there the solver is the better choice where time counts."
    )
    if members:
        faster = sum(value > 1 for value in members.values())
        text += (
            " With all its members, which errors and intervals rest on, the speed-up is above 1 on "
            f"{faster} of {len(members)}, and {plain(max(members.values()))} at most."
        )
    if any("search cut short" in conditions(results) for results in fast.values()):
        text += " Where the search was cut short, there may be a cheaper setting of the solver."
    return f"{text} {_measured([results for _, results in found.values()])}"


def speed_row(groups: Sequence[Group]) -> list[str]:
    """The target of two-dimensional problems: what, wanted, reached on, missed on."""
    flat = [group for group in groups if "_2d" in group[0].name]
    ranked = sorted(_known(flat).items(), key=lambda item: -item[1][0])
    fast = {name: results for name, (value, results) in ranked if value >= FAST}
    sound, other = ({n: r for n, r in fast.items() if is_sound(r) is wanted} for wanted in (True, False))
    what = (
        f"speed-up of a batch of {BATCH} (the mean alone) at equal accuracy, where the search for the solver's "
        "cheapest run came to its end, two-dimensional problems"
    )
    reached = f"{len(sound)} of {len(flat)}" + (f": {_all_quoted(sound)}" if sound else "")
    missed = ["the target as a whole"] if len(sound) < _WANTED else []
    missed += [f"as fast, but not counted: {_all_quoted(other)}"] if other else []
    measured = f", those that reach it measured {on_what(r for each in sound.values() for r in each)}" if sound else ""
    return [what + measured, f"at least {FAST:g} on {_WANTED}", reached, "; ".join(missed)]


def timed_sentence(groups: Sequence[Group]) -> str:
    """On how many held-out trajectories the errors are that the solver has to reach; empty where it is unknown."""
    known = [value_at(result.content, "metrics.cost.trajectories") for _, results in groups for result in results]
    counts = [count for count in known if count is not None]
    if not counts:
        return ""
    number = f"{min(counts)}" + (f" to {max(counts)}" if max(counts) > min(counts) else "")
    return f"Timed, and compared with the solver, were {number} held-out trajectories per seed."


def _known(groups: Sequence[Group]) -> Mapping[str, tuple[float, Sequence[Result]]]:
    """Speed-up of a batch and results, by name of the problem, where it is known and the forecast has skill."""
    return {p.name: (value, results) for p, results in groups if (value := speed_up(results)) is not None}


def _with_members(results: Sequence[Result]) -> float | None:
    """Speed-up of a batch with all members, the mean over seeds."""
    found = [value_at(result.content, _MEMBERS) for result in results]
    if not all(isinstance(each, (int, float)) for each in found) or not all(map(has_skill, results)):
        return None
    return sum(found) / len(found)


def _quoted(name: str, results: Sequence[Result]) -> str:
    """A problem with its speed-up, that with members, and what the two rest on."""
    members = over(results, _MEMBERS, plain)
    notes = [f"{members} with members"] if members != "-" else []
    notes += conditions(results)
    return f"{name} {plain(speed_up(results) or 0.0)}" + (f" ({', '.join(notes)})" if notes else "")


def _all_quoted(found: Mapping[str, Sequence[Result]]) -> str:
    return "; ".join(_quoted(name, results) for name, results in found.items())


def _measured(groups: Sequence[Sequence[Result]]) -> str:
    return f"Measured {on_what(r for results in groups for r in results)}, solver and rollouts side by side."
