"""Training stages as LightningModules: base and variance; they run in a user's own Trainer too."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from romvae.errors import CheckpointError, NumericsError
from romvae.kinds import Precision
from romvae.nn.observation import LocalGaussian
from romvae.nn.precision import in_precision
from romvae.ranks import ALONE, Ranks

__all__ = ["Stage", "VarianceStage"]


DIVERGED = 1e4
"""A loss that exceeds the first one by this factor of its size is divergence, not training."""


class Stage(LightningModule):
    """One optimisation: AdamW with a one-cycle rate; a loss that is not finite stops it.

    Arguments:
        steps: Training steps in all.
        learning_rate: Peak rate.
        clip: Bound on the norm of the gradient.
        weight_decay: Decoupled weight decay.

    Attributes:
        ranks: Processes that share every batch; the loss is that of all of it, the same on each.
        whole: Samples of the whole batch, where it is shared.
        digits: Those of the convolutions in `loss`; everything else, and all weights, are float32.
        compiled: Whether `run_stage` compiles its networks.
    """

    name = "stage"

    def __init__(self, steps: int, learning_rate: float, clip: float, weight_decay: float = 1e-4) -> None:
        super().__init__()
        self.steps, self.learning_rate, self.clip, self.weight_decay = steps, learning_rate, clip, weight_decay
        self.history: dict[str, list[float]] = {"step": [], "loss": []}
        self.offset = 0
        self._state: dict[str, Any] = {}
        self._batch: dict[str, Tensor] = {}
        self.stopped = False
        self.ranks: Ranks = ALONE
        self.whole: int | None = None
        self.digits: Precision = "float32"
        self.compiled = False

    @property
    def done(self) -> int:
        """Steps that are done, those before an interruption included."""
        return self.offset + self.global_step

    @property
    def among(self) -> tuple[int, slice] | None:
        """Size of the whole batch and which of it is here, where several processes share it."""
        return None if self.ranks.size == 1 or self.whole is None else (self.whole, self.ranks.share(self.whole))

    def continue_from(self, step: int, optimiser: dict[str, Any], history: dict[str, list[float]] | None) -> None:
        """Goes on after `step` steps, with the optimiser's state of that moment."""
        self.offset, self._state = step, optimiser
        if history is not None:
            self.history = {name: list(values[:step]) for name, values in history.items()}

    def optimiser_state(self) -> dict[str, Any]:
        """State of optimiser and schedule, for `continue_from`."""
        optimiser, schedule = self.optimizers(), self.lr_schedulers()
        return {"optimiser": _plain(optimiser), "schedule": _plain(schedule)}

    def finish(self) -> None:
        """Called once after the last step."""

    def trained(self) -> list[torch.nn.Parameter]:
        """The parameters that this stage changes."""
        return [p for p in self.parameters() if p.requires_grad]

    def networks(self) -> list[torch.nn.Module]:
        """What of it may compute in fewer digits, or be compiled."""
        return []

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Loss of a batch, a scalar."""
        raise TypeError(f"{type(self).__name__} has no loss; define loss(batch).")

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self._batch = batch
        with in_precision(self.networks(), self.digits):
            loss = self.loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._failed(f"the loss is {value}")
        first = self.history["loss"][0] if self.history["loss"] else value
        if value > first + DIVERGED * (1 + abs(first)):
            raise self._failed(f"the loss has grown from {first:.4g} to {value:.4g}")
        self.history["step"].append(float(self.done))
        self.history["loss"].append(value)
        if self._trainer is not None and self.trainer.loggers:
            self.log("loss", value)
        return loss

    def _failed(self, what: str) -> NumericsError:
        where = ""
        if "trajectory" in self._batch:
            here = self._batch["trajectory"].flatten().unique().tolist()
            numbers = sorted({number for part in self.ranks.gathered(here) for number in part})  # all ranks come here
            shown = ", ".join(str(n) for n in numbers[:8]) + (", ..." if len(numbers) > 8 else "")
            where = f" (batch of the training part's trajectories {shown})"
        return NumericsError(
            f"stage {self.name}: {what} at step {self.done} of {self.steps}{where}. Lower --training.learning-rate "
            f"(the peak is {self.learning_rate:g}), and look for outliers in the data."
        )

    def configure_optimizers(self) -> Any:
        parameters = self.trained()
        optimiser = torch.optim.AdamW(
            parameters, self.learning_rate, betas=(0.9, 0.99), weight_decay=self.weight_decay, fused=True
        )
        total = max(self.steps, 2)
        rise = 0.1 if total != 10 else 0.11  # torch divides by the length of the rise, 0.1 * total - 1
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.learning_rate, total_steps=total, pct_start=rise)
        if self._state:
            try:
                optimiser.load_state_dict(self._state["optimiser"])
            except ValueError as error:
                raise CheckpointError(
                    f"stage {self.name}: the state is of another version, which trained other weights. Train anew."
                ) from error
            schedule.load_state_dict(self._state["schedule"])
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained(), self.clip))
        if not math.isfinite(norm):
            raise self._failed(f"the gradient's norm is {norm}")


def _plain(part: Any) -> dict[str, Any]:
    """State as plain tensors, numbers, lists and dicts, so that it loads without executing code."""
    state: dict[str, Any] = part.state_dict()
    return {key: value for key, value in state.items() if not callable(value) and key != "_anneal_func"}


class VarianceStage(Stage):
    """Local variance on stopped codes and stopped residuals of trajectories that the mean never saw.

    The loss is the head's score per point, usually the negative log-likelihood; encoder and mean stay as they are.

    Arguments:
        head: Observation model whose local variance is fitted.
        steps: As in `Stage`, like the others.
        learning_rate: Peak rate.
        clip: Bound on the norm of the gradient.
    """

    name = "variance"

    def __init__(self, head: LocalGaussian, steps: int, learning_rate: float = 1e-3, clip: float = 10.0) -> None:
        super().__init__(steps, learning_rate, clip, weight_decay=1e-3)
        self.head = head

    def trained(self) -> list[torch.nn.Parameter]:
        return self.head.head_parameters()

    def networks(self) -> list[torch.nn.Module]:
        return [self.head.log_var]

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return self.ranks.pooled(self.head.variance_loss(batch["z"], batch["squared"]), len(batch["z"]))
