"""The page of all results, `BENCHMARKS.md`: written from the files of results and recipes alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from romvae.atomic import atomic_file
from romvae.benchmark.ahead import absences, remarks
from romvae.benchmark.chart import accuracy_cost
from romvae.benchmark.choice import choice_table
from romvae.benchmark.costs import rollout_table, work_table
from romvae.benchmark.machines import machines_table
from romvae.benchmark.recipe import FILE, Problem, read_problems
from romvae.benchmark.result import Result, read_results
from romvae.benchmark.speed import timed_sentence
from romvae.benchmark.summary import extract, in_short, methods, not_run
from romvae.benchmark.tables import (
    accuracy_table,
    bars_table,
    budget_sentence,
    calibration_table,
    earlier_rules,
    published_table,
)
from romvae.benchmark.targets import targets_table
from romvae.errors import DataError

__all__ = ["BEGIN", "END", "Group", "grouped", "write_page"]

BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"
"""Around what the README takes from the page."""
Group = tuple[Problem, list[Result]]

_HEAD = """# Benchmarks

Written by `romvae benchmark --table` from the files in `{folder}/*/results`; changes by hand are lost. How each
problem is run is in `{folder}/CASE/benchmark.yaml`; `romvae benchmark CASE` runs it again.

A problem is simulated, trained and compared once per seed: the seed selects the trajectories, the initial weights and
the forecast's members. Figures are means over seeds, with the smallest and the largest in brackets where there are
several. Forecasts start from the first field of held-out trajectories and are scored over all later times.
"""
_PARTS = {
    "short": """## In short
""",
    "methods": """## Methods
""",
    "accuracy": """## Accuracy

Relative L2 error of the mean forecast, over all held-out trajectories, points and times; fields combined by their root
mean square; in square brackets, for romvae, the 95 % interval that the choice of test runs leaves. All methods have the
same training trajectories, choose their settings on the trajectories that romvae learns its variance from, and take
about the process time of romvae's training at most. Calibration takes further trajectories of romvae's, which no mean
rests on (how many there are of each stands under *Cost*). POD with linear and with network dynamics has the latent size
of romvae, the other baselines choose their own.
*Ahead* is the method with the smallest mean, how many times larger the error of the next one is, and on how many of the
held-out runs the first one has the smaller error: where that is less than half of them, a few runs in which the other
is far off decide. "Not told apart" says that a paired test over the held-out trajectories (romvae against the best
baseline) leaves the difference to chance on every seed; two baselines are not tested against each other. A † marks an
error below that of the reference solution itself, which these data cannot resolve.
""",
    "choice": """What the rule of `romvae train --model auto` takes: the method with the least error of forecasts of the
trajectories that romvae learns its variance from, to which no mean was fitted. Beside it the error on the test runs, of
that method and of the best one there.
""",
    "calibration": """## Uncertainty

Coverage of the intervals of nominal 90 % over the horizon, and in the fifth of the horizon where it is furthest from
that; the share of runs in which the risk band held (promised: 90 % of the points in 90 % of the runs; in square
brackets what 90 % of all draws of this many calibration and test runs would give); the share of runs whose error stayed
below a tenth of the field's standard deviation until their trust horizon (promised: 90 %; brackets as before, for the
64 calibration runs at most that it rests on; more hold where few of them ever exceed it; `-` in older results);
spread over error of the mean (in square brackets its 95 % interval by bootstrap over the test runs; the choice of
calibration runs adds as much again where they are as many); CRPS over the mean absolute error; rank correlation between
predicted and true error over trajectories.
""",
    "cost": """## Cost

Process time per trajectory of a batch: of a rollout (the mean alone) and of the reference solver, as it is and in its
cheapest setting that is as accurate as that rollout. The speed-up is against the latter. The *error to reach*, which
the setting has to come down to, is that of the mean alone on the few held-out trajectories that were timed; errors
under *Accuracy* are of the mean over members on all of them. *Batch with members* is against the setting that is as
accurate as that mean on the trajectories that were timed. Below one the solver is faster; `-` where no setting that was
tried is as accurate, or where that is not known; *no skill* where climatology is as accurate as the forecast, whose
speed is then worth nothing. *Its batches* says whether the solver computes a batch together; where it has no such mode,
a batch of romvae stands against its runs one by one, and the column *one run* is the fairer one. *Search cut short*
says that the time allowed for finding a cheaper setting ran out. *Baseline as accurate* is the baseline with the
cheapest rollout of those that have at most romvae's error under *Accuracy*. The last column is a rollout over decoding
as many codes: where POD was found to be better than the autoencoder and kept, decoding is a single product of matrices,
and that ratio says little. Rollouts and solvers run on the CPU in the same process and with the same threads. Threads
that wait for others count in process time: with more of them both become dearer, each by its own factor, and a speed-up
on one thread is not that on two. A GPU, where one is named below, is used for training.
""",
    "work": """What came before the first rollout: trajectories (training + variance + calibration + test), process
time of one seed (*baselines*: fitting all of them), and the number of rollouts in batches that earns simulations and
training back.
""",
    "bars": """## Figures that were to be reached

Of every problem; each seed counts, the worst one decides. Figures are in the tables above.
""",
    "own bars": """Of single problems, in the mean over seeds:
""",
    "published": """## Problems of published papers

Figures of romvae were run here, on the problem as the recipe has it. Those of others are *as published* where their
authors say so; *measured by this project* with the code or the method that is named; or *recalled, not verified*. The
set-ups differ in what the last column says. Where the same measure is there for the baselines that were *run here*,
those that are better than romvae stand beside it, or else the best of them; where it is not, they are under *Accuracy*
alone.
""",
    "machines": """## Machines and commands
""",
}

_PICTURE = """The picture sets errors over all held-out trajectories against process time per trajectory in a batch. The
error of romvae is that of the mean over its members, and its time is that of all of them; the hollow mark and the table
above have the rollout of the mean alone. The grey line joins the settings of the solver that no other one beats, as far
down as any method comes; their errors are over the trajectories that it was timed on. Where the solver computes a
batch together, only settings at least as accurate as romvae were timed so, and the line begins with them.
"""
_USE = "tests/use/TABLES.md"
_USED = """What the uncertainty is good for (assimilation of sensors, hand-over to the solver, choice of the next
simulations) and what physics in the loss brings is measured in [`{path}`]({path}).
"""


def write_page(folder: Path, page: Path) -> Path:
    """Writes the page, its picture to `folder/benchmark.png`, and an extract into the README beside the page.

    The extract goes between the lines `BEGIN` and `END`; a README without them stays as it is.

    Arguments:
        folder: With a folder per case, which may hold a recipe and `results`.
        page: Where the page goes; an earlier one is replaced.

    Raises:
        DataError: There are no results, or one cannot be read.
    """
    results = read_results(folder)
    if not results:
        raise DataError(f"{folder}: no results (CASE/results/*.json). Run romvae benchmark first.")
    groups, stale = grouped(folder, results)
    main = [group for group in groups if not group[0].variant]
    picture = folder / "benchmark.png"
    with atomic_file(picture, overwrite=True) as target:
        accuracy_cost(main or groups, target)
    link = os.path.relpath(picture.absolute(), page.absolute().parent).replace(os.sep, "/")
    used = _USED.format(path=_USE) if (page.parent / _USE).is_file() else ""
    tables = {
        "short": [in_short(main), not_run(_problems(folder), groups)],
        "methods": [methods(groups)],
        "accuracy": [
            budget_sentence(groups),
            accuracy_table(main),
            earlier_rules(groups),
            absences(main),
            remarks(groups),
            _variants(groups),
        ],
        "choice": [choice_table(groups)],
        "calibration": [calibration_table(groups)],
        "cost": [
            timed_sentence(groups),
            rollout_table(groups),
            _PICTURE,
            f"![Error against cost of each method, one panel per problem]({link})",
        ],
        "work": [work_table(groups)],
        "bars": [targets_table(groups)],
        "own bars": [bars_table(groups), used],
        "published": [published_table(groups)],
        "machines": [machines_table(groups), _left_out(stale)],
    }
    text = [_HEAD.format(folder=folder.name)]
    for name, content in tables.items():
        some = [part for part in content if part]
        text += [_PARTS[name], *some] if some else []
    with atomic_file(page, overwrite=True) as target:
        target.write_text("\n\n".join(part.strip() for part in text) + "\n", encoding="utf-8")
    _extracted(page.parent / "README.md", f"{in_short(main)}\n\n{extract(main)}")
    return page


def grouped(folder: Path, results: Sequence[Result]) -> tuple[list[Group], list[Result]]:
    """Problems with their results, in the order of the cases, and results that belong to no recipe as it is now."""
    problems = _problems(folder)
    found: dict[str, list[Result]] = {}
    stale = []
    for result in results:
        problem = problems.get(result.name)
        if problem is None or result.content["recipe"] != problem.recipe.digest:
            stale.append(result)
        else:
            found.setdefault(result.name, []).append(result)
    return [(problem, found[name]) for name, problem in problems.items() if name in found], stale


def _extracted(readme: Path, text: str) -> None:
    """Puts a text between the lines that a README has for it."""
    if not readme.is_file():
        return
    before, begin, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        with atomic_file(readme, overwrite=True) as target:
            target.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _problems(folder: Path) -> dict[str, Problem]:
    """All recipes by name, in the order of the cases."""
    from romvae.solvers import CASES

    problems: dict[str, Problem] = {}
    for case in CASES:
        if (folder / case / FILE).is_file():
            problems |= read_problems(folder / case / FILE, case)
    return problems


def _variants(groups: Sequence[Group]) -> str:
    """The accuracy of variants, which have other data or other sizes than the main recipe of their case."""
    variants = [group for group in groups if group[0].variant]
    return f"Variants:\n\n{accuracy_table(variants)}" if variants else ""


def _left_out(stale: Sequence[Result]) -> str:
    if not stale:
        return ""
    names: Mapping[str, None] = dict.fromkeys(result.name for result in stale)
    return f"Left out, since their recipe has changed or gone: {', '.join(names)}."
