"""Training of a ROM in four stages: mean, local variance, latent dynamics, calibration."""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
import xarray as xr
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from romvae.dynamics.residual import ResidualDynamics
from romvae.errors import ConfigError, DataError, OutOfRangeWarning
from romvae.rollout import forecast_moments, latent_members
from romvae.tensors import field_tensor, parameter_tensor, shift_axes
from romvae.training.batches import SnapshotBatches, StepSeeds, WindowBatches, random_shift, step_generator
from romvae.training.stages import DynamicsStage, MeanStage, Stage, VarianceStage

if TYPE_CHECKING:
    from romvae.data import Parts
    from romvae.rom import ROM

__all__ = ["History", "fit"]

logger = logging.getLogger("romvae.training")

Report = Callable[..., None]
COPIES = 16
"""Symmetric copies of the training set on which the dynamics is trained, where shifts are a symmetry."""


@dataclass
class History:
    """What happened in training: loss curves and seconds per stage, and decisions taken from the data."""

    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


class _Reporter(Callback):
    """Passes the step on to the progress callable."""

    def __init__(self, stage: Stage, report: Report) -> None:
        self.stage, self.name, self.steps, self.report = stage, stage.name, stage.steps, report

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        done = trainer.global_step
        if done % 20 == 0 or done == self.steps:
            self.report(self.name, done, self.steps, f"loss {self.stage.history['loss'][-1]:.4g}")


def fit(
    rom: ROM,
    parts: Parts,
    *,
    seed: int = 0,
    progress: Report | None = None,
    vae_steps: int | None = None,
    variance_steps: int | None = None,
    dynamics_steps: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    horizon: int | None = None,
    augment: Literal["auto", "none"] = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
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

    Returns:
        Curves, seconds and the decisions taken.

    Raises:
        SchemaError: A part differs from the ROM's schema.
        ConfigError: The device is not there.
        NumericsError: The loss stopped being finite, with stage and step.
    """
    for name in ("train", "variance", "calibration"):
        part = getattr(parts, name)
        if part.sizes.get("trajectory", 0) < 1:
            raise DataError(f"part {name!r} has no trajectory, at least 1 is needed. Split the data again.")
        with warnings.catch_warnings():
            # Held-out trajectories of the same data may well have a parameter just beyond those of the training part.
            warnings.simplefilter("ignore", OutOfRangeWarning)
            rom.schema.check(part, source=f"part {name!r}")
    if threads is not None:
        torch.set_num_threads(threads)
    accelerator = _accelerator(device)
    report: Report = progress if progress is not None else (lambda *args: None)
    history, rate, size = History(), learning_rate or 2e-3, batch_size or 128
    x, c = _tensors(rom, parts.train)
    axes = shift_axes(x, rom.schema) if augment == "auto" else ()
    history.notes["shifted_axes"] = [rom.schema.grid.names[a] for a in axes]
    history.notes["device"] = accelerator
    logger.info("shifted copies along: %s", ", ".join(history.notes["shifted_axes"]) or "no axis")

    def run(stage: Stage, batches: StepSeeds) -> None:
        begin = time.perf_counter()
        _run(stage, batches, accelerator, report)
        history.curves[stage.name] = stage.history
        history.seconds[stage.name] = time.perf_counter() - begin

    run(
        MeanStage(rom.vae, vae_steps or 2000, rate),
        SnapshotBatches(x.flatten(0, 1), size, vae_steps or 2000, seed, shift_axes=axes, noise=(rom.vae.latent,)),
    )
    begin = time.perf_counter()
    _fit_variance(rom, parts.variance, axes, variance_steps or 400, rate / 2, seed + 1, run, history)
    history.seconds["variance"] = time.perf_counter() - begin
    begin = time.perf_counter()
    dynamics = rom.dynamics
    mean, std = _encoded_copies(rom, x, COPIES if axes else 1, axes, seed + 2, report)
    dynamics.start_from_linear(mean.flatten(0, 1), c.repeat(mean.shape[0], 1))
    large = None if horizon is None else max(1, horizon // dynamics.stride)
    batches = WindowBatches(
        mean, std, c, dynamics.members, size, dynamics.stride, large or 6, dynamics_steps or 2500, seed + 3
    )
    precision = 1 / std.square().mean((0, 1, 2))
    run(DynamicsStage(dynamics, precision, dynamics_steps or 2500, 2 * rate), batches)
    _one_step_error(dynamics, mean, c)
    history.seconds["dynamics"] = time.perf_counter() - begin
    begin = time.perf_counter()
    _calibrate(rom, parts.calibration, seed + 4, report)
    history.seconds["calibration"] = time.perf_counter() - begin
    rom.eval()
    return history


def _accelerator(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        reason = "this torch is built for the CPU" if torch.version.cuda is None else "no CUDA device was found"
        raise ConfigError(f"device 'cuda': {reason}. Use --training.device cpu, or install a CUDA build of torch.")
    return "gpu" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _tensors(rom: ROM, ds: xr.Dataset) -> tuple[Tensor, Tensor]:
    return field_tensor(ds, rom.schema, rom.normaliser), parameter_tensor(ds, rom.schema, rom.scaling)


def _run(stage: Stage, batches: StepSeeds, accelerator: str, report: Report) -> None:
    """Runs one stage in a silent Trainer; files, logs and checkpoints are not its business."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer = Trainer(
            max_steps=stage.steps,
            max_epochs=1,
            accelerator=accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[_Reporter(stage, report)],
        )
        trainer.fit(stage, train_dataloaders=batches)
    stage.to("cpu")


@torch.no_grad()
def _encode(rom: ROM, x: Tensor, block: int = 1024) -> tuple[Tensor, Tensor]:
    """Posterior means and standard deviations of `(trajectory, time, channel, *space)`."""
    means, stds = [], []
    for part in x.flatten(0, 1).split(block):
        q = rom.vae.encoder(part).base_dist
        means.append(q.mean)
        stds.append(q.stddev)
    shape = (*x.shape[:2], rom.vae.latent)
    return torch.cat(means).reshape(shape), torch.cat(stds).reshape(shape)


def _encoded_copies(
    rom: ROM, x: Tensor, copies: int, axes: tuple[int, ...], seed: int, report: Report
) -> tuple[Tensor, Tensor]:
    """Encodes the trajectories and their shifted copies; a copy shifts each trajectory as a whole."""
    means, stds = [], []
    for k in range(copies):
        report("encode", k, copies)
        shifted = x
        if axes:
            generator = step_generator(seed, k)
            shifted = random_shift(x.flatten(1, 2), axes, generator).reshape(x.shape)
        mean, std = _encode(rom, shifted)
        means.append(mean)
        stds.append(std)
    report("encode", copies, copies)
    return torch.stack(means), torch.stack(stds)


def _fit_variance(
    rom: ROM,
    ds: xr.Dataset,
    axes: tuple[int, ...],
    steps: int,
    rate: float,
    seed: int,
    run: Callable[[Stage, StepSeeds], None],
    history: History,
) -> None:
    """Fits the local variance; keeps it only where it beats the shared one on trajectories set aside for that."""
    x, _ = _tensors(rom, ds)
    n = len(x)
    aside = max(1, n // 5) if n > 1 else 0
    x = x[:, :: max(1, x.shape[1] // 50)]
    copies = 4 if axes else 1
    codes, squares = [], []
    for k in range(copies):
        shifted = random_shift(x.flatten(1, 2), axes, step_generator(seed, k)).reshape(x.shape) if axes else x
        z, _ = _encode(rom, shifted)
        with torch.no_grad():
            flat = shifted.flatten(0, 1)
            error = torch.cat(
                [
                    (part - rom.vae.decoder.mean(code)).square()
                    for part, code in zip(flat.split(1024), z.flatten(0, 1).split(1024), strict=True)
                ]
            )
        codes.append(z)
        squares.append(error.reshape(x.shape))
    z, squared = torch.stack(codes, 1), torch.stack(squares, 1)
    decoder = rom.vae.decoder
    # The shared variance of *new* trajectories is the start; the training residuals are smaller.
    dims = [d for d in range(squared.ndim) if d != 3]
    decoder.log_var_shared.copy_((squared.mean(dims) + decoder.floor**2).log().float())
    zf, sf = z[: n - aside].flatten(0, 2), squared[: n - aside].flatten(0, 2)
    before = copy.deepcopy(decoder.log_var.state_dict())
    run(VarianceStage(rom.vae, steps, rate), _Pairs(zf, sf, 128, steps, seed))
    decoder.local.fill_(True)
    if aside:
        zv, sv = z[n - aside :].flatten(0, 2), squared[n - aside :].flatten(0, 2)
        local = _nll(decoder.variance_parameters, zv, sv)
        after = copy.deepcopy(decoder.log_var.state_dict())
        decoder.log_var.load_state_dict(before)
        shared = _nll(decoder.variance_parameters, zv, sv)
        history.notes["variance_nll"] = {"local": local, "shared": shared}
        if local < shared:
            decoder.log_var.load_state_dict(after)
        else:
            logger.warning(
                "the local variance does not beat the shared one on new trajectories; the shared one is kept"
            )
        history.notes["local_variance"] = local < shared


class _Pairs(StepSeeds):
    """Random codes with their squared residuals."""

    def __init__(self, z: Tensor, squared: Tensor, batch_size: int, steps: int, seed: int) -> None:
        super().__init__(steps, seed)
        self.z, self.squared, self.batch_size = z, squared, batch_size

    def batch(self, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        index = torch.randint(len(self.z), (min(self.batch_size, len(self.z)),), generator=generator)
        return {"z": self.z[index], "squared": self.squared[index]}


@torch.no_grad()
def _nll(log_var_of: Callable[[Tensor], Tensor], z: Tensor, squared: Tensor) -> float:
    total = 0.0
    for code, square in zip(z.split(1024), squared.split(1024), strict=True):
        log_var = log_var_of(code)
        total += float((log_var + square * torch.exp(-log_var)).sum())
    return 0.5 * total / squared.numel()


@torch.no_grad()
def _one_step_error(dynamics: ResidualDynamics, mean: Tensor, c: Tensor) -> None:
    """Records the root mean square error of one stored step as the standard deviation of p(z' | z, c)."""
    z = mean[0]
    flat = z[:, :-1].flatten(0, 1)
    repeated = c.repeat_interleave(z.shape[1] - 1, 0)
    step = dynamics(flat.unsqueeze(-2), repeated, float(dynamics.dt)).mean
    dynamics.std.copy_((step - z[:, 1:].flatten(0, 1)).square().mean((0, 1)).sqrt().clamp_min(1e-6))


def _lead_grid(steps: int, stride: int, count: int = 24) -> Tensor:
    """Lead times at which to calibrate: every one in the first large steps, where the error changes fast, then even."""
    even = torch.linspace(0, steps, count).round().long()
    return torch.cat([even, torch.arange(min(steps, 4 * stride) + 1)]).unique()


@torch.no_grad()
def _calibrate(rom: ROM, ds: xr.Dataset, seed: int, report: Report, members: int = 16, points: int = 4096) -> None:
    """Rolls out the calibration trajectories from their first field and fits the factors."""
    x, c = _tensors(rom, ds)
    steps = x.shape[1] - 1
    leads = _lead_grid(steps, rom.dynamics.stride)
    generator = step_generator(seed, 0)
    size = x[0, 0, 0].numel()
    pick = torch.randperm(size, generator=generator)[:points].sort().values
    blocks = []
    done, total = 0, len(x)
    for first in range(0, total, 16):
        report("calibration", done, total)
        block = x[first : first + 16]
        path = latent_members(
            rom.vae, rom.dynamics, block[:, 0], c[first : first + 16], steps, members, seed, first=first
        )
        ratios = []
        for moments in forecast_moments(rom.vae, path, leads):
            residual = block[:, moments.lead].transpose(0, 1) - moments.mean
            ratio = residual.abs() / (moments.decoder_var + moments.dynamics_var).sqrt()
            ratios.append(ratio.flatten(3)[..., pick])
        blocks.append(torch.cat(ratios).transpose(1, 2))
        done += len(block)
    rom.calibration.fit(leads, torch.cat(blocks, 2))
    report("calibration", total, total)
