"""What every baseline must do, and what the default ones are."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from romvae.baselines import Baseline, Persistence, PODInterpolation, PODLinear, default_baselines
from romvae.errors import DataError, SchemaError
from romvae.metrics import relative_l2
from romvae.schema import check_snapshots

from .conftest import linear_waves

ALL = [Persistence(), PODLinear(3), PODInterpolation()]


@pytest.fixture(params=ALL, ids=lambda baseline: baseline.name)
def baseline(request: pytest.FixtureRequest) -> Baseline:
    return request.param


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_forecast_stands_on_the_dims_and_coordinates_of_the_snapshots(baseline: Baseline, ndim: int) -> None:
    ds = linear_waves(ndim)
    start = ds.isel(trajectory=slice(0, 3), time=0)
    forecast = baseline.fit(ds).rollout(start, ds.time)
    truth = ds.isel(trajectory=slice(0, 3))
    assert set(forecast.data_vars) == {"u", "pressure"}
    assert forecast.u.dims == ds.u.dims
    assert forecast.u.dtype == ds.u.dtype
    assert forecast.pressure.attrs == ds.pressure.attrs
    xr.testing.assert_identical(forecast.drop_vars(["u", "pressure"]), truth.drop_vars(["u", "pressure"]))
    check_snapshots(forecast)
    relative_l2(truth, forecast)  # its check of the coordinates passes


def test_order_of_dims_and_variables_does_not_matter(baseline: Baseline) -> None:
    ds = linear_waves(2)
    other = ds[["pressure", "u"]].transpose("x", "time", "trajectory", "y")
    start = other.isel(time=[0])
    one = baseline.fit(ds).rollout(ds.isel(time=0), ds.time)
    two = baseline.fit(other).rollout(start, ds.time)
    xr.testing.assert_allclose(one, two, rtol=1e-9)


def test_one_trajectory_without_its_dim_is_a_start(baseline: Baseline) -> None:
    ds = linear_waves(1)
    baseline.fit(ds)
    many = baseline.rollout(ds.isel(time=0), ds.time)
    one = baseline.rollout(ds.isel(time=0, trajectory=4), ds.time)
    xr.testing.assert_allclose(one, many.isel(trajectory=[4]), rtol=1e-12)


def test_a_single_time_is_the_start(baseline: Baseline) -> None:
    ds = linear_waves(1)
    forecast = baseline.fit(ds).rollout(ds.isel(time=0), ds.time[:1])
    assert forecast.sizes["time"] == 1
    xr.testing.assert_allclose(forecast.u, ds.u.isel(time=[0]), rtol=0.2, atol=0.5)


def test_a_start_that_does_not_fit_is_refused(baseline: Baseline) -> None:
    ds = linear_waves(1)
    start = ds.isel(time=0)
    baseline.fit(ds)
    with pytest.raises(SchemaError, match="no field 'pressure'"):
        baseline.rollout(start.drop_vars("pressure"), ds.time)
    with pytest.raises(SchemaError, match="no parameter 'c'"):
        baseline.rollout(start.drop_vars("c"), ds.time)
    with pytest.raises(SchemaError, match=r"x of the start \(7 points\) .* \(8 points\)"):
        baseline.rollout(start.isel(x=slice(1, None)), ds.time)
    with pytest.raises(SchemaError, match="25 times, expected 1"):
        baseline.rollout(ds, ds.time)
    with pytest.raises(DataError, match="finite, increasing"):
        baseline.rollout(start, ds.time[::-1])


def test_persistence_of_a_steady_field_is_exact() -> None:
    ds = linear_waves(2)
    steady = ds.copy(data={name: ds[name].isel(time=0).broadcast_like(ds[name]) for name in ds.data_vars})
    steady = steady.transpose(*ds.u.dims)
    forecast = Persistence().fit(steady).rollout(steady.isel(time=0), steady.time)
    xr.testing.assert_identical(forecast, steady)


def test_the_default_ones_are_those_that_apply(gaussians: xr.Dataset) -> None:
    assert [b.name for b in default_baselines(linear_waves(1), 3)] == ["persistence", "pod_linear"]
    assert [b.name for b in default_baselines(gaussians, 3)] == [
        "persistence",
        "pod_linear",
        "pod_interpolation",
    ]


def test_baselines_read_only_the_start(gaussians: xr.Dataset) -> None:
    start = gaussians.isel(time=0)
    before = start.copy(deep=True)
    for baseline in default_baselines(gaussians, 3):
        baseline.fit(gaussians).rollout(start, gaussians.time)
    xr.testing.assert_identical(start, before)
    assert np.isfinite(start.u).all()
