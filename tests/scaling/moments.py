"""Moments instead of members on a trained ROM: what they cost, and how far their standard deviations are off."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from romvae.agreement import agreement, sampled
from romvae.data import open_snapshots
from romvae.first_order import leading_directions, linear_moments, tangents
from romvae.forecast import Inputs
from romvae.rollout import Moments, forecast_moments, latent_members
from romvae.rom import ROM
from tests.scaling.clock import median_seconds
from tests.scaling.rollouts import rolled

__all__ = ["on_trained"]

REFERENCE = 1024
"""Members that the others are compared with: their standard deviations are good to 2.2 %, and their mean to 3 %."""


def on_trained(model: Path, data: Path, trajectories: int = 8, turns: int = 3) -> dict[str, Any]:
    """Process time of `mean`, `linear`, 16 and 64 members over that of 64, and errors of linear and 64 members.

    Errors are root mean squares over the points, relative to the reference's: the mean of trajectories, the start, a
    quarter, half and all of the steps, and of three seeds for the members.

    Arguments:
        model: Folder of the ROM.
        data: Store whose last trajectories are rolled out for as many steps as the ROM was trained for.
        trajectories: How many.
        turns: Rollouts of each kind, which take turns.
    """
    rom = ROM.load(model)
    with open_snapshots(data) as snapshots:
        n = snapshots.sizes["trajectory"]
        start = snapshots.isel(time=0, trajectory=slice(n - trajectories, n)).load()
    told: dict[str, dict[str, Any]] = {
        "mean": {"propagation": "mean"},
        "linear": {"propagation": "linear"},
        "16": {"members": 16},
        "64": {"members": 64},
    }
    seconds = median_seconds({k: lambda k=k: rolled(rom, start, **told[k]) for k in told}, turns)  # type: ignore[misc]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, c = rom.normalised(start)
    given = Inputs(x[:, -1], c, None, None)
    found = agreement(rom, given[sampled(trajectories)], [0, rom.steps // 2, rom.steps], rom.vae.decoder)
    return {
        "grid": " x ".join(map(str, rom.schema.grid.shape)),
        "fields": len(rom.schema.fields),
        "latent": rom.vae.latent,
        "steps": rom.steps,
        **{f"{name}_ratio": value / seconds["64"] for name, value in seconds.items() if name != "64"},
        "members_s": seconds["64"],
        "agreement": found.error,
        **_errors(rom, given),
    }


@torch.no_grad()
def _errors(rom: ROM, given: Inputs) -> dict[str, Any]:
    leads = torch.tensor([0, rom.steps // 4, rom.steps // 2, rom.steps])
    start = (rom.vae, rom.dynamics, given.x0, given.c, rom.steps)

    def members(number: int, seed: int) -> list[Moments]:
        return list(forecast_moments(rom.vae, latent_members(*start, number, seed), leads))

    expected = members(REFERENCE, 99)
    directions = leading_directions(rom.vae, tangents(*start)[1]).decoded
    some = [_off(members(64, seed), expected) for seed in range(3)]
    first = _off(list(linear_moments(*start, leads)), expected)
    names = ("std", "std_dynamics", "mean")
    return {
        "directions": float(directions.double().mean()),
        **{f"linear_{name}": first[k] for k, name in enumerate(names)},
        **{f"members_{name}": sum(each[k] for each in some) / len(some) for k, name in enumerate(names)},
    }


def _off(found: list[Moments], expected: list[Moments]) -> tuple[float, float, float]:
    """Error of the standard deviation, of its part by the dynamics, and of the mean over the standard deviation."""

    def whole(moments: list[Moments], name: str) -> Tensor:
        return torch.cat([getattr(each, name) for each in moments]).double()

    def rms(values: Tensor) -> Tensor:
        return values.flatten(2).square().mean(2).sqrt()

    mean, decoder, dynamics = (
        [whole(each, n) for each in (found, expected)] for n in ("mean", "decoder_var", "dynamics_var")
    )
    std = [(a + b).sqrt() for a, b in zip(decoder, dynamics, strict=True)]
    size = rms(std[1])
    return (
        float((rms(std[0] - std[1]) / size).mean()),
        float((rms(dynamics[0].sqrt() - dynamics[1].sqrt()) / rms(dynamics[1].sqrt())).mean()),
        float((rms(mean[0] - mean[1]) / size).mean()),
    )
