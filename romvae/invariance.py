"""Which symmetries the data have: whether a moved snapshot, or a moved trajectory, is as likely as it was."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from romvae.normalise import Normaliser
from romvae.schema import Schema
from romvae.symmetry import Operation, Symmetry, operations_of

__all__ = ["shift_axes", "symmetry_given", "symmetry_of"]

_WAVES, _SHARE = 8, 1e-3
"""Waves whose phases are compared: so many at most, each with so large a share of the energy."""


def shift_axes(x: Tensor, schema: Schema, mask: np.ndarray | None = None) -> tuple[int, ...]:
    """Periodic axes along which a shifted snapshot is as likely as the snapshot itself, judged from the data.

    A grid that is periodic says that shifts are allowed, not that they belong to the data: where all initial fields
    are centred at one place, a shifted copy is foreign. If the distribution is invariant, neither the mean nor the
    variance over trajectories has a structure along the axis beyond what n independent samples leave, and the phases
    of two waves have no preferred sum or difference. All are necessary; how three waves hang together is not looked at.

    Arguments:
        x: Normalised snapshots `(trajectory, time, channel, *space)`.
        schema: The grid they live on.
        mask: Where the domain is, `(*space)`; an obstacle must be invariant too.
    """
    n = x.shape[0]
    total = _variance(x)
    axes = []
    for axis, info in enumerate(schema.grid.axes):
        if not info.periodic or not info.uniform or (mask is not None and (mask != np.roll(mask, 1, axis)).any()):
            continue
        other = [d for d in range(x.ndim) if d != 3 + axis and d not in (1, 2)]
        across = [d - 2 for d in other if d > 1]  # other axes of a snapshot without its trajectory and time
        times = range(x.shape[1])  # one after the other, as float64 takes twice the memory
        profile = torch.stack([x[:, k].double().mean([0, *(d + 1 for d in across)]) for k in times])
        structure = float(profile.var(-1).mean())  # of (time, channel, points)
        spreads = [x[:, k].double().var(0) for k in times]
        spread = torch.stack([each.mean(across) if across else each for each in spreads])
        uneven = float((spread.var(-1) / spread.mean(-1).square().clamp_min(1e-300)).mean())
        flat_mean = structure < max(4.0 / n, 0.02) * total
        if n >= 8 and flat_mean and uneven < min(0.25, max(12.0 / n, 0.05)) and not _locked(x, axis):
            axes.append(axis)
    return tuple(axes)


def _locked(x: Tensor, axis: int) -> bool:
    r"""Whether two waves along an axis have phases with a preferred sum or difference over the trajectories.

    A shift by s turns the phase of wave k by 2 pi k s / L, so in an invariant ensemble every sum and difference of two
    phases (other than that of a wave with itself) is uniform. Of n independent trajectories the squared mean of such
    phases, R^2, is then exponential with the mean 1/n; it is 1 where they are locked. The largest over all pairs is
    compared with what chance reaches once in a thousand data sets, and with 0.1: a slight preference does no harm.

    Arguments:
        x: Normalised snapshots `(trajectory, time, channel, *space)`.
        axis: Spatial axis, counted from 0.
    """
    n = len(x)
    largest, pairs = 0.0, 1
    for phase in _phases(x, axis):
        for other in (phase, phase.conj()):
            r2 = torch.einsum("ntpi,ntpj->tpij", phase, other).div(n).abs().square().mean((0, 1))
            if other is not phase:
                r2.fill_diagonal_(0.0)  # a wave and itself
            pairs += r2.numel()
            largest = max(largest, float(r2.max())) if r2.numel() else largest
    return largest > max(0.1, _by_chance(pairs, n))


def _tied(x: Tensor, c: Tensor, axis: int) -> bool:
    r"""Whether the phases of waves along an axis go with a parameter of their trajectory.

    Fields may be as likely here as there and yet belong to one place once the parameters are known: where a parameter
    is the position of an obstacle or of a current, a shifted trajectory contradicts it. In an ensemble that is
    invariant for every value of the parameters, a phase, a sum or a difference of two phases is uniform whatever they
    are, and so its mean weighted by any function of a parameter vanishes. The functions are a straight line and two
    harmonics over the parameter's ranks; the bounds are those of `_locked`, and what exceeds chance counts however
    little it is.

    Arguments:
        x: Normalised snapshots `(trajectory, time, channel, *space)`.
        c: Parameters `(trajectory, parameter)`.
        axis: Spatial axis, counted from 0.
    """
    weights = _functions(c)
    if not weights.shape[1]:
        return False
    n = len(x)
    largest, pairs = 0.0, 1
    for phase in _phases(x, axis):
        phase = torch.cat([torch.ones_like(phase[..., :1]), phase], -1)  # a wave by itself is a pair with this one
        for other in (phase, phase.conj()):
            mean = torch.einsum("ntpi,ntpj,nf->tpijf", phase, other, weights.to(phase.dtype)).div(n)
            r2 = mean.abs().square().mean(1)  # of (time, wave, wave, function): what is carried to a place comes late
            r2[:, 0, 0] = 0.0
            if other is not phase:
                r2.diagonal(dim1=1, dim2=2).zero_()
            pairs += r2.numel()
            largest = max(largest, float(r2.max()))
    return largest > _by_chance(pairs, n)


def _functions(c: Tensor) -> Tensor:
    """Functions of every parameter that varies, `(trajectory, function)`, each with mean 0 and mean square 1."""
    found = []
    for column in c.double().T:
        _, place, counts = column.unique(return_inverse=True, return_counts=True)
        if len(counts) < 2:
            continue
        rank = ((counts.cumsum(0) - counts / 2) / len(column))[place]  # those that are equal share the middle rank
        turns = [2 * math.pi * k * rank for k in (1, 2)]
        each = [rank, *(wave(turn) for turn in turns for wave in (torch.cos, torch.sin))]
        centred = [one - one.mean() for one in each]
        found += [one / one.square().mean().sqrt() for one in centred if float(one.square().mean()) > 1e-6]
    return torch.stack(found, 1) if found else c.new_zeros(len(c), 0)


def _phases(x: Tensor, axis: int) -> list[Tensor]:
    """Of each channel's strongest waves along an axis, `(trajectory, time, place, wave)`, complex of modulus 1."""
    waves = (x.shape[3 + axis] - 1) // 2
    along = x[:, _some(x.shape[1], 4)].movedim(3 + axis, -1)
    lines = along.reshape(*along.shape[:3], -1, along.shape[-1])  # (trajectory, time, channel, place, axis)
    modes = torch.fft.rfft(lines[..., _some(lines.shape[3], 16), :].double())[..., 1 : 1 + waves]
    found = []
    for c in range(x.shape[2]):
        energy = modes[:, :, c].abs().square().mean((0, 1, 2))
        chosen = [int(k) for k in energy.argsort(descending=True)[:_WAVES] if energy[k] > _SHARE * energy.sum()]
        found.append(torch.sgn(modes[:, :, c][..., chosen]))
    return found


def _by_chance(pairs: int, n: int) -> float:
    """What the largest squared mean of so many uniform phases exceeds once in a thousand data sets."""
    return (math.log(pairs) + math.log(1000)) / n


def _some(size: int, most: int) -> slice:
    """At most `most` evenly spaced indices."""
    return slice(None, None, -(-size // most))


def symmetry_of(x: Tensor, schema: Schema, normaliser: Normaliser, mask: np.ndarray | None = None) -> Symmetry:
    """What may be done to the data without leaving their distribution, judged as in `shift_axes`.

    Shifts need no declaration, reflections and quarter turns do: that a grid is symmetric does not say that the
    equation is (a wave that steepens to one side is not).

    Arguments:
        x: Normalised snapshots `(trajectory, time, channel, *space)`.
        schema: The grid they live on, and the reflections and quarter turns that their equation has.
        normaliser: Theirs: a sign is turned in physical units.
        mask: Where the domain is, `(*space)`.

    Raises:
        SchemaError: Grid, fields or obstacle do not have a symmetry that is declared.
    """
    mean, std = normaliser.mean.tolist(), normaliser.std.tolist()
    declared = [one.normalised(mean, std) for one in operations_of(schema, mask)]
    kept = tuple(one for one in declared if _invariant(x, one))
    return Symmetry(shift_axes(x, schema, mask), kept)


def symmetry_given(symmetry: Symmetry, x: Tensor, c: Tensor) -> Symmetry:
    """What of a symmetry of the snapshots holds for trajectories with their parameters, as the dynamics needs it.

    Reflections and quarter turns are declared for every value of the parameters. Shifts are judged from the data: they
    are left out along an axis where a parameter says where on it something stands (see `_tied`).

    Arguments:
        symmetry: Of the snapshots alone, from `symmetry_of`.
        x: Normalised snapshots `(trajectory, time, channel, *space)`.
        c: Parameters `(trajectory, parameter)` of the same trajectories.
    """
    axes = tuple(axis for axis in symmetry.axes if not _tied(x, c, axis))
    return replace(symmetry, axes=axes)


def _invariant(x: Tensor, one: Operation) -> bool:
    """Whether mean and variance over trajectories go over into themselves, up to what few trajectories leave."""
    n = x.shape[0]
    times = range(x.shape[1])
    mean = torch.stack([x[:, k].double().mean(0) for k in times])
    spread = torch.stack([x[:, k].double().var(0) for k in times])
    uneven = (mean - one(mean)).square().mean() / 2 / _variance(x)
    other = (spread - one.unsigned(spread)).square().mean() / 2 / spread.mean().square().clamp_min(1e-300)
    return n >= 8 and bool(uneven < max(4.0 / n, 0.02)) and bool(other < max(12.0 / n, 0.05))


def _variance(x: Tensor) -> float:
    """Of all values, in double precision, trajectory by trajectory."""
    mean = sum(float(each.double().sum()) for each in x) / x.numel()
    return sum(float((each.double() - mean).square().sum()) for each in x) / (x.numel() - 1)
