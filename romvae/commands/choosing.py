"""Training of another kind of model than the ROM with an autoencoder, or of all kinds, of which the best is kept."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from romvae.commands.kept import keep_baselines
from romvae.commands.run_folder import RunFolder
from romvae.errors import AssumptionWarning, TrainingStoppedError
from romvae.progress import terminal_progress

if TYPE_CHECKING:
    from romvae.candidates import Entry
    from romvae.data import Parts
    from romvae.settings import TrainSettings

__all__ = ["fit_candidates"]


def fit_candidates(run: RunFolder, parts: Parts, chosen: TrainSettings, quiet: bool) -> None:
    """Trains a model of another kind, or all of them; what is finished is kept for a run that is continued."""
    from romvae.candidates import HISTORY, fit_model

    try:
        with terminal_progress(quiet) as progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", AssumptionWarning)  # said when the file was opened
            model, ranking = fit_model(
                parts,
                chosen.model.kind,
                seed=chosen.seed,
                model=chosen.model.chosen(),
                training=chosen.training.chosen(),
                budget=chosen.training.budget,
                folder=run.candidates,
                progress=progress,
            )
    except BaseException as error:
        if isinstance(error, TrainingStoppedError) or not isinstance(error, Exception):
            print(f"Continue with: romvae train --resume {shlex.quote(str(run.path))}", file=sys.stderr)
        raise
    run.keep_ranking(ranking.to_dict())
    best = ranking.entries[0]
    run.record(_history(run.candidates / best.name / HISTORY, best, ranking.entries[1:]))
    model.save(run.model, overwrite=True)
    run.finish()
    keep_baselines(run, ranking)
    shutil.rmtree(run.candidates, ignore_errors=True)
    for entry in ranking.entries:
        found = f"{100 * entry.relative_l2:.3g} %" if entry.relative_l2 is not None else entry.reason
        spent = ", ".join(f"{part} {seconds:.1f}" for part, seconds in entry.cost.items() if part != "forecasts")
        print(f"  {entry.name:<12} {entry.seconds:8.1f} s  {found}" + (f"  ({spent})" if spent else ""))
    if len(ranking.entries) > 1:
        print(f"kept: {ranking.chosen}, by the error of forecasts of {ranking.trajectories} held-out trajectories")


def _history(kept: Path, best: Entry, others: Sequence[Entry]) -> dict[str, Any]:
    """Losses and seconds of the model that was chosen, as of a ROM's training, with the seconds of the others."""
    found: dict[str, Any] = {"curves": {}, "seconds": {"training": best.wall_seconds}, "notes": {}}
    found["process_seconds"] = {"training": best.seconds}
    if kept.is_file():
        found = json.loads(kept.read_text(encoding="utf-8"))
    if others:
        found["seconds"]["other_models"] = sum(entry.wall_seconds for entry in others)
        process = found.setdefault("process_seconds", {})  # earlier versions kept none
        process["other_models"] = sum(entry.seconds for entry in others)
    found["notes"]["model"] = best.name
    return found
