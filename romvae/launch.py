"""Which of the processes of a training this one is: from the variables of torchrun or SLURM."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from romvae.errors import ConfigError

__all__ = ["Place", "place_of", "require_place"]


@dataclass(frozen=True)
class Place:
    """One of the processes of a training.

    Arguments:
        rank: Its number among all.
        size: Number of all.
        local_rank: Its number on its machine.
        local_size: Number of those on its machine.
        address, port: Where the first one is reached.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int

    @property
    def meeting_point(self) -> str:
        """Where they find each other, for torch: what torchrun set up where it started them."""
        return "env://" if "TORCHELASTIC_RUN_ID" in os.environ else f"tcp://{self.address}:{self.port}"


def place_of(
    devices: int | None, nodes: int | None, environment: Mapping[str, str] | None = None, automatic: bool = False
) -> Place | None:
    """The place that torchrun, SLURM or `romvae.supervision` gave this process.

    torchrun sets RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Of SLURM's variables
    those of the *step* are read: they exist in the tasks of srun, and not in the batch script itself. Tasks of
    srun may well be trainings of their own, so that they count as one only where several devices are asked for.

    Arguments:
        devices: Processes on each machine that were asked for; None says nothing.
        nodes: Machines; None says nothing.
        environment: Variables; None takes those of this process.
        automatic: Whether processes of torchrun train together though neither was asked for.

    Returns:
        The place; None where this process is alone, also where it should not be.

    Raises:
        ConfigError: As many processes were started as were not asked for.
    """
    env = os.environ if environment is None else environment
    asked = (devices or 1) * (nodes or 1)
    if "RANK" in env and "WORLD_SIZE" in env and (asked > 1 or automatic):
        return _checked(_torchrun(env), "torchrun", devices, nodes)
    if asked > 1 and int(env.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return _checked(_slurm(env), "srun", devices, nodes)
    return None


def require_place(place: Place | None, devices: int | None, nodes: int | None) -> Place | None:
    """The place, which has to be there where several processes were asked for.

    Raises:
        ConfigError: It is not.
    """
    if place is None and (devices or 1) * (nodes or 1) > 1:
        raise ConfigError(
            f"devices is {devices or 1} and nodes is {nodes or 1}, but this process was not started as one of several. "
            f"Start it with torchrun --nproc-per-node {devices or 1} or srun, or use romvae train --devices."
        )
    return place


def _torchrun(env: Mapping[str, str]) -> Place:
    size = int(env["WORLD_SIZE"])
    return Place(
        int(env["RANK"]),
        size,
        int(env.get("LOCAL_RANK", "0")),
        int(env.get("LOCAL_WORLD_SIZE", str(size))),
        env.get("MASTER_ADDR", "127.0.0.1"),
        int(env.get("MASTER_PORT", "29500")),
    )


def _slurm(env: Mapping[str, str]) -> Place:
    size, machines = int(env["SLURM_STEP_NUM_TASKS"]), int(env.get("SLURM_STEP_NUM_NODES", "1"))
    # A port of the job's own, so that two jobs on one machine do not meet.
    port = int(env.get("MASTER_PORT", str(15000 + int(env.get("SLURM_JOB_ID", "0")) % 15000)))
    address = env.get("MASTER_ADDR", _first_host(env.get("SLURM_STEP_NODELIST", "127.0.0.1")))
    return Place(int(env["SLURM_PROCID"]), size, int(env["SLURM_LOCALID"]), size // machines, address, port)


def _first_host(hosts: str) -> str:
    """The first of SLURM's list of hosts: `node[007-009,12],other` begins with node007."""
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", hosts).split(",")[0]


def _checked(place: Place, starter: str, devices: int | None, nodes: int | None) -> Place | None:
    machines = place.size // place.local_size
    if (devices or place.local_size) != place.local_size or (nodes or machines) != machines:
        raise ConfigError(
            f"{starter} has started {place.local_size} processes on each of {machines} machines, but --devices is "
            f"{devices or 1} and --nodes is {nodes or 1}. Make them agree."
        )
    return place if place.size > 1 else None
