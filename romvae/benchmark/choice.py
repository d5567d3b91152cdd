"""What the rule of `romvae train --model auto` takes: the least error on trajectories that no mean was fitted to."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr

from romvae.baselines import Baseline
from romvae.benchmark.ahead import ALIKE, OWN, errors_of
from romvae.benchmark.ensemble import ensemble, parts_of
from romvae.benchmark.recipe import Problem
from romvae.benchmark.result import PROTOCOL, Result, read_result, value_at, write_result
from romvae.benchmark.words import markdown, percent, plain, spread
from romvae.candidates import forecast_error
from romvae.errors import NumericsError
from romvae.lock import locked
from romvae.progress import Progress
from romvae.rom import ROM
from romvae.schema import TRAJECTORY

if TYPE_CHECKING:
    from romvae.benchmark.page import Group

__all__ = ["choice", "choice_sentence", "choice_table", "fill_choice", "lacks_choice", "with_choice"]

logger = logging.getLogger("romvae.benchmark")


def choice(rom: ROM, baselines: Iterable[Baseline], held: xr.Dataset) -> dict[str, Any]:
    """Errors of the means' forecasts by method, null where one is not finite, and the method that has the least.

    Arguments:
        rom: Trained.
        baselines: Fitted.
        held: The part `variance`, on which baselines chose their settings and the ROM its dynamics, and to which no
            mean was fitted.
    """
    errors = {OWN: _error(rom, rom, held)}
    errors |= {baseline.name: _error(baseline, rom, held) for baseline in baselines}
    return {"trajectories": held.sizes[TRAJECTORY], **_taken(errors)}


def with_choice(known: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """A choice among the methods of an earlier one and of another."""
    return {**more, **_taken({**known["errors"], **more["errors"]})}


def lacks_choice(problem: Problem, seed: int, work: Path) -> bool:
    """Whether a result says nothing of it though the models that it needs are still there.

    Arguments:
        problem: What was run.
        seed: Of the result.
        work: Where the models of the result are.
    """
    content = read_result(problem.result(seed)).content
    needed = [work / "model", *(work / f"baselines_{PROTOCOL}" / name for name in _fitted(content))]
    return "choice" not in content and all(path.exists() for path in needed)


def fill_choice(problem: Problem, seed: int, folder: Path, work: Path, progress: Progress) -> Path:
    """Adds the choice to a result; all else stays as it was measured.

    Arguments:
        problem: What was run.
        seed: Of data, training and forecast.
        folder: For data.
        work: Where the models of the result are.
        progress: Called as `progress(stage, done, total, note)`.

    Returns:
        The file of the result.
    """
    content = read_result(problem.result(seed)).content
    with locked(work, "runs a benchmark"):
        parts = parts_of(problem, ensemble(problem, seed, folder, torch.get_num_threads(), progress))
        known = [Baseline.load(work / f"baselines_{PROTOCOL}" / name) for name in _fitted(content)]
        found = choice(ROM.load(work / "model"), known, parts.variance)
    return write_result(problem, seed, {**content, "choice": found})


def choice_table(groups: Sequence[Group]) -> str:
    """What is taken on each problem, and how far off it is on the test runs beside the best method there."""
    rows = []
    for problem, results in groups:
        some = {result.seed: each for result in results if (each := _outcome(result)) is not None}
        if some:
            names, errors, best = zip(*some.values(), strict=True)
            taken = ", ".join(dict.fromkeys(name.replace("_", " ") for name in names))
            seeds = ", ".join(map(str, some))
            rows.append([problem.name, seeds, taken, spread(errors, percent), spread(best, percent)])
    return markdown(["problem", "seeds", "taken", "its error", "error of the best"], rows) if rows else ""


def choice_sentence(groups: Sequence[Group]) -> str:
    """On how many problems the best method is taken, and how far off the others are; empty where nothing is known."""
    worst = {}
    for problem, results in groups:
        some = [each for each in map(_outcome, results) if each is not None]
        if some:
            worst[problem.name] = max(error / max(best, 1e-300) for _, error, best in some)
    if not worst:
        return ""
    off = sorted(((factor, name) for name, factor in worst.items() if factor > ALIKE), reverse=True)
    text = (
        "The rule of `romvae train --model auto` takes the method with the least error on trajectories that no mean "
        "was fitted to: that is the best one on the test runs too, to half a per cent, on "
        f"{len(worst) - len(off)} of the {len(worst)} problems on which it was tried"
    )
    where = ", ".join(f"{name} {plain(factor)}" for factor, name in off)
    return text + (f", and elsewhere its error over that of the best is {where}." if off else ".")


def _error(model: ROM | Baseline, rom: ROM, held: xr.Dataset) -> float | None:
    try:
        error = forecast_error(model, held, rom.start_times, rom.schema.field_names)
    except NumericsError as reason:
        logger.info("%s: %s", OWN if isinstance(model, ROM) else model.name, reason)
        return None
    return error if error < float("inf") else None


def _taken(errors: Mapping[str, float | None]) -> dict[str, Any]:
    finite = {name: error for name, error in errors.items() if error is not None}
    return {"errors": dict(errors), "taken": min(finite, key=finite.__getitem__, default=None)}


def _fitted(content: Mapping[str, Any]) -> list[str]:
    return list(value_at(content, "baselines.chosen") or ())


def _outcome(result: Result) -> tuple[str, float, float] | None:
    """The method that is taken, its error on the test runs (infinite where it diverged there), and the least one."""
    taken = value_at(result.content, "choice.taken")
    errors = {name: next(iter(each.values()), None) for name, each in errors_of([result]).items()}
    finite = [error for error in errors.values() if error is not None]
    if taken not in errors or not finite:
        return None
    error = errors[taken]
    return taken, float("inf") if error is None else error, min(finite)
