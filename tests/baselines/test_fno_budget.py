"""The budget of the Fourier neural operator, by a clock that steps of the network drive; no library is needed."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from romvae.baselines import FourierNeuralOperator, fno, fourier_training
from romvae.baselines.fourier_network import Sizes
from romvae.baselines.fourier_training import Training
from romvae.baselines.paths import Snapshots


class Clock:
    """Process time: the network's passes take a second each, the first ones ten times as long; data take forty."""

    def __init__(self) -> None:
        self.now, self.passes, self.slower_after = 0.0, 0, np.inf

    def tick(self) -> None:
        self.passes += 1
        self.now += (10.0 if self.passes <= 2 else 1.0) * (2.0 if self.passes > self.slower_after else 1.0)


class Slope(nn.Module):
    """u + w u lead."""

    clock: Clock

    def __init__(self, sizes: Sizes, inside: Tensor | None = None) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, c: Tensor, lead: Tensor) -> Tensor:
        self.clock.tick()
        return x + self.slope * x * lead.reshape(-1, *[1] * (x.ndim - 1))


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock, of = Clock(), Snapshots.of

    def slow(ds, stack):
        clock.now += 40.0
        return of(ds, stack)

    monkeypatch.setattr(time, "process_time", lambda: clock.now)
    monkeypatch.setattr(Snapshots, "of", slow)
    monkeypatch.setattr(Slope, "clock", clock, raising=False)
    monkeypatch.setattr(fourier_training, "FourierStep", Slope)
    monkeypatch.setattr(fno, "optional_import", lambda *args: None)
    return clock


@pytest.mark.parametrize("slower_after", [np.inf, 400])
@pytest.mark.parametrize("budget", [600.0, 1500.0])
def test_data_trials_training_and_rollouts_are_within_the_budget(
    gaussians: xr.Dataset, clock: Clock, budget: float, slower_after: float
) -> None:
    """Also on a machine that becomes half as fast on the way."""
    clock.slower_after = slower_after
    FourierNeuralOperator().fit(gaussians, budget=budget)
    assert 0.8 * budget <= clock.now <= 1.05 * budget


def test_so_many_steps_are_taken_as_were_asked_for_whatever_they_take(gaussians: xr.Dataset, clock: Clock) -> None:
    model = FourierNeuralOperator(steps=62).fit(gaussians, budget=1.0)
    assert model.choice["steps"] == 60  # a trial of a tenth, and six equal parts


def test_the_learning_rate_falls_to_zero_however_the_steps_are_counted_anew(
    gaussians: xr.Dataset, clock: Clock
) -> None:
    model = FourierNeuralOperator(width=2, modes=2, learning_rate=0.1)
    rates, runs = [], Training.run

    def noted(self, *args, **options):
        runs(self, *args, **options)
        rates.append(self.optimiser.param_groups[0]["lr"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "run", noted)
        clock.slower_after = 600
        model.fit(gaussians, budget=1500.0)
    assert rates[0] == 0.1  # a trial
    assert all(after < before for before, after in pairwise(rates[1:]))
    assert rates[-1] < 1e-3 * 0.1


def test_it_trains_where_a_rom_would(monkeypatch) -> None:
    for there, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert fno._device().type == kind


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_it_trains_there_and_forecasts_on_the_cpu(gaussians: xr.Dataset, clock: Clock, monkeypatch) -> None:
    seen, forward = set(), Slope.forward
    monkeypatch.setattr(Slope, "forward", lambda self, x, *args: seen.add(x.device.type) or forward(self, x, *args))
    model = FourierNeuralOperator(steps=12).fit(gaussians)
    assert seen == {"cuda"}
    model.rollout(gaussians.isel(time=0), gaussians.time)
    assert seen == {"cuda", "cpu"}
