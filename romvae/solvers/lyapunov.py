"""The largest Lyapunov exponent of any solver: how fast neighbouring trajectories part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from romvae.errors import ConfigError
from romvae.solvers.arguments import count, positive
from romvae.solvers.base import Array, Solver

__all__ = ["LyapunovExponent", "largest_lyapunov_exponent"]


@dataclass(frozen=True)
class LyapunovExponent:
    """An estimate of the largest Lyapunov exponent.

    Arguments:
        mean: lambda, per time; errors grow by exp(lambda t), and 1 / lambda is the Lyapunov time.
        standard_error: Of `mean`, from the scatter between the trajectories; NaN for a single one.
        per_trajectory: The estimate of each trajectory, `(trajectory,)`.
    """

    mean: float
    standard_error: float
    per_trajectory: Array


def largest_lyapunov_exponent(
    solver: Solver,
    u0: ArrayLike,
    interval: float,
    repeats: int,
    discard: int = 1,
    separation: float = 1e-6,
    seed: int = 0,
) -> LyapunovExponent:
    """Follows pairs of close trajectories and averages the rate at which they part (Benettin's method).

        lambda = mean over intervals of log(|difference after| / |difference before|) / interval

    After each interval the difference is shrunk back to `separation`, in the direction that it has reached. The
    root mean square over all fields and points measures it, so that fields in different units should be of similar
    size. A trajectory of total time T has a statistical error of about 1 / T from the unknown direction alone;
    several trajectories give the standard error.

    Arguments:
        solver: Any solver; all trajectories share it.
        u0: Initial fields on the attractor, `(trajectory, field, *space)`, or one `(field, *space)`.
        interval: Time between two renormalisations; errors should grow by a factor of 2 to 100 in it.
        repeats: Number of intervals that count.
        discard: Intervals before those, in which the difference turns into the fastest growing direction.
        separation: Relative to the root mean square of `u0`; far above round-off, far below nonlinear effects.
        seed: Of the first, random difference.

    Returns:
        The estimate in units of 1 / time.

    Raises:
        ConfigError: An argument is out of range.
        NumericsError: The solver failed.

    References:
        Benettin, Galgani and Strelcyn (1976), Kolmogorov entropy and numerical experiments, Phys. Rev. A 14, 2338.
    """
    where = "largest_lyapunov_exponent"
    interval = positive(where, "interval", interval)
    separation = positive(where, "separation", separation)
    repeats, discard = count(where, "repeats", repeats, 1), count(where, "discard", discard, 0)
    u = np.array(u0, dtype=np.float64)
    u = u[None] if u.ndim == len(solver.shape) else u
    if u.shape[1:] != solver.shape or not u.any():
        raise ConfigError(f"{where}: u0 has shape {u.shape}, expected (trajectory, *{solver.shape}), not all zero")
    distance = separation * float(np.sqrt((u**2).mean()))
    difference = _scaled(np.random.default_rng(seed).standard_normal(u.shape), distance)
    times = np.array([0.0, interval])
    rates = np.empty((discard + repeats, len(u)))
    for rate in rates:
        both = np.concatenate([u, u + difference])
        u, apart = np.split(type(solver).solve_many([solver] * len(both), both, times)[:, 1], 2)
        difference = apart - u
        if not _size(difference).all():
            raise solver.failed(interval, "the two trajectories of a pair became equal. Use a larger separation")
        rate[:] = np.log(_size(difference) / distance) / interval
        difference = _scaled(difference, distance)
    each = rates[discard:].mean(axis=0)
    error = float(each.std(ddof=1) / np.sqrt(each.size)) if each.size > 1 else float("nan")
    return LyapunovExponent(float(each.mean()), error, each)


def _size(difference: Array) -> Array:
    """Root mean square of each trajectory's difference, `(trajectory,)`."""
    return np.sqrt((difference**2).mean(axis=tuple(range(1, difference.ndim))))


def _scaled(difference: Array, distance: float) -> Array:
    return difference * (distance / _size(difference)).reshape(-1, *[1] * (difference.ndim - 1))
