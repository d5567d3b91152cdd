"""`romvae hybrid`: forecasts that hand back to the case's solver where the ROM is not sure, within a tolerance."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from romvae.commands.options import Out, Overwrite, Quiet, Reader
from romvae.commands.outputs import check_store
from romvae.commands.planned import named, part
from romvae.commands.run_folder import RunFolder
from romvae.errors import AssumptionWarning, BeyondCalibrationWarning, ConfigError, OutOfRangeWarning, OutputError
from romvae.progress import terminal_progress

if TYPE_CHECKING:
    import xarray as xr

    from romvae.alarm import Alarm

__all__ = ["hybrid"]


def hybrid(
    run: Path,
    /,
    *,
    tolerance: float,
    out: Out,
    start: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    reader: Reader = None,
    split: Literal["train", "variance", "calibration", "test", "all"] | None = None,
    case: str | None = None,
    steps: int | None = None,
    level: float = 0.95,
    burst: int | None = None,
    check: int | None = None,
    signal: Literal["auto", "variance", "residual", "ranks"] = "variance",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Forecast by ROM and solver in turns, so that an error is kept that the ROM alone would not keep.

    The alarm at which the solver takes over is calibrated on the run's calibration data first, by whole hybrid
    rollouts. What they found stays in RUN/alarms: after an interruption the same command goes on, and the next
    forecast with the same tolerance begins at once.

    Arguments:
        run: folder that romvae train wrote.
        tolerance: largest error at any time, root mean square over the grid in standard deviations of the training
            data.
        out: store to write: a folder NAME.zarr, or a file NAME.h5 or NAME.nc. It also says where each field comes
            from (source), what error was expected, and what share of the solver's steps was made (work).
        start: store whose first snapshots are the initial fields; by default the data of the run.
        split: which trajectories; by default test for the data of the run, and all for other data.
        case: name of the case whose solver takes over; by default the one that the run's data were simulated by.
        steps: number of time steps; by default those of a training trajectory, which the calibration speaks of.
        level: share of new runs that are to keep the tolerance; 0.95 takes 19 calibration trajectories or more.
        burst: time steps of the solver at each hand-over; by default one large step of the ROM.
        check: time steps between two comparisons of a step of the ROM with one of the solver; by default none.
        signal: what the error is predicted by: the forecast's own standard deviation (variance), the residual of the
            equation (residual), both of these with the networks' disagreement (ranks), or which of them ranks errors
            best (auto). All but the first are learned on the run's variance data.
    """
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps = {steps}: should be at least 1.")
    check_store(out, overwrite)
    folder = RunFolder.open(run)
    record = folder.data()
    if out.resolve() in {path.resolve() for path in (*record.paths, *(start or ()))}:
        raise OutputError(f"{out}: holds data of the run or the start, never replaced by a forecast. Choose another.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)  # said when the model was trained on them
        own = folder.own_data()
        calibration = record.select(own, "calibration")
        learning = None if signal == "variance" else record.select(own, "variance")
        if start is not None:
            snapshots, _ = part(folder, start, split, reader)
        else:
            snapshots = own if split == "all" else record.select(own, split or "test")
    solver = _case(case, own, run)
    from romvae.baselines.model import BaselineModel, load_model
    from romvae.data import write_snapshots
    from romvae.hybrid import calibrate_alarm, hybrid_rollout

    rom = load_model(folder.model)
    if isinstance(rom, BaselineModel):
        raise ConfigError(f"{run}: is a baseline ({rom.name}), which predicts no error along the way. Train a ROM.")
    rom.schema.check(snapshots, source=named(start or record.paths))
    with terminal_progress(quiet) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # said by the check, with the name of the store
        warnings.simplefilter("always", BeyondCalibrationWarning)  # of --steps, which the check knows nothing of
        alarm = calibrate_alarm(
            rom,
            solver,
            calibration,
            tolerance,
            level=level,
            burst=burst,
            check=check,
            signal=signal,
            learning=learning,
            record=folder.alarm(solver, tolerance, burst, check, signal),
            progress=progress,
        )
        forecast = hybrid_rollout(rom, solver, snapshots.isel(time=0), alarm, steps, progress=progress)
    beside = [name for name in forecast.data_vars if name not in rom.schema.field_names]
    write_snapshots(forecast.set_coords(beside), out, overwrite=overwrite)
    print(f"{out}: {snapshots.sizes['trajectory']} forecasts of {forecast.sizes['time'] - 1} steps")
    print(_summary(forecast, alarm))
    if alarm.signal.statement:
        print(alarm.signal.statement)


def _case(name: str | None, data: xr.Dataset, run: Path) -> str:
    """The case whose solver takes over."""
    from romvae.solvers import get_case

    name = str(data.attrs.get("case", "")) if name is None else name
    if not name:
        raise ConfigError(
            f"{run}: its data do not say which case they were simulated by. Give --case, or call "
            "romvae.hybrid_rollout with a solver of your own."
        )
    return get_case(name).name


def _summary(forecast: xr.Dataset, alarm: Alarm) -> str:
    """What is promised, and at which cost, in a sentence."""
    work = float(forecast["work"].mean())
    if alarm.threshold == 0:
        return (
            f"{alarm.statement} No threshold that leaves the ROM anything keeps that: all steps are the solver's. "
            "Raise --tolerance, or lower --level."
        )
    took = int((forecast["hand_overs"] > 0).sum())
    return (
        f"{alarm.statement} The solver made {100 * work:.3g} % of its steps and took over in {took} of "
        f"{forecast['hand_overs'].size} runs."
    )
