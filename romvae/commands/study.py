"""`romvae study`: a design of parameters, rolled out, and a table of quantities of interest with intervals."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from romvae.commands.options import Members, Out, Overwrite, Quiet, Reader, Seed
from romvae.commands.outputs import check_output
from romvae.commands.planned import DesignOptions, Scheduler, SkipFailed, Workers, planned
from romvae.commands.run_folder import RunFolder
from romvae.commands.trusted import TOLERANCE
from romvae.environment import available_cpus
from romvae.errors import ConfigError, DataError, FewTrajectoriesWarning
from romvae.progress import terminal_progress

if TYPE_CHECKING:
    import xarray as xr

    from romvae.rom import ROM

__all__ = ["study"]

_NO_DESIGN = DesignOptions()


def study(
    run: Path,
    /,
    *,
    out: Out,
    start: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    reader: Reader = None,
    split: Literal["train", "variance", "calibration", "test", "all"] | None = None,
    options: DesignOptions = _NO_DESIGN,
    quantity: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    at: Annotated[list[float] | None, Parameter(consume_multiple=True)] = None,
    steps: int | None = None,
    every: int = 1,
    members: Members = 32,
    level: float = 0.9,
    tolerance: float | None = None,
    fields: bool = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    skip_failed: SkipFailed = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Roll out a design of parameters and tabulate quantities of interest with calibrated intervals.

    OUT holds table.csv and table.json (a row per rollout), study.nc (all times) and study.svg. Finished rollouts are
    kept in OUT.partial: after an interruption or a kill, the same command adds the rest.

    Arguments:
        run: folder that romvae train wrote.
        out: folder to write.
        start: store whose first snapshots are the initial fields; by default those of the run's own data. For a run
            that was given several fields (--model.given), as many of the first ones of its own data, or of the last
            ones of other data.
        split: which trajectories of the run's own data, by default test.
        quantity: what is tabulated: mean:u, l2:u, max:u, min:u or probe:u@x=0.3; by default the first four of every
            field. What the run is not calibrated for is calibrated on its own calibration data.
        at: times that the table reports, by default the last one.
        steps: number of time steps; by default those of a training trajectory.
        every: time steps between two times that are looked at; the rest is not decoded.
        level: probability that an interval is meant to cover.
        tolerance: error, in standard deviations of the training data, up to which a forecast is trusted; by default
            0.1 where there are enough calibration trajectories.
        fields: keep the rollouts themselves, as OUT/fields.zarr.
    """
    options.check()
    if not 0 < level < 1:
        raise ConfigError(f"--level = {level}: should be between 0 and 1, such as 0.9.")
    for name, value in (("steps", steps), ("every", every), ("members", members), ("workers", workers)):
        if value is not None and value < 1:
            raise ConfigError(f"--{name} = {value}: should be at least 1.")
    partial = out.with_name(f"{out.name}.partial")
    check_output(out, overwrite or partial.is_dir(), ("table.json",))
    folder = RunFolder.open(run)
    from romvae.baselines.model import BaselineModel, load_model
    from romvae.studies.named import resolved
    from romvae.studies.study import study as studied

    rom = load_model(folder.model)
    if isinstance(rom, BaselineModel):
        raise ConfigError(f"{run}: holds the baseline {rom.name}, which has no calibrated quantities. Use a ROM.")
    wanted = resolved(quantity or (), rom.schema)
    starts = planned(folder, rom, start, split, reader, options, seed)
    tolerance = _calibrated(folder, rom, wanted, tolerance, level)
    with terminal_progress(quiet) as progress:
        found = studied(
            rom,
            starts,
            quantities=wanted,
            steps=steps,
            every=every,
            members=members,
            seed=seed,
            level=level,
            tolerance=tolerance,
            at=at,
            keep_fields=fields,
            out=out,
            workers=workers or available_cpus(),
            scheduler=scheduler,
            skip_failed=skip_failed,
            overwrite=overwrite,
            progress=progress,
        )
    _summary(found, out)


def _calibrated(folder: RunFolder, rom: ROM, wanted: Any, tolerance: float | None, level: float) -> float | None:
    """Calibrates what is missing on the run's own data; the tolerance, or None where no horizon can be had."""
    from romvae.studies.calibrated import calibrated_for, missing

    asked = TOLERANCE if tolerance is None else tolerance
    needed = missing(rom, wanted, asked)
    data = None
    if needed:
        try:
            data = folder.data().select(folder.own_data(), "calibration")
        except DataError as error:
            if tolerance is not None or needed != ["the trust horizon"]:
                raise DataError(f"study: {', '.join(needed)} is to be calibrated first, but {error}") from None
            warnings.warn(f"study: no trust horizon, {error}", FewTrajectoriesWarning, stacklevel=2)
            return None
    calibrated_for(rom, wanted, asked, data)
    try:
        rom.trust.threshold(asked, level)
    except DataError as error:
        if tolerance is not None:
            raise
        warnings.warn(f"study: {error}", FewTrajectoriesWarning, stacklevel=2)
        return None
    return asked


def _summary(found: xr.Dataset, out: Path) -> None:
    from romvae.studies.table import quantities_of

    rows = found.sizes["trajectory"]
    beyond = int(found["out_of_range"].sum())
    print(
        f"{out}: {rows} rollouts to time {float(found['time'][-1]):g}" + (f", {beyond} out of range" if beyond else "")
    )
    last = found.isel(time=-1)
    for name in quantities_of(found):
        half = 0.5 * float((last[f"{name}_upper"] - last[f"{name}_lower"]).median())
        span = f"{float(last[name].min()):.4g} to {float(last[name].max()):.4g}"
        print(f"  {name:<24} {span}, median half-width of the interval {half:.4g}")
