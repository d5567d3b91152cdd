"""`romvae info`: what a store, a run or this machine is."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from romvae.commands.run_folder import RunFolder
from romvae.commands.text import outline
from romvae.errors import ConfigError, DataError

__all__ = ["info"]


def info(
    path: Path | None = None,
    /,
    *,
    env: Annotated[bool, Parameter(name="--env")] = False,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Show what is in a store or a run, whether it is usable and what is missing.

    Arguments:
        path: store of snapshots, or folder of a run.
        env: show Python, machine, threads and package versions instead.
        json: write JSON, for other programs.
    """
    if env == (path is not None):
        raise ConfigError("expected either a PATH or --env.")
    if path is None:
        from romvae.environment import show_versions

        versions = show_versions()
        print(json_format.dumps(versions, indent=2) if json else versions)
        return
    if not path.exists():
        raise DataError(f"{path}: no such file or folder. Expected a store of snapshots or a run.")
    if (path / "data.json").is_file():
        facts = _run_facts(path)
        print(json_format.dumps(facts, indent=2) if json else outline(facts))
        return
    from romvae.data import describe, summary

    facts = describe(path)
    print(json_format.dumps(facts, indent=2) if json else summary(facts))
    if not facts["usable"]:
        raise DataError(f"{path}: not usable: {'; '.join(facts['problems'])}")


def _run_facts(path: Path) -> dict[str, Any]:
    from romvae.rom import ROM

    run = RunFolder.open(path)
    rom = ROM.load(run.model)
    record = run.data()
    return {
        "run": str(path),
        "fields": {field.name: f"[{field.units}]" for field in rom.schema.fields},
        "axes": {axis.name: f"{axis.size} points [{axis.units}]" for axis in rom.schema.grid.axes},
        "dt": f"{rom.schema.dt:.6g} [{rom.schema.time_units}]",
        "parameters": {p.name: f"{p.low:.6g} to {p.high:.6g} [{p.units}]" for p in rom.schema.parameters},
        "model": rom.config,
        "settings": run.settings(),
        "data": {
            "path": record.path,
            "seed": record.seed,
            "trajectories": {part: len(numbers) for part, numbers in record.trajectories.items()},
        },
        "seconds": run.history().get("seconds", {}),
        "environment": run.environment(),
    }
