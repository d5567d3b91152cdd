"""What a comparison says of trust horizons: those of a rollout, counted by run, and promised only up to chance."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from romvae.comparison import compare
from romvae.comparison.horizon import TOLERANCES, horizon_scores
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.training import recalibrate
from romvae.trust import TrustScores


@pytest.fixture(scope="module")
def compared():
    """A calibrated ROM that has learned nothing, held-out trajectories, and what a comparison says."""
    data = mock_snapshots(1, ("u",), trajectories=40, times=8)
    rom = ROM.for_data(data.isel(trajectory=slice(0, 10)), latent=3, channels=4, hidden=8, members=2)
    recalibrate(rom, data.isel(trajectory=slice(10, 25)))
    test = data.isel(trajectory=slice(25, 40))
    return SimpleNamespace(rom=rom, test=test, metrics=compare(rom, test, members=8).metrics)


def test_horizons_are_those_of_a_rollout(compared):
    trust = compared.metrics["rom"]["trust"]
    lead = compared.test["time"].values - compared.test["time"].values[0]
    assert [each["tolerance"] for each in trust["tolerances"]] == list(TOLERANCES)
    assert trust["calibration_runs"] == 15
    for each in trust["tolerances"]:
        made = compared.rom.rollout(compared.test.isel(time=0), members=8, tolerance=each["tolerance"])
        horizon = made["trust_horizon"].values
        assert each["median_horizon"] == np.median(np.minimum(horizon, lead[-1]))
        assert each["trusted_to_the_end"] == np.isinf(horizon).mean()
        square = ((made["u"].values - compared.test["u"].values) / float(compared.rom.normaliser.std[0])) ** 2
        late = np.sqrt(square.mean(2)) > each["tolerance"]
        assert each["kept"] == 1 - (late & (lead < horizon[:, None])).any(1).mean()
        first = np.where(late.any(1), lead[late.argmax(1)], lead[-1])
        assert each["median_possible"] == pytest.approx(np.median(first))
    assert json.loads(json.dumps(trust, allow_nan=False)) == trust


def test_a_larger_tolerance_never_has_a_shorter_horizon(compared):
    found = compared.metrics["rom"]["trust"]["tolerances"]
    for name in ("median_horizon", "median_possible", "trusted_to_the_end"):
        values = [each[name] for each in found]
        assert values == sorted(values)


def _planted(calibration: int, runs: int, rng: np.random.Generator) -> tuple[SimpleNamespace, np.ndarray]:
    """A model whose errors follow its predictions loosely, and those of test runs from the same distribution."""
    growth = np.exp(rng.normal(0, 0.5, (calibration + runs, 1))) * np.linspace(0.01, 0.2, 20)
    predicted = growth * np.exp(rng.normal(0, 0.5, growth.shape[:1] + (1,)))
    trust = TrustScores()
    trust.keep(torch.arange(20), torch.from_numpy(growth[:calibration]), torch.from_numpy(predicted[:calibration]))
    model = SimpleNamespace(trust=trust, schema=SimpleNamespace(dt=1.0, time_units="1"))
    return model, np.stack([growth, predicted])[:, calibration:]


def test_on_exchangeable_data_the_level_is_held_up_to_chance():
    """Of 400 draws the mean is 0.9 within 3 standard errors, and 90 % of them lie in the expected interval."""
    rng, kept, inside = np.random.default_rng(0), [], 0
    for _ in range(400):
        model, errors = _planted(29, 20, rng)
        found = horizon_scores(model, errors, xr.DataArray(np.arange(20.0), dims="time"))["tolerances"][0]
        kept.append(found["kept"])
        inside += found["expected_low"] <= found["kept"] <= found["expected_high"]
    assert np.mean(kept) == pytest.approx(0.9, abs=3 * np.std(kept) / 20)
    assert inside / 400 >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / 400)


def test_without_scores_the_reason_is_said(compared):
    time = compared.test["time"]
    rom = ROM.from_description(compared.rom.description())
    assert "no calibrated errors" in horizon_scores(rom, None, time)["not_measured"]
    some = TrustScores()
    some.keep(torch.arange(8), torch.ones(5, 8), torch.ones(5, 8))
    rom.trust = some
    assert "takes at least 9 calibration trajectories" in horizon_scores(rom, None, time)["not_measured"]
