"""Baselines that a result lacks: fitted to its data and merged into its file; all else stays as it was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from romvae.benchmark.choice import choice, with_choice
from romvae.benchmark.ensemble import ensemble, parts_of
from romvae.benchmark.opponents import dynamics_as_trained, fit_opponents
from romvae.benchmark.recipe import Problem
from romvae.benchmark.result import PROTOCOL, machine, read_result, write_result
from romvae.comparison.further import with_baselines
from romvae.errors import DataError
from romvae.lock import locked
from romvae.progress import Progress
from romvae.rom import ROM

__all__ = ["fill_in"]


def fill_in(problem: Problem, seed: int, folder: Path, work: Path, names: Sequence[str], progress: Progress) -> Path:
    """Adds baselines to a result. The ROM is not trained again; it forecasts once more if one of them is the best now.

    Each has the budget that the others had, the process seconds of the ROM's training. The result notes under `added`
    where and by which command they were made.

    Arguments:
        problem: What was run.
        seed: Of data, training and forecast.
        folder: For data.
        work: Where the trained models of the result are.
        names: Of the baselines.
        progress: Called as `progress(stage, done, total, note)`.

    Returns:
        The file of the result.

    Raises:
        DataError: The trained model is not there any more.
    """
    content = read_result(problem.result(seed)).content
    if not (work / "model").exists():
        raise DataError(
            f"{problem.result(seed)}: lacks {', '.join(names)}, and the model that they are to be compared with is not "
            f"in {folder} any more. Give --without {' '.join(names)}, or --redo to train it again."
        )
    with locked(work, "runs a benchmark"):
        parts = parts_of(problem, ensemble(problem, seed, folder, torch.get_num_threads(), progress))
        rom = ROM.load(work / "model")
        budget = float(content["cost"]["process_seconds"]["train"])
        trained = json.loads((work / "training.json").read_text(encoding="utf-8"))
        against = fit_opponents(
            names,
            parts,
            rom.vae.latent,
            budget,
            seed,
            work / f"baselines_{PROTOCOL}",
            progress,
            model=dynamics_as_trained(problem.recipe, trained),
            training=problem.recipe.training.chosen(),
        )
        metrics, failed = with_baselines(
            content["metrics"],
            rom,
            parts.test,
            train=parts.train,
            baselines=against.fitted,
            members=problem.recipe.members,
            seed=seed,
            progress=progress,
        )
        chosen = {}
        if "choice" in content:
            new = choice(rom, [each for each in against.fitted if each.name not in failed], parts.variance)
            chosen["choice"] = with_choice(content["choice"], new)
    fits = {name: fit_of for name, fit_of in against.fits.items() if name not in failed}
    for name, fit_of in fits.items():
        metrics["baselines"][name]["fit_seconds"] = fit_of["process_seconds"]
    kept = content["baselines"]
    left_out = {name: reason for name, reason in kept["left_out"].items() if name not in names}
    here, versions = machine()
    command = f"romvae benchmark {problem.name} --seeds {seed} --threads {here['threads']}"
    added = {"baselines": list(names), "command": command, "machine": here, "versions": versions}
    content |= {
        "metrics": metrics,
        "baselines": {
            "chosen": {**kept["chosen"], **fits},
            "left_out": {**left_out, **against.left_out, **failed},
        },
        **chosen,
        "added": [*content.get("added", []), added],
    }
    return write_result(problem, seed, content)
