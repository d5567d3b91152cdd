"""Who is ahead on a problem, by how much, whether chance explains it as well, and why a method has no figure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from romvae.benchmark.result import WITHOUT, Result, value_at
from romvae.comparison.significance import SURE
from romvae.errors import NOT_INSTALLED

if TYPE_CHECKING:
    from romvae.benchmark.page import Group

__all__ = [
    "ALIKE",
    "OWN",
    "Standing",
    "absences",
    "ahead",
    "better_on",
    "chance",
    "errors_of",
    "is_resolvable",
    "remarks",
    "spared",
    "standing",
]

Standing = Literal["ahead", "tied", "behind", "alone"]

OWN, DIVERGED = "romvae", "diverged"
ALIKE = 1.005
"""Factors below it read "1 times"."""


def errors_of(results: Sequence[Result]) -> dict[str, dict[int, float | None]]:
    """Relative L2 errors by method, romvae first, each by seed; None where a rollout diverged."""
    found: dict[str, dict[int, float | None]] = {OWN: {}}
    for result in results:
        metrics = result.content["metrics"]
        found[OWN][result.seed] = value_at(metrics, "rom.relative_l2")
        for name, scores in metrics.get("baselines", {}).items():
            found.setdefault(name, {})[result.seed] = scores.get("relative_l2")
        for name, reason in (value_at(result.content, "baselines.left_out") or {}).items():
            if _why_not(reason)[0] == DIVERGED and name not in metrics.get("baselines", {}):
                found.setdefault(name, {})[result.seed] = None
    return found


def is_resolvable(results: Sequence[Result], method: str) -> bool:
    """Whether a method's error is above the reference solution's own on every seed, as far as that is known."""
    for result in results:
        own = value_at(result.content, "metrics.rom.reference_error")
        error = errors_of([result]).get(method, {}).get(result.seed)
        marked = method == OWN and value_at(result.content, "metrics.rom.not_resolvable") is True
        if marked or (own is not None and error is not None and error < own):
            return False
    return True


def ahead(results: Sequence[Result]) -> str:
    """The method of the least error and by how much; not told apart where the stored tests say that chance may do it.

    Both with the number of runs on which the first method has the smaller error. A result holds the paired test of
    romvae against the best baseline, and on how many runs which of them is better. Two baselines have no test against
    each other.
    """
    means = _means(errors_of(results))
    ranked = sorted(means, key=means.__getitem__)
    if len(ranked) < 2:
        return _words(ranked[0]) if ranked else "-"
    first, second = ranked[:2]
    if not is_resolvable(results, first) and not is_resolvable(results, second):
        return f"{_words(first)} and {_words(second)}, not resolvable"
    maybe = chance(results)
    if maybe:
        runs = _runs(_tests(results, second if first == OWN else first), first == OWN)
        return f"{_words(first)}, not told apart from {_words(OWN if first != OWN else second)} ({maybe}){runs}"
    factor, own = means[second] / max(means[first], 1e-300), OWN in (first, second)
    if factor < ALIKE and not own:
        return f"{_words(first)} and {_words(second)} alike"
    tests = _tests(results, second if first == OWN else first) if own else []
    runs = _runs(tests, first == OWN)
    other = "" if own else f" {_words(second)}"
    return f"{_words(first)}, {factor:.3g} times{other}" + (runs if tests else " (not tested)")


def standing(results: Sequence[Result]) -> Standing:
    """Whether romvae is ahead, behind, or not told apart from the best; alone, where nothing else has an error."""
    means = _means(errors_of(results))
    ranked = sorted(means, key=means.__getitem__)
    if len(ranked) < 2 or OWN not in means:
        return "alone"
    unresolved = not any(is_resolvable(results, name) for name in ranked[:2])
    if chance(results) or (unresolved and OWN in ranked[:2]):
        return "tied"
    return "ahead" if ranked[0] == OWN else "behind"


def better_on(results: Sequence[Result]) -> tuple[int, int] | None:
    """On how many test runs romvae has a smaller error than the best other method, and of how many; None if unknown."""
    means = _means(errors_of(results))
    others = [name for name in sorted(means, key=means.__getitem__) if name != OWN]
    better, count = _counted(_tests(results, others[0])) if others else (0, 0)
    return (better, count) if count else None


def spared(groups: Sequence[Group]) -> dict[str, int]:
    """On how many problems each method was run, of those that were left out for their cost on others."""
    found: dict[str, int] = {}
    for result in (result for _, results in groups for result in results):
        for name, reason in (value_at(result.content, "baselines.left_out") or {}).items():
            if reason == WITHOUT:
                found[name] = sum(name in errors_of(results) for _, results in groups)
    return {name: count for name, count in found.items() if count < len(groups)}


def _runs(tests: Sequence[Mapping[str, Any]], ahead: bool) -> str:
    """On how many test runs the first method is the better one, where results say it; `ahead`: that is romvae."""
    better, count = _counted(tests)
    return f", on {better if ahead else count - better} of {count} runs" if count else ""


def _counted(tests: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Test runs on which romvae is the better one, and all, of the results that say it."""
    known = [test for test in tests if test.get("better_on") is not None and test.get("trajectories")]
    return sum(test["better_on"] for test in known), sum(test["trajectories"] for test in known)


def _tests(results: Sequence[Result], rival: str) -> list[Mapping[str, Any]]:
    """The stored tests of romvae against a baseline."""
    tests: list[Mapping[str, Any]] = [value_at(r.content, "metrics.significance") or {} for r in results]
    return [test for test in tests if test.get("best") == rival and test.get("p_value") is not None]


def chance(results: Sequence[Result]) -> str:
    """The p-values, where no seed's test tells romvae from the method ahead (ahead itself: from the second); or empty.

    A test that is significant the other way round does not speak for the method that is ahead in the mean.
    """
    means = _means(errors_of(results))
    ranked = sorted(means, key=means.__getitem__)
    if len(ranked) < 2:
        return ""
    rival = ranked[1] if ranked[0] == OWN else ranked[0]
    tests = _tests(results, rival)
    for test in tests:
        if test["p_value"] < SURE and (test["difference"] > 0) == (ranked[0] == OWN):
            return ""
    values = sorted({f"{test['p_value']:.2g}" for test in tests}, key=float)
    return f"p = {' to '.join(values[:1] + values[1:][-1:])}" if values else ""


def remarks(groups: Sequence[Group]) -> str:
    """In words why another method is ahead, where one is."""
    lines = []
    for problem, results in groups:
        means = _means(errors_of(results))
        if means and min(means, key=means.__getitem__) != OWN:
            maybe = chance(results)
            apart = f"(not told apart, {maybe}) " if maybe else ""
            why = problem.recipe.remark or "the reason has not been looked into yet."
            lines.append(f"* `{problem.name}`: {apart}{why}")
    return "Where romvae is not ahead:\n\n" + "\n".join(lines) if lines else ""


def absences(groups: Sequence[Group]) -> str:
    """For every method that has no figure somewhere: where it was run, and why it was not elsewhere."""
    errors = [(problem.name, results, errors_of(results)) for problem, results in groups]
    lines = []
    for name in dict.fromkeys(name for _, _, each in errors for name in each):
        ran: list[str] = []
        reasons: dict[str, dict[str, str]] = {}
        for problem, results, each in errors:
            seeds = each.get(name, {})
            without = [result for result in results if result.seed not in seeds]
            if seeds:
                ran.append(f"`{problem}`" + (f" ({_seeds(seeds)})" if without else ""))
            for result in without:
                kind, detail = _why_not(value_at(result.content, f"baselines.left_out.{name}"))
                reasons.setdefault(kind, {})[re.sub(r"\d+", "", detail)] = detail
        whys = [f"{kind} ({'; '.join(each.values())})" if any(each) else kind for kind, each in reasons.items()]
        if whys:
            lines.append(f"* {_words(name)}: run on {', '.join(ran)}; elsewhere {' or '.join(whys)}.")
    head = "A `-` says that a method was not run; *ahead* is among those that were."
    return f"{head}\n\n" + "\n".join(lines) if lines else ""


def _why_not(reason: object) -> tuple[str, str]:
    """A stored reason in a few words, and what it says beyond them."""
    text = str(reason or "")
    if not text or text == WITHOUT:
        return ("left out for its cost", "`--without`") if text else ("not asked for", "")
    if NOT_INSTALLED in text:
        return "not installed", ""
    if any(words in text for words in ("diverge", "has grown more than", "stopped being finite")):
        return DIVERGED, ""
    return "not applicable", text.split(":")[0]


def _means(errors: Mapping[str, Mapping[int, float | None]]) -> dict[str, float]:
    """Mean errors of the methods that diverged on no seed, romvae's first.

    A method that was run on some seeds only is set beside romvae on these: its mean is that of romvae over all seeds
    times the ratio of their means over the seeds of both.
    """
    own = {seed: error for seed, error in errors[OWN].items() if error is not None}
    found = {}
    for name, each in errors.items():
        values = {seed: error for seed, error in each.items() if error is not None}
        if not values or len(values) < len(each):
            continue
        found[name] = _mean(values)
        shared = [own[seed] for seed in values if seed in own]
        if len(values) < len(own) and len(shared) == len(values) and sum(shared) > 0:
            found[name] *= _mean(own) / (sum(shared) / len(shared))
    return found


def _mean(values: Mapping[int, float]) -> float:
    return sum(values.values()) / len(values)


def _seeds(seeds: Mapping[int, Any]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))}"


def _words(name: str) -> str:
    return name.replace("_", " ")
