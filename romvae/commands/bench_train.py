"""`romvae bench-train`: what a training step costs, and what a second process brings."""

from __future__ import annotations

import json as json_format
from typing import Annotated

from cyclopts import Parameter

from romvae.errors import ConfigError
from romvae.kinds import Precision

__all__ = ["bench_train"]


def bench_train(
    *,
    ndim: int = 2,
    points: int = 64,
    batch_size: int = 128,
    steps: int = 20,
    turns: int = 5,
    devices: int = 2,
    precision: Precision = "float32",
    compiled: bool = False,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure a training step beside a bare loop of the same network, start-up, and several processes beside one.

    Each process has one thread. The sides of a ratio take turns in one run; the speed-up is by the wall clock, so that
    it needs a machine with as many idle cores.

    Arguments:
        ndim: dimensions of the grid.
        points: grid points along each of them.
        batch_size: snapshots per step.
        steps: steps per measurement.
        turns: measurements of each side.
        devices: processes that share a batch; 1 leaves them out.
        precision: float32 or bf16.
        compiled: whether torch.compile makes the networks of the training, as --training.compile on does.
        json: write JSON, for other programs.
    """
    for name, value in {
        "points": points,
        "batch-size": batch_size,
        "steps": steps,
        "turns": turns,
        "devices": devices,
    }.items():
        if value < 1:
            raise ConfigError(f"--{name} = {value}: should be at least 1.")
    if ndim not in (1, 2, 3):
        raise ConfigError(f"--ndim = {ndim}: should be 1, 2 or 3.")
    from romvae.training.speed import Problem, measure

    found = measure(Problem(ndim, points, batch_size, steps, turns, precision=precision, compiled=compiled), devices)
    if json:
        print(json_format.dumps(found, indent=2))
        return
    step, start = found["step"], found["start_up"]
    print(f"{'milliseconds per step':<36} {'CPU':>10} {'wall':>10}")
    for what, name in (("training", "training"), ("bare loop of the same network", "bare")):
        print(f"{what:<36} {1e3 * step[name]['cpu_s']:>10.2f} {1e3 * step[name]['wall_s']:>10.2f}")
    print(f"{'training over bare loop':<36} {step['ratio_cpu']:>10.3f}")
    print(f"{'start-up to first step, s':<36} {start['cpu_s']:>10.2f} {start['wall_s']:>10.2f}")
    if "processes" in found:
        both = found["processes"]
        print(f"{'one process, wall':<36} {'':>10} {1e3 * both['one_wall_s']:>10.2f}")
        print(f"{str(both['processes']) + ' processes, wall':<36} {'':>10} {1e3 * both['several_wall_s']:>10.2f}")
        print(f"{'speed-up':<36} {both['speed_up']:>10.2f}")
