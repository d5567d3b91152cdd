"""`romvae info`: what a store, a run or this machine is."""

from __future__ import annotations

import json as json_format
import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from romvae.commands.options import Reader
from romvae.commands.run_folder import RunFolder
from romvae.commands.text import outline
from romvae.errors import AssumptionWarning, ConfigError, DataError

__all__ = ["info"]


def info(
    *paths: Path,
    reader: Reader = None,
    env: Annotated[bool, Parameter(name="--env")] = False,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Show what is in a store or a run, whether it is usable and what is missing.

    Files of unknown layout are answered with a mapping to complete: save what is printed, put a name for every '?',
    and give the file with --reader.

    Arguments:
        paths: store of snapshots, folder of a run, or files of another program that belong together.
        env: show Python, machine, threads and package versions instead.
        json: write JSON, for other programs.
    """
    if env == bool(paths):
        raise ConfigError("expected either a PATH or --env.")
    if env:
        from romvae.environment import show_versions

        versions = show_versions()
        print(json_format.dumps(versions, indent=2) if json else versions)
        return
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder. Expected a store of snapshots or a run.")
    if len(paths) == 1 and (paths[0] / "data.json").is_file():
        facts = _run_facts(paths[0])
        print(json_format.dumps(facts, indent=2) if json else outline(facts))
        return
    from romvae.data import summary

    facts = _data_facts(paths, reader, json)
    print(json_format.dumps(facts, indent=2) if json else summary(facts))
    if not facts["usable"]:
        raise DataError(f"{paths[0]}: not usable: {'; '.join(facts['problems'])}")
    if not json:
        print("\n".join(_next(facts, paths, reader)))


def _next(facts: Mapping[str, Any], paths: Sequence[Path], reader: str | None) -> list[str]:
    """How to say what foreign files do not, and the command that follows."""
    from romvae.data import readers

    lines = []
    unstated = [axis["name"] for axis in facts["axes"] if axis["boundary"] is None]
    own = reader is not None and Path(reader).suffix in (".yaml", ".yml")
    if unstated and (own or facts["format"] in readers.READERS):
        sides = ", ".join(f"{axis}: [open, open]" for axis in unstated)
        what = "Boundary conditions decide how the networks go on beyond the edges. To state them,"
        if own:
            lines.append(f"{what} add to {reader}:")
        else:
            lines += [f"{what} save as NAME.yaml, for --reader NAME.yaml:", f"  reader: {facts['format']}"]
        lines.append(f"  boundaries: {{{sides}}}  # or periodic, wall, reflecting")
    if facts.get("forecast_of"):
        return lines
    if not facts.get("trainable", True):
        words = ["romvae", "rollout", "RUN", "--start", *map(str, paths), *(["--reader", reader] if reader else [])]
        return [*lines, f"A trained run can start from it: {shlex.join([*words, '--out', 'FORECAST.h5'])}"]
    words = ["romvae", "train", *map(str, paths), *(["--reader", reader] if reader else [])]
    return [*lines, f"Next: {shlex.join([*words, '--out', f'runs/{paths[0].stem}'])}"]


def _data_facts(paths: Sequence[Path], reader: str | None, json: bool) -> dict[str, Any]:
    """What the snapshots are; of files that nobody recognises, a mapping is printed before they are refused."""
    from romvae.data import describe, open_snapshots, readers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)  # what they say is listed as missing
        if reader is None and len(paths) == 1:
            try:
                return describe(paths[0])
            except DataError as error:
                if json or not (text := readers.propose_for(paths[0])):
                    raise
                from romvae.data.layout import mapping_advice

                print(text, end="")
                found = str(error).removesuffix(f". {mapping_advice(str(paths[0]))}")
                raise DataError(
                    f"{found}. Or save the mapping above as NAME.yaml, put a name for every '?', and try: "
                    f"romvae info {paths[0]} --reader NAME.yaml"
                ) from error
        with open_snapshots(paths, check=False, reader=reader) as ds:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            beside: dict[str, Any] = {}
            try:
                layout = readers.layout_name(paths, reader)
                beside = readers.left_open(paths, reader)
            except DataError:  # stores of romvae's own, which are of no foreign layout
                layout = describe(paths[0])["format"]
            return {**describe(ds), "source": f"{paths[0]}{more}", "format": layout, **beside}


def _run_facts(path: Path) -> dict[str, Any]:
    from romvae.baselines.model import load_model

    run = RunFolder.open(path)
    rom = load_model(run.model)
    record = run.data()
    return {
        "run": str(path),
        "fields": {field.name: f"[{field.units}]" for field in rom.schema.fields},
        "axes": {axis.name: f"{axis.size} points [{axis.units}]" for axis in rom.schema.grid.axes},
        "dt": f"{rom.schema.dt:.6g} [{rom.schema.time_units}]",
        "parameters": {p.name: f"{p.low:.6g} to {p.high:.6g} [{p.units}]" for p in rom.schema.parameters},
        "model": rom.config,
        **_tried(run.ranking()),
        "settings": run.settings(),
        "data": {
            "path": record.path,
            "seed": record.seed,
            "trajectories": {part: len(numbers) for part, numbers in record.trajectories.items()},
        },
        "seconds": run.history().get("seconds", {}),
        "environment": run.environment(),
    }


def _tried(ranking: Mapping[str, Any] | None) -> dict[str, Any]:
    """The models that were trained, best first, with the error of their forecasts or why there is none."""
    if ranking is None or len(ranking["entries"]) < 2:
        return {}
    errors = {each["name"]: each["relative_l2"] or each["reason"] for each in ranking["entries"]}
    return {"chosen": ranking["chosen"], "relative L2 error of held-out forecasts": errors}
