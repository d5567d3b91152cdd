"""End-to-end fine-tuning: rollouts of the ensemble, decoded, scored on fields; and held to physics where asked."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from romvae.distributions import mixture_moments, reparameterise
from romvae.distributions.crps import ensemble_crps
from romvae.dynamics.base import EnsembleDynamics
from romvae.physics.penalty import Penalty
from romvae.rollout import posterior_means
from romvae.streamed import Trajectories
from romvae.symmetry import Symmetry
from romvae.training.batches import NONE, StepSeeds, step_generator
from romvae.training.stages import Stage
from romvae.vae import VAE

__all__ = ["FieldWindows", "FinetuneStage", "Score", "field_score", "forecast_members"]

Score = Literal["crps", "likelihood", "mse"]
ALPHA = 0.95
"""Share of fairness of the score that is trained on."""


class FieldWindows(StepSeeds):
    """Windows of fields: where they start, and what the field is at a few later times, the same ones for a whole batch.

    The longest lead time grows from one large step to `horizon` of them over the first half of the steps. Half of
    the windows start early in the trajectory, as in `WindowBatches`.

    Arguments:
        x: Normalised trajectories `(trajectory, time, channel, *space)`.
        c: Normalised parameters `(trajectory, parameter)`.
        parameters: Physical parameters `(trajectory, parameter)`.
        networks: Members of the dynamics ensemble.
        members: Members of the forecast; a multiple of `networks` is used.
        latent: Number of latents.
        batch_size: Windows.
        stride: Stored steps in a large step.
        horizon: Large steps in the longest window.
        steps, seed, start: As in `StepSeeds`.
        symmetry: By what a window is moved as a whole.
        triples: Whether the later times come in groups of three neighbours, for a residual.
        controls: Normalised controls `(trajectory, time, control)`.
        stochastic: Whether the noise of the steps goes along under `step_noise`.
        given: Fields that a forecast starts from, the present one and those a large step apart before it, which go
            along under `past`.
    """

    stream = "field windows"

    def __init__(
        self,
        x: Tensor | Trajectories,
        c: Tensor,
        parameters: Tensor,
        networks: int,
        members: int,
        latent: int,
        batch_size: int,
        stride: int,
        horizon: int,
        steps: int,
        seed: int,
        start: int = 0,
        *,
        symmetry: Symmetry = NONE,
        triples: bool = False,
        controls: Tensor | None = None,
        stochastic: bool = False,
        given: int = 1,
    ) -> None:
        super().__init__(steps, seed, start)
        self.before = (given - 1) * stride
        self.x, self.c, self.parameters, self.controls = x, c, parameters, controls
        self.networks, self.rounds, self.latent = networks, -(-members // networks), latent
        self.batch_size, self.stride, self.symmetry = batch_size, stride, symmetry
        self.triples, self.stochastic = triples, stochastic
        self.horizon = max(1, min(horizon, (x.shape[1] - 1 - self.before) // stride))

    def longest(self, step: int) -> int:
        """Stored steps of the windows of a training step."""
        large = max(1, min(self.horizon, int(1 + 2 * self.horizon * step / max(1, self.steps))))
        most = self.x.shape[1] - 1 - self.before
        return min(max(large * self.stride, min(2, most)), most)

    def leads(self, longest: int, generator: torch.Generator) -> Tensor:
        """The later times, stored steps after the start: the last ones, and others at random."""
        if self.triples and longest >= 2:
            centre = int(torch.randint(1, longest, (), generator=generator))
            return torch.tensor([centre - 1, centre, centre + 1, longest - 2, longest - 1, longest])
        drawn = torch.randint(1, longest + 1, (3,), generator=generator)
        return torch.cat([drawn, torch.tensor([longest])])

    def batch(self, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        trajectories, times = self.x.shape[:2]
        longest = self.longest(step)
        leads = self.leads(longest, generator)
        trajectory = torch.randint(trajectories, (self.batch_size,), generator=generator)
        last = times - 1 - longest - self.before
        begin = torch.randint(last + 1, (self.batch_size,), generator=generator)
        squeezed = (0.2 * last * torch.rand(self.batch_size, generator=generator) ** 2).long()
        begin = torch.where(torch.rand(self.batch_size, generator=generator) < 0.5, squeezed, begin)
        trajectory, begin = trajectory[self.rows], begin[self.rows] + self.before
        earlier = torch.arange(-self.before, 0, self.stride)
        at = begin[:, None] + torch.cat([earlier, torch.zeros(1, dtype=torch.long), leads])
        fields = self._fields(trajectory[:, None].expand_as(at), at)
        whole = (self.batch_size, fields[0, :, 0].numel(), *fields.shape[3:])
        moves = [drawn[self.rows] for drawn in self.symmetry.draw(whole, generator)]
        fields = self.symmetry.apply(fields.flatten(1, 2), moves).reshape(fields.shape)
        noise = torch.randn(self.networks, self.rounds * self.batch_size, self.latent, generator=generator)
        out = {
            "trajectory": trajectory,
            "x0": fields[:, len(earlier)],
            "target": fields[:, len(earlier) + 1 :].transpose(0, 1),
            "leads": leads,
            "c": self.c[trajectory],
            "parameters": self.parameters[trajectory],
            "noise": self._here(noise),
        }
        if len(earlier):
            out["past"] = fields[:, : len(earlier)]
        if self.controls is not None:
            out["controls"] = self.controls[trajectory[:, None], begin[:, None] + torch.arange(longest + 1)]
        if self.stochastic:
            out["step_noise"] = self._here(torch.randn(longest // self.stride, *noise.shape, generator=generator))
        return out

    def _here(self, noise: Tensor) -> Tensor:
        """Of numbers `(..., round * batch, latent)` those of this process's share of the batch."""
        return noise.unflatten(-2, (self.rounds, self.batch_size))[..., self.rows, :].flatten(-3, -2)

    def _fields(self, trajectory: Tensor, time: Tensor) -> Tensor:
        if isinstance(self.x, Tensor):
            return self.x[trajectory, time]
        index = (trajectory * self.x.shape[1] + time).flatten()
        return self.x.snapshots(np.asarray(index)).unflatten(0, trajectory.shape)


def forecast_members(vae: VAE, dynamics: EnsembleDynamics, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Decoded forecasts from samples of the posterior, with gradients.

    Returns:
        The decoder's means and variances, `(lead, member, batch, channel, *space)`.
    """
    leads, n = batch["leads"], len(batch["x0"])
    rounds = batch["noise"].shape[1] // n
    with torch.no_grad():
        q = vae.encoder(batch["x0"].repeat(rounds, *[1] * (batch["x0"].ndim - 1)))
        z0 = reparameterise(q, batch["noise"])
        past = None if "past" not in batch else posterior_means(vae, batch["past"]).repeat(rounds, 1, 1)
    controls = batch.get("controls")
    path = dynamics.rollout(
        z0,
        batch["c"].repeat(rounds, 1),
        float(dynamics.dt),
        int(leads.max()),
        past=past,
        controls=None if controls is None else controls.repeat(rounds, 1, 1),
        noise=batch.get("step_noise"),
    )
    z = path[leads].unflatten(2, (rounds, n)).flatten(1, 2)
    p = vae.decoder(z.flatten(0, 2))
    shape = z.shape[:3]
    return p.mean.unflatten(0, shape), p.variance.unflatten(0, shape)


class FinetuneStage(Stage):
    """Dynamics, and on request the decoder's mean, on the score of decoded rollouts.

    * `crps`: the almost-fair continuous ranked probability score of the members, Gaussians of the decoder's width;
    * `likelihood`: the negative log-likelihood of a Gaussian with the moments of the members, by the law of total
      variance;
    * `mse`: the mean squared error of every member.

    The first and the last enter by their logarithm, so that their size does not matter. A penalty counts in units of
    what it was at the start. The encoder stays as it is, and so does the decoder's variance.

    Arguments:
        vae: Encoder and decoder.
        dynamics: The ensemble.
        score: What is trained on.
        steps, learning_rate, clip: As in `Stage`.
        decoder: Whether the mean decoder is trained too.
        penalty: Of decoded fields.
        weight: Of the penalty.
    """

    name = "finetune"

    def __init__(
        self,
        vae: VAE,
        dynamics: EnsembleDynamics,
        score: Score,
        steps: int,
        learning_rate: float = 2e-4,
        clip: float = 5.0,
        *,
        decoder: bool = False,
        penalty: Penalty | None = None,
        weight: float = 0.1,
    ) -> None:
        super().__init__(steps, learning_rate, clip, weight_decay=0.0)
        self.vae, self.dynamics, self.score, self.decoder = vae, dynamics, score, decoder
        self._penalty, self.weight = [penalty] if penalty is not None else [], weight
        self.begin = [p.detach().clone() for p in self.trained()]

    def trained(self) -> list[torch.nn.Parameter]:
        parts = [self.dynamics, *([self.vae.decoder.mean] if self.decoder else [])]
        return [p for part in parts for p in part.parameters() if p.requires_grad]

    def networks(self) -> list[torch.nn.Module]:
        return [self.vae.encoder, self.vae.decoder]  # latents are rolled out in float32: their errors accumulate

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        mean, var = forecast_members(self.vae, self.dynamics, batch)
        value = self._scored(mean, var, batch["target"])
        for penalty in self._penalty:
            value = value + self.weight * self.penalty_of(penalty, mean, batch)
        return value

    def penalty_of(self, penalty: Penalty, mean: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The penalty of decoded members, a scalar in units of its scale."""
        squares = self.ranks.pooled(self.squares_of(penalty, mean, batch), len(batch["x0"]))
        return penalty.weighed(squares)

    def squares_of(self, penalty: Penalty, mean: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Mean squares `(equation,)` of decoded members; those of one batch are one after the other."""
        members = mean.shape[1]
        paths = mean.flatten(1, 2).transpose(0, 1)  # (member * batch, lead, ...)
        parameters = batch["parameters"].repeat(members, 1)
        if penalty.drift:
            first = batch["x0"].repeat(members, *[1] * (batch["x0"].ndim - 1)).unsqueeze(1)
            return penalty.squares(torch.cat([first, paths], 1), parameters)
        groups = [penalty.squares(paths[:, k : k + 3], parameters) for k in range(0, paths.shape[1], 3)]
        return torch.stack(groups).mean(0)

    def _scored(self, mean: Tensor, var: Tensor, target: Tensor) -> Tensor:
        if self.score == "likelihood":
            centre, within, between = mixture_moments(mean, var, dim=1)
            total = within + between
            return self._inside(0.5 * ((target - centre).square() / total + total.log()))
        if self.score == "mse":
            return torch.log(self._inside((mean - target.unsqueeze(1)).square().mean(1)) + 1e-12)
        crps = ensemble_crps(mean.transpose(0, 1), target, var.transpose(0, 1).sqrt(), ALPHA)
        return torch.log(self._inside(crps) + 1e-6)

    def _inside(self, values: Tensor) -> Tensor:
        """Mean of values `(lead, batch, channel, *space)` of all ranks over the points inside the domain."""
        mask = self.vae.decoder.mask
        return self.ranks.pooled(values.mean() if mask is None else values[..., mask].mean(), values.shape[1])

    def optimiser_state(self) -> dict[str, Any]:
        return {**super().optimiser_state(), "begin": self.begin}

    def continue_from(self, step: int, optimiser: dict[str, Any], history: dict[str, list[float]] | None) -> None:
        super().continue_from(step, optimiser, history)
        self.begin = list(optimiser.get("begin", self.begin))

    @torch.no_grad()
    def undo(self) -> None:
        """Puts the weights of the start back."""
        for p, value in zip(self.trained(), self.begin, strict=True):
            p.copy_(value)


@torch.no_grad()
def field_score(
    vae: VAE,
    dynamics: EnsembleDynamics,
    x: Tensor,
    c: Tensor,
    seed: int,
    controls: Tensor | None = None,
    rounds: int = 2,
    times: int = 10,
    past: Tensor | None = None,
) -> dict[str, float]:
    """Scores forecasts of whole trajectories from their first field, normalised units.

    Arguments:
        vae: Encoder and decoder.
        dynamics: The ensemble.
        x: Normalised trajectories `(trajectory, time, channel, *space)`.
        c: Normalised parameters.
        seed: Of the members.
        controls: Normalised controls.
        rounds: Members per network.
        times: Lead times, evenly spaced.
        past: Normalised fields before the first, a large step apart, `(trajectory, earlier, channel, *space)`.

    Returns:
        `crps`, the fair score of the members with the decoder's width; `error`, the relative L2 error of their mean.
    """
    steps, n = x.shape[1] - 1, len(x)
    generator = step_generator(seed, "field score", 0)
    shape = (dynamics.members, rounds * n, vae.latent)
    leads = torch.linspace(0, steps, min(times, steps) + 1).round().long()[1:]
    batch = {"x0": x[:, 0], "c": c, "leads": leads, "noise": torch.randn(shape, generator=generator)}
    if controls is not None:
        batch["controls"] = controls
    if past is not None:
        batch["past"] = past
    if dynamics.stochastic:
        batch["step_noise"] = torch.randn(steps // dynamics.stride, *shape, generator=generator)
    mean, var = forecast_members(vae, dynamics, batch)
    target = x[:, leads].transpose(0, 1)
    if not bool(mean.isfinite().all()):
        return {"crps": float("inf"), "error": float("inf")}
    mask = vae.decoder.mask
    crps = ensemble_crps(mean.transpose(0, 1), target, var.transpose(0, 1).sqrt(), 1.0)
    squares = (mean.mean(1) - target).square(), target.square()
    if mask is not None:
        crps, squares = crps[..., mask], (squares[0][..., mask], squares[1][..., mask])
    return {"crps": float(crps.mean()), "error": float((squares[0].sum() / squares[1].sum()).sqrt())}
