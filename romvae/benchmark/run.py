"""One result of the benchmark: simulate, train, compare, measure, write."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import xarray as xr

from romvae.atomic import atomic_file
from romvae.benchmark.choice import choice, fill_choice, lacks_choice
from romvae.benchmark.ensemble import changed_case, data_path, ensemble, parts_of
from romvae.benchmark.filling import fill_in
from romvae.benchmark.measures import as_published
from romvae.benchmark.opponents import dynamics_as_trained, fit_opponents
from romvae.benchmark.recipe import Problem
from romvae.benchmark.result import (
    LONG_TRAINING,
    PROTOCOL,
    is_made,
    machine,
    missing_baselines,
    thinned,
    value_at,
    write_result,
)
from romvae.comparison import compare
from romvae.comparison.long_run import long_run
from romvae.data import PARTS, Parts
from romvae.errors import FewMembersWarning, OutOfRangeWarning, RomvaeError, TrainingStoppedError
from romvae.lock import LOCK, locked
from romvae.progress import Progress
from romvae.rom import ROM
from romvae.schema import TRAJECTORY
from romvae.training import fit, recalibrate
from romvae.version import __version__

__all__ = ["Redo", "cache_folder", "run_problem", "run_problems", "trained_rom"]

Redo = Literal["all", "calibration", "comparison"]

SEARCH = 240.0
"""Process seconds after which no other setting of the solver is begun, if nobody says otherwise: of the usual minute,
batches of large grids take so much that the cheapest setting may not be reached, and a ROM then looks faster than it
is."""
_FURTHER = "further.as_published."

logger = logging.getLogger("romvae.benchmark")


def cache_folder() -> Path:
    """Where data and trainings are kept if nobody says otherwise: `romvae/benchmark` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "romvae" / "benchmark"


def run_problems(
    problems: Mapping[str, Problem],
    folder: Path,
    progress: Progress,
    *,
    seeds: tuple[int, ...] | None = None,
    threads: int | None = None,
    redo: Redo | None = None,
    without: Sequence[str] = (),
    search: float = SEARCH,
) -> dict[str, str]:
    """Runs what is missing, one seed of all problems after the other; what a result lacks is added to it.

    Arguments:
        problems: From `find_problems`.
        folder: For data and unfinished trainings, outside of the repository.
        progress: Called as `progress(stage, done, total, note)`.
        seeds: Instead of those of the recipes; all of them are run, however long a training takes.
        threads: CPU threads; None leaves it to torch.
        redo: Makes results that are there again: `all` of each, from the simulation on, or `comparison` with the model
            that was trained then, where it is still in `folder`; `calibration` calibrates that model anew first.
        without: Names of baselines that are left out; new results say so, and earlier ones that lack them are done.
        search: Process seconds after which no other setting of the solver is begun.

    Returns:
        What went wrong, by problem and seed; the others were run all the same.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    failed: dict[str, str] = {}
    renewed: set[Path] = set()
    rounds = max(len(seeds or p.recipe.seeds) for p in problems.values())
    jobs = [(p, each[k]) for k in range(rounds) for p in problems.values() if k < len(each := seeds or p.recipe.seeds)]
    for done, (problem, seed) in enumerate(jobs):
        label = f"{problem.name} seed {seed}"
        progress("benchmark", done, len(jobs), label)
        made, work = redo is None and is_made(problem, seed), _place(problem, seed, folder)
        missing = missing_baselines(problem, seed, without) if made else []
        unchosen = made and lacks_choice(problem, seed, work)
        if made and not missing and not unchosen:
            continue
        if not made and seeds is None and _takes_long(problem, seed):
            logger.info("%s: left out, since a training of it takes over %.0f minutes.", label, LONG_TRAINING / 60)
            continue
        try:
            if unchosen:
                fill_choice(problem, seed, folder, work, progress)
            if missing:
                fill_in(problem, seed, folder, work, missing, progress)
            elif not made:
                run_problem(problem, seed, folder, progress, redo=redo, without=without, renewed=renewed, search=search)
        except TrainingStoppedError:  # whoever asked for a stop means all of it
            raise
        except RomvaeError as error:
            logger.warning("%s: %s", label, error)
            failed[label] = str(error)
    progress("benchmark", len(jobs), len(jobs))
    return failed


def run_problem(
    problem: Problem,
    seed: int,
    folder: Path,
    progress: Progress,
    *,
    redo: Redo | None = None,
    without: Sequence[str] = (),
    renewed: set[Path] | None = None,
    search: float = SEARCH,
) -> Path:
    """Makes one result. What was stopped is continued: the simulation, the training, and what follows it.

    Arguments:
        problem: What to run.
        seed: Of data, training and forecast.
        folder: For data and unfinished trainings.
        progress: Called as `progress(stage, done, total, note)`.
        redo: With `all`, earlier trajectories and an earlier training are thrown away; else finished ones are taken and
            unfinished ones continued. With `calibration`, the finished training is calibrated anew.
        without: Names of baselines that are left out.
        renewed: Stores of trajectories that need not be simulated again even so, since problems that share one have
            just done it; the problem's own is added.
        search: Process seconds after which no other setting of the solver is begun.

    Returns:
        The file of the result.
    """
    recipe, work = problem.recipe, _work(problem, seed, folder)
    fresh = redo == "all"
    clock, renewed, store = _Clock(), set() if renewed is None else renewed, data_path(problem, seed, folder)
    again, cost = fresh and store not in renewed, store.with_suffix(".cost.json")
    with locked(work, "runs a benchmark"):
        for path in work.iterdir() if fresh else ():
            if path.name != LOCK:
                _remove(path)
        if again:
            _remove(cost)
        with clock.of("simulate", cost):
            snapshots = ensemble(problem, seed, folder, torch.get_num_threads(), progress, again)
            parts = parts_of(problem, snapshots)
        renewed.add(store)
        rom, trained = _trained(problem, parts, seed, work, progress, redo == "calibration")
        budget, kept = trained["process_seconds"], work / f"baselines_{PROTOCOL}"
        with clock.of("baselines", work / f"baselines_{PROTOCOL}.cost.json"):
            against = fit_opponents(
                recipe.opponents,
                parts,
                rom.vae.latent,
                budget,
                seed,
                kept,
                progress,
                without,
                model=dynamics_as_trained(recipe, trained),
                training=recipe.training.chosen(),
            )
        with clock.of("compare"):
            comparison = compare(
                rom,
                parts.test,
                train=parts.train,
                baselines=against.fitted,
                reference=changed_case(problem),
                seconds=trained["history"]["seconds"],
                process_seconds=trained["history"].get("process_seconds"),
                split={name: getattr(parts, name).sizes[TRAJECTORY] for name in PARTS},
                members=recipe.members,
                seed=seed,
                cost_cap=search,
                progress=progress,
            )
        with clock.of("further"), warnings.catch_warnings():
            for kind in (OutOfRangeWarning, FewMembersWarning):  # counted by the comparison; one member is meant
                warnings.simplefilter("ignore", kind)
            further = _further(problem, rom, snapshots, parts, seed)
        with clock.of("choice"):
            chosen = choice(rom, against.fitted, parts.variance)
        if solver := comparison.metrics.get("cost", {}).get("solver"):
            solver |= {"tried": len(solver["sweep"]), "sweep": thinned(solver["sweep"])}
        for name, fit_of in against.fits.items():
            comparison.metrics["baselines"][name]["fit_seconds"] = fit_of["process_seconds"]
        here, versions = machine()
        left = f" --without {' '.join(without)}" if without else ""
        left += f" --cost-seconds {search:g}" if search != SEARCH else ""
        content = {
            "command": f"romvae benchmark {problem.name} --seeds {seed} --threads {here['threads']}{left}",
            "machine": here,
            "versions": versions,
            "settings": _given(recipe.model_dump(mode="json", exclude_defaults=True)),
            "cost": {
                "process_seconds": {**clock.process, "train": trained["process_seconds"]},
                "seconds": {**clock.wall, "train": sum(trained["history"]["seconds"].values())},
                "training_was_continued": trained["continued"],
            },
            "metrics": comparison.metrics,
            "baselines": {"chosen": against.fits, "left_out": against.left_out},
            "further": further,
            "choice": chosen,
            "decided": trained["history"]["notes"],
        }
        return write_result(problem, seed, content)


def trained_rom(problem: Problem, parts: Parts, seed: int, folder: Path, progress: Progress) -> ROM:
    """The ROM of a problem, from an earlier run or trained now; arguments as for `run_problem`."""
    work = _work(problem, seed, folder)
    with locked(work, "trains for a benchmark"):
        return _trained(problem, parts, seed, work, progress)[0]


def _place(problem: Problem, seed: int, folder: Path) -> Path:
    """Where the unfinished and the trained models of a result are."""
    name = f"{problem.name.replace('/', '_')}_{problem.recipe.digest}_{__version__}_seed{seed}"
    return folder / "runs" / name


def _work(problem: Problem, seed: int, folder: Path) -> Path:
    """That folder; it is made where it is not there."""
    work = _place(problem, seed, folder)
    work.mkdir(parents=True, exist_ok=True)
    return work


def _trained(
    problem: Problem, parts: Parts, seed: int, work: Path, progress: Progress, anew: bool = False
) -> tuple[ROM, dict[str, Any]]:
    """The trained ROM and how it was trained; both are kept, so that a comparison can be made again.

    With `anew`, one that was trained earlier is calibrated by today's rules.
    """
    recipe, state, record, model = problem.recipe, work / "state.pt", work / "training.json", work / "model"
    if not record.exists():
        continued, clock = state.exists(), _Clock()
        with clock.of("train"):
            rom = ROM.for_data(parts.train, seed=seed, **recipe.model.chosen())
            history = fit(rom, parts, seed=seed, progress=progress, checkpoint=state, **recipe.training.chosen())
            rom.save(model, overwrite=True)
        content = {"history": history.to_dict(), "process_seconds": clock.process["train"], "continued": continued}
        with atomic_file(record, overwrite=True) as target:
            target.write_text(json.dumps(content), encoding="utf-8")
        for left in work.glob(f"{state.name}*"):
            left.unlink()
    elif anew:
        recalibrate(ROM.load(model), parts.calibration, seed=seed, progress=progress).save(model, overwrite=True)
    return ROM.load(model), json.loads(record.read_text(encoding="utf-8"))


def _further(problem: Problem, rom: ROM, snapshots: xr.Dataset, parts: Parts, seed: int) -> dict[str, Any]:
    recipe = problem.recipe
    found: dict[str, Any] = {}
    asked = [*(bar.metric for bar in recipe.bars), *(one.metric for one in recipe.published)]
    if any(metric.startswith(_FURTHER) for metric in asked):
        found["as_published"] = as_published(rom, parts.test, recipe.members, seed)
    if recipe.long_run is not None:
        starts = parts.test.isel({TRAJECTORY: slice(0, recipe.long_run.trajectories)})
        found["long_run"] = long_run(rom, [snapshots], starts, recipe.long_run.steps, seed)
    return found


def _takes_long(problem: Problem, seed: int) -> bool:
    """Whether another seed is done and its training took longer than twenty minutes."""
    for other in problem.recipe.seeds:
        path = problem.result(other)
        if other != seed and is_made(problem, other):
            taken = value_at(json.loads(path.read_text(encoding="utf-8")), "cost.process_seconds.train")
            if taken is not None and taken > LONG_TRAINING:
                return True
    return False


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in ("remark", "bars", "published", "seeds")}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _Clock:
    """Seconds of process time (this process and the workers that it has waited for) and of wall-clock per stage."""

    def __init__(self) -> None:
        self.process: dict[str, float] = {}
        self.wall: dict[str, float] = {}

    @contextmanager
    def of(self, stage: str, path: Path | None = None) -> Iterator[None]:
        """Times a stage; with a `path`, counts what earlier starts have spent on it, which is kept there.

        Starts that were stopped add up. What a finished stage left behind is found by later starts, which cost nothing.
        """
        earlier = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.exists() else {}
        process, wall, whole = self._process(), time.perf_counter(), False
        try:
            yield
            whole = True
        finally:
            now = {"process": self._process() - process, "wall": time.perf_counter() - wall}
            join = max if earlier.get("whole", True) else sum
            cost = {name: join((seconds, earlier.get(name, 0.0))) for name, seconds in now.items()}
            self.process[stage], self.wall[stage] = cost["process"], cost["wall"]
            if path is not None:
                with atomic_file(path, overwrite=True) as target:
                    target.write_text(json.dumps({**cost, "whole": whole}), encoding="utf-8")

    @staticmethod
    def _process() -> float:
        return sum(os.times()[:4])
