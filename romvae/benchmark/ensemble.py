"""The data of a problem: the case as the recipe changes it, simulated once and kept."""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from romvae.benchmark.recipe import Problem, Recipe
from romvae.canonical import did_you_mean
from romvae.data import PARTS, Parts, open_snapshots, split
from romvae.errors import ConfigError
from romvae.lock import locked
from romvae.progress import Progress
from romvae.schema import TRAJECTORY
from romvae.solvers import get_case, simulate_to
from romvae.solvers.base import Case, Range, equidistant
from romvae.tasks.folder import WorkFolder

__all__ = ["changed_case", "data_path", "ensemble", "parts_of"]

_ORDER = ("test", "calibration", "variance", "train")


def changed_case(problem: Problem) -> Case:
    """The case with the solver, the parameters and the times of the recipe.

    Raises:
        ConfigError: The case has no such parameter, or its solver no such setting.
    """
    case, recipe = get_case(problem.case), problem.recipe
    settings: dict[str, Any] = {name: _plain(value) for name, value in recipe.solver.items()}
    ranges = {each.name: each for each in case.ranges}
    for name, value in recipe.parameters.items():
        if name not in ranges:
            hint = did_you_mean(name, list(ranges))
            raise ConfigError(f"benchmark {problem.name}: the case has no parameter {name!r}.{hint}")
        if isinstance(value, tuple):
            ranges[name] = Range(name, *value, ranges[name].scale, ranges[name].of_initial)
        elif ranges[name].of_initial:
            ranges[name] = Range(name, value, value, "linear", True)
        else:
            del ranges[name]
            settings[name] = value
    _check_solver(problem, case, settings)
    times = case.times if recipe.times is None else equidistant(recipe.times.end, recipe.times.number)
    solver = partial(case.solver, **settings) if settings else case.solver
    return replace(case, solver=solver, ranges=tuple(ranges.values()), times=times)


def ensemble(
    problem: Problem, seed: int, folder: Path, workers: int, progress: Progress, again: bool = False
) -> xr.Dataset:
    """The trajectories of a problem, simulated or found in `folder`.

    Trajectory i depends on (seed, i) only and the parts are taken in the order test, calibration, variance, train:
    variants that differ in the number of training trajectories are tested on the same ones.

    Arguments:
        problem: Whose trajectories.
        seed: Selects the ensemble.
        folder: For data.
        workers: Processes.
        progress: Called as `progress(stage, done, total, note)`.
        again: Simulates what is there too, and throws away what a stopped simulation has left. The earlier store stays
            until the new one is whole; what is stopped now is continued by a call without `again`.
    """
    case, n, path = changed_case(problem), _number(problem.recipe), data_path(problem, seed, folder)
    begun = WorkFolder(path)
    if again and begun.path.is_dir():
        with locked(begun.path, "simulates"):
            begun.clear()
    if again or not path.exists() or begun.path.exists():
        simulate_to(path, case, n, seed, workers, progress, overwrite=again or path.exists())
    return open_snapshots(path).load()


def data_path(problem: Problem, seed: int, folder: Path) -> Path:
    """Where the trajectories of a problem are kept: variants with the same ones share them."""
    recipe = problem.recipe
    return folder / "data" / f"{problem.case}_{_digest(recipe, _number(recipe))}_seed{seed}.zarr"


def _number(recipe: Recipe) -> int | None:
    return recipe.trajectories if recipe.split is None else sum(getattr(recipe.split, part) for part in _ORDER)


def parts_of(problem: Problem, snapshots: xr.Dataset) -> Parts:
    """The trajectories in four parts, by the recipe or by the case's own split."""
    sizes = problem.recipe.split
    if sizes is None:
        return split(snapshots)
    counts = [getattr(sizes, part) for part in _ORDER]
    labels = np.repeat([PARTS.index(part) for part in _ORDER], counts).astype(np.int8)
    about = {"flag_values": np.arange(len(PARTS), dtype=np.int8), "flag_meanings": " ".join(PARTS)}
    return split(snapshots.drop_vars("split", errors="ignore").assign_coords(split=(TRAJECTORY, labels, about)))


def _digest(recipe: Recipe, n: int | None) -> str:
    content = recipe.model_dump(mode="json", include={"solver", "parameters", "times"})
    return hashlib.sha256(json.dumps([content, n], sort_keys=True).encode()).hexdigest()[:8]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check_solver(problem: Problem, case: Case, settings: dict[str, Any]) -> None:
    known = inspect.signature(case.solver).parameters
    for name in settings:
        if name not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            hint = did_you_mean(name, list(known))
            raise ConfigError(f"benchmark {problem.name}: the solver has no setting {name!r}.{hint}")
