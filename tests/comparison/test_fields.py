"""Scores of each field alone: what a large mean of one of them hides in the scores of all together."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from romvae import metrics as score
from romvae.baselines import Persistence
from romvae.baselines.model import BaselineModel
from romvae.comparison import compare
from romvae.comparison.scores import error_scores, field_scores
from romvae.comparison.sums import error_sums, uncertainty_sums
from romvae.data import split
from romvae.schema import Field, Schema
from romvae.testing import mock_snapshots

FIELDS = (Field("T_wall", "K"), Field("vel_x", "m s-1"))


@pytest.fixture(scope="module")
def sums():
    """Two fields, equally wrong about their means: 3 % of their deviations of 30 K and 2 m/s; one has an offset."""
    rng = np.random.default_rng(0)
    dims, shape = ("trajectory", "time", "x"), (6, 5, 40)
    pattern, error = rng.normal(size=shape), 0.03 * rng.normal(size=shape)
    scales = {"T_wall": (350.0, 30.0), "vel_x": (0.0, 2.0)}
    truth = xr.Dataset({name: (dims, mean + std * pattern) for name, (mean, std) in scales.items()})
    truth = truth.assign_coords(time=np.arange(5.0))
    guess = truth + xr.Dataset({name: (dims, std * error) for name, (_, std) in scales.items()})
    spread = xr.Dataset({name: (dims, np.full(shape, 0.03 * std)) for name, (_, std) in scales.items()})
    spread = spread.assign_coords(time=truth["time"])
    both = (truth, guess, spread, guess - 1.645 * spread, guess + 1.645 * spread)
    return error_sums(truth, guess) | uncertainty_sums(*both, start=-1.0), both


def test_fields_that_are_equally_wrong_have_the_same_error_over_their_deviation(sums):
    found = field_scores(sums[0], FIELDS)
    wall, speed = found["T_wall"], found["vel_x"]
    assert list(found) == ["T_wall", "vel_x"]
    for name in ("nrmse", "coverage_90"):
        assert wall[name] == pytest.approx(speed[name], rel=1e-9), name
    assert wall["vrmse"] == pytest.approx(speed["vrmse"], rel=1e-7)  # its 1e-7 beside variances of 4 and 900
    assert speed["nrmse"] == pytest.approx(0.03, rel=0.05)  # 1200 errors: 2 % of sampling noise
    # The offset of 350 K is what the relative error counts in, and it hides the field in that of both.
    assert wall["relative_l2"] < 0.1 * speed["relative_l2"]
    assert error_scores(sums[0])["relative_l2"] < 0.75 * speed["relative_l2"]
    assert wall["mean_absolute_error"] / speed["mean_absolute_error"] == pytest.approx(15.0, rel=1e-9)
    assert wall["crps"] / speed["crps"] == pytest.approx(15.0, rel=1e-9)
    assert (wall["units"], speed["units"]) == ("K", "m s-1")


def test_the_score_of_a_field_is_that_of_the_data_with_only_this_field(sums):
    truth, guess, spread, lower, upper = sums[1]
    for name, each in field_scores(sums[0], FIELDS).items():
        u, v, s, low, high = (ds[[name]] for ds in (truth, guess, spread, lower, upper))
        expected = {
            "relative_l2": score.relative_l2(u, v),
            "nrmse": score.nrmse(u, v),
            "vrmse": score.vrmse(u, v).mean(),
            "mean_absolute_error": abs(u - v).mean(),
            "crps": score.gaussian_crps(u, v, s).mean(),
            "coverage_90": score.coverage(u, low, high),
            "mean": u.mean(),
            "standard_deviation": u.std(),
        }
        for key, value in expected.items():
            assert each[key] == pytest.approx(float(value[name]), rel=1e-9), (name, key)


def test_a_comparison_has_the_scores_of_every_field_with_their_units():
    data = mock_snapshots(1, ("u", "v"), trajectories=12, times=5)
    data["v"].attrs["units"] = "K"
    parts = split(data, seed=0)
    model = BaselineModel.calibrated(Persistence().fit(parts.train), Schema.of(parts.train), parts.calibration, 4)
    found = compare(model, parts.test, cost_cap=0.0).metrics["rom"]
    assert list(found["fields"]) == ["u", "v"]
    assert found["fields"]["v"]["units"] == "K"
    each = [field["relative_l2"] for field in found["fields"].values()]
    assert found["relative_l2"] == pytest.approx(np.sqrt(np.mean(np.square(each))), rel=1e-9)
    for name in ("crps", "mean_absolute_error", "coverage_90", "vrmse"):
        assert found[name] == pytest.approx(np.mean([field[name] for field in found["fields"].values()]), rel=1e-9)
