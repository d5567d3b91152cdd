"""Residual network for the latent flow map, conditioned on parameters and step, as an ensemble in one computation."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from romvae.dynamics.base import LatentDynamics

__all__ = ["ResidualDynamics"]


class ResidualDynamics(LatentDynamics):
    r"""Flow map :math:`z(t + \tau) = z(t) + \tfrac{\tau}{T}\, f_m(z(t), c, \tau)` for any step :math:`0 < \tau \le T`.

    The largest step T is `stride` stored steps long. A rollout takes steps of T and reads the times in between off
    the same map with a smaller step: errors accumulate over few compositions, and all times in between are computed
    in one batch. Consequence: `rollout(m + n)` equals `rollout(n)` after `rollout(m)` exactly where m is a multiple of
    `stride`, and to within the model's error elsewhere.

    The members m of the ensemble are deterministic networks of one shape that differ in their initial weights and in
    the data they see; they are evaluated in one batched computation. Their disagreement is the dynamics spread.

    Arguments:
        latent: Number of latents.
        parameters: Number of physical parameters.
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
        generator = torch.Generator().manual_seed(seed)
        widths = [latent + parameters + 1] + [hidden] * depth + [latent]
        gains = [1.0] * depth + [0.01]
        self.weights = nn.ParameterList(
            torch.randn(members, a, b, generator=generator) * (gain / math.sqrt(a))
            for a, b, gain in zip(widths[:-1], widths[1:], gains, strict=True)
        )
        self.biases = nn.ParameterList(torch.zeros(members, 1, b) for b in widths[1:])
        self.linear = nn.Parameter(torch.zeros(members, latent + parameters, latent))
        self.register_buffer("dt", torch.tensor(float(dt), dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))
        self.register_buffer("std", torch.full((latent,), 1e-3))

    def forward(self, history: Tensor, c: Tensor, dt: float | Tensor) -> Independent:
        """Distribution of the latent a time `dt` later, one per member.

        Arguments:
            history: Shape `(member, batch, window, latent)`, or without the member axis; the last entry of the window
                is used.
            c: Normalised parameters, shape `(batch, parameter)` or `(member, batch, parameter)`.
            dt: Time step, physical units, a number or shape `(member, batch)`; at most `stride` stored steps.

        Returns:
            Batch shape `(member, batch)`, event `(latent,)`; the standard deviation is that of one step's error.
        """
        mean = self._flow(history[..., -1, :], c, dt)
        return Independent(Normal(mean, self.std.to(mean.dtype).expand_as(mean), validate_args=False), 1)

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
        return z + ratio * (h + torch.bmm(state, self.linear)) * self.scale

    def rollout(self, z0: Tensor, c: Tensor, dt: float, steps: int) -> Tensor:
        """Latents at `0, dt, ..., steps * dt`, shape `(steps + 1, member, batch, latent)`; see the class."""
        if steps < 0:
            raise ValueError(f"rollout: steps is {steps}, expected 0 or more. Give the number of steps of dt.")
        stride = max(1, int(self.stride * float(self.dt) / dt + 1e-9))
        z = z0.expand(self.members, *z0.shape[-2:])
        anchors = [z]
        for _ in range(steps // stride):
            anchors.append(self._flow(anchors[-1], c, stride * dt))
        count, batch = len(anchors), z.shape[1]
        path = z.new_empty(count * stride, *z.shape)
        path[::stride] = torch.stack(anchors)
        flat = torch.cat(anchors, 1)
        repeated = c.expand(self.members, batch, c.shape[-1]).repeat(1, count, 1)
        for j in range(1, min(stride, steps + 1)):
            between = self._flow(flat, repeated, j * dt)
            path[j::stride] = between.reshape(self.members, count, batch, -1).transpose(0, 1)
        return path[: steps + 1]

    @torch.no_grad()
    def start_from_linear(self, z: Tensor, c: Tensor, ridge: float = 1e-6) -> None:
        """Sets the scaling, and the linear part by least squares over the largest step.

        Arguments:
            z: Latents, shape `(trajectory, time, latent)`, stored `dt` apart.
            c: Normalised parameters, shape `(trajectory, parameter)`.
            ridge: Penalty relative to the number of samples.
        """
        flat = z.reshape(-1, self.latent)
        self.centre.copy_(flat.mean(0))
        self.scale.copy_(flat.std(0).clamp_min(1e-6))
        increment = (z[:, self.stride :] - z[:, : -self.stride]) / self.scale
        state = torch.cat(
            [(z[:, : -self.stride] - self.centre) / self.scale, c[:, None].expand(-1, increment.shape[1], -1)], -1
        ).reshape(-1, self.latent + self.parameters_in)
        a = torch.cat([state, torch.ones_like(state[:, :1])], 1).double()
        gram = a.T @ a + ridge * len(a) * torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
        solution = torch.linalg.solve(gram, a.T @ increment.reshape(-1, self.latent).double())
        self.linear.copy_(solution[:-1].to(self.linear.dtype).expand_as(self.linear))
        self.biases[-1].copy_(solution[-1:].to(self.linear.dtype).expand_as(self.biases[-1]))
