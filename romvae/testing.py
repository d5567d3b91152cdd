"""Laws that a user's own class can be held to, and small data to hold them on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from romvae.boundary import Boundary
from romvae.canonical import SPACE, snapshots
from romvae.solvers.verify import verify_solver

if TYPE_CHECKING:
    from torch import Tensor

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


def verify_dynamics(
    dynamics: LatentDynamics,
    latent: int,
    parameters: int,
    dt: float,
    seed: int = 0,
    build: Callable[[], LatentDynamics] | None = None,
) -> None:
    """Holds latent dynamics to the laws that a rollout relies on.

    One step returns a distribution over latents; a rollout starts at its start, has one entry per time, is repeatable,
    leaves its input as it was, treats every trajectory on its own, and passes gradients to the start. A model without
    memory goes on from a large step as if it had started there; one with memory takes any history up to its window. An
    ensemble follows its own steps, keeps its members apart, and in float64 has gradients that agree with finite
    differences.

    Arguments:
        dynamics: The model, in any float type.
        latent: Number of latents.
        parameters: Number of physical parameters.
        dt: Time step that the model accepts.
        seed: Seed of the test states.
        build: Makes an untrained twin; with the state of `dynamics` it has to give the same rollouts.

    Raises:
        AssertionError: A law does not hold; the message says which.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    kinds = {p.dtype for p in dynamics.parameters()}  # scales and times may well be kept in another float type
    kinds = kinds or {b.dtype for b in dynamics.buffers() if b.dtype.is_floating_point}
    dtype = next(iter(kinds), torch.get_default_dtype())
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
    _verify_memory(dynamics, z0, c, dt)
    if dtype == torch.float64:
        _verify_gradient(dynamics, z0, c, dt)
    if build is not None:
        twin = build()
        twin.load_state_dict(dynamics.state_dict())
        same = torch.equal(path, twin.rollout(z0, c, dt, 5))
        _require(same, "a twin with the same state gives another rollout: not all of the state is kept")


def _verify_memory(dynamics: LatentDynamics, z0: Tensor, c: Tensor, dt: float) -> None:
    """What the model remembers: nothing beyond its window, and without memory nothing but the present."""
    import torch

    from romvae.dynamics import EnsembleDynamics

    stride = dynamics.stride if isinstance(dynamics, EnsembleDynamics) else 1
    path = dynamics.rollout(z0, c, dt, 2 * stride + 3)
    if dynamics.window == 1:
        onward = dynamics.rollout(path[stride], c, dt, stride + 3)
        same = torch.allclose(path[stride:], onward, rtol=1e-4, atol=1e-5)
        _require(same, f"a rollout of m + n steps is not one of n after one of m = {stride}, without memory")
    history = torch.stack([z0 + 0.1 * k for k in range(dynamics.window + 1)], -2)
    for length in range(1, dynamics.window + 1):
        mean = dynamics(history[..., -length:, :], c, dt).mean
        _require(bool(mean.isfinite().all()), f"a history of {length} is refused or gives no finite step")
    if isinstance(dynamics, EnsembleDynamics):
        _require(path.shape[1] == dynamics.members, f"a rollout has {path.shape[1]} members, not {dynamics.members}")
        step = dynamics.held_back(dynamics.flow(z0.unsqueeze(-2), c, dt * stride))
        _require(
            torch.allclose(path[stride], step, rtol=1e-4, atol=1e-5), "a rollout does not follow the model's own steps"
        )
        moved = z0.expand(dynamics.members, *z0.shape).clone()
        moved[-1] += 0.1
        others = dynamics.rollout(moved, c, dt, 3)[:, :-1]
        _require(torch.allclose(others, path[:4, :-1], rtol=1e-4, atol=1e-5), "a member depends on the others")


def _verify_gradient(dynamics: LatentDynamics, z0: Tensor, c: Tensor, dt: float) -> None:
    import torch

    start = z0[:1].clone().requires_grad_()
    direction = torch.ones_like(start) / start.numel() ** 0.5
    (slope,) = torch.autograd.grad(dynamics.rollout(start, c[:1], dt, 2)[-1].sum(), start)
    width = 1e-5  # the error of a central difference, about its square, and the rounding, 1e-16 / 1e-5, are far below
    with torch.no_grad():
        ends = [dynamics.rollout(start + sign * width * direction, c[:1], dt, 2)[-1].sum() for sign in (1, -1)]
    found, expected = float((slope * direction).sum()), float(ends[0] - ends[1]) / (2 * width)
    _require(abs(found - expected) <= 1e-5 * (1 + abs(expected)), f"a gradient is {found:.6g}, not {expected:.6g}")


def _require(holds: bool, law: str) -> None:
    if not holds:
        raise AssertionError(f"{law}.")
