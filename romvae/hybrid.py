"""Forecasts that hand back to the reference solver where the ROM is not sure, and resume from the solver's field.

    alarm = calibrate_alarm(rom, "burgers_1d", parts.calibration, tolerance=0.03)
    run = hybrid_rollout(rom, "burgers_1d", parts.test.isel(time=0), alarm)
    run["work"].mean()          # share of the solver's time steps that were spent

The ROM goes on as long as its predicted error stays below a threshold. At the alarm the solver takes over from the last
field that was trusted, advances it for a few stored steps, and the ROM resumes from what it finds; or, with `back`, the
solver goes on from the last field of its own: the forecast then is the solver's up to where the ROM can be trusted with
all of the rest. The first is cheap where errors die out, the second right where they stay. The predicted error
is made of what ranks true errors well: the decoder's standard deviation, the disagreement of the networks and, where
the ROM (re)starts, the error of compressing the field that is known there; on request also of the residual of the
equation (`signal`), and of the defect of single steps of the ROM against the solver (`check`), which costs solver steps
of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from romvae.alarm import THRESHOLDS, Alarm, Trial, Trials, allowed_losses
from romvae.alarm_signal import VARIANCE, Signal, SignalKind
from romvae.canonical import TIME, TRAJECTORY, canonical
from romvae.errors import BeyondCalibrationWarning, ConfigError, DataError, SchemaError, caller_level
from romvae.grid import Axis
from romvae.hybrid_course import Course
from romvae.hybrid_learning import learned_signal, parted
from romvae.hybrid_residual import known_residual
from romvae.hybrid_run import HybridRun
from romvae.physics.penalty import PhysicsFunction
from romvae.physics.residual import Conserved, Residual
from romvae.progress import Progress, silent, stage
from romvae.simulated import fingerprints
from romvae.solvers import Case, Solver, get_case
from romvae.trust import true_error

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["Alarm", "ReferenceSolver", "Signal", "calibrate_alarm", "hybrid_rollout"]

ReferenceSolver = Case | str | Callable[[Mapping[str, float]], Solver]
"""A case or its name, or a function from the physical parameters of a trajectory to its solver."""
CLOSE = 1e-3
"""How far apart the solver's points and the ROM's may be, in steps of the grid."""


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
        SchemaError: Grid, boundaries, fields or parameters differ from the ROM's, or the solver's do.
        NumericsError: The solver failed on fields of its own.

    Warns:
        BeyondCalibrationWarning: There are more steps than the alarm was calibrated for.
    """
    if rom.dynamics.window > 1:
        raise ConfigError(
            f"hybrid: dynamics {rom.choices['dynamics']!r} has memory, which every hand-over between ROM and solver "
            "would cut off. Train with dynamics='residual' or 'ode', or use rom.rollout."
        )
    steps = rom.steps if steps is None else steps
    if steps < 1:
        raise ConfigError(f"hybrid: steps is {steps}, expected 1 or more. Choose a positive number.")
    if alarm.steps is not None and steps > alarm.steps:
        warnings.warn(
            f"hybrid: {steps} steps are asked for and the alarm was calibrated on runs of {alarm.steps}; beyond these "
            "its tolerance is not promised",
            BeyondCalibrationWarning,
            stacklevel=caller_level(),
        )
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
        parameters = _parameters(rom, solvers, start)
        run = HybridRun(
            rom, solvers, c, alarm.threshold, alarm.burst, alarm.check, alarm.back, alarm.signal, parameters
        )
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
    signal: SignalKind = "variance",
    residual: PhysicsFunction | Residual | Conserved | None = None,
    learning: xr.Dataset | None = None,
    record: Path | None = None,
    progress: Progress = silent,
) -> Alarm:
    r"""The largest threshold with which hybrid rollouts of held-out trajectories keep a tolerance.

    Whole hybrid rollouts are made with rising thresholds. A trajectory counts as lost from the first threshold on at
    which its error exceeds the tolerance at any time. With v of n trajectories lost, the largest threshold with
    :math:`(v + 1) / (n + 1) \le 1 - level` keeps the tolerance in at least a share `level` of new runs of the same
    length from the same distribution. Where not even the smallest does, the threshold is 0: all is left to the solver.

    Where both ways are tried, each has to keep a half of the risk, :math:`(v + 1) / (n + 1) \le (1 - level) / 2`: that
    either loses a new run then has a probability of at most :math:`1 - level`, whichever of them is taken for its work
    on the same trajectories. Of an odd number of losses the first way has the one that is left. With fewer than
    :math:`2 / (1 - level) - 1` trajectories (39 for the level 0.95) there is not enough for two, and the way `back` is
    the only one that is tried.

    The residual of the decoded mean u at a stored time is r = du/dt - F(u), by `romvae.physics.residual_of` from three
    neighbouring times. It is pooled over the window since the ROM took over: the root mean square of r over points and
    times, times the number of stored steps in the window, is proportional to the change of the field that the equation
    does not account for. The predicted error is :math:`e^a \prod_k s_k^{w_k}` of such numbers s, one for each equation
    of a system, with equal weight for the standardised logarithm of each. Level a and slope are those with which its
    logarithm is closest, in least squares, to that of the true error in the ROM's own rollouts of the trajectories
    `learning`. So it is relative to what the ROM's residuals are there, and in units of the tolerance, standard
    deviations of the field over the training data. For `ranks` the root mean squares of the decoder's and of the
    networks' standard deviation are further factors. No such signal falls where one of its parts rises. (It ranked
    errors of held-out runs of one small ROM of `fisher_1d` by 0.82, the mean of empirical distribution functions by
    0.81, non-negative least squares by 0.79 to 0.82, and the variance by 0.80: too little to make it the default.)

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
        signal: `variance`, the calibrated standard deviation of the forecast; `residual`; `ranks`, decoder's and
            networks' standard deviation and, where it is known, the residual; `auto`, the one with the largest rank
            correlation with the true error in rollouts of the ROM over trajectories and times, on trajectories that
            its weights were not fitted on. No solver takes part in that. The error of compressing the initial field
            counts in all.
        residual: Where `solver` is none of the shipped cases, or another is meant: `residual(fields, grid, parameters,
            dt)` as `romvae.fit(physics=...)` takes it, with the first dim kept in what it returns.
        learning: Trajectories on which a signal other than `variance` is learned, at least 4, which the networks were
            not trained on, such as the variance part; None takes every third of `data` for that, and the alarm is
            calibrated on the others. They are not the same because a signal that knows the runs it is judged on
            promises too much.
        record: JSON file that keeps what was found with each threshold. Called again with the same ROM, data and
            tolerance, it goes on from there; the solver has to be the same too, which only the name of a case can tell.
        progress: Called as `progress(stage, done, total, note)`.

    Raises:
        ConfigError: Tolerance or level is out of range, the signal is unknown, or asks for a residual that is not
            known.
        DataError: There are too few trajectories for the level or for the signal, no part of the signal rises with the
            true error, or the record is damaged.
        SchemaError: As in `hybrid_rollout`.

    Warns:
        AssumptionWarning: `ranks` or `auto` go without a residual, which is not known.
    """
    data = canonical(data)
    n = data.sizes.get(TRAJECTORY, 1)
    if not tolerance > 0 or not 0 < level < 1:
        raise ConfigError(
            f"calibrate_alarm: tolerance is {tolerance} and level {level}, expected a positive number and one between "
            "0 and 1. Choose 0.05 and 0.95, for example."
        )
    if signal not in get_args(SignalKind) or (residual is not None and signal == "variance"):
        raise ConfigError(
            f"calibrate_alarm: signal is {signal!r}{', which takes no residual' if residual is not None else ''}, "
            f"expected one of {', '.join(get_args(SignalKind))}. Choose 'auto', for example."
        )
    known = VARIANCE
    if signal != "variance":
        data, learning = (data, canonical(learning)) if learning is not None else parted(data, signal, level)
        n, start = data.sizes.get(TRAJECTORY, 1), learning.isel({TIME: slice(0, 1)})
        values = _parameters(rom, _solvers(rom, solver, start), start)
        known = learned_signal(rom, learning, values, signal, known_residual(solver) if residual is None else residual)
    losses = allowed_losses(n, level) + 1
    shares = {False: losses - losses // 2, True: losses // 2} if losses > 1 else {True: losses}
    shares = shares if back is None else {back: losses}
    burst, steps = rom.dynamics.stride if burst is None else burst, data.sizes[TIME] - 1
    first = Alarm(0.0, burst, check, False, tolerance, level, n, 1.0, known, steps)
    ways = [(replace(first, back=way), share - 1) for way, share in shares.items()]
    key: dict[str, Any] = {"rom": _digest(rom), "tolerance": tolerance, "burst": first.burst, "check": check}
    key |= {"data": sha256("".join(fingerprints(data, rom.schema)).encode()).hexdigest(), "solver": _named(solver)}
    key["signal"] = known.formula
    trials, total, found = Trials(record, key), len(ways) * len(THRESHOLDS), []
    for k, (way, allowed) in enumerate(ways):
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
    for axis, theirs in zip(rom.schema.grid.axes, made[0].grid.axes, strict=True):
        _require_same(axis, theirs)
    return made


def _require_same(own: Axis, theirs: Axis) -> None:
    """Refuses an axis of the solver that is not the ROM's; rounding of coordinates to float32 makes no difference."""
    expected, found = np.array(own.coordinates), np.array(theirs.coordinates)
    step = float(np.diff(expected).min()) if own.size > 1 else 0.0
    limit = max(CLOSE * step, 4 * float(np.finfo(np.float32).eps) * float(np.abs(expected).max()))
    wrong = np.abs(found - expected) > limit
    if own.name != theirs.name or wrong.any():
        i = int(np.argmax(wrong))
        raise SchemaError(
            f"hybrid: the solver's axis {theirs.name!r} is {found[i]:.10g} at index {i}, this ROM's {own.name!r} "
            f"{expected[i]:.10g}. Use the solver that made its data."
        )
    kinds = [(axis.lower.kind, axis.upper.kind) for axis in (theirs, own)]
    if kinds[0] != kinds[1]:
        raise SchemaError(
            f"hybrid: the solver's boundaries of {own.name!r} are {' and '.join(kinds[0])}, this ROM's data say "
            f"{' and '.join(kinds[1])}. Use the solver that made its data."
        )


def _parameters(rom: ROM, solvers: Sequence[Solver], start: xr.Dataset) -> dict[str, Tensor]:
    """Physical parameters that residuals ask for, `(trajectory,)` each: those of the ROM and of the solvers."""
    names = rom.schema.parameter_names
    rows = [
        {name: _value(start, name, i) for name in names} | dict(solver.parameters) for i, solver in enumerate(solvers)
    ]
    return {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}


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
        "signal": alarm.signal.formula,
        "guarantee": alarm.statement,
    }
    if alarm.tolerance is not None:
        attrs["tolerance"] = alarm.tolerance
    return xr.Dataset(out, coords, attrs)
