"""Results as text on standard output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["outline", "places", "skill"]

_EACH = {"rollout": " of a trajectory", "solver": " of a trajectory"}


def skill(metrics: Mapping[str, Any]) -> str:
    """The headline of `metrics.json`: errors of the model and the baselines, coverage, seconds."""
    rom = metrics["rom"]
    own = metrics.get("model", {}).get("name", "rom")  # a baseline stands there under its name
    rows = [(own, rom), *metrics.get("baselines", {}).items()]
    lines = ["relative L2 error on held-out trajectories"]
    lines += [
        f"  {name:<20} {'diverged' if row.get('diverged') else _percent(row.get('relative_l2'))}" for name, row in rows
    ]
    if len(rom.get("fields") or {}) > 1:
        lines += _by_field(rom["fields"])
    coverage, error = rom.get("coverage_90"), rom.get("coverage_90_se")
    if coverage is not None:
        margin = f" (standard error over trajectories {_percent(error).strip()})" if error is not None else ""
        lines += [f"coverage of the 90 % interval  {_percent(coverage).strip()}{margin}"]
    seconds = metrics.get("seconds", {})
    if seconds:
        told = (f"{stage}{_EACH.get(stage, '')} {value:.3g}" for stage, value in seconds.items())
        lines += ["seconds  " + ", ".join(told)]
    return "\n".join(lines)


def _by_field(fields: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each field, below a head: errors relative and in its units, and how often its intervals hold."""
    rows: list[tuple[str, ...]] = [
        ("field by field", "relative L2", "over deviation", "mean error", "CRPS", "90 % holds")
    ]
    for name, each in fields.items():
        shares = [_percent(each.get(key)).strip() for key in ("relative_l2", "nrmse", "coverage_90")]
        units = "" if each.get("units") in (None, "", "1") else f" {each['units']}"
        sizes = [each.get(key) for key in ("mean_absolute_error", "crps")]
        told = ["-" if size is None else f"{size:.3g}{units}" for size in sizes]
        rows.append((f"  {name}", *shares[:2], *told, shares[2]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def places(metrics: Mapping[str, Any]) -> str:
    """The ranking of several runs: error with its interval, and whether the best is better by more than chance."""
    width = max(len(run["name"]) for run in metrics["runs"])
    lines = [f"relative L2 error on {metrics['trajectories']} held-out trajectories, best first"]
    for place, run in enumerate(metrics["runs"], start=1):
        if run.get("diverged"):
            lines.append(f"  {place}. {run['name']:<{width}} diverged")
            continue
        bounds = " to ".join(_percent(bound).strip() for bound in run["interval"])
        lines.append(f"  {place}. {run['name']:<{width}} {_percent(run['relative_l2'])}  ({bounds})")
        if run.get("against_best"):
            lines.append(f"     {run['against_best']['words']}")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    if value is None:
        return "      -"
    text = f"{100 * value:.2f}" if value >= 1e-3 else f"{100 * value:.2g}"  # 12.34 %, but 0.0074 %
    return f"{text:>8} %"


def outline(value: Mapping[str, Any]) -> str:
    """Nested mappings as indented `key: value` lines."""
    return "\n".join(_outline(value, ""))


def _outline(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield f"{indent}{key}:"
            yield from _outline(item, indent + "  ")
        elif isinstance(item, (list, tuple)) and any(isinstance(entry, Mapping) for entry in item):
            yield f"{indent}{key}:"
            for entry in item:
                yield f"{indent}  - {_inline(entry)}"
        else:
            yield f"{indent}{key}: {_inline(item)}"


def _inline(item: Any) -> str:
    if isinstance(item, Mapping):
        return ", ".join(f"{key} {_inline(value)}" for key, value in item.items())
    if isinstance(item, (list, tuple)):
        return ", ".join(map(_inline, item)) if item else "none"
    return f"{item:.6g}" if isinstance(item, float) else str(item)
