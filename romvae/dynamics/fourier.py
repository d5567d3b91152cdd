"""A Fourier neural operator for the latent: codes are read as fields on a coarse grid, stepped there, and read back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from romvae.dynamics.members import MemberLinear
from romvae.dynamics.network import NetworkDynamics
from romvae.nn.fourier import TruncatedFourier

__all__ = ["FourierDynamics"]

COARSE = {1: (64, 16), 2: (16, 8), 3: (8, 4)}
"""Most points per axis of the coarse grid, and wavenumbers that are kept, by the number of axes."""
RIDGE = 1e-4
"""Of the least squares between codes and coarse fields."""
AT_ONCE = 2**24
"""Numbers in a layer's features that are worked on at once where no gradients are kept."""


class FourierDynamics(NetworkDynamics):
    r"""Flow map :math:`z(t + \tau) = z(t) + \tfrac{\tau}{T}\,(A_m [z, c] + P_m f_m(L_m z, c, \tau))` on a coarse grid.

    A network of all latents has to learn for each of them, and for every place, what happens to neighbours: with a
    hundred codes of moving structures it does not from some hundred trajectories. Physics is local and mostly the same
    everywhere. So the codes are read as fields on a coarse grid (L, a linear map), these pass through Fourier layers,
    each a sum of a convolution over the whole grid and a map of the channels, and the change is read back into codes
    (P). Both maps start as the least squares between codes and the decoder's fields, averaged over the cells of the
    coarse grid (`start_from_fields`), and are trained with the rest; A starts as the linear model.

    Steps, members and conditions are those of `EnsembleDynamics`; there is no memory. A training step costs
    more than in `ResidualDynamics`: 14 times as much on 64 points in one dimension, 55 times on 16 x 16,
    180 times on 8 x 8 x 8 (four networks, 64 windows, one core of an AMD EPYC). It is for fields whose codes are many.

    Arguments:
        latent, parameters, dt, stride, members: As in `NetworkDynamics`.
        hidden: Channels; 24 to 48.
        depth: Fourier layers.
        seed: Seed of the initial weights.
        fields: Physical fields.
        shape: Points of the fields' grid per axis.
        periodic: Whether each axis is; None where all are. Along others, where a point lies is an input. Points count
            as evenly spaced.

    References:
        Li et al. (2021), Fourier neural operator for parametric partial differential equations, arXiv:2010.08895.
    """

    reads_fields = True
    place: Tensor

    def __init__(
        self,
        latent: int,
        parameters: int,
        dt: float,
        stride: int = 1,
        members: int = 4,
        hidden: int = 32,
        depth: int = 4,
        seed: int = 0,
        *,
        fields: int = 1,
        shape: Sequence[int] = (32,),
        periodic: Sequence[bool] | None = None,
    ) -> None:
        super().__init__(latent, parameters, dt, stride, members, hidden, depth)
        most, modes = COARSE[len(shape)]
        self.fields, self.coarse = fields, tuple(min(most, n) for n in shape)
        wraps = tuple(True for _ in shape) if periodic is None else tuple(periodic)
        self.points = math.prod(self.coarse)
        along = [axis for axis, n in enumerate(self.coarse) if n > 1]  # one point knows no waves
        lengths = [self.coarse[axis] for axis in along]
        kept = [min(modes, n // 2) for n in lengths]
        self.basis = TruncatedFourier(lengths, [wraps[axis] for axis in along], kept) if along else None
        count = 0 if self.basis is None else self.basis.count
        generator = torch.Generator().manual_seed(seed)

        def normal(*sizes: int, inputs: int, gain: float = 1.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(members, *sizes, generator=generator) * (gain / math.sqrt(inputs)))

        grid = fields * self.points
        self.lift = MemberLinear(members, latent, grid, generator)
        self.project = MemberLinear(members, grid, latent, generator)
        self.beside = MemberLinear(members, parameters + 1, hidden, generator)
        self.enter = normal(hidden, fields, inputs=fields)
        self.register_buffer("place", _places(self.coarse, wraps), persistent=False)
        self.placed = normal(hidden, len(self.place), inputs=max(1, len(self.place)))
        self.waves = nn.ParameterList(normal(count, hidden, 2 * hidden, inputs=4 * hidden) for _ in range(depth))
        self.mixing = nn.ParameterList(normal(hidden, hidden, inputs=hidden) for _ in range(depth))
        self.offsets = nn.ParameterList(nn.Parameter(torch.zeros(members, hidden, 1)) for _ in range(depth))
        self.widen = normal(2 * hidden, hidden, inputs=hidden)
        self.widened = nn.Parameter(torch.zeros(members, 2 * hidden, 1))
        self.leave = normal(fields, 2 * hidden, inputs=2 * hidden, gain=0.01)

    @property
    def continuous(self) -> bool:
        """Steps of one stored time to the largest were trained, and a step of no length changes nothing."""
        return self.stride > 1

    def flow(self, history: Tensor, c: Tensor, dt: float | Tensor) -> Tensor:
        """Latent of each member a time `dt` later; the last entry of `history` is used."""
        history, c = self.inputs(history, c)
        z, ratio = history[..., -1, :], self.ratio(dt, history[..., 0])
        rows = max(1, AT_ONCE // (self.members * self.hidden * self.points))
        graph = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        if graph or torch.is_grad_enabled() or z.shape[1] <= rows:
            return self._flow(z, c, ratio)
        parts = (each.split(rows, 1) for each in (z, c, ratio))
        return torch.cat([self._flow(*some) for some in zip(*parts, strict=True)], 1)

    def _flow(self, z: Tensor, c: Tensor, ratio: Tensor) -> Tensor:
        state = self.state(z, c)
        lifted = self.lift(state[..., : self.latent]).unflatten(-1, (self.fields, self.points)).permute(0, 3, 1, 2)
        beside = self.beside(torch.cat([c, ratio], -1)).unsqueeze(1)
        placed = (self.placed @ self.place).transpose(1, 2).unsqueeze(2)
        h = _across(self.enter, lifted) + beside + placed
        for waves, mixing, offset in zip(self.waves, self.mixing, self.offsets, strict=True):
            h = h + F.gelu(self._convolved(waves, h) + _across(mixing, h, offset))
        change = _across(self.leave, F.gelu(_across(self.widen, h, self.widened)))
        change = self.project(change.permute(0, 2, 3, 1).flatten(2))
        return z + ratio * (self.linear_part(state) + change) * self.scale

    def _convolved(self, waves: Tensor, h: Tensor) -> Tensor:
        """A complex matrix of the channels for every mode: `(member, point, batch, channel)` to the same."""
        if self.basis is None:
            return torch.zeros_like(h)
        members, _, batch, width = h.shape
        found = self.basis.coefficients(h.reshape(members, *self.basis.shape, -1))
        a, b = (part.reshape(-1, batch, width) for part in found)
        real, imaginary = waves.flatten(0, 1).chunk(2, -1)
        mixed = (
            torch.baddbmm(torch.bmm(a, real), b, imaginary, alpha=-1),
            torch.baddbmm(torch.bmm(a, imaginary), b, real),
        )
        return self.basis.values(*(part.reshape(members, self.basis.count, -1) for part in mixed)).reshape(h.shape)

    @torch.no_grad()
    def start_from_fields(self, z: Tensor, x: Tensor) -> None:
        """Sets by least squares how codes are read as coarse fields, and coarse fields as codes.

        Arguments:
            z: Codes `(sample, latent)`.
            x: What they are decoded to, normalised fields `(sample, field, *space)`.
        """
        pool = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[len(self.coarse) - 1]
        fields = pool(x, self.coarse).flatten(1).cpu().double()  # type: ignore[arg-type]
        codes = ((z - self.centre) / self.scale).cpu().double()
        middle, centre = codes.mean(0), fields.mean(0)
        ahead, back = _regression(codes - middle, fields - centre), _regression(fields - centre, codes - middle)
        offset = centre - middle @ ahead
        # A change of the fields has no offset: `project` starts without.
        for layer, weight, constant in ((self.lift, ahead, offset), (self.project, back, torch.zeros(1))):
            layer.weight.copy_(weight.to(layer.weight).expand_as(layer.weight))
            layer.bias.copy_(constant.to(layer.bias).expand_as(layer.bias))


def _across(weight: Tensor, h: Tensor, offset: Tensor | None = None) -> Tensor:
    """A map of the channels at every point: `(member, point, batch, channel)` to the same with other channels."""
    flat, weight = h.flatten(1, 2), weight.transpose(1, 2)
    out = torch.bmm(flat, weight) if offset is None else torch.baddbmm(offset.transpose(1, 2), flat, weight)
    return out.unflatten(1, h.shape[1:3])


def _regression(features: Tensor, target: Tensor) -> Tensor:
    """Weights of the least squares, penalised in units of the mean variance: a value that is constant gets none."""
    gram = features.T @ features
    penalty = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram + penalty, features.T @ target)


def _places(shape: Sequence[int], periodic: Sequence[bool]) -> Tensor:
    """Where each point lies along the axes that are not periodic, from -1 to 1: `(axis, point)`."""
    lines = [torch.linspace(-1, 1, n) for n in shape]
    found = [
        line.reshape([-1 if other == axis else 1 for other in range(len(shape))]).expand(*shape).flatten()
        for axis, line in enumerate(lines)
        if not periodic[axis]
    ]
    return torch.stack(found) if found else torch.zeros(0, math.prod(shape))
