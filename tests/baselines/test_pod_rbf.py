"""POD with interpolation over parameters: exact at the training parameters, accurate between them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from romvae.baselines import PODRBF
from romvae.candidates import fit_model
from romvae.data import split
from romvae.errors import DataError, SchemaError
from romvae.metrics import relative_l2, worst_relative_l2
from romvae.solvers import simulate

from .conftest import linear_waves, travelling_gaussian
from .kinds import INTERPOLATE, make


def test_training_parameters_give_the_truncated_trajectories(gaussians: xr.Dataset) -> None:
    model = PODRBF().fit(gaussians)
    forecast = model.rollout(gaussians.isel(time=0), gaussians.time)
    u = gaussians.u.values[:, :, None]
    truncated = model.pod.reconstruct(model.pod.project(u))[:, :, 0]
    np.testing.assert_allclose(forecast.u, truncated, atol=1e-7)  # condition of the RBF matrix: 1e9
    assert float(worst_relative_l2(gaussians, forecast).u) < 1e-3


def test_new_parameters_are_accurate(gaussians: xr.Dataset, new_gaussians: xr.Dataset) -> None:
    model = PODRBF().fit(gaussians)
    forecast = model.rollout(new_gaussians.isel(time=0), new_gaussians.time)
    assert float(worst_relative_l2(new_gaussians, forecast).u) < 5e-3
    assert model.choice["cross_validated_error"] < 0.05


def test_the_start_counts_by_its_parameters_only(gaussians: xr.Dataset, new_gaussians: xr.Dataset) -> None:
    model = PODRBF().fit(gaussians)
    start = new_gaussians.isel(time=0)
    xr.testing.assert_identical(
        model.rollout(start, gaussians.time),
        model.rollout(start.assign(u=0 * start.u), gaussians.time),
    )


def test_modes_that_cannot_be_interpolated_are_left_out(gaussians: xr.Dataset) -> None:
    noisy = gaussians.assign(u=gaussians.u + 1e-3 * np.random.default_rng(0).normal(size=gaussians.u.shape))
    exact, found = PODRBF().fit(gaussians), PODRBF().fit(noisy)
    assert found.pod.rank < exact.pod.rank  # of 25 trajectories, the last modes are noise


def test_units_of_parameters_and_fields_do_not_matter(gaussians: xr.Dataset, new_gaussians: xr.Dataset) -> None:
    def scaled(ds: xr.Dataset) -> xr.Dataset:
        speed = ds.speed.copy(data=1e6 * ds.speed.values)
        return ds.assign(u=ds.u.copy(data=1e-3 * ds.u.values)).assign_coords(speed=speed)

    one = PODRBF().fit(gaussians).rollout(new_gaussians.isel(time=0), gaussians.time)
    two = PODRBF().fit(scaled(gaussians)).rollout(scaled(new_gaussians).isel(time=0), gaussians.time)
    # Flat Gaussians: the RBF matrix has a condition number of 1e10 or more.
    np.testing.assert_allclose(1e3 * two.u, one.u, atol=1e-5)


def test_it_applies_where_initial_fields_follow_from_parameters(gaussians: xr.Dataset) -> None:
    assert PODRBF.applies(gaussians)
    assert not PODRBF.applies(gaussians.drop_vars(["speed", "width"]))
    assert not PODRBF.applies(gaussians.isel(trajectory=slice(0, 2)))
    assert not PODRBF.applies(linear_waves(1))


def test_a_large_constant_does_not_pass_for_knowledge() -> None:
    ds = linear_waves(1)[["pressure"]]  # 1e5 plus random waves of 300: any guess is within 1 %
    assert not PODRBF.applies(ds)


def test_initial_fields_that_are_all_the_same_apply() -> None:
    speed = np.linspace(0.2, 0.4, 6)
    assert PODRBF.applies(travelling_gaussian(speed, np.full(6, 0.1)))


def test_equal_parameters_with_different_fields_do_not_apply(gaussians: xr.Dataset) -> None:
    ds = linear_waves(1)
    same = ds.assign_coords(c=ds.c.copy(data=np.full(10, 0.3)))
    assert not PODRBF.applies(same)
    with pytest.raises(DataError, match="no kernel interpolates"):
        PODRBF().fit(same)


@pytest.mark.parametrize("name", INTERPOLATE)
def test_random_initial_fields_are_refused_before_anything_is_learnt(name: str) -> None:
    """Viscosities explain nothing of them: a forecast from the parameters alone would be a mean."""
    ds = simulate("burgers_1d", 8, seed=0).isel(time=slice(0, 5))
    baseline = make(name)
    words = rf"{name}: initial fields do not follow from the parameters: .* wrong by .* %\. Take a model .* pod_linear"
    with pytest.raises(DataError, match=words):
        baseline.fit(ds)
    assert not hasattr(baseline, "pod")
    with pytest.raises(DataError, match=words):
        fit_model(split(ds, seed=0), name)  # type: ignore[arg-type]


def test_times_between_are_interpolated_and_later_ones_refused() -> None:
    speed, width = np.linspace(0.2, 0.4, 9), np.full(9, 0.12)
    coarse, fine = travelling_gaussian(speed, width, 21), travelling_gaussian(speed, width, 41)
    model = PODRBF().fit(coarse)
    forecast = model.rollout(fine.isel(time=0), fine.time)
    assert float(relative_l2(fine, forecast).u) < 1e-4
    with pytest.raises(SchemaError, match="leave the training data's 0 to 1"):
        model.rollout(fine.isel(time=0), [0.0, 1.5])
