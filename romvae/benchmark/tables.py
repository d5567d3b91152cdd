"""Tables of the benchmark's page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from romvae.benchmark.ahead import ahead, errors_of, is_resolvable
from romvae.benchmark.result import Result, value_at
from romvae.benchmark.words import EARLIER, markdown, named, over, percent, plain, spread

if TYPE_CHECKING:
    from romvae.benchmark.page import Group
    from romvae.benchmark.recipe import Published

__all__ = [
    "MARK",
    "accuracy_table",
    "bars_table",
    "budget_sentence",
    "calibration_table",
    "earlier_rules",
    "published_table",
]

MARK = " †"
"""Behind an error below the reference solution's own."""
_ROM = "metrics.rom."
_ORIGINS = {"published": "as published", "measured": "measured by this project", "recalled": "recalled, not verified"}


def accuracy_table(groups: Sequence[Group]) -> str:
    """Errors of all methods on all problems; `MARK` stands behind those below the reference's own error."""
    names = list(dict.fromkeys(name for _, results in groups for name in errors_of(results)))
    rows = []
    for problem, results in groups:
        each = errors_of(results)
        cells = [_error(each.get(name, {}), results) + ("" if is_resolvable(results, name) else MARK) for name in names]
        cells[0] += _test_runs(results, "relative_l2", percent)
        seeds = ", ".join(str(result.seed) for result in results)
        rows.append([named(problem, results), _text(problem.recipe.model.latent), seeds, *cells, ahead(results)])
    return markdown(["problem", "latents", "seeds", *(n.replace("_", " ") for n in names), "ahead"], rows)


def earlier_rules(groups: Sequence[Group]) -> str:
    """What `EARLIER` behind a name means; empty where it is nowhere."""
    if not any(result.earlier for _, results in groups for result in results):
        return ""
    return (
        f"A{EARLIER} marks problems of which a result was compared by earlier rules: baselines searched less far for "
        "their number of modes and did not use their whole budget, POD with network dynamics had settings of its own, "
        "and fewer settings of the solver were tried. Baselines may do better there than it says, and speed-ups be "
        "smaller, until `romvae benchmark` has made them again."
    )


def _error(by_seed: Mapping[int, float | None], results: Sequence[Result]) -> str:
    """The mean over seeds, with those that it was not run or diverged on."""
    diverged = [seed for seed, error in by_seed.items() if error is None]
    if by_seed and len(diverged) == len(by_seed):
        return "diverged"
    text = spread(by_seed.values(), percent)
    if by_seed and len(by_seed) < len(results):
        text += f", seed {', '.join(map(str, by_seed))} only"
    return text + (f", diverged on seed {', '.join(map(str, diverged))}" if diverged else "")


def calibration_table(groups: Sequence[Group]) -> str:
    """Coverage, bands and sharpness."""
    head = ["problem", "calibration / test runs", "coverage", "worst fifth", "risk band held"]
    head += ["trusted (0.1): held", "spread / error"]
    rows = []
    for problem, results in groups:
        parts = value_at(results[0].content, "metrics.data.split") or {}
        fifths = [value_at(r.content, "metrics.rom.coverage_90_fifths") or [] for r in results]
        worst = [max((v for v in each if v is not None), key=lambda c: abs(c - 0.9), default=None) for each in fifths]
        band = "metrics.rom.bands.risk_band."
        rows.append(
            [
                problem.name,
                f"{parts.get('calibration', '-')} / {parts.get('test', '-')}",
                over(results, "metrics.rom.coverage_90", percent),
                spread(worst, percent),
                over(results, band + "runs_held", percent) + _expected(value_at(results[0].content, band[:-1])),
                _trusted(results),
                over(results, "metrics.rom.spread_skill", plain) + _test_runs(results, "spread_skill"),
                *(over(results, f"metrics.rom.{name}", plain) for name in ("crps_over_mae", "spearman_trajectories")),
            ]
        )
    return markdown([*head, "CRPS / MAE", "rank correlation"], rows)


def _expected(scores: Any) -> str:
    """In square brackets what chance allows of a share of runs that hold; empty where it is unknown."""
    low, high = (value_at(scores or {}, end) for end in ("expected_low", "expected_high"))
    return "" if low is None or high is None else f" [{percent(low)} to {percent(high)}]"


def _trusted(results: Sequence[Result], tolerance: float = 0.1) -> str:
    """Share of the test runs whose error stayed below the tolerance until their trust horizon."""
    lists = [value_at(r.content, "metrics.rom.trust.tolerances") or [] for r in results]
    found = [each for some in lists for each in some if each["tolerance"] == tolerance]
    return spread((each["kept"] for each in found), percent) + (_expected(found[0]) if found else "")


def _test_runs(results: Sequence[Result], name: str, show: Callable[[float], str] = plain) -> str:
    """In square brackets the interval of a score's mean over seeds that the choice of test runs leaves."""
    means = [value_at(r.content, f"metrics.rom.{name}") for r in results]
    ends = [value_at(r.content, f"metrics.rom.intervals.{name}") for r in results]
    if None in means or None in ends:
        return ""
    mean, n = sum(means) / len(means), len(means)
    below = math.sqrt(sum((m - e[0]) ** 2 for m, e in zip(means, ends, strict=True))) / n
    above = math.sqrt(sum((e[1] - m) ** 2 for m, e in zip(means, ends, strict=True))) / n
    return f" [{show(mean - below)} to {show(mean + above)}]"


def bars_table(groups: Sequence[Group]) -> str:
    """Figures to reach, with what was reached."""
    rows = []
    for problem, results in groups:
        for bar in problem.recipe.bars:
            values = [v for r in results if isinstance(v := value_at(r.content, bar.metric), (int, float))]
            wanted = [f"at most {bar.at_most:g}"] if bar.at_most is not None else []
            wanted += [f"at least {bar.at_least:g}"] if bar.at_least is not None else []
            mean = sum(values) / len(values) if values else None
            low = bar.at_least is None or (mean is not None and mean >= bar.at_least)
            held = mean is not None and low and (bar.at_most is None or mean <= bar.at_most)
            rows.append(
                [
                    problem.name,
                    bar.what or bar.metric,
                    " and ".join(wanted),
                    spread(values, plain),
                    _reached(held, mean),
                ]
            )
    return markdown(["problem", "figure", "wanted", "reached", ""], rows) if rows else ""


def published_table(groups: Sequence[Group]) -> str:
    """Figures of others beside ours and those of baselines run here, in their form, with who says so."""
    rows = []
    for problem, results in groups:
        by_metric: dict[str, list[Published]] = {}
        for one in problem.recipe.published:
            by_metric.setdefault(one.metric, []).append(one)
        for metric, others in by_metric.items():
            show = percent if any("%" in one.value for one in others) else plain
            if metric:
                what = others[0].what or metric
                rows.append([problem.name, "romvae", "run here", what, over(results, metric, show), ""])
                rows += [[problem.name, *cells] for cells in _baselines_here(results, metric, what, show)]
            rows += [[problem.name, one.who, _ORIGINS[one.origin], one.what, one.value, one.note] for one in others]
    return markdown(["problem", "method", "source", "measure", "figure", "note"], rows) if rows else ""


def _baselines_here(
    results: Sequence[Result], metric: str, what: str, show: Callable[[float], str]
) -> Iterator[list[str]]:
    """Every baseline with a smaller figure than romvae, the smallest first, or else the best one.

    What baselines share with romvae are errors, of which the smaller is the better. A baseline of some seeds is set
    beside romvae on these; one that diverged on a seed has no figure.
    """
    key = metric.removeprefix(_ROM)
    if key == metric:
        return
    ratios = {}
    for name in errors_of(results):
        path = f"metrics.baselines.{name}.{key}"
        ran = [result for result in results if value_at(result.content, f"metrics.baselines.{name}") is not None]
        pairs = [(value_at(result.content, path), value_at(result.content, metric)) for result in ran]
        if ran and all(isinstance(each, (int, float)) for pair in pairs for each in pair):
            ratios[name] = sum(theirs for theirs, _ in pairs) / max(sum(own for _, own in pairs), 1e-300)
    ranked = sorted(ratios, key=ratios.__getitem__)
    for name in [name for name in ranked if ratios[name] < 1] or ranked[:1]:
        figure = over(results, f"metrics.baselines.{name}.{key}", show)
        ranks = [value_at(result.content, f"baselines.chosen.{name}.rank") for result in results]
        note = f"{' or '.join(dict.fromkeys(map(str, ranks)))} modes" if None not in ranks else ""
        yield [name.replace("_", " "), "run here", what, figure, note]


def budget_sentence(groups: Sequence[Group]) -> str:
    """How far a fit of a baseline exceeded the process time of romvae's training at most; empty where it is unknown."""
    ratios = {}
    for problem, results in groups:
        for result in results:
            training = value_at(result.content, "cost.process_seconds.train")
            for name in errors_of([result]):
                seconds = value_at(result.content, f"metrics.baselines.{name}.fit_seconds")
                if seconds is not None and training:
                    ratios[name, problem.name, result.seed] = seconds / training
    if not ratios:
        return ""
    longest = max(ratios, key=ratios.__getitem__)
    above = sum(ratio > 1 for ratio in ratios.values())
    return (
        f"The longest of the {len(ratios)} fits of baselines took {plain(ratios[longest])} times the process time "
        f"of romvae's training ({longest[0].replace('_', ' ')} on `{longest[1]}`); {above} took more than all of it."
    )


def _reached(held: bool, mean: float | None) -> str:
    return "not run" if mean is None else "reached" if held else "missed"


def _text(value: object) -> str:
    return "chosen" if value is None else str(value)
