"""Confidence intervals cover what they promise, and p-values of equal forecasts are uniform."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from romvae.comparison.significance import paired_difference
from romvae.comparison.sums import pooled_error, statistics
from romvae.errors import ConfigError
from romvae.metrics import bootstrap_curves, bootstrap_rows, sign_flip_p_value


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    """With 400 values the bootstrap's bounds are mean +- 1.96 standard errors; 2000 draws leave 5 % of that."""
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = bootstrap_rows(lambda rows: values[rows].mean(-1), 400)
    error = values.std(ddof=1) / 20
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_intervals_of_a_skewed_error_cover_the_truth_as_often_as_promised():
    """60 data sets of 30 trajectories with squared errors from a chi-squared law; the binomial of 0.95 allows 50."""
    rng = np.random.default_rng(1)
    held = 0
    for k in range(60):
        wrong = rng.chisquare(3, 30)
        found = bootstrap_rows(lambda rows, w=wrong: np.sqrt(w[rows].mean(-1)), 30, resamples=400, seed=k)
        held += found.low <= np.sqrt(3) <= found.high
    assert held >= 50


def test_what_cannot_be_drawn_has_no_bounds():
    found = bootstrap_rows(lambda rows: np.full(rows.shape[:-1], 2.0), 1)
    assert found.estimate == 2
    assert np.isnan([found.low, found.high]).all()
    constant = bootstrap_rows(lambda rows: np.ones(rows.shape[:-1]), 5)
    assert (constant.low, constant.high) == (1, 1)
    with pytest.raises(ConfigError, match=r"level is 1\.5, expected between 0 and 1\. Pass 0\.95"):
        bootstrap_rows(lambda rows: rows.mean(-1), 5, level=1.5)


def test_the_p_value_counts_all_exchanges_exactly():
    first, second = np.array([1.0, 2.0, 0.5, 3.0]), np.array([2.0, 1.5, 4.0, 3.5])
    gap = abs((first - second).sum())
    counted = np.mean(
        [
            abs((np.array(signs) * (first - second)).sum()) >= gap - 1e-12
            for signs in itertools.product((1, -1), repeat=4)
        ]
    )
    assert sign_flip_p_value(first, second, lambda x: x.sum(-1)) == counted


def test_p_values_of_equal_forecasts_are_uniform():
    """200 pairs from one law: the share below 0.1 is 0.1 within three binomial deviations, 0.064."""
    rng = np.random.default_rng(2)
    values = [
        sign_flip_p_value(*rng.chisquare(2, (2, 1, 20)), lambda x: pooled_error(x, np.ones((1, 20))), draws=300, seed=k)
        for k in range(200)
    ]
    assert abs(np.mean(np.array(values) < 0.1) - 0.1) < 0.064


def test_a_clear_difference_is_never_called_impossible():
    first = np.ones((1, 40))
    p = sign_flip_p_value(first, 4 * first, lambda x: x.sum((-1, -2)), draws=999)
    assert 0 < p <= 2 / 999


def test_a_paired_difference_is_seen_through_the_spread_over_trajectories():
    """Errors differ by a factor of 30 between trajectories and by 10 % between forecasts: only pairing shows it."""
    rng = np.random.default_rng(3)
    wrong = rng.lognormal(0, 2, (1, 25, 1))
    sums = {"wrong": wrong, "size": np.full((1, 25, 1), 100.0)}
    worse = {**sums, "wrong": 1.21 * wrong}
    found = paired_difference(sums, worse, ("this", "that"))
    error = float(pooled_error(wrong.sum(2), sums["size"].sum(2)))
    assert found["difference"] == pytest.approx(0.1 * error)
    assert 0 < found["low"] < found["difference"] < found["high"]
    assert found["p_value"] < 0.001
    assert found["words"] == "The error of this is smaller on 25 of 25 trajectories: more than chance (p < 0.001)."
    other = paired_difference(worse, sums, ("that", "this"))
    assert other["difference"] == -found["difference"]
    assert other["better_on"] == 0


def test_a_few_trajectories_prove_nothing():
    sums = {"wrong": np.ones((1, 4, 1)), "size": np.ones((1, 4, 1))}
    found = paired_difference(sums, {**sums, "wrong": 4 * sums["wrong"]}, ("a", "b"))
    assert found["p_value"] == 2 / 2**4
    assert found["words"].endswith("which chance explains too (p = 0.12); 4 trajectories are too few to tell.")


def test_the_band_of_a_curve_is_the_interval_at_each_time():
    rng = np.random.default_rng(4)
    wrong, size = rng.chisquare(4, (2, 50, 3)), 10 + rng.random((2, 50, 3))
    low, high = bootstrap_curves(wrong, size, resamples=4000)
    for k in range(3):
        sums = {"wrong": wrong[..., k : k + 1], "size": size[..., k : k + 1]}
        found = bootstrap_rows(statistics(sums)["relative_l2"], 50)
        width = found.high - found.low
        assert low[k] == pytest.approx(found.low, abs=0.1 * width)  # percentile against BCa, and chance
        assert high[k] == pytest.approx(found.high, abs=0.1 * width)
