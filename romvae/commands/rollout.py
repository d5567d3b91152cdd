"""`romvae rollout`: forecasts of a trained ROM from the initial fields of a store."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from romvae.commands.options import Members, Out, Overwrite, Reader, Seed
from romvae.commands.outputs import check_store
from romvae.commands.run_folder import RunFolder
from romvae.errors import AssumptionWarning, ConfigError, OutOfRangeWarning, OutputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["rollout"]


def rollout(
    run: Path,
    /,
    *,
    start: Annotated[list[Path], Parameter(consume_multiple=True)],
    out: Out,
    reader: Reader = None,
    split: Literal["train", "variance", "calibration", "test", "all"] | None = None,
    steps: int | None = None,
    members: Members = 32,
    level: float = 0.9,
    seed: Seed = 0,
    mean_only: bool = False,
    times: Annotated[list[float] | None, Parameter(consume_multiple=True)] = None,
    fields: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    region: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    overwrite: Overwrite = False,
) -> None:
    """Forecast from the first snapshot of each trajectory, with mean, spread and interval per grid point.

    Arguments:
        run: folder that romvae train wrote.
        start: store whose first snapshots are the initial fields, or a file or folder of another program. The
            trajectories of several follow each other; of the data of a run, all of them in their order.
        out: store to write: a folder NAME.zarr, or a file NAME.h5 or NAME.nc.
        split: which trajectories; by default test for the data of the run, and all for other data.
        steps: number of time steps; by default those of a training trajectory.
        level: probability that the interval is meant to cover.
        mean_only: the mean without spread and interval, at the cost of decoding a single code for each time.
        times: times of the forecast that are wanted, in the units of the data; by default all.
        fields: names of the fields that are wanted; by default all.
        region: part of the grid that is wanted, AXIS=LOW:HIGH for each axis that is cut, such as x=0.2:0.5.
    """
    _check_ranges(steps, members, level)
    place = region_of(region)
    check_store(out, overwrite)
    if out.resolve() in {path.resolve() for path in start}:
        raise OutputError(f"{out}: is the store to start from, never replaced by its forecast. Choose another --out.")
    folder = RunFolder.open(run)
    from romvae.data import write_snapshots

    snapshots = _part(folder, start, split, reader)
    from romvae.baselines.model import BaselineModel, load_model

    rom = load_model(folder.model)
    rom.schema.check(snapshots, source=_named(start))  # with its times: their step and units have to fit as well
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # said by the check, with the name of the store
        driven = snapshots if rom.schema.controls else None
        told: dict[str, Any] = {"times": times or None, "fields": fields or None, "region": place}
        if mean_only:
            told["propagation"] = "mean"
        given = {name: value for name, value in told.items() if value is not None}
        if given and isinstance(rom, BaselineModel):
            raise ConfigError(
                f"{run}: is a baseline ({rom.name}), which gives whole forecasts. Leave out --mean-only, --times, "
                "--fields and --region."
            )
        forecast = rom.rollout(
            snapshots.isel(time=0), steps=steps, members=members, seed=seed, level=level, controls=driven, **given
        )
        warnings.simplefilter("ignore", AssumptionWarning)
        write_snapshots(forecast, out, overwrite=overwrite)
    count = rom.steps if steps is None else steps
    print(f"{out}: {snapshots.sizes['trajectory']} forecasts of {count} steps")


def _check_ranges(steps: int | None, members: int, level: float) -> None:
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps = {steps}: should be at least 1.")
    if not 1 <= members <= 10000:
        raise ConfigError(f"--members = {members}: should be between 1 and 10000.")
    if not 0 < level < 1:
        raise ConfigError(f"--level = {level}: should be between 0 and 1, such as 0.9.")


def region_of(words: Sequence[str] | None) -> dict[str, tuple[float, float]] | None:
    """`x=0.2:0.5` as two ends by axis; None for none.

    Raises:
        ConfigError: A word is not of this form.
    """
    found = {}
    for word in words or ():
        axis, equals, ends = word.partition("=")
        try:
            low, high = (float(end) for end in ends.split(":"))
        except ValueError:
            equals = ""
        if not equals or not axis:
            raise ConfigError(f"--region = {word}: expected AXIS=LOW:HIGH, such as x=0.2:0.5.")
        found[axis] = low, high
    return found or None


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def _part(run: RunFolder, paths: Sequence[Path], split: str | None, reader: str | None) -> xr.Dataset:
    snapshots, own = run.opened(paths, reader)
    if split == "all" or (split is None and not own):
        return snapshots
    record = run.data()
    if own:
        return record.select(snapshots, split or "test", _named(paths))
    raise ConfigError(
        f"--split = {split}: {_named(paths)} is not the data of this run ({_named(record.paths)}), so none of its "
        "trajectories belong to a part. Use --split all."
    )
