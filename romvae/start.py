"""What a forecast starts from: the initial field, earlier fields for dynamics with memory, and the controls.

A ROM's choice `given` says how many fields, a large step apart, its forecasts start from; that takes `start_times`
stored times. Whatever is measured of forecasts of whole trajectories (calibration, trust, comparison) starts from the
first so many times and looks at what follows.
"""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from romvae.canonical import N_STEPS
from romvae.errors import ConfigError, DataError, OtherStartWarning, SchemaError, caller_level
from romvae.schema import TIME, TRAJECTORY
from romvae.tensors import control_tensor

if TYPE_CHECKING:
    from romvae.baselines.model import Model
    from romvae.rom import ROM

__all__ = [
    "after_start",
    "check_history",
    "check_start",
    "controls_for",
    "history_of",
    "require_ahead",
    "split_start",
    "start_of",
    "start_time",
]


def check_start(start: Any, **counts: Any) -> None:
    """Refuses what is no Dataset, and counts that are no whole numbers from 1 on.

    Arguments:
        start: What a forecast is to start from.
        counts: Numbers by name, such as `steps`.

    Raises:
        ConfigError: The message says what was found.
    """
    if not isinstance(start, xr.Dataset):
        raise ConfigError(
            f"rollout: start is a {type(start).__name__}, expected an xarray Dataset with fields, grid and parameters. "
            "Give data.isel(time=0) of snapshots, or build them with romvae.schema.snapshots."
        )
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ConfigError(f"rollout: {name} is {value!r}, expected a whole number. Choose one, 1 or more.")
        if value < 1:
            raise ConfigError(f"rollout: {name} is {value}, expected 1 or more. Choose a positive number.")


def check_history(rom: ROM, start: xr.Dataset) -> None:
    """Raises where `start` holds more times than the dynamics looks back on.

    Raises:
        DataError: It does; the message says how to select them.
    """
    times = start.sizes.get(TIME, 1)
    most = (rom.dynamics.window - 1) * rom.dynamics.stride + 1
    if times == 0 or times > most:
        expected, advice = "one", "the one to start from, start.isel(time=0)"
        if most > 1:
            expected, advice = f"1 to {most}", f"the last ones, start.isel(time=slice(-{most}, None))"
        raise DataError(f"rollout: start holds {times} times, expected {expected}. Select {advice}.")
    stride, given = rom.dynamics.stride, int(rom.choices["given"])
    fields = 1 + (times - 1) // stride
    if fields != given and rom.calibration.fitted:
        warnings.warn(
            f"rollout: start gives {_counted(fields)}, but intervals and trust horizon of this ROM are those of "
            f"forecasts from {_counted(given)}. Start from {rom.start_times} stored times, or train with "
            f"given={fields}",
            OtherStartWarning,
            stacklevel=caller_level(),
        )


def _counted(fields: int) -> str:
    return "one field" if fields == 1 else f"{fields} fields a large step apart"


def require_ahead(model: Model, times: int, where: str) -> None:
    """Raises where trajectories hold no time after those that a forecast starts from.

    Raises:
        DataError: They do not.
    """
    least = model.start_times
    if least > 1 and times <= least:
        raise DataError(
            f"{where}: trajectories hold {times} times, but forecasts start from the first {least} (given, a large "
            f"step apart) and at least one has to follow. Take trajectories of {least + 1} times or more (romvae pack "
            f"--min-steps {least + 1}), or lower given or stride."
        )


def start_of(model: Model, ds: xr.Dataset) -> xr.Dataset:
    """What forecasts of whole trajectories start from: their first time, or the first `start_times`."""
    return ds.isel({TIME: 0 if model.start_times == 1 else slice(0, model.start_times)})


def after_start(model: Model, ds: xr.Dataset) -> xr.Dataset:
    """Whole trajectories from the initial field of their forecasts on: what these are held against.

    Raises:
        DataError: No time follows, in one trajectory or in all.
    """
    begin = model.start_times - 1
    if begin == 0:
        return ds
    require_ahead(model, ds.sizes[TIME], "forecast")
    if N_STEPS not in ds.coords:
        return ds.isel({TIME: slice(begin, None)})
    steps = ds[N_STEPS].variable
    require_ahead(model, int(steps.values.min()), "forecast")
    left = (TRAJECTORY, steps.values - begin, steps.attrs)
    return ds.isel({TIME: slice(begin, None)}).assign_coords({N_STEPS: left})


def split_start(rom: ROM, x: Tensor) -> tuple[Tensor | None, Tensor]:
    """Normalised trajectories as `history_of` their start, and the fields from the initial one on.

    Arguments:
        rom: The model.
        x: Normalised fields `(trajectory, time, channel, *space)`.
    """
    times = rom.start_times
    return history_of(rom, x[:, :times]), x[:, times - 1 :]


def start_time(start: xr.Dataset) -> float:
    """Time of the initial field, the last one of `start`; 0 where it has no time."""
    return float(np.asarray(start[TIME].values).reshape(-1)[-1]) if TIME in start.coords else 0.0


def history_of(rom: ROM, x: Tensor) -> Tensor | None:
    """Normalised fields before the last one, a large step apart, oldest first; None where there are none.

    Arguments:
        rom: The model.
        x: Normalised fields `(trajectory, time, channel, *space)`.
    """
    chosen = torch.arange(x.shape[1] - 1, -1, -rom.dynamics.stride).flip(0)[:-1]
    return x[:, chosen] if len(chosen) else None


def controls_for(rom: ROM, start: xr.Dataset, controls: xr.Dataset | None, steps: int) -> Tensor | None:
    """Normalised controls at the times of a forecast, `(trajectory, steps + 1, control)`; None where there are none.

    Arguments:
        rom: The model.
        start: What the forecast starts from; its time, and its trajectories where the controls differ by trajectory.
        controls: Holds the controls at the times of the forecast.
        steps: Stored steps to forecast.

    Raises:
        SchemaError: Controls are missing, have no value at one of the times, or belong to other trajectories.
    """
    names = ", ".join(rom.schema.control_names)
    if not rom.schema.controls:
        if controls is not None:
            raise SchemaError("rollout: controls were given, but this ROM was trained without any. Leave them out")
        return None
    if controls is None:
        raise SchemaError(
            f"rollout: this ROM is driven by {names}, whose values are needed at the times of the forecast. Give "
            "controls=, a Dataset that holds them"
        )
    chosen = controls[[name for name in rom.schema.control_names if name in controls]]
    rom.schema.check_controls(chosen, "rollout: ")
    wanted = start_time(start) + rom.schema.dt * np.arange(steps + 1)
    known = np.asarray(chosen[TIME].values, dtype=np.float64)
    nearest = np.abs(known[None, :] - wanted[:, None]).argmin(1)
    off = np.abs(known[nearest] - wanted) > 1e-6 * rom.schema.dt * np.maximum(1, np.arange(steps + 1))
    if off.any():
        raise SchemaError(
            f"rollout: controls have no value at time {wanted[off][0]:.10g}, step {int(np.argmax(off))} of {steps}. "
            f"Give {names} up to time {wanted[-1]:.10g}, or forecast fewer steps"
        )
    chosen = chosen.isel({TIME: nearest})
    count = start.sizes.get(TRAJECTORY, 1)
    own = TRAJECTORY in chosen.dims
    if own and TRAJECTORY in start.coords and TRAJECTORY in chosen.coords:
        labels = np.atleast_1d(start[TRAJECTORY].values)
        missing = ~np.isin(labels, chosen[TRAJECTORY].values)
        if missing.any():
            raise SchemaError(f"rollout: controls have no trajectory {labels[missing][0]}. Give those of start")
        chosen = chosen.sel({TRAJECTORY: labels})
    elif own and chosen.sizes[TRAJECTORY] not in (1, count):
        raise SchemaError(
            f"rollout: controls hold {chosen.sizes[TRAJECTORY]} trajectories, start holds {count}. Give those of start"
        )
    values = control_tensor(chosen, rom.schema, rom.control_scaling)
    return None if values is None else values.expand(count, -1, -1)
