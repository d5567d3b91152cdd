"""Bytes between two processes that train together, and bytes on disk.

    python -m tests.scaling.traffic FILE '{"points": 64}'  # as one of the two processes

Traffic is what the loopback interface counts (headers included), so that no other program should use it meanwhile: a
step is the difference between a long and a short stage, the median of three.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from romvae.cost.arithmetic import arithmetic_of
from romvae.launch import place_of
from romvae.ranks import join
from romvae.rom import ROM
from romvae.supervision import Family
from romvae.tensors import field_tensor, parameter_tensor
from romvae.testing import mock_snapshots
from romvae.training.calibrate import calibrate
from romvae.training.speed import Problem, _rom, _stage_seconds

__all__ = ["between", "tables"]

TRAJECTORIES, TIMES = 16, 12
"""What is calibrated on."""


def between(ndim: int, points: int) -> dict[str, Any]:
    """Bytes through the loopback interface for a training step, and for a calibration, of two processes."""
    problem = Problem(ndim, points, batch_size=8)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "found.json"
        words = [sys.executable, "-m", "tests.scaling.traffic", str(target), json.dumps(asdict(problem))]
        code = Family(words, 2, lambda: "Measure again.").run()
        if code:
            raise RuntimeError(f"the processes ended with code {code}")
        found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    return found


def _loopback() -> int:
    for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[0])
    raise RuntimeError("there is no loopback interface")


def _take_part(target: Path, problem: Problem) -> None:
    torch.set_num_threads(1)
    ranks = join(place_of(None, None, automatic=True))
    rom, parts = _rom(problem)
    x = field_tensor(parts.train, rom.schema, rom.normaliser)

    def bytes_of(work: Callable[[], Any]) -> int:
        ranks.meet()
        begin = _loopback()
        work()
        ranks.meet()
        return _loopback() - begin

    def stage(steps: int) -> int:
        told = Problem(**{**asdict(problem), "steps": steps})
        return bytes_of(lambda: _stage_seconds(rom, x, told, ranks))

    steps = statistics.median((stage(25) - stage(5)) / 20 for _ in range(3))
    shape = (problem.points,) * problem.ndim
    held = mock_snapshots(problem.ndim, trajectories=TRAJECTORIES, times=TIMES, shape=shape)
    fields, c = field_tensor(held, rom.schema, rom.normaliser), parameter_tensor(held, rom.schema, rom.scaling)
    calibration = bytes_of(lambda: calibrate(rom, fields, c, 0, lambda *args: None, ranks=ranks))
    if ranks.first:
        counted = arithmetic_of(rom.vae)
        weights = counted.encoder.weights + counted.mean.weights
        found = {
            "weights": weights,
            "step_bytes": steps,
            "predicted_step_bytes": 2 * 4 * weights,
            "step_ratio": steps / (8 * weights),
            "calibration_bytes": calibration,
        }
        target.write_text(json.dumps(found), encoding="utf-8")
    ranks.meet()


def on_disk(shape: tuple[int, ...], trajectories: int, times: int) -> dict[str, Any]:
    """Bytes of a store of snapshots and of a saved model, against those of their numbers."""
    from romvae.data import write_snapshots

    data = mock_snapshots(len(shape), trajectories=trajectories, times=times, shape=shape)
    rom = ROM.for_data(data, latent=8)
    with tempfile.TemporaryDirectory() as folder:
        store, model = Path(folder) / "a.zarr", Path(folder) / "model"
        write_snapshots(data, store)
        rom.save(model)
        stored, saved = (sum(p.stat().st_size for p in each.rglob("*") if p.is_file()) for each in (store, model))
    weights = 4 * sum(value.numel() for value in rom.state_dict().values())
    return {
        "numbers_bytes": data["u"].nbytes,
        "store_bytes": stored,
        "store_ratio": stored / data["u"].nbytes,
        "weights_bytes": weights,
        "checkpoint_bytes": saved,
        "checkpoint_ratio": saved / weights,
    }


def tables() -> dict[str, Callable[[], dict[str, Any]]]:
    """Rows of the table `traffic`."""
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for name, ndim, points in (("1-D 256", 1, 256), ("2-D 32", 2, 32), ("2-D 64", 2, 64), ("3-D 16", 3, 16)):
        found[f"two processes, {name}"] = partial(between, ndim, points)
        found[f"disk, {name}"] = partial(on_disk, (points,) * ndim, 8, 16)
    return found


if __name__ == "__main__":
    _take_part(Path(sys.argv[1]), Problem(**json.loads(sys.argv[2])))
