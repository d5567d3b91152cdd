"""Learns the signal of an alarm from the ROM's own forecasts of trajectories that are known; no solver takes part."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from romvae.alarm_signal import VARIANCE, Signal, SignalKind, held_out, learned, rank_correlation
from romvae.calibration import trajectories_needed
from romvae.canonical import TRAJECTORY, canonical
from romvae.errors import AssumptionWarning, ConfigError, DataError
from romvae.hybrid_run import WINDOW, HybridRun
from romvae.physics.penalty import PhysicsFunction
from romvae.physics.residual import Conserved, Residual
from romvae.ragged import even_snapshots

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["FEWEST", "MOST", "learned_signal", "parted", "readings"]

FEWEST, MOST = 4, 64
"""Trajectories that a signal is learned on: each of the groups of `romvae.alarm_signal.FOLDS` holds one or more."""

EVERY = 3
"""Of so many trajectories one is learned on where none are given for that."""

Parts = dict[str, NDArray[np.float64]]


def parted(data: xr.Dataset, kind: SignalKind, level: float) -> tuple[xr.Dataset, xr.Dataset]:
    """Trajectories to calibrate the alarm on, and every third, which the signal is learned on.

    Raises:
        DataError: Too few are left for the level.
    """
    n = data.sizes.get(TRAJECTORY, 1)
    apart = np.arange(n) % EVERY == EVERY - 1
    rest = n - int(apart.sum())
    if rest < trajectories_needed(level):
        raise DataError(
            f"calibrate_alarm: {n} trajectories, of which the signal {kind!r} is learned on {n - rest}, leave {rest}, "
            f"expected at least {trajectories_needed(level)} for the level {level:g}. Give "
            "learning=parts.variance, use more trajectories, or signal='variance'."
        )
    return data.isel({TRAJECTORY: ~apart}), data.isel({TRAJECTORY: apart})


def learned_signal(
    rom: ROM,
    data: xr.Dataset,
    parameters: Mapping[str, Tensor],
    kind: SignalKind,
    residual: PhysicsFunction | Residual | Conserved | None,
) -> Signal:
    """The signal of a kind, or that of which the predicted errors rank the true ones best.

    What a kind ranks is measured on trajectories that its weights were not fitted on, over all trajectories and times.

    Arguments:
        rom: Trained.
        data: Trajectories, of which up to 64 are used.
        parameters: Name to physical values `(trajectory,)`, for the residual.
        kind: See `romvae.hybrid.calibrate_alarm`.
        residual: Of the equation; None where it is not known.

    Raises:
        ConfigError: The kind is unknown, or asks for a residual that is not known.
        DataError: There are too few trajectories, or none of the parts rises with the error.

    Warns:
        AssumptionWarning: `ranks` or `auto` go without a residual, which is not known.
    """
    if kind == "residual" and residual is None:
        raise ConfigError(
            "calibrate_alarm: signal is 'residual', but no equation is known for this solver. Give "
            "residual=function(fields, grid, parameters, dt), or use signal='ranks'."
        )
    data = even_snapshots(canonical(data))
    count = data.sizes.get(TRAJECTORY, 1)
    if count < FEWEST:
        raise DataError(
            f"calibrate_alarm: {count} trajectories to learn the signal {kind!r} on, expected at least {FEWEST}. "
            "Use more, or signal='variance'."
        )
    if residual is None:
        warnings.warn(
            f"calibrate_alarm: no equation is known for this solver; the signal {kind!r} goes without a residual. "
            "Give residual=function(fields, grid, parameters, dt).",
            AssumptionWarning,
            stacklevel=3,
        )
    parts, variance, true = readings(rom, data.isel({TRAJECTORY: slice(0, MOST)}), parameters, residual)
    chosen = {"ranks": parts, "residual": {n: v for n, v in parts.items() if n.startswith("residual")}}
    tried = {"variance": rank_correlation(variance, true)}
    for name, some in chosen.items():
        found = held_out(name, some, true) if some else None
        if found is not None:
            tried[name] = rank_correlation(found, true)
    best = max(tried, key=lambda name: np.nan_to_num(tried[name], nan=-np.inf)) if kind == "auto" else kind
    signal = VARIANCE if best == "variance" else learned(best, chosen[best], true)
    physics = residual if any(name.startswith("residual") for name in signal.parts) else None
    return replace(signal, correlations=tuple(tried.items()), residual=physics)


@torch.no_grad()
def readings(
    rom: ROM,
    data: xr.Dataset,
    parameters: Mapping[str, Tensor],
    residual: PhysicsFunction | Residual | Conserved | None,
) -> tuple[Parts, NDArray[np.float64], NDArray[np.float64]]:
    """Rollouts of the ROM from the first fields, beside the truth.

    Arguments:
        rom: Trained.
        data: Whole trajectories.
        parameters: As in `learned_signal`.
        residual: As there.

    Returns:
        The parts of signals by name, the calibrated standard deviation, and the true error, each `(trajectory, time)`
        without the first time.
    """
    x, c = rom.normalised(data)
    x = x.cpu()
    run = HybridRun(rom, [], c, np.inf, 1, None, signal=Signal("ranks", residual=residual), parameters=parameters)
    rows, steps = np.arange(len(x)), x.shape[1] - 1
    if steps < 2:
        raise DataError(f"calibrate_alarm: trajectories of {steps + 1} times, expected at least 3. Use longer ones.")
    flight, _ = run.launched(rows, x[:, 0])
    parts: dict[str, list[NDArray[np.float64]]] = {}
    variance, true = [], []
    while flight.lead < steps:
        lead = flight.lead
        found = run.stretch(flight, min(WINDOW * rom.dynamics.stride, steps - lead))
        variance.append(found.variance)
        true.append(np.asarray(run.size(found.mean - x[:, lead + 1 : lead + 1 + found.mean.shape[1]]).numpy()))
        for name, values in found.parts.items():
            parts.setdefault(name, []).append(values)
        flight = found.after
    joined = {name: np.concatenate(values, 1) for name, values in parts.items()}
    return joined, np.concatenate(variance, 1), np.concatenate(true, 1)
