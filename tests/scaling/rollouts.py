"""Rollouts: against the bare decoder, by part, and over steps, members and trajectories."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import xarray as xr

import romvae
from romvae import pieces, rollout
from romvae.cost.rollouts import decoder_seconds
from romvae.rom import ROM
from romvae.studies import blocks
from tests.scaling.clock import in_turns
from tests.scaling.networks import rom_on

__all__ = ["against_decoder", "by_part", "lines", "started", "tables"]


def started(shape: tuple[int, ...], trajectories: int) -> tuple[ROM, xr.Dataset]:
    """A ROM with random heads, so that members differ, and initial fields."""
    rom, data = rom_on(shape, trajectories=trajectories, times=2 if trajectories > 1 else 4)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for network in (rom.vae.decoder.mean, rom.vae.decoder.log_var):
            weight = network.head.conv.weight
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator) / weight.shape[1] ** 0.5)
    return rom, data.isel(time=0)


def rolled(rom: ROM, start: xr.Dataset, **told: Any) -> xr.Dataset:
    """A rollout that warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rom.rollout(start, **told)


def against_decoder(shape: tuple[int, ...], trajectories: int, steps: int, turns: int) -> dict[str, Any]:
    """64 members against the bare decoder for the same frames, and means alone against the bare mean decoder.

    Each turn rolls out sixteen trajectories, the block in which any number of them are rolled out.
    """
    members = 64
    rom, start = started(shape, trajectories)
    frames = members * trajectories * (steps + 1)
    works: dict[str, Callable[[], Any]] = {
        "rollout": lambda: rolled(rom, start, steps=steps, members=members),
        "decoder": lambda: decoder_seconds(rom, frames),
    }
    alone: dict[str, Callable[[], Any]] = {
        "mean": lambda: rolled(rom, start, steps=steps, propagation="mean"),
    }
    rolled(rom, start, steps=2, members=members)
    found = in_turns(works, turns, warm=False)
    ratios = sorted(a / b for a, b in zip(found["rollout"], found["decoder"], strict=True))
    more = in_turns(alone, 3, warm=False)
    mean_decoder = sorted(decoder_seconds(rom, trajectories * (steps + 1), variance=False) for _ in range(3))[1]
    middle = {name: sorted(each)[len(each) // 2] for name, each in {**found, **more}.items()}
    return {
        "members": members,
        "trajectories": trajectories,
        "steps": steps,
        "turns": turns,
        "frames": frames,
        "rollout_us": 1e6 * middle["rollout"] / frames,
        "decoder_us": 1e6 * middle["decoder"] / frames,
        "ratio": ratios[len(ratios) // 2],
        "worst_ratio": ratios[-1],
        "mean_only_ratio": middle["mean"] / mean_decoder,
        "mean_over_members": middle["mean"] / middle["rollout"],
    }


@contextmanager
def _timed(found: dict[str, float], part: str, owner: Any, name: str) -> Iterator[None]:
    original = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = time.process_time()
        try:
            return original(*args, **kwargs)
        finally:
            found[part] = found.get(part, 0.0) + time.process_time() - begin

    with mock.patch.object(owner, name, timed):
        yield


def by_part(shape: tuple[int, ...], trajectories: int, steps: int, members: int = 64) -> dict[str, Any]:
    """Share of each part in the process time of rollouts to disk."""
    rom, start = started(shape, trajectories)
    vae, found = rom.vae, dict[str, float]()
    parts = [
        ("encode", vae.encoder, "forward"),
        ("latent steps", rom.dynamics, "rollout"),
        ("decode members", vae.decoder, "moments_of"),
        ("decode the networks' paths", vae.decoder, "mean_of"),
        ("pool members", rollout, "mixture_moments"),
        ("calibrate, to units", pieces, "_physical"),
        ("write", blocks.ShardWriter, "put"),
    ]
    kept = mock.patch.object(blocks, "unpacked", return_value=rom)  # the model whose parts are timed
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), kept, _all(found, parts):
        warnings.simplefilter("ignore")
        begin = time.process_time()
        romvae.rollout_to(Path(folder) / "a.zarr", model=rom, start=start, steps=steps, members=members)
        whole = time.process_time() - begin
    shares = {part: found.get(part, 0.0) / whole for part, _, _ in parts}
    return {"seconds": whole, **shares, "checksums, store and the rest": 1 - sum(shares.values())}


@contextmanager
def _all(found: dict[str, float], parts: list[tuple[str, Any, str]]) -> Iterator[None]:
    if not parts:
        yield
        return
    with _timed(found, *parts[0]), _all(found, parts[1:]):
        yield


def seconds_of(steps: int, members: int, trajectories: int) -> dict[str, Any]:
    """Microseconds per frame of a rollout in 1-D with 256 points, the median of three."""
    rom, start = started((256,), trajectories)
    rolled(rom, start, steps=2, members=members)
    works = {"rollout": lambda: rolled(rom, start, steps=steps, members=members)}
    each = sorted(in_turns(works, 3, warm=False)["rollout"])[1]
    frames = (steps + 1) * members * trajectories
    return {"frames": frames, "seconds": each, "us_per_frame": 1e6 * each / frames}


def tables() -> dict[str, Callable[[], dict[str, Any]]]:
    """Rows of the table `rollout`."""
    return {
        "1-D 256": partial(against_decoder, (256,), 16, 200, 4),
        "2-D 64": partial(against_decoder, (64, 64), 16, 6, 3),
        "parts, 1-D 256": partial(by_part, (256,), 16, 50),
        "parts, 2-D 64": partial(by_part, (64, 64), 16, 10),
    }


def lines() -> dict[str, Callable[[], dict[str, Any]]]:
    """Rows of the table `linear`."""
    found = {f"steps {n}": partial(seconds_of, n, 8, 8) for n in (25, 50, 100, 200)}
    found |= {f"members {n}": partial(seconds_of, 25, n, 8) for n in (8, 16, 32, 64)}
    return found | {f"trajectories {n}": partial(seconds_of, 25, 8, n) for n in (4, 8, 16, 32, 64)}
