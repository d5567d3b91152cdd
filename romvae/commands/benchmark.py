"""`romvae benchmark`: every case by its recipe, one small file per result, and the page that is made of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from romvae.commands.options import Quiet
from romvae.errors import ConfigError, NumericsError
from romvae.progress import terminal_progress

__all__ = ["benchmark"]


def benchmark(
    *cases: str,
    seeds: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("simulations"),
    data: Path | None = None,
    threads: int | None = None,
    variants: bool = False,
    redo: bool = False,
    recompare: bool = False,
    recalibrate: bool = False,
    without: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    cost_seconds: float | None = None,
    list_: Annotated[bool, Parameter(name="--list")] = False,
    table: bool = False,
    page: Path = Path("BENCHMARKS.md"),
    quiet: Quiet = False,
) -> None:
    """Simulate, train and compare every case by its recipe; write one small JSON file per result.

    What is there already, made by the same recipe and version, is not repeated; baselines that it lacks are fitted and
    added to it, without another training. After an interruption the same command goes on where it was, within a
    simulation and within a training too.

    Arguments:
        cases: names, such as burgers_1d, burgers_1d/train_64 for a variant, burgers_1d/* for all of a case; by
            default the main recipe of every case.
        seeds: seeds of data, training and forecast instead of those of the recipe. By default a problem whose training
            takes over 20 minutes gets one.
        out: folder with a folder per case, with benchmark.yaml in it; results go to CASE/results.
        data: folder for data and trainings, by default romvae/benchmark in the user's cache; several GB.
        threads: CPU threads.
        variants: with no names, all variants too.
        redo: make results that are there again.
        recompare: make results that are there again, but keep trained models that are still in the data folder.
        recalibrate: the same, and calibrate these models anew first, as a training would by today's rules.
        without: baselines that are left out, such as fno, whose training takes as long as that of the ROM.
        cost_seconds: process seconds after which no other setting of the reference solver is tried, by default 240; on
            large grids the search for its cheapest run may take longer.
        list_: show the recipes, with how many results are there, and stop.
        table: write the page of all results, from the files alone, and stop.
        page: where that page goes; pictures go beside the results.
    """
    from romvae.benchmark.recipe import find_problems

    for seed in seeds or ():
        if not 0 <= seed < 2**32:
            raise ConfigError(f"--seeds {seed}: should be between 0 and 4294967295.")
    if threads is not None and not 1 <= threads <= 1024:
        raise ConfigError(f"--threads = {threads}: should be between 1 and 1024.")
    if cost_seconds is not None and not 0 < cost_seconds < math.inf:
        raise ConfigError(f"--cost-seconds = {cost_seconds}: should be above 0.")
    if table:
        from romvae.benchmark.page import write_page

        print(f"{write_page(out, page)}: written from the results in {out}")
        return
    problems = find_problems(out, cases, "all" if variants or list_ else "main")
    if list_:
        _print_list(problems)
        return
    from romvae.benchmark.run import SEARCH, cache_folder, run_problems

    chosen = tuple(seeds) if seeds else None
    with terminal_progress(quiet) as progress:
        failed = run_problems(
            problems,
            data or cache_folder(),
            progress,
            seeds=chosen,
            threads=threads,
            redo="all" if redo else "calibration" if recalibrate else "comparison" if recompare else None,
            without=tuple(without or ()),
            search=SEARCH if cost_seconds is None else cost_seconds,
        )
    _print_results(problems)
    if failed:
        raise NumericsError(f"{len(failed)} of the benchmark failed: {'; '.join(failed)}. Their reasons stand above.")
    print("Next: romvae benchmark --table")


def _print_list(problems: dict) -> None:
    from romvae.benchmark.result import is_made, missing_baselines

    for problem in problems.values():
        made = [seed for seed in problem.recipe.seeds if is_made(problem, seed)]
        missing = dict.fromkeys(name for seed in made for name in missing_baselines(problem, seed))
        lacks = f", without {', '.join(missing)}" if missing else ""
        about = f"  {problem.recipe.about}" if problem.recipe.about else ""
        print(f"{problem.name:40} {len(made)} of {len(problem.recipe.seeds)} seeds{lacks}{about}")


def _print_results(problems: dict) -> None:
    from romvae.benchmark.result import read_results

    folder = next(iter(problems.values())).folder.parent
    for result in read_results(folder):
        if result.name in problems:
            metrics = result.content["metrics"]
            others = {name: each["relative_l2"] for name, each in metrics["baselines"].items()}
            best = min(others, key=lambda name: others[name] if others[name] is not None else float("inf"), default="")
            beside = f", best baseline {best} {others[best]:.4g}" if best and others[best] is not None else ""
            error = metrics["rom"]["relative_l2"]
            own = "diverged" if error is None else f"relative L2 {error:.4g}"
            print(f"{result.name} seed {result.seed}: {own}{beside}")
