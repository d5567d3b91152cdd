"""Training of a ROM in four stages: mean, local variance, latent dynamics, calibration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import torch
import xarray as xr
from torch import Tensor

from romvae.assembly import LINEAR_COMPRESSION
from romvae.data.unchanged import Stamp
from romvae.errors import ConfigError, NotEnoughMemoryError
from romvae.kinds import Compile, LossChoices, Precision
from romvae.launch import place_of, require_place
from romvae.linear_start import modes_of, refined
from romvae.ranks import Ranks, join
from romvae.streamed import Trajectories
from romvae.symmetry import Symmetry
from romvae.tensors import (
    existing_tensor,
)
from romvae.training.batches import StepSeeds
from romvae.training.calibrate import calibrate, calibrate_horizon
from romvae.training.compiling import decide_compiling, require_compiled
from romvae.training.compression import Balance, course_symmetry, data_symmetry, mean_training
from romvae.training.dynamics import Codes, DynamicsPlan, record_step_error, train_dynamics
from romvae.training.encoding import encoded_copies, sensitivity
from romvae.training.end_to_end import fine_tune, finetune_plan, physics_name, require_physics
from romvae.training.fallback import (
    best_dynamics,
    first_forecast_error,
    keep_better_compression,
    may_be_linear,
    may_be_pod,
)
from romvae.training.given import accelerator_of, check_parts, loss_terms, positive
from romvae.training.material import budget_of, controls_of, copies_of, data_of, snapshots_of, thinned_to
from romvae.training.mean import MeanStage
from romvae.training.runner import run_stage
from romvae.training.selection import choose_dynamics, install_dynamics
from romvae.training.session import STAGES, History, Session
from romvae.training.stages import Stage
from romvae.training.step_memory import largest_batch
from romvae.training.variance import fit_variance

if TYPE_CHECKING:
    from romvae.data import Parts
    from romvae.rom import ROM
    from romvae.training.callbacks import Watch
    from romvae.training.pace import Pace

__all__ = ["fit"]

logger = logging.getLogger("romvae.training")


def fit(
    rom: ROM,
    parts: Parts,
    *,
    seed: int = 0,
    progress: Callable[..., None] | None = None,
    vae_steps: int | None = None,
    variance_steps: int | None = None,
    dynamics_steps: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    horizon: int | None = None,
    augment: Literal["auto", "none"] = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    devices: int | None = None,
    nodes: int | None = None,
    precision: Precision = "float32",
    compile: Compile = "off",
    threads: int | None = None,
    memory_budget: float | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 30.0,
    watch: Watch | Pace | None = None,
    **loss: Unpack[LossChoices],
) -> History:
    """Trains a ROM on the parts of a data set; the ROM is changed in place and is on the CPU afterwards.

    1. *Mean and encoder* on `parts.train`, at the profiled shared variance.
    2. *Local variance* on `parts.variance`, trajectories that the mean never saw: snapshots of a deterministic solver
       carry no noise, what the variance must learn is the error on new trajectories.
    3. *Latent dynamics* on the encoded trajectories of `parts.train` and their symmetric copies. With
       `dynamics="auto"` every kind is trained for a fifth of the steps first, and the one with the best forecasts of
       `parts.variance` for all of them; with a `patience` the same forecasts say when to stop. Where these
       trajectories say that training did not improve on POD, on linear dynamics, or on what the dynamics started from
       in closed form, those take its place (`fallback` in
       `LossChoices`; in the history's notes as `compression` and `dynamics_kept`).
       Optionally, decoded rollouts are fine-tuned on the score of their fields, or held to the equation: `finetune` and
       `physics` in `LossChoices`.
    4. *Calibration* of the forecast's variance per lead time and field on `parts.calibration`, and on up to 64 of its
       trajectories of the trust horizon (`romvae.trust`), at the cost of their rollouts.

    Arguments:
        rom: From `ROM.for_data(parts.train)`.
        parts: From `romvae.split`.
        seed: Seed of all randomness in training; the order of samples is a pure function of (seed, step).
        progress: Called as `progress(stage, done, total, note)`.
        vae_steps: Steps of stage 1; None chooses 2000.
        variance_steps: Steps of stage 2; None chooses 400.
        dynamics_steps: Steps of stage 3; None chooses 2500.
        learning_rate: Peak rate of stage 1; the other stages scale with it. None chooses 2e-3.
        batch_size: Snapshots per step, and windows per step and member; None chooses 128. Of snapshots that are
            streamed, None takes the largest power of two up to that whose step stays within 256 MiB, and eight at
            least.
        horizon: Stored steps in the longest window; None chooses six large steps.
        augment: `auto` adds copies moved by the symmetries of the data: shifts along periodic axes where the data look
            invariant, and the reflections and quarter turns that the data declare; `none` never.
        device: Where to train; `auto` takes a GPU where there is one.
        devices: Processes on each machine, one per GPU, or each with its share of the cores. They have been started by
            torchrun or SLURM, and each calls this with the same arguments: they share every batch and follow the
            training of one to rounding. None is this process alone.
        nodes: Machines.
        precision: `bf16` computes the convolutions of a training step in bfloat16. Weights, likelihood, divergence,
            latent rollouts, statistics and calibration are float32 all the same.
        compile: Whether `torch.compile` makes the networks of stage 1, which then differ by rounding. `auto` measures a
            pass before the first step, where the stage takes minutes, and compiles where that is faster; a training
            that is continued keeps what was decided (`compile` in the history's notes).
        threads: CPU threads; another number gives other weights.
        memory_budget: GB that the data of a part may take; a larger part is read from its file in blocks. None streams
            what would take more than half of the memory that is available. Streamed batches come in another order.
        checkpoint: File that holds the state of the training while it runs; if it is there already, the training goes
            on from it, with the same losses and weights to the bit on a CPU with the same number of threads.
        checkpoint_every: Seconds between two writes of the state within a stage.
        watch: What to record beside the result: learning rate, validation bound, best weights, pictures. It does not
            change the weights.
        loss: What encoder, mean and dynamics are trained on, such as `objective="free_bits"`: see `LossChoices`.

    Returns:
        Curves, seconds and the decisions taken.

    Raises:
        SchemaError: A part differs from the ROM's schema.
        DataError: The file of a part was changed while it was read.
        ConfigError: The device is not there, or the state was made with other settings.
        CheckpointError: The state is damaged.
        NumericsError: The loss stopped being finite, with stage and step.
        TrainingStoppedError: A signal asked for a stop; the state is on disk.
        RankLostError: Another process of this training has ended.
    """
    check_parts(rom, parts)
    if threads is not None:
        torch.set_num_threads(threads)
    accelerator = accelerator_of(device)
    ranks = join(require_place(place_of(devices, nodes), devices, nodes), accelerator == "gpu")
    rate = positive("learning_rate", learning_rate, 2e-3)
    budget = ranks.once(lambda: budget_of(rom, parts, memory_budget, checkpoint, ranks.local_size))
    windows = int(positive("batch_size", batch_size, 128))
    steps = {
        "vae": int(positive("vae_steps", vae_steps, 2000)),
        "variance": int(positive("variance_steps", variance_steps, 400)),
        "dynamics": int(positive("dynamics_steps", dynamics_steps, 2500)),
    }
    given, stride = int(rom.choices["given"]), rom.dynamics.stride  # where the choice of the dynamics drops the former
    large = 6 if horizon is None else max(1, int(positive("horizon", horizon, 1)) // rom.dynamics.stride)
    terms = loss_terms(rom, loss)
    bounded = batch_size is None and budget is not None
    size = largest_batch(rom.vae, windows, terms["samples"]) if bounded else windows
    own = {name: terms[name] for name in ("ema", "patience", "latent_consistency")}
    plan = DynamicsPlan(steps["dynamics"], 2 * rate, windows, large, seed, **own)
    tuning = finetune_plan(rom, terms, rate / 10, max(4, size // 8), 4 * large, seed)
    require_physics(rom, tuning, parts.train)
    settings: dict[str, Any] = {
        **terms,
        "physics": physics_name(terms["physics"]),
        **{f"{name}_steps": count for name, count in steps.items()},
        "seed": seed,
        "learning_rate": rate,
        "batch_size": size,
        "horizon": large,
        "augment": augment,
        "model": rom.description(),
        "threads": torch.get_num_threads(),
        "ranks": ranks.size,
        "precision": precision,
        "compile": compile,
    }
    if budget is not None and terms["consistency"]:
        raise ConfigError(
            "fit: consistency pairs every snapshot with its neighbour in time, so the data have to be in memory. "
            "Raise memory_budget, or leave consistency out."
        )
    path = None if checkpoint is None else Path(checkpoint)
    session = Session(path, {**settings, "memory_budget": budget}, checkpoint_every, ranks)
    told = progress if progress is not None and ranks.first else lambda *args: None
    report = session.watched(told)
    stepping = report if ranks.size == 1 else told  # several processes stop after the same step
    stamp = Stamp.of(parts.train, parts.variance, parts.calibration)
    x, c = data_of(rom, parts.train, budget)
    kept = existing_tensor(parts.train)
    symmetry = ranks.once(lambda: data_symmetry(rom, x, kept)) if augment == "auto" else Symmetry()
    together = ranks.once(lambda: course_symmetry(symmetry, x, c, kept))
    notes: dict[str, Any] = {
        "shifted_axes": [rom.schema.grid.names[a] for a in symmetry.axes],
        "shifted_axes_dynamics": [rom.schema.grid.names[a] for a in together.axes],
        "operations": [one.name for one in symmetry.operations],
        "device": accelerator,
    }
    if budget is not None:
        notes |= {"memory_budget": budget, "batch_size": size}
    session.history.notes.update(notes)

    def run(stage: Stage, batches: StepSeeds) -> None:
        stamp.check()
        begun = session.within(stage.name)
        start = 0 if begun is None else begun.step
        options = None if watch is None else watch.options(stage, rom, parts.variance, start)
        stage.digits = precision
        with _explained(stage.name, size):
            if isinstance(stage, MeanStage):
                compiling(stage, getattr(batches, "batch_size", size))
            run_stage(stage, batches, rom, session, accelerator, stepping, options, ranks)

    def compiling(stage: MeanStage, snapshots: int) -> None:
        here = snapshots if ranks.size == 1 else len(range(snapshots)[ranks.share(snapshots)])
        notes = session.history.notes
        decided = "compile" in notes  # before an interruption
        if not decided:
            chosen = ranks.once(lambda: decide_compiling(stage, compile, here, terms["samples"], accelerator))
            notes["compile"] = chosen.to_dict()
        stage.compiled = notes["compile"]["used"]
        if stage.compiled and (decided or not ranks.first):
            require_compiled(stage, here, terms["samples"], accelerator)

    def mean_stage() -> None:
        if rom.choices["compression"] in LINEAR_COMPRESSION:
            return  # known in closed form, and there since the ROM was built
        balance = Balance(rom, x, terms, session.history.notes.get("linear_error"), kept)
        session.history.notes["linear_error"] = balance.start
        stage, batches = mean_training(rom, x, terms, steps["vae"], rate, size, symmetry, seed, kept)
        stage.look = balance.look
        run(stage, batches)
        if may_be_pod(rom, terms, parts.variance.sizes["trajectory"]):
            seen = (
                x.some().flatten(0, 1) if isinstance(x, Trajectories) else x.flatten(0, 1) if kept is None else x[kept]
            )
            modes = ranks.once(lambda: refined(modes_of(seen, rom.vae.latent), seen))
            new, there = unseen()
            held = new.flatten(0, 1) if there is None else new[there]
            # Trajectories that end early, or lie on the disk, are judged by their fields alone.
            judge = first_forecasts if isinstance(x, Tensor) and kept is None and there is None else None
            session.history.notes["compression"] = keep_better_compression(rom.vae, modes, held, ranks, judge)
        session.history.notes.update(balance.notes())

    def first_forecasts(projected: bool) -> float:
        codes, weights = coded(projected)
        new, beside = snapshots_of(rom, parts.variance)
        theirs = encoded_copies(rom.vae, new, 1, Symmetry(), seed, report, None, ranks)
        held = Codes(*theirs, beside, controls_of(rom, parts.variance)).started(given, stride)
        return first_forecast_error(rom, codes, held, new, weights, plan, passing, ranks)

    def coded(projected: bool) -> tuple[Codes, Tensor]:
        """Codes of the training trajectories and of shifted copies, and the precision of each latent."""
        mean, std = encoded_copies(rom.vae, x, copies_of(rom, x, together), together, seed, report, kept, ranks)
        codes = Codes(mean, std, c, controls_of(rom, parts.train), kept)
        if not rom.vae.variational or rom.choices["compression"] == "pod" or projected:
            std = sensitivity(rom.vae, mean).rsqrt().expand_as(std)
        weights = 1 / (std.square().mean((0, 1, 2)) if kept is None else std[:, kept].square().mean((0, 1)))
        return replace(codes, precision=weights, log_range=rom.scaling.log_range), weights

    def unseen() -> tuple[Tensor, Tensor | None]:
        part = thinned_to(rom, parts.variance, budget)
        return snapshots_of(rom, part)[0], existing_tensor(part)

    def variance_stage() -> None:
        new, there = unseen()
        found = fit_variance(rom.vae, new, symmetry, steps["variance"], 2 * rate, seed, run, there, size, ranks)
        session.history.notes.update(found)

    def dynamics_stage() -> None:
        codes, weights = coded(session.history.notes.get("compression", {}).get("kept") == "pod")
        started = session.within("dynamics") is not None
        held, linear = None, may_be_linear(rom, terms, parts.variance.sizes["trajectory"])
        if plan.patience or linear or rom.choices["dynamics"] == "auto":
            new, beside = data_of(rom, parts.variance, budget)
            there = existing_tensor(parts.variance)
            encoded = encoded_copies(rom.vae, new, 1, Symmetry(), seed, report, there, ranks)
            held = Codes(*encoded, beside, controls_of(rom, parts.variance), there).even(1 + (given - 1) * stride)
            held = held.started(given, stride)
            if rom.choices["dynamics"] == "auto":
                found = choose_dynamics(rom, codes, held, weights, plan, passing, ranks)
                session.history.notes["dynamics"] = found
        told: dict[str, Any] = {"held": held, "vae": rom.vae, "started": started, "ranks": ranks, "given": given}
        train_dynamics(rom.dynamics, codes, weights, plan, run, **told)
        if held is not None and linear and not rom.dynamics.closed_form:
            found = best_dynamics(rom, codes, held, weights, plan, ranks)
            session.history.notes.update({"dynamics_kept": found} if found else {})

    def passing(stage: Stage, batches: StepSeeds) -> None:
        run_stage(stage, batches, rom, Session(None, {}), accelerator, stepping, ranks=ranks)

    def finetune_stage() -> None:
        def tensors(ds: xr.Dataset) -> tuple[Tensor | Trajectories, Tensor, Tensor | None]:
            return (*data_of(rom, ds, budget), controls_of(rom, ds))

        notes = session.history.notes
        if tuning is None:
            return
        if rom.dynamics.closed_form and not tuning.decoder:
            reason = "the dynamics that was chosen is known in closed form and has no weights"
            logger.info("fine-tuning is left out: %s", reason)
            notes["finetune"] = {"kept": False, "reason": reason}
            return
        notes.update(fine_tune(rom, parts, tuning, tensors, together, run, notes, ranks))
        if notes["finetune"]["kept"]:
            mean, std = encoded_copies(rom.vae, x, 1, Symmetry(), seed, report, kept, ranks)
            record_step_error(rom.dynamics, Codes(mean, std, c, controls_of(rom, parts.train), kept))

    def calibration_stage() -> None:
        part = parts.calibration
        calibrate(rom, *data_of(rom, part, budget), seed, report, controls_of(rom, part), existing_tensor(part), ranks)
        calibrate_horizon(rom, part, seed, report, ranks)

    with session.signals(), ranks.guarded(), _kinds_as_asked(rom):
        _begin(session, rom, ranks)
        stages = (mean_stage, variance_stage, dynamics_stage, finetune_stage, calibration_stage)
        todo = [pair for pair in zip(STAGES, stages, strict=True) if tuning is not None or pair[0] != "finetune"]
        for k, (name, stage) in enumerate(todo):
            if session.finished(name):
                continue
            session.begin(name)
            stage()
            stamp.check()
            session.tick()
            if k + 1 < len(todo):
                session.save(todo[k + 1][0], 0, rom.state_dict(), {})
                session.stop_if_asked(saved=True)
    rom.eval()
    return session.history


def _begin(session: Session, rom: ROM, ranks: Ranks) -> None:
    """Takes up the state that was found, or writes the first one; all processes begin with the same weights."""
    if session.found is None:
        if ranks.size > 1:
            rom.load_state_dict(ranks.once(rom.state_dict))
        session.save(STAGES[0], 0, rom.state_dict(), {})
        return
    notes = session.history.notes
    chosen = notes.get("dynamics", {}).get("kind") if rom.choices["dynamics"] == "auto" else None
    chosen = notes.get("dynamics_kept", {}).get("kept", chosen)
    if chosen not in (None, rom.choices["dynamics"]):
        install_dynamics(rom, chosen)
    rom.load_state_dict(session.found.model)
    logger.info("continuing in stage %s after step %d", session.found.stage, session.found.step)


@contextmanager
def _kinds_as_asked(rom: ROM) -> Iterator[None]:
    """Undoes what was decided of the dynamics where the training is stopped, so that the same ROM can go on with it."""
    dynamics, kinds = rom.dynamics, dict(rom.choices)
    try:
        yield
    except BaseException:
        rom.dynamics = dynamics
        rom.choices.update(kinds)
        raise


@contextmanager
def _explained(stage: str, size: int) -> Iterator[None]:
    """Says what to do where a GPU's memory is too small."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise NotEnoughMemoryError(
            f"stage {stage}: not enough GPU memory for batch_size {size} ({str(error).splitlines()[0]}). "
            "Lower --training.batch-size or --model.channels, or use --training.device cpu"
        ) from error
