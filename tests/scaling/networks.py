"""Networks alone: what a frame and a training step take on a grid, by part, compiled, and in fewer digits."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from romvae.boundary import boundaries_to_json
from romvae.canonical import SPACE
from romvae.cost.arithmetic import arithmetic_of
from romvae.distributions import divergence, reparameterise
from romvae.memory import snapshots_at_once
from romvae.nn.compilable import Compilable, compiled
from romvae.nn.precision import in_precision
from romvae.ranks import ALONE
from romvae.rom import ROM
from romvae.tensors import field_tensor
from romvae.testing import mock_snapshots
from romvae.training.batches import SnapshotBatches, step_generator
from romvae.training.speed import Problem, _stage_seconds, _start_up
from romvae.training.step_memory import kept_bytes
from tests.scaling.clock import median_seconds

__all__ = ["compiled", "fewer_digits", "on_grid", "rom_on", "start_up", "step_by_part"]

LATENT = 8


def rom_on(
    shape: tuple[int, ...],
    trajectories: int = 3,
    times: int = 4,
    fields: tuple[str, ...] = ("u",),
    sides: str = "periodic",
) -> tuple[ROM, xr.Dataset]:
    """An untrained ROM of default sizes with its local variance switched on, and its data."""
    data = mock_snapshots(len(shape), fields, trajectories, times=times, shape=shape)
    data.attrs["boundary_conditions"] = boundaries_to_json(dict.fromkeys(SPACE[-len(shape) :], (sides, sides)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rom = ROM.for_data(data, latent=LATENT)
    rom.vae.decoder.local.fill_(True)
    return rom.eval(), data


def on_grid(shape: tuple[int, ...], turns: int = 7) -> dict[str, Any]:
    """Microseconds per frame of decoding (mean and variance), the mean alone and encoding; milliseconds of a step."""
    rom, data = rom_on(shape)
    vae, points = rom.vae, rom.schema.grid.points
    frames, batch = min(64, snapshots_at_once(points)), max(2, min(128, 2**18 // points))
    z, x = torch.randn(frames, vae.latent), torch.randn(frames, 1, *shape)
    with torch.no_grad():
        seconds = median_seconds(
            {
                "decode": lambda: vae.decoder.moments_of(z),
                "mean": lambda: vae.decoder.mean_of(z),
                "encode": lambda: vae.encoder(x).mean,
            },
            turns,
        )
    snapshots = field_tensor(data, rom.schema, rom.normaliser).flatten(0, 1)
    snapshots = snapshots.repeat(-(-batch // len(snapshots)), *[1] * (len(shape) + 1))[:batch]
    problem = Problem(batch_size=batch, steps=4)
    steps = sorted(_stage_seconds(rom, snapshots[None], problem, ALONE)[0] for _ in range(3))
    counted = arithmetic_of(vae)
    return {
        "points": points,
        "frames": frames,
        "batch": batch,
        **{f"{name}_us": 1e6 * value / frames for name, value in seconds.items()},
        "step_ms": 1e3 * steps[1],
        "decode_macs": counted.decoder.multiply_adds,
        "decode_moved": counted.decoder.moved,
        "mean_macs": counted.mean.multiply_adds,
        "mean_moved": counted.mean.moved,
        "encode_macs": counted.encoder.multiply_adds,
        "encode_moved": counted.encoder.moved,
        "weights": counted.encoder.weights + counted.mean.weights,
        "kept_bytes": kept_bytes(vae),
    }


def _loss(rom: ROM, x: Tensor, noise: Tensor) -> Tensor:
    q = rom.vae.encoder(x)
    z = reparameterise(q, noise)
    return divergence(q, rom.vae.prior()).sum(-1).mean() - rom.vae.decoder.log_likelihood(x, z)


def step_by_part(shape: tuple[int, ...], batch: int, turns: int = 15) -> dict[str, Any]:
    """Milliseconds of each part of a training step, and of the whole step in Lightning's loop."""
    rom, data = rom_on(shape, trajectories=12, times=32)
    vae = rom.vae
    vae.decoder.local.fill_(False)
    x = field_tensor(data, rom.schema, rom.normaliser)
    source = SnapshotBatches(x.flatten(0, 1), batch, 1000, 0, noise=(1, vae.latent))
    weights = [*vae.encoder.parameters(), *vae.decoder.mean.parameters()]
    optimiser = torch.optim.AdamW(weights, 1e-4, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    found: dict[str, list[float]] = {}
    for step in range(turns + 2):
        last = time.process_time()

        def lap(name: str) -> None:
            nonlocal last
            now = time.process_time()
            found.setdefault(name, []).append(now - last)
            last = now

        taken = source.batch(step_generator(0, "snapshots", step), step)
        lap("data")
        q = vae.encoder(taken["x"])
        z = reparameterise(q, taken["noise"][:, 0])
        lap("encoder")
        mean = vae.decoder.decoded(z)
        lap("decoder")
        loss = divergence(q, vae.prior()).sum(-1).mean() - vae.decoder.profiled(taken["x"] - mean)
        lap("loss")
        optimiser.zero_grad()
        loss.backward()
        lap("backward")
        torch.nn.utils.clip_grad_norm_(weights, 1e3)
        optimiser.step()
        lap("optimiser")
    parts = {f"{name}_ms": 1e3 * sorted(each[2:])[turns // 2] for name, each in found.items()}
    stages = sorted(_stage_seconds(rom, x, Problem(batch_size=batch, steps=8), ALONE)[0] for _ in range(3))
    whole = 1e3 * stages[1]
    return {"batch": batch, **parts, "sum_ms": sum(parts.values()), "whole_ms": whole}


@contextmanager
def _compiled() -> Iterator[Callable[[Any], Any]]:
    torch._dynamo.reset()
    try:
        yield torch.compile
    finally:
        torch._dynamo.reset()


def compilation(
    shape: tuple[int, ...], fields: tuple[str, ...], sides: str, batch: int = 64, turns: int = 9
) -> dict[str, Any]:
    """Eager against `torch.compile`, the decoder at inference and a training step, and what compiling takes."""
    rom, _ = rom_on(shape, fields=fields, sides=sides)
    vae = rom.vae
    z = torch.randn(batch, vae.latent)
    x = torch.randn(batch, len(rom.schema.fields), *rom.schema.grid.shape)

    def both(z: Tensor) -> tuple[Tensor, Tensor]:
        return vae.decoder.mean(z), vae.decoder.log_var(z)

    def passes(x: Tensor, noise: Tensor) -> Tensor:
        q = vae.encoder(x)
        return (vae.decoder.mean(q.mean + q.stddev * noise) - x).square().mean()

    def step(on: bool) -> None:
        vae.zero_grad()
        for part, one_pass in made.items():
            part._compiled = one_pass if on else None
        passes(x, z).backward()

    with _compiled() as compile_it, compiled([vae]):
        made = {part: part._compiled for part in vae.modules() if isinstance(part, Compilable)}
        decode = compile_it(both)
        begin = time.process_time()
        with torch.no_grad():
            decode(z)
        compile_decode = time.process_time() - begin
        begin = time.process_time()
        step(True)
        compile_train = time.process_time() - begin
        with torch.no_grad():
            decoded = median_seconds({"eager": lambda: both(z), "compiled": lambda: decode(z)}, turns)
        trained = median_seconds({"eager": lambda: step(False), "compiled": lambda: step(True)}, turns)
    return {
        "eager_us": 1e6 * decoded["eager"] / batch,
        "compiled_us": 1e6 * decoded["compiled"] / batch,
        "ratio": decoded["compiled"] / decoded["eager"],
        "compile_s": compile_decode,
        "step_eager_us": 1e6 * trained["eager"] / batch,
        "step_compiled_us": 1e6 * trained["compiled"] / batch,
        "step_ratio": trained["compiled"] / trained["eager"],
        "step_compile_s": compile_train,
    }


def fewer_digits(
    shape: tuple[int, ...], fields: tuple[str, ...], sides: str, batch: int = 64, turns: int = 9
) -> dict[str, Any]:
    """The decoder in bf16 against float32: time, and the largest error of mean and standard deviation it makes.

    Errors are in standard deviations of the field; the head, which starts at zero, is drawn at random before.
    """
    rom, _ = rom_on(shape, fields=fields, sides=sides)
    decoder = rom.vae.decoder
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for network in (decoder.mean, decoder.log_var):
            weight = network.head.conv.weight
            weight.copy_(torch.randn(weight.shape, generator=generator) / weight.shape[1] ** 0.5)
    z = torch.randn(batch, rom.vae.latent, generator=generator)

    def reduced() -> tuple[Tensor, Tensor]:
        with in_precision([decoder], "bf16"):
            return decoder.moments_of(z)

    with torch.no_grad():
        seconds = median_seconds({"float32": lambda: decoder.moments_of(z), "bf16": reduced}, turns)
        exact, rounded = decoder.moments_of(z), reduced()
    scale = exact[0].std()
    return {
        "float32_us": 1e6 * seconds["float32"] / batch,
        "bf16_us": 1e6 * seconds["bf16"] / batch,
        "ratio": seconds["bf16"] / seconds["float32"],
        "error_of_mean": float((exact[0] - rounded[0]).square().mean().sqrt() / scale),
        "error_of_std": float((exact[1].sqrt() / rounded[1].sqrt()).log().abs().mean()),
    }


def start_up(shape: tuple[int, ...], turns: int = 3) -> dict[str, Any]:
    """Seconds of process time from data in memory to the end of the first training step, libraries imported before."""
    problem = Problem(ndim=len(shape), points=shape[0])
    return {"seconds": sorted(_start_up(problem)["cpu_s"] for _ in range(turns))[turns // 2]}
