"""Simulates the ensemble of a case to a store: finished trajectories outlive the process, and memory stays flat."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from romvae.atomic import check_target, require_space
from romvae.data import open_snapshots, write_snapshots
from romvae.errors import DataError, OutputError
from romvae.lock import LOCK, locked
from romvae.progress import Progress, silent
from romvae.schema import TRAJECTORY, fields_of
from romvae.solvers.arguments import count
from romvae.solvers.base import Case
from romvae.solvers.blocks import Block, Ensemble, FailedTrajectoriesError, Failure, Row, Solved, solve_block
from romvae.solvers.ensemble import ensemble_bytes, estimated_error, failures_of, shared_out
from romvae.solvers.sampling import Design
from romvae.solvers.shards import DamagedShardError, Shard, ShardArray, WorkFolder, manifest, put_row
from romvae.solvers.solved import solved_dataset
from romvae.solvers.workers import RETRIES, LostWorkerError

__all__ = ["simulate_to"]

logger = logging.getLogger("romvae.solvers")

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

    Finished trajectories are kept in the folder `OUT.partial` (`romvae.solvers.shards` lists its files) until the
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
    work, facts = WorkFolder(out), manifest(ensemble)
    if work.found() == facts and not overwrite and _is_whole(work, ensemble):  # killed just before its last act
        with locked(work.path, "simulates"):
            work.remove()
        return out
    check_target(out, overwrite)
    require_space(out, 2 * ensemble_bytes(ensemble.case, ensemble.n) - work.kept_bytes() + _OTHER_BYTES)
    _make_folder(work.path)
    with locked(work.path, "simulates"):
        try:
            work.begin(facts, overwrite)
            _Run(ensemble, work, workers, scheduler, report).complete(error_estimate, skip_failed, overwrite)
            work.remove()
        except BaseException:
            work.remove_if_empty()
            raise
    return out


@dataclass(frozen=True)
class _Errand:
    """A block, and the folder that takes its trajectories, known by what the lock in it says."""

    block: Block
    folder: str
    token: str


def _solve_to_shards(errand: _Errand) -> tuple[list[int], Solved]:
    """Solves a block and writes each trajectory at once; what is written is named, and not sent along."""
    folder, written = Path(errand.folder), list[int]()

    def keep(row: Row) -> bool:
        try:
            if (folder / LOCK).read_text(encoding="utf-8") != errand.token:
                return False
        except OSError:  # a worker on another machine that does not share the disk
            return False
        put_row(folder, row)
        written.append(row.index)
        return True

    solved = solve_block(errand.block, keep)
    return written, solved


class _Run:
    """One pass over what is missing, and the store at its end."""

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
        self.shards: dict[int, Shard] = {}
        self.failures: dict[int, Failure] = {}

    def complete(self, error_estimate: bool, skip_failed: bool, overwrite: bool) -> None:
        self._take_up()
        if skip_failed:
            self.failures = {f.index: f for f in self.work.failures() if f.index not in self.shards}
        for _ in range(RETRIES):
            self._solve_missing()
            self._judge(skip_failed)
            try:
                self._write(error_estimate, overwrite)
            except DamagedShardError as error:
                self._discard(error)
            else:
                return
        raise OutputError(f"{self.work.path}: trajectories are damaged as soon as they are written. Check the disk")

    def _take_up(self) -> None:
        """Reads what an earlier process has finished; what is damaged is not kept."""
        paths = list(self.work.shards())
        for done, path in enumerate(paths):
            self.report("kept", done, len(paths))
            self._audit(path)
        if paths:
            self.report("kept", len(paths), len(paths), f"of {self.ensemble.n} trajectories")

    def _audit(self, path: Path) -> None:
        try:
            shard = Shard.read(path)
        except DamagedShardError as error:
            self._discard(error)
        else:
            self.shards[shard.index] = shard

    def _discard(self, error: DamagedShardError) -> None:
        path = self.work.path / f"{error.index:08d}.shard"
        logger.warning("%s: %s; it is computed again", self.work.path, error)
        path.unlink(missing_ok=True)
        self.shards.pop(error.index, None)

    def _solve_missing(self) -> None:
        for _ in range(RETRIES):
            wanted = [i for i in range(self.ensemble.n) if i not in self.shards and i not in self.failures]
            if not wanted:
                break
            self._solve(wanted)
        self.work.put_failures(list(self.failures.values()))

    def _solve(self, wanted: list[int]) -> None:
        token = (self.work.path / LOCK).read_text(encoding="utf-8")
        blocks = self.ensemble.blocks(wanted, self.workers)
        errands = [_Errand(block, str(self.work.path.absolute()), token) for block in blocks]
        done = 0
        self.report("simulate", done, len(wanted))
        for errand, answer in shared_out(_solve_to_shards, errands, self.workers, self.scheduler):
            if isinstance(answer, LostWorkerError):
                failed = failures_of(errand.block, answer)
            else:
                written, solved = answer
                for row in solved.rows:
                    put_row(self.work.path, row)
                    written.append(row.index)
                for index in written:
                    self._audit(self.work.path / f"{index:08d}.shard")
                failed = solved.failures
            if failed:
                self.failures |= {failure.index: failure for failure in failed}
                self.work.put_failures(list(self.failures.values()))
            done += len(errand.block.indices)
            self.report("simulate", done, len(wanted), f"{len(self.failures)} failed" if self.failures else "")

    def _judge(self, skip_failed: bool) -> None:
        if not self.failures or (skip_failed and self.shards):
            return
        kept = f"The other {len(self.shards)} are kept in {self.work.path}: " if self.shards else ""
        advice = f"{kept}--skip-failed writes the store without them, the same command tries them again"
        if not self.shards:
            advice = f"{self.work.path}/failed.json lists them: use a smaller step or a higher resolution"
        raise FailedTrajectoriesError(
            f"{self.work.out}: {self.ensemble.where}", list(self.failures.values()), self.ensemble.n, advice
        )

    def _write(self, error_estimate: bool, overwrite: bool) -> None:
        indices = sorted(self.shards)
        shards = [self.shards[i] for i in indices]
        parameters = [shard.parameters for shard in shards]
        error = self._error(indices, parameters) if error_estimate else None
        fields = self.ensemble.draw(0).solver.fields
        lazy = {field.name: ShardArray(shards, i).lazy for i, field in enumerate(fields)}
        ds = solved_dataset(
            self.ensemble, indices, lazy, parameters, [s.split for s in shards], error, sorted(self.failures)
        )
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
                for i, name in enumerate(names):
                    if not np.array_equal(stored[name].values, shard.values(i, 0, shard.shape[1])):
                        return False
    except (DataError, DamagedShardError):
        return False
    return True


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made ({error.strerror}). Choose another path") from error
