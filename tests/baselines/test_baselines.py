"""What every baseline must do, and what the default ones are."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import xarray as xr

from romvae.baselines import (
    Baseline,
    Climatology,
    Persistence,
    PODLinear,
    default_baselines,
    registered,
)
from romvae.baselines.pod_linear_free import PODLinearFree
from romvae.baselines.selection import CHEAP, COSTLY, baseline_names, selected
from romvae.errors import ConfigError, DataError, SchemaError
from romvae.metrics import relative_l2, worst_relative_l2
from romvae.schema import check_snapshots

from .conftest import linear_waves
from .kinds import INTERPOLATE, KINDS, LIBRARIES, QUICK, SLOW, fitted, make, waves

# Networks, whose library alone takes seconds to import, are slow.
ALL = pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])


def test_all_that_are_registered_are_tested() -> None:
    assert set(KINDS) == set(registered())
    assert all(kind.name == name for name, kind in registered().items())


@ALL
@pytest.mark.parametrize("ndim", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_forecast_stands_on_the_dims_and_coordinates_of_the_snapshots(name: str, ndim: int) -> None:
    ds = waves(name, ndim)
    start = ds.isel(trajectory=slice(0, 3), time=0)
    forecast = fitted(name, ndim).rollout(start, ds.time)
    truth = ds.isel(trajectory=slice(0, 3))
    assert set(forecast.data_vars) == {"u", "pressure"}
    assert forecast.u.dims == ds.u.dims
    assert forecast.u.dtype == ds.u.dtype
    assert forecast.pressure.attrs == ds.pressure.attrs
    xr.testing.assert_identical(forecast.drop_vars(["u", "pressure"]), truth.drop_vars(["u", "pressure"]))
    check_snapshots(forecast)
    relative_l2(truth, forecast)  # its check of the coordinates passes


@pytest.mark.parametrize("name", ["pod_linear", "dmd", "opinf"])
@pytest.mark.parametrize("ndim", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_linear_system_is_reproduced_to_round_off(name: str, ndim: int) -> None:
    """The system is affine in a parameter, and half of the trajectories were never seen."""
    ds = waves(name, ndim)
    train, test = ds.isel(trajectory=slice(0, 6)), ds.isel(trajectory=slice(6, 10))
    forecast = make(name).fit(train).rollout(test.isel(time=0), test.time)
    assert float(worst_relative_l2(test, forecast).u) < 1e-8  # 25 steps; decays to 1 % of the start


@pytest.mark.parametrize("name", QUICK)
def test_order_of_dims_and_variables_does_not_matter(name: str) -> None:
    ds = waves(name, 2)
    other = ds[["pressure", "u"]].transpose("x", "time", "trajectory", "y")
    one = fitted(name, 2).rollout(ds.isel(time=0), ds.time)
    two = make(name).fit(other, seed=0).rollout(other.isel(time=[0]), ds.time)
    xr.testing.assert_allclose(one, two, rtol=1e-8)


@ALL
def test_one_trajectory_without_its_dim_is_a_start(name: str) -> None:
    ds = waves(name, 1)
    many = fitted(name, 1).rollout(ds.isel(time=0), ds.time)
    one = fitted(name, 1).rollout(ds.isel(time=0, trajectory=4), ds.time)
    # Single precision in networks, whose sums depend on the size of the batch.
    xr.testing.assert_allclose(one, many.isel(trajectory=[4]), rtol=1e-4, atol=1e-3)


@ALL
def test_a_single_time_is_the_start_as_far_as_it_is_known(name: str) -> None:
    ds = waves(name, 1)
    forecast = fitted(name, 1).rollout(ds.isel(time=0), ds.time[:1])
    assert forecast.sizes["time"] == 1
    first = fitted(name, 1).rollout(ds.isel(time=0), ds.time).isel(time=[0])
    xr.testing.assert_allclose(forecast, first, rtol=1e-4, atol=1e-2)


@ALL
def test_later_times_do_not_change_earlier_ones(name: str) -> None:
    ds = waves(name, 1)
    short = fitted(name, 1).rollout(ds.isel(time=0), ds.time[:7])
    long = fitted(name, 1).rollout(ds.isel(time=0), ds.time)
    xr.testing.assert_allclose(short, long.isel(time=slice(0, 7)), rtol=1e-6)


@ALL
def test_stored_times_can_be_left_out(name: str) -> None:
    ds = waves(name, 1)
    some = fitted(name, 1).rollout(ds.isel(time=0), ds.time[::4])
    every = fitted(name, 1).rollout(ds.isel(time=0), ds.time)
    xr.testing.assert_allclose(some, every.isel(time=slice(None, None, 4)), rtol=1e-6)


@ALL
def test_a_start_that_does_not_fit_is_refused(name: str) -> None:
    ds, baseline = waves(name, 1), fitted(name, 1)
    start = ds.isel(time=0)
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


@pytest.mark.parametrize("name", ["dmd", "opinf"])
def test_times_between_the_stored_ones_are_refused_by_what_steps(name: str) -> None:
    ds = waves(name, 1)
    with pytest.raises(SchemaError, match=r"time 0\.15 is not a whole number of steps of 0\.1 after 0"):
        fitted(name, 1).rollout(ds.isel(time=0), [0.0, 0.15])
    with pytest.raises(SchemaError, match="time is not uniform"):
        make(name).fit(ds.isel(time=[0, 1, 3]))


@ALL
def test_saved_and_loaded_it_forecasts_the_same_to_the_bit(name: str, tmp_path) -> None:
    ds, baseline = waves(name, 2), fitted(name, 2)
    baseline.save(tmp_path / "kept")
    loaded = Baseline.load(tmp_path / "kept")
    assert type(loaded) is type(baseline)
    assert loaded.choice == baseline.choice
    start = ds.isel(time=0)
    xr.testing.assert_identical(loaded.rollout(start, ds.time), baseline.rollout(start, ds.time))
    loaded.save(tmp_path / "again")
    names = ["baseline.json", "arrays.safetensors"]
    assert all((tmp_path / "kept" / n).read_bytes() == (tmp_path / "again" / n).read_bytes() for n in names)


@ALL
def test_nothing_that_it_is_given_is_changed(name: str) -> None:
    ds = linear_waves(1, follow=name in INTERPOLATE)
    before = ds.copy(deep=True)
    if name in ("pod_linear", "dmd"):
        make(name).fit(ds, validation=ds)
    fitted(name, 1).rollout(ds.isel(time=0), ds.time)
    xr.testing.assert_identical(ds, before)


@pytest.mark.parametrize("name", [n for n in QUICK if n != "persistence"])
def test_it_beats_persistence_where_it_applies(name: str, gaussians: xr.Dataset, new_gaussians: xr.Dataset) -> None:
    forecast = make(name).fit(gaussians).rollout(new_gaussians.isel(time=0), new_gaussians.time)
    still = Persistence().fit(gaussians).rollout(new_gaussians.isel(time=0), new_gaussians.time)
    assert float(relative_l2(new_gaussians, forecast).u) < 0.7 * float(relative_l2(new_gaussians, still).u)


@pytest.mark.parametrize("name", QUICK)
def test_trajectories_of_different_length_are_fitted_or_refused(name: str) -> None:
    ds = linear_waves(1)
    lengths = np.full(10, 25)
    lengths[3], lengths[7] = 17, 21
    ragged = ds.assign_coords(n_steps=("trajectory", lengths)).load()
    gone = np.arange(25) >= lengths[:, None]
    ragged = ragged.assign({n: ragged[n].where(xr.DataArray(~gone, dims=("trajectory", "time"))) for n in ds.data_vars})
    if not registered()[name].applies(ragged):
        assert "one length" in registered()[name].reason_against(ragged)
        with pytest.raises(DataError, match=f"{name}: trajectory 3 has 17 of 25 times"):
            make(name).fit(ragged)
        return
    forecast = make(name).fit(ragged).rollout(ds.isel(time=0), ds.time)
    assert np.isfinite(forecast.u).all()
    if name in ("pod_linear", "dmd", "opinf"):
        assert float(worst_relative_l2(ds, forecast).u) < 1e-8


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(importlib, "import_module", absent)
    extra = {"pod_gp": "gp"}.get(name, name)
    with pytest.raises(ConfigError, match=rf"{name} .*pip install 'romvae\[{extra}\]'"):
        KINDS[name]().fit(waves(name, 1))


def test_persistence_of_a_steady_field_is_exact() -> None:
    ds = linear_waves(2)
    steady = ds.copy(data={name: ds[name].isel(time=0).broadcast_like(ds[name]) for name in ds.data_vars})
    steady = steady.transpose(*ds.u.dims)
    forecast = Persistence().fit(steady).rollout(steady.isel(time=0), steady.time)
    xr.testing.assert_identical(forecast, steady)


def test_climatology_is_the_mean_over_trajectories_at_every_time() -> None:
    ds = linear_waves(2)
    baseline = Climatology().fit(ds)
    forecast = baseline.rollout(ds.isel(time=0), ds.time)
    np.testing.assert_allclose(forecast.u.isel(trajectory=3), ds.u.mean("trajectory"), atol=1e-12)
    between = baseline.rollout(ds.isel(time=0), [0.0, 0.25, 99.0])
    middle = ds.u.mean("trajectory").isel(time=[2, 3]).mean("time")
    np.testing.assert_allclose(between.u.isel(trajectory=0, time=1), middle, atol=1e-12)
    np.testing.assert_array_equal(between.u.isel(time=2), forecast.u.isel(time=-1))


def test_the_default_ones_are_all_that_cost_seconds_and_apply(gaussians: xr.Dataset) -> None:
    for module in ("sklearn", "pydmd", "opinf"):
        pytest.importorskip(module)
    stepped = ["dmd", "opinf"]
    without = ["persistence", "climatology", "pod_linear", "pod_linear_free"]
    assert [b.name for b in default_baselines(linear_waves(1), 3)] == [*without, *stepped]
    assert [b.name for b in default_baselines(gaussians, 3)] == [*without, "pod_rbf", "pod_gp", *stepped]
    assert "pod_linear_free" not in [b.name for b in default_baselines(gaussians)]  # `pod_linear` chooses then
    assert selected(CHEAP, gaussians)[1] == {}
    reasons = selected(CHEAP, linear_waves(1))[1]
    assert list(reasons) == ["pod_rbf", "pod_gp"]
    assert all("do not follow from the parameters" in each for each in reasons.values())


def test_what_is_not_installed_is_left_out_and_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered()["dmd"], "library", ("no_such_module", "dmd"))
    chosen, reasons = selected(baseline_names(["cheap"]), linear_waves(1), 3)
    assert "dmd" not in [each.name for each in chosen]
    assert reasons["dmd"].endswith("no_such_module, which is not installed. Run pip install 'romvae[dmd]'")
    with pytest.raises(ConfigError, match=r"dmd needs no_such_module, which is not installed.*romvae\[dmd\]"):
        baseline_names(["dmd"])  # asked for by its name


def test_every_library_is_named() -> None:
    named = {name: kind.library[0].split(".")[0] for name, kind in registered().items() if kind.library is not None}
    assert named == LIBRARIES


def test_costly_ones_are_had_on_request_and_unknown_ones_refused() -> None:
    assert set(baseline_names(["all"])) >= {*CHEAP, *COSTLY}
    assert set(CHEAP) | set(COSTLY) == {*registered(), "pod_linear_free"}
    assert baseline_names(["cheap"]) == list(CHEAP)
    assert baseline_names(["pod_network", "cheap", "pod_linear"]) == ["pod_network", *CHEAP]
    with pytest.raises(ConfigError, match=r"'pod_linaer' is unknown. Did you mean 'pod_linear'\?.*cheap, all"):
        baseline_names(["pod_linaer"])


def test_linear_dynamics_of_any_rank_is_the_same_as_pod_linear_where_it_chooses_the_same() -> None:
    ds = linear_waves(1)
    free = PODLinear().fit(ds)
    named = PODLinearFree(free.pod.rank + 1).fit(ds)
    start = ds.isel(time=0)
    xr.testing.assert_identical(named.rollout(start, ds.time), free.rollout(start, ds.time))
    with pytest.raises(DataError, match=f"its own choice is {free.pod.rank} modes, those of pod_linear"):
        PODLinearFree(free.pod.rank).fit(ds)


@pytest.mark.parametrize("name", ["pod_linear", "dmd", "opinf", "pod_gp"])
def test_a_rank_that_is_no_number_of_modes_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: rank is 0, expected 1 or more"):
        registered()[name](0)  # type: ignore[call-arg]
