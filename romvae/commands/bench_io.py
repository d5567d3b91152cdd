"""`romvae bench-io`: how fast snapshots are read."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from romvae.commands.options import Reader
from romvae.errors import ConfigError

__all__ = ["bench_io"]


def bench_io(
    path: Path,
    /,
    *,
    seconds: float = 1.0,
    reader: Reader = None,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure how fast snapshots are read, beside a plain copy of memory in the same run.

    Arguments:
        path: store of snapshots.
        seconds: wall-clock per measurement.
        json: write JSON, for other programs.
    """
    if not seconds > 0:
        raise ConfigError(f"--seconds = {seconds}: should be greater than 0.")
    from romvae.data.speed import measure

    found = measure(path, seconds, reader=reader)
    if json:
        print(json_format.dumps(found, indent=2))
        return
    ways = ", ".join(f"{name} {kind}" for name, kind in found["read"].items())
    size = found["snapshot_bytes"] / 1e6
    print(f"{path}: {found['snapshots']} snapshots of {size:.4g} MB, blocks of {found['block']}; read: {ways}")
    print(f"{'':<36} {'MB/s':>10} {'MB per CPU-s':>14}")
    for row in found["rows"]:
        print(f"{row['what']:<36} {row['MB_per_s']:>10.0f} {row['MB_per_cpu_s']:>14.0f}")
    print("ratios of MB per CPU-s")
    for what, ratio in found["ratios"].items():
        print(f"  {what:<44} {ratio:.2f}")
