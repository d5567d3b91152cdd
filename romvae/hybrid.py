"""Forecasts that hand back to the reference solver where the ROM is not sure, and resume from the solver's field.

    alarm = calibrate_alarm(rom, "burgers_1d", parts.calibration, tolerance=0.03)
    run = hybrid_rollout(rom, "burgers_1d", parts.test.isel(time=0), alarm)
    run["work"].mean()          # share of the solver's time steps that were spent

The ROM goes on as long as its predicted error stays below a threshold. At the alarm the solver takes over from the last
field that was trusted, advances it for a few stored steps, and the ROM resumes from what it finds; or, with `back`, the
solver goes on from the last field of its own: the forecast then is the solver's up to where the ROM can be trusted with
all of the rest. The first is cheap where errors die out, the second right where they stay. The predicted error
is made of what ranks true errors well: the decoder's standard deviation, the disagreement of the networks and, where
the ROM (re)starts, the error of compressing the field that is known there; on request also of the defect of single
steps of the ROM against the solver (`check`), which costs solver steps of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from romvae.alarm import THRESHOLDS, Alarm, Trial, Trials, allowed_losses
from romvae.canonical import TIME, TRAJECTORY, canonical
from romvae.errors import ConfigError, DataError, SchemaError
from romvae.hybrid_run import Course, HybridRun
from romvae.progress import Progress, silent, stage
from romvae.simulated import fingerprints
from romvae.solvers import Case, Solver, get_case
from romvae.trust import true_error

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["Alarm", "ReferenceSolver", "calibrate_alarm", "hybrid_rollout"]

ReferenceSolver = Case | str | Callable[[Mapping[str, float]], Solver]
"""A case or its name, or a function from the physical parameters of a trajectory to its solver."""


def hybrid_rollout(
    rom: ROM,
    solver: ReferenceSolver,
    start: xr.Dataset,
    alarm: Alarm,
    steps: int | None = None,
    *,
    progress: Progress = silent,
) -> xr.Dataset:
    """Forecast by ROM and solver in turns.

    Arguments:
        rom: Trained, without controls.
        solver: The reference solver, which takes fields on the ROM's own grid.
        start: One snapshot, or one per trajectory, with its parameters as coordinates.
        alarm: From `calibrate_alarm`, or with a threshold of one's own.
        steps: Stored steps; None takes the length of a training trajectory. A calibrated alarm speaks of that length.
        progress: Called as `progress(stage, done, total, note)`, with stored steps of all trajectories.

    Returns:
        The fields on the snapshots' dims; `source(trajectory, time)`: 0 where the field was given, 1 where it is the
        ROM's, 2 where it is the solver's; `predicted_error` at the times of the ROM (NaN elsewhere);
        `work(trajectory)`, the share of the solver's steps that were made, comparisons included;
        `hand_overs(trajectory)`, how often the solver took over. An error that was there at a hand-over stays in the
        solver's field: the solver does not repair, it stops the growth. Where the solver refuses a field of the ROM, as
        one that its grid does not resolve, it goes back to the last field of its own, or given, before a stretch of the
        ROM, or further if need be, and replaces what was made since then.

    Raises:
        ConfigError: An argument is out of range, the case is unknown, or the ROM has memory or controls.
        SchemaError: Grid, fields or parameters differ from the ROM's, or the solver's do.
        NumericsError: The solver failed on fields of its own.
    """
    if rom.dynamics.window > 1:
        raise ConfigError(
            f"hybrid: dynamics {rom.choices['dynamics']!r} has memory, which every hand-over between ROM and solver "
            "would cut off. Train with dynamics='residual' or 'ode', or use rom.rollout."
        )
    steps = rom.steps if steps is None else steps
    if steps < 1:
        raise ConfigError(f"hybrid: steps is {steps}, expected 1 or more. Choose a positive number.")
    if rom.schema.controls:
        raise ConfigError("hybrid: this ROM is driven by controls, which the solvers do not take. Use rom.rollout.")
    if start.sizes.get(TIME, 1) != 1:
        raise DataError(f"hybrid: start holds {start.sizes[TIME]} times, expected one. Select it, start.isel(time=0).")
    single = TRAJECTORY not in start.dims
    for dim in (TRAJECTORY, TIME):
        start = start if dim in start.dims else start.expand_dims(dim)
    start = canonical(start)
    solvers = _solvers(rom, solver, start)
    _, c = rom.normalised(start)
    u0 = np.stack([start[name].values[:, 0] for name in rom.schema.field_names], 1).astype(np.float64)
    with torch.no_grad():
        run = HybridRun(rom, solvers, c, alarm.threshold, alarm.burst, alarm.check, alarm.back)
        course = run.course(u0, steps, stage(progress, "hybrid"))
    result = _dataset(rom, start, course, alarm)
    return result.isel({TRAJECTORY: 0}) if single else result


def calibrate_alarm(
    rom: ROM,
    solver: ReferenceSolver,
    data: xr.Dataset,
    tolerance: float,
    *,
    level: float = 0.95,
    burst: int | None = None,
    check: int | None = None,
    back: bool | None = None,
    record: Path | None = None,
    progress: Progress = silent,
) -> Alarm:
    r"""The largest threshold with which hybrid rollouts of held-out trajectories keep a tolerance.

    Whole hybrid rollouts are made with rising thresholds. A trajectory counts as lost from the first threshold on at
    which its error exceeds the tolerance at any time. With v of n trajectories lost, the largest threshold with
    :math:`(v + 1) / (n + 1) \le 1 - level` keeps the tolerance in at least a share `level` of new runs of the same
    length from the same distribution. Where not even the smallest does, the threshold is 0: all is left to the solver.

    Arguments:
        rom: Trained.
        solver: As in `hybrid_rollout`.
        data: Trajectories that nothing else was fitted on, the calibration part.
        tolerance: Largest error, as `romvae.trust.true_error` has it: root mean square over the points in units of
            the field's standard deviation over the training data.
        level: Share of runs that are to keep it; 0.95 takes at least 19 trajectories.
        burst: Stored steps of the solver at each hand-over; None takes one large step of the ROM.
        check: Stored steps between two comparisons of ROM and solver; None makes none.
        back: As in `Alarm`; None tries both ways and takes the one with less work.
        record: JSON file that keeps what was found with each threshold. Called again with the same ROM, data and
            tolerance, it goes on from there; the solver has to be the same too, which only the name of a case can tell.
        progress: Called as `progress(stage, done, total, note)`.

    Raises:
        ConfigError: Tolerance or level is out of range.
        DataError: There are too few trajectories for the level, or the record is damaged.
    """
    data = canonical(data)
    n = data.sizes.get(TRAJECTORY, 1)
    if not tolerance > 0 or not 0 < level < 1:
        raise ConfigError(
            f"calibrate_alarm: tolerance is {tolerance} and level {level}, expected a positive number and one between "
            "0 and 1. Choose 0.05 and 0.95, for example."
        )
    allowed = allowed_losses(n, level)
    first = Alarm(0.0, rom.dynamics.stride if burst is None else burst, check, False, tolerance, level, n, 1.0)
    ways = [replace(first, back=way) for way in ((False, True) if back is None else (back,))]
    key: dict[str, Any] = {"rom": _digest(rom), "tolerance": tolerance, "burst": first.burst, "check": check}
    key |= {"data": sha256("".join(fingerprints(data, rom.schema)).encode()).hexdigest(), "solver": _named(solver)}
    trials, total, found = Trials(record, key), len(ways) * len(THRESHOLDS), []
    for k, way in enumerate(ways):
        report = _counting(progress, k * len(THRESHOLDS), total)
        found.append(_largest_threshold(rom, solver, data, way, allowed, trials, report))
    progress("alarm", total, total)
    return min(found, key=lambda alarm: alarm.work)


def _largest_threshold(
    rom: ROM, solver: ReferenceSolver, data: xr.Dataset, best: Alarm, allowed: int, trials: Trials, progress: Progress
) -> Alarm:
    lost = np.zeros(best.trajectories, dtype=bool)
    tolerance = float(best.tolerance or 0.0)
    for k, factor in enumerate(THRESHOLDS):
        alarm = replace(best, threshold=factor * tolerance)
        progress("alarm", k, len(THRESHOLDS), f"threshold {alarm.threshold:.3g}")
        trial = trials.get(alarm)
        if trial is None:
            run = hybrid_rollout(rom, solver, data.isel({TIME: 0}), alarm, data.sizes[TIME] - 1)
            error = true_error(rom, data, run).transpose(TRAJECTORY, TIME).values
            trial = Trial(np.nanmax(error, 1), float(run["work"].mean()))
            trials.keep(alarm, trial)
        lost |= ~(trial.worst <= tolerance)
        if lost.sum() > allowed:
            break
        best = replace(alarm, work=trial.work)
    return best


def _counting(progress: Progress, before: int, total: int) -> Progress:
    """`progress` of one part of a stage, which counts what was done before it."""
    return lambda stage, done, _, note="": progress(stage, before + done, total, note)


def _digest(rom: ROM) -> str:
    """SHA-256 of all weights, and of the calibration among them."""
    digest = sha256()
    for name, tensor in sorted(rom.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _named(solver: ReferenceSolver) -> str | None:
    if isinstance(solver, str):
        return solver
    return solver.name if isinstance(solver, Case) else None


def _solvers(rom: ROM, solver: ReferenceSolver, start: xr.Dataset) -> list[Solver]:
    """One solver per trajectory, on the ROM's grid."""
    if not callable(solver):
        case = get_case(solver) if isinstance(solver, str) else solver
        own = [r.name for r in case.ranges if not r.of_initial]
        missing = [name for name in own if name not in start.coords]
        if missing:
            raise SchemaError(
                f"hybrid: case {case.name} needs the parameter {missing[0]!r}, which the start does not have. "
                "Give it as a coordinate on trajectory."
            )
        values = [{name: _value(start, name, i) for name in own} for i in range(start.sizes[TRAJECTORY])]
        made = [case.solver(**row) for row in values]
    else:
        names = rom.schema.parameter_names
        made = [solver({n: _value(start, n, i) for n in names}) for i in range(start.sizes[TRAJECTORY])]
    fields = tuple(field.name for field in made[0].fields)
    if made[0].grid.shape != rom.schema.grid.shape or fields != tuple(rom.schema.field_names):
        raise SchemaError(
            f"hybrid: the solver has fields {', '.join(fields)} on a grid {made[0].grid.shape}, this ROM "
            f"{', '.join(rom.schema.field_names)} on {rom.schema.grid.shape}. Use the solver that made its data."
        )
    return made


def _value(start: xr.Dataset, name: str, trajectory: int) -> float:
    return float(np.atleast_1d(start[name].values)[trajectory])


def _dataset(rom: ROM, start: xr.Dataset, course: Course, alarm: Alarm) -> xr.Dataset:
    dims = (TRAJECTORY, TIME, *rom.schema.grid.names)
    t0 = float(start[TIME].values[0]) if TIME in start.coords else 0.0
    times = t0 + rom.schema.dt * np.arange(course.u.shape[1])
    out: dict[str, Any] = {
        field.name: (dims, course.u[:, :, k].astype(np.float32), {"units": field.units})
        for k, field in enumerate(rom.schema.fields)
    }
    flags = {"flag_values": np.arange(3, dtype=np.int8), "flag_meanings": "given rom solver"}
    out["source"] = ((TRAJECTORY, TIME), course.source, flags)
    out["predicted_error"] = ((TRAJECTORY, TIME), course.predicted, {"units": "1"})
    out["work"] = (TRAJECTORY, course.solved / (course.u.shape[1] - 1), {"units": "1"})
    out["hand_overs"] = (TRAJECTORY, course.hand_overs)
    coords: dict[str, Any] = {**rom.space(), TIME: (TIME, times, {"units": rom.schema.time_units})}
    coords |= {n: start[n].variable for n in (TRAJECTORY, *rom.schema.parameter_names) if n in start.coords}
    attrs: dict[str, Any] = {
        "Conventions": "CF-1.11 romvae-1",
        "threshold": alarm.threshold,
        "burst": alarm.burst,
        "back": int(alarm.back),
        "boundary_conditions": rom.schema.boundary_conditions,
        "guarantee": alarm.statement,
    }
    if alarm.tolerance is not None:
        attrs["tolerance"] = alarm.tolerance
    return xr.Dataset(out, coords, attrs)
