"""POD with linear dynamics: exact where the problem is linear."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from romvae.baselines import PODLinear, pod_stepper
from romvae.errors import SchemaError
from romvae.metrics import relative_l2, worst_relative_l2

from .conftest import linear_waves, turning_states


def test_a_large_constant_does_no_harm() -> None:
    ds = linear_waves(1)
    train, test = ds.isel(trajectory=slice(0, 8)), ds.isel(trajectory=slice(8, 10))
    model = PODLinear(3).fit(train)
    assert model.choice["parametric"]
    forecast = model.rollout(test.isel(time=0), test.time)
    assert float(worst_relative_l2(test, forecast).pressure) < 1e-13  # beside 1e5 Pa


def test_the_number_of_modes_is_chosen_where_it_is_not_given(gaussians: xr.Dataset) -> None:
    ranks = {
        PODLinear(2).fit(gaussians).choice["held_out_error"],
        PODLinear(16).fit(gaussians).choice["held_out_error"],
    }
    free = PODLinear()
    free.ranks = (2, 16)
    assert free.fit(gaussians).choice["held_out_error"] == pytest.approx(min(ranks), rel=1e-6)
    assert free.pod.rank == free.choice["rank"] == len(free.pod.modes)


def test_more_modes_than_states_do_no_harm() -> None:
    ds = linear_waves(2)
    forecast = PODLinear(16).fit(ds).rollout(ds.isel(time=0), ds.time)
    assert float(relative_l2(ds, forecast).u) < 1e-6


def test_a_single_trajectory_can_be_fitted() -> None:
    ds = linear_waves(1).isel(trajectory=[0])
    forecast = PODLinear(3).fit(ds).rollout(ds.isel(time=0), ds.time)
    assert float(relative_l2(ds, forecast).u) < 1e-8


def test_a_multiple_of_the_time_step_skips_snapshots() -> None:
    ds = linear_waves(1)
    model = PODLinear(3).fit(ds)
    every, third = model.rollout(ds.isel(time=0), ds.time), model.rollout(ds.isel(time=0), ds.time[::3])
    xr.testing.assert_allclose(third, every.isel(time=slice(None, None, 3)), rtol=1e-9)


def test_settings_are_chosen_by_the_held_out_error(gaussians: xr.Dataset, new_gaussians: xr.Dataset) -> None:
    model = PODLinear(6).fit(gaussians)
    forecast = model.rollout(new_gaussians.isel(time=0), new_gaussians.time)
    persistence = (
        new_gaussians.u.isel(time=0, drop=True).broadcast_like(new_gaussians.u).transpose(*new_gaussians.u.dims)
    )
    assert float(relative_l2(new_gaussians.u, forecast.u)) < 0.1 * float(relative_l2(new_gaussians.u, persistence))
    assert np.isfinite(model.choice["held_out_error"])


def test_times_that_are_not_uniform_are_refused() -> None:
    ds = linear_waves(1)
    model = PODLinear(3).fit(ds)
    with pytest.raises(SchemaError, match="time is not uniform"):
        model.rollout(ds.isel(time=0), [0.0, 0.1, 0.3])
    with pytest.raises(SchemaError, match="time is not uniform"):
        PODLinear(3).fit(ds.isel(time=[0, 1, 3]))


def test_times_in_single_precision_are_uniform() -> None:
    """Steps of float32 times differ by more than 1e-6; that is their rounding, and no fault of the data."""
    ds = linear_waves(1)
    exact = ds.assign_coords(time=1.0 + 0.01 * np.arange(ds.sizes["time"]))
    single = exact.assign_coords(time=exact.time.values.astype("f4"))
    assert np.abs(np.diff(single.time.values.astype(float)) / 0.01 - 1).max() > 1e-6
    model = PODLinear(3).fit(single)
    forecast = model.rollout(single.isel(time=0), single.time.values)
    expected = PODLinear(3).fit(exact).rollout(exact.isel(time=0), exact.time.values)
    np.testing.assert_allclose(forecast.u, expected.u, rtol=1e-4, atol=1e-4)  # the step differs by 1e-6 of itself


def test_more_modes_are_tried_where_the_largest_number_of_the_grid_is_best() -> None:
    """Eighteen states that turn at frequencies of their own: each two modes fewer lose one of them."""
    ds = turning_states(18)
    train, test = ds.isel(trajectory=slice(0, 24)), ds.isel(trajectory=slice(24, 30))
    model, fixed = PODLinear(), PODLinear(12)
    model.ranks = (4, 8, 12)
    model.fit(train)
    assert model.choice["rank"] == 18  # all that there are, and no mode of rounding
    error = [
        float(relative_l2(test, each.rollout(test.isel(time=0), test.time)).u) for each in (model, fixed.fit(train))
    ]
    assert error[0] < 1e-6 < 0.1 < error[1]  # to rounding, and a tenth and more is lost


def test_the_choice_of_the_number_of_modes_does_not_depend_on_the_clock(monkeypatch) -> None:
    """A machine ten thousand times slower, within the budget, gives the same model; so does one without any budget."""
    ds = turning_states(18)
    quick = PODLinear().fit(ds, budget=1e9)
    clock = iter(range(0, 10**9, 10_000))
    monkeypatch.setattr(pod_stepper.time, "process_time", lambda: float(next(clock)))
    slow = PODLinear().fit(ds, budget=1e9)
    assert slow.choice == quick.choice == PODLinear().fit(ds).choice


def test_errors_of_different_numbers_of_modes_can_be_compared(gaussians: xr.Dataset, new_gaussians: xr.Dataset) -> None:
    """What the modes cannot represent is part of the held-out error, also where there are few of them."""
    model = PODLinear(2).fit(gaussians, validation=new_gaussians)
    x = model.stack.array(new_gaussians)
    lost = model.pod.sizes(x) - np.square(model.pod.project(x)).sum(-1)
    truncation = np.sqrt(lost.sum() / model.pod.sizes(x).sum())
    assert truncation > 0.1
    assert model.choice["held_out_error"] > truncation
