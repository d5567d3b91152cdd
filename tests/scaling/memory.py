"""Peak memory above what stood before, each in a process of its own: rollouts to disk and in memory, and training.

python -m tests.scaling.memory '{"work": "disk", "shape": [256], "steps": 100}'
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import romvae
from romvae.cost.arithmetic import arithmetic_of
from romvae.memory import release_freed
from romvae.ranks import ALONE
from romvae.tensors import field_tensor
from romvae.training.speed import Problem, _stage_seconds
from romvae.training.step_memory import kept_bytes
from tests.scaling.networks import rom_on
from tests.scaling.rollouts import rolled, started

__all__ = ["peak_of", "tables"]

MIB = 2**20


def peak_of(work: str, shape: tuple[int, ...], **told: int) -> dict[str, Any]:
    """MiB above the start of the work, measured in a fresh process with the allocator as it comes."""
    left = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
    surroundings = {name: value for name, value in os.environ.items() if name not in left}
    words = json.dumps({"work": work, "shape": shape, **told})
    command = [sys.executable, "-m", "tests.scaling.memory", words]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise KeyError(name)


def _peak(work: Callable[[], Any]) -> float:
    """Highest resident memory meanwhile less that at the start, MiB."""
    release_freed()
    begin = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark falls to what stands now
    work()
    return (_status("VmHWM") - begin) / MIB


def _rollout(shape: tuple[int, ...], disk: bool, steps: int, members: int, trajectories: int) -> dict[str, Any]:
    rom, start = started(shape, trajectories)
    forecast = 4 * len(("mean", *("std",) * 5, "lower", "upper")) * trajectories * (steps + 1) * rom.schema.grid.points
    latents = 4 * rom.vae.latent * trajectories * (steps + 1)
    with tempfile.TemporaryDirectory(dir=".") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")

        def to_disk(name: str, steps: int) -> None:
            romvae.rollout_to(Path(folder) / name, rom, start, steps=steps, members=members)

        to_disk("warm.zarr", 2)
        if disk:
            peak = _peak(lambda: to_disk("a.zarr", steps))
        else:
            peak = _peak(lambda: rolled(rom, start, steps=steps, members=members))
    return {"peak_mib": peak, "result_mib": (forecast + latents) / MIB}


def _training(shape: tuple[int, ...], batch: int) -> dict[str, Any]:
    rom, data = rom_on(shape, trajectories=4, times=max(2, -(-batch // 4)))
    rom.vae.decoder.local.fill_(False)
    x = field_tensor(data, rom.schema, rom.normaliser)
    counted = arithmetic_of(rom.vae)
    _stage_seconds(rom, x[:1, :2], Problem(batch_size=2, steps=1), ALONE)
    peak = _peak(lambda: _stage_seconds(rom, x, Problem(batch_size=batch, steps=2), ALONE))
    weights = counted.encoder.weights + counted.mean.weights
    return {
        "batch": batch,
        "points": rom.schema.grid.points,
        "peak_mib": peak,
        "kept_mib": kept_bytes(rom.vae) / MIB,
        "weights_mib": 4 * weights / MIB,
    }


def tables() -> dict[str, Callable[[], dict[str, Any]]]:
    """Rows of the table `memory`."""
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    line = {"steps": 50, "members": 8, "trajectories": 16}
    for steps in (100, 400, 1600):
        told = {**line, "steps": steps}
        found[f"to disk, 1-D 256, {steps} steps"] = partial(peak_of, "disk", (256,), **told)
        few = {**told, "members": 4, "trajectories": 4}
        found[f"to disk, 2-D 64, {steps} steps"] = partial(peak_of, "disk", (64, 64), **few)
    for members in (8, 64):
        told = {"steps": 20, "members": members, "trajectories": 16}
        found[f"to disk, 2-D 64, {members} members"] = partial(peak_of, "disk", (64, 64), **told)
    for trajectories in (16, 64):
        told = {**line, "trajectories": trajectories}
        found[f"to disk, 1-D 256, {trajectories} trajectories"] = partial(peak_of, "disk", (256,), **told)
    for steps in (100, 400):
        told = {"steps": steps, "members": 4, "trajectories": 4}
        found[f"in memory, 2-D 64, {steps} steps"] = partial(peak_of, "memory", (64, 64), **told)
    for name, shape, batch in (
        ("1-D 1024", (1024,), 128),
        ("1-D 256", (256,), 128),
        ("2-D 32", (32, 32), 32),
        ("2-D 64", (64, 64), 32),
        ("2-D 128", (128, 128), 16),
        ("2-D 256", (256, 256), 4),
        ("2-D 512", (512, 512), 2),
        ("3-D 24", (24, 24, 24), 8),
        ("3-D 16", (16, 16, 16), 32),
        ("1-D 2048", (2048,), 128),
        ("2-D 96", (96, 96), 64),
        ("2-D 256", (256, 256), 32),
    ):
        found[f"training, {name}, batch {batch}"] = partial(peak_of, "training", shape, batch=batch)
    return found


def _main() -> None:
    torch.set_num_threads(1)
    told = json.loads(sys.argv[1])
    work, shape = told.pop("work"), tuple(told.pop("shape"))
    found = _training(shape, **told) if work == "training" else _rollout(shape, work == "disk", **told)
    print(json.dumps(found))


if __name__ == "__main__":
    _main()
