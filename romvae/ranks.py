"""Processes that train one model together: what each takes of a batch, and means over all of them.

Every rank computes the losses of its share of the *global* batch; whatever enters a loss other than linearly (a
variance, a logarithm) is pooled over all ranks first, so that R ranks follow the training of one to rounding.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from romvae.errors import ConfigError, RankLostError
from romvae.launch import Place

__all__ = ["ALONE", "Ranks", "join"]

PATIENCE = timedelta(hours=2)
"""How long a rank waits for the others: longer than what one of them may do alone. A lost one is noticed at once."""
_LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
"""Words in what the libraries below torch raise; it has classes for its own."""

Result = TypeVar("Result")


@dataclass
class Ranks:
    """The processes of a training, seen from one of them; alone, every method gives back what it was given.

    Arguments:
        rank: Number of this process.
        size: Number of processes.
        local_rank: Number of this process on its machine.
        local_size: Processes on this machine.
        calling: Whether this process wants all of them to stop.
        called: Whether one of them did when they last pooled a mean: known to all at the same moment.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    calling: bool = False
    called: bool = False

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and prints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of `count` samples are this rank's: neighbours, all once, sizes that differ by one at most.

        Raises:
            ConfigError: There are fewer samples than ranks.
        """
        if count < self.size:
            raise ConfigError(
                f"a batch of {count} for {self.size} devices: expected at least one sample for each. "
                "Use a larger --training.batch-size, or fewer --devices."
            )
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def part(self, count: int) -> range:
        """As `share`, for work that may well be none: there can be fewer units than ranks."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def pooled(self, mean: Tensor, count: int) -> Tensor:
        r"""Mean over the samples of all ranks, :math:`\sum_r n_r m_r / \sum_r n_r`, from the one over those here.

        What is computed from it has to be the same on all ranks. Then every rank's gradient, times the number of ranks
        that an average over ranks divides by, is its part of the gradient of the whole batch.

        Arguments:
            mean: Mean over the samples of this rank, any shape.
            count: Their number.
        """
        if self.size == 1:
            return mean
        told = mean.new_tensor([count, float(self.calling)])
        total = _Sum.apply(torch.cat([mean.reshape(-1) * count, told]), self.size)
        self.called = self.called or bool(total[-1] > 0)
        return (total[:-2] / total[-2].detach()).reshape(mean.shape)

    @torch.no_grad()
    def summed(self, values: Tensor) -> Tensor:
        """Sum over all ranks, without gradients."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def gathered(self, part: Result) -> list[Result]:
        """What every rank has, in their order, on all of them."""
        if self.size == 1:
            return [part]
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, part)
        return parts

    def once(self, work: Callable[[], Result]) -> Result:
        """What `work` gives on the first rank, on all of them; the others wait.

        Raises:
            RankLostError: On the others, where it failed on the first one, which raises its own error.
        """
        if self.size == 1:
            return work()
        held: list[Any] = [None, ""]
        try:
            if self.first:
                held[0] = work()
        except BaseException as error:
            with suppress(Exception):
                dist.broadcast_object_list([None, str(error) or type(error).__name__], device=torch.device("cpu"))
            raise
        dist.broadcast_object_list(held, device=torch.device("cpu"))
        if held[1]:
            raise RankLostError(f"the first process has failed: {held[1]}")
        return held[0]

    def meet(self) -> None:
        """Waits until all ranks are here."""
        if self.size > 1:
            dist.all_reduce(torch.zeros(1))

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turns what torch says when another rank has gone into one error.

        Raises:
            RankLostError: Another rank has ended.
        """
        try:
            yield
        except RuntimeError as error:
            gone = isinstance(error, dist.DistError) or any(word in str(error) for word in _LOST)
            if self.size == 1 or not gone:
                raise
            raise RankLostError(
                f"process {self.rank} of {self.size}: another process of this training has ended. See its message, "
                "and continue the training with --resume"
            ) from error


ALONE = Ranks()
"""One process for itself."""


class _Sum(torch.autograd.Function):
    """Sum over ranks whose outcome is used in the same way on all of them, so that their gradients are equal."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, size: int) -> Tensor:
        ctx.size = size
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.size * gradients[0], None


def join(place: Place | None, gpu: bool = False) -> Ranks:
    """Connects this process with the others of its training, gloo between CPUs and NCCL between GPUs.

    A process that has joined stays so until it ends; to join again gives the same.

    Arguments:
        place: Which of them it is; None is alone.
        gpu: Whether they train on GPUs.

    Raises:
        RankLostError: The others cannot be reached.
    """
    if place is None or place.size == 1:
        return Ranks()
    if not dist.is_initialized():
        if gpu:
            torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
        try:
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if gpu else "gloo",
                init_method=place.meeting_point,
                rank=place.rank,
                world_size=place.size,
                timeout=PATIENCE,
            )
        except (RuntimeError, ValueError) as error:
            raise RankLostError(
                f"process {place.rank} of {place.size} cannot reach the others at {place.address}:{place.port} "
                f"({' '.join(str(error).split())[:160]}). Start them all, and allow connections between the machines."
            ) from error
        atexit.register(_leave)
    return Ranks(place.rank, place.size, place.local_rank, place.local_size)


def _leave() -> None:
    with suppress(Exception):
        dist.destroy_process_group()
