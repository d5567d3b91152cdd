"""How fast the first training stage is: beside a bare loop of the same network, and in several processes.

Run as a module it is one of the processes of `measure`, and writes its figures to a file.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from romvae.data import split
from romvae.distributions import divergence, reparameterise
from romvae.errors import QualityError
from romvae.kinds import LOSS_DEFAULTS, Precision
from romvae.launch import place_of
from romvae.ranks import ALONE, Ranks, join
from romvae.rom import ROM
from romvae.supervision import Family
from romvae.symmetry import Symmetry
from romvae.tensors import field_tensor
from romvae.testing import mock_snapshots
from romvae.training.compression import mean_training
from romvae.training.fit import fit
from romvae.training.runner import StageOptions, run_stage
from romvae.training.session import Session

__all__ = ["Problem", "measure"]

_WARM = 3
"""Steps before the clock starts."""


@dataclass(frozen=True)
class Problem:
    """What is trained: the networks' default sizes on smooth fields.

    Arguments:
        ndim: Dimensions of the grid.
        points: Grid points along each.
        batch_size: Snapshots per step.
        steps: Steps between two looks at the clock.
        turns: How often the sides of a ratio take turns; medians are taken over them.
        seed: Of data, weights and order.
        precision: Of the convolutions.
        compiled: Whether `torch.compile` makes the networks of the training; the bare loop is never compiled.
    """

    ndim: int = 2
    points: int = 64
    batch_size: int = 128
    steps: int = 20
    turns: int = 5
    seed: int = 0
    precision: Precision = "float32"
    compiled: bool = False


class _Clock(Callback):
    """Process time and wall clock between two steps of a training."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.begin = self.end = (0.0, 0.0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        if trainer.global_step == self.first:
            self.begin = _now()
        if trainer.global_step == self.last:
            self.end = _now()

    @property
    def per_step(self) -> tuple[float, float]:
        count = self.last - self.first
        return (self.end[0] - self.begin[0]) / count, (self.end[1] - self.begin[1]) / count


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def measure(problem: Problem, processes: int = 2) -> dict[str, Any]:
    """Training step beside a bare loop, start-up, and throughput of several processes beside one, one thread each.

    Arguments:
        problem: What is trained.
        processes: How many share a batch in the last comparison; 1 leaves it out.

    Returns:
        JSON types: seconds per step, and ratios.

    Raises:
        QualityError: The processes could not be measured.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found: dict[str, Any] = {"problem": asdict(problem), "start_up": _start_up(problem)}
        found["step"] = _beside_bare_loop(problem)
    finally:
        torch.set_num_threads(threads)
    if processes > 1:
        found["processes"] = _several(problem, processes)
    return found


def _data(problem: Problem) -> xr.Dataset:
    shape = (problem.points,) * problem.ndim
    return mock_snapshots(problem.ndim, trajectories=12, times=32, shape=shape)


def _rom(problem: Problem, data: xr.Dataset | None = None) -> tuple[ROM, Any]:
    parts = split(_data(problem) if data is None else data, seed=problem.seed)
    return ROM.for_data(parts.train, latent=8, seed=problem.seed), parts


def _start_up(problem: Problem) -> dict[str, float]:
    """Seconds from data in memory to the end of the first step: statistics, POD, networks, Trainer."""

    class _Done(Exception):  # noqa: N818
        pass

    def first_step(*args: Any) -> None:
        raise _Done

    data = _data(problem)
    cpu, wall = _now()
    rom, parts = _rom(problem, data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(rom, parts, vae_steps=1, batch_size=problem.batch_size, progress=first_step, device="cpu")
    except _Done:
        pass
    end = _now()
    return {"cpu_s": end[0] - cpu, "wall_s": end[1] - wall}


def _beside_bare_loop(problem: Problem) -> dict[str, Any]:
    """The stage as `romvae.fit` runs it, and a loop of the same network and optimiser with nothing around it."""
    rom, parts = _rom(problem)
    x = field_tensor(parts.train, rom.schema, rom.normaliser)
    rows: dict[str, list[tuple[float, float]]] = {"training": [], "bare": []}
    for turn in range(problem.turns):
        works: list[tuple[str, Callable[[], tuple[float, float]]]] = [
            ("training", lambda: _stage_seconds(rom, x, problem, ALONE)),
            ("bare", lambda: _bare_seconds(rom, x.flatten(0, 1), problem)),
        ]
        for name, work in works if turn % 2 == 0 else reversed(works):
            rows[name].append(work())
    found: dict[str, Any] = {
        name: {"cpu_s": statistics.median(c for c, _ in each), "wall_s": statistics.median(w for _, w in each)}
        for name, each in rows.items()
    }
    pairs = zip(rows["training"], rows["bare"], strict=True)
    found["ratio_cpu"] = statistics.median(a[0] / b[0] for a, b in pairs)
    return found


def _stage_seconds(rom: ROM, x: Tensor, problem: Problem, ranks: Ranks) -> tuple[float, float]:
    steps = problem.steps + _WARM
    stage, batches = mean_training(rom, x, LOSS_DEFAULTS, steps, 1e-4, problem.batch_size, Symmetry(), problem.seed)
    stage.digits, stage.compiled = problem.precision, problem.compiled
    clock = _Clock(_WARM, steps)
    options = StageOptions(callbacks=[clock])
    run_stage(stage, batches, rom, Session(None, {}), "cpu", lambda *args: None, options, ranks)
    return clock.per_step


def _bare_seconds(rom: ROM, x: Tensor, problem: Problem) -> tuple[float, float]:
    vae, steps = rom.vae, problem.steps + _WARM
    weights = [*vae.encoder.parameters(), *vae.decoder.mean.parameters()]
    optimiser = torch.optim.AdamW(weights, 1e-4, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-4, total_steps=steps + 1)
    generator = torch.Generator().manual_seed(problem.seed)
    vae.train()
    begin = _now()
    for step in range(steps):
        if step == _WARM:
            begin = _now()
        batch = x[torch.randint(len(x), (min(problem.batch_size, len(x)),), generator=generator)]
        q = vae.encoder(batch)
        z = reparameterise(q, torch.randn(len(batch), vae.latent, generator=generator))
        loss = divergence(q, vae.prior()).sum(-1).mean() - vae.decoder.log_likelihood(batch, z)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1e3)
        optimiser.step()
        schedule.step()
    end = _now()
    return (end[0] - begin[0]) / problem.steps, (end[1] - begin[1]) / problem.steps


def _several(problem: Problem, processes: int) -> dict[str, Any]:
    """One process and several, in turns within one run: the first one works alone while the others wait for it."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "found.json"
        command = [sys.executable, "-m", "romvae.training.speed", str(target), json.dumps(asdict(problem))]
        code = Family(command, processes, lambda: "Measure again.").run()
        if code or not target.is_file():
            raise QualityError(f"bench-train: the {processes} processes ended with code {code}. See their messages.")
        found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    return found


def _take_part(target: Path, problem: Problem) -> None:
    torch.set_num_threads(1)
    ranks = join(place_of(None, None, automatic=True))
    rom, parts = _rom(problem)
    x = field_tensor(parts.train, rom.schema, rom.normaliser)
    rows = []
    for _ in range(problem.turns):
        alone = _stage_seconds(rom, x, problem, ALONE)[1] if ranks.first else 0.0
        ranks.meet()
        together = max(ranks.gathered(_stage_seconds(rom, x, problem, ranks)[1]))
        rows.append((alone, together))
    if ranks.first:
        alone, together = (statistics.median(row[k] for row in rows) for k in (0, 1))
        ratio = statistics.median(one / several for one, several in rows)
        found = {"processes": ranks.size, "one_wall_s": alone, "several_wall_s": together, "speed_up": ratio}
        target.write_text(json.dumps(found), encoding="utf-8")
    ranks.meet()


if __name__ == "__main__":
    _take_part(Path(sys.argv[1]), Problem(**json.loads(sys.argv[2])))
