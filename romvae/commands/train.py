"""`romvae train`: a ROM from a store of snapshots."""

from __future__ import annotations

import shlex
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from romvae.commands.options import Config, Out, Overwrite, Quiet
from romvae.commands.outputs import check_output
from romvae.commands.run_folder import DataRecord, RunFolder
from romvae.errors import AssumptionWarning, DataError
from romvae.progress import terminal_progress
from romvae.settings import TrainSettings, to_yaml
from romvae.settings_file import load_settings

__all__ = ["train"]


def train(
    data: Path,
    /,
    *,
    out: Out,
    config: Config = None,
    settings: Annotated[TrainSettings | None, Parameter(name="*")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a reduced-order model on a store of snapshots.

    Arguments:
        data: store of snapshots; romvae info shows whether it is usable.
        out: folder of the run: the model, its settings, its losses and the environment.
        settings: single settings, on top of those of the file.
    """
    chosen = load_settings(TrainSettings, config, settings.model_dump(exclude_unset=True) if settings else None)
    check_output(out, overwrite, ("data.json",))
    from romvae.data import open_snapshots, split

    snapshots = open_snapshots(data)
    from romvae.atomic import atomic_folder
    from romvae.rom import ROM
    from romvae.training import fit

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AssumptionWarning)  # said when the store was opened
            parts = split(snapshots, seed=chosen.seed)
            rom = ROM.for_data(parts.train, seed=chosen.seed, **chosen.model.chosen())
    except DataError as error:
        raise type(error)(f"{data}: {error}") from error
    with atomic_folder(out, overwrite=True) as folder:  # what may be replaced was checked above
        with terminal_progress(quiet) as progress:
            history = fit(rom, parts, seed=chosen.seed, progress=progress, **chosen.training.chosen())
        run = RunFolder(folder)
        rom.save(run.model)
        run.write(
            settings=to_yaml(chosen, "settings of this run; romvae train DATA --config takes this file"),
            data=DataRecord.of(data, parts, chosen.seed),
            history=asdict(history),
            command=shlex.join(["romvae", *sys.argv[1:]]),
        )
    print(f"{out}: trained on {len(parts.train['trajectory'])} trajectories")
    print(f"Next: romvae compare {out} --out {out}_comparison")
