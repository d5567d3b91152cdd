"""Laws that a user's own class can be held to, and small data to hold them on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from romvae.boundary import Boundary
from romvae.canonical import SPACE, snapshots
from romvae.solvers.verify import verify_solver

if TYPE_CHECKING:
    from romvae.dynamics import LatentDynamics

__all__ = ["mock_snapshots", "verify_dynamics", "verify_solver"]

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


def verify_dynamics(dynamics: LatentDynamics, latent: int, parameters: int, dt: float, seed: int = 0) -> None:
    """Holds latent dynamics to the laws that a rollout relies on.

    One step returns a distribution over latents; a rollout starts at its start, has one entry per time, is repeatable,
    leaves its input as it was, treats every trajectory on its own, and passes gradients to the start.

    Arguments:
        dynamics: The model, in any float type.
        latent: Number of latents.
        parameters: Number of physical parameters.
        dt: Time step that the model accepts.
        seed: Seed of the test states.

    Raises:
        AssertionError: A law does not hold; the message says which.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    state = next(iter([*dynamics.parameters(), *dynamics.buffers()]), torch.zeros(()))
    dtype = state.dtype if state.dtype.is_floating_point else torch.get_default_dtype()
    z0 = torch.randn(4, latent, generator=generator, dtype=torch.float64).to(dtype)
    c = torch.randn(4, parameters, generator=generator, dtype=torch.float64).to(dtype)
    before = z0.clone()
    p = dynamics(z0.unsqueeze(-2), c, dt)
    _require(tuple(p.event_shape) == (latent,), f"one step has event shape {tuple(p.event_shape)}, not ({latent},)")
    _require(tuple(p.batch_shape)[-1:] == (4,), f"one step has batch shape {tuple(p.batch_shape)}, not (..., 4)")
    path = dynamics.rollout(z0, c, dt, 5)
    _require(path.shape[0] == 6, f"a rollout of 5 steps has {path.shape[0]} times, not 6")
    _require(bool((path[0] == z0).all()), "a rollout does not start at its start")
    _require(torch.equal(path, dynamics.rollout(z0, c, dt, 5)), "a rollout is not repeatable")
    _require(torch.equal(z0, before), "a rollout changes its input")
    alone = torch.cat([dynamics.rollout(z0[i : i + 1], c[i : i + 1], dt, 5) for i in range(4)], -2)
    _require(torch.allclose(path, alone, rtol=1e-4, atol=1e-5), "a trajectory depends on the others in its batch")
    start = z0.clone().requires_grad_()
    dynamics.rollout(start, c, dt, 3)[-1].sum().backward()
    _require(start.grad is not None and bool(start.grad.isfinite().all()), "no gradient reaches the start")


def _require(holds: bool, law: str) -> None:
    if not holds:
        raise AssertionError(f"{law}.")
