"""Runs one stage in a silent Lightning Trainer, from wherever it was left."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import nn

from romvae.nn.compilable import compiled
from romvae.ranks import ALONE, Ranks
from romvae.training.batches import StepSeeds
from romvae.training.session import Session
from romvae.training.stages import Stage
from romvae.training.strategy import frozen, trainer_options

__all__ = ["StageOptions", "run_stage"]


@dataclass(frozen=True)
class StageOptions:
    """What a Trainer gets beside the stage itself.

    Arguments:
        callbacks: Callbacks.
        logger: Where metrics go.
        validation: Held-out batches.
        trainer: Further arguments of the Trainer.
    """

    callbacks: Sequence[Callback] = ()
    logger: Any = False
    validation: Any = None
    trainer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def checkpoints(self) -> bool:
        """Whether a callback writes checkpoints."""
        return any(isinstance(callback, Checkpoint) for callback in self.callbacks)


class _Keeper(Callback):
    """Reports progress, and writes the training state when it is due."""

    def __init__(self, stage: Stage, model: nn.Module, session: Session, report: Callable[..., None]) -> None:
        self.stage, self.model, self.session, self.report = stage, model, session, report

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.session.take_signals()  # Lightning's own handlers would end the process a step too early

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        stage, done = self.stage, self.stage.done
        if done % 20 == 0 or done == stage.steps:
            self.report(stage.name, done, stage.steps, f"loss {stage.history['loss'][-1]:.4g}")
        if self.session.due and done < stage.steps:
            self.session.history.curves[stage.name] = stage.history
            self.session.save(stage.name, done, self.model.state_dict(), stage.optimiser_state())
            if self.session.asked:
                self.session.stop_if_asked(saved=True)


def run_stage(
    stage: Stage,
    batches: StepSeeds,
    model: nn.Module,
    session: Session,
    accelerator: str,
    report: Callable[..., None],
    options: StageOptions | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Trains one stage; files, logs and checkpoints of Lightning's own are switched off.

    Where several processes train, each calls it with the same arguments.

    Arguments:
        stage: What to optimise.
        batches: All its batches; those of steps that are done are skipped.
        model: The ROM whose state is kept.
        session: Where the state is kept; a state within this stage is continued.
        accelerator: As Lightning calls it.
        report: Progress callable.
        options: What to record of it; None records nothing.
        ranks: Processes that share every batch.

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
    if batches.start < stage.steps and not stage.stopped:
        stage.ranks = batches.ranks = ranks
        stage.whole = getattr(batches, "batch_size", None)
        with warnings.catch_warnings(), frozen(stage, stage.trained()), compiled(stage.networks(), stage.compiled):
            warnings.filterwarnings("ignore", module="lightning")
            lightning.setLevel(logging.ERROR)
            trainer = Trainer(
                max_steps=stage.steps - batches.start,
                max_epochs=1,
                accelerator=accelerator,
                **trainer_options(ranks, accelerator),
                logger=options.logger if options is not None else False,
                enable_checkpointing=options is not None and options.checkpoints,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                callbacks=[_Keeper(stage, model, session, report), *(options.callbacks if options is not None else ())],
                num_sanity_val_steps=0,
                **(options.trainer if options is not None else {}),
            )
            try:
                held = options.validation if options is not None else None
                trainer.fit(stage, train_dataloaders=batches, val_dataloaders=held)
            finally:
                lightning.setLevel(level)
                stage.ranks = batches.ranks = ALONE
    stage.finish()
    stage.to("cpu")
    session.history.curves[stage.name] = stage.history
