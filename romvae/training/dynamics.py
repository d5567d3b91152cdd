"""Training of the latent dynamics on cached codes: the stage, and its validation by forecasts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from romvae.distributions import moments
from romvae.dynamics.base import EnsembleDynamics, condition
from romvae.ragged import even_part
from romvae.ranks import ALONE, Ranks
from romvae.training.batches import StepSeeds, WindowBatches, step_generator
from romvae.training.stages import Stage
from romvae.vae import VAE

__all__ = ["Codes", "DynamicsPlan", "DynamicsStage", "ForecastScore", "forecast_score", "train_dynamics"]

SAMPLES = 4
"""Sampled rollouts of each window for a stochastic transition."""
READ, READ_VALUES, DECODED = 4096, 2**25, 64
"""Codes that are decoded for kinds that read them as fields, values of their fields at most, and codes at once."""
EVALUATIONS = 25
"""Evaluations of the forecast in a whole training, where there is a patience."""


@dataclass(frozen=True)
class Codes:
    """Encoded trajectories.

    Arguments:
        mean: Posterior means `(copy, trajectory, time, latent)`; copies are the symmetric ones.
        std: Posterior standard deviations, same shape.
        c: Normalised parameters `(trajectory, parameter)`.
        controls: Normalised controls `(trajectory, time, control)`.
        kept: Which codes there are, boolean `(trajectory, time)`, where trajectories end early; the others are NaN.
            None for all.
        past: What forecasts are given beside the first codes: posterior means before these, a large step apart, oldest
            first, `(trajectory, earlier, latent)`; None for nothing.
        precision: 1 / posterior variance of each latent, `(latent,)`; None for the same of each.
        log_range: Of parameters that are scaled by their logarithm, see `ParameterScaling.log_range`.
    """

    mean: Tensor
    std: Tensor
    c: Tensor
    controls: Tensor | None = None
    kept: Tensor | None = None
    past: Tensor | None = None
    precision: Tensor | None = None
    log_range: Tensor | None = None

    def even(self, least: int = 1) -> Codes:
        """The part in which all trajectories have one length, see `romvae.ragged.even_part`; itself if all have."""
        if self.kept is None:
            return self
        rows, times = even_part(self.kept.sum(1).numpy(), least)
        chosen = torch.from_numpy(rows)
        controls = None if self.controls is None else self.controls[chosen, :times]
        mean, std = self.mean[:, chosen, :times], self.std[:, chosen, :times]
        return replace(self, mean=mean, std=std, c=self.c[chosen], controls=controls, kept=None, past=None)

    def started(self, given: int, stride: int) -> Codes:
        """From the last of `given` codes on, which are `stride` stored steps apart; those before it under `past`.

        It is what forecasts are scored on that start from so many fields.
        """
        begin = (given - 1) * stride
        if begin == 0:
            return self
        controls, kept = (None if each is None else each[:, begin:] for each in (self.controls, self.kept))
        past = self.mean[0, :, :begin:stride]
        mean, std = self.mean[:, :, begin:], self.std[:, :, begin:]
        return replace(self, mean=mean, std=std, controls=controls, kept=kept, past=past)

    def start(self, dynamics: EnsembleDynamics) -> None:
        """What the dynamics knows of them in closed form; of ragged trajectories, from their even part."""
        if self.kept is not None:
            self.even(dynamics.stride).start(dynamics)
            return
        copies, trajectories = self.mean.shape[:2]
        controls = None if self.controls is None else self.controls.repeat(copies, 1, 1)
        group = torch.arange(trajectories).repeat(copies)
        known = {"group": group, "precision": self.precision, "log_range": self.log_range}
        dynamics.start_from_linear(self.mean.flatten(0, 1), self.c.repeat(copies, 1), controls, **known)


@dataclass(frozen=True)
class DynamicsPlan:
    """How long and on what the dynamics is trained: see `romvae.fit`.

    Arguments:
        steps: Training steps.
        rate: Peak learning rate.
        batch_size: Windows per step and member.
        horizon: Large steps in the longest window.
        seed: Seed of the windows.
        ema: Decay of the average of the weights; 0 for none.
        patience: Evaluations without a better forecast after which to stop; 0 for none.
        latent_consistency: Weight of the distance between a forecast code and the code of its decoded field.
    """

    steps: int
    rate: float = 4e-3
    batch_size: int = 128
    horizon: int = 6
    seed: int = 0
    ema: float = 0.0
    patience: int = 0
    latent_consistency: float = 0.0


@dataclass(frozen=True)
class ForecastScore:
    """How good forecasts of held-out trajectories are, in units of the codes' spread; infinite where they diverge.

    Arguments:
        error: Root mean square error of the members' mean over that of the mean code.
        crps: Continuous ranked probability score of the members over the mean distance from the mean code.
    """

    error: float
    crps: float


class DynamicsStage(Stage):
    r"""Latent dynamics over windows with a growing horizon, all members in one batched computation.

    The error of each latent counts in units of the posterior's standard deviation: the posterior is as wide as the
    field is insensitive to that latent, so that this is, to first order, the error of the field in units of the
    decoder's noise. Per member, the loss is the logarithm of the mean squared error, so that its scale does not matter.
    For a stochastic transition it is the energy score of sampled rollouts,
    :math:`\overline{|z_s - z|} - \tfrac12 \overline{|z_s - z_{s'}|}`, averaged over lead times.

    Arguments:
        dynamics: The ensemble.
        precision: 1 / posterior variance of each latent, shape `(latent,)`.
        steps, learning_rate, clip: As in `Stage`.
        ema: Decay of a running average of the weights that is kept in their place; 0 for none.
        judge: Score of the dynamics on held-out trajectories, smaller is better; needed with a patience.
        patience: Evaluations without a better score after which training stops; the best weights are kept. 0 neither
            evaluates nor stops.
        vae: Encoder and decoder, which stay as they are; needed with a consistency.
        consistency: Weight of the squared distance between the last code of a window and the code of its decoded field.
    """

    name = "dynamics"
    precision: Tensor

    def __init__(
        self,
        dynamics: EnsembleDynamics,
        precision: Tensor,
        steps: int,
        learning_rate: float = 3e-3,
        clip: float = 5.0,
        *,
        ema: float = 0.0,
        judge: Callable[[EnsembleDynamics], float] | None = None,
        patience: int = 0,
        vae: VAE | None = None,
        consistency: float = 0.0,
    ) -> None:
        super().__init__(steps, learning_rate, clip)
        self.dynamics = dynamics
        self.ema, self.judge, self.patience, self.consistency = ema, judge, patience, consistency
        self.register_buffer("precision", precision)
        self._average: list[Tensor] = []
        self._best: dict[str, Any] = {}
        self._waited = 0
        self._frozen = [vae] if vae is not None and consistency else []  # in a list: no part of what is trained

    def trained(self) -> list[torch.nn.Parameter]:
        return [p for p in self.dynamics.parameters() if p.requires_grad]

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        model = self.dynamics
        if model.stochastic:
            return self._energy_score(batch)
        dt = float(model.dt)
        path = [*(batch["past"].unbind(-2) if "past" in batch else ()), batch["z0"]]
        horizon = batch["target"].shape[2]
        total = batch["z0"].new_zeros(model.members)
        for k in range(horizon):
            history = torch.stack(path[-model.window :], -2)
            c = condition(batch["c"], batch.get("controls"), k, k + 1)
            if "part" in batch and k % 2 == 0:
                between = model.flow(history, c, dt * batch["part"][:, :, k])
                total = total + self._error(between - batch["between"][:, :, k])
            path.append(model.flow(history, c, dt * model.stride))
            total = total + self._error(path[-1] - batch["target"][:, :, k])
        loss = total / horizon
        for vae in self._frozen:
            loss = loss + self.consistency * self._inconsistency(vae, path[-1])
        return torch.log(self.ranks.pooled(loss, batch["z0"].shape[1]) + 1e-2).sum()

    def _error(self, difference: Tensor) -> Tensor:
        return (difference.square() * self.precision).mean((1, 2))

    def _inconsistency(self, vae: VAE, z: Tensor) -> Tensor:
        again = moments(vae.encoder(vae.decoder.mean(z.flatten(0, 1))))[0]
        return self._error(again.reshape(z.shape) - z)

    def _energy_score(self, batch: dict[str, Tensor]) -> Tensor:
        model, noise = self.dynamics, batch["noise"]  # noise: (sample, step, member, batch, latent)
        samples, dt = len(noise), float(model.dt)
        noise = noise.permute(1, 2, 0, 3, 4).flatten(2, 3)  # (step, member, sample * batch, latent)
        path = [z.repeat(1, samples, 1) for z in (*(batch["past"].unbind(-2) if "past" in batch else ()), batch["z0"])]
        weight, horizon = self.precision.sqrt(), batch["target"].shape[2]
        total = noise.new_zeros(())
        for k in range(horizon):
            history = torch.stack(path[-model.window :], -2)
            c = condition(batch["c"], batch.get("controls"), k, k + 1).repeat(1, samples, 1)
            mean = model.flow(history, c, dt * model.stride)
            path.append(mean + model.step_std(history[..., -1, :], c) * noise[k])
            z = path[-1].unflatten(1, (samples, -1))
            error = _norm((z - batch["target"][:, None, :, k]) * weight).mean((1, 2))
            spread = _norm((z[:, :, None] - z[:, None]) * weight).sum((1, 2)).mean(-1) / (samples * (samples - 1))
            total = total + (error - 0.5 * spread).sum()
        return self.ranks.pooled(total / horizon, batch["z0"].shape[1])

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        done = len(self.history["loss"])
        if self.ema:
            self._follow(done)
        if self.patience and (done % max(1, self.steps // EVALUATIONS) == 0 or done == self.steps):
            self._evaluate(done)

    @torch.no_grad()
    def _follow(self, done: int) -> None:
        weights = self.trained()
        if not self._average:
            self._average = [p.detach().clone() for p in weights]
        decay = min(self.ema, done / (done + 10))
        for average, p in zip(self._average, weights, strict=True):
            average.data = average.to(p.device).lerp(p.detach(), 1 - decay)

    def _evaluate(self, done: int) -> None:
        own = [p.detach().clone() for p in self.trained()]
        self._put(self._average)
        score = float("inf") if self.judge is None else self.judge(self.dynamics)
        self.history.setdefault("forecast_step", []).append(float(done))
        self.history.setdefault("forecast", []).append(score)
        if score < self._best.get("score", float("inf")):
            self._best = {"score": score, "weights": [p.detach().clone() for p in self.trained()]}
            self._waited = 0
        else:
            self._waited += 1
        self._put(own)
        self.stopped = self._waited >= self.patience
        if self.stopped and self._trainer is not None:
            self.trainer.should_stop = True

    @torch.no_grad()
    def _put(self, weights: list[Tensor]) -> None:
        if weights:  # else there is nothing to keep yet
            for p, value in zip(self.trained(), weights, strict=True):
                p.copy_(value)

    def finish(self) -> None:
        """Puts the weights in place that are to be kept: the best ones, or their average."""
        self._put(self._best.get("weights", self._average))

    def optimiser_state(self) -> dict[str, Any]:
        state = super().optimiser_state()
        if self.ema or self.patience:
            beside = {"average": self._average, "best": self._best, "waited": self._waited, "stopped": self.stopped}
            state["kept"] = beside
        return state

    def continue_from(self, step: int, optimiser: dict[str, Any], history: dict[str, list[float]] | None) -> None:
        super().continue_from(step, optimiser, history)
        kept = optimiser.get("kept", {})
        self._average, self._best = list(kept.get("average", [])), dict(kept.get("best", {}))
        self._waited, self.stopped = int(kept.get("waited", 0)), bool(kept.get("stopped", False))


def _norm(difference: Tensor) -> Tensor:
    return (difference.square().sum(-1) + 1e-12).sqrt()


@torch.no_grad()
def forecast_score(
    dynamics: EnsembleDynamics, held: Codes, precision: Tensor, seed: int = 0, ranks: Ranks = ALONE
) -> ForecastScore:
    """Scores forecasts of held-out trajectories from their first code, every latent weighed by its precision.

    Arguments:
        dynamics: The ensemble.
        held: Codes of trajectories that it was not trained on; the first copy is used.
        precision: As in `DynamicsStage`.
        seed: Seed of the noise of a stochastic transition.
        ranks: Processes among which the trajectories are divided, each counted once; all get the score of all.
    """
    device, part = dynamics.dt.device, ranks.part(held.mean.shape[1])
    rows = slice(part.start, part.stop)
    truth, weight = held.mean[0].transpose(0, 1).to(device), precision.to(device).sqrt()
    steps, noise = len(truth) - 1, None
    if dynamics.stochastic:
        shape = (steps // dynamics.stride, dynamics.members, truth.shape[1], truth.shape[2])
        drawn = torch.randn(shape, generator=step_generator(seed, "validation noise", 0))
        noise = drawn[:, :, rows].to(device)
    weighed = truth * weight
    centre = weighed.mean((0, 1))
    sums = torch.zeros(4, dtype=torch.float64, device=device)  # of squares and distances: of errors, of the codes
    if len(part):
        beside = (_some(held.controls, rows), None, _some(held.past, rows))
        here = Codes(held.mean[:, rows], held.std[:, rows], held.c[rows], *beside)
        path = forecast_path(dynamics, here, steps, noise) * weight
        sums = _score_sums(path, weighed[:, rows], centre)
    error, crps, spread, distance = ranks.summed(sums).tolist()
    if not math.isfinite(error + crps) or not min(spread, distance) > 0:  # codes of nothing but one value judge nothing
        return ForecastScore(float("inf"), float("inf"))
    return ForecastScore(math.sqrt(error / spread), crps / distance)


def _some(values: Tensor | None, rows: slice) -> Tensor | None:
    return None if values is None else values[rows]


def forecast_path(dynamics: EnsembleDynamics, held: Codes, steps: int, noise: Tensor | None = None) -> Tensor:
    """Latents `(step + 1, member, trajectory, latent)` of forecasts from the first code of each trajectory."""
    device = dynamics.dt.device
    controls, past = (None if each is None else each.to(device) for each in (held.controls, held.past))
    start, c = held.mean[0, :, 0].to(device), held.c.to(device)
    return dynamics.rollout(start, c, float(dynamics.dt), steps, past=past, controls=controls, noise=noise)


def _score_sums(path: Tensor, truth: Tensor, centre: Tensor) -> Tensor:
    """Sums of squared errors, of scores, of squared and of absolute distances from the mean code."""
    members = path.shape[1]
    rank = torch.arange(1 - members, members, 2, device=path.device).to(path).reshape(-1, 1, 1)
    pairs = 2 * (rank * path.sort(1).values).mean(1) / members  # mean distance of all pairs of members
    score = (path - truth.unsqueeze(1)).abs().mean(1) - 0.5 * pairs
    found = ((path.mean(1) - truth).square(), score, (truth - centre).square(), (truth - centre).abs())
    return torch.stack([values.double().sum() for values in found])


@torch.no_grad()
def decoded_some(vae: VAE, codes: Codes) -> tuple[Tensor, Tensor]:
    """Some of the codes `(sample, latent)`, from all over them, and the mean fields that they are decoded to."""
    flat = codes.mean.flatten(0, 2) if codes.kept is None else codes.mean[:, codes.kept].flatten(0, 1)
    most = max(1, min(READ, READ_VALUES // vae.encoder.layout.points))
    order = torch.randperm(len(flat), generator=step_generator(0, "codes read as fields", 0))[:most]
    some, device = flat[order], next(vae.parameters()).device
    return some, torch.cat([vae.decoder(part.to(device)).mean.to(some.device) for part in some.split(DECODED)])


def train_dynamics(
    dynamics: EnsembleDynamics,
    codes: Codes,
    precision: Tensor,
    plan: DynamicsPlan,
    run: Callable[[Stage, StepSeeds], None],
    *,
    held: Codes | None = None,
    vae: VAE | None = None,
    started: bool = False,
    name: str = DynamicsStage.name,
    ranks: Ranks = ALONE,
    given: int = 1,
) -> None:
    """Fits the dynamics to codes: in closed form, and by gradient steps where the kind has more to learn.

    Arguments:
        dynamics: Changed in place.
        codes: Of the training trajectories.
        precision: As in `DynamicsStage`.
        plan: How long and on what.
        run: Runs a stage on its batches.
        held: Codes of other trajectories, for a patience; see `Codes.started`.
        vae: For a latent consistency, and for kinds that read codes as fields.
        started: Whether the closed-form start is there already, because a training is continued.
        name: What the stage is called.
        ranks: Processes among which the forecasts for a patience are divided.
        given: Codes that forecasts start from.
    """
    if not started:
        codes.start(dynamics)
        if dynamics.reads_fields and vae is not None:
            dynamics.start_from_fields(*decoded_some(vae, codes))
    if not dynamics.closed_form:
        judge = None if held is None else lambda model: forecast_score(model, held, precision, plan.seed, ranks).crps
        stage = DynamicsStage(
            dynamics,
            precision,
            plan.steps,
            plan.rate,
            ema=plan.ema,
            judge=judge,
            patience=plan.patience if held is not None else 0,
            vae=vae,
            consistency=plan.latent_consistency,
        )
        stage.name = name
        batches = WindowBatches(
            codes.mean,
            codes.std,
            codes.c,
            dynamics.members,
            plan.batch_size,
            dynamics.stride,
            plan.horizon,
            plan.steps,
            plan.seed,
            window=dynamics.window,
            controls=codes.controls,
            samples=SAMPLES if dynamics.stochastic else 0,
            lengths=None if codes.kept is None else codes.kept.sum(1),
            given=given,
        )
        run(stage, batches)
    record_step_error(dynamics, codes)


@torch.no_grad()
def record_step_error(dynamics: EnsembleDynamics, codes: Codes) -> None:
    """Records the root mean square error of one stored step as the standard deviation of p(z' | z, c)."""
    z = codes.mean[0]
    flat = z[:, :-1].flatten(0, 1)
    c = codes.c.repeat_interleave(z.shape[1] - 1, 0)
    if codes.controls is not None:
        c = torch.cat([c, codes.controls[:, :-1].flatten(0, 1), codes.controls[:, 1:].flatten(0, 1)], -1)
    after = z[:, 1:].flatten(0, 1)
    if codes.kept is not None:
        pairs = codes.kept[:, 1:].flatten()
        flat, c, after = flat[pairs], c[pairs], after[pairs]
    total = torch.zeros_like(dynamics.std, dtype=torch.float64)
    for part in torch.arange(len(flat), device=flat.device).split(2**14):
        step = dynamics(flat[part].unsqueeze(-2), c[part], float(dynamics.dt)).mean
        total += (step - after[part]).double().square().mean(0).sum(0)
    dynamics.std.copy_((total / len(flat)).sqrt().clamp_min(1e-6))
