"""`romvae compare`: a trained model against held-out reference solutions, its solver and simple baselines."""

from __future__ import annotations

import json as json_format
import logging
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from romvae.commands.options import Overwrite, Quiet, Reader, Seed
from romvae.commands.outputs import check_output
from romvae.commands.run_folder import RunFolder
from romvae.commands.text import skill
from romvae.environment import show_versions
from romvae.errors import NOT_INSTALLED, AssumptionWarning, ConfigError, QualityError
from romvae.progress import Progress, terminal_progress

if TYPE_CHECKING:
    import xarray as xr

    from romvae.baselines.model import Model
    from romvae.comparison import Comparison

__all__ = ["Asked", "OpenedRun", "compare", "compare_opened", "compare_run", "open_run", "write_comparison"]

logger = logging.getLogger("romvae.commands")

_LEAST_STEPS = 10  # of a long run, as `romvae.comparison.long_run` has it


def compare(
    *runs: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    data: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    reader: Reader = None,
    members: int | None = None,
    seed: Seed = 0,
    cost_seconds: float | None = None,
    baselines: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    max_relative_l2: float | None = None,
    long_run: int | None = None,
    json: Annotated[bool, Parameter(name="--json")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Measure errors, calibration and cost on the held-out trajectories; write report.html and metrics.json.

    Several runs are ranked on one page; their held-out trajectories have to be the same. Each gets its own report
    in a folder of its name, as soon as it is compared.

    Arguments:
        runs: folders that romvae train wrote; of several, some may be folders of an earlier romvae compare, which are
            taken as they are.
        out: folder for report.html, metrics.json and the comparison behind them.
        data: the data of the run, if they have moved since; all of them, in their order, where there are several.
        members: latent members per forecast; 32 where it is left out.
        cost_seconds: process time after which no other run of the solver is tried, 60 where it is left out; 0 leaves
            the costs out.
        baselines: names of baselines, cheap (all that take a small part of the training) or all (pod_network and fno
            too, which take as long as it did). By default cheap, and those that romvae train --model auto has kept.
        max_relative_l2: exit with code 6 if the ROM's relative L2 error (of several: of the best) is larger.
        long_run: steps of a rollout from a few held-out starts whose statistics are compared with those of the data,
            for chaotic flows: many times the length of a training trajectory. By default there is none.
        json: print metrics.json instead of the table.
    """
    if not runs:
        raise ConfigError("compare: no run was given, expected one or more folders that romvae train wrote.")
    if cost_seconds is not None and not cost_seconds >= 0:
        raise ConfigError(f"--cost-seconds = {cost_seconds}: should be 0 or more.")
    if long_run is not None and long_run < _LEAST_STEPS:
        raise ConfigError(f"--long-run = {long_run}: should be {_LEAST_STEPS} or more.")
    _check_baselines(baselines)
    given: dict[str, Any] = {"data": data, "reader": reader, "members": members, "cost_seconds": cost_seconds}
    given |= {"baselines": baselines, "long_run": long_run}
    given = {name: value for name, value in given.items() if value is not None}
    ask = Asked(seed=seed, **given)
    error: float | None
    if len(runs) > 1:
        from romvae.commands.several import compare_several, compared_names

        check_output(out, overwrite, ("metrics.json", "report.html", *compared_names(runs, out)))
        error = compare_several(runs, ask, list(given), out, json, quiet)
    else:
        check_output(out, overwrite, ("metrics.json", "report.html"))
        with terminal_progress(quiet) as progress:
            comparison = compare_run(RunFolder.open(runs[0]), ask, progress)
        write_comparison(comparison, out)
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
    long_run: int | None = None


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Writes a comparison with its numbers and its page; each of the three is whole or as it was."""
    from romvae.report import write_metrics, write_report

    out.mkdir(parents=True, exist_ok=True)
    comparison.save(out / "comparison", overwrite=True)
    write_metrics(comparison, out / "metrics.json", overwrite=True)
    write_report(comparison, out / "report.html", overwrite=True)


@dataclass(frozen=True)
class OpenedRun:
    """A run with its model and its data, whose values are read where they are used.

    Arguments:
        run: Its folder.
        paths: Stores that it is compared on.
        model: What forecasts.
        snapshots: All of the data.
        parts: The run's parts `train`, `variance` and `test` of them, by name.
    """

    run: RunFolder
    paths: Sequence[Path]
    model: Model
    snapshots: xr.Dataset
    parts: Mapping[str, xr.Dataset]


def compare_run(run: RunFolder, ask: Asked, progress: Progress) -> Comparison:
    """The comparison of a run with the held-out part of its data."""
    return compare_opened(open_run(run, ask), ask, progress)


def open_run(run: RunFolder, ask: Asked) -> OpenedRun:
    """A run, ready to be compared; nothing is computed."""
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
    parts = {part: record.select(snapshots, part, path) for part in ("test", "train", "variance")}
    from romvae.baselines.model import load_model

    return OpenedRun(run, paths, load_model(run.model), snapshots, parts)


def compare_opened(opened: OpenedRun, ask: Asked, progress: Progress) -> Comparison:
    """The comparison of a run that was opened."""
    from romvae.commands.kept import kept_baselines
    from romvae.comparison import compare as measure
    from romvae.solvers import CASES
    from romvae.training.fallback import decisions

    run, parts, history = opened.run, opened.parts, opened.run.history()
    case = CASES.get(str(opened.snapshots.attrs.get("case")))
    kept = kept_baselines(run, parts["train"])
    model, training = _as_trained(run.settings(), history.get("notes", {}))
    comparison = measure(
        opened.model,
        parts["test"],
        train=parts["train"],
        validation=parts["variance"],
        model=model,
        training=training,
        baselines=kept.asked(ask.baselines),
        reference=case,
        seconds=dict(history.get("seconds", {})),
        process_seconds=dict(history.get("process_seconds", {})),
        split={name: len(rows) for name, rows in run.data().trajectories.items()},
        members=ask.members,
        seed=ask.seed,
        cost_cap=ask.cost_seconds,
        long_run=ask.long_run,
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
    comparison.info["source"] = opened.paths[0].name
    comparison.info["history"] = history.get("curves", {})
    found = run.latent_size()
    if found is not None:
        comparison.info["latent_size"] = found
    ranking = run.ranking()
    if ranking is not None:
        comparison.metrics["ranking"] = ranking
    return comparison


def _as_trained(settings: Mapping[str, Any], notes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The run's settings of networks and training that are not left to the data, for a baseline that has them too.

    The kind of dynamics is the one that was chosen, where the data chose. Threads are those of the present process.
    """
    from romvae.settings import ModelSettings, TrainingSettings

    told = []
    for part, known in (("model", ModelSettings), ("training", TrainingSettings)):
        given = settings.get(part)
        given = given if isinstance(given, Mapping) else {}
        names = set(known.model_fields) - {"kind", "budget", "threads"}
        told.append({name: value for name, value in given.items() if name in names and value is not None})
    model, training = told
    if model.get("dynamics") == "auto":
        model["dynamics"] = notes.get("dynamics", {}).get("kind", "auto")
    return model, training


def _by_score(item: tuple[str, dict[str, float]]) -> float:
    return item[1]["crps"]
