"""A forecast of which only numbers are kept: quantities of interest, and how large an error it expects of itself.

Fields pass through memory a few lead times at once, so that neither the number of steps nor that of trajectories
counts; what is not asked for in time is not decoded.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from romvae.calibration import calibrated_steps
from romvae.canonical import CONVENTIONS
from romvae.distributions import mixture_moments
from romvae.forecast import BLOCK, Request, checked_inputs, naming_outside
from romvae.grading import initial_grades
from romvae.quantities import quantity_forecast, quantity_variables
from romvae.rollout import Moments, calibrated, decoded_members, latent_members
from romvae.schema import TIME, TRAJECTORY
from romvae.start import start_time
from romvae.trust import predicted_error

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["PREDICTED", "leads_of", "reduced_forecast", "together_reduced"]

PREDICTED = "predicted_error"
_VALUES = 2**24  # of decoded members at once; grids of up to 16,384 values are decoded as `ROM.rollout` does


def together_reduced(rom: ROM, members: int) -> int:
    """Trajectories of a block; it follows from the sizes alone, as bits depend on it."""
    values = members * len(rom.schema.fields) * math.prod(rom.schema.grid.shape)
    return max(1, min(BLOCK, 2 ** int(math.log2(max(1, _VALUES // values)))))


def leads_of(steps: int, every: int) -> np.ndarray:
    """The stored steps that are looked at: 0, every so many, and the last one."""
    return np.unique(np.append(np.arange(0, steps + 1, every), steps))


@torch.no_grad()
def reduced_forecast(
    rom: ROM, start: xr.Dataset, ask: Request, every: int = 1, controls: xr.Dataset | None = None
) -> xr.Dataset:
    """What `ROM.rollout` says of some quantities, without its fields.

    Arguments:
        rom: Calibrated for the quantities.
        start: As in `ROM.rollout`, with trajectories; they are rolled out in one block.
        ask: What is wanted; members only.
        every: Stored steps between two times that are looked at.
        controls: As in `ROM.rollout`.

    Returns:
        With dims `(trajectory, time)`: for each quantity its mean, `_std`, `_lower` and `_upper`, and `predicted_error`
        as `romvae.trust` has it.
    """
    given = checked_inputs(rom, start, ask, controls)
    with naming_outside(rom.schema, start, ask.first):
        path = latent_members(
            rom.vae,
            rom.dynamics,
            given.x0,
            given.c,
            ask.steps,
            ask.members,
            ask.seed,
            ask.first,
            past=given.past,
            controls=given.controls,
        )
    leads = torch.from_numpy(leads_of(ask.steps, every))
    numbers: dict[str, list[np.ndarray]] = {}
    errors = []
    grades = initial_grades(rom.vae, rom.calibration, given.x0, given.c)
    frames = min(1024, max(1, _VALUES // (len(rom.schema.fields) * math.prod(rom.schema.grid.shape))))
    for lead, mean, var in decoded_members(rom.vae, path, leads, frames):
        for name, values in quantity_forecast(rom, mean, var, ask.quantities).items():
            numbers.setdefault(name, []).append(values)
        errors.append(_expected(rom, Moments(lead, *mixture_moments(mean, var, dim=1)), ask.level, grades))
    whole = {name: np.concatenate(values, 1) for name, values in numbers.items()}
    out: dict[str, Any] = {}
    for quantity in ask.quantities:
        out |= quantity_variables(rom, quantity, [whole], ask.level, leads.tolist())
    about = {"units": "1", "long_name": "error that the forecast expects, in standard deviations of the training data"}
    out[PREDICTED] = ((TRAJECTORY, TIME), np.concatenate(errors, 1).astype(np.float64), about)
    times = start_time(start) + rom.schema.dt * leads.numpy()
    attrs = {"Conventions": CONVENTIONS, "level": ask.level, "members": ask.members, "seed": ask.seed}
    attrs["calibrated_steps"] = calibrated_steps(rom.calibration)
    return xr.Dataset(out, {TIME: (TIME, times, {"units": rom.schema.time_units})}, attrs)


def _expected(rom: ROM, moments: Moments, level: float, grades: Tensor | None) -> np.ndarray:
    """`predicted_error` of some lead times, `(trajectory, lead)`."""
    std = calibrated(moments, rom.calibration, level, grades=grades)["std"]
    std = rom.normaliser.inverse_std(std.flatten(0, 1)).reshape(std.shape).transpose(0, 1)
    dims = (TRAJECTORY, TIME, *rom.schema.grid.names)
    fields = {f"{name}_std": (dims, std[:, :, k].numpy()) for k, name in enumerate(rom.schema.field_names)}
    return np.asarray(predicted_error(rom, xr.Dataset(fields)).transpose(TRAJECTORY, TIME).values)
