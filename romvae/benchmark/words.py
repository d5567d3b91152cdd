"""Numbers and names in the tables of the benchmark's page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from romvae.benchmark.result import Result, value_at

if TYPE_CHECKING:
    from romvae.benchmark.recipe import Problem

__all__ = ["EARLIER", "markdown", "milliseconds", "named", "over", "percent", "plain", "seconds_of", "spread"]

EARLIER = " ‡"
"""Behind a problem with a result that was compared by earlier rules."""


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


def over(results: Sequence[Result], path: str, show: Callable[[float], str]) -> str:
    """`spread` of what stands at a path of the results."""
    return spread((v for r in results if isinstance(v := value_at(r.content, path), (int, float))), show)


def named(problem: Problem, results: Sequence[Result]) -> str:
    """The problem, marked where a result is of earlier rules."""
    return problem.name + (EARLIER if any(result.earlier for result in results) else "")


def percent(value: float) -> str:
    """As a percentage of three digits.

    >>> percent(0.0123)
    '1.23 %'
    """
    return f"{100 * value:.3g} %"


def seconds_of(value: float) -> str:
    """Whole seconds.

    >>> seconds_of(12.7)
    '13 s'
    """
    return f"{value:.0f} s"


def milliseconds(value: float) -> str:
    """Seconds in milliseconds of three digits.

    >>> milliseconds(0.0125)
    '12.5'
    """
    return f"{1e3 * value:.3g}"


def plain(value: float) -> str:
    """Three digits.

    >>> plain(12.34)
    '12.3'
    """
    return f"{value:.3g}"
