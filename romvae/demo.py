"""The main job from end to end: simulate, train, roll out, compare, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from romvae.atomic import check_target, require_space
from romvae.comparison import Comparison, compare
from romvae.data import PARTS, open_snapshots, split, write_snapshots
from romvae.environment import show_versions
from romvae.report import write_metrics, write_report
from romvae.rom import ROM
from romvae.solvers import ensemble_bytes, get_case, simulate
from romvae.training import History, fit
from romvae.training.fallback import decisions

__all__ = ["RECIPES", "Recipe", "run_demo"]

Report = Callable[..., None]


@dataclass(frozen=True)
class Recipe:
    """How a case is run: trajectories per part and what differs from the defaults.

    Arguments:
        split: Trajectories per part; None leaves it to the case's own split.
        model: Arguments of `ROM.for_data`.
        training: Arguments of `romvae.fit`.
    """

    split: Mapping[str, int] | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


RECIPES: dict[str, Recipe] = {
    "burgers_1d": Recipe({"train": 320, "variance": 64, "calibration": 128, "test": 128}, {"latent": 16}),
    "burgers_1d_parametric": Recipe(None, {"latent": 5, "noise_floor": 1e-4}, {"vae_steps": 1200}),
}
QUICK = Recipe(
    {"train": 16, "variance": 4, "calibration": 10, "test": 4},
    {"latent": 8, "channels": 8, "hidden": 32, "members": 2},
    {"vae_steps": 60, "variance_steps": 20, "dynamics_steps": 60},
)
QUICK_OWN = 30
"""Trajectories of a quick demo of a case with a split of its own: the least that fill every part."""
QUICK_COST = 1.0
"""Process seconds for the solver's sweep in a quick demo."""
OTHER_BYTES = 2**25
"""Room for model, comparison and report beside the data."""


def run_demo(
    out: str | Path,
    quick: bool = False,
    seed: int = 0,
    case: str = "burgers_1d",
    progress: Report | None = None,
    overwrite: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Runs a case from simulation to report.

    Arguments:
        out: Folder for `data.zarr`, `model/`, `comparison/`, `report.html` and `metrics.json`.
        quick: Tiny sizes, to see that everything works; its figures say nothing about quality.
        seed: Seed of simulation, split, training and forecast.
        case: Name of a case.
        progress: Called as `progress(stage, done, total, note)`.
        overwrite: Whether an earlier demo in `out` may be replaced.
        workers: Processes for the simulation, see `romvae.simulate`.

    Returns:
        What `metrics.json` holds.

    Raises:
        ConfigError: The case is unknown.
        OutputError: An output exists already.
    """
    out = Path(out)
    named = get_case(case)
    recipe = QUICK if quick else RECIPES.get(case, Recipe())
    targets = [out / name for name in ("data.zarr", "model", "comparison", "report.html", "metrics.json")]
    for target in targets:
        check_target(target, overwrite)
    report: Report = progress if progress is not None else (lambda *args: None)
    begin = time.perf_counter()
    own = named.draw(0, seed).split is not None  # the case says itself what is held out
    counts = None if own else recipe.split
    n = QUICK_OWN if own and quick else sum(counts.values()) if counts else None
    require_space(targets[0], 2 * ensemble_bytes(named, n) + OTHER_BYTES)
    snapshots = simulate(named, n, seed, workers, progress=lambda done, total: report("simulate", done, total))
    seconds = {"simulate": time.perf_counter() - begin}
    out.mkdir(parents=True, exist_ok=True)
    parts = split(snapshots, seed=seed, fractions=counts)
    write_snapshots(parts.labelled(), targets[0], overwrite=overwrite)
    parts = split(open_snapshots(targets[0]).load(), seed=seed)
    rom = ROM.for_data(parts.train, seed=seed, **recipe.model)
    history = fit(rom, parts, seed=seed, progress=progress, **recipe.training)
    rom.save(targets[1], overwrite=overwrite)
    rom = ROM.load(targets[1])
    comparison = compare(
        rom,
        parts.test,
        train=parts.train,
        validation=parts.variance,
        reference=named,
        training=recipe.training,
        seconds={**seconds, **history.seconds},
        process_seconds=history.process_seconds,
        info=_info(case, seed, quick, recipe, history),
        split={name: getattr(parts, name).sizes["trajectory"] for name in PARTS},
        members=16,
        seed=seed,
        cost_cap=QUICK_COST if quick else 60.0,
        progress=progress,
    )
    comparison.metrics["seconds"]["total"] = time.perf_counter() - begin
    comparison.metrics["kept"] = decisions(history.notes)
    return _finish(comparison, out, targets, begin, overwrite, report)


def _finish(
    comparison: Comparison, out: Path, targets: list[Path], begin: float, overwrite: bool, report: Report
) -> dict[str, Any]:
    report("report", 0, 1)
    comparison.save(targets[2], overwrite=overwrite)
    start = time.perf_counter()
    write_report(comparison, targets[3], overwrite=overwrite)
    comparison.metrics["seconds"]["report"] = time.perf_counter() - start
    comparison.metrics["seconds"]["total"] = time.perf_counter() - begin
    write_metrics(comparison, targets[4], overwrite=overwrite)
    report("report", 1, 1)
    return comparison.metrics


def _info(case: str, seed: int, quick: bool, recipe: Recipe, history: History) -> dict[str, Any]:
    return {
        "title": f"{case}: reduced-order model report",
        "case": get_case(case).description,
        "configuration": {
            "case": case,
            "seed": seed,
            "quick": quick,
            "split": dict(recipe.split or {}),
            "model": dict(recipe.model),
            "training": dict(recipe.training),
            "decided_from_the_data": history.notes,
        },
        "environment": show_versions(),
        "history": history.curves,
    }
