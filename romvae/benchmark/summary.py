"""The first lines of the benchmark's page: what came out, who the methods are, and what has not been run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from romvae.benchmark.ahead import OWN, Standing, errors_of, standing
from romvae.benchmark.choice import choice_sentence
from romvae.benchmark.costs import UNSKILLED, has_skill, speed_up
from romvae.benchmark.result import LONG_TRAINING, value_at
from romvae.benchmark.targets import FAST, TARGETS, missed
from romvae.benchmark.words import markdown, named, over, percent, plain, spread

if TYPE_CHECKING:
    from romvae.benchmark.page import Group
    from romvae.benchmark.recipe import Problem

__all__ = ["METHODS", "extract", "in_short", "methods", "not_run"]

METHODS: Mapping[str, str] = {
    "romvae": "a convolutional autoencoder, or POD where that forecasts better, and an ensemble of latent dynamics",
    "persistence": "the initial field, for ever",
    "climatology": "the mean of the training fields at each time, whatever the start",
    "pod_linear": "POD with the latent size of romvae, and a linear map from one time to the next by least squares",
    "pod_network": "the same POD, with network dynamics of romvae's own settings, trained for as long as romvae in all",
    "dmd": "dynamic mode decomposition (PyDMD), which chooses its number of modes",
    "opinf": "operator inference (opinf): linear or quadratic dynamics of POD coefficients, which chooses their number",
    "pod_rbf": "POD with interpolation over parameters by radial functions, where initial fields follow from them",
    "pod_gp": "the same by Gaussian processes",
    "fno": "a Fourier neural operator on the full grid (neuraloperator)",
}


def in_short(groups: Sequence[Group]) -> str:
    """Sentences on errors, intervals and speed over all problems."""
    lines = [_errors(groups), choice_sentence(groups), _intervals(groups), _speed(groups), _useless(groups)]
    return "\n".join(f"* {line}" for line in lines if line)


def methods(groups: Sequence[Group]) -> str:
    """A line for every method that has an error somewhere."""
    names = {name for _, results in groups for name in errors_of(results)}
    return "\n".join(f"* {name.replace('_', ' ')}: {words}." for name, words in METHODS.items() if name in names)


def not_run(problems: Mapping[str, Problem], groups: Sequence[Group]) -> str:
    """Recipes without a result, and seeds that are owed: one is enough where a training takes over twenty minutes."""
    there = {problem.name: results for problem, results in groups}
    without = [name for name in problems if name not in there]
    owed: dict[tuple[int, ...], list[str]] = {}
    for name, results in there.items():
        taken = [value_at(result.content, "cost.process_seconds.train") or 0.0 for result in results]
        done = {result.seed for result in results}
        seeds = tuple(seed for seed in problems[name].recipe.seeds if seed not in done)
        if seeds and max(taken) <= LONG_TRAINING:
            owed.setdefault(seeds, []).append(name)
    lines = [f"No result yet: {', '.join(without)}."] if without else []
    for seeds, names in owed.items():
        lines.append(f"Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))} not run: {', '.join(names)}.")
    return "\n\n".join(lines)


def extract(groups: Sequence[Group]) -> str:
    """A short table for the README: error, the best other method and its error, coverage, and speed-up of a batch."""
    rows = []
    for problem, results in groups:
        errors = {name: [e for e in each.values() if e is not None] for name, each in errors_of(results).items()}
        errors.pop(OWN)
        whole = {name: each for name, each in errors.items() if len(each) == len(results)}
        best = min(whole, key=lambda name: sum(whole[name]), default="")
        factor = speed_up(results)
        speed = UNSKILLED if not all(map(has_skill, results)) else "-" if factor is None else plain(factor)
        own, coverage = (over(results, f"metrics.rom.{name}", percent) for name in ("relative_l2", "coverage_90"))
        other = f"{best.replace('_', ' ')} {spread(whole[best], percent)}" if best else "-"
        rows.append([named(problem, results), str(len(results)), own, other, coverage, speed])
    head = ["problem", "seeds", "romvae", "best other method", "90 % interval holds", "speed-up at equal accuracy"]
    return markdown(head, rows)


def _errors(groups: Sequence[Group]) -> str:
    by: dict[Standing, list[str]] = {"ahead": [], "tied": [], "behind": [], "alone": []}
    for problem, results in groups:
        by[standing(results)].append(problem.name)
    count = sum(len(by[kind]) for kind in ("ahead", "tied", "behind"))
    if not count:
        return ""
    text = f"Of {count} problems, romvae has the least error of all methods on {len(by['ahead'])}"
    if by["tied"]:
        text += f", is not told apart from the best on {len(by['tied'])} ({', '.join(by['tied'])})"
    if by["behind"]:
        text += f", and another method is ahead on {len(by['behind'])} ({', '.join(by['behind'])})"
    return text + "."


def _intervals(groups: Sequence[Group]) -> str:
    bad, count = missed(TARGETS[1], groups)
    if not count:
        return ""
    off = f" ({', '.join(bad)} outside)" if bad else ""
    return f"Its 90 % intervals hold the truth 88 to 92 % of the time on {count - len(bad)} of {count}{off}."


def _speed(groups: Sequence[Group]) -> str:
    found = {p.name: value for p, results in groups if (value := speed_up(results)) is not None}
    if not found:
        return ""
    fast = {name: value for name, value in found.items() if value >= FAST}
    slow = [name for name, value in found.items() if value < 1]
    text = (
        f"A batch of rollouts (the mean alone) is at least {FAST:g} times faster than the cheapest run of the solver "
    )
    text += f"that is as accurate on {len(fast)} of {len(found)} problems"
    if fast:
        text += f" ({', '.join(f'{name} {plain(value)}' for name, value in fast.items())})"
    return text + f", and slower than it on {len(slow)}: there the solver is the better choice where time counts."


def _useless(groups: Sequence[Group]) -> str:
    names = [problem.name for problem, results in groups if not all(map(has_skill, results))]
    return f"Not to be used: on {', '.join(names)} the forecast is no better than climatology." if names else ""
