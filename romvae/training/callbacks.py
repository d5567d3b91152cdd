"""What can be recorded of a training beside its result; nothing here changes a weight, and all is off by default.

With `romvae.fit`:

```python
watch = romvae.training.Watch("runs/watched", every=200, tensorboard=True)
romvae.fit(rom, parts, watch=watch)
```

Or in a Trainer of your own, since the stages are LightningModules:

```python
stage = romvae.training.MeanStage(rom.vae, steps=1000)
trainer = lightning.Trainer(max_steps=1000, callbacks=[romvae.training.Pictures(rom, parts.variance, "pictures")])
trainer.fit(stage, snapshot_loader(rom, parts.train), snapshot_loader(rom, parts.variance, shuffle=False))
trainer.callback_metrics["val_elbo"]
```

A stage's learning rate rises and falls over its `steps`: let the Trainer take that many, not more. What follows the
first stage (local variance, dynamics, calibration) is `romvae.fit`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, cast

import torch
import xarray as xr
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from romvae.distributions import moments
from romvae.errors import CheckpointError, ConfigError, optional_import
from romvae.plot import gallery, release
from romvae.ragged import thinned
from romvae.schema import TIME, TRAJECTORY
from romvae.tensors import existing_tensor, field_tensor
from romvae.training.mean import MeanStage
from romvae.training.runner import StageOptions
from romvae.training.stages import Stage

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["Pictures", "Watch", "restore_vae", "snapshot_loader"]

_HELD = 1024
"""Snapshots of the validation, at most."""


@dataclass(frozen=True)
class Watch:
    """What to record of the stages of `romvae.fit`.

    In `folder`, per stage: the learning rate and the loss as `metrics.csv` or as TensorBoard events; and for the first
    stage, at validation points: the bound on held-out snapshots (`val_elbo`), the weights that it was best at, and
    pictures of reconstructions and prior samples. What is recorded of a training that is continued goes to folders of
    its own, such as `vae-from-600` and `best-from-600`, whose steps count from there; pictures count all steps.

    `romvae train DATA --out RUN --watch.every 200` records the same in `RUN/watch`.

    Arguments:
        folder: Where it goes; made if it is not there.
        every: Training steps between two validation points.
        images: Whether to write pictures.
        keep: Number of best weights to keep; `restore_vae` reads them.
        tensorboard: Whether to log for TensorBoard (needs `pip install 'romvae[tensorboard]'`).
        callbacks: Callbacks of your own, for every stage.
    """

    folder: str | Path
    every: int = 200
    images: bool = True
    keep: int = 1
    tensorboard: bool = False
    callbacks: Sequence[Callback] = ()

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep < 0:
            raise ConfigError(
                f"Watch: every is {self.every} and keep is {self.keep}, expected at least 1 and 0. Raise them."
            )
        if self.tensorboard:
            optional_import("tensorboard", "tensorboard", "Watch(tensorboard=True)")

    def options(self, stage: Stage, rom: ROM, held: xr.Dataset, start: int = 0) -> StageOptions:
        """What the Trainer of a stage gets.

        Arguments:
            stage: The stage.
            rom: What is trained.
            held: Held-out trajectories, for the first stage.
            start: Steps of the stage that are done.
        """
        folder, since = Path(self.folder), f"-from-{start}" if start else ""
        logger = self._logger(folder, stage.name + since)
        callbacks: list[Callback] = [LearningRateMonitor("step"), *self.callbacks]
        trainer: dict[str, Any] = {"log_every_n_steps": max(1, min(20, self.every))}
        if not isinstance(stage, MeanStage):
            return StageOptions(callbacks, logger, trainer=trainer)
        if self.images:
            callbacks.append(Pictures(rom, held, folder / "pictures", self.every))
        if self.keep:
            best = ModelCheckpoint(
                folder / f"best{since}",
                filename="{step}",
                monitor="val_elbo",
                mode="max",
                save_top_k=self.keep,
                save_weights_only=True,
            )
            callbacks.append(best)
        trainer |= {"val_check_interval": self.every, "check_val_every_n_epoch": None}
        loader = snapshot_loader(rom, _some(held), shuffle=False)
        return StageOptions(callbacks, logger, loader, trainer)

    def _logger(self, folder: Path, name: str) -> Any:
        if self.tensorboard:
            return TensorBoardLogger(folder, name=name, version="", default_hp_metric=False)
        return CSVLogger(folder, name=name, version="")


class Pictures(Callback):
    """Reconstructions beside the truth, and prior samples, as PNG at every validation, in physical units.

    Where a TensorBoard logger is at work it gets the pictures too.

    Arguments:
        rom: What is trained; only its first stage is pictured.
        snapshots: Canonical; four evenly spaced ones are reconstructed.
        folder: Gets `reconstructions-STEP.png` and `samples-STEP.png`.
        every: Training steps between two pictures; validations in between are passed over.
        seed: Seed of the samples, the same at all times so that pictures can be compared.
    """

    def __init__(self, rom: ROM, snapshots: xr.Dataset, folder: str | Path, every: int = 1, seed: int = 0) -> None:
        self.rom, self.folder, self.every, self.seed = rom, Path(folder), every, seed
        flat = _flat(_some(snapshots), rom)
        self.x = flat[torch.linspace(0, len(flat) - 1, min(4, len(flat))).long()]
        self._last = -every

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, MeanStage) or trainer.sanity_checking:
            return
        step = pl_module.done
        if step < self._last + self.every:
            return
        self._last = step
        self.draw(step, trainer.loggers)

    @torch.no_grad()
    def draw(self, step: int, loggers: Sequence[Any] = ()) -> list[Path]:
        """Writes both pictures now and returns their paths."""
        vae = self.rom.vae
        device = next(vae.parameters()).device
        again = vae.decoder(moments(vae.encoder(self.x.to(device)))[0]).mean
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            samples = vae.decoder(vae.prior().sample(torch.Size([8]))).mean
        name = self.rom.schema.field_names[0]
        found = {
            "reconstructions": gallery(
                {"truth": self._field(self.x, name), "decoded": self._field(again, name)}, "held-out snapshots"
            ),
            "samples": gallery({"prior": self._field(samples, name)}, "samples of the prior"),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for kind, figure in found.items():
            paths.append(self.folder / f"{kind}-{step:06d}.png")
            figure.savefig(paths[-1], dpi=110)
            for logger in loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_figure(kind, figure, step, close=False)
            release(figure)
        return paths

    def _field(self, x: Tensor, name: str) -> xr.DataArray:
        """The first field of normalised snapshots, in its units."""
        u = self.rom.normaliser.inverse(x.cpu())[:, 0].numpy()
        axes = self.rom.space()
        units = {"units": self.rom.schema.fields[0].units}
        return xr.DataArray(u, dims=("sample", *axes), coords=axes, name=name, attrs=units)


def snapshot_loader(rom: ROM, ds: xr.Dataset, batch_size: int = 128, shuffle: bool = True, seed: int = 0) -> DataLoader:
    """Batches `{"x": ...}` of normalised snapshots for `MeanStage` in a Trainer of your own; the data are in memory.

    Arguments:
        rom: Whose grid and normalisation they are for.
        ds: Canonical.
        batch_size: Snapshots per batch.
        shuffle: Whether their order is random; off for validation.
        seed: Seed of the order.
    """
    x = _flat(ds, rom)
    generator = torch.Generator().manual_seed(seed) if shuffle else None
    rows = cast(Any, [{"x": row} for row in x])
    return DataLoader(rows, batch_size, shuffle=shuffle, generator=generator)


def restore_vae(rom: ROM, path: str | Path) -> None:
    """Gives a ROM the encoder and decoder of a checkpoint that `Watch`, or a ModelCheckpoint of yours, wrote.

    The stages after the first one were not made for these weights: fit them anew.

    Arguments:
        rom: Of the same sizes.
        path: Checkpoint file of a `MeanStage`; no code in it is executed.

    Raises:
        CheckpointError: It cannot be read, or belongs to a model of other sizes.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        state = {name.removeprefix("vae."): value for name, value in stored.items() if name.startswith("vae.")}
        rom.vae.load_state_dict(state)
    except (OSError, KeyError, TypeError, RuntimeError, ValueError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{path}: no weights of this model's first stage: {reason}. Give a checkpoint of a MeanStage of the same "
            "sizes."
        ) from error


def _some(ds: xr.Dataset) -> xr.Dataset:
    """Evenly spaced times, so that validation takes little time."""
    total = ds.sizes[TRAJECTORY] * ds.sizes[TIME]
    return thinned(ds, -(-total // _HELD))


def _flat(ds: xr.Dataset, rom: ROM) -> Tensor:
    """All snapshots that there are, normalised, in a row."""
    x, kept = field_tensor(ds, rom.schema, rom.normaliser), existing_tensor(ds)
    return x.flatten(0, 1) if kept is None else x[kept]
