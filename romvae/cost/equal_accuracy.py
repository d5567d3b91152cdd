"""Cost at equal accuracy: a ROM against the cheapest run of its reference solver that is no less accurate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from romvae import metrics as score
from romvae.baselines.model import BaselineModel
from romvae.cost.rollouts import batch_size, decoder_seconds, rolled_out, rollout_seconds
from romvae.cost.spent import TRAINING, training_seconds
from romvae.cost.sweep import Run, Sweep, cheapest, sweep
from romvae.cost.workload import Workload
from romvae.schema import TIME, TRAJECTORY
from romvae.solvers.base import Case, Solver
from romvae.start import after_start

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["cost_at_equal_accuracy"]

_BATCH_SHARE = 0.25  # of the time cap that one timing of a batch may take
_REPRODUCED = 1e-3  # a reference that differs more from the data is not what made them


def cost_at_equal_accuracy(
    rom: Model,
    some: xr.Dataset,
    reference: Case | Solver | None,
    *,
    ensemble_error: float,
    members: int = 32,
    batch: int = 64,
    seed: int = 0,
    cap: float = 60.0,
    seconds: Mapping[str, float] | None = None,
    process: Mapping[str, float] | None = None,
    simulated: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Process times of ROM and solver on the same trajectories, in the same process and with the same threads.

    Two forecasts are timed: `mean`, the mean alone (`propagation="mean"`), which is what a solver's run gives, and
    `ensemble`, the one that the comparison scores, with its uncertainty. Each is compared with the cheapest run of the
    solver that reaches its own error, for one trajectory and for a batch. The solver's cost includes bringing its
    result to the grid and to the times of the data.

    Arguments:
        rom: A trained ROM, or a fitted baseline, which has no members: only `mean` is timed, its spread costs nothing.
        some: A few held-out trajectories, see `Workload`, with all times that a forecast starts from.
        reference: Solver or case; None where there is none.
        ensemble_error: Relative L2 error of the scored forecast on these trajectories.
        members: Members of the ensemble.
        batch: Trajectories of a batch; fewer where memory is short.
        seed: Of the forecasts.
        cap: Process seconds that the solver's sweep may take.
        seconds: Wall-clock of the training's stages by name.
        process: Their process seconds, as far as they are known; of the others the threads of this process are taken
            to have worked throughout.
        simulated: How many trajectories were simulated for the training; None where that is not known.
        progress: Called with a note on every run.

    Returns:
        JSON types. `speed_up` and `speed_up_batch` are those of `mean`; `rom.<kind>` has error, seconds per trajectory,
        `over_decoder` (a rollout's cost over that of decoding as many codes) and the run of the solver that it was
        compared with; `solver.sweep` all runs that were tried, and `solver.batched` whether the solver can compute many
        trajectories at once (where it cannot, a batch of the ROM stands against runs one by one); `solver.coarsened` is
        False where no setting makes the solver cheaper, so that the ROM stands against the solver as it is and not at
        equal accuracy; `pay_off` what came before the first rollout, and after how many it is earned back. `unknown`
        says why there is no comparison with a solver.
    """
    note, ahead = progress or (lambda text: None), after_start(rom, some)
    result: dict[str, Any] = {
        "clock": "process time",
        "threads": torch.get_num_threads(),
        "trajectories": some.sizes[TRAJECTORY],
        "batch": batch_size(rom, ahead.sizes[TIME], batch, mean=True),
        "members": members,
    }
    note("rollouts")
    kinds: dict[str, tuple[float, int | None]] = {"mean": (_error(rom, some, seed), None)}
    if not isinstance(rom, BaselineModel):
        kinds["ensemble"] = (ensemble_error, members)
    result["rom"] = {
        kind: {"relative_l2": error, **_timed(rom, some, count, seed, batch, cap)}
        for kind, (error, count) in kinds.items()
    }
    if reference is None:
        return {**result, "unknown": "no solver is known for these data"}
    work = Workload.of(reference, ahead, rom.schema.grid, rom.mask)
    if isinstance(work, str):
        return {**result, "unknown": work}
    errors = [each["relative_l2"] for each in result["rom"].values()]
    found = sweep(work, errors, result["batch"], cap, lambda run: note(f"solver, error {run.error:.2g}"))
    result["solver"] = {
        "complete": found.complete,
        "coarsened": found.coarsened,
        "batched": work.solvers[0].batched,
        "reproduces_data_to": found.runs[0].error,
        "sweep": [run.to_dict() for run in found.runs],
    }
    if not found.runs[0].error <= _REPRODUCED:
        result["solver"]["warning"] = "the solver does not repeat the data: they were made with other settings"
    for each in result["rom"].values():
        each |= _against(found, each)
    plain = result["rom"]["mean"]
    result |= {name: plain[name] for name in ("speed_up", "speed_up_batch")}
    return result | _pay_off(result, seconds or {}, process or {}, simulated)


def _error(rom: Model, some: xr.Dataset, seed: int) -> float:
    """Relative L2 error of the mean forecast."""
    names = list(rom.schema.field_names)
    forecast = rolled_out(rom, some, None, seed)
    both = (each[names].isel({TIME: slice(1, None)}) for each in (after_start(rom, some), forecast))
    truth, guess = (score.in_domain(each, rom.mask) for each in both)
    return float(score.over_fields(score.relative_l2(truth, guess), root_mean_square=True))


def _timed(rom: Model, some: xr.Dataset, members: int | None, seed: int, batch: int, cap: float) -> dict[str, Any]:
    """Seconds per trajectory of one kind of forecast, and its cost over that of decoding as many codes."""
    single = rollout_seconds(rom, some.isel({TRAJECTORY: [0]}), members, seed)
    times = some.sizes[TIME] + 1 - rom.start_times
    fitting = batch_size(rom, times, batch, mean=members is None)
    batch = max(1, min(fitting, int(_BATCH_SHARE * cap / max(single, 1e-6))))
    many = some.isel({TRAJECTORY: np.arange(batch) % some.sizes[TRAJECTORY]})
    many = many.assign_coords({TRAJECTORY: np.arange(batch)})
    together = min(single, rollout_seconds(rom, many, members, seed))
    bare = decoder_seconds(rom, batch * (members or 1) * times, variance=members is not None)
    decoder = {} if not bare else {"decoder_seconds_batch": bare / batch, "over_decoder": together * batch / bare}
    return {
        "members": members,
        "batch": batch,
        "seconds": single,
        "seconds_batch": together,
        **decoder,
    }


def _against(found: Sweep, rom: Mapping[str, Any]) -> dict[str, Any]:
    """The cheapest runs that are as accurate, alone and in a batch, and how often the ROM fits into them."""
    target = rom["relative_l2"]
    runs = {"": cheapest(found, target), "_batch": cheapest(found, target, batch=True)}
    out: dict[str, Any] = {}
    for suffix, run in runs.items():
        out[f"solver{suffix}"] = None if run is None else run.to_dict()
        out[f"speed_up{suffix}"] = None if run is None else _cost(run, suffix) / rom[f"seconds{suffix}"]
    return out


def _cost(run: Run, suffix: str) -> float:
    return run.seconds_batch if suffix else run.seconds


def _pay_off(
    result: Mapping[str, Any], seconds: Mapping[str, float], process: Mapping[str, float], simulated: int | None
) -> dict[str, Any]:
    """What the ROM cost before its first rollout, and after how many rollouts in batches that is earned back."""
    training = training_seconds(seconds, process, result["threads"], (*TRAINING, "other_models"))
    if training is None:
        return {}
    own = result["solver"]["sweep"][0]["seconds"]
    data = float(simulated * own) if simulated and own else 0.0
    out: dict[str, Any] = {"training_seconds": training, "data_seconds": data, "simulated": simulated}
    for kind, rom in result["rom"].items():
        for suffix in ("", "_batch"):
            run = rom[f"solver{suffix}"]
            gain = run[f"seconds{suffix}"] - rom[f"seconds{suffix}"] if run else -1.0
            out[f"break_even_{kind}{suffix}"] = int(np.ceil((training + data) / gain)) if gain > 0 else None
    return {"pay_off": out}
