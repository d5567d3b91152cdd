"""A parameter study: a design of parameters, rolled out from initial fields, and a table of quantities of interest.

    found = romvae.study(rom, start, n=256, design="sobol", quantities=["max:u", "probe:u@x=0.3"])
    found["u_maximum_upper"].isel(time=-1)

| in the folder | is |
|---|---|
| `table.csv`, `table.json` | a row per rollout: parameters, quantities with their intervals, trust horizon, flags |
| `study.nc` | the same at all times, for xarray |
| `study.svg` | each quantity against each parameter, with intervals |
| `fields.zarr` | where fields are kept: the rollouts themselves |
"""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from romvae.atomic import atomic_folder, check_target, require_space
from romvae.baselines.model import BaselineModel
from romvae.calibration import warn_beyond
from romvae.data import write_snapshots
from romvae.errors import ConfigError, FewTrajectoriesWarning
from romvae.forecast import Request
from romvae.lock import locked
from romvae.progress import Progress, silent
from romvae.quantities import Quantity
from romvae.schema import TIME, TRAJECTORY
from romvae.solvers.base import Range
from romvae.solvers.sampling import Design
from romvae.studies.calibrated import calibrated_for
from romvae.studies.named import resolved
from romvae.studies.on_disk import checked
from romvae.studies.reduced import PREDICTED
from romvae.studies.rollouts import Rollouts
from romvae.studies.starts import Starts, crossed, outside, points, ranges_of
from romvae.studies.table import INTERVAL, quantities_of, reported, write_csv, write_json
from romvae.tasks.folder import WorkFolder
from romvae.tasks.shards import Shard
from romvae.trust import HORIZON, horizon_of

if TYPE_CHECKING:
    from romvae.baselines.model import Model
    from romvae.rom import ROM

__all__ = ["study"]

TABLE, ARRAYS, FIGURE, FIELDS = "table.json", "study.nc", "study.svg", "fields.zarr"
_OTHER_BYTES = 2**20


def study(
    rom: Model,
    start: xr.Dataset | Starts,
    *,
    n: int | None = None,
    design: Design = "sobol",
    ranges: Iterable[Range] = (),
    quantities: Sequence[Quantity | str] = (),
    steps: int | None = None,
    every: int = 1,
    members: int = 32,
    seed: int = 0,
    level: float = 0.9,
    tolerance: float | None = None,
    calibration: xr.Dataset | None = None,
    controls: xr.Dataset | None = None,
    at: Sequence[float] | None = None,
    keep_fields: bool = False,
    out: Path | str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    skip_failed: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Rolls out a design of parameters and says what becomes of some quantities, with calibrated intervals.

    Memory holds a few fields at a time. The values do not depend on the number of workers, and those of quantities are
    what `rom.rollout(..., quantities=...)` gives on one thread. Finished rollouts are kept in `OUT.partial`: the same
    call goes on after an interruption.

    Arguments:
        rom: A trained ROM.
        start: Initial fields, one per trajectory, or as many times as the ROM is given: with `n`, every point of the
            design starts from every one of them; without, each has its own parameters. Or what `romvae.studies.starts`
            makes.
        n: Points of the design.
        design: How they are placed: `sobol`, `latin_hypercube`, `grid` or `random`.
        ranges: Of parameters, `romvae.solvers.Range`; the trained range of those that are left out.
        quantities: By name, such as `mean:u`, `max:u` or `probe:u@x=0.3`, or as `romvae.quantities.Quantity`; mean, L2,
            maximum and minimum of every field where none is given.
        steps: Stored steps; None takes those of a training trajectory.
        every: Stored steps between two times that are looked at; the rest is not decoded.
        members: Members of each forecast; quantities are always computed from them.
        seed: Seed of design and members.
        level: Nominal coverage of the intervals.
        tolerance: Adds the trust horizon for this tolerance, see `ROM.rollout`.
        calibration: Trajectories that nothing was fitted on, on which the ROM is calibrated for quantities that it is
            not yet, and for the trust horizon; the ROM keeps that.
        controls: As in `ROM.rollout`.
        at: Times that the table reports; None for the last one.
        keep_fields: Whether to keep the rollouts themselves, as `fields.zarr`.
        out: Folder to write; None writes nothing.
        workers: Processes, one thread each.
        scheduler: Address of a Dask scheduler, or `local`; needs `pip install 'romvae[dask]'`.
        skip_failed: Leave out trajectories that diverged, which are not tried again.
        overwrite: Replace a study that is there, once the new one is whole.
        progress: Called as `progress(stage, done, total, note)`.

    Returns:
        For each quantity its mean, `_std`, `_lower` and `_upper`, `(trajectory, time)`; `trust_horizon` and
        `out_of_range`, `(trajectory,)`; parameters and `initial_field` as coordinates.

    Raises:
        ConfigError: An argument makes no sense, or a quantity is not calibrated.
        SchemaError, DataError: As `ROM.rollout`.
        NumericsError: Trajectories diverged; all others are kept.
        OutputError: The folder exists, the disk is full, or other work was begun or goes on there.

    Warns:
        OutOfRangeWarning: Parameters lie outside of the trained range.
        BeyondCalibrationWarning: There are more steps than the uncertainty was calibrated for.
        FewTrajectoriesWarning: Too few calibration trajectories stand behind an interval: it is infinite.
    """
    if isinstance(rom, BaselineModel):
        raise ConfigError(f"study: {rom.name} is a baseline, which has no calibrated quantities. Use a trained ROM.")
    if keep_fields and every != 1:
        raise ConfigError(f"study: every is {every}, but fields are kept at all times. Leave one of the two out.")
    if every < 1:
        raise ConfigError(f"study: every is {every}, expected 1 or more. Choose a positive number.")
    wanted = resolved(quantities, rom.schema)
    ask = Request(rom.steps_ahead if steps is None else steps, members, seed, level, quantities=wanted)
    checked(ask, workers)
    if workers > 1 or scheduler is not None:
        _check_sendable(wanted)
    given = _starts(rom, start, n, design, ranges, seed, controls)
    calibrated_for(rom, wanted, tolerance, calibration)
    if tolerance is not None:
        rom.trust.threshold(tolerance, level)
    warn_beyond(rom.calibration, ask.steps)
    rollouts = Rollouts(rom, given, ask, None if keep_fields else every, workers, scheduler, progress or silent)
    known = outside(given, rom.schema)
    about = {"design": design if n is not None else "as given", "tolerance": tolerance}
    finish = _Finish(rom, rollouts, known, tolerance, at, about, overwrite)
    finish.check_times()
    with TemporaryDirectory() if out is None else nullcontext(str(Path(out).parent)) as parent:
        return _made(finish, Path(parent, "study") if out is None else Path(out), skip_failed)


def _starts(
    rom: Any,
    start: xr.Dataset | Starts,
    n: int | None,
    design: Design,
    ranges: Iterable[Range],
    seed: int,
    controls: xr.Dataset | None,
) -> Starts:
    if not isinstance(start, xr.Dataset):
        return start
    ranges = list(ranges)
    if n is None and ranges:
        raise ConfigError("study: ranges were given, but no number of points. Give n too.")
    values = None if n is None else points(ranges_of(rom.schema, ranges), n, seed, design)
    return crossed(start, rom.schema, values, controls)


def _check_sendable(quantities: Sequence[Quantity]) -> None:
    for quantity in quantities:
        try:
            pickle.dumps(quantity)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"quantity {quantity.name!r}: its function cannot be sent to other processes ({error}). Write it at "
                "the top of a module that can be imported, or use workers=1."
            ) from None


def _made(finish: _Finish, out: Path, skip_failed: bool) -> xr.Dataset:
    """Computes what is missing and lets the folder appear."""
    rollouts, overwrite = finish.rollouts, finish.overwrite
    work, facts = WorkFolder(out, "study"), {**rollouts.facts(), "kind": "study"}
    if work.found() == facts and not overwrite and _is_of(out, facts):  # killed just before its last act
        with locked(work.path, "studies"):
            work.remove()
        return _read(out)
    check_target(out, overwrite)
    require_space(out, (2 if rollouts.every is None else 1) * rollouts.nbytes - work.kept_bytes() + _OTHER_BYTES)
    work.make()
    with locked(work.path, "studies"):
        try:
            work.begin(facts, overwrite)
            rollouts.complete(work, lambda shards: finish.write(shards, out, facts), skip_failed)
            work.remove()
        except BaseException:
            work.remove_if_empty()
            raise
    return _read(out)


def _is_of(out: Path, facts: dict[str, Any]) -> bool:
    """Whether a finished study is that of the work folder; it appears as a whole, so that its facts tell."""
    try:
        return bool(json.loads((out / TABLE).read_text(encoding="utf-8"))["work"] == facts)
    except (OSError, ValueError, KeyError):
        return False


def _read(out: Path) -> xr.Dataset:
    with xr.open_dataset(out / ARRAYS, engine="h5netcdf", decode_timedelta=False) as found:
        return found.load()


@dataclass(frozen=True)
class _Finish:
    """From finished rollouts to the folder."""

    rom: ROM
    rollouts: Rollouts
    outside: np.ndarray
    tolerance: float | None
    at: Sequence[float] | None
    about: dict[str, Any]
    overwrite: bool

    def check_times(self) -> None:
        """Refuses times of the table before anything is computed."""
        reported(xr.Dataset(coords={TIME: self.rollouts.times}), self.at)

    def write(self, shards: dict[int, Shard], out: Path, facts: dict[str, Any]) -> None:
        from romvae.plot import study_figure, svg

        report = self.rollouts.report
        report("write", 0, 1)
        whole = self.rollouts.dataset(shards)
        found = self._reduced(whole, shards)
        times = reported(found, self.at)
        with atomic_folder(out, self.overwrite) as folder:
            if self.rollouts.every is None:
                numbers = [name for name in found.data_vars if name in whole]  # no fields: they are in the table
                write_snapshots(whole.drop_vars(numbers), folder / FIELDS)
            found.to_netcdf(folder / ARRAYS, engine="h5netcdf")
            write_csv(found, times, folder / "table.csv")
            write_json(found, times, folder / TABLE, facts)
            (folder / FIGURE).write_bytes(svg(study_figure(found.isel({TIME: times[-1]}))))
        report("write", 1, 1)

    def _reduced(self, whole: xr.Dataset, shards: dict[int, Shard]) -> xr.Dataset:
        """Quantities, horizon and flags, in memory."""
        rom = self.rom
        names = [quantity.name + kind for quantity in self.rollouts.ask.quantities for kind in INTERVAL]
        found = whole[[*names, PREDICTED]].drop_vars(list(rom.schema.grid.names), errors="ignore").load()
        indices = sorted(shards)
        if "initial_field" not in found.coords:
            about = {"long_name": "trajectory that the initial field was taken from"}
            found = found.assign_coords(initial_field=(TRAJECTORY, self.rollouts.starts.origins[indices], about))
        attrs = {**whole.attrs, **{name: value for name, value in self.about.items() if value is not None}}
        if self.tolerance is not None:
            horizon = horizon_of(rom, found[PREDICTED], self.tolerance, self.rollouts.ask.level)
            found[HORIZON] = horizon.drop_vars(list(horizon.coords))
        flag = {"long_name": "whether a parameter lies outside of the trained range", "units": "1"}
        found["out_of_range"] = (TRAJECTORY, self.outside[indices].astype(np.int8), flag)
        for parameter in rom.schema.parameters:
            found[parameter.name].attrs |= {"trained_low": parameter.low, "trained_high": parameter.high}
        missing = len(self.rollouts.starts.labels) - len(indices)
        if missing:
            attrs["failed_trajectories"] = missing
        _warn_of_infinite(found)
        return found.assign_attrs(attrs)


def _warn_of_infinite(found: xr.Dataset) -> None:
    infinite = [name for name in quantities_of(found) if np.isinf(found[f"{name}_upper"].values).any()]
    if infinite:
        n = found[infinite[0]].attrs["calibration_trajectories"]
        warnings.warn(
            f"study: the interval of {', '.join(infinite)} is infinite: {n} calibration trajectories cannot say where "
            "a share of that size lies. Lower the level, or calibrate on more.",
            FewTrajectoriesWarning,
            stacklevel=2,
        )
