"""From canonical snapshots to the normalised tensors that training works on, and what the data say about symmetry."""

from __future__ import annotations

import math

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from romvae.canonical import mask_of
from romvae.memory import require_memory
from romvae.normalise import Normaliser, ParameterScaling
from romvae.ragged import even_part, existing, ragged_lengths
from romvae.schema import TIME, TRAJECTORY, Schema
from romvae.symmetry import Operation, Symmetry, operations_of

__all__ = [
    "control_tensor",
    "even_tensor",
    "existing_tensor",
    "field_tensor",
    "largest_step",
    "parameter_tensor",
    "pod",
    "shift_axes",
    "symmetry_of",
]

_WAVES, _SHARE = 8, 1e-3
"""Waves whose phases are compared: so many at most, each with so large a share of the energy."""
_PASSES = 3  # the tensor, and once more in double precision where statistics are taken of it


def field_tensor(ds: xr.Dataset, schema: Schema, normaliser: Normaliser) -> Tensor:
    """Normalised snapshots, shape `(trajectory, time, channel, *space)`, float32; outside of the mask they are zero.

    Beyond the end of a trajectory, as `n_steps` has it, they are NaN, whatever the Dataset holds there.

    Raises:
        NotEnoughMemoryError: They, and what is computed from them, would not fit into memory.
    """
    dims = (TRAJECTORY, TIME, *schema.grid.names)
    arrays = [ds[name].transpose(*dims) for name in schema.field_names]
    first = arrays[0].shape
    require_memory(
        f"{first[0]} trajectories of {first[1]} times",
        _PASSES * 4 * len(arrays) * math.prod(first),
        "Use fewer trajectories or times, a coarser grid, or a machine with more memory",
    )
    x = torch.empty(*first[:2], len(arrays), *first[2:])
    for i in range(first[0]):  # centred in float64: a small deviation from a large mean would be lost in float32
        u = np.stack([np.asarray(array[i].values, dtype=np.float64) for array in arrays], axis=1)
        x[i] = normaliser(torch.from_numpy(u)).float()
    mask = mask_of(ds)
    if mask is not None:  # whatever stands there is no value of the field
        x[..., torch.from_numpy(~mask)] = 0.0
    kept = existing_tensor(ds)
    if kept is not None:
        x[~kept] = torch.nan
    return x


def existing_tensor(ds: xr.Dataset) -> Tensor | None:
    """Which snapshots of ragged data there are, boolean `(trajectory, time)`; None where there are all of them."""
    lengths = ragged_lengths(ds)
    return None if lengths is None else torch.from_numpy(existing(lengths, ds.sizes[TIME]))


def even_tensor(x: Tensor, kept: Tensor | None, least: int = 1) -> Tensor:
    """The part of ragged trajectories `(trajectory, time, ...)` that `romvae.ragged.even_part` chooses; or all.

    Arguments:
        x: Trajectories.
        kept: Which of their times there are, `(trajectory, time)`; None for all.
        least: As in `even_part`.
    """
    if kept is None:
        return x
    rows, times = even_part(kept.sum(1).numpy(), least)
    return x[torch.from_numpy(rows), :times]


def parameter_tensor(ds: xr.Dataset, schema: Schema, scaling: ParameterScaling) -> Tensor:
    """Normalised parameters, shape `(trajectory, parameter)`."""
    n = ds.sizes.get(TRAJECTORY, 1)
    columns = [np.asarray(ds[name].values, dtype=np.float64).reshape(-1) for name in schema.parameter_names]
    values = np.stack(columns, axis=1) if columns else np.zeros((n, 0))
    return scaling(torch.from_numpy(values))


def control_tensor(ds: xr.Dataset, schema: Schema, scaling: ParameterScaling | None) -> Tensor | None:
    """Normalised controls, shape `(trajectory, time, control)`; None where the schema has none."""
    if scaling is None:
        return None
    n, times = ds.sizes.get(TRAJECTORY, 1), ds.sizes[TIME]
    columns = []
    for name in schema.control_names:
        dims = [dim for dim in (TRAJECTORY, TIME) if dim in ds[name].dims]
        columns.append(np.broadcast_to(ds[name].transpose(*dims).values.astype(np.float64), (n, times)))
    return scaling(torch.from_numpy(np.stack(columns, -1)))


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
    n, waves = len(x), (x.shape[3 + axis] - 1) // 2
    along = x[:, _some(x.shape[1], 4)].movedim(3 + axis, -1)
    lines = along.reshape(*along.shape[:3], -1, along.shape[-1])  # (trajectory, time, channel, place, axis)
    modes = torch.fft.rfft(lines[..., _some(lines.shape[3], 16), :].double())[..., 1 : 1 + waves]
    largest, pairs = 0.0, 1
    for c in range(x.shape[2]):
        energy = modes[:, :, c].abs().square().mean((0, 1, 2))
        chosen = [int(k) for k in energy.argsort(descending=True)[:_WAVES] if energy[k] > _SHARE * energy.sum()]
        phase = torch.sgn(modes[:, :, c][..., chosen])
        for other in (phase, phase.conj()):
            r2 = torch.einsum("ntpi,ntpj->tpij", phase, other).div(n).abs().square().mean((0, 1))
            if other is not phase:
                r2.fill_diagonal_(0.0)  # a wave and itself
            pairs += r2.numel()
            largest = max(largest, float(r2.max())) if r2.numel() else largest
    return largest > max(0.1, (math.log(pairs) + math.log(1000)) / n)


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


def largest_step(x: Tensor) -> int:
    """Stored steps in one large step of the dynamics: about a twentieth of the trajectory, at most ten.

    It is halved while the field changes by more than half of its size within it.
    """
    steps = x.shape[1] - 1
    stride = max(1, min(10, round(steps / 20)))
    size = float(x.square().mean().sqrt())
    while stride > 1:
        change = float((x[:, stride:] - x[:, :-stride]).square().mean().sqrt())
        if change <= 0.5 * size:
            break
        stride //= 2
    return stride


def pod(x: Tensor, rank: int, limit: int = 1500) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, POD modes and standard deviations of their coefficients, from at most `limit` snapshots.

    Arguments:
        x: Snapshots `(sample, channel, *space)`.
        rank: Modes wanted; fewer are returned where the snapshots span fewer.
        limit: Snapshots used, evenly spaced through the samples.

    Returns:
        Mean `(points,)`, modes `(rank, points)` with orthonormal rows, standard deviations `(rank,)`.
    """
    every = max(1, math.ceil(len(x) / limit))
    flat = x[::every].flatten(1).to(torch.float64, copy=True)
    mean = flat.mean(0)
    flat -= mean
    if flat.shape[0] <= flat.shape[1]:
        energies, vectors = torch.linalg.eigh(flat @ flat.T)
        modes = (vectors.flip(-1)[:, :rank].T @ flat) / energies.flip(0)[:rank].clamp_min(1e-300).sqrt()[:, None]
    else:
        energies, vectors = torch.linalg.eigh(flat.T @ flat)
        modes = vectors.flip(-1)[:, :rank].T
    std = (energies.flip(0)[:rank].clamp_min(0) / len(flat)).sqrt()
    keep = std > 1e-6 * std[0]
    return mean.float(), modes[keep].float(), std[keep].float()
