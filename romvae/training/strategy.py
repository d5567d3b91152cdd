"""Lightning's data-parallel training among processes that are connected already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.plugins.environments import ClusterEnvironment, LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from romvae.ranks import Ranks

__all__ = ["frozen", "trainer_options"]


class _Joined(ClusterEnvironment):
    """Processes that are connected already; each looks to Lightning like a machine with a single device.

    Which device that is has been chosen here, so that it does not matter whether a process sees all GPUs of its
    machine or, as SLURM may have it, one.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"  # not asked for: the connection exists

    @property
    def main_port(self) -> int:
        return 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        # With more than one, Lightning broadcasts from a handler of SIGTERM, in the midst of whatever the processes are
        # telling each other. Stopping is the session's business; gradients are averaged over the processes themselves.
        return 1

    def set_world_size(self, size: int) -> None:
        """It is what it is."""

    def global_rank(self) -> int:
        return self.ranks.rank

    def set_global_rank(self, rank: int) -> None:
        """It is what it is."""

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return self.ranks.rank


def trainer_options(ranks: Ranks, accelerator: str) -> dict[str, Any]:
    """Arguments of a Trainer: its devices, strategy and plugins.

    Arguments:
        ranks: Processes that train.
        accelerator: As Lightning calls it.
    """
    # Signals are the session's business, in a batch system too: LightningEnvironment leaves them alone.
    if ranks.size == 1:
        return {"devices": 1, "plugins": [LightningEnvironment()]}
    devices: int | list[int] = 1
    if accelerator == "gpu":
        devices = [ranks.local_rank % torch.cuda.device_count()]
    strategy = DDPStrategy(
        cluster_environment=_Joined(ranks),
        # Buffers follow from pooled values, on every rank the same ones.
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )
    return {"devices": devices, "num_nodes": ranks.size, "strategy": strategy}


@contextmanager
def frozen(module: nn.Module, trained: Sequence[nn.Parameter]) -> Iterator[None]:
    """While it lasts, no gradients are computed for the other parameters of a module."""
    kept = {id(p) for p in trained}
    others = [p for p in module.parameters() if p.requires_grad and id(p) not in kept]
    for p in others:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in others:
            p.requires_grad_(True)
