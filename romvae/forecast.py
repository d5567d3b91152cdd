"""A forecast as an xarray Dataset on the snapshots' own dims, in physical units."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from romvae.errors import ConfigError, DataError, FewMembersWarning, SchemaError
from romvae.rollout import calibrated, forecast_moments, latent_members
from romvae.schema import LATENT, TIME, TRAJECTORY, Schema

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["check_names", "forecast"]

FEW_MEMBERS = 8
"""With fewer members than this a forecast warns that its spread is not to be trusted."""
BLOCK = 16
"""Trajectories rolled out at once; bounds the memory."""
KINDS = ("", "_std", "_std_decoder", "_std_dynamics", "_lower", "_upper")
"""What is appended to a field's name: mean, total standard deviation, its two parts, ends of the interval."""


@torch.no_grad()
def forecast(rom: ROM, start: xr.Dataset, steps: int, members: int, seed: int, level: float) -> xr.Dataset:
    """Forecasts every trajectory of `start`, block by block; see `ROM.rollout` for arguments, result and errors."""
    _check(start, steps, members, level)
    single = TRAJECTORY not in start.dims
    x, c = rom.normalised(start)
    _finite(x, rom.schema)
    pieces = [
        _block(rom, x[i : i + BLOCK, 0], c[i : i + BLOCK], steps, members, seed, level, i)
        for i in range(0, len(x), BLOCK)
    ]
    schema = rom.schema
    dims = (TRAJECTORY, TIME, *schema.grid.names)
    out: dict[str, Any] = {LATENT: ((TRAJECTORY, TIME, LATENT), np.concatenate([p[LATENT] for p in pieces]))}
    for field in schema.fields:
        for kind in KINDS:
            values = np.concatenate([piece[field.name + kind] for piece in pieces])
            out[field.name + kind] = (dims, values, {"units": field.units})
    t0 = float(np.asarray(start[TIME].values).reshape(-1)[0]) if TIME in start.coords else 0.0
    times = t0 + schema.dt * np.arange(steps + 1)
    coords: dict[str, Any] = {**rom.space(), TIME: (TIME, times, {"units": schema.time_units})}
    if TRAJECTORY in start.coords:
        coords[TRAJECTORY] = start[TRAJECTORY].variable if not single else (TRAJECTORY, [int(start[TRAJECTORY])])
    for name in schema.parameter_names:
        coords[name] = (TRAJECTORY, np.asarray(start[name].values).reshape(-1), start[name].attrs)
    attrs: dict[str, Any] = {
        "Conventions": "CF-1.11 romvae-1",
        "level": level,
        "members": members,
        "seed": seed,
        "calibration_trajectories": int(rom.calibration.trajectories),
    }
    if "boundary_conditions" in start.attrs:
        attrs["boundary_conditions"] = start.attrs["boundary_conditions"]
    result = xr.Dataset(out, coords, attrs)
    return result.isel({TRAJECTORY: 0}) if single else result


def _block(
    rom: ROM, x0: Tensor, c: Tensor, steps: int, members: int, seed: int, level: float, first: int
) -> dict[str, np.ndarray]:
    """Forecast of a block of trajectories as arrays `(trajectory, time, *space)`, by the name of the variable."""
    path = latent_members(rom.vae, rom.dynamics, x0, c, steps, members, seed, first)
    shape = (steps + 1, len(x0), *rom.schema.grid.shape)
    out = {f + kind: np.empty(shape, np.float32) for f in rom.schema.field_names for kind in KINDS}
    for moments in forecast_moments(rom.vae, path, torch.arange(steps + 1)):
        stds = calibrated(moments, rom.calibration, level)
        mean = rom.normaliser.inverse(moments.mean.flatten(0, 1)).reshape(moments.mean.shape)
        total, decoder, dynamics, half = (rom.normaliser.inverse_std(s.flatten(0, 1)).reshape(s.shape) for s in stds)
        rows = moments.lead.numpy()
        for k, f in enumerate(rom.schema.field_names):
            parts = (mean, total, decoder, dynamics, mean - half, mean + half)
            for kind, values in zip(KINDS, parts, strict=True):
                out[f + kind][rows] = values[:, :, k].numpy()
    result = {name: np.swapaxes(values, 0, 1) for name, values in out.items()}
    result[LATENT] = path.mean(1).transpose(0, 1).numpy()
    return result


def _check(start: xr.Dataset, steps: int, members: int, level: float) -> None:
    for name, value in (("steps", steps), ("members", members)):
        if value < 1:
            raise ConfigError(f"rollout: {name} is {value}, expected 1 or more. Choose a positive number.")
    if not 0 < level < 1:
        raise ConfigError(f"rollout: level is {level}, expected between 0 and 1. Choose 0.9, for example.")
    if TIME in start.dims and start.sizes[TIME] != 1:
        raise DataError(
            f"rollout: start holds {start.sizes[TIME]} times, expected one. Select the one to start from, "
            "start.isel(time=0)."
        )
    if members < FEW_MEMBERS:
        warnings.warn(
            f"rollout: {members} members say little about the spread of a forecast, and its interval was "
            "calibrated with 16. Use 16 or more for the uncertainty; the mean is fine.",
            FewMembersWarning,
            stacklevel=4,
        )


def check_names(schema: Schema) -> None:
    """Refuses fields whose names are those of another field's uncertainty: one would replace the other."""
    names = [f + kind for f in schema.field_names for kind in KINDS] + [LATENT]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaError(
            f"field {twice[0]!r} has the name of a variable of the forecast ({', '.join(KINDS[1:])} are "
            "appended to the fields' names). Rename the field in the data."
        )


def _finite(x: Tensor, schema: Schema) -> None:
    bad = (~x.isfinite()).nonzero()
    if len(bad):
        trajectory, _, channel, *space = (int(i) for i in bad[0])
        place = ", ".join(f"{d}={i}" for d, i in zip(schema.grid.names, space, strict=True))
        raise DataError(
            f"rollout: start field {schema.field_names[channel]!r} is not finite at trajectory={trajectory}, {place}. "
            "Repair the initial field."
        )
