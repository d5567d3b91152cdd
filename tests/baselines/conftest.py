"""Small analytic data sets: no solver is needed to test a baseline."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from romvae.schema import snapshots

Array = NDArray[np.float64]


def travelling_gaussian(speed: Array, width: Array, times: int = 21, points: int = 64) -> xr.Dataset:
    """u = exp(-(x - 0.3 - speed t)^2 / 2 width^2): all of it follows from the parameters."""
    x, t = np.linspace(0, 1, points), np.linspace(0, 1, times)
    place = x - 0.3 - speed[:, None, None] * t[:, None]
    u = np.exp(-(place**2) / (2 * width[:, None, None] ** 2))
    parameters = {"speed": speed, "width": width}
    return snapshots({"u": u}, {"x": x}, t, parameters, {"x": ("open", "open")}, dtype=np.float64)


def linear_waves(ndim: int, trajectories: int = 10, seed: int = 0, follow: bool = False) -> xr.Dataset:
    """Velocity and pressure of s' = (A_0 + c A_1) s with three states: a linear problem, exactly.

    Every state has its own pattern in space; the two fields have very different units. The first states are random, or
    `follow` from the parameter c.
    """
    rng = np.random.default_rng(seed)
    names, times = ("z", "y", "x")[-ndim:], 25
    axes = {name: np.arange(size) / size for name, size in zip(names, (8, 6, 5), strict=False)}
    A0, A1 = np.eye(3) + 0.1 * rng.normal(size=(2, 3, 3))
    A0, _ = np.linalg.qr(A0)
    c = rng.uniform(0.2, 0.4, trajectories)
    A = 0.9 * A0 + 0.1 * c[:, None, None] * (A1 - np.eye(3))
    first = rng.normal(size=(trajectories, 3))
    states = [np.stack([np.cos(5 * c), np.sin(5 * c), c], axis=1) if follow else first]
    for _ in range(times - 1):
        states.append(np.einsum("nij,nj->ni", A, states[-1]))
    s = np.stack(states, axis=1)
    patterns = rng.normal(size=(2, 3, *(len(axis) for axis in axes.values())))
    u, pressure = (np.einsum("nts,s...->nt...", s, pattern) for pattern in patterns)
    return snapshots(
        {"u": u, "pressure": 1e5 + 300 * pressure},
        axes,
        0.1 * np.arange(times),
        {"c": c},
        dict.fromkeys(names, ("periodic", "periodic")),
        units={"u": "m s-1", "pressure": "Pa", "time": "s"},
        dtype=np.float64,
    )


def turning_states(states: int, trajectories: int = 30, seed: int = 0) -> xr.Dataset:
    """Pairs of states that turn, each pair at its own frequency and with its own size: linear, and no rank is enough.

    The last pair is a fifth of the first one.
    """
    rng = np.random.default_rng(seed)
    pairs = states // 2
    angle = np.linspace(0.2, 1.1, pairs) * np.arange(21)[:, None]
    phase = rng.uniform(0, 2 * np.pi, (trajectories, 1, pairs))
    size = np.linspace(1, 0.2, pairs) * rng.uniform(0.5, 1, (trajectories, 1, pairs))
    s = np.concatenate([size * np.cos(angle + phase), size * np.sin(angle + phase)], axis=-1)
    patterns, _ = np.linalg.qr(rng.normal(size=(40, states)))
    x = np.arange(40) / 40
    return snapshots(
        {"u": s @ patterns.T}, {"x": x}, 0.1 * np.arange(21), {}, {"x": ("periodic", "periodic")}, dtype=np.float64
    )


@pytest.fixture(scope="session")
def gaussians() -> xr.Dataset:
    """A 5 x 5 grid of parameters."""
    speed, width = np.meshgrid(np.linspace(0.2, 0.4, 5), np.linspace(0.1, 0.15, 5))
    return travelling_gaussian(speed.ravel(), width.ravel())


@pytest.fixture(scope="session")
def new_gaussians() -> xr.Dataset:
    """Parameters between those of the grid."""
    rng = np.random.default_rng(0)
    return travelling_gaussian(rng.uniform(0.2, 0.4, 10), rng.uniform(0.1, 0.15, 10))
