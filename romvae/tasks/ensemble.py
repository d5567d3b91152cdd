"""An ensemble on disk: what is there is kept, what is missing is shared out, and the output is written at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from romvae.errors import OutputError
from romvae.lock import LOCK
from romvae.progress import Progress
from romvae.tasks.failures import FailedTrajectoriesError, Failure
from romvae.tasks.folder import WorkFolder
from romvae.tasks.shards import DamagedShardError, Row, Shard, put_row
from romvae.tasks.workers import RETRIES, LostWorkerError

__all__ = ["Done", "Ensemble", "Errand"]

logger = logging.getLogger("romvae.tasks")


class _Block(Protocol):
    @property
    def indices(self) -> tuple[int, ...]:
        """The trajectories wanted."""


Block = TypeVar("Block", bound=_Block)


@dataclass(frozen=True)
class Errand(Generic[Block]):
    """A block, and the folder that takes its trajectories, known by what the lock in it says."""

    block: Block
    folder: str
    token: str

    @classmethod
    def into(cls, folder: WorkFolder, block: Block) -> Errand[Block]:
        """For a folder that this process holds."""
        return cls(block, str(folder.path.absolute()), (folder.path / LOCK).read_text(encoding="utf-8"))

    @property
    def seen(self) -> bool:
        """Whether the folder is seen here: not by a worker on another machine that does not share the disk."""
        try:
            return (Path(self.folder) / LOCK).read_text(encoding="utf-8") == self.token
        except OSError:
            return False


@dataclass
class Done:
    """What came of an errand: trajectories that are on disk by their numbers, others with their values, failures."""

    written: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def take(self, errand: Errand, row: Row) -> None:
        """Writes a trajectory where the folder is seen, so that it outlives the worker; else it is sent along."""
        if errand.seen:
            put_row(Path(errand.folder), row)
            self.written.append(row.index)
        else:
            self.rows.append(row)


@dataclass
class Ensemble(Generic[Block]):
    """Trajectories that are computed into a work folder.

    Arguments:
        n: Their number.
        work: The folder, held by this process.
        stage: What progress calls the computation.
        report: Progress.
        shared_out: `shared_out(wanted)` gives every errand with what came of it.
        lost: The failures that the loss of a block's workers means.
        where: What was computed, for messages.
        nothing: What to do where no trajectory could be computed.
    """

    n: int
    work: WorkFolder
    stage: str
    report: Progress
    shared_out: Callable[[list[int]], Iterator[tuple[Errand[Block], Done | LostWorkerError]]]
    lost: Callable[[Block, LostWorkerError], list[Failure]]
    where: str
    nothing: str
    shards: dict[int, Shard] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)

    def complete(self, write: Callable[[], None], skip_failed: bool) -> None:
        """Computes what is missing, then calls `write`, which finds everything in `shards`.

        Raises:
            FailedTrajectoriesError: Some failed and are not to be skipped, or all did.
            OutputError: The disk damages what is written on it.
        """
        self._take_up()
        if skip_failed:
            self.failures = {f.index: f for f in self.work.failures() if f.index not in self.shards}
        for _ in range(RETRIES):
            self._compute_missing()
            self._judge(skip_failed)
            try:
                write()
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
            self.report("kept", len(paths), len(paths), f"of {self.n} trajectories")

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

    def _compute_missing(self) -> None:
        for _ in range(RETRIES):
            wanted = [i for i in range(self.n) if i not in self.shards and i not in self.failures]
            if not wanted:
                break
            self._compute(wanted)
        self.work.put_failures(list(self.failures.values()))

    def _compute(self, wanted: list[int]) -> None:
        done = 0
        self.report(self.stage, done, len(wanted))
        for errand, answer in self.shared_out(wanted):
            if isinstance(answer, LostWorkerError):
                failed = self.lost(errand.block, answer)
            else:
                for row in answer.rows:
                    put_row(self.work.path, row)
                for index in (*answer.written, *(row.index for row in answer.rows)):
                    self._audit(self.work.path / f"{index:08d}.shard")
                failed = answer.failures
            if failed:
                self.failures |= {failure.index: failure for failure in failed}
                self.work.put_failures(list(self.failures.values()))
            done += len(errand.block.indices)
            self.report(self.stage, done, len(wanted), f"{len(self.failures)} failed" if self.failures else "")

    def _judge(self, skip_failed: bool) -> None:
        if not self.failures or (skip_failed and self.shards):
            return
        kept = f"The other {len(self.shards)} are kept in {self.work.path}: " if self.shards else ""
        advice = f"{kept}--skip-failed writes the output without them, the same command tries them again"
        if not self.shards:
            advice = f"{self.work.path}/failed.json lists them: {self.nothing}"
        raise FailedTrajectoriesError(self.where, list(self.failures.values()), self.n, advice)
