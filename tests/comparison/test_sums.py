"""A score put together from sums per trajectory is the score itself, and intervals are those of the same score."""

from __future__ import annotations

import numpy as np
import pytest

from romvae import metrics as score
from romvae.comparison.sums import error_sums, statistics, uncertainty_sums
from romvae.testing import mock_snapshots

FIELDS = ("u", "v")


@pytest.fixture(scope="module", params=[1, 2])
def forecast(request):
    """Truth and a forecast of two fields, of different size and error."""
    rng = np.random.default_rng(0)
    truth = mock_snapshots(request.param, FIELDS, trajectories=7, times=4)[list(FIELDS)].isel(time=slice(1, None))
    truth["v"] = 3 * truth["v"] + 1
    mean = truth + 0.3 * truth.map(lambda u: u.copy(data=rng.normal(size=u.shape)))
    std = truth.map(lambda u: u.copy(data=rng.uniform(0.1, 0.5, u.shape)))
    return truth, mean, std, mean - 1.6 * std, mean + 1.6 * std


def test_a_score_from_sums_is_the_score(forecast):
    truth, mean, std, lower, upper = forecast
    sums = error_sums(truth, mean) | uncertainty_sums(truth, mean, std, lower, upper, start=0.0)
    whole = np.arange(truth.sizes["trajectory"])
    found = {name: float(function(whole)) for name, function in statistics(sums).items()}
    expected = {
        "relative_l2": score.over_fields(score.relative_l2(truth, mean), root_mean_square=True),
        "vrmse": score.over_fields(score.vrmse(truth, mean)).mean(),
        "nrmse": score.over_fields(score.nrmse(truth, mean), root_mean_square=True),
        "coverage_90": score.over_fields(score.coverage(truth, lower, upper)),
        "crps": score.over_fields(score.gaussian_crps(truth, mean, std)).mean(),
        "nll": score.over_fields(score.gaussian_nll(truth, mean, std)),
        "spread_skill": score.over_fields(score.spread_skill(truth, mean, std)),
        "spearman_trajectories": score.over_fields(score.spearman_over_trajectories(truth, mean, std)),
        "interval_score_90": score.over_fields(score.interval_score(truth, lower, upper, 0.9)),
        "valid_prediction_time": score.over_fields(score.valid_prediction_time(truth, mean, start=0.0)).mean(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), rel=1e-9), name


def test_a_score_of_some_trajectories_is_that_of_the_data_with_only_those(forecast):
    truth, mean, *_ = forecast
    rows = np.array([5, 1, 1])
    some = statistics(error_sums(truth.isel(trajectory=rows), mean.isel(trajectory=rows)))
    chosen = statistics(error_sums(truth, mean))
    for name in ("relative_l2", "vrmse", "nrmse"):
        assert chosen[name](rows) == pytest.approx(some[name](np.arange(3)), rel=1e-12)
        both = chosen[name](np.stack([rows, rows[::-1]]))
        np.testing.assert_allclose(both, chosen[name](rows), rtol=1e-12)
