"""Intervals of scores that rank points: weights are repetitions, and the truth lies inside as often as is said."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from romvae import metrics as score
from romvae.comparison.ranked import ranked_intervals, weighted, weighted_ause, weighted_spearman


def crowd(trajectories: int, points: int, seed: int, knows: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Errors whose size differs between trajectories and points, and deviations that know of it in part."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.normal(0, 0.6, (trajectories, 1)) + rng.normal(0, 0.6, (trajectories, points)))
    return size * rng.standard_normal(size.shape), size**knows * np.exp(rng.normal(0, 0.5, size.shape))


def plain(error: np.ndarray, std: np.ndarray) -> dict[str, float]:
    e, s = (xr.Dataset({"u": ("point", each.ravel())}) for each in (error, std))
    return {
        "ause": float(score.ause(e, 0 * e, s)["u"]),
        "spearman_points": float(score.spearman(e, 0 * e, s)["u"]),
    }


def test_weights_are_repetitions_with_ties_and_without():
    error, std = crowd(5, 60, 0)
    std = np.round(std, 1)
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 0, 3, 0], [0, 1, 2, 0, 2]])
    known = {"ause": weighted_ause, "spearman_points": weighted_spearman}
    found = {name: weighted(function, error, std, weights) for name, function in known.items()}
    for k, row in enumerate(weights):
        repeated = np.sort(np.repeat(np.arange(300).reshape(5, 60), row, axis=0).ravel())  # copies beside their own
        wanted = plain(error.ravel()[repeated], std.ravel()[repeated])
        for name, value in wanted.items():
            assert found[name][k] == pytest.approx(value, rel=1e-9)


def test_intervals_hold_the_score_of_all_trajectories_as_often_as_they_say():
    truth = plain(*crowd(20_000, 30, 1))
    held = dict.fromkeys(truth, 0)
    for seed in range(40):
        error, std = crowd(40, 30, 100 + seed)
        bounds = ranked_intervals(plain(error, std), [list(zip(error, std, strict=True))], seed)
        for name, (low, high) in bounds.items():
            held[name] += low <= truth[name] <= high
    for name, count in held.items():
        assert count >= 33, (name, count)  # 38 of 40 are meant: fewer once in a thousand times


def test_a_sample_of_many_points_gives_nearly_the_interval_of_all(monkeypatch):
    error, std = crowd(30, 600, 2)
    fields = [list(zip(error, std, strict=True))]
    scores = plain(error, std)
    monkeypatch.setattr("romvae.comparison.ranked.TAKEN", 10**5)
    whole = ranked_intervals(scores, fields, 0)
    monkeypatch.setattr("romvae.comparison.ranked.TAKEN", 9000)
    some = ranked_intervals(scores, fields, 0)
    for name, value in scores.items():
        assert some[name][0] < value < some[name][1]
        width = whole[name][1] - whole[name][0]
        assert np.allclose(some[name], whole[name], atol=0.25 * width)


def test_a_single_trajectory_has_no_interval():
    error, std = crowd(1, 50, 3)
    assert np.isnan(ranked_intervals(plain(error, std), [[(error[0], std[0])]], 0)["ause"]).all()
