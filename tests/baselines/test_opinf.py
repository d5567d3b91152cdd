"""Operator inference: quadratic and parametric problems, and what diverges."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from romvae.errors import NumericsError
from romvae.metrics import worst_relative_l2
from romvae.schema import snapshots

pytest.importorskip("opinf")

from romvae.baselines import OperatorInference, PODLinear


def _logistic(start: np.ndarray, rate: np.ndarray, pattern: np.ndarray, times: int = 41) -> xr.Dataset:
    """u = q(t) pattern with dq/dt = rate q (1 - q), exactly."""
    t = np.linspace(0, 4, times)
    q = 1 / (1 + (1 / start[:, None] - 1) * np.exp(-rate[:, None] * t))
    u = q[..., None] * pattern
    return snapshots(
        {"u": u},
        {"x": np.arange(len(pattern)) / len(pattern)},
        t,
        {"rate": rate},
        {"x": ("periodic", "periodic")},
        dtype=np.float64,
    )


@pytest.fixture(scope="module")
def logistic() -> tuple[xr.Dataset, xr.Dataset]:
    rng = np.random.default_rng(0)
    pattern = np.sin(2 * np.pi * np.arange(16) / 16)
    start, rate = rng.uniform(0.05, 0.4, 24), rng.uniform(0.8, 1.4, 24)
    ds = _logistic(start, rate, pattern)
    return ds.isel(trajectory=slice(0, 16)), ds.isel(trajectory=slice(16, 24))


def test_a_quadratic_parametric_equation_is_learned(logistic: tuple[xr.Dataset, xr.Dataset]) -> None:
    train, test = logistic
    model = OperatorInference(1).fit(train)
    assert model.choice["degree"] == 2
    assert model.choice["parametric"]
    assert model.choice["scheme"] == "continuous"
    error = float(worst_relative_l2(test, model.rollout(test.isel(time=0), test.time)).u)
    assert error < 1e-5  # sixth-order differences and fourth-order Runge-Kutta at a rate of 1.4 and steps of 0.1
    linear = PODLinear(1).fit(train)
    assert error < 1e-3 * float(worst_relative_l2(test, linear.rollout(test.isel(time=0), test.time)).u)


def test_a_forecast_that_diverges_says_so(logistic: tuple[xr.Dataset, xr.Dataset]) -> None:
    train, _ = logistic
    model = OperatorInference(1).fit(train)
    start = train.isel(time=0) * -40.0  # dq/dt = q (1 - q) has no bound below zero
    start = start.assign_coords(train.isel(time=0).coords)
    with pytest.raises(NumericsError, match=r"opinf: the forecast of trajectory \d+ diverged before time"):
        model.rollout(start, train.time)


def test_too_few_snapshots_for_a_quadratic_model_leave_a_linear_one(logistic: tuple[xr.Dataset, xr.Dataset]) -> None:
    train, _ = logistic
    model = OperatorInference(1).fit(train.isel(time=slice(0, 3), trajectory=slice(0, 2)))
    assert model.choice["scheme"] == "discrete"  # three times give no derivative of sixth order
