"""From a comparison to the page's tables: headline figures, scores, data card, settings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from romvae.plot.style import baseline_title, units_text
from romvae.report.chosen import model_title
from romvae.report.reading import lookup, multiple, number, percent, seconds_text
from romvae.report.speed import as_it_is, unsearched, worthless
from romvae.report.verdict import best_baseline
from romvae.schema import SPACE, TIME

__all__ = ["Score", "Tile", "data_card", "interval_rows", "rows", "scores", "tiles"]


@dataclass(frozen=True)
class Tile:
    """One headline figure: what it is, its value, and a word on it."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Score:
    """One line of the table of scores; `best` names the columns in which nobody is better."""

    name: str
    rom: bool
    values: tuple[str, ...]
    best: tuple[bool, ...]
    spreads: tuple[str, ...]


_TIMES = {"horizon": "forecast horizon", "dt": "time step"}
_COLUMNS = ("relative_l2", "worst_nrmse", "vrmse")
_WORDS = {
    "relative_l2": "relative L2 error",
    "vrmse": "VRMSE",
    "nrmse": "RMSE over standard deviation",
    "coverage_90": "coverage of the 90 % interval",
    "crps": "CRPS",
    "crps_over_mae": "CRPS over mean absolute error",
    "nll": "negative log-likelihood",
    "interval_score_90": "interval score, 90 %",
    "spread_skill": "spread over error",
    "spearman_trajectories": "rank correlation, trajectories",
    "valid_prediction_time": "time until the error is half of the field",
    "ssim": "structural similarity of the mean",
    "ause": "sparsification (0 best, 1 random)",
    "spearman_points": "rank correlation, points",
    "energy_score": "energy score of the members",
    "ensemble_crps": "CRPS of the members alone",
}


def tiles(metrics: Mapping[str, Any]) -> list[Tile]:
    """Error, coverage, gain over the best baseline and speed; what was not measured is left out."""
    found = []
    error, worst = number(metrics, "rom", "relative_l2"), number(metrics, "rom", "worst_nrmse")
    if not math.isnan(error):
        note = f"worst moment {percent(worst)}" if math.isfinite(worst) else "relative L2"
        found.append(Tile("Forecast error", percent(error), note))
    coverage, deviation = number(metrics, "rom", "coverage_90"), number(metrics, "rom", "coverage_90_se")
    if math.isfinite(coverage):
        spread = f" ± {100 * deviation:.1f}" if math.isfinite(deviation) else ""
        found.append(Tile("90 % intervals hold", f"{100 * coverage:.1f}{spread} %", "meant: 90 %"))
    best = best_baseline(metrics)
    if best and math.isfinite(error) and error > 0 and best[1] > 0:
        factor = best[1] / error
        word = "smaller" if factor >= 1 else "larger"
        found.append(
            Tile(
                "Error against best baseline",
                f"{_factor(factor)} × {word}",
                baseline_title(best[0]),
            )
        )
    return [*found, *_speed(metrics)]


def _speed(metrics: Mapping[str, Any]) -> list[Tile]:
    """The ratio of costs to the solver; none where nothing was timed, and no figure where it would say nothing."""
    equal = lookup(lookup(lookup(metrics, "cost"), "rom"), "mean")
    alone, batch = number(equal, "speed_up"), number(equal, "speed_up_batch")
    rollout, solver = number(metrics, "seconds", "rollout"), number(metrics, "seconds", "solver")
    if not (alone > 0 and batch > 0) and not (rollout > 0 and solver > 0):
        return []
    if worthless(metrics):
        return [Tile("Against the solver", "–", "no better than climatology, which costs nothing")]
    if alone > 0 and batch > 0:
        word = "faster" if batch >= 1 else "slower"
        note = f"in batches; {_factor(alone)} × {'faster' if alone >= 1 else 'slower'} for one trajectory"
        name = "Against the solver, as accurate"
        if as_it_is(metrics):
            name, note = "Against the solver as it is", f"{note}; no cheaper setting of it is known"
        elif unsearched(metrics):
            name, note = "Against the solver as it is", f"{note}; no cheaper run was found in time"
        return [Tile(name, f"{_factor(batch)} × {word}", note)]
    word = "faster" if solver >= rollout else "slower"
    ratio = max(solver / rollout, rollout / solver)
    note = f"{seconds_text(rollout)} against {seconds_text(solver)}"
    return [Tile("Against the solver", f"{ratio:.2g} × {word}", note)]


def scores(metrics: Mapping[str, Any]) -> list[Score]:
    """The ROM and every baseline, the ROM first, the others by their error."""
    baselines = lookup(metrics, "baselines")
    names = list(baselines)
    errors = [number(baselines, name, "relative_l2") for name in names]
    ordered = [names[k] for k in np.argsort(errors, kind="stable")]  # NaN is last
    lines = [
        (model_title(metrics), lookup(metrics, "rom")),
        *((baseline_title(name), baselines[name]) for name in ordered),
    ]
    table = np.array([[number(line, column) for column in _COLUMNS] for _, line in lines])
    finite = np.where(np.isfinite(table), table, np.inf)
    best = np.isfinite(table) & (finite <= finite.min(axis=0)) & (len(lines) > 1)
    return [
        Score(
            name,
            row == 0,
            ("diverged", *["–"] * (len(_COLUMNS) - 1))
            if line.get("diverged")
            else tuple(_score(column, value) for column, value in zip(_COLUMNS, table[row], strict=True)),
            tuple(bool(each) for each in best[row]),
            tuple(_spread(line, column) for column in _COLUMNS),
        )
        for row, (name, line) in enumerate(lines)
    ]


def interval_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The ROM's scores with their confidence intervals."""
    rom = lookup(metrics, "rom")
    found = []
    for name, bounds in lookup(rom, "intervals").items():
        value, low, high = (number({"v": each}, "v") for each in (rom.get(name), *bounds))
        if name == "valid_prediction_time":
            value = number(rom, name, "mean")
        if math.isfinite(value) and math.isfinite(low):
            found.append((_WORDS.get(name, name.replace("_", " ")), f"{value:.3g} ({low:.3g} to {high:.3g})"))
    return found


def data_card(metrics: Mapping[str, Any], examples: xr.Dataset, fields: Iterable[str]) -> list[tuple[str, str]]:
    """What the data are: fields, grid, boundaries, time, then whatever else `metrics["data"]` tells."""
    card = []
    for field in fields:
        array = examples[f"truth_{field}"]
        units = units_text(array.attrs.get("units"))
        text = f"{array.attrs.get('long_name', '')} [{units or 'dimensionless'}]"
        card.append((f"field {field}", text.strip()))
    boundaries = _boundaries(examples.attrs.get("boundary_conditions"))
    for name in (each for each in SPACE if each in examples.sizes):
        card.append((f"axis {name}", _axis(examples, name) + boundaries.get(name, "")))
    if TIME in examples.sizes:
        card.append(("time", _axis(examples, TIME)))
    for name, facts in lookup(lookup(metrics, "data"), "parameters").items():
        low, high = number(facts, "low"), number(facts, "high")
        units = units_text(facts.get("units")) if isinstance(facts, Mapping) else ""
        card.append((f"parameter {name}", f"{low:.4g} to {high:.4g} {units}".strip()))
    told = {"parameters", "time_units"} | ({"grid", "fields", "times"} if card else set())
    for name, value in lookup(metrics, "data").items():
        if name in _TIMES:
            units = units_text(lookup(metrics, "data").get("time_units"))
            card.append((_TIMES[name], f"{number(value):.4g} {units}".strip()))
        elif isinstance(value, Mapping) and name not in told:
            card.append((name.replace("_", " "), ", ".join(f"{key} {text}" for key, text in rows(value))))
        elif name not in told:
            card.append((name.replace("_", " "), _value(value)))
    return card


def rows(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as lines of dotted key and value.

    >>> rows({"vae": {"latent": 8}, "seed": 0})
    [('vae.latent', '8'), ('seed', '0')]
    """
    lines: list[tuple[str, str]] = []
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            lines += rows(value, f"{name}.")
        else:
            lines.append((name, _value(value)))
    return lines


def _factor(ratio: float) -> str:
    """How many times, of a ratio or its inverse, without powers of ten."""
    return multiple(max(ratio, 1 / ratio))


def _spread(line: Mapping[str, Any], column: str) -> str:
    """The confidence interval of a score; empty where it has none."""
    low, high = (number({"v": each}, "v") for each in lookup(line, "intervals").get(column) or (None, None))
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{_score(column, low)} to {_score(column, high)}"


def _score(column: str, value: float) -> str:
    if math.isnan(value):
        return "–"
    return percent(value) if column.endswith("relative_l2") else f"{value:.3g}"


def _axis(examples: xr.Dataset, name: str) -> str:
    size, coordinate = examples.sizes[name], examples[name]
    values, units = coordinate.values, units_text(coordinate.attrs.get("units"))
    return f"{size} points from {float(values[0]):.4g} to {float(values[-1]):.4g} {units}".strip()


def _boundaries(text: Any) -> dict[str, str]:
    """Boundary conditions per axis in words; nothing where the attribute is missing or unreadable."""
    try:
        parsed = json.loads(text)
        sides = {
            name: [each["kind"] if isinstance(each, dict) else str(each) for each in both]
            for name, both in parsed.items()
        }
    except (TypeError, ValueError, KeyError, AttributeError):
        return {}
    return {name: f", {both[0]}" if len(set(both)) == 1 else f", {' / '.join(both)}" for name, both in sides.items()}


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        text = ", ".join(_value(each) for each in value)
        return text if len(text) <= 300 else text[:299] + "…"
    return str(value)
