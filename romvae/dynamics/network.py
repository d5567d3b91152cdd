"""What the network models of the latent dynamics share: scaling, a linear path, and its start by least squares."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from romvae.dynamics.base import EnsembleDynamics, step_pairs
from romvae.dynamics.extent import latent_scale, twice_the_range, unbounded
from romvae.dynamics.least_squares import ridge_fit

__all__ = ["NetworkDynamics"]


class NetworkDynamics(EnsembleDynamics):
    """Ensemble of networks on standardised latents, each beside a linear path that starts as the linear model.

    A subclass writes `flow`, and uses `state`, `linear_part` and `ratio`.

    Arguments:
        latent: Number of latents.
        parameters: Number of conditions: physical parameters, and twice the controls.
        dt: Time between stored snapshots, physical units.
        stride: Stored steps in the largest step T.
        members: Networks in the ensemble.
        hidden: Width.
        depth: Hidden layers.
    """

    centre: Tensor
    scale: Tensor
    bounds: Tensor

    def __init__(
        self, latent: int, parameters: int, dt: float, stride: int, members: int, hidden: int, depth: int
    ) -> None:
        super().__init__()
        self.latent, self.parameters_in, self.stride, self.members = latent, parameters, stride, members
        self.hidden, self.depth = hidden, depth
        self.linear = nn.Parameter(torch.zeros(members, latent + parameters, latent))
        self.drift = nn.Parameter(torch.zeros(members, 1, latent))
        self.register_buffer("dt", torch.tensor(float(dt), dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))
        self.register_buffer("bounds", unbounded(latent))
        self.register_buffer("std", torch.full((latent,), 1e-3))

    def inputs(self, history: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """History `(member, batch, window, latent)` and conditions `(member, batch, condition)`, expanded."""
        history = history.expand(self.members, *history.shape[-3:])
        return history, c.to(history.dtype).expand(self.members, history.shape[1], c.shape[-1])

    def ratio(self, dt: float | Tensor, z: Tensor) -> Tensor:
        """The step in units of the largest one, `(member, batch, 1)`."""
        ratio = torch.as_tensor(dt, dtype=torch.float64, device=z.device) / (self.dt * self.stride)
        return ratio.to(z.dtype).expand(z.shape[:2]).unsqueeze(-1)

    def state(self, z: Tensor, c: Tensor) -> Tensor:
        """Standardised latents and conditions, `(member, ..., latent + condition)`."""
        return torch.cat([(z - self.centre) / self.scale, c], -1)

    def linear_part(self, state: Tensor) -> Tensor:
        """The linear path, `(member, batch, latent)`, in standardised units."""
        return torch.baddbmm(self.drift, state, self.linear)

    @torch.no_grad()
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
        """Sets the scaling, and the linear path by least squares over the largest step."""
        weights, offset = self.linear_fit(z, c, controls, self.stride)
        self.linear.copy_(weights.to(self.linear.dtype).expand_as(self.linear))
        self.drift.copy_(offset.to(self.drift.dtype).expand_as(self.drift))

    @torch.no_grad()
    def linear_fit(self, z: Tensor, c: Tensor, controls: Tensor | None, step: int) -> tuple[Tensor, Tensor]:
        """Sets the scaling; weights and offset of the standardised increment over `step` stored steps, float64."""
        flat = z.reshape(-1, self.latent)
        self.centre.copy_(flat.mean(0))
        self.scale.copy_(latent_scale(flat))
        self.bounds.copy_(twice_the_range(flat))
        now, later, conditions = (part.detach().cpu().double() for part in step_pairs(z, c, controls, step))
        centre, scale = self.centre.cpu().double(), self.scale.cpu().double()
        features = torch.cat([(now - centre) / scale, conditions], -1).flatten(0, 1)
        weights, offset, _ = ridge_fit(features, ((later - now) / scale).flatten(0, 1), 1e-8)
        return weights, offset
