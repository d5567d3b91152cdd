"""Tables of the benchmark's page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from romvae.benchmark.ahead import ahead, errors_of, is_resolvable
from romvae.benchmark.result import Result, value_at

if TYPE_CHECKING:
    from romvae.benchmark.page import Group
    from romvae.benchmark.recipe import Problem, Published

__all__ = [
    "EARLIER",
    "MARK",
    "accuracy_table",
    "bars_table",
    "calibration_table",
    "cost_table",
    "earlier_rules",
    "machines_table",
    "markdown",
    "published_table",
    "spread",
]

MARK = " †"
"""Behind an error below the reference solution's own."""
EARLIER = " ‡"
"""Behind a problem with a result that was compared by earlier rules."""
_ORIGINS = {"published": "as published", "measured": "measured by this project", "recalled": "recalled, not verified"}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar in a cell is escaped."""
    lines = [[*head], ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Iterable[Any], show: Callable[[float], str]) -> str:
    """The mean, and the smallest and the largest where they differ; `-` where nothing is."""
    numbers = [float(v) for v in values if v is not None]
    if not numbers:
        return "-"
    mean = show(sum(numbers) / len(numbers))
    low, high = show(min(numbers)), show(max(numbers))
    return mean if low == high else f"{mean} ({low} to {high})"


def accuracy_table(groups: Sequence[Group]) -> str:
    """Errors of all methods on all problems; `MARK` stands behind those below the reference's own error."""
    names = list(dict.fromkeys(name for _, results in groups for name in errors_of(results)))
    rows = []
    for problem, results in groups:
        each = errors_of(results)
        cells = [_error(each.get(name, {}), results) + ("" if is_resolvable(results, name) else MARK) for name in names]
        seeds = ", ".join(str(result.seed) for result in results)
        rows.append([_named(problem, results), _text(problem.recipe.model.latent), seeds, *cells, ahead(results)])
    return markdown(["problem", "latents", "seeds", *(n.replace("_", " ") for n in names), "ahead"], rows)


def _named(problem: Problem, results: Sequence[Result]) -> str:
    return problem.name + (EARLIER if any(result.earlier for result in results) else "")


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
    text = spread(by_seed.values(), _percent)
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
                _over(results, "metrics.rom.coverage_90", _percent),
                spread(worst, _percent),
                _over(results, band + "runs_held", _percent) + _expected(value_at(results[0].content, band[:-1])),
                _trusted(results),
                _over(results, "metrics.rom.spread_skill", _plain) + _test_runs(results, "spread_skill"),
                *(_over(results, f"metrics.rom.{name}", _plain) for name in ("crps_over_mae", "spearman_trajectories")),
            ]
        )
    return markdown([*head, "CRPS / MAE", "rank correlation"], rows)


def _expected(scores: Any) -> str:
    """In square brackets what chance allows of a share of runs that hold; empty where it is unknown."""
    low, high = (value_at(scores or {}, end) for end in ("expected_low", "expected_high"))
    return "" if low is None or high is None else f" [{_percent(low)} to {_percent(high)}]"


def _trusted(results: Sequence[Result], tolerance: float = 0.1) -> str:
    """Share of the test runs whose error stayed below the tolerance until their trust horizon."""
    lists = [value_at(r.content, "metrics.rom.trust.tolerances") or [] for r in results]
    found = [each for some in lists for each in some if each["tolerance"] == tolerance]
    return spread((each["kept"] for each in found), _percent) + (_expected(found[0]) if found else "")


def _test_runs(results: Sequence[Result], name: str) -> str:
    """In square brackets the interval of a score's mean over seeds that the choice of test runs leaves."""
    means = [value_at(r.content, f"metrics.rom.{name}") for r in results]
    ends = [value_at(r.content, f"metrics.rom.intervals.{name}") for r in results]
    if None in means or None in ends:
        return ""
    mean, n = sum(means) / len(means), len(means)
    below = math.sqrt(sum((m - e[0]) ** 2 for m, e in zip(means, ends, strict=True))) / n
    above = math.sqrt(sum((e[1] - m) ** 2 for m, e in zip(means, ends, strict=True))) / n
    return f" [{_plain(mean - below)} to {_plain(mean + above)}]"


def cost_table(groups: Sequence[Group]) -> str:
    """Process time of the work, and of a rollout beside solver and decoder."""
    head = ["problem", "simulate", "train", "compare", "rollout, ms", "solver as it is, ms", "solver as accurate, ms"]
    head += ["speed-up: one run", "batch", "batch with members", "rollout / decoder", "rollouts to break even"]
    own, members = "metrics.cost.rom.mean.", "metrics.cost.rom.ensemble."
    rows = []
    for problem, results in groups:
        stages = [_over(results, f"cost.process_seconds.{s}", _seconds) for s in ("simulate", "train", "compare")]
        times = [own + "seconds_batch", "metrics.cost.solver.sweep.0.seconds_batch", own + "solver_batch.seconds_batch"]
        ratios = [own + "speed_up", own + "speed_up_batch", members + "speed_up_batch", own + "over_decoder"]
        ratios += ["metrics.cost.pay_off.break_even_mean_batch"]
        cells = [*(_over(results, t, _milliseconds) for t in times), *(_over(results, r, _plain) for r in ratios)]
        rows.append([_named(problem, results), *stages, *cells])
    return markdown(head, rows)


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
                    spread(values, _plain),
                    _reached(held, mean),
                ]
            )
    return markdown(["problem", "figure", "wanted", "reached", ""], rows) if rows else ""


def published_table(groups: Sequence[Group]) -> str:
    """Figures of others beside ours, in their form, with who says so."""
    rows = []
    for problem, results in groups:
        by_metric: dict[str, list[Published]] = {}
        for one in problem.recipe.published:
            by_metric.setdefault(one.metric, []).append(one)
        for metric, others in by_metric.items():
            show = _percent if any("%" in one.value for one in others) else _plain
            if metric:
                what = others[0].what or metric
                rows.append([problem.name, "romvae", "run here", what, _over(results, metric, show), ""])
            rows += [[problem.name, one.who, _ORIGINS[one.origin], one.what, one.value, one.note] for one in others]
    return markdown(["problem", "method", "source", "measure", "figure", "note"], rows) if rows else ""


def machines_table(groups: Sequence[Group]) -> str:
    """Where, with what and by which commands the results were made."""
    found: dict[tuple[str, ...], list[str]] = {}
    for _, results in groups:
        for seed, made in ((r.seed, made) for r in results for made in (r.content, *r.content.get("added", ()))):
            here, versions = made["machine"], made["versions"]
            gpu = here.get("gpu") or "none"
            threads = "1 thread" if here.get("threads") == 1 else f"{here.get('threads')} threads"
            where = f"{here.get('processor')}, {here.get('cpus')} cores, {threads}, GPU: {gpu}"
            names = ("romvae", "python", "torch", "numpy", "scipy")
            what = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
            command = f"`{made.get('command', '')}`".replace(f" --seeds {seed}", "")
            known = found.setdefault((where, what), [])
            if command not in known:
                known.append(command)
    rows = [[where, what, ", ".join(commands)] for (where, what), commands in found.items()]
    return markdown(["machine", "versions", "commands"], rows)


def _over(results: Sequence[Result], path: str, show: Callable[[float], str]) -> str:
    return spread((v for r in results if isinstance(v := value_at(r.content, path), (int, float))), show)


def _reached(held: bool, mean: float | None) -> str:
    return "not run" if mean is None else "reached" if held else "missed"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _seconds(value: float) -> str:
    return f"{value:.0f} s"


def _milliseconds(value: float) -> str:
    return f"{1e3 * value:.3g}"


def _plain(value: float) -> str:
    return f"{value:.3g}"


def _text(value: object) -> str:
    return "chosen" if value is None else str(value)
