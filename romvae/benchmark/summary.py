"""The first lines of the benchmark's page: what came out, who the methods are, and what has not been run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from romvae.benchmark.ahead import OWN, Standing, better_on, errors_of, spared, standing
from romvae.benchmark.choice import choice_sentence
from romvae.benchmark.costs import UNSKILLED, has_skill, speed_up
from romvae.benchmark.machines import machines_sentence
from romvae.benchmark.result import LONG_TRAINING, value_at
from romvae.benchmark.speed import conditions, speed_sentence
from romvae.benchmark.targets import COVERAGE, COVERAGE_OF_ANY, ENOUGH, worst
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
    """Sentences on errors, intervals, speed and machines over all problems."""
    lines = [_errors(groups), choice_sentence(groups), _intervals(groups), speed_sentence(groups), _useless(groups)]
    lines.append(machines_sentence(groups))
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
        notes = f" ({', '.join(conditions(results))})" if conditions(results) else ""
        speed = UNSKILLED if not all(map(has_skill, results)) else "-" if factor is None else plain(factor) + notes
        own, coverage = (over(results, f"metrics.rom.{name}", percent) for name in ("relative_l2", "coverage_90"))
        other = f"{best.replace('_', ' ')} {spread(whole[best], percent)}" if best else "-"
        rows.append([named(problem, results), str(len(results)), own, other, coverage, speed])
    head = ["problem", "seeds", "romvae", "best other method", "90 % interval holds", "speed-up at equal accuracy"]
    return markdown(head, rows)


def _errors(groups: Sequence[Group]) -> str:
    by: dict[Standing, list[Group]] = {"ahead": [], "tied": [], "behind": [], "alone": []}
    for group in groups:
        by[standing(group[1])].append(group)
    compared = [*by["ahead"], *by["tied"], *by["behind"]]
    if not compared:
        return ""
    some = [f"{name.replace('_', ' ')} on {count} of them only" for name, count in spared(compared).items()]
    cost = f" ({', '.join(some)}, for {'their' if some[1:] else 'its'} cost)" if some else ""
    text = (
        f"Of {len(compared)} problems, romvae has the least error of all methods that were run{cost} on "
        f"{len(by['ahead'])}"
    )
    if by["tied"]:
        text += f", is not told apart from the best on {len(by['tied'])} ({_names(by['tied'])})"
    if by["behind"]:
        text += f", and another method is ahead on {len(by['behind'])} ({_names(by['behind'])})"
    return f"{text}.{_by_few_runs(by['ahead'], by['tied'])}"


def _by_few_runs(ahead: Sequence[Group], tied: Sequence[Group]) -> str:
    """Where romvae is ahead or not told apart though its error is the smaller one on less than half of the runs."""
    parts = []
    for where, groups in (("where it is ahead", ahead), ("where it is not told apart", tied)):
        counts = {problem.name: better_on(results) for problem, results in groups}
        few = [f"{name} ({n[0]} of {n[1]})" for name, n in counts.items() if n is not None and 2 * n[0] < n[1]]
        parts += [f"of {', '.join(few)}, {where}"] if few else []
    head = " Its error is the smaller one on less than half of the held-out runs "
    return f"{head}{', and '.join(parts)}." if parts else ""


def _intervals(groups: Sequence[Group]) -> str:
    """On how many problems coverage is right, of those with enough runs to know it, of the others, and of all."""
    enough = worst(COVERAGE, groups)
    others = {name: each for name, each in worst(COVERAGE_OF_ANY, groups).items() if name not in enough}
    if not enough and not others:
        return ""
    many = f"problems with at least {ENOUGH} calibration and {ENOUGH} test runs"
    parts = [_inside(some, of) for some, of in ((enough, many), (others, "problems with fewer")) if some]
    inside = sum(off == 0 for off, _ in (*enough.values(), *others.values()))
    whole = f": {inside} of {len(enough) + len(others)} in all" if parts[1:] else ""
    return f"Its 90 % intervals hold the truth {COVERAGE.wanted} of the time on {', and on '.join(parts)}{whole}."


def _inside(found: Mapping[str, tuple[float, float]], of: str) -> str:
    """How many are inside of how many, and in brackets the figures outside, furthest first."""
    bad = sorted(((off, name, value) for name, (off, value) in found.items() if off > 0), reverse=True)
    where = f" (outside: {', '.join(f'{name} {percent(value)}' for _, name, value in bad)})" if bad else ""
    return f"{len(found) - len(bad)} of the {len(found)} {of}{where}"


def _useless(groups: Sequence[Group]) -> str:
    names = [problem.name for problem, results in groups if not all(map(has_skill, results))]
    return f"Not to be used: on {', '.join(names)} the forecast is no better than climatology." if names else ""


def _names(groups: Sequence[Group]) -> str:
    return ", ".join(problem.name for problem, _ in groups)
