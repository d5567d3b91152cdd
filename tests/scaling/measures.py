"""What SCALING.md is made of, measured on one thread: process time, medians, the sides of every ratio in turns.

    python -m tests.scaling.measures networks  --out tables.json  # decoding, encoding and training steps over grids
    python -m tests.scaling.measures step      --out tables.json  # a training step by part
    python -m tests.scaling.measures compile   --out tables.json  # torch.compile and bf16
    python -m tests.scaling.measures start     --out tables.json  # from data to the first training step
    python -m tests.scaling.measures rollout   --out tables.json  # 64 members against the bare decoder, by part
    python -m tests.scaling.measures linear    --out tables.json  # cost over steps, members, trajectories
    python -m tests.scaling.measures memory    --out tables.json  # peaks over steps, members, trajectories, grids
    python -m tests.scaling.measures moments   --out tables.json --name N --model M --data D  # of a trained ROM
    python -m tests.scaling.measures traffic   --out tables.json  # bytes between two processes, bytes on disk
    python -m tests.scaling.measures show      --out tables.json  # as Markdown
    python -m tests.scaling.page                                  # writes the tables of SCALING.md anew

A row that is in the file already is not measured again. `tests/scaling/tables.json` holds those that are shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.long_tables import tabulate
from tests.scaling import memory, moments, networks, rollouts, traffic

GRIDS = {
    **{f"1-D {n}": (n,) for n in (128, 256, 512, 1024, 2048)},
    **{f"2-D {n}": (n, n) for n in (32, 48, 64, 96, 128, 192, 256, 384, 512)},
    **{f"3-D {n}": (n, n, n) for n in (16, 24, 32)},
}
"""Every second one is for the fit, see `tests.scaling.model`."""

KINDS = {
    "1-D 256": ((256,), ("u",), "periodic"),
    "2-D 64": ((64, 64), ("u",), "periodic"),
    "2-D 32, 3 fields, reflecting": ((32, 32), ("u", "v", "w"), "reflecting"),
}


def rows(told: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    """Rows of a table by their names."""
    table = told.table
    if table == "networks":
        return {name: partial(networks.on_grid, shape) for name, shape in GRIDS.items()}
    if table == "step":
        sizes = {"1-D 256": 128, "2-D 64": 128}
        return {name: partial(networks.step_by_part, GRIDS[name], batch) for name, batch in sizes.items()}
    if table == "compile":
        eager = {f"compile, {name}": partial(networks.compilation, *kind) for name, kind in KINDS.items()}
        return eager | {f"bf16, {name}": partial(networks.fewer_digits, *kind) for name, kind in KINDS.items()}
    if table == "start":
        return {name: partial(networks.start_up, GRIDS[name]) for name in ("1-D 256", "2-D 64", "2-D 256")}
    if table == "rollout":
        return rollouts.tables()
    if table == "linear":
        return rollouts.lines()
    if table == "memory":
        return memory.tables()
    if table == "moments":
        return {told.name: partial(moments.on_trained, told.model, told.data)}
    return traffic.tables()


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    torch.set_num_threads(1)
    tables = ("networks", "step", "compile", "start", "rollout", "linear", "memory", "moments", "traffic")

    def named(told: argparse.Namespace) -> Any:
        return ((f"{told.table}/{name}", compute) for name, compute in rows(told).items())

    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--name", default="", help="of the row of `moments`")
        parser.add_argument("--model", type=Path, help="folder of a trained ROM")
        parser.add_argument("--data", type=Path, help="store that it was trained on")

    return tabulate(__doc__, tables, named, arguments, more, unseeded=tables)


if __name__ == "__main__":
    raise SystemExit(main())
