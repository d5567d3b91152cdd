"""Laws that a user's own class can be held to, and small data to hold them on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from romvae.boundary import Boundary
from romvae.canonical import SPACE, snapshots

__all__ = ["mock_snapshots"]

_SIZES = {1: (16,), 2: (8, 12), 3: (4, 6, 8)}  # not square: a swap of axes cannot go unnoticed


def mock_snapshots(
    ndim: int = 1,
    fields: Sequence[str] = ("u",),
    trajectories: int = 8,
    seed: int = 0,
    times: int = 6,
    shape: Sequence[int] | None = None,
) -> xr.Dataset:
    """Decaying travelling waves on a small grid, as a canonical Dataset with one parameter, `viscosity`.

    Each field is `exp(-viscosity t) sin(2 pi (x - t) - phase)` on a periodic x, with a random phase per
    trajectory; along y and z it varies as a cosine between walls.

    Arguments:
        ndim: Spatial dims, 1 to 3.
        fields: Names of the fields.
        trajectories: Number of trajectories.
        seed: Seed of phases and parameters.
        times: Number of stored times, 0.1 apart.
        shape: Grid points (z, y, x); not square by default.

    Returns:
        Dims `(trajectory, time, [z, [y,]] x)`, float32.
    """
    rng = np.random.default_rng(seed)
    sizes = tuple(shape or _SIZES[ndim])
    names = SPACE[-ndim:]
    axes = {name: np.arange(n) / n for name, n in zip(names, sizes, strict=True)}
    t = 0.1 * np.arange(times)
    viscosity = rng.uniform(0.1, 1.0, trajectories)
    grid = np.meshgrid(*axes.values(), indexing="ij")
    across = np.prod([np.ones(sizes), *(np.cos(np.pi * g) for g in grid[:-1])], axis=0)
    expand = (..., *(np.newaxis,) * ndim)
    decay = np.exp(-viscosity[:, None] * t)[expand]
    values = {}
    for name in fields:
        phase = rng.uniform(0, 2 * np.pi, (trajectories, 1))
        values[name] = decay * np.sin(2 * np.pi * grid[-1] - (2 * np.pi * t + phase)[expand]) * across
    walls = (Boundary("wall"), Boundary("value", tuple((name, 0.0) for name in sorted(fields))))
    return snapshots(
        values,
        axes,
        t,
        parameters={"viscosity": viscosity},
        boundaries={name: ("periodic", "periodic") if name == "x" else walls for name in names},
        units={
            **dict.fromkeys(fields, "m s-1"),
            **dict.fromkeys(names, "m"),
            "time": "s",
            "viscosity": "m2 s-1",
        },
        attrs={"source": "romvae.testing.mock_snapshots"},
    )
