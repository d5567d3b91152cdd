"""The largest Lyapunov exponent where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.errors import ConfigError, NumericsError
from romvae.solvers import Heat, largest_lyapunov_exponent
from romvae.solvers.base import Array


class Growing(Heat):
    """Each point grows at its own rate: the exponents are these rates."""

    rates = np.array([-1.0, -0.2, 0.35, 0.1])

    def _integrate(self, u0: Array, times: Array) -> Array:
        return u0 * np.exp(np.outer(times - times[0], self.rates))[:, None]


class Doubling(Heat):
    """The map u -> 2 u mod 1 once per unit of time: the exponent is log 2."""

    def _integrate(self, u0: Array, times: Array) -> Array:
        return np.stack([(u0 * 2.0 ** round(t - times[0])) % 1.0 for t in times])


def test_a_linear_system_has_its_fastest_rate() -> None:
    """After the discarded intervals the other directions are down by exp(-0.25 * 80) = 2e-9."""
    decaying = np.broadcast_to([1.0, 0.0, 0.0, 0.0], (3, 1, 4))
    found = largest_lyapunov_exponent(Growing(points=4), decaying, 2.0, 5, discard=40)
    assert found.mean == pytest.approx(0.35, abs=1e-8)
    assert found.per_trajectory.shape == (3,)
    assert found.standard_error < 1e-8


def test_the_doubling_map() -> None:
    u0 = np.random.default_rng(0).uniform(0.1, 0.9, (40, 1, 4))
    found = largest_lyapunov_exponent(Doubling(points=4), u0, 1.0, 4, separation=1e-12)
    assert found.mean == pytest.approx(np.log(2), rel=1e-3)  # round-off of 1e-16 in differences of 1e-12


def test_diffusion_forgets_at_the_rate_of_its_slowest_mode() -> None:
    found = largest_lyapunov_exponent(Heat(0.1, 16, boundaries={"x": 0.0}), np.ones((1, 16)), 1.0, 4, discard=6)
    assert found.mean == pytest.approx(-0.1 * np.pi**2, rel=1e-6)
    assert np.isnan(found.standard_error)  # one trajectory


class Forgetting(Heat):
    """Every field becomes the same one."""

    def _integrate(self, u0: Array, times: Array) -> Array:
        return np.ones((times.size, *u0.shape))


def test_trajectories_that_become_equal_are_refused() -> None:
    with pytest.raises(NumericsError, match="the two trajectories of a pair became equal"):
        largest_lyapunov_exponent(Forgetting(points=4), np.ones((1, 4)), 1.0, 1)


def test_bad_arguments() -> None:
    with pytest.raises(
        ConfigError, match=r"u0 has shape \(1, 1, 7\), expected \(trajectory, \*\(1, 8\)\), not all zero"
    ):
        largest_lyapunov_exponent(Heat(points=8), np.ones((1, 1, 7)), 1.0, 1)
    with pytest.raises(ConfigError, match="interval is 0, expected a number above 0"):
        largest_lyapunov_exponent(Heat(points=8), np.ones((1, 8)), 0, 1)
