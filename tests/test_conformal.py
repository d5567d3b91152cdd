"""The laws of split-conformal prediction with the trajectory as the unit, on points that depend on each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from romvae.calibration import (
    SHARES,
    Calibration,
    conformal_quantile,
    coverage_law,
    rank_of,
    share_quantile,
    trajectories_needed,
)
from romvae.errors import ConfigError, DataError


def _errors(*shape: int, seed: int = 0) -> Tensor:
    """|r| / sigma, `(..., trajectory, point)`, smooth along the axis; the points of a trajectory share a size."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.randn(*shape[:-1], 1, generator=generator).mul(0.8).exp()
    waves = torch.randn(*shape[:-1], 6, generator=generator)
    phase = torch.arange(shape[-1]) * (2 * math.pi / shape[-1])
    basis = torch.stack([f(k * phase) for k in (1, 2, 3) for f in (torch.sin, torch.cos)])
    return size * (waves @ basis).abs() / math.sqrt(3)


def _standard_error(n: int, level: float, repeats: int) -> float:
    k = rank_of(n, level)
    return math.sqrt(k * (n + 1 - k) / ((n + 1) ** 2 * (n + 2)) / repeats)


@pytest.mark.parametrize("level", [0.8, 0.9])
@pytest.mark.parametrize("share", [0.9, 1.0])
def test_a_band_holds_its_share_of_points_in_its_share_of_runs_whatever_their_correlation(share, level):
    """Mean coverage is k / (n + 1), and single coverages follow their Beta law."""
    n, new, repeats = 40, 500, 300
    score = share_quantile(_errors(repeats, n, 24), share)
    width = conformal_quantile(score, level, n)
    held = (share_quantile(_errors(repeats, new, 24, seed=1), share) <= width[:, None]).double().mean(1)
    mean = rank_of(n, level) / (n + 1)
    assert float(held.mean()) == pytest.approx(mean, abs=4 * _standard_error(n, level, repeats))
    assert float(held.mean()) > level - 4 * _standard_error(n, level, repeats)
    low, high = coverage_law(n, level)
    inside = float(((held >= low) & (held <= high)).double().mean())
    # 300 repetitions: 0.9 +- 4 * 0.017; 500 new runs blur each coverage by 0.013 against a spread of 0.05.
    assert inside == pytest.approx(0.9, abs=0.07)


def test_a_quantile_over_all_points_breaks_the_risk_statement_that_the_band_keeps():
    n, repeats = 100, 100
    errors, fresh = _errors(repeats, n, 24), _errors(repeats, 500, 24, seed=1)
    pooled = conformal_quantile(errors.flatten(1), 0.9, n)
    band = conformal_quantile(share_quantile(errors, 0.9), 0.9, n)

    def runs_held(width: Tensor) -> float:
        share = (fresh <= width[:, None, None]).double().mean(-1)
        return float((share >= 0.9).double().mean())

    assert runs_held(pooled) < 0.84  # promised per point, and kept there; not for runs
    assert runs_held(band) >= 0.9 - 4 * _standard_error(n, 0.9, repeats)
    at_points = float((fresh <= pooled[:, None, None]).double().mean())
    assert at_points == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("correlated", [True, False])
@pytest.mark.parametrize("n", [20, 100])
def test_pooled_points_cover_a_random_point_of_a_new_trajectory(n, correlated):
    """At the level, for points that move as one as well as for independent ones.

    The latter lie above it by level / n: what is left for the unknown trajectory is then not needed.
    """
    repeats = 400
    errors, fresh = _errors(repeats, n, 12), _errors(repeats, 100, 12, seed=1)
    if not correlated:
        generator = torch.Generator().manual_seed(0)
        errors, fresh = (torch.randn(e.shape, generator=generator).abs() for e in (errors, fresh))
    width = conformal_quantile(errors.flatten(1), 0.9, n)
    covered = float((fresh <= width[:, None, None]).double().mean())
    slack = 4 * _standard_error(n, 0.9, repeats)
    assert 0.9 - slack < covered < 0.9 + 1 / n + slack


@pytest.mark.parametrize("n", [30, 60])
def test_a_whole_run_is_held_though_the_claimed_spread_is_wrong_at_every_lead_time(n):
    """Through `Calibration`, with its factors per lead time fitted on the same trajectories."""
    wrong = torch.tensor([1.0, 3.0, 0.5, 2.0, 8.0]).reshape(-1, 1, 1, 1)
    repeats, new = 60, 200
    held = torch.zeros(2, repeats)
    for k in range(repeats):
        size = torch.randn(n + new, 1, generator=torch.Generator().manual_seed(k)).mul(0.7).exp()
        ratio = wrong * size * _errors(5, 1, n + new, 12, seed=k)
        calibration = Calibration(1).fit(torch.arange(5), ratio[:, :, :n])
        factor, _ = calibration.at(torch.arange(5), 0.9)
        scaled = ratio[:, 0, n:] / factor[..., None]
        for j, share in enumerate((0.9, 1.0)):
            width = calibration.width(torch.arange(5), 0.9, "run", share)
            inside = (scaled <= width[..., None])[1:].double().mean((0, 2))  # a run is all that follows its start
            held[j, k] = (inside >= share - 1e-9).double().mean()
    mean = rank_of(n, 0.9) / (n + 1)
    # The factors are fitted without the trajectory that is scored; what is left of the dependence is below 0.01.
    for row in held:
        assert float(row.mean()) == pytest.approx(mean, abs=4 * _standard_error(n, 0.9, repeats) + 0.01)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_weights_count_as_copies_of_a_value(share):
    values, copies = torch.randn(4, 60), torch.randint(0, 5, (60,))
    assert torch.equal(
        share_quantile(values, share, copies), share_quantile(values.repeat_interleave(copies, -1), share)
    )


def test_a_run_is_all_its_times_though_the_calibrated_ones_lie_closer_at_the_start():
    """Runs that go wrong do so late, and each in its own way."""
    steps, n, new, repeats = 60, 40, 400, 60
    leads = torch.cat([torch.arange(21), torch.arange(24, steps + 1, 6)])
    growth = torch.linspace(0, 1, steps + 1)[:, None, None, None]
    held = torch.empty(repeats)
    for k in range(repeats):
        generator = torch.Generator().manual_seed(k)
        late = torch.randn(1, 1, n + new, 1, generator=generator)
        ratio = torch.randn(steps + 1, 1, n + new, 8, generator=generator).abs() * (0.5 * late * growth**2).exp()
        calibration = Calibration(1).fit(leads, ratio[leads][:, :, :n])
        every = torch.arange(steps + 1)
        factor, _ = calibration.at(every, 0.9)
        scaled = ratio[:, 0, n:] / factor[..., None]
        inside = (scaled <= calibration.width(every, 0.9, "run", 0.9)[..., None])[1:].double().mean((0, 2))
        held[k] = (inside >= 0.9).double().mean()
    # The knots stand for times up to three steps away, over which errors grow: 0.01.
    assert float(held.mean()) == pytest.approx(
        rank_of(n, 0.9) / (n + 1), abs=4 * _standard_error(n, 0.9, repeats) + 0.01
    )


def test_bands_of_a_field_are_exact_at_each_calibrated_lead_time():
    ratio = _errors(6, 2, 30, 20)
    calibration = Calibration(2).fit(torch.arange(6), ratio)
    factor, _ = calibration.at(torch.arange(6), 0.9)
    for share in (0.5, 1.0):
        width = calibration.width(torch.arange(6), 0.8, "field", share)
        expected = conformal_quantile(share_quantile(ratio, share), 0.8, 30)
        torch.testing.assert_close(factor * width, expected, rtol=1e-5, atol=0)


def test_bands_widen_with_level_with_share_and_from_point_to_run():
    calibration = Calibration(1).fit(torch.arange(4), _errors(4, 1, 60, 30))
    lead = torch.tensor([2])
    levels = [float(calibration.width(lead, level, "field", 0.9)) for level in (0.3, 0.5, 0.75, 0.9, 0.95)]
    assert levels == sorted(levels)
    shares = [float(calibration.width(lead, 0.9, "run", share)) for share in SHARES]
    assert shares == sorted(shares)
    assert shares[-1] >= float(calibration.width(lead, 0.9, "field", 1.0)) >= float(calibration.width(lead, 0.9))


def test_the_largest_error_counts_though_only_some_points_are_kept():
    ratio = _errors(3, 1, 20, 10)
    largest = 5 * ratio.amax(-1, keepdim=True)
    calibration = Calibration(1).fit(torch.arange(3), ratio, (largest, torch.ones_like(largest)))
    whole = Calibration(1).fit(torch.arange(3), ratio)
    lead = torch.arange(3)
    for interval in ("field", "run"):
        torch.testing.assert_close(
            calibration.width(lead, 0.9, interval, 1.0), 5 * whole.width(lead, 0.9, interval, 1.0)
        )
        torch.testing.assert_close(calibration.width(lead, 0.9, interval, 0.9), whole.width(lead, 0.9, interval, 0.9))


@pytest.mark.parametrize(("level", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_too_few_trajectories_give_an_infinite_band_and_say_so(level, needed):
    assert trajectories_needed(level) == needed
    scores = torch.arange(float(needed))
    assert float(conformal_quantile(scores, level, needed)) == needed - 1  # the largest
    if needed > 1:
        assert math.isinf(conformal_quantile(scores[1:], level, needed - 1))
        ratio = _errors(2, 1, needed - 1, 5)
        calibration = Calibration(1).fit(torch.arange(2), ratio)
        assert bool(calibration.width(torch.arange(2), level, "field", 1.0).isinf().all())
        message = str(calibration.guarantee(level, "run"))
        assert f"takes at least {needed} calibration trajectories, and there are {needed - 1}" in message
        assert message.startswith("No ")
        # A single value keeps a finite interval without a guarantee: that of a Gaussian with the scaled variance, or
        # of the lower levels where that is wider.
        nominal = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(0.5 + level / 2))
        lower = {0.8: 0.5, 0.9: 0.8, 0.95: 0.9}
        if level in lower:
            expected = calibration.width(torch.arange(2), lower[level]).clamp(min=float(nominal))
            torch.testing.assert_close(calibration.width(torch.arange(2), level), expected)


def test_a_level_in_single_precision_does_not_ask_for_one_more():
    assert rank_of(4, float(torch.tensor(0.8))) == 4
    assert rank_of(19, float(torch.tensor(0.95))) == 19
    assert rank_of(24, float(torch.tensor(0.8))) == 20


@pytest.mark.parametrize("n", [20, 50, 200])
def test_the_finite_sample_interval_is_that_of_simulated_calibrations(n):
    uniform = np.sort(np.random.default_rng(0).uniform(size=(20_000, n)), axis=1)
    coverage = uniform[:, rank_of(n, 0.9) - 1]  # of a uniform score the quantile is the coverage
    low, high = coverage_law(n, 0.9)
    # Quantiles of 20,000 draws: standard error below 0.02 of the spread.
    np.testing.assert_allclose(np.quantile(coverage, [0.05, 0.95]), [low, high], atol=0.05 * (high - low))


def test_what_it_says_in_words():
    calibration = Calibration(1).fit(torch.arange(4), _errors(4, 1, 50, 30))
    text = calibration.statement()
    assert text.startswith("Calibrated on 50 trajectories that nothing else was fitted on.")
    assert "same distribution of initial fields and parameters" in text
    assert "In at least 90 % of new runs the interval holds at least 90 % of the points" in text
    low, high = coverage_law(50, 0.9)
    assert f"given these 50: {100 * low:.3g} % to {100 * high:.3g} %" in text
    assert "Not calibrated" in Calibration(1).statement()


def test_bands_survive_saving_and_older_calibrations_are_read_without_them():
    calibration = Calibration(2).fit(torch.arange(6), _errors(6, 2, 12, 20))
    calibration.quantities.keep("u_maximum", torch.arange(6), torch.rand(6, 12))
    other = Calibration(2)
    other.load_state_dict(calibration.state_dict())
    lead = torch.arange(9)
    for interval in ("field", "run"):
        assert torch.equal(calibration.width(lead, 0.8, interval), other.width(lead, 0.8, interval))
    for a, b in zip(
        calibration.quantities.at("u_maximum", lead, 0.9), other.quantities.at("u_maximum", lead, 0.9), strict=True
    ):
        assert torch.equal(a, b)
    old = {name: value for name, value in calibration.state_dict().items() if "." not in name}
    older = Calibration(2)
    older.load_state_dict(old)
    assert torch.equal(older.at(lead, 0.9)[1], calibration.at(lead, 0.9)[1])
    with pytest.raises(DataError, match="interval 'run' is not calibrated in this ROM, only 'point' is"):
        older.width(lead, 0.9, "run")
    with pytest.raises(ConfigError, match=r"quantity 'u_maximum' is not calibrated in this ROM \(calibrated: none\)"):
        older.quantities.at("u_maximum", lead, 0.9)


def test_unknown_intervals_and_shares_are_refused():
    calibration = Calibration(1).fit(torch.arange(2), _errors(2, 1, 12, 20))
    with pytest.raises(ConfigError, match=r"share is 0\.7, expected one of 0\.5, 0\.8"):
        calibration.width(torch.arange(2), 0.9, "run", 0.7)
    with pytest.raises(ConfigError, match="interval is 'all', expected point, field or run"):
        calibration.width(torch.arange(2), 0.9, "all")  # type: ignore[arg-type]


def test_of_pooled_points_one_share_in_n_plus_one_is_left_for_the_unknown_trajectory():
    scores = torch.arange(1.0, 1801.0)
    assert float(conformal_quantile(scores, 0.9, 18)) == 1710  # 19 x 0.9 / 18 = 95 % of the points, not all of them
    assert math.isinf(conformal_quantile(scores, 0.9, 8))
