"""The three training stages as LightningModules; they run in `romvae.fit` and in a user's own Trainer alike."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from romvae.distributions import kl_standard_normal
from romvae.dynamics.residual import ResidualDynamics
from romvae.errors import NumericsError
from romvae.vae import VAE, profiled_log_likelihood

__all__ = ["DynamicsStage", "MeanStage", "Stage", "VarianceStage"]


DIVERGED = 1e4
"""A loss that exceeds the first one by this factor of its size is divergence, not training."""


class Stage(LightningModule):
    """One optimisation: AdamW with a one-cycle rate; a loss that is not finite stops it.

    Arguments:
        steps: Training steps in all.
        learning_rate: Peak rate.
        clip: Bound on the norm of the gradient.
        weight_decay: Decoupled weight decay.
    """

    name = "stage"

    def __init__(self, steps: int, learning_rate: float, clip: float, weight_decay: float = 1e-4) -> None:
        super().__init__()
        self.steps, self.learning_rate, self.clip, self.weight_decay = steps, learning_rate, clip, weight_decay
        self.history: dict[str, list[float]] = {"step": [], "loss": []}
        self.offset = 0
        self._state: dict[str, Any] = {}
        self._batch: dict[str, Tensor] = {}

    @property
    def done(self) -> int:
        """Steps that are done, those before an interruption included."""
        return self.offset + self.global_step

    def continue_from(self, step: int, optimiser: dict[str, Any], history: dict[str, list[float]] | None) -> None:
        """Goes on after `step` steps, with the optimiser's state of that moment."""
        self.offset, self._state = step, optimiser
        if history is not None:
            self.history = {name: list(values[:step]) for name, values in history.items()}

    def optimiser_state(self) -> dict[str, Any]:
        """State of optimiser and schedule, for `continue_from`."""
        optimiser, schedule = self.optimizers(), self.lr_schedulers()
        return {"optimiser": _plain(optimiser), "schedule": _plain(schedule)}

    def trained(self) -> list[torch.nn.Parameter]:
        """The parameters that this stage changes."""
        return [p for p in self.parameters() if p.requires_grad]

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Loss of a batch, a scalar."""
        raise TypeError(f"{type(self).__name__} has no loss; define loss(batch).")

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self._batch = batch
        loss = self.loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._failed(f"the loss is {value}")
        first = self.history["loss"][0] if self.history["loss"] else value
        if value > first + DIVERGED * (1 + abs(first)):
            raise self._failed(f"the loss has grown from {first:.4g} to {value:.4g}")
        self.history["step"].append(float(self.done))
        self.history["loss"].append(value)
        return loss

    def _failed(self, what: str) -> NumericsError:
        where = ""
        if "trajectory" in self._batch:
            numbers = self._batch["trajectory"].flatten().unique().tolist()
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
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.learning_rate, total_steps=max(self.steps, 2), pct_start=0.1
        )
        if self._state:
            optimiser.load_state_dict(self._state["optimiser"])
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


class MeanStage(Stage):
    """Encoder and mean decoder at the profiled shared variance: maximises the ELBO with no weight to tune.

    The loss is the negative bound per snapshot. The shared variance in the decoder follows by an exponential average.
    """

    name = "vae"

    def __init__(self, vae: VAE, steps: int, learning_rate: float = 2e-3, clip: float = 1e3) -> None:
        super().__init__(steps, learning_rate, clip)
        self.vae = vae

    def trained(self) -> list[torch.nn.Parameter]:
        return [*self.vae.encoder.parameters(), *self.vae.decoder.mean.parameters()]

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x, decoder = batch["x"], self.vae.decoder
        q = self.vae.encoder(x).base_dist
        z = q.mean + q.stddev * batch["noise"]
        log_likelihood, var = profiled_log_likelihood(x - decoder.mean(z), decoder.floor)
        with torch.no_grad():
            weight = 1.0 if self.done == 0 else 0.02
            decoder.log_var_shared.copy_(
                torch.log((1 - weight) * decoder.log_var_shared.exp() + weight * var.to(decoder.log_var_shared.dtype))
            )
        return kl_standard_normal(q.mean, q.stddev).sum(-1).mean() - log_likelihood


class VarianceStage(Stage):
    """Local variance on stopped codes and stopped residuals of trajectories that the mean never saw.

    The loss is the negative log-likelihood per point; encoder and mean stay as they are.
    """

    name = "variance"

    def __init__(self, vae: VAE, steps: int, learning_rate: float = 1e-3, clip: float = 10.0) -> None:
        super().__init__(steps, learning_rate, clip, weight_decay=1e-3)
        self.vae = vae

    def trained(self) -> list[torch.nn.Parameter]:
        return list(self.vae.decoder.log_var.parameters())

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        log_var = self.vae.decoder.variance_parameters(batch["z"])
        return 0.5 * (log_var + batch["squared"] * torch.exp(-log_var)).mean()


class DynamicsStage(Stage):
    r"""Latent dynamics over windows with a growing horizon, all members in one batched computation.

    The error of each latent counts in units of the posterior's standard deviation: the posterior is as wide as the
    field is insensitive to that latent, so that this is, to first order, the error of the field in units of the
    decoder's noise. Per member, the loss is the logarithm of the mean squared error, so that its scale does not matter.

    Arguments:
        dynamics: The ensemble.
        precision: 1 / posterior variance of each latent, shape `(latent,)`.
        steps, learning_rate, clip: As in `Stage`.
    """

    name = "dynamics"
    precision: Tensor

    def __init__(
        self, dynamics: ResidualDynamics, precision: Tensor, steps: int, learning_rate: float = 3e-3, clip: float = 5.0
    ) -> None:
        super().__init__(steps, learning_rate, clip)
        self.dynamics = dynamics
        self.register_buffer("precision", precision)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        model, z, c = self.dynamics, batch["z0"], batch["c"]
        dt = float(model.dt)
        horizon = batch["target"].shape[2]
        total = z.new_zeros(model.members)
        for k in range(horizon):
            if "part" in batch and k % 2 == 0:
                between = model(z.unsqueeze(-2), c, dt * batch["part"][:, :, k]).mean
                total = total + self._error(between - batch["between"][:, :, k])
            z = model(z.unsqueeze(-2), c, dt * model.stride).mean
            total = total + self._error(z - batch["target"][:, :, k])
        return torch.log(total / horizon + 1e-2).sum()

    def _error(self, difference: Tensor) -> Tensor:
        return (difference.square() * self.precision).mean((1, 2))
