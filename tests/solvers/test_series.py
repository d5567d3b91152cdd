"""Fourier and cosine series on grids of any size."""

from __future__ import annotations

import numpy as np
import pytest

from romvae.solvers.series import Series


def grid(points: int, length: float, periodic: bool) -> np.ndarray:
    return (np.arange(points) + (0.0 if periodic else 0.5)) * length / points


@pytest.mark.parametrize("points", [5, 8, 16, 17, 45])
@pytest.mark.parametrize("periodic", [True, False])
def test_values_are_those_of_the_formula_on_every_grid(periodic: bool, points: int) -> None:
    """Also on grids that are too coarse for the highest modes: they are evaluated, not dropped."""
    series = Series(2.0, 14, 32, periodic)
    v = series.analyse(np.random.default_rng(0).standard_normal((3, 40)))
    x = grid(points, 2.0, periodic)
    waves = np.exp(1j * np.outer(x, series.k)) if periodic else np.cos(np.outer(x, series.k))
    exact = v[:, 0, None].real + 2 * (v[:, None, 1:] * waves[:, 1:]).real.sum(axis=-1)
    assert series.synthesise(v, points) == pytest.approx(exact, abs=1e-13)
    assert series.coefficients(series.values(v)) == pytest.approx(v, abs=1e-14)


@pytest.mark.parametrize("points", [16, 17])
@pytest.mark.parametrize("periodic", [True, False])
def test_a_finer_grid_interpolates(periodic: bool, points: int) -> None:
    """There and back gives the same values, the sawtooth of an even periodic grid included."""
    u = np.random.default_rng(1).standard_normal((2, points))
    series = Series(3.0, 40, 96, periodic)
    assert series.synthesise(series.analyse(u), points) == pytest.approx(u, abs=1e-13)


def test_without_flux_the_series_is_smooth_through_the_ends() -> None:
    """cos(3 pi x / L) on cell centres has one coefficient."""
    x = grid(20, 2.0, periodic=False)
    v = Series(2.0, 10, 16, periodic=False).analyse(np.cos(3 * np.pi * x / 2)[None])
    assert v[0] == pytest.approx(0.5 * (np.arange(11) == 3), abs=1e-15)
