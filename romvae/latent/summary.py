"""The latent space of a trained ROM in one Dataset, small enough to be kept beside a comparison and drawn later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from romvae.latent.activity import activity
from romvae.latent.explore import codes_of, interpolation_error, project, traverse
from romvae.schema import LATENT, TIME, TRAJECTORY

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["latent_summary"]

_SNAPSHOTS = 2000
_PATHS, _LATENTS = 24, 6
_MOST_VALUES = 300_000
"""Values that the traversal may have: a field in three dimensions is thinned."""


def latent_summary(rom: ROM, snapshots: xr.Dataset) -> xr.Dataset:
    """Activity of the latents, projection and paths of the codes, error of interpolation, and a traversal.

    Arguments:
        rom: Trained.
        snapshots: Held-out trajectories; at most some 2000 snapshots, evenly spaced in time, are used.

    Returns:
        On `latent`: `kl`, `gain`, `posterior_std`, `active`. On `trajectory, time`: `first`, `second`, `error`, with
        the parameters as coordinates. `path` on `path_trajectory, time, shown`: the codes of some trajectories in the
        latents of largest divergence. On `between`, steps from one end: `interpolated_latent`, `interpolated_field`,
        `interpolated_encoding`. `traversed` on `shown, position` and the grid: the first field.
    """
    trajectories, times = snapshots.sizes[TRAJECTORY], snapshots.sizes[TIME]
    every = min(-(-trajectories * times // _SNAPSHOTS), times)
    others = -(-trajectories * -(-times // every) // _SNAPSHOTS)  # of more trajectories than snapshots
    some = snapshots.isel({TIME: slice(None, None, every), TRAJECTORY: slice(None, None, others)})
    found = activity(rom, some).table
    carries = found["kl"].values if np.isfinite(found["kl"]).all() else found["gain"].values
    shown = np.argsort(-carries)[:_LATENTS]
    codes = project(rom, some)
    out = xr.merge([found[["kl", "gain", "posterior_std", "active"]], codes], combine_attrs="drop_conflicts")
    out.attrs["share"] = [float(v) for v in np.atleast_1d(codes.attrs["share"])]
    few = some.isel({TRAJECTORY: slice(None, _PATHS)})
    path = codes_of(rom, few)[1].reshape(few.sizes[TRAJECTORY], few.sizes[TIME], -1)
    out["path"] = (("path_trajectory", TIME, "shown"), path[..., shown.tolist()].numpy())
    gap = min(snapshots.sizes[TIME] - 1, max(2, rom.dynamics.stride))
    if gap >= 2:
        # Every stored time of fewer trajectories: the true states in between are what is compared with.
        whole = snapshots.isel({TRAJECTORY: slice(None, max(1, _SNAPSHOTS // snapshots.sizes[TIME]))})
        errors = interpolation_error(rom, whole, gap)
        for name in errors.data_vars:
            out[f"interpolated_{name}"] = ("between", errors[name].values)
    out = out.assign_coords(shown=("shown", shown), between=("between", np.arange(gap + 1)))
    middle = snapshots.isel({TRAJECTORY: [0], TIME: [snapshots.sizes[TIME] // 2]})
    return out.merge(_traversed(rom, middle, shown.tolist()), combine_attrs="override")


def _traversed(rom: ROM, snapshot: xr.Dataset, shown: list[int]) -> xr.Dataset:
    """The first field as each shown latent moves."""
    name = rom.schema.field_names[0]
    field = traverse(rom, snapshot, shown)[name]
    middle = {dim: field.sizes[dim] // 2 for dim in rom.schema.grid.names[:-2]}
    field = field.isel(middle, drop=True)
    coarse = int(np.ceil(np.sqrt(max(1.0, field.size / _MOST_VALUES))))
    field = field.isel({dim: slice(None, None, coarse) for dim in field.dims[2:]})
    renamed = field.rename({LATENT: "shown", **{dim: f"at_{dim}" for dim in field.dims[2:]}})
    return xr.Dataset({"traversed": renamed.assign_attrs(field.attrs, field=name)})
