"""`romvae compare`: a trained model against held-out reference solutions, its solver and simple baselines."""

from __future__ import annotations

import json as json_format
import logging
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from romvae.commands.options import Members, Overwrite, Quiet, Reader, Seed
from romvae.commands.outputs import check_output
from romvae.commands.run_folder import RunFolder
from romvae.commands.text import places, skill
from romvae.environment import show_versions
from romvae.errors import NOT_INSTALLED, AssumptionWarning, ConfigError, QualityError
from romvae.progress import Progress, terminal_progress

if TYPE_CHECKING:
    from romvae.comparison import Comparison

__all__ = ["Asked", "compare", "compare_run"]

logger = logging.getLogger("romvae.commands")


def compare(
    *runs: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    data: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    reader: Reader = None,
    members: Members = 32,
    seed: Seed = 0,
    cost_seconds: float = 60.0,
    baselines: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    max_relative_l2: float | None = None,
    json: Annotated[bool, Parameter(name="--json")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Measure errors, calibration and cost on the held-out trajectories; write report.html and metrics.json.

    Several runs are ranked on one page; their held-out trajectories have to be the same. Each gets its own report
    in a folder of its name.

    Arguments:
        runs: folders that romvae train wrote; of several, some may be folders of an earlier romvae compare.
        out: folder for report.html, metrics.json and the comparison behind them.
        data: the data of the run, if they have moved since; all of them, in their order, where there are several.
        cost_seconds: process time after which no other run of the solver is tried; 0 leaves the costs out.
        baselines: names of baselines, cheap (all that take a small part of the training) or all (pod_network and fno
            too, which take as long as it did). By default cheap, and those that romvae train --model auto has kept.
        max_relative_l2: exit with code 6 if the ROM's relative L2 error (of several: of the best) is larger.
        json: print metrics.json instead of the table.
    """
    if not runs:
        raise ConfigError("compare: no run was given, expected one or more folders that romvae train wrote.")
    if not cost_seconds >= 0:
        raise ConfigError(f"--cost-seconds = {cost_seconds}: should be 0 or more.")
    _check_baselines(baselines)
    check_output(out, overwrite, ("metrics.json", "report.html"))
    ask = Asked(data, members, seed, reader, cost_seconds, baselines)
    error: float | None
    if len(runs) > 1:
        error = compare_several(runs, ask, out, json, quiet)
    else:
        with terminal_progress(quiet) as progress:
            comparison = compare_run(RunFolder.open(runs[0]), ask, progress)
        _write(comparison, out)
        print(json_format.dumps(comparison.metrics, indent=2) if json else skill(comparison.metrics))
        if not json:
            for reason in _not_installed(comparison):
                print(f"left out: {reason}")
            print(f"\n{_judged(comparison)}")
            print(f"\nreport:  {out / 'report.html'}\nmetrics: {out / 'metrics.json'}")
        error = comparison.metrics["rom"]["relative_l2"]
    if max_relative_l2 is not None and (error is None or not error <= max_relative_l2):
        who = str(runs[0]) if len(runs) == 1 else "the best run"
        if error is None:
            what = f"relative L2 error of at most {max_relative_l2:.4g}"
            raise QualityError(f"{who}: the forecast diverged and has no error, expected a {what}.")
        raise QualityError(f"{who}: relative L2 error is {error:.4g}, expected at most {max_relative_l2:.4g}.")


def _judged(comparison: Comparison) -> str:
    """The report's verdict in short: how wrong, how sure, and what not to use it for; lines as wide as a terminal."""
    from romvae.report import headlines

    words = " ".join(headlines(comparison.metrics)).replace(" %", "\u00a0%")  # a number keeps its sign
    return textwrap.fill(words, 100).replace("\u00a0", " ")


def _check_baselines(words: Sequence[str] | None) -> None:
    """Refuses an unknown name before anything is read."""
    if words is None:
        return
    from romvae.baselines.selection import baseline_names

    try:
        baseline_names(words)
    except ConfigError as error:
        raise ConfigError(f"--baselines: {error}") from None


def _not_installed(comparison: Comparison) -> list[str]:
    """Which baselines are missing because their library is, and how to install it."""
    return [why for why in comparison.metrics.get("baselines_left_out", {}).values() if NOT_INSTALLED in why]


@dataclass(frozen=True)
class Asked:
    """What the command line asks of every run; see `compare`."""

    data: Sequence[Path] | None = None
    members: int = 32
    seed: int = 0
    reader: str | None = None
    cost_seconds: float = 60.0
    baselines: Sequence[str] | None = None


def compare_several(runs: Sequence[Path], ask: Asked, out: Path, json: bool, quiet: bool) -> float:
    """Compares each run, ranks them, and writes one page for all beside one for each; gives the least error."""
    names = _names(runs)
    found = {}
    with terminal_progress(quiet) as progress:
        for name, path in zip(names, runs, strict=True):
            if (path / "comparison").is_dir():
                from romvae.comparison import Comparison

                found[name] = Comparison.load(path / "comparison")
            else:
                found[name] = compare_run(RunFolder.open(path), ask, progress)
    from romvae.comparison import rank
    from romvae.report import write_metrics, write_ranking

    for name, comparison in found.items():
        _write(comparison, out / name)
    ranking = rank(found, ask.seed)
    write_metrics(ranking, out / "metrics.json", overwrite=True)
    write_ranking(ranking, out / "report.html", overwrite=True)
    print(json_format.dumps(ranking.metrics, indent=2) if json else places(ranking.metrics))
    if not json:
        print(f"\nreport:  {out / 'report.html'}\nmetrics: {out / 'metrics.json'}")
    return float(ranking.metrics["runs"][0]["relative_l2"])


def _names(runs: Sequence[Path]) -> list[str]:
    """Names of the folders, told apart by a number where two are equal."""
    names: list[str] = []
    for path in runs:
        name = path.resolve().name
        while name in names or name in ("comparison", "report.html", "metrics.json"):
            name = f"{name}-{len(names) + 1}"
        names.append(name)
    return names


def _write(comparison: Comparison, out: Path) -> None:
    from romvae.report import write_metrics, write_report

    out.mkdir(parents=True, exist_ok=True)
    comparison.save(out / "comparison", overwrite=True)
    write_metrics(comparison, out / "metrics.json", overwrite=True)
    write_report(comparison, out / "report.html", overwrite=True)


def compare_run(run: RunFolder, ask: Asked, progress: Progress) -> Comparison:
    """The comparison of a run with the held-out part of its data."""
    if not 1 <= ask.members <= 10000:
        raise ConfigError(f"--members = {ask.members}: should be between 1 and 10000.")
    record = run.data()
    paths = ask.data or record.paths
    path = ", ".join(map(str, paths))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)  # said when the model was trained on them
        snapshots, own = run.opened(paths, ask.reader)
    if not own:
        logger.warning(
            "%s: is not the data of this run byte for byte, so whether its test trajectories were held out is not "
            "known. A copy in another format is fine; otherwise train again.",
            path,
        )
    test = record.select(snapshots, "test", str(path))
    train = record.select(snapshots, "train", str(path))
    from romvae.baselines.model import load_model
    from romvae.commands.kept import kept_baselines
    from romvae.comparison import compare as measure
    from romvae.solvers import CASES
    from romvae.training.fallback import decisions

    history = run.history()
    case = CASES.get(str(snapshots.attrs.get("case")))
    kept = kept_baselines(run, train)
    comparison = measure(
        load_model(run.model),
        test,
        train=train,
        baselines=kept.asked(ask.baselines),
        reference=case,
        seconds=dict(history.get("seconds", {})),
        split={name: len(rows) for name, rows in record.trajectories.items()},
        members=ask.members,
        seed=ask.seed,
        cost_cap=ask.cost_seconds,
        progress=progress,
    )
    for name in comparison.metrics.get("baselines", {}):
        if name in kept.seconds:
            comparison.metrics["baselines"][name]["fit_seconds"] = kept.seconds[name]
    tried = history.get("notes", {}).get("dynamics", {}).get("scores", {})
    if tried:
        scores = ", ".join(f"{kind} {score['crps']:.3g}" for kind, score in sorted(tried.items(), key=_by_score))
        comparison.info["model"]["dynamics_tried"] = f"CRPS of held-out forecasts: {scores}"
    comparison.metrics["kept"] = decisions(history.get("notes", {}))
    comparison.info["configuration"] = run.settings()
    comparison.info["environment"] = {"training": run.environment(), "comparison": show_versions()}
    if case is not None:
        comparison.info["case"] = case.description
    comparison.info["source"] = paths[0].name
    comparison.info["history"] = history.get("curves", {})
    found = run.latent_size()
    if found is not None:
        comparison.info["latent_size"] = found
    ranking = run.ranking()
    if ranking is not None:
        comparison.metrics["ranking"] = ranking
    return comparison


def _by_score(item: tuple[str, dict[str, float]]) -> float:
    return item[1]["crps"]
