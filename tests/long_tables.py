"""Tables of measurements that take long: rows are kept in a JSON file and shown as Markdown."""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["as_markdown", "tabulate"]

Rows = Iterator[tuple[str, Callable[[], dict[str, Any]]]]
"""Names `table/row/seed`, and what computes them."""


def tabulate(
    about: str | None,
    tables: Sequence[str],
    rows: Callable[[argparse.Namespace], Rows],
    arguments: list[str] | None = None,
    more: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
    unseeded: Collection[str] = (),
) -> int:
    """A command line: computes what is missing of a table, or shows the file. A row that is there is not repeated.

    Arguments:
        about: For `--help`.
        tables: Their names.
        rows: Of the table that the command line names.
        arguments: Instead of those of the process.
        more: Adds arguments.
        unseeded: Tables whose rows have no seed in their names.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=[*tables, "show"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    more(parser)
    told = parser.parse_args(arguments)
    found = json.loads(told.out.read_text(encoding="utf-8")) if told.out.exists() else {}
    if told.table == "show":
        print(as_markdown(found, unseeded))
        return 0
    logging.getLogger("romvae").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    for name, compute in rows(told):
        if name in found or told.only not in name:
            continue
        begin = time.perf_counter()
        found[name] = compute()
        told.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
        print(f"{name}: {time.perf_counter() - begin:.0f} s {json.dumps(found[name])}", flush=True)
    return 0


def as_markdown(found: Mapping[str, Mapping[str, Any]], unseeded: Collection[str] = ()) -> str:
    """The rows by table, seeds side by side."""
    lines = []
    for table in sorted({key.split("/")[0] for key in found}):
        keys = [key for key in found if key.startswith(f"{table}/")]
        columns = list(dict.fromkeys(column for key in keys for column in found[key]))
        lines += ["", f"| {table} | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for key in keys:
            name = key.split("/", 1)[1]
            groups.setdefault(name if table in unseeded else name.rsplit("/", 1)[0], []).append(found[key])
        for name, some in groups.items():
            cells = [" ".join(_cell(row.get(column)) for row in some) for column in columns]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else " ".join(map(_cell, value)) if isinstance(value, list) else str(value)
