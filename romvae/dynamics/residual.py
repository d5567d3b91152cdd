"""Residual network for the latent flow map, conditioned on parameters and step, as an ensemble in one computation."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from romvae.dynamics.base import EnsembleDynamics
from romvae.dynamics.extent import latent_scale, twice_the_range, unbounded
from romvae.dynamics.products import ProductTerms, linear_start

__all__ = ["ResidualDynamics"]


class ResidualDynamics(EnsembleDynamics):
    r"""Flow map :math:`z(t + \tau) = z(t) + \tfrac{\tau}{T}\, f_m(z(t), c, \tau)` for any step :math:`0 < \tau \le T`.

    f is the sum of a network, a linear map of latents and conditions, and products of both (`ProductTerms`). The latter
    two start from least squares, so that an equation that is linear in the field needs little of the network.

    Steps, members and conditions are those of `EnsembleDynamics`; there is no memory.

    The members m of the ensemble are deterministic networks of one shape that differ in their initial weights and in
    the data they see; they are evaluated in one batched computation. Their disagreement is the dynamics spread.

    Arguments:
        latent: Number of latents.
        parameters: Number of conditions: physical parameters, and twice the controls.
        dt: Time between stored snapshots, physical units.
        stride: Stored steps in the largest step T.
        members: Networks in the ensemble; 4 is a good start.
        hidden: Width; 128 to 256.
        depth: Hidden layers.
        seed: Seed of the initial weights.

    References:
        Lakshminarayanan, Pritzel and Blundell (2017), Simple and scalable predictive uncertainty estimation using deep
        ensembles, arXiv:1612.01474.
    """

    dt: Tensor
    centre: Tensor
    scale: Tensor
    bounds: Tensor
    std: Tensor

    def __init__(
        self,
        latent: int,
        parameters: int,
        dt: float,
        stride: int = 1,
        members: int = 4,
        hidden: int = 192,
        depth: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.latent, self.parameters_in, self.stride, self.members = latent, parameters, stride, members
        self.hidden, self.depth = hidden, depth
        generator = torch.Generator().manual_seed(seed)
        widths = [latent + parameters + 1] + [hidden] * depth + [latent]
        gains = [1.0] * depth + [0.01]
        self.weights = nn.ParameterList(
            torch.randn(members, a, b, generator=generator) * (gain / math.sqrt(a))
            for a, b, gain in zip(widths[:-1], widths[1:], gains, strict=True)
        )
        self.biases = nn.ParameterList(torch.zeros(members, 1, b) for b in widths[1:])
        self.linear = nn.Parameter(torch.zeros(members, latent + parameters, latent))
        self.products = ProductTerms(latent, parameters, members, stride)
        self.register_buffer("dt", torch.tensor(float(dt), dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))
        self.register_buffer("bounds", unbounded(latent))
        self.register_buffer("std", torch.full((latent,), 1e-3))

    @property
    def continuous(self) -> bool:
        """Steps of one stored time to the largest were trained, and a step of no length changes nothing."""
        return self.stride > 1

    def flow(self, history: Tensor, c: Tensor, dt: float | Tensor) -> Tensor:
        """Latent of each member a time `dt` later; the last entry of `history` is used."""
        return self._flow(history[..., -1, :], c, dt)

    def _flow(self, z: Tensor, c: Tensor, dt: float | Tensor) -> Tensor:
        z = z.expand(self.members, *z.shape[-2:])
        c = c.to(z.dtype).expand(self.members, *c.shape[-2:])
        ratio = torch.as_tensor(dt, dtype=torch.float64, device=z.device) / (self.dt * self.stride)
        ratio = ratio.to(z.dtype).expand(z.shape[:-1]).unsqueeze(-1)
        state = torch.cat([(z - self.centre) / self.scale, c], -1)
        h = torch.cat([state, ratio], -1)
        last = len(self.weights) - 1
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            y = torch.baddbmm(bias, h, weight)
            if k < last:
                y = F.silu(y) if k == 0 else h + F.silu(y)
            h = y
        known = torch.bmm(state, self.linear) + self.products(state[..., : self.latent], c, ratio)
        return z + ratio * (h + known) * self.scale

    @torch.no_grad()
    def start_from_linear(
        self,
        z: Tensor,
        c: Tensor,
        controls: Tensor | None = None,
        ridge: float = 1e-6,
        *,
        group: Tensor | None = None,
        precision: Tensor | None = None,
        log_range: Tensor | None = None,
    ) -> None:
        """Sets the scaling, and by least squares the linear part and the products where they help.

        Arguments:
            z: Latents, shape `(row, time, latent)`, stored `dt` apart.
            c: Normalised parameters, shape `(row, parameter)`.
            controls: Normalised controls `(row, time, control)`.
            ridge: Penalty of the linear part alone, relative to the number of samples.
            group: Number of the trajectory that each row is a copy of, `(row,)`; as in `EnsembleDynamics`.
            precision: Not needed here.
            log_range: Not needed here.

        Raises:
            NumericsError: The trajectories are too short.
            DataError: There is not one group per row.
        """
        flat = z.reshape(-1, self.latent)
        self.centre.copy_(flat.mean(0))
        self.scale.copy_(latent_scale(flat))
        self.bounds.copy_(twice_the_range(flat))
        found = linear_start(self.products, (z - self.centre) / self.scale, c, controls, self.stride, ridge, group)
        self.linear.copy_(found.linear.to(self.linear).expand_as(self.linear))
        self.biases[-1].copy_(found.offset.to(self.linear).expand_as(self.biases[-1]))
        self.products.start(found.products)
