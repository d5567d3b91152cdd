"""Gaussian transition: latent dynamics that draw noise at every step, for stochastic physics."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from romvae.dynamics.base import EnsembleDynamics
from romvae.dynamics.network import NetworkDynamics
from romvae.dynamics.residual import ResidualDynamics
from romvae.errors import ConfigError

__all__ = ["GaussianTransition"]


class GaussianTransition(EnsembleDynamics):
    r"""Transition :math:`z(t + dt) \sim N(\Phi_m(z, c),\, \mathrm{diag}\, s_m(z, c)^2)`, drawn anew at every step.

    Mean and spread are learned together on the energy score of sampled rollouts over several steps. This is for
    physics that is stochastic itself. The errors of a surrogate of deterministic physics are systematic, not white:
    there, noise at every step spreads three to four times too far, and an ensemble of deterministic networks is right.

    The logarithm of s is affine in the standardised latents and conditions, within a factor of e^2 of its value at
    their mean. One stored step is one draw, so that times between draws do not arise.

    Arguments:
        mean_model: A network model with `stride` 1.
        spread: Initial standard deviation, in units of the latents' own.
    """

    stochastic = True

    def __init__(self, mean_model: NetworkDynamics | ResidualDynamics, spread: float = 0.1) -> None:
        super().__init__()
        if mean_model.stride != 1:
            raise ConfigError(
                f"GaussianTransition: stride is {mean_model.stride}, expected 1: the noise of a step belongs to one "
                "stored step. Build the mean with stride=1."
            )
        self.mean_model = mean_model
        self.members, self.stride, self.latent = mean_model.members, 1, mean_model.latent
        self.hidden, self.depth, self.window = mean_model.hidden, mean_model.depth, mean_model.window
        conditions = mean_model.parameters_in + getattr(mean_model, "controls", 0)
        width = mean_model.latent + conditions
        self.log_std = nn.Parameter(torch.full((self.members, 1, self.latent), spread).log())
        self.slope = nn.Parameter(torch.zeros(self.members, width, self.latent))

    @property
    def dt(self) -> Tensor:  # type: ignore[override]
        """Time between stored snapshots."""
        return self.mean_model.dt

    @property
    def std(self) -> Tensor:  # type: ignore[override]
        """Root mean square error of one step of the mean."""
        return self.mean_model.std

    @property
    def range(self) -> Tensor | None:
        """That of the mean."""
        return self.mean_model.range

    def flow(self, history: Tensor, c: Tensor, dt: float | Tensor) -> Tensor:
        return self.mean_model.flow(history, c, dt)

    def forward(self, history: Tensor, c: Tensor, dt: float | Tensor) -> Independent:
        """Distribution of the next latent, one per member; its variance grows in proportion to `dt`."""
        mean = self.held_back(self.flow(history, c, dt))
        part = torch.as_tensor(dt, dtype=torch.float64, device=mean.device) / self.dt
        std = self.step_std(history[..., -1, :].expand_as(mean), c) * part.sqrt().to(mean).unsqueeze(-1)
        return Independent(Normal(mean, std.expand_as(mean), validate_args=False), 1)

    def step_std(self, z: Tensor, c: Tensor) -> Tensor:
        """Standard deviation of one stored step, `(member, batch, latent)`."""
        centre, scale = self.mean_model.centre, self.mean_model.scale
        c = c.to(z.dtype).expand(*z.shape[:2], c.shape[-1])
        state = torch.cat([(z - centre) / scale, c], -1)
        return scale * (self.log_std + 2 * torch.tanh(torch.bmm(state, self.slope) / 2)).exp()

    @property
    def reads_fields(self) -> bool:  # type: ignore[override]
        """Whether the mean does."""
        return self.mean_model.reads_fields

    def start_from_fields(self, z: Tensor, x: Tensor) -> None:
        self.mean_model.start_from_fields(z, x)

    def start_from_linear(
        self,
        z: Tensor,
        c: Tensor,
        controls: Tensor | None = None,
        *,
        group: Tensor | None = None,
        precision: Tensor | None = None,
        log_range: Tensor | None = None,
    ) -> None:
        """The start of the mean; the spread starts at the error that it leaves."""
        self.mean_model.start_from_linear(z, c, controls, group=group, precision=precision, log_range=log_range)
        with torch.no_grad():
            conditions = c[:, None].expand(-1, z.shape[1] - 1, -1)
            if controls is not None:
                conditions = torch.cat([conditions, controls[:, :-1].to(c.dtype), controls[:, 1:].to(c.dtype)], -1)
            after = self.flow(z[:, :-1].flatten(0, 1).unsqueeze(-2), conditions.flatten(0, 1), float(self.dt))
            error = (after - z[:, 1:].flatten(0, 1)).square().mean(1, keepdim=True).sqrt()
            self.log_std.copy_((error / self.mean_model.scale).clamp_min(1e-4).log())
