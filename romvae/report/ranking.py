"""Several runs on one page: which is best, by how much, and whether that is more than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import xarray as xr

from romvae import plot
from romvae.atomic import atomic_file
from romvae.plot.style import baseline_title, plain
from romvae.report.assets import jinja, policy
from romvae.report.chosen import in_words
from romvae.report.picture import Picture, as_picture
from romvae.report.reading import lookup, number, percent, ratio, seconds_text
from romvae.report.tables import rows as nested_rows

__all__ = ["Ranked", "ranking_verdict", "render_ranking", "write_ranking"]

_SURE = 0.05


class Ranked(Protocol):
    """What the page is made of; `romvae.comparison.rank` returns one."""

    @property
    def metrics(self) -> Mapping[str, Any]: ...
    @property
    def series(self) -> xr.Dataset: ...
    @property
    def info(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class _Row:
    name: str
    cells: tuple[str, ...]


_COLUMNS = (
    "model",
    "relative L2 error",
    "confidence",
    "VRMSE",
    "coverage of 90 %",
    "latents",
    "rollout in a batch",
    "against the solver, as accurate",
    "training",
)


def write_ranking(ranking: Ranked, out: Path, *, overwrite: bool = False) -> Path:
    """Writes the page, whole or not at all.

    Arguments:
        ranking: What to show.
        out: A path ending in `.html`.
        overwrite: Replace a page that exists.

    Raises:
        OutputError: The page exists and `overwrite` is false, or cannot be written.
    """
    with atomic_file(out, overwrite=overwrite) as temporary:
        temporary.write_text(render_ranking(ranking), encoding="utf-8")
    return out


def render_ranking(ranking: Ranked) -> str:
    """The page as text; names of runs are escaped."""
    style, template = (files("romvae.report").joinpath(n).read_text(encoding="utf-8") for n in _FILES)
    metrics = ranking.metrics
    runs = [run for run in metrics["runs"] if isinstance(run, Mapping)]
    case = str(metrics.get("case") or "your data")
    return (
        jinja()
        .from_string(template)
        .render(
            style=style,
            policy=policy(style),
            title=f"{case}: {len(runs)} models ranked",
            verdict=ranking_verdict(metrics),
            trajectories=metrics.get("trajectories"),
            confidence=percent(number(metrics, "confidence")),
            columns=_COLUMNS,
            rows=[_Row(plain(run["name"]), _cells(run)) for run in runs],
            pictures=_pictures(metrics, ranking.series),
            tests=[(plain(r["name"]), r["against_best"]["words"]) for r in runs if r.get("against_best")],
            settings=_differing(ranking.info, [str(run["name"]) for run in runs]),
        )
    )


_FILES = ("page.css", "ranking.html")


def ranking_verdict(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences for a newcomer: the best, how sure that is, whether a baseline beats it, and which is cheapest."""
    first, *others = metrics["runs"]
    broken = [plain(run["name"]) for run in others if run.get("diverged")]
    others = [run for run in others if not run.get("diverged")]
    error = number(first, "relative_l2")
    sentences = [
        f"{plain(first['name'])} is the most accurate of {len(others) + len(broken) + 1} runs: {percent(error)} off on "
        f"{metrics.get('trajectories')} held-out trajectories."
    ]
    tied = [plain(run["name"]) for run in others if not number(run, "against_best", "p_value") < _SURE]
    if broken:
        sentences.append(f"Forecasts of {', '.join(broken)} diverged: there is no error to compare.")
    if tied:
        sentences.append(f"Chance may explain its lead over {', '.join(tied)}: more held-out trajectories would tell.")
    elif others:
        sentences.append("Its lead over each of the others is more than chance.")
    sentences.extend(_against_baseline(lookup(metrics, "baseline"), error))
    timed = [run for run in metrics["runs"] if math.isfinite(number(run, "seconds_batch"))]
    if timed:
        fastest = min(timed, key=lambda run: number(run, "seconds_batch"))
        if fastest is not first:
            factor = number(first, "seconds_batch") / number(fastest, "seconds_batch")
            text = f"{plain(fastest['name'])} has the cheapest rollouts"
            sentences.append(f"{text}, {ratio(factor)} cheaper than the best." if factor > 1 else f"{text}.")
    if first.get("not_resolvable"):
        sentences.append("The best error is below the reference's own: the order among such runs is not resolvable.")
    return sentences


def _against_baseline(baseline: Any, error: float) -> list[str]:
    """Whether a baseline beats the best run, or comes so close that chance decides; nothing where it is behind."""
    theirs, chance = number(baseline, "relative_l2"), number(baseline, "against_best", "p_value") >= _SURE
    if math.isnan(theirs) or (theirs >= error and not chance):
        return []
    who = f"the baseline {in_words(str(baseline.get('name')))}, which is {percent(theirs)} off"
    if not chance:
        return [f"None of them is as good as {who}: use that."]
    if theirs < error:
        return [f"None of them is more accurate than {who}; that it is the better one may be chance."]
    return [f"Chance may explain the lead over {who}."]


def _cells(run: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = (number({"v": each}, "v") for each in run.get("interval") or (None, None))
    factor = number(run, "speed_up_batch")
    speed = f"{ratio(max(factor, 1 / factor))} {'faster' if factor >= 1 else 'slower'}" if factor > 0 else "–"
    speed += " than as it is" if factor > 0 and run.get("coarsened") is False else ""
    latent = number(run, "latent")
    return (
        baseline_title(str(run.get("model") or "vae")),
        "diverged" if run.get("diverged") else percent(number(run, "relative_l2")),
        f"{percent(low)} to {percent(high)}" if math.isfinite(low) and math.isfinite(high) else "–",
        "–" if run.get("diverged") else f"{number(run, 'vrmse'):.3g}",
        "–" if run.get("diverged") else f"{100 * number(run, 'coverage_90'):.1f} %",
        f"{latent:.0f}" if math.isfinite(latent) else "–",
        _seconds(number(run, "seconds_batch")),
        speed,
        _seconds(number(run, "training_seconds")),
    )


def _seconds(value: float) -> str:
    return seconds_text(value) if math.isfinite(value) else "–"


def _pictures(metrics: Mapping[str, Any], series: xr.Dataset) -> list[Picture]:
    runs = [run for run in metrics["runs"] if not run.get("diverged")]
    pictures = [
        as_picture(
            plot.error_of_runs(series),
            "Error over lead time",
            "One line for each run, with the 95 % confidence interval over trajectories. Where bands overlap widely, "
            "other trajectories might turn the order round.",
            "Line chart of relative L2 error over lead time for "
            + ", ".join(f"{plain(run['name'])} ({percent(number(run, 'relative_l2'))} in all)" for run in runs),
        )
    ]
    rows = {
        str(run["name"]): (
            number(run, "against_best", "difference"),
            number(run, "against_best", "low"),
            number(run, "against_best", "high"),
        )
        for run in runs[1:]
    }
    if rows:
        pictures.append(
            as_picture(
                plot.differences(rows, str(runs[0]["name"])),
                "How much worse than the best, trajectory by trajectory",
                "Difference of the errors with its 95 % confidence interval; both runs are judged on the same "
                "trajectories, so that hard ones do not blur the difference. An interval that holds zero says that "
                "chance may explain it.",
                "Chart of differences: "
                + "; ".join(f"{plain(name)} {percent(a)} to {percent(b)} more" for name, (_, a, b) in rows.items()),
            )
        )
    timed = {
        str(run["name"]): (number(run, "seconds_batch"), number(run, "relative_l2"))
        for run in runs
        if number(run, "seconds_batch") > 0 and math.isfinite(number(run, "relative_l2"))
    }
    best, told = str(runs[0]["name"]), dict(timed)
    if len(timed) > 1:
        pictures.append(
            as_picture(
                plot.cost_accuracy([], {plain(best): timed.pop(best)} if best in timed else {}, timed),
                "Error against cost",
                "Seconds per trajectory of a mean forecast, in a batch. A run that lies above and to the "
                "right of another has nothing to offer.",
                "Scatter chart of error over seconds: "
                + "; ".join(f"{plain(n)} {percent(error)} at {seconds_text(s)}" for n, (s, error) in told.items()),
            )
        )
    return pictures


def _differing(info: Mapping[str, Any], names: list[str]) -> list[tuple[str, list[str]]]:
    """Settings in which the runs differ, each with its value in every run."""
    tables = [dict(nested_rows(lookup(info, name))) for name in names]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    lines = [(key, [table.get(key, "–") for table in tables]) for key in keys]
    return [(key, values) for key, values in lines if len(set(values)) > 1]
