"""Which trajectories pass through the networks together, and what a worker does with them.

Bits of a rollout depend on that. So the blocks of trajectories follow from their number and sizes alone, every
trajectory keeps its place in its block, and a block is computed on one thread: neither the number of workers, nor a
kill, nor which trajectories are missing changes a bit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import xarray as xr

from romvae.baselines.model import BaselineModel
from romvae.errors import FewMembersWarning, NumericsError, OutOfRangeWarning
from romvae.forecast import Request, forecast
from romvae.schema import TRAJECTORY
from romvae.studies.packed import PackedModel, unpacked
from romvae.studies.reduced import PREDICTED, reduced_forecast
from romvae.tasks.ensemble import Done, Errand
from romvae.tasks.failures import Failure
from romvae.tasks.shards import Row
from romvae.trust import predicted_error

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["Job", "RolloutBlock", "positional", "roll_block", "rolled"]


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
    """Rolls out a block on one thread and writes its trajectories at once."""
    torch.set_num_threads(1)
    done = Done()
    for outcome in _outcomes(unpacked(common.model), common, errand.block, errand.block.indices):
        if isinstance(outcome, Failure):
            done.failures.append(outcome)
        else:
            done.take(errand, outcome)
    return done


def _outcomes(model: Model, job: Job, block: RolloutBlock, wanted: tuple[int, ...]) -> Iterator[Row | Failure]:
    """The wanted trajectories at their places; halves where one of them fails.

    The places of the others are filled with one that is wanted: the batch keeps its shape, and with it its bits.
    """
    filler = wanted[0] - block.first
    places = [i if block.first + i in wanted else filler for i in range(block.start.sizes[TRAJECTORY])]
    try:
        made = _forecast(model, job, block, places)
    except NumericsError as error:
        if len(wanted) == 1:
            row = block.start.isel({TRAJECTORY: filler})
            values = {name: float(row[name]) for name in model.schema.parameter_names}
            yield Failure(wanted[0], values, None, str(error))
            return
        for half in (wanted[: len(wanted) // 2], wanted[len(wanted) // 2 :]):
            yield from _outcomes(model, job, block, half)
        return
    for index in wanted:
        one = made.isel({TRAJECTORY: index - block.first})
        yield Row(index, {name: one[name].values for name in job.names})


def _forecast(model: Model, job: Job, block: RolloutBlock, places: Sequence[int]) -> xr.Dataset:
    start, controls = block.start.isel({TRAJECTORY: list(places)}), block.controls
    if controls is not None and TRAJECTORY in controls.dims:
        controls = controls.isel({TRAJECTORY: list(places)})
    start, controls = positional(start, controls)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # said before, of all rollouts
        warnings.simplefilter("ignore", FewMembersWarning)
        return rolled(model, start, replace(job.ask, first=block.first), job.every, controls)


def positional(start: xr.Dataset, controls: xr.Dataset | None) -> tuple[xr.Dataset, xr.Dataset | None]:
    """Fields and controls that belong together by their places, whatever they are called."""
    if controls is None:
        return start, None
    return start.drop_vars(TRAJECTORY, errors="ignore"), controls.drop_vars(TRAJECTORY, errors="ignore")


def rolled(model: Model, start: xr.Dataset, ask: Request, every: int | None, controls: xr.Dataset | None) -> xr.Dataset:
    """The forecast of one block, with fields or without."""
    if isinstance(model, BaselineModel):
        return model.rollout(start, ask.steps, level=ask.level)
    if every is not None:
        return reduced_forecast(model, start, ask, every, controls)
    made = forecast(model, start, ask, controls)
    return made.assign({PREDICTED: predicted_error(model, made)}) if ask.quantities else made
