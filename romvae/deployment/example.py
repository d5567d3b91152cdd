"""The inputs that an exported ROM is traced, checked and shown with: of real trajectories, or of decoded codes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from romvae.canonical import snapshots
from romvae.deployment.programs import Plan
from romvae.deployment.whole import OUTPUTS
from romvae.errors import FewMembersWarning, OtherStartWarning, OutOfRangeWarning
from romvae.forecast import BLOCK, KINDS
from romvae.ragged import existing, ragged_lengths
from romvae.rollout import initial_noise, step_noise
from romvae.schema import LATENT, TIME, TRAJECTORY

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["Example", "drawn_noise", "example_of", "expected"]

COUNT = 3
"""Trajectories of the example: more than two, since a size of one or two is easily taken for a constant."""


@dataclass(frozen=True)
class Example:
    """What forecasts of the example start from.

    Arguments:
        start: Canonical; as many times as the dynamics looks back on, the last one to start from.
        driven: Holds the controls at the times of the forecast; None without controls.
        source: Where it comes from, in words.
    """

    start: xr.Dataset
    driven: xr.Dataset | None
    source: str

    def inputs(self, rom: ROM, plan: Plan, looking_back: bool = False) -> dict[str, NDArray[Any]]:
        """Inputs of the whole rollout by name, fields and parameters in physical units."""
        schema, start = rom.schema, self.start
        n = start.sizes[TRAJECTORY]
        dims = (TRAJECTORY, TIME, *schema.grid.names)
        u = np.stack([np.asarray(start[f].transpose(*dims).values, np.float64) for f in schema.field_names], 2)
        found: dict[str, NDArray[Any]] = {"fields": u[:, -1]}
        found |= drawn_noise(rom, plan, n)
        if schema.parameters:
            found["parameters"] = np.stack([np.asarray(start[p].values, np.float64) for p in schema.parameter_names], 1)
        if self.driven is not None:
            found["controls"] = _controls(rom, self.driven, n)[:, : plan.steps + 1]
        if looking_back:
            found["earlier"] = u[:, : -1 : rom.dynamics.stride]
        order = ("fields", "noise", "parameters", "controls", "step_noise", "earlier")
        return {name: np.ascontiguousarray(found[name]) for name in order if name in found}


def drawn_noise(rom: ROM, plan: Plan, n: int = BLOCK, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """The random numbers of `ROM.rollout` with this seed for its first n trajectories, as inputs of the rollout.

    `noise` is `(member, trajectory, latent)`, and with stochastic dynamics `step_noise` is
    `(large step, member, trajectory, latent)`; a single member draws nothing.
    """
    if plan.members == 1:
        return {}
    dynamics = rom.dynamics
    rounds = plan.rounds(dynamics.members)
    drawn = {"noise": initial_noise(dynamics, rounds, n, seed, 0).flatten(0, 1)[: plan.members].numpy()}
    if dynamics.stochastic:
        each = step_noise(dynamics, plan.steps, rounds, n, seed, 0).unflatten(2, (rounds, n))
        drawn["step_noise"] = each.transpose(1, 2).flatten(1, 2)[:, : plan.members].numpy()
    return drawn


def example_of(rom: ROM, data: xr.Dataset | None, plan: Plan) -> Example:
    """An example from the beginning of some trajectories, or from random codes where there are no data that serve.

    Arguments:
        rom: The model.
        data: Canonical trajectories on the ROM's grid, or None.
        plan: Its steps say how long controls have to be.
    """
    times = (rom.dynamics.window - 1) * rom.dynamics.stride + 1
    needed = times + (plan.steps if rom.schema.controls else 0)
    if data is not None and data.sizes[TIME] >= needed:
        lengths = ragged_lengths(data)
        long = np.arange(data.sizes[TRAJECTORY])
        if lengths is not None:
            long = np.flatnonzero(existing(lengths, data.sizes[TIME])[:, :needed].all(1))
        if len(long):
            rows = np.resize(long, COUNT)  # fewer trajectories than that are taken again
            chosen = data.isel({TRAJECTORY: rows, TIME: slice(0, needed)}).load()
            chosen = chosen.assign_coords({TRAJECTORY: np.arange(COUNT)})
            if rom.mask is not None:
                outside = xr.DataArray(~rom.mask, dims=rom.schema.grid.names)
                chosen = chosen.assign({f: chosen[f].where(~outside, 0.0) for f in rom.schema.field_names})
            return _example(rom, chosen, times, "the first snapshots of trajectories that were given")
    return _example(rom, _made_up(rom, needed), times, "decoded random codes, since no data were at hand")


def expected(rom: ROM, plan: Plan, example: Example, looking_back: bool = False) -> dict[str, NDArray[Any]]:
    """What `ROM.rollout` gives for the example, in the shapes of the exported rollout's outputs."""
    start = example.start if looking_back else example.start.isel({TIME: slice(-1, None)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        warnings.simplefilter("ignore", FewMembersWarning)
        warnings.simplefilter("ignore", OtherStartWarning)  # said by the card
        result = rom.rollout(
            start,
            plan.steps,
            plan.members,
            level=plan.level,
            interval=plan.interval,
            share=plan.share,
            controls=example.driven,
        )
    names = rom.schema.field_names
    out = {o: np.stack([result[f + kind].values for f in names], 2) for o, kind in zip(OUTPUTS, KINDS, strict=True)}
    return {**out, "latent": result[LATENT].values}


def _example(rom: ROM, ds: xr.Dataset, times: int, source: str) -> Example:
    start = ds.isel({TIME: slice(0, times)}).drop_vars(list(rom.schema.control_names), errors="ignore")
    driven = ds.isel({TIME: slice(times - 1, None)}) if rom.schema.controls else None
    return Example(start, driven, source)


def _controls(rom: ROM, driven: xr.Dataset, n: int) -> NDArray[np.float64]:
    """Controls `(trajectory, time, control)` in physical units."""
    each = []
    for name in rom.schema.control_names:
        dims = [dim for dim in (TRAJECTORY, TIME) if dim in driven[name].dims]
        values = np.asarray(driven[name].transpose(*dims).values, np.float64)
        each.append(np.broadcast_to(values, (n, driven.sizes[TIME])))
    return np.stack(each, -1)


@torch.no_grad()
def _made_up(rom: ROM, times: int) -> xr.Dataset:
    """Trajectories of decoded random codes, parameters within the training range, controls that sweep theirs."""
    schema, generator = rom.schema, torch.Generator().manual_seed(0)
    z = 0.5 * torch.randn(COUNT, 1, rom.vae.latent, generator=generator)
    z = z * (1 + 0.01 * torch.arange(times)[:, None])
    x = torch.cat([rom.vae.decoder(part).mean for part in z.flatten(0, 1).split(16)])
    u = rom.normaliser.inverse(x).unflatten(0, (COUNT, times)).numpy()
    place = torch.linspace(0.25, 0.75, COUNT).double().numpy()
    units = {f.name: f.units for f in schema.fields} | {p.name: p.units for p in schema.parameters}
    units |= {a.name: a.units for a in schema.grid.axes} | {TIME: schema.time_units}
    ds = snapshots(
        {f.name: u[:, :, k] for k, f in enumerate(schema.fields)},
        {a.name: np.asarray(a.coordinates) for a in schema.grid.axes},
        schema.dt * np.arange(times),
        {p.name: p.low + place * (p.high - p.low) for p in schema.parameters},
        {a.name: (a.lower, a.upper) for a in schema.grid.axes},
        units,
    )
    sweep = 0.5 + 0.5 * np.sin(2 * np.pi * np.arange(times) / 10)
    for control in schema.controls:
        values = np.broadcast_to(control.low + sweep * (control.high - control.low), (COUNT, times))
        ds[control.name] = ((TRAJECTORY, TIME), values, {"romvae_role": "forcing", "units": control.units})
    return ds
