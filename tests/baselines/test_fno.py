"""The Fourier neural operator: learns, keeps its boundaries, is a function of its seed."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from romvae.errors import ConfigError, DataError
from romvae.metrics import relative_l2

pytest.importorskip("neuralop")
pytestmark = pytest.mark.slow

from romvae.baselines import FourierNeuralOperator, Persistence  # noqa: E402

from .conftest import linear_waves  # noqa: E402


def _small(steps: int = 6) -> FourierNeuralOperator:
    return FourierNeuralOperator(width=8, modes=8, learning_rate=5e-3, steps=steps)


def test_it_beats_persistence(gaussians: xr.Dataset, new_gaussians: xr.Dataset) -> None:
    model = _small(80).fit(gaussians)
    start = new_gaussians.isel(time=0)
    still = Persistence().fit(gaussians).rollout(start, new_gaussians.time)
    error = float(relative_l2(new_gaussians, model.rollout(start, new_gaussians.time)).u)
    assert error < 0.5 * float(relative_l2(new_gaussians, still).u)
    assert model.choice["held_out_error"] < 1


def test_the_same_seed_gives_the_same_bits(gaussians: xr.Dataset) -> None:
    start = gaussians.isel(time=0)
    one, two, other = (_small().fit(gaussians, seed=seed).rollout(start, gaussians.time) for seed in (3, 3, 4))
    xr.testing.assert_identical(one, two)
    assert not one.equals(other)


def test_only_axes_that_are_not_periodic_are_padded(gaussians: xr.Dataset) -> None:
    open_ends = _small().fit(gaussians).network.operator
    periodic = _small().fit(linear_waves(2)).network.operator
    assert open_ends.domain_padding is not None
    assert open_ends.positional_embedding is not None
    assert periodic.domain_padding is None
    assert periodic.positional_embedding is None


def test_a_periodic_operator_commutes_with_shifts() -> None:
    ds = linear_waves(1)
    model = _small().fit(ds)
    start = ds.isel(time=0)
    shifted = start.roll(x=3, roll_coords=False)
    one = model.rollout(start, ds.time).roll(x=3, roll_coords=False)
    two = model.rollout(shifted, ds.time)
    np.testing.assert_allclose(two.u, one.u, atol=1e-4)  # single precision, 24 steps


def test_uneven_grids_and_wrong_sizes_are_refused(gaussians: xr.Dataset) -> None:
    uneven = gaussians.assign_coords(x=np.linspace(0, 1, 64) ** 2)
    reason = "points along x are not evenly spaced"
    assert reason in FourierNeuralOperator.reason_against(uneven)
    with pytest.raises(DataError, match=f"fno: {reason}"):
        _small().fit(uneven)
    with pytest.raises(ConfigError, match="fno: width is 0, expected a positive number"):
        FourierNeuralOperator(width=0)
