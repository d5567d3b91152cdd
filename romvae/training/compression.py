"""The first stage from settings to batches, on its own for a search, and what it says of the divergence's balance."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from romvae.assembly import LINEAR_COMPRESSION
from romvae.invariance import symmetry_given, symmetry_of
from romvae.kinds import LOSS_DEFAULTS
from romvae.latent.activity import Activity, activity_of, advice_of, reconstruction_error, warnings_of
from romvae.launch import place_of, require_place
from romvae.objectives import Objective, objective_of
from romvae.ranks import join
from romvae.rom import ROM
from romvae.streamed import Trajectories, streaming_budget
from romvae.symmetry import Symmetry
from romvae.tensors import even_tensor, existing_tensor, field_tensor
from romvae.training.batches import SnapshotBatches
from romvae.training.mean import MeanStage
from romvae.training.runner import run_stage
from romvae.training.session import Session
from romvae.training.step_memory import largest_batch
from romvae.training.streamed import StreamedBatches

__all__ = ["Balance", "course_symmetry", "data_symmetry", "fit_compression", "mean_training"]

logger = logging.getLogger("romvae.training")

_USUAL = {"vae_steps": 2000, "learning_rate": 2e-3, "batch_size": 128}
"""What `romvae.fit` takes where nothing was chosen."""
_JUDGED, _JUDGED_POINTS, _FEW = 256, 2**22, 32
"""Training snapshots on which the balance of likelihood and divergence is judged."""
LOOKS = 10
"""Looks at that balance during the stage; the first at a fifth of it, when it has left its start."""


def data_symmetry(rom: ROM, x: Tensor | Trajectories, kept: Tensor | None = None) -> Symmetry:
    """What may be done to training snapshots, as `romvae.invariance.symmetry_of` judges it from all, or from some.

    Arguments:
        rom: Theirs.
        x: Normalised snapshots `(trajectory, time, channel, *space)`, in memory or on disk.
        kept: Which snapshots in memory there are, `(trajectory, time)`; None for all.
    """
    some = x.some() if isinstance(x, Trajectories) else even_tensor(x, kept)
    return symmetry_of(some, rom.schema, rom.normaliser, rom.mask)


def course_symmetry(symmetry: Symmetry, x: Tensor | Trajectories, c: Tensor, kept: Tensor | None = None) -> Symmetry:
    """What of it may be done to trajectories with their parameters, as `romvae.invariance.symmetry_given` judges it.

    Arguments:
        symmetry: Of the snapshots, from `data_symmetry`.
        x: As there.
        c: Normalised parameters `(trajectory, parameter)`.
        kept: As there.
    """
    if not symmetry.axes:
        return symmetry
    if isinstance(x, Trajectories):
        return symmetry_given(symmetry, x.some(), c[torch.from_numpy(x.some_rows()[0])])
    return symmetry_given(symmetry, even_tensor(x, kept), c if kept is None else even_tensor(c[:, None], kept)[:, 0])


def mean_training(
    rom: ROM,
    x: Tensor | Trajectories,
    terms: Mapping[str, Any],
    steps: int,
    rate: float,
    size: int,
    symmetry: Symmetry,
    seed: int,
    kept: Tensor | None = None,
) -> tuple[MeanStage, SnapshotBatches]:
    """The stage that trains encoder and mean, and its batches.

    Arguments:
        rom: Its VAE is trained.
        x: Normalised snapshots `(trajectory, time, channel, *space)`, in memory or on disk.
        terms: All of `LossChoices`.
        steps: Training steps.
        rate: Peak learning rate.
        size: Snapshots per batch.
        symmetry: By what snapshots are moved at random.
        seed: Seed of order, noise and moves.
        kept: Which snapshots in memory there are, `(trajectory, time)`; None for all.
    """
    objective = objective_of(terms["objective"], dict(terms))
    stage = MeanStage(rom.vae, steps, rate, objective=objective, consistency=terms["consistency"], seed=seed)
    noise = (terms["samples"], rom.vae.latent)
    corrupted = terms["input_noise"] if rom.choices["compression"] == "dae" else 0.0
    if isinstance(x, Trajectories):
        return stage, StreamedBatches(x, size, steps, seed, symmetry=symmetry, noise=noise, input_noise=corrupted)
    batches = SnapshotBatches(
        x.flatten(0, 1),
        size,
        steps,
        seed,
        symmetry=symmetry,
        noise=noise,
        group=x.shape[1],
        neighbour=terms["consistency"] > 0,
        input_noise=corrupted,
        kept=None if kept is None else kept.flatten(),
    )
    return stage, batches


class Balance:
    """Watches whether the first stage does better than the linear model that it starts as, on its way and at its end.

    Judged on a few training snapshots: on others, an overfitted model would look like a collapsed one. Nothing random
    is drawn that training could notice. On the way it looks ten times, once the divergence counts in full, and says
    what is wrong when it was so at two looks in a row: a training that collapses need not be waited for.

    Arguments:
        rom: Before the stage; not yet trained, unless `start` is given.
        x: Its training snapshots.
        terms: What the stage is told.
        start: Error of the linear model, where the stage is continued.
        kept: Which snapshots in memory there are, `(trajectory, time)`; None for all.
    """

    def __init__(
        self,
        rom: ROM,
        x: Tensor | Trajectories,
        terms: Mapping[str, Any],
        start: float | None = None,
        kept: Tensor | None = None,
    ) -> None:
        flat = x.some().flatten(0, 1) if isinstance(x, Trajectories) else x.flatten(0, 1) if kept is None else x[kept]
        judged = max(_FEW, min(_JUDGED, _JUDGED_POINTS // rom.schema.grid.points))
        self.rom, self.snapshots = rom, flat[:: -(-len(flat) // judged)].clone()
        self.start = reconstruction_error(rom.vae, self.snapshots) if start is None else start
        self.told = {**terms, **rom.choices}
        self._doubts = 0

    def look(self, done: int, steps: int, objective: Objective) -> None:
        """Says once, in the log, what is wrong after `done` of `steps` training steps."""
        due = done % max(1, steps // LOOKS) == 0 and 2 * steps <= LOOKS * done < LOOKS * steps
        if not due or self._doubts > 1 or not self.rom.vae.variational or not objective.full(done / steps):
            return
        said = warnings_of(self._found(ablation=False), self.start, self.told)
        self._doubts = self._doubts + 1 if said else 0
        if self._doubts > 1:
            logger.warning("after %d of %d steps of the first stage: %s", done, steps, said[0])

    def notes(self) -> dict[str, Any]:
        """Divergence per latent and warnings at the end, for the history; warnings go to the log too."""
        if not self.rom.vae.variational:
            return {}
        found = self._found()
        said = warnings_of(found, self.start, self.told)
        for sentence in said:
            logger.warning("%s", sentence)
        return {
            "latent": {
                "kl": [float(v) for v in found.table["kl"].values],
                "active": found.active,
                "error": found.relative_error,
                "linear_error": self.start,
                "advice": advice_of(found),
                "warnings": said,
            }
        }

    def _found(self, ablation: bool = True) -> Activity:
        vae = self.rom.vae
        training = vae.training
        vae.eval()
        found = activity_of(vae, self.snapshots.to(next(vae.parameters()).device), ablation)
        vae.train(training)
        return found


def fit_compression(
    rom: ROM,
    train: xr.Dataset,
    seed: int = 0,
    training: Mapping[str, Any] | None = None,
    progress: Callable[..., None] | None = None,
) -> ROM:
    """Trains encoder and mean decoder only, as the first stage of `romvae.fit` does; the ROM is changed in place.

    Arguments:
        rom: From `ROM.for_data(train)`.
        train: Training part.
        seed: Seed of the training.
        training: Arguments of `romvae.fit`; those of other stages have no effect.
        progress: Progress callable.
    """
    if rom.choices["compression"] in LINEAR_COMPRESSION:
        return rom
    told = dict(training or {})
    budget = streaming_budget(train, rom.schema, told.get("memory_budget"))
    x: Tensor | Trajectories
    if budget is None:
        x = field_tensor(train, rom.schema, rom.normaliser)
    else:
        x = Trajectories(train, rom.schema, rom.normaliser, budget)
    moves = told.get("augment", "auto") == "auto"
    kept = existing_tensor(train)
    symmetry = data_symmetry(rom, x, kept) if moves else Symmetry()
    steps, rate, size = (told.get(name) or usual for name, usual in _USUAL.items())
    terms = {**LOSS_DEFAULTS, **{name: told[name] for name in LOSS_DEFAULTS if name in told}}
    if budget is not None and told.get("batch_size") is None:
        size = largest_batch(rom.vae, int(size), terms["samples"])
    stage, batches = mean_training(rom, x, terms, int(steps), float(rate), int(size), symmetry, seed, kept)
    accelerator = "gpu" if told.get("device") != "cpu" and torch.cuda.is_available() else "cpu"
    devices, nodes = told.get("devices"), told.get("nodes")
    ranks = join(require_place(place_of(devices, nodes), devices, nodes), accelerator == "gpu")
    stage.digits = told.get("precision", "float32")
    report = progress if progress is not None and ranks.first else lambda *args: None
    run_stage(stage, batches, rom, Session(None, {}, ranks=ranks), accelerator, report, ranks=ranks)
    rom.eval()
    return rom
