"""Training of a ROM in four stages: mean, local variance, latent dynamics, calibration."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
import xarray as xr
from torch import Tensor

from romvae.dynamics.residual import ResidualDynamics
from romvae.errors import ConfigError, DataError, OutOfRangeWarning
from romvae.tensors import field_tensor, parameter_tensor, shift_axes
from romvae.training.batches import SnapshotBatches, StepSeeds, WindowBatches
from romvae.training.calibrate import calibrate
from romvae.training.encoding import encoded_copies
from romvae.training.runner import run_stage
from romvae.training.session import STAGES, History, Session
from romvae.training.stages import DynamicsStage, MeanStage, Stage
from romvae.training.variance import fit_variance

if TYPE_CHECKING:
    from romvae.data import Parts
    from romvae.rom import ROM

__all__ = ["fit"]

logger = logging.getLogger("romvae.training")

COPIES = 16
"""Symmetric copies of the training set on which the dynamics is trained, where shifts are a symmetry."""


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
    threads: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 30.0,
) -> History:
    """Trains a ROM on the parts of a data set; the ROM is changed in place and is on the CPU afterwards.

    1. *Mean and encoder* on `parts.train`, at the profiled shared variance.
    2. *Local variance* on `parts.variance`, trajectories that the mean never saw: snapshots of a deterministic solver
       carry no noise, what the variance must learn is the error on new trajectories.
    3. *Latent dynamics* on the encoded trajectories of `parts.train` and their symmetric copies.
    4. *Calibration* of the forecast's variance per lead time and field on `parts.calibration`.

    Arguments:
        rom: From `ROM.for_data(parts.train)`.
        parts: From `romvae.split`.
        seed: Seed of all randomness in training; the order of samples is a pure function of (seed, step).
        progress: Called as `progress(stage, done, total, note)`.
        vae_steps: Steps of stage 1; None chooses 2000.
        variance_steps: Steps of stage 2; None chooses 400.
        dynamics_steps: Steps of stage 3; None chooses 2500.
        learning_rate: Peak rate of stage 1; the other stages scale with it. None chooses 2e-3.
        batch_size: Snapshots per step, and windows per step and member; None chooses 128.
        horizon: Stored steps in the longest window; None chooses six large steps.
        augment: `auto` adds shifted copies along periodic axes where the data look invariant, `none` never.
        device: Where to train; `auto` takes a GPU where there is one.
        threads: CPU threads; another number gives other weights.
        checkpoint: File that holds the state of the training while it runs; if it is there already, the training goes
            on from it, with the same losses and weights to the bit on a CPU with the same number of threads.
        checkpoint_every: Seconds between two writes of the state within a stage.

    Returns:
        Curves, seconds and the decisions taken.

    Raises:
        SchemaError: A part differs from the ROM's schema.
        ConfigError: The device is not there, or the state was made with other settings.
        CheckpointError: The state is damaged.
        NumericsError: The loss stopped being finite, with stage and step.
        TrainingStoppedError: A signal asked for a stop; the state is on disk.
    """
    _check_parts(rom, parts)
    if threads is not None:
        torch.set_num_threads(threads)
    accelerator = _accelerator(device)
    rate = _positive("learning_rate", learning_rate, 2e-3)
    size = int(_positive("batch_size", batch_size, 128))
    steps = {
        "vae": int(_positive("vae_steps", vae_steps, 2000)),
        "variance": int(_positive("variance_steps", variance_steps, 400)),
        "dynamics": int(_positive("dynamics_steps", dynamics_steps, 2500)),
    }
    large = 6 if horizon is None else max(1, int(_positive("horizon", horizon, 1)) // rom.dynamics.stride)
    settings = {
        **{f"{name}_steps": count for name, count in steps.items()},
        "seed": seed,
        "learning_rate": rate,
        "batch_size": size,
        "horizon": large,
        "augment": augment,
        "model": rom.description(),
        "threads": torch.get_num_threads(),
    }
    session = Session(None if checkpoint is None else Path(checkpoint), settings, checkpoint_every)
    report = session.watched(progress if progress is not None else lambda *args: None)
    x, c = _tensors(rom, parts.train)
    axes = shift_axes(x, rom.schema) if augment == "auto" else ()
    notes = {"shifted_axes": [rom.schema.grid.names[a] for a in axes], "device": accelerator}
    session.history.notes.update(notes)

    def run(stage: Stage, batches: StepSeeds) -> None:
        run_stage(stage, batches, rom, session, accelerator, report)

    def mean_stage() -> None:
        batches = SnapshotBatches(
            x.flatten(0, 1), size, steps["vae"], seed, shift_axes=axes, noise=(rom.vae.latent,), group=x.shape[1]
        )
        run(MeanStage(rom.vae, steps["vae"], rate), batches)

    def variance_stage() -> None:
        new, _ = _tensors(rom, parts.variance)
        found = fit_variance(rom.vae, new, axes, steps["variance"], rate / 2, seed, run)
        session.history.notes.update(found)

    def dynamics_stage() -> None:
        mean, std = encoded_copies(rom.vae, x, COPIES if axes else 1, axes, seed, report)
        if session.within("dynamics") is None:
            rom.dynamics.start_from_linear(mean.flatten(0, 1), c.repeat(mean.shape[0], 1))
        batches = WindowBatches(
            mean, std, c, rom.dynamics.members, size, rom.dynamics.stride, large, steps["dynamics"], seed
        )
        precision = 1 / std.square().mean((0, 1, 2))
        run(DynamicsStage(rom.dynamics, precision, steps["dynamics"], 2 * rate), batches)
        _one_step_error(rom.dynamics, mean, c)

    def calibration_stage() -> None:
        calibrate(rom, *_tensors(rom, parts.calibration), seed, report)

    with session.signals():
        _begin(session, rom)
        for k, stage in enumerate((mean_stage, variance_stage, dynamics_stage, calibration_stage)):
            name = STAGES[k]
            if session.finished(name):
                continue
            session.begin(name)
            stage()
            session.tick()
            if k + 1 < len(STAGES):
                session.save(STAGES[k + 1], 0, rom.state_dict(), {})
                session.stop_if_asked(saved=True)
    rom.eval()
    return session.history


def _begin(session: Session, rom: ROM) -> None:
    """Takes up the state that was found, or writes the first one."""
    if session.found is None:
        session.save(STAGES[0], 0, rom.state_dict(), {})
        return
    rom.load_state_dict(session.found.model)
    logger.info("continuing in stage %s after step %d", session.found.stage, session.found.step)


def _check_parts(rom: ROM, parts: Parts) -> None:
    for name in ("train", "variance", "calibration"):
        part = getattr(parts, name)
        if part.sizes.get("trajectory", 0) < 1:
            raise DataError(f"part {name!r} has no trajectory, at least 1 is needed. Split the data again.")
        with warnings.catch_warnings():
            # Held-out trajectories of the same data may well have a parameter just beyond those of the training part.
            warnings.simplefilter("ignore", OutOfRangeWarning)
            rom.schema.check(part, source=f"part {name!r}")
        if part.sizes["time"] <= rom.dynamics.stride:
            raise DataError(
                f"part {name!r}: {part.sizes['time']} times, this ROM takes steps of {rom.dynamics.stride} of them. "
                "Give longer trajectories, or build the ROM for these."
            )


def _positive(name: str, value: float | None, default: float) -> float:
    if value is None:
        return default
    if not value > 0:
        raise ConfigError(f"fit: {name} is {value}, expected a positive number. Leave it out for {default:g}.")
    return value


def _accelerator(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        reason = "this torch is built for the CPU" if torch.version.cuda is None else "no CUDA device was found"
        raise ConfigError(f"device 'cuda': {reason}. Use --training.device cpu, or install a CUDA build of torch.")
    return "gpu" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _tensors(rom: ROM, ds: xr.Dataset) -> tuple[Tensor, Tensor]:
    return field_tensor(ds, rom.schema, rom.normaliser), parameter_tensor(ds, rom.schema, rom.scaling)


@torch.no_grad()
def _one_step_error(dynamics: ResidualDynamics, mean: Tensor, c: Tensor) -> None:
    """Records the root mean square error of one stored step as the standard deviation of p(z' | z, c)."""
    z = mean[0]
    flat = z[:, :-1].flatten(0, 1)
    repeated = c.repeat_interleave(z.shape[1] - 1, 0)
    step = dynamics(flat.unsqueeze(-2), repeated, float(dynamics.dt)).mean
    dynamics.std.copy_((step - z[:, 1:].flatten(0, 1)).square().mean((0, 1)).sqrt().clamp_min(1e-6))
