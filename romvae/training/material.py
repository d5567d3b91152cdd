"""A ROM's data as the stages of a training take them: in memory, or from their file within a budget."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr
from torch import Tensor

from romvae.errors import ConfigError
from romvae.ragged import thinned
from romvae.streamed import Trajectories, streaming_budget
from romvae.symmetry import Symmetry
from romvae.tensors import control_tensor, field_tensor, parameter_tensor
from romvae.training.session import read_state

if TYPE_CHECKING:
    from romvae.data import Parts
    from romvae.rom import ROM

__all__ = ["budget_of", "controls_of", "copies_of", "data_of", "snapshots_of", "thinned_to"]

COPIES = 16
"""Symmetric copies of the training set on which the dynamics is trained, where shifts are a symmetry."""


def snapshots_of(rom: ROM, ds: xr.Dataset) -> tuple[Tensor, Tensor]:
    """Normalised snapshots and parameters."""
    return field_tensor(ds, rom.schema, rom.normaliser), parameter_tensor(ds, rom.schema, rom.scaling)


def controls_of(rom: ROM, ds: xr.Dataset) -> Tensor | None:
    """Normalised controls `(trajectory, time, control)`; None where the data have none."""
    return control_tensor(ds, rom.schema, rom.control_scaling)


def budget_of(
    rom: ROM, parts: Parts, budget: float | None, checkpoint: str | Path | None, processes: int
) -> float | None:
    """GB for streamed data; None where they fit into memory. A training that is continued keeps what it began with."""
    if budget is not None and not budget > 0:
        raise ConfigError(f"fit: memory_budget is {budget} GB, expected a positive number. Leave it out, or raise it.")
    if budget is None and checkpoint is not None and Path(checkpoint).exists():
        kept: float | None = read_state(Path(checkpoint)).settings.get("memory_budget")
        return kept
    found = streaming_budget(parts.train, rom.schema, budget, processes)
    return None if found is None else found / 1e9


def data_of(rom: ROM, ds: xr.Dataset, budget: float | None) -> tuple[Tensor | Trajectories, Tensor]:
    """Normalised snapshots and parameters; the snapshots stay in their file where a budget says so."""
    if budget is None:
        return snapshots_of(rom, ds)
    c = parameter_tensor(ds, rom.schema, rom.scaling)
    return Trajectories(ds, rom.schema, rom.normaliser, int(budget * 1e9)), c


def copies_of(rom: ROM, x: Tensor | Trajectories, symmetry: Symmetry) -> int:
    """How many copies of the training set to encode; the codes of data on disk take a quarter of the budget at most."""
    copies = symmetry.copies(COPIES)
    if isinstance(x, Trajectories):
        each = 2 * 4 * x.shape[0] * x.shape[1] * rom.vae.latent  # means and standard deviations
        return max(1, min(copies, x.budget // (4 * each)))
    return copies


def thinned_to(rom: ROM, ds: xr.Dataset, budget: float | None) -> xr.Dataset:
    """Every n-th time, so that the snapshots take an eighth of the budget at most; all times without one."""
    if budget is None:
        return ds
    nbytes = 4 * sum(ds[name].size for name in rom.schema.field_names)
    return thinned(ds, max(1, math.ceil(nbytes / (budget * 1e9 / 8))))
