"""POD with the ROM's dynamics."""

from __future__ import annotations

import importlib
import time

import numpy as np
import pytest
import xarray as xr

from romvae.baselines import Persistence, PODNetwork
from romvae.metrics import relative_l2

from .conftest import linear_waves

SMALL = {"hidden": 4, "members": 1, "stride": 2, "dynamics": "residual"}


class Clock:
    """Process time of a machine on which steps take as many seconds as their windows have large steps.

    The first steps of all take ten times as long, each tenth step is held up by two seconds, and every training takes
    five seconds beside its steps.
    """

    def __init__(self, monkeypatch) -> None:
        from romvae.training.dynamics import DynamicsStage

        self.now, self.steps = 0.0, 0
        monkeypatch.setattr(time, "process_time", lambda: self.now)
        module = importlib.import_module("romvae.training.fit")  # its name is a function's too
        loss, calibrate = DynamicsStage.loss, module.calibrate

        def slow_loss(stage, batch):
            self.now += batch["target"].shape[2] * (10 if self.steps < 5 else 1) + 2 * (self.steps % 10 == 9)
            self.steps += 1
            return loss(stage, batch)

        def slow_calibrate(*args):
            self.now += 5.0
            return calibrate(*args)

        monkeypatch.setattr(DynamicsStage, "loss", slow_loss)
        monkeypatch.setattr(module, "calibrate", slow_calibrate)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("budget", [500.0, 800.0])
def test_a_budget_is_used_and_not_exceeded(clock: Clock, budget: float) -> None:
    model = PODNetwork(3, model=SMALL, training={"dynamics_steps": 60, "horizon": 6}).fit(
        linear_waves(1), budget=budget
    )
    assert 0.8 * budget <= clock.now <= 1.1 * budget
    assert model.choice["steps"] < 240


def test_no_more_than_four_times_the_usual_steps_are_taken(clock: Clock) -> None:
    model = PODNetwork(3, model=SMALL, training={"dynamics_steps": 10}).fit(linear_waves(1), budget=1e6)
    assert model.choice["steps"] == 40


def test_the_dynamics_is_the_one_that_was_asked_for_and_the_rest_is_not() -> None:
    asked = {"dynamics": "ode", "stride": 3, "hidden": 5, "depth": 1, "members": 2}
    model = PODNetwork(
        2,
        model={**asked, "compression": "vae", "channels": 7, "latent": 9},
        training={"dynamics_steps": 2, "vae_steps": 10**7, "horizon": 6, "batch_size": 16},
    ).fit(linear_waves(1))
    config = model.rom.config
    assert {name: config[name] for name in asked} == asked
    assert (config["compression"], config["latent"], model.choice["steps"]) == ("pod", 2, 2)


@pytest.mark.slow
def test_it_beats_persistence_and_starts_as_the_projection(gaussians: xr.Dataset, new_gaussians: xr.Dataset) -> None:
    model = PODNetwork(8, steps=30).fit(gaussians)
    start = new_gaussians.isel(time=0)
    forecast = model.rollout(start, new_gaussians.time)
    still = Persistence().fit(gaussians).rollout(start, new_gaussians.time)
    assert float(relative_l2(new_gaussians, forecast).u) < 0.5 * float(relative_l2(new_gaussians, still).u)
    projected = model.rom.decode(model.rom.encode(start)["latent_mean"])
    np.testing.assert_allclose(forecast.u.isel(time=0), projected.u.isel(time=0), atol=1e-5)
