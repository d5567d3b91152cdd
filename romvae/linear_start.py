"""Where a VAE starts: at the linear model that the snapshots' POD gives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from romvae.distributions import moments
from romvae.kinds import Compression
from romvae.nn.linear import LinearDecoder, LinearEncoder
from romvae.tensors import pod
from romvae.vae import VAE

__all__ = ["Modes", "modes_of", "refined", "start_from_linear"]

_SNAPSHOTS = 1500
"""Snapshots that POD is made from, and on which a decoder that is not Gaussian is fitted to the codes."""

_MANY = 8192
"""Snapshots for POD where it is the model and not only where training begins."""
_ROUNDS, _GUARD, _AT_ONCE = 6, 16, 512


@dataclass(frozen=True)
class Modes:
    """POD of normalised snapshots.

    Arguments:
        mean: Mean snapshot `(points,)`.
        modes: Orthonormal modes `(rank, points)`.
        std: Standard deviation of each coefficient `(rank,)`.
        total: Variance of the snapshots, summed over the points.
    """

    mean: Tensor
    modes: Tensor
    std: Tensor
    total: float

    def energy(self) -> Tensor:
        """Share of the variance in the first 1, 2, ... modes, shape `(rank,)`."""
        return self.std.square().cumsum(0) / self.total

    def first(self, rank: int) -> Modes:
        """The leading modes."""
        return Modes(self.mean, self.modes[:rank], self.std[:rank], self.total)

    @property
    def noise(self) -> float:
        """Mean variance of the directions that are left out: the noise of probabilistic PCA."""
        rest = self.total - float(self.std.double().square().sum())
        left = self.mean.numel() - len(self.std)
        # Round-off of the POD, relative to the last mode that is kept.
        return max(rest / max(left, 1), 1e-12 * self.total, 1e-6 * float(self.std[-1]) ** 2)


def modes_of(x: Tensor, rank: int) -> Modes:
    """POD of snapshots `(sample, channel, *space)`."""
    used = x[:: max(1, -(-len(x) // _SNAPSHOTS))]  # all of `pod`'s: shares of another sample's variance may exceed one
    mean, modes, std = pod(used, rank, limit=_SNAPSHOTS)
    total = float(used.flatten(1).var(0, correction=0).sum())
    return Modes(mean, modes, std, total)


@torch.no_grad()
def refined(modes: Modes, x: Tensor) -> Modes:
    """POD of up to 8192 snapshots, by subspace iteration from that of fewer, in float64.

    Where fine structure moves about, as in transport, modes of 1500 snapshots miss a tenth more of new ones than modes
    of 8000 do. After six rounds with sixteen directions more than are wanted, what was wrong with a mode is smaller by
    the twelfth power of the ratio of the first deviation beyond them to its own. `pod` would solve for as many
    eigenvalues as there are points or snapshots; this took 2.8 s for 7936 snapshots of 3072 points and 64 modes.

    Arguments:
        modes: POD of some of the snapshots.
        x: All of them, `(sample, channel, *space)`.

    Returns:
        As many modes as before.
    """
    rows = x[:: max(1, -(-len(x) // _MANY))].flatten(1)
    rank, points = modes.modes.shape
    if len(rows) <= _SNAPSHOTS or rank == 0:
        return modes
    mean = torch.stack([part.double().mean(0) * len(part) for part in rows.split(_AT_ONCE)]).sum(0) / len(rows)
    beside = torch.randn(min(_GUARD, points - rank), points, generator=torch.Generator().manual_seed(0))
    basis = torch.cat([modes.modes.cpu(), beside]).double().T.to(mean.device)
    total = 0.0
    for k in range(_ROUNDS):
        basis = torch.linalg.qr(basis)[0]
        moved = torch.zeros_like(basis)
        for part in rows.split(_AT_ONCE):
            off = part.double() - mean
            moved += off.T @ (off @ basis)
            total += float(off.square().sum()) if k == 0 else 0.0
        small = basis.T @ moved
        energies, turn = torch.linalg.eigh((small + small.T) / 2)
        basis, last = moved, basis @ turn.flip(-1)
    std = (energies.flip(0)[:rank].clamp_min(0) / len(rows)).sqrt()
    keep = std > 1e-6 * std[0]
    return Modes(mean.float(), last[:, :rank].T[keep].float(), std[keep].float(), total / len(rows))


@torch.no_grad()
def start_from_linear(vae: VAE, x: Tensor, modes: Modes, compression: Compression) -> None:
    """Sets the linear paths of encoder and decoder.

    POD and probabilistic PCA are complete with it; the other models begin there. A decoder that puts out logits is
    fitted to the codes by least squares.

    Arguments:
        vae: Untrained.
        x: Normalised snapshots `(sample, channel, *space)`.
        modes: Their POD.
        compression: Kind of model.
    """
    encoder, decoder = vae.encoder, vae.decoder
    if isinstance(encoder, LinearEncoder) and isinstance(decoder.mean, LinearDecoder) and compression == "ppca":
        encoder.start_from_ppca(modes.mean, modes.modes, modes.std, modes.noise)
        decoder.mean.start_from_pod(modes.mean, modes.modes, modes.std, modes.noise)
        decoder.log_var_shared.fill_(float(torch.tensor(modes.noise + decoder.floor**2).log()))
        return
    encoder.start_from_pod(modes.mean, modes.modes, modes.std)
    some = x[:: max(1, len(x) // _SNAPSHOTS)]
    target = decoder.link(some)
    if target is some:
        decoder.mean.start_from_pod(modes.mean, modes.modes, modes.std)
        return
    codes = moments(encoder(some))[0]
    centre = target.flatten(1).mean(0)
    found = torch.linalg.lstsq(codes.double(), (target.flatten(1) - centre).double()).solution
    linear = decoder.mean.linear
    if linear is not None:
        linear.weight.copy_(found.T)
        linear.bias.copy_(centre)
