"""Causal transformer over the history of the latent."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from romvae.dynamics.members import MemberLinear, MemberPerceptron
from romvae.dynamics.network import NetworkDynamics
from romvae.errors import ConfigError

__all__ = ["TransformerDynamics"]


class TransformerDynamics(NetworkDynamics):
    r"""Flow map :math:`z(t + \tau) = z(t) + \tfrac{\tau}{T}\, f_m(h, z(t), c, \tau)`, h by attention over the history.

    Tokens are the last `window` latents, one large step T apart; each attends to those before it. A learned position
    counts the steps back from the present, so that any shorter history will do. It is small: a latent code needs no
    more, and one network per member has to fit into one batched product.

    Arguments:
        latent, parameters, dt, stride, members: As in `NetworkDynamics`.
        hidden: Width of the tokens, 64 is a good start; four heads share it where it can be divided by four.
        depth: Blocks of attention and perceptron; 2 is a good start.
        seed: Seed of the initial weights.
        window: Most latents that it looks back on.

    References:
        Vaswani et al. (2017), Attention is all you need, arXiv:1706.03762.
        Solera-Rico et al. (2024), beta-variational autoencoders and transformers for reduced-order modelling of fluid
        flows, arXiv:2304.03571.
    """

    def __init__(
        self,
        latent: int,
        parameters: int,
        dt: float,
        stride: int = 1,
        members: int = 4,
        hidden: int = 64,
        depth: int = 2,
        seed: int = 0,
        *,
        window: int = 4,
    ) -> None:
        if window < 1:
            raise ConfigError(f"TransformerDynamics: window is {window}, expected 1 or more. Try 4.")
        super().__init__(latent, parameters, dt, stride, members, hidden, depth)
        self.window = window
        generator = torch.Generator().manual_seed(seed)
        self.embed = MemberLinear(members, latent + parameters, hidden, generator)
        self.position = nn.Parameter(0.1 * torch.randn(members, 1, window, hidden, generator=generator))
        self.blocks = nn.ModuleList(_Block(members, hidden, generator) for _ in range(depth))
        self.head = MemberPerceptron(members, [hidden + latent + parameters + 1, hidden, latent], generator)

    @property
    def continuous(self) -> bool:
        """Steps of one stored time to the largest were trained, and a step of no length changes nothing."""
        return self.stride > 1

    def flow(self, history: Tensor, c: Tensor, dt: float | Tensor) -> Tensor:
        history, c = self.inputs(history[..., -self.window :, :], c)
        length = history.shape[-2]
        states = self.state(history, c.unsqueeze(-2).expand(*history.shape[:-1], c.shape[-1]))
        tokens = self.embed(states) + self.position[..., self.window - length :, :]
        for block in self.blocks:
            tokens = block(tokens)
        z, state, ratio = history[..., -1, :], states[..., -1, :], self.ratio(dt, history[..., 0])
        seen = F.layer_norm(tokens[..., -1, :], tokens.shape[-1:])
        change = self.linear_part(state) + self.head(torch.cat([seen, state, ratio], -1))
        return z + ratio * change * self.scale


class _Block(nn.Module):
    """Attention over earlier tokens, then a perceptron, each added to a normalised stream."""

    def __init__(self, members: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = 4 if hidden % 4 == 0 else 1
        self.attend = MemberLinear(members, hidden, 3 * hidden, generator)
        self.mix = MemberLinear(members, hidden, hidden, generator, gain=0.5)
        self.widen = MemberLinear(members, hidden, 2 * hidden, generator)
        self.narrow = MemberLinear(members, 2 * hidden, hidden, generator, gain=0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """`(member, batch, token, hidden)` to the same."""
        hidden = tokens.shape[-1]
        parts = self.attend(F.layer_norm(tokens, (hidden,))).unflatten(-1, (3 * self.heads, -1)).transpose(-2, -3)
        query, key, value = parts.chunk(3, -3)
        # Written out, because the fused attention has no forward-mode derivative.
        scores = query @ key.mT / query.shape[-1] ** 0.5
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        seen = scores.masked_fill(later, float("-inf")).softmax(-1) @ value
        tokens = tokens + self.mix(seen.transpose(-2, -3).flatten(-2))
        wide: Tensor = self.narrow(F.silu(self.widen(F.layer_norm(tokens, (hidden,)))))
        return tokens + wide
