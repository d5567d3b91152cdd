"""Runs one stage in a silent Lightning Trainer, from wherever it was left."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import nn

from romvae.training.batches import StepSeeds
from romvae.training.session import Session
from romvae.training.stages import Stage

__all__ = ["run_stage"]


class _Keeper(Callback):
    """Reports progress, and writes the training state when it is due."""

    def __init__(self, stage: Stage, model: nn.Module, session: Session, report: Callable[..., None]) -> None:
        self.stage, self.model, self.session, self.report = stage, model, session, report

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        stage, done = self.stage, self.stage.done
        if done % 20 == 0 or done == stage.steps:
            self.report(stage.name, done, stage.steps, f"loss {stage.history['loss'][-1]:.4g}")
        if self.session.due and done < stage.steps:
            self.session.history.curves[stage.name] = stage.history
            self.session.save(stage.name, done, self.model.state_dict(), stage.optimiser_state())
            self.session.stop_if_asked(saved=True)


def run_stage(
    stage: Stage,
    batches: StepSeeds,
    model: nn.Module,
    session: Session,
    accelerator: str,
    report: Callable[..., None],
) -> None:
    """Trains one stage; files, logs and checkpoints of Lightning's own are switched off.

    Arguments:
        stage: What to optimise.
        batches: All its batches; those of steps that are done are skipped.
        model: The ROM whose state is kept.
        session: Where the state is kept; a state within this stage is continued.
        accelerator: As Lightning calls it.
        report: Progress callable.

    Raises:
        NumericsError: A loss or gradient is not finite.
        TrainingStoppedError: A signal asked for a stop; the state is on disk.
    """
    state = session.within(stage.name)
    if state is not None:
        stage.continue_from(state.step, state.optimiser, session.history.curves.get(stage.name))
        batches.start = state.step
    lightning = logging.getLogger("lightning.pytorch")
    level = lightning.level
    if batches.start < stage.steps:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            lightning.setLevel(logging.ERROR)
            trainer = Trainer(
                max_steps=stage.steps - batches.start,
                max_epochs=1,
                accelerator=accelerator,
                devices=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                callbacks=[_Keeper(stage, model, session, report)],
                # Signals are the session's business, in a batch system too.
                plugins=[LightningEnvironment()],
            )
            try:
                trainer.fit(stage, train_dataloaders=batches)
            finally:
                lightning.setLevel(level)
    stage.to("cpu")
    session.history.curves[stage.name] = stage.history
