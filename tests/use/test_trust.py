"""The trust horizon: its threshold by hand, its guarantee by repetition, and what a forecast does with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from romvae import ROM, calibrate_trust, trust_horizon
from romvae.errors import ConfigError, DataError
from romvae.trust import TrustScores, predicted_error, true_error


def scores(true, predicted):
    kept = TrustScores()
    kept.keep(torch.arange(true.shape[1]), torch.as_tensor(true), torch.as_tensor(predicted))
    return kept


def test_threshold_is_the_kth_smallest_score():
    true = np.array([[0.0, 1.0, 3.0]] * 8 + [[0.0, 0.0, 0.0]])  # the last never exceeds the tolerance
    predicted = np.arange(1, 10)[:, None] * np.array([1.0, 0.5, 2.0])
    kept = scores(true, predicted)
    assert kept.threshold(2.0, 0.9) == pytest.approx(0.99 * 2.0)  # k = 1: max(1, 0.5, 2), at the third time
    assert kept.threshold(0.5, 0.9) == pytest.approx(0.99 * 1.0)  # at the second time: the largest so far
    assert kept.threshold(2.0, 0.5) == pytest.approx(0.99 * 10.0)  # k = 5
    assert kept.threshold(5.0, 0.5) == np.inf


def test_a_share_of_new_runs_stays_below_the_tolerance():
    """Errors that only loosely follow what is predicted: of 2000 repetitions 10 % fail, with at most chance beside."""
    rng = np.random.default_rng(0)
    failed = 0
    for _ in range(2000):
        growth = np.exp(rng.normal(0, 0.5, (30, 1))) * np.arange(1, 21)
        predicted = growth * np.exp(rng.normal(0, 0.5, (30, 1)))
        threshold = scores(growth[:29], predicted[:29]).threshold(10.0, 0.9)
        trusted = np.maximum.accumulate(predicted[29]) < threshold
        failed += bool((growth[29][trusted] > 10.0).any())
    assert failed / 2000 <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 2000)
    assert failed / 2000 >= 0.05  # and it is no empty promise: with 29 runs k / (n + 1) is 0.1


@pytest.mark.parametrize("difference", [1e-7, 1e-3])  # of round-off, and of other numbers of members
def test_equal_predictions_trust_none_of_the_forecasts_by_chance(difference):
    """A variance that is the same everywhere says the same of each forecast; all are too wrong from the start."""
    alike = np.float32(0.3) * (1 + difference * np.random.default_rng(0).normal(size=(200, 4)))
    threshold = scores(np.ones((100, 4)), alike[:100]).threshold(0.5, 0.9)
    assert (alike[100:] >= threshold).all()


@pytest.mark.parametrize(
    ("tolerance", "level", "error", "message"),
    [
        (0.0, 0.9, ConfigError, "tolerance is 0.0, expected a positive number"),
        (1.0, 1.5, ConfigError, "level is 1.5, expected between 0 and 1"),
        (1.0, 0.99, DataError, "level 0.99 takes at least 99 calibration trajectories, and there are 9"),
    ],
)
def test_what_cannot_be_promised_is_refused(tolerance, level, error, message):
    with pytest.raises(error, match=message):
        scores(np.ones((9, 2)), np.ones((9, 2))).threshold(tolerance, level)


def test_without_calibration_the_message_says_what_to_call():
    with pytest.raises(DataError, match=r"Call romvae.calibrate_trust\(rom, parts.calibration\)"):
        TrustScores().threshold(0.1, 0.9)


def test_error_of_an_offset_is_the_offset_over_the_scale(heat):
    truth = heat.parts.test
    name = heat.rom.schema.field_names[0]
    error = true_error(heat.rom, truth, truth.assign({name: truth[name].astype(float) + 0.25}))
    assert np.allclose(error, 0.25 / float(heat.rom.normaliser.std[0]), rtol=1e-5)  # fields are float32


def test_forecast_ends_at_its_horizon(heat, tmp_path):
    rom = heat.rom
    calibrate_trust(rom, heat.parts.calibration, members=8)
    start = heat.parts.test.isel(time=0)
    whole = rom.rollout(start, members=8)
    error = predicted_error(rom, whole)
    tolerance = float(rom.trust.get_buffer("true").quantile(0.7))
    horizon = trust_horizon(rom, whole, tolerance, 0.5)
    lead = whole["time"] - whole["time"][0]
    before = lead < horizon
    assert (error.where(before, 0.0) < horizon.attrs["threshold"]).all()
    at = np.isfinite(horizon)
    first = error.where(lead >= horizon, np.inf).isel(time=before.sum("time").clip(max=whole.sizes["time"] - 1))
    assert (first.where(at, np.inf) >= horizon.attrs["threshold"]).all()
    assert "In at least 50 % of new runs the error stays below" in horizon.attrs["guarantee"]

    short = rom.rollout(start, members=8, level=0.5, until=tolerance)
    assert short["trust_horizon"].equals(horizon)
    name = rom.schema.field_names[0]
    steps = before.sum("time")
    assert short.sizes["time"] == max(1, int(steps.max()))
    assert (short[name].notnull().all("x").sum("time") == steps).all()
    kept = before.isel(time=slice(0, short.sizes["time"]))
    assert short[name].equals(whole[name].isel(time=slice(0, short.sizes["time"])).where(kept))

    again = ROM.load(rom.save(tmp_path / "rom"))
    assert again.trust.threshold(tolerance, 0.5) == rom.trust.threshold(tolerance, 0.5)


def test_no_horizon_beyond_the_calibrated_lead_times(heat):
    rom = heat.rom
    calibrate_trust(rom, heat.parts.calibration, members=8)
    long = rom.rollout(heat.parts.test.isel(time=0), steps=15, members=8)
    horizon = trust_horizon(rom, long, 1e6, 0.9)
    assert np.allclose(horizon, 11 * rom.schema.dt)  # 10 steps are calibrated
