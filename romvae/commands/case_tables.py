"""What `romvae simulate` shows of cases without simulating an ensemble: the list, and what accuracy costs."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any

from romvae.errors import ConfigError

__all__ = ["print_cases", "print_costs"]


def print_cases(as_json: bool) -> None:
    """The built-in cases, as a table or as JSON."""
    from romvae.solvers import catalogue

    facts = catalogue()
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("case", "equation", "scheme", "grid", "times", "n", "parameters", "size", box=box.SIMPLE)
    for column in (0, 3, 7):
        table.columns[column].no_wrap = True
    for case in facts:
        grid = " x ".join(map(str, case["grid"].values()))
        fields = f"{len(case['fields'])} x " if len(case["fields"]) > 1 else ""
        parameters = [f"{p['name']} {p['low']:.4g} to {p['high']:.4g}" for p in case["parameters"]]
        table.add_row(
            case["name"],
            case["equation"],
            "exact" if case["exact"] else case["scheme"],
            f"{fields}{grid}",
            f"{case['times']['count']} to {case['times']['end']:g}",
            str(case["trajectories"]),
            ", ".join(parameters) or "-",
            f"{case['bytes'] / 1e6:.3g} MB",
        )
    Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False).print(table)


def print_costs(case: str, words: Sequence[str], trajectories: int | None, seed: int, as_json: bool) -> None:
    """Error and process time of the case as it is, and of all combinations of the settings given.

    Arguments:
        case: Name of the case.
        words: Settings, each as NAME=VALUE,VALUE.
        trajectories: How many are solved; None takes 4.
        seed: Selects the ensemble.
        as_json: As JSON instead of a Markdown table.
    """
    from romvae.solvers import cost_table, cost_text

    choices = dict(_setting(word) for word in words)
    combined = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    rows = cost_table(case, [{}, *combined], trajectories=4 if trajectories is None else trajectories, seed=seed)
    print(json.dumps([row.to_dict() for row in rows], indent=2) if as_json else cost_text(rows))


def _setting(word: str) -> tuple[str, list[Any]]:
    name, _, values = word.partition("=")
    if not name.strip() or not values.strip():
        raise ConfigError(f"--cost-table = {word}: expected NAME=VALUE,VALUE, such as --cost-table resolution=128,256.")
    return name.strip().replace("-", "_"), [_value(text.strip()) for text in values.split(",")]


def _value(text: str) -> Any:
    """A number, true, false or null as in JSON; anything else is text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
