"""Rollouts on disk: one file per finished trajectory, whoever computes it; the store appears when all are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from romvae.atomic import check_target, require_space
from romvae.baselines.model import BaselineModel
from romvae.calibration import Interval, warn_beyond
from romvae.canonical import blocks
from romvae.data import open_snapshots, write_snapshots
from romvae.errors import ConfigError, DataError
from romvae.forecast import Propagation, Request
from romvae.lock import locked
from romvae.progress import Progress, silent
from romvae.schema import TIME, TRAJECTORY
from romvae.studies.rollouts import Rollouts
from romvae.studies.starts import Starts, crossed, outside
from romvae.tasks.folder import WorkFolder
from romvae.tasks.shards import DamagedShardError, Shard
from romvae.trust import HORIZON, horizon_of, predicted_error, require_whole

if TYPE_CHECKING:
    from romvae.baselines.model import Model
    from romvae.rom import ROM

__all__ = ["checked", "rollout_to"]

_OTHER_BYTES, _READ_BYTES = 2**20, 2**23


def rollout_to(
    out: Path | str,
    model: Model,
    start: xr.Dataset | Starts,
    steps: int | None = None,
    members: int = 32,
    seed: int = 0,
    level: float = 0.9,
    *,
    controls: xr.Dataset | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    skip_failed: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    propagation: Propagation = "members",
    times: Sequence[float] | None = None,
    fields: Sequence[str] | None = None,
    region: Mapping[str, tuple[float, float]] | None = None,
    interval: Interval = "point",
    share: float = 0.9,
    tolerance: float | None = None,
    keep_members: bool = False,
) -> Path:
    """Forecasts any number of trajectories into a store; called again after any end, it adds what is missing.

    The values are those of `model.rollout` on one thread, bit for bit and for any number of workers. Finished
    trajectories are kept in `OUT.partial` until the store is whole, one file each.

    Arguments:
        out: Store to write, `.zarr`, `.h5` or `.nc`.
        model: A trained ROM, or a fitted baseline.
        start: Initial fields with their parameters, one per trajectory, lazily opened if they are many; or what
            `romvae.studies.starts` makes of a design.
        steps: Stored steps; None takes those of a training trajectory.
        members: Members of each forecast.
        seed: Seed of the members; those of a trajectory depend on it and on its position.
        level: Nominal coverage of the intervals.
        controls: As in `ROM.rollout`.
        workers: Processes, one thread each. Each loads the model once.
        scheduler: Address of a Dask scheduler, or `local`; needs `pip install 'romvae[dask]'`. Workers that see the
            folder write their trajectories themselves; others send them here.
        skip_failed: Write the store without trajectories that diverged, which are not tried again.
        overwrite: Replace a store that is there, once the new one is whole, and give up other work in `OUT.partial`.
        progress: Called as `progress(stage, done, total, note)`.
        propagation: As in `ROM.rollout`, and so are the following three; of a ROM only. `auto` is decided once, from
            the same few trajectories whatever is missing and however many workers there are.
        times: Which of the times are wanted.
        fields: Which of the fields.
        region: Which part of the grid.
        interval: What the interval is to hold, as in `ROM.rollout`; of a ROM only.
        share: That share.
        tolerance: As in `ROM.rollout`; the store has `trust_horizon` as a coordinate, as its variables are fields.
        keep_members: Adds what every member decodes to, as in `ROM.rollout`; of a ROM only.

    Returns:
        The path of the store.

    Raises:
        ConfigError, SchemaError, DataError: As `ROM.rollout`.
        NumericsError: Trajectories diverged; all others are kept.
        OutputError: The store exists, the disk is full, or other work was begun or goes on there.
    """
    out = Path(out)
    given: Starts = crossed(start, model.schema, None, controls) if isinstance(start, xr.Dataset) else start
    ask = Request(
        steps=model.steps_ahead if steps is None else steps,
        members=members,
        seed=seed,
        level=level,
        propagation=propagation,
        times=times,
        fields=fields,
        region=region,
        interval=interval,
        share=share,
        keep_members=keep_members,
    )
    checked(ask, workers)
    if keep_members and isinstance(model, BaselineModel):
        raise ConfigError(f"rollout: {model.name} is a baseline, which has no members. Leave keep_members out.")
    if tolerance is not None:
        if isinstance(model, BaselineModel):
            raise ConfigError(f"rollout: {model.name} is a baseline, which has no trust horizon. Leave tolerance out.")
        require_whole(propagation, times, fields, region)
        model.trust.threshold(tolerance, level)
    warn_beyond(model.calibration, ask.steps)
    rollouts = Rollouts.of(model, given, ask, None, workers, scheduler, progress or silent)
    if not isinstance(start, xr.Dataset):
        outside(given, model.schema)
    work, facts = WorkFolder(out, "rollout"), {**rollouts.facts(), "tolerance": tolerance}
    if work.found() == facts and not overwrite and _is_whole(work, rollouts):  # killed just before its last act
        with locked(work.path, "rolls out"):
            work.remove()
        return out
    check_target(out, overwrite)
    require_space(out, 2 * rollouts.nbytes - work.kept_bytes() + _OTHER_BYTES)
    work.make()

    def write(shards: dict[int, Shard]) -> None:
        rollouts.report("write", 0, 1)
        made = rollouts.dataset(shards)
        if tolerance is not None and not isinstance(model, BaselineModel):
            made = made.assign_coords({HORIZON: _horizon(model, made, tolerance, level)})
        write_snapshots(made, out, overwrite=overwrite)
        rollouts.report("write", 1, 1)

    with locked(work.path, "rolls out"):
        try:
            work.begin(facts, overwrite)
            rollouts.complete(work, write, skip_failed)
            work.remove()
        except BaseException:
            work.remove_if_empty()
            raise
    return out


def checked(ask: Request, workers: int) -> None:
    """Refuses numbers that make no sense before anything is computed."""
    for name, value in (("steps", ask.steps), ("members", ask.members), ("workers", workers)):
        if value < 1:
            raise ConfigError(f"rollout: {name} is {value}, expected 1 or more. Choose a positive number.")


def _horizon(rom: ROM, made: xr.Dataset, tolerance: float, level: float) -> xr.DataArray:
    """Trust horizons of forecasts on disk, of which a few times of a trajectory are read at once."""
    spread = made[[f"{name}_std" for name in rom.schema.field_names]]
    size = max(1, _READ_BYTES // sum(spread[name].isel({TRAJECTORY: 0, TIME: 0}).nbytes for name in spread))
    errors = np.empty((spread.sizes[TRAJECTORY], spread.sizes[TIME]), np.float32)
    for i in range(len(errors)):
        for k in range(0, errors.shape[1], size):
            part = spread.isel({TRAJECTORY: slice(i, i + 1), TIME: slice(k, k + size)})
            errors[i, k : k + size] = predicted_error(rom, part).values[0]
    error = xr.DataArray(errors, {TIME: made[TIME]}, (TRAJECTORY, TIME))
    return horizon_of(rom, error, tolerance, level)


def _is_whole(work: WorkFolder, rollouts: Rollouts) -> bool:
    """Whether the store is there and holds all trajectories of the work folder, value by value."""
    paths = list(work.shards())
    expected = set(range(len(rollouts.starts.labels))) - {failure.index for failure in work.failures()}
    if not work.out.exists() or {int(path.stem) for path in paths} != expected:
        return False
    try:
        with open_snapshots(work.out, check=False) as ds:
            if ds.sizes[TRAJECTORY] != len(paths):
                return False
            for place, path in enumerate(paths):
                shard, stored = Shard.read(path), ds.isel({TRAJECTORY: place})
                if not all(_same(stored[[name]], shard, name) for name in rollouts.names):
                    return False
    except (DataError, DamagedShardError, KeyError):
        return False
    return True


def _same(stored: xr.Dataset, shard: Shard, name: str) -> bool:
    parts = (chosen[TIME] for chosen in blocks(stored, name))
    return all(
        np.array_equal(
            stored[name].isel({TIME: part}).transpose(TIME, ...).values, shard.values(name, part.start, part.stop)
        )
        for part in parts
    )
