"""A run far beyond the training horizon: whether it stays bounded, and whether its statistics are those of the data.

For chaotic flows, whose forecasts part from the truth whatever the model, and whose statistics should not. Of a flow
that decays or passes by, the statistics of a long run say nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from romvae.baselines.model import BaselineModel
from romvae.canonical import canonical
from romvae.comparison.passing import portions
from romvae.errors import ConfigError, DivergedError, FewMembersWarning
from romvae.forecast import Course, Request
from romvae.metrics import FieldStatistics, attractor_differences
from romvae.ragged import even_snapshots
from romvae.schema import TIME, TRAJECTORY
from romvae.start import start_of, start_time

if TYPE_CHECKING:
    from romvae.baselines.model import Model
    from romvae.rom import ROM

__all__ = ["LEAST", "STARTS", "check_steps", "long_run", "long_run_scores"]

LEAST, STARTS = 10, 4
"""Steps of a run of which a tenth can be left out, and held-out trajectories from which a comparison starts."""
SETTLING, POINTS = 10, 64
"""The first tenth is left out of the statistics; values of each snapshot that stand for the distribution."""


def check_steps(steps: int | None) -> None:
    """Refuses a run that is too short to leave its beginning out.

    Raises:
        ConfigError: Fewer than ten steps.
    """
    if steps is not None and steps < LEAST:
        raise ConfigError(
            f"compare: long_run is {steps}, expected {LEAST} steps or more, of which the first tenth is not counted. "
            "Choose many times the length of a training trajectory."
        )


def long_run_scores(
    model: Model, test: xr.Dataset, train: xr.Dataset | None, steps: int | None, seed: int
) -> dict[str, Any]:
    """`long_run` of a comparison, or why there is none; empty where none was asked for.

    Arguments:
        model: What was compared.
        test: Held-out trajectories, of which the first few are started from.
        train: Trajectories whose statistics count beside theirs; None leaves it at the held-out ones.
        steps: Stored steps; None asks for no run.
        seed: Seed of the rollout.

    Returns:
        `{"long_run": ...}` with what `long_run` gives, or with `not_measured`, the reason.
    """
    if steps is None:
        return {}
    if isinstance(model, BaselineModel):
        return {"long_run": {"not_measured": "it is a baseline, which forecasts the times of its training"}}
    if model.schema.controls:
        return {"long_run": {"not_measured": "the ROM is driven by controls, which end with the data"}}
    data = [test] if train is None else [test, canonical(train)]
    return {"long_run": long_run(model, data, test.isel({TRAJECTORY: slice(0, STARTS)}), steps, seed)}


def long_run(rom: ROM, data: Sequence[xr.Dataset], starts: xr.Dataset, steps: int, seed: int) -> dict[str, Any]:
    """Statistics of one member far beyond the training horizon beside those of the data.

    Both pass through memory some snapshots at a time. Every start follows one network of the ensemble, from the mean
    of its code.

    Arguments:
        rom: A trained ROM.
        data: Trajectories on the attractor; of several Datasets, all count together.
        starts: Held-out trajectories, from whose first fields the runs start.
        steps: Stored steps; the first tenth is left out of the statistics.
        seed: Seed of the rollout.

    Returns:
        `steps`, `time` (their length in the data's units) and `trajectories`; all that
        `romvae.metrics.attractor_differences` gives, `bounded` among it; and with several Datasets
        `data_spectrum_error` and `data_std_error`, by which the first of them differs from all: what chance leaves
        open. Of runs that diverge only `bounded`, false, and `diverged_at_step`, the first stored step at which one
        did.
    """
    names = list(rom.schema.field_names)
    found: dict[str, Any] = {
        "steps": steps,
        "time": steps * rom.schema.dt,
        "trajectories": starts.sizes[TRAJECTORY],
    }
    try:
        run = _run(rom, starts, steps, seed)
    except DivergedError as error:
        return {**found, "bounded": False, "diverged_at_step": error.step}
    first, every = _empty(rom), _empty(rom)
    for k, each in enumerate(map(even_snapshots, data)):
        for rows in portions(each, names):
            some = each[names].isel({TRAJECTORY: rows}).load()
            for name in names:
                values = some[name].transpose(TRAJECTORY, TIME, *rom.schema.grid.names).values
                every[name].add(values)
                if k == 0 and len(data) > 1:
                    first[name].add(values)
    found |= attractor_differences(run, every)
    if len(data) > 1:
        chance = attractor_differences(first, every)
        found |= {f"data_{name}": chance[name] for name in ("spectrum_error", "std_error")}
    return found


def _run(rom: ROM, starts: xr.Dataset, steps: int, seed: int) -> dict[str, FieldStatistics]:
    """Of the settled part of the runs, by field."""
    start = start_of(rom, starts)
    times = start_time(start) + rom.schema.dt * np.arange(steps // SETTLING, steps + 1)
    ask = Request(steps=steps, members=1, seed=seed, times=times.tolist())
    found = _empty(rom, tail=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewMembersWarning)  # its spread is not looked at
        course = Course.of(rom, start, ask)
    for rows, piece in course.pieces():
        for name, each in found.items():
            each.add(piece.values[name], block=rows.start)
    return found


def _empty(rom: ROM, tail: bool = False) -> dict[str, FieldStatistics]:
    return {name: FieldStatistics(rom.mask, POINTS, tail) for name in rom.schema.field_names}
