"""What every model of the latent time evolution is: a distribution of the next latent."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

__all__ = ["LatentDynamics"]


class LatentDynamics(nn.Module, ABC):
    r"""Latent dynamics :math:`p(z_{t+dt} \mid z_t, z_{t-dt}, \dots; c, dt)`.

    A subclass writes `forward`; a step and a rollout of the mean follow from it. It knows latents and
    parameters (normalised numbers, no units) and nothing of grids or fields.

    A model with memory sets `window` > 1 and must accept any history of 1 to `window` latents, because a
    forecast starts from a single field. A model without memory reads `history[..., -1, :]` only.
    """

    window: int = 1
    """Most latents that the model looks back on, the present one included."""

    @abstractmethod
    def forward(
        self,
        history: Tensor,
        c: Tensor,
        dt: float,
    ) -> Distribution:
        """Distribution of the next latent.

        Arguments:
            history: Latents, oldest first, `dt` apart, shape `(..., batch, window, latent)`.
            c: Physical parameters of each trajectory, shape `(batch, parameter)`; `parameter` may be 0.
            dt: Time from the last latent of `history` to the one that is predicted.

        Returns:
            A distribution with event shape `(latent,)` and batch shape `(..., batch)`.
        """

    def step(self, z: Tensor, c: Tensor, dt: float) -> Tensor:
        """Mean of the next latent from the present one alone, shape `(..., batch, latent)` to the same."""
        return self(z.unsqueeze(-2), c, dt).mean

    def rollout(
        self,
        z0: Tensor,
        c: Tensor,
        dt: float,
        steps: int,
    ) -> Tensor:
        r"""Repeated means :math:`z_{k+1} = \mathrm{E}\,p(\cdot \mid z_k, \dots)`, with gradients.

        Without memory (`window` = 1), `rollout(m + n)` is `rollout(n)` started where `rollout(m)` ended.

        Arguments:
            z0: Initial latents, shape `(..., batch, latent)`; leading axes are members.
            c: Physical parameters, shape `(batch, parameter)`.
            dt: Time step.
            steps: Number of steps, 0 or more.

        Returns:
            Latents at times `0, dt, ..., steps * dt`, shape `(steps + 1, ..., batch, latent)`, `z0` first.

        Raises:
            ValueError: `steps` is negative.
        """
        if steps < 0:
            raise ValueError(f"rollout: steps is {steps}, expected 0 or more. Correct it.")
        path = [z0]
        for _ in range(steps):
            history = torch.stack(path[-self.window :], dim=-2)
            path.append(self(history, c, dt).mean)
        return torch.stack(path)
