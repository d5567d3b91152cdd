"""`romvae rollout`: forecasts of a trained ROM from the initial fields of a store."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from romvae.commands.options import Members, Out, Overwrite, Quiet, Reader, Seed
from romvae.commands.outputs import check_store
from romvae.commands.planned import DesignOptions, Scheduler, SkipFailed, Workers, initial, named, part, planned
from romvae.commands.run_folder import RunFolder
from romvae.commands.trusted import PromiseOptions, ready, summary
from romvae.environment import available_cpus
from romvae.errors import AssumptionWarning, BeyondCalibrationWarning, ConfigError, OutOfRangeWarning, OutputError
from romvae.progress import terminal_progress

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["rollout"]

_NO_DESIGN = DesignOptions()
_USUAL = PromiseOptions()


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
    promises: PromiseOptions = _USUAL,
    seed: Seed = 0,
    mean_only: bool = False,
    propagation: Literal["members", "linear", "mean", "auto"] | None = None,
    times: Annotated[list[float] | None, Parameter(consume_multiple=True)] = None,
    fields: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    region: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    keep_members: bool = False,
    overwrite: Overwrite = False,
    options: DesignOptions = _NO_DESIGN,
    workers: Workers = None,
    scheduler: Scheduler = None,
    skip_failed: SkipFailed = False,
    quiet: Quiet = False,
) -> None:
    """Forecast from the first snapshot of each trajectory, with mean, spread and interval per grid point.

    With --n, --workers or --scheduler for any number of trajectories: memory holds a few of them, finished ones are
    kept in OUT.partial, and after an interruption or a kill the same command adds the rest.

    Arguments:
        run: folder that romvae train wrote.
        start: store whose first snapshots are the initial fields, or a file or folder of another program. The
            trajectories of several follow each other; of the data of a run, all of them in their order. For a run that
            was given several fields (--model.given), as many of the first ones of its own data, or of the last ones of
            other data.
        out: store to write: a folder NAME.zarr, or a file NAME.h5 or NAME.nc.
        split: which trajectories; by default test for the data of the run, and all for other data.
        steps: number of time steps; by default those of a training trajectory.
        level: probability that the interval is meant to cover, and with which the error stays below the tolerance
            until the trust horizon.
        mean_only: the mean without spread and interval, at the cost of decoding a single code for each time.
        propagation: how spread is computed: members follows samples (the default), linear is to first order and without
            sampling noise, auto takes linear where it is cheaper and agrees with members on a few frames tried first,
            mean is --mean-only.
        times: times of the forecast that are wanted, in the units of the data, stored ones or, with dynamics that takes
            any step, others; by default all stored ones.
        fields: names of the fields that are wanted; by default all.
        region: part of the grid that is wanted, AXIS=LOW:HIGH for each axis that is cut, such as x=0.2:0.5.
        keep_members: write FIELD_members too, the mean that each member decodes to; as large as that many fields.
    """
    _check_ranges(steps, members, level)
    options.check()
    place = region_of(region)
    many = options.n is not None or workers is not None or scheduler is not None
    promises.check(many)
    check_store(out, overwrite or (many and out.with_name(f"{out.name}.partial").is_dir()))
    if out.resolve() in {path.resolve() for path in start}:
        raise OutputError(f"{out}: is the store to start from, never replaced by its forecast. Choose another --out.")
    folder = RunFolder.open(run)
    if not many and (options.fields_used is not None or skip_failed):
        raise ConfigError("--starts and --skip-failed go with --n, --workers or --scheduler. Add one of those.")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers = {workers}: should be at least 1.")
    told: dict[str, Any] = {"times": times or None, "fields": fields or None, "region": place}
    told["propagation"] = _propagation(mean_only, propagation)
    given: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    whole = not (times or fields or place) and given.get("propagation") != "mean"
    given |= promises.given
    if keep_members:
        given["keep_members"] = True
    asked = bool(given) or promises.tolerance is not None or promises.until is not None
    given |= {"steps": steps, "members": members, "seed": seed, "level": level}
    if many:
        from romvae.baselines.model import load_model
        from romvae.data import open_snapshots
        from romvae.studies.on_disk import rollout_to

        rom = load_model(folder.model)
        _refuse_parts(rom, run, asked)
        tolerance = promises.tolerance_for(rom, level, whole)
        if tolerance is not None:
            given["tolerance"] = tolerance
        starts = planned(folder, rom, start, split, reader, options, seed)
        with terminal_progress(quiet) as progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", AssumptionWarning)
            given |= {"workers": workers or available_cpus(), "scheduler": scheduler, "skip_failed": skip_failed}
            rollout_to(out, rom, starts, **given, overwrite=overwrite, progress=progress)
        trajectories, told_of = len(starts.labels), None
        if tolerance is not None:
            with open_snapshots(out, check=False) as written:
                told_of = written[["trust_horizon"]].load()
    else:
        from romvae.data import write_snapshots

        snapshots, own = part(folder, start, split, reader)
        from romvae.baselines.model import load_model

        rom = load_model(folder.model)
        _refuse_parts(rom, run, asked)
        tolerance = promises.tolerance_for(rom, level, whole)
        if tolerance is not None:
            given["tolerance"] = tolerance
        rom.schema.check(snapshots, source=named(start))  # with its times: their step and units have to fit as well
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutOfRangeWarning)  # said by the check, with the name of the store
            warnings.simplefilter("always", BeyondCalibrationWarning)  # of --steps, which the check knows nothing of
            driven = snapshots if rom.schema.controls else None
            forecast = rom.rollout(initial(rom, snapshots, own, start), **given, controls=driven)
            warnings.simplefilter("ignore", AssumptionWarning)
            told_of = None if tolerance is None else forecast
            forecast = forecast if tolerance is None else ready(forecast, promises.until is not None)
            write_snapshots(forecast, out, overwrite=overwrite)
        trajectories = snapshots.sizes["trajectory"]
    print(f"{out}: {trajectories} forecasts of {rom.steps_ahead if steps is None else steps} steps")
    why = promises.without(rom, level, whole)
    if told_of is not None:
        print(summary(told_of))
    elif why:
        print(why)


def _refuse_parts(rom: Model, run: Path, asked: bool) -> None:
    from romvae.baselines.model import BaselineModel

    if asked and isinstance(rom, BaselineModel):
        raise ConfigError(
            f"{run}: is a baseline ({rom.name}), which gives whole forecasts. Leave out --mean-only, --propagation, "
            "--times, --fields, --region, --keep-members, --tolerance, --until, --interval and --share."
        )


def _propagation(mean_only: bool, propagation: str | None) -> str | None:
    if mean_only and propagation not in (None, "mean"):
        raise ConfigError(f"--mean-only and --propagation {propagation} exclude each other. Leave one of them out.")
    return "mean" if mean_only else propagation


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
