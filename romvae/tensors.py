"""From canonical snapshots to the normalised tensors that training works on."""

from __future__ import annotations

import math

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from romvae.canonical import mask_of
from romvae.errors import ConfigError
from romvae.memory import require_memory
from romvae.normalise import Normaliser, ParameterScaling
from romvae.ragged import even_part, existing, ragged_lengths
from romvae.schema import TIME, TRAJECTORY, Schema

__all__ = [
    "control_tensor",
    "even_tensor",
    "existing_tensor",
    "field_tensor",
    "largest_step",
    "parameter_tensor",
    "pod",
]

_TOGETHER = 2**20  # values of trajectories that are normalised at once: one by one, xarray takes longer than the work
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
    together = max(1, _TOGETHER // max(1, math.prod(x.shape[1:])))
    for begin in range(0, first[0], together):
        some = slice(begin, begin + together)
        u = np.stack([np.asarray(array[some].values, dtype=np.float64) for array in arrays], axis=2)
        # centred in float64: a small deviation from a large mean would be lost in float32
        x[some] = normaliser(torch.from_numpy(u).flatten(0, 1)).float().unflatten(0, u.shape[:2])
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


def largest_step(x: Tensor, wanted: int | None = None, single: bool = False) -> int:
    """Stored steps in one large step of the dynamics: about a twentieth of the trajectory, at most ten.

    It is halved while the field changes by more than half of its size within it.

    Arguments:
        x: Normalised snapshots `(trajectory, time, channel, *space)`.
        wanted: What was asked for.
        single: Whether it has to be one.

    Raises:
        ConfigError: What was asked for is out of range.
    """
    steps = x.shape[1] - 1
    most = 1 if single else steps
    if wanted is not None:
        if not 1 <= wanted <= most:
            why = " with controls or a Gaussian transition" if single else ", the steps of a trajectory"
            raise ConfigError(f"stride is {wanted}, expected 1 to {most}{why}. Leave it out, or change it.")
        return wanted
    if single:
        return 1
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
