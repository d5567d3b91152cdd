"""Simulates the ensemble of a case to a store: finished trajectories outlive the process, and memory stays flat."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from romvae.atomic import check_target, require_space
from romvae.data import open_snapshots, write_snapshots
from romvae.errors import DataError
from romvae.lock import locked
from romvae.progress import Progress, silent
from romvae.schema import TRAJECTORY, fields_of
from romvae.solvers.arguments import count
from romvae.solvers.base import Case
from romvae.solvers.blocks import Block, Ensemble, Row, solve_block
from romvae.solvers.ensemble import ensemble_bytes, estimated_error, failures_of
from romvae.solvers.sampling import Design
from romvae.solvers.solved import solved_dataset
from romvae.tasks import ensemble as tasks
from romvae.tasks import shards
from romvae.tasks.ensemble import Done, Errand
from romvae.tasks.folder import WorkFolder
from romvae.tasks.shards import DamagedShardError, Shard, ShardArray
from romvae.tasks.shared import shared_out
from romvae.tasks.workers import LostWorkerError
from romvae.version import __version__

__all__ = ["simulate_to"]

_OTHER_BYTES = 2**20


def simulate_to(
    out: Path | str,
    case: Case | str,
    n: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
    *,
    design: Design = "random",
    scheduler: str | None = None,
    error_estimate: bool = True,
    skip_failed: bool = False,
    overwrite: bool = False,
) -> Path:
    """Solves a case and writes the store; called again after any end, it adds what is missing.

    Finished trajectories are kept in the folder `OUT.partial` (`romvae.tasks.folder` lists its files) until the
    store is whole. Its values are those of an unbroken run, for any number of workers and bit for bit.

    Arguments:
        out: Store to write, `.zarr`, `.h5` or `.nc`.
        case: A `Case` or the name of one of `CASES`.
        n: Number of trajectories; None takes the case's own.
        seed: Selects the ensemble.
        workers: Processes, as for `romvae.solvers.simulate`.
        progress: Called as `progress(stage, done, total, note)`.
        design: How the parameters are placed in their ranges, see `romvae.solvers.sampled`.
        scheduler: Dask, as for `romvae.solvers.simulate`. Workers that see the folder write their trajectories
            themselves; others send them here.
        error_estimate: Whether to estimate the discretisation error, see `romvae.solvers.reference_error`.
        skip_failed: Write the store without the trajectories that failed, which are not tried again.
        overwrite: Replace a store that is there, once the new one is whole, and give up an `OUT.partial` of another
            simulation. One of this very simulation is continued in any case.

    Returns:
        The path of the store.

    Raises:
        ConfigError: The case is unknown or an argument is out of range.
        NumericsError: Trajectories failed; all others are kept, and `failed.json` lists those that did.
        OutputError: The store exists, the disk is full, or another simulation was begun or works there.
    """
    out, report = Path(out), progress if progress is not None else silent
    ensemble = Ensemble.of(case, n, seed, design)
    workers = 1 if workers is None else count("simulate", "workers", workers, 1)
    work, facts = WorkFolder(out), _manifest(ensemble)
    if work.found() == facts and not overwrite and _is_whole(work, ensemble):  # killed just before its last act
        with locked(work.path, "simulates"):
            work.remove()
        return out
    check_target(out, overwrite)
    require_space(out, 2 * ensemble_bytes(ensemble.case, ensemble.n) - work.kept_bytes() + _OTHER_BYTES)
    work.make()
    with locked(work.path, "simulates"):
        try:
            work.begin(facts, overwrite)
            _Run(ensemble, work, workers, scheduler, report).complete(error_estimate, skip_failed, overwrite)
            work.remove()
        except BaseException:
            work.remove_if_empty()
            raise
    return out


def _solve_to_shards(errand: Errand[Block]) -> Done:
    """Solves a block and writes each trajectory at once; what is written is named, and not sent along."""
    done = Done()
    names = [field.name for field in errand.block.case.draw(0).solver.fields]

    def keep(row: Row) -> bool:
        about = {"parameters": row.parameters, "split": row.split}
        done.take(errand, shards.Row(row.index, dict(zip(names, row.u, strict=True)), about))
        return True

    done.failures += solve_block(errand.block, keep).failures
    return done


class _Run:
    """What is missing of an ensemble, and the store at its end."""

    def __init__(
        self, ensemble: Ensemble, work: WorkFolder, workers: int, scheduler: str | None, report: Progress
    ) -> None:
        self.ensemble, self.work, self.workers, self.scheduler, self.report = (
            ensemble,
            work,
            workers,
            scheduler,
            report,
        )
        self.all = tasks.Ensemble(
            ensemble.n,
            work,
            "simulate",
            report,
            self._shared_out,
            failures_of,
            f"{work.out}: {ensemble.where}",
            "use a smaller step or a higher resolution",
        )

    def complete(self, error_estimate: bool, skip_failed: bool, overwrite: bool) -> None:
        self.all.complete(lambda: self._write(error_estimate, overwrite), skip_failed)

    def _shared_out(self, wanted: list[int]) -> Iterator[tuple[Errand[Block], Done | LostWorkerError]]:
        errands = [Errand.into(self.work, block) for block in self.ensemble.blocks(wanted, self.workers)]
        return shared_out(_solve_to_shards, errands, self.workers, self.scheduler)

    def _write(self, error_estimate: bool, overwrite: bool) -> None:
        indices = sorted(self.all.shards)
        found = [self.all.shards[i] for i in indices]
        parameters = [shard.about["parameters"] for shard in found]
        error = self._error(indices, parameters) if error_estimate else None
        lazy = {field.name: ShardArray(found, field.name).lazy for field in self.ensemble.draw(0).solver.fields}
        splits = [shard.about["split"] for shard in found]
        ds = solved_dataset(self.ensemble, indices, lazy, parameters, splits, error, sorted(self.all.failures))
        self.report("write", 0, 1)
        write_snapshots(ds, self.work.out, overwrite=overwrite)
        self.report("write", 1, 1)

    def _error(self, indices: list[int], parameters: list[dict[str, float]]) -> Mapping[str, Any]:
        """The estimate, kept in the folder as it may have taken long."""
        known = self.work.error()
        if known is not None and known.get("of") == indices:
            estimate: dict[str, Any] = known["error"]
            return estimate
        error = estimated_error(
            self.ensemble,
            indices,
            parameters,
            self.workers,
            self.scheduler,
            lambda done, total: self.report("error", done, total),
        )
        self.work.put("error.json", {"of": indices, "error": error})
        return error


def _manifest(ensemble: Ensemble) -> dict[str, Any]:
    """Everything that the values follow from; what two of them differ in is what is different."""
    case, first, last = ensemble.case, ensemble.draw(0), ensemble.draw(ensemble.n - 1)
    digest = hashlib.sha256(np.array(case.times).tobytes())
    for draw in (first, last):
        digest.update(draw.u0.tobytes())
        digest.update(json.dumps([dict(draw.solver.parameters), dict(draw.parameters), draw.split]).encode())
    for axis in first.solver.grid.axes:
        digest.update(np.array(axis.coordinates).tobytes())
    return {
        "format": 1,
        "romvae": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "case": case.name,
        "n": ensemble.n,
        "seed": ensemble.seed,
        "design": ensemble.design,
        "solver": f"{type(first.solver).__module__}.{type(first.solver).__qualname__}",
        "solver_settings": json.loads(json.dumps(first.solver.settings)),
        "digest": digest.hexdigest(),
    }


def _is_whole(work: WorkFolder, ensemble: Ensemble) -> bool:
    """Whether the store is there and holds all trajectories of the work folder, value by value."""
    names = [field.name for field in ensemble.draw(0).solver.fields]
    expected = set(range(ensemble.n)) - {failure.index for failure in work.failures()}
    if not work.out.exists() or {int(path.stem) for path in work.shards()} != expected:
        return False
    try:
        with open_snapshots(work.out, check=False) as ds:
            if {int(i) for i in ds[TRAJECTORY].values} != expected or set(fields_of(ds)) != set(names):
                return False
            for path in work.shards():
                shard, stored = Shard.read(path), ds.sel({TRAJECTORY: int(path.stem)})
                if not all(np.array_equal(stored[name].values, shard.values(name)) for name in names):
                    return False
    except (DataError, DamagedShardError):
        return False
    return True
