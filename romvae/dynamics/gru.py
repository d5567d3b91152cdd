"""Gated recurrent unit over the history of the latent."""

from __future__ import annotations

import torch
from torch import Tensor

from romvae.dynamics.members import MemberLinear, MemberPerceptron
from romvae.dynamics.network import NetworkDynamics
from romvae.errors import ConfigError

__all__ = ["GruDynamics"]


class GruDynamics(NetworkDynamics):
    r"""Flow map :math:`z(t + \tau) = z(t) + \tfrac{\tau}{T}\, f_m(h, z(t), c, \tau)` h from a GRU over the history.

    The unit reads the last `window` latents, one large step T apart, from a zero memory; any shorter history will do.
    A forecast from a single field starts with that alone. The memory helps where one field does not determine the
    state, such as where only some of the fields were stored.

    Arguments:
        latent, parameters, dt, stride, members, hidden: As in `NetworkDynamics`; width 128 is a good start.
        depth: Hidden layers of the network that reads the memory.
        seed: Seed of the initial weights.
        window: Most latents that it looks back on.

    References:
        Cho et al. (2014), Learning phrase representations using RNN encoder-decoder for statistical machine
        translation, arXiv:1406.1078.
    """

    def __init__(
        self,
        latent: int,
        parameters: int,
        dt: float,
        stride: int = 1,
        members: int = 4,
        hidden: int = 128,
        depth: int = 1,
        seed: int = 0,
        *,
        window: int = 4,
    ) -> None:
        if window < 1:
            raise ConfigError(f"GruDynamics: window is {window}, expected 1 or more. Try 4.")
        super().__init__(latent, parameters, dt, stride, members, hidden, depth)
        self.window = window
        generator = torch.Generator().manual_seed(seed)
        self.read = MemberLinear(members, latent + parameters, 3 * hidden, generator)
        self.recall = MemberLinear(members, hidden, 3 * hidden, generator)
        widths = [hidden + latent + parameters + 1] + [hidden] * depth + [latent]
        self.head = MemberPerceptron(members, widths, generator)

    @property
    def continuous(self) -> bool:
        """Steps of one stored time to the largest were trained, and a step of no length changes nothing."""
        return self.stride > 1

    def flow(self, history: Tensor, c: Tensor, dt: float | Tensor) -> Tensor:
        history, c = self.inputs(history[..., -self.window :, :], c)
        z = history[..., -1, :]
        memory = z.new_zeros(*z.shape[:-1], self.hidden)
        state = self.state(z, c)
        for past in history.unbind(-2):
            state = self.state(past, c)
            memory = self._gated(state, memory)
        ratio = self.ratio(dt, z)
        change = self.linear_part(state) + self.head(torch.cat([memory, state, ratio], -1))
        return z + ratio * change * self.scale

    def _gated(self, state: Tensor, memory: Tensor) -> Tensor:
        read, recall = self.read(state).chunk(3, -1), self.recall(memory).chunk(3, -1)
        reset, keep = torch.sigmoid(read[0] + recall[0]), torch.sigmoid(read[1] + recall[1])
        return keep * memory + (1 - keep) * torch.tanh(read[2] + reset * recall[2])
