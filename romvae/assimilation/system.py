"""The state space of a ROM: latents advanced by the dynamics, read by sensors through the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from romvae.assimilation.sensors import Sensors
from romvae.errors import NumericsError

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["LatentSystem"]


class LatentSystem:
    """Latent dynamics and observations of some trajectories, in float64 outside of the networks.

    Member m follows network m modulo their number, as in a forecast.

    Arguments:
        rom: Trained.
        sensors: What is seen of normalised fields.
        c: Normalised parameters `(trajectory, parameter)`.
        generator: Source of the noise of stochastic dynamics; None follows the mean of each step.
    """

    def __init__(self, rom: ROM, sensors: Sensors, c: Tensor, generator: torch.Generator | None = None) -> None:
        self.rom, self.sensors, self.c, self.generator = rom, sensors, c, generator
        self.networks = rom.dynamics.members
        self.dtype = next(rom.vae.parameters()).dtype

    @property
    def step_std(self) -> Tensor:
        """Error of one stored step of the dynamics on its training data, `(latent,)`."""
        return self.rom.dynamics.std.double()

    def advance(self, z: Tensor, steps: int) -> Tensor:
        """Members `(member, trajectory, latent)` through time, `(steps + 1, member, trajectory, latent)`.

        Raises:
            NumericsError: A latent stopped being finite.
        """
        members, n, latent = z.shape
        rounds = members // self.networks
        by_network = z.reshape(rounds, self.networks, n, latent).transpose(0, 1).reshape(self.networks, -1, latent)
        path = self._rollout(by_network, rounds, steps).reshape(steps + 1, self.networks, rounds, n, latent)
        path = path.transpose(1, 2).reshape(steps + 1, members, n, latent)
        if not bool(path.isfinite().all()):
            raise NumericsError(
                f"assimilate: a latent stopped being finite within {steps} steps. Observe more often, or lower "
                "inflation, model_error or background."
            )
        return path

    def readings(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """What sensors read of latents `(..., latent)`, and the variance of what the code cannot represent there."""
        parts = [self._read(part) for part in z.reshape(-1, z.shape[-1]).split(1024)]
        shape = (*z.shape[:-1], -1)
        return torch.cat([y for y, _ in parts]).reshape(shape), torch.cat([rho for _, rho in parts]).reshape(shape)

    def readings_along(self, z0: Tensor, leads: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Readings at some stored steps after initial latents `(network, trajectory, latent)`, with gradients.

        Returns:
            Readings and variances, `(time, network, trajectory, sensor)`.
        """
        path = self._rollout(z0, 1, max(leads))
        return self.readings(path[list(leads)])

    def _rollout(self, z: Tensor, rounds: int, steps: int) -> Tensor:
        """From `(network, round * trajectory, latent)`."""
        dynamics, noise = self.rom.dynamics, None
        if dynamics.stochastic and self.generator is not None:
            noise = torch.randn(steps // dynamics.stride, *z.shape, generator=self.generator, dtype=self.dtype)
        c = self.c.repeat(rounds, 1)
        return dynamics.rollout(z.to(self.dtype), c, float(dynamics.dt), steps, noise=noise).double()

    def _read(self, z: Tensor) -> tuple[Tensor, Tensor]:
        p = self.rom.vae.decoder(z.to(self.dtype))
        variance = self.rom.calibration.decoder_std(p.variance.double().sqrt(), 1).square()
        return self.sensors(p.mean.flatten(1)), self.sensors.variance(variance.flatten(1))
