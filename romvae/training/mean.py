"""The first training stage: encoder, mean decoder and prior, on the evidence lower bound or what replaces it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from romvae.distributions import analytic, divergence, reparameterise
from romvae.latent.bound import HeldOutBound
from romvae.nn.conv import ChannelDropout
from romvae.nn.observation import LocalGaussian, SharedGaussian
from romvae.objectives import Beta, Objective
from romvae.training.batches import step_generator
from romvae.training.stages import Stage
from romvae.vae import VAE

__all__ = ["MeanStage"]


class MeanStage(Stage):
    """Encoder and mean decoder: maximises the ELBO, at the profiled shared variance unless the decoder says otherwise.

    The loss is the negative bound per snapshot. The shared variance in the decoder follows by an exponential average.

    A batch is a dict: `x` holds snapshots `(batch, channel, *space)`; `noise`, standard normal `(batch, sample,
    latent)`, is drawn from the seed and the step where it is left out. In a Trainer with a validation dataloader the
    stage logs `val_elbo` (at the variance that is best on those snapshots, see `romvae.latent.HeldOutBound`), `val_kl`
    and `val_error`; with a logger it logs `loss` too. See `romvae.training.callbacks` for an example.

    Arguments:
        vae: What is trained.
        steps: Training steps in all.
        learning_rate: Peak rate.
        clip: Bound on the norm of the gradient.
        objective: How the divergence counts; None is the ELBO.
        consistency: Weight of the divergence between the posteriors of a snapshot and of its neighbour in time (key
            `neighbour` of the batch).
        seed: Seed of channel dropout.
        look: Called after every step as `look(done, steps, objective)`, for what watches the training.

    References:
        Sinha and Dieng (2021), Consistency regularization for variational auto-encoders, arXiv:2105.14859; here the
        neighbour in time takes the place of the augmented copy.
    """

    name = "vae"

    def __init__(
        self,
        vae: VAE,
        steps: int,
        learning_rate: float = 2e-3,
        clip: float = 1e3,
        objective: Objective | None = None,
        consistency: float = 0.0,
        seed: int = 0,
        look: Callable[[int, int, Objective], None] | None = None,
    ) -> None:
        super().__init__(steps, learning_rate, clip)
        self.vae, self.consistency, self.seed, self.look = vae, consistency, seed, look
        self.objective = Beta() if objective is None else objective
        self._dropouts = [m for m in vae.modules() if isinstance(m, ChannelDropout)]
        self._held, self._generator = HeldOutBound(), torch.Generator()

    def trained(self) -> list[torch.nn.Parameter]:
        decoder = self.vae.decoder
        parameters = [*self.vae.encoder.parameters(), *decoder.mean.parameters()]
        if self.vae.variational:  # else nothing depends on the prior
            parameters += list(self.vae.prior.parameters())
        if isinstance(decoder, LocalGaussian) and decoder.rule != "profiled":
            parameters += list(decoder.log_var.parameters())
        return parameters

    def networks(self) -> list[torch.nn.Module]:
        return [self.vae.encoder, self.vae.decoder]

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        x, decoder = batch["x"], self.vae.decoder
        for layer in self._dropouts:
            layer.generator = step_generator(self.seed, "dropout", self.done)
            layer.among = self.among
        if self.done == 0 and isinstance(decoder, SharedGaussian):
            decoder.restart()
        q, p = self.vae.encoder(x + batch["input_noise"] if "input_noise" in batch else x), self.vae.prior()
        noise = (batch["noise"] if "noise" in batch else self._noise(x)).transpose(0, 1)  # (sample, batch, latent)
        z = reparameterise(q, noise)
        repeated = x if len(z) == 1 else x.repeat(len(z), *[1] * (x.ndim - 1))
        loss = -decoder.log_likelihood(repeated, z.flatten(0, 1), self.ranks)
        if self.vae.variational:
            kl = divergence(q, p) if analytic(q, p) else divergence(q, p, z).mean(0)
            if self.ranks.size > 1:  # every objective is one of the mean divergences
                kl = self.ranks.pooled(kl.mean(0, keepdim=True), len(x))
            loss = self.objective(kl, self.done / max(1, self.steps)) + loss
        if self.consistency:
            between = kl_divergence(q, self.vae.encoder(batch["neighbour"])).mean()
            loss = loss + self.consistency * self.ranks.pooled(between, len(x))
        return loss

    def _noise(self, x: Tensor) -> Tensor:
        """One sample per snapshot for batches that bring none: a function of seed and step, like everything else."""
        generator = step_generator(self.seed, "noise", self.done)
        return torch.randn(len(x), 1, self.vae.latent, generator=generator, dtype=x.dtype).to(x.device)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.look is not None:
            self.look(self.done, self.steps, self.objective)

    def finish(self) -> None:
        """Ends the dropout: the stages to come look at what has been trained."""
        for layer in self._dropouts:
            layer.generator = layer.among = None

    def on_validation_epoch_start(self) -> None:
        self._held, self._generator = HeldOutBound(), step_generator(self.seed, "validation", 0)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._held.add(self.vae, batch["x"], self._generator, self.ranks)

    def on_validation_epoch_end(self) -> None:
        held = self._held.merged(self.ranks)
        self.log_dict({"val_elbo": held.value, "val_kl": held.divergence, "val_error": held.error}, prog_bar=True)
