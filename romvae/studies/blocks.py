"""Which trajectories pass through the networks together, and what a worker does with them.

Bits of a rollout depend on that. So the blocks of trajectories follow from their number and sizes alone, every
trajectory keeps its place in its block, and a block is computed on one thread: neither the number of workers, nor a
kill, nor which trajectories are missing changes a bit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
import xarray as xr

from romvae.baselines.model import BaselineModel
from romvae.errors import DivergedError, FewMembersWarning, NumericsError, OtherStartWarning, OutOfRangeWarning
from romvae.forecast import Course, Request, forecast
from romvae.schema import TIME, TRAJECTORY
from romvae.studies.packed import PackedModel, unpacked
from romvae.studies.reduced import PREDICTED, reduced_forecast
from romvae.tasks.ensemble import Done, Errand
from romvae.tasks.failures import Failure
from romvae.tasks.shards import Row, ShardWriter, shard_writer
from romvae.trust import predicted_error

if TYPE_CHECKING:
    from romvae.baselines.model import Model
    from romvae.rom import ROM

__all__ = ["Job", "RolloutBlock", "on_one_thread", "positional", "roll_block", "rolled"]

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """What all rollouts have in common; it goes to every worker once.

    Arguments:
        model: The model.
        ask: What is wanted.
        names: The variables that are kept.
        every: None keeps fields; a number looks at every so many steps and keeps quantities alone.
    """

    model: PackedModel
    ask: Request
    names: tuple[str, ...]
    every: int | None


@dataclass(frozen=True)
class RolloutBlock:
    """Trajectories that are rolled out together.

    Arguments:
        first: Position of the first of them among all.
        indices: Positions of those that are wanted.
        start: Initial fields of the whole block.
        controls: What drives them.
    """

    first: int
    indices: tuple[int, ...]
    start: xr.Dataset
    controls: xr.Dataset | None


def roll_block(errand: Errand[RolloutBlock], *, common: Job) -> Done:
    """Rolls out a block on one thread and writes its trajectories at once.

    Where the folder is seen, fields go there as their lead times pass: memory holds a few times of the block. What is
    sent to another machine, baselines and quantities are held whole.
    """
    torch.set_num_threads(1)
    model, done = unpacked(common.model), Done()
    held = common.every is not None or bool(common.ask.quantities) or isinstance(model, BaselineModel)
    passing = errand.seen and not held
    folder = Path(errand.folder) if passing else None
    for outcome in _outcomes(model, common, errand.block, errand.block.indices, folder):
        if isinstance(outcome, Failure):
            done.failures.append(outcome)
        elif isinstance(outcome, int):
            done.written.append(outcome)
        else:
            done.take(errand, outcome)
    return done


def _outcomes(
    model: Model, job: Job, block: RolloutBlock, wanted: tuple[int, ...], folder: Path | None
) -> Iterator[Row | Failure | int]:
    """The wanted trajectories at their places, or the numbers of those that are on disk; halves where one fails.

    The places of the others are filled with one that is wanted: the batch keeps its shape, and with it its bits.
    """
    filler = wanted[0] - block.first
    places = [i if block.first + i in wanted else filler for i in range(block.start.sizes[TRAJECTORY])]
    try:
        if folder is not None and not isinstance(model, BaselineModel):
            _pass_to_disk(model, job, block, places, wanted, folder)
            made = None
        else:
            made = rolled(model, *_told(job, block, places))
    except NumericsError as error:
        if len(wanted) == 1:
            row = block.start.isel({TRAJECTORY: filler})
            values = {name: float(row[name]) for name in model.schema.parameter_names}
            why = str(error)
            if isinstance(error, DivergedError) and wanted[0] in error.steps:  # it may name a filler
                why = error.of_one(wanted[0])
            yield Failure(wanted[0], values, None, why)
            return
        for half in (wanted[: len(wanted) // 2], wanted[len(wanted) // 2 :]):
            yield from _outcomes(model, job, block, half, folder)
        return
    for index in wanted:
        if made is None:
            yield index
            continue
        one = made.isel({TRAJECTORY: index - block.first})
        yield Row(index, {name: one[name].transpose(TIME, ...).values for name in job.names})


def _pass_to_disk(
    model: ROM, job: Job, block: RolloutBlock, places: Sequence[int], wanted: tuple[int, ...], folder: Path
) -> None:
    start, ask, _, controls = _told(job, block, places)
    with warnings.catch_warnings(), ExitStack() as stack:
        _said_before()
        course = Course.of(model, start, ask, controls)
        writers: dict[int, ShardWriter] = {}
        for _, piece in course.pieces():
            if not writers:
                times = len(course.part.leads)
                arrays = {name: (piece.values[name].dtype, piece.values[name].shape) for name in job.names}
                whole = {name: (kind, (times, *shape[2:])) for name, (kind, shape) in arrays.items()}
                writers = {index: stack.enter_context(shard_writer(folder, index, whole)) for index in wanted}
            for index, writer in writers.items():
                for name in job.names:
                    writer.put(name, piece.place, piece.values[name][index - block.first])


def _told(
    job: Job, block: RolloutBlock, places: Sequence[int]
) -> tuple[xr.Dataset, Request, int | None, xr.Dataset | None]:
    """What the forecast of a block is told after the model."""
    start, controls = block.start.isel({TRAJECTORY: list(places)}), block.controls
    if controls is not None and TRAJECTORY in controls.dims:
        controls = controls.isel({TRAJECTORY: list(places)})
    start, controls = positional(start, controls)
    return start, replace(job.ask, first=block.first), job.every, controls


def positional(start: xr.Dataset, controls: xr.Dataset | None) -> tuple[xr.Dataset, xr.Dataset | None]:
    """Fields and controls that belong together by their places, whatever they are called."""
    if controls is None:
        return start, None
    return start.drop_vars(TRAJECTORY, errors="ignore"), controls.drop_vars(TRAJECTORY, errors="ignore")


def on_one_thread(work: Callable[[], T]) -> T:
    """What blocks are computed on, without warnings that are given elsewhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            _said_before()
            return work()
    finally:
        torch.set_num_threads(threads)


def _said_before() -> None:
    """Leaves out warnings that were given of all rollouts together."""
    for kind in (OutOfRangeWarning, FewMembersWarning, OtherStartWarning):
        warnings.simplefilter("ignore", kind)


def rolled(model: Model, start: xr.Dataset, ask: Request, every: int | None, controls: xr.Dataset | None) -> xr.Dataset:
    """The forecast of one block, with fields or without."""
    with warnings.catch_warnings():
        _said_before()
        if isinstance(model, BaselineModel):
            return model.rollout(start, ask.steps, level=ask.level)
        if every is not None:
            return reduced_forecast(model, start, ask, every, controls)
        made = forecast(model, start, ask, controls)
    return made.assign({PREDICTED: predicted_error(model, made)}) if ask.quantities else made
