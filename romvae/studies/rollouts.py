"""An ensemble of rollouts: what its values follow from, who computes it, and the Dataset that it becomes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from romvae.agreement import sampled
from romvae.baselines.model import BaselineModel
from romvae.canonical import MASK
from romvae.data.transposed import canonical_on_disk
from romvae.errors import OutOfRangeWarning
from romvae.excerpt import excerpt_of
from romvae.forecast import BLOCK, Course, Request, together
from romvae.memory import release_freed
from romvae.progress import Progress
from romvae.schema import TIME, TRAJECTORY
from romvae.start import check_history
from romvae.studies import blocks
from romvae.studies.blocks import Job, RolloutBlock, roll_block
from romvae.studies.packed import PackedModel, forget
from romvae.studies.reduced import leads_of, together_reduced
from romvae.studies.starts import Starts, digest_of
from romvae.tasks.ensemble import Done, Ensemble, Errand
from romvae.tasks.failures import Failure
from romvae.tasks.folder import WorkFolder
from romvae.tasks.shards import Shard, ShardArray
from romvae.tasks.shared import shared_out
from romvae.tasks.workers import LostWorkerError
from romvae.version import __version__

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["Rollouts"]

_ASKED = ("steps", "members", "seed", "level", "interval", "share", "propagation")


class _Errands(Sequence[Errand[RolloutBlock]]):
    """Made one by one when a worker takes them: initial fields of all rollouts need not fit into memory."""

    def __init__(self, rollouts: Rollouts, folder: WorkFolder, wanted: Sequence[int]) -> None:
        self.rollouts, self.folder = rollouts, folder
        groups: dict[int, list[int]] = {}
        for index in wanted:
            groups.setdefault(index // rollouts.size, []).append(index)
        self.groups = list(groups.items())

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: Any) -> Any:
        group, indices = self.groups[number]
        starts, size = self.rollouts.starts, self.rollouts.size
        rows = range(group * size, min((group + 1) * size, len(starts.labels)))
        block = RolloutBlock(rows[0], tuple(indices), starts.rows(rows), starts.controls(rows))
        return Errand.into(self.folder, block)


@dataclass(frozen=True)
class Rollouts:
    """An ensemble of rollouts: everything that its values follow from, and who computes it.

    Arguments:
        model: What rolls out.
        starts: What from.
        ask: What is wanted.
        every: None keeps fields; a number looks at every so many steps and keeps quantities alone.
        workers: Processes.
        scheduler: Dask, as for `romvae.solvers.simulate`.
        report: Progress.
    """

    model: Model
    starts: Starts
    ask: Request
    every: int | None
    workers: int
    scheduler: str | None
    report: Progress

    @classmethod
    def of(
        cls,
        model: Model,
        starts: Starts,
        ask: Request,
        every: int | None,
        workers: int,
        scheduler: str | None,
        report: Progress,
    ) -> Rollouts:
        """The same with the choice of `propagation="auto"` made here, once for all trajectories and workers."""
        if ask.propagation == "auto" and not isinstance(model, BaselineModel):
            some = sampled(len(starts.labels))
            start, controls = blocks.positional(starts.rows(some), starts.controls(some))
            made = blocks.on_one_thread(lambda: Course.of(model, start, ask, controls).ask)
            ask = replace(ask, propagation=made.propagation, choice=made.choice)
        return cls(model, starts, ask, every, workers, scheduler, report)

    @property
    def size(self) -> int:
        """Trajectories of a block."""
        if isinstance(self.model, BaselineModel):
            return BLOCK
        if self.every is not None:
            return together_reduced(self.model, self.ask.members)
        return together(self.model, self.ask)

    @cached_property
    def template(self) -> xr.Dataset:
        """A forecast of one step: names, dims, attributes and static variables of all; what is wrong shows here."""
        start, controls = blocks.positional(self.starts.rows([0]), self.starts.controls([0]))
        if not isinstance(self.model, BaselineModel):
            check_history(self.model, start)  # warns once for all
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutOfRangeWarning)
            return blocks.rolled(self.model, start, replace(self.ask, steps=1, times=None), self.every, controls)

    @property
    def begin(self) -> float:
        """Time of the initial fields."""
        return float(self.template[TIME].values[0])

    @property
    def names(self) -> tuple[str, ...]:
        """Variables that a rollout has of its own."""
        return tuple(str(name) for name, v in self.template.variables.items() if {TRAJECTORY, TIME} <= set(v.dims))

    @property
    def times(self) -> NDArray[np.float64]:
        """Times that are looked at."""
        ask, begin = self.ask, self.begin
        leads = leads_of(ask.steps, self.every or 1)
        if ask.times is not None:
            between = not isinstance(self.model, BaselineModel) and self.model.dynamics.continuous
            leads = np.array(excerpt_of(self.model.schema, begin, ask.steps, ask.times, between=between).leads)
        return np.asarray(begin + self.model.schema.dt * leads)

    @property
    def nbytes(self) -> int:
        """Size of all values."""
        each = sum(self.template[name].nbytes // self.template.sizes[TIME] for name in self.names)
        return len(self.starts.labels) * len(self.times) * each

    def facts(self) -> dict[str, Any]:
        """Everything that the values follow from."""
        ask = self.ask
        return {
            "format": 2,
            "kind": "rollout",
            "romvae": __version__,
            "numpy": np.__version__,
            "torch": torch.__version__,
            "model": self._packed.digest,
            "n": len(self.starts.labels),
            **{name: getattr(ask, name) for name in _ASKED},
            "times": None if ask.times is None else [float(time) for time in ask.times],
            "fields": None if ask.fields is None else list(ask.fields),
            "region": None if ask.region is None else {name: list(ends) for name, ends in ask.region.items()},
            "quantities": [quantity.name for quantity in ask.quantities],
            **({"keep_members": True} if ask.keep_members else {}),
            "every": self.every,
            "digest": digest_of(self.starts),
        }

    @cached_property
    def _packed(self) -> PackedModel:
        return PackedModel.of(self.model)

    def complete(self, work: WorkFolder, write: Callable[[dict[int, Shard]], None], skip_failed: bool) -> None:
        """Computes what the folder misses and hands all trajectories to `write`; the folder is held already."""
        threads = torch.get_num_threads()
        everything = Ensemble(
            len(self.starts.labels),
            work,
            "rollout",
            self.report,
            lambda wanted: self._shared_out(work, wanted),
            self._lost,
            f"{work.out}: rollout",
            "train on longer windows, or roll out fewer steps",
        )
        try:

            def finish() -> None:
                release_freed()  # what the networks needed is not needed any more
                write(everything.shards)

            everything.complete(finish, skip_failed)
        finally:
            torch.set_num_threads(threads)
            forget()

    def _shared_out(
        self, work: WorkFolder, wanted: list[int]
    ) -> Iterator[tuple[Errand[RolloutBlock], Done | LostWorkerError]]:
        job = Job(self._packed, self.ask, self.names, self.every)
        return shared_out(
            roll_block,
            _Errands(self, work, wanted),
            self.workers,
            self.scheduler,
            common=job,
            what="rollout",
            packages=("numpy", "torch"),
        )

    def _lost(self, block: RolloutBlock, error: LostWorkerError) -> list[Failure]:
        values = self.starts.parameters
        return [
            Failure(i, {name: float(column[i]) for name, column in values.items()}, None, str(error))
            for i in block.indices
        ]

    def dataset(self, shards: dict[int, Shard]) -> xr.Dataset:
        """The trajectories that are there as one Dataset, whose values stay on disk until they are used."""
        indices = sorted(shards)
        found, template = [shards[i] for i in indices], self.template
        coords: dict[str, Any] = {
            **{
                name: template[name]
                for name in map(str, template.coords)
                if template[name].dims == (name,) and name != TRAJECTORY
            },
            TIME: (TIME, self.times, template[TIME].attrs),
            TRAJECTORY: (TRAJECTORY, self.starts.labels[indices], {"standard_name": "realization"}),
        }
        units = {p.name: p.units for p in self.model.schema.parameters}
        for name, values in self.starts.parameters.items():
            about = {"units": units.get(name, "1"), "romvae_role": "parameter"}
            coords[name] = (TRAJECTORY, values[indices], about)
        if not np.array_equal(self.starts.origins, self.starts.labels):
            about = {"long_name": "trajectory that the initial field was taken from"}
            coords["initial_field"] = (TRAJECTORY, self.starts.origins[indices], about)
        data = {
            name: xr.Variable(_stored(template[name].dims), ShardArray(found, name).lazy, template[name].attrs)
            for name in self.names
        }
        if MASK in template:
            data[MASK] = template[MASK].variable
        return canonical_on_disk(xr.Dataset(data, coords, template.attrs))


def _stored(dims: tuple[Any, ...]) -> tuple[Any, ...]:
    """The order in which shards hold a variable: trajectory and time come first."""
    return (TRAJECTORY, TIME, *(dim for dim in dims if dim not in (TRAJECTORY, TIME)))
