"""Laws of the metrics: closed forms, perfect forecasts, units, and the refusal of unlike coordinates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scoringrules
import xarray as xr
from scipy import stats

from romvae import metrics
from romvae.errors import ConfigError, DataError, SchemaError

Forecast = tuple[xr.DataArray, xr.DataArray, xr.DataArray]
"""Truth, mean and standard deviation."""


def _field(seed: int = 0, trajectories: int = 6, times: int = 10, ndim: int = 1) -> xr.DataArray:
    sizes = {"trajectory": trajectories, "time": times, **dict(zip(("x", "y", "z"), (16, 5, 4), strict=True))}
    dims = ("trajectory", "time", *("z", "y", "x")[-ndim:])
    values = np.random.default_rng(seed).normal(size=[sizes[dim] for dim in dims])
    coords = {dim: 0.1 * np.arange(sizes[dim]) for dim in dims}
    return xr.DataArray(values, coords=coords, dims=dims)


@pytest.fixture(params=[1, 2, 3])
def truth(request: pytest.FixtureRequest) -> xr.DataArray:
    return _field(ndim=request.param)


@pytest.fixture(scope="module")
def perfect() -> Forecast:
    """A forecast N(m, s) with spreads over a decade, and a truth drawn from it: 51,200 points."""
    mean = _field(1, trajectories=40, times=80)
    std = 2 ** _field(2, trajectories=40, times=80)
    return mean + std * _field(3, trajectories=40, times=80), mean, std


class TestAccuracy:
    def test_relative_l2_pools_sums_before_the_ratio(self) -> None:
        u = _field()
        u[0] *= 100
        v = u + _field(1)
        expected = np.sqrt(((v - u) ** 2).values.sum() / (u**2).values.sum())
        assert float(metrics.relative_l2(u, v)) == pytest.approx(expected, rel=1e-12)
        per_time = metrics.relative_l2(u, v, ["trajectory", "x"])
        assert per_time.dims == ("time",)
        weights = (u**2).sum(["trajectory", "x"])
        assert float(((per_time**2 * weights).sum() / weights.sum()) ** 0.5) == pytest.approx(expected)

    def test_zero_forecast_of_anything_scores_one(self, truth: xr.DataArray) -> None:
        assert float(metrics.relative_l2(truth, 0 * truth)) == pytest.approx(1)
        assert float(metrics.worst_relative_l2(truth, 0 * truth)) == pytest.approx(1)
        assert float(metrics.nrmse(truth, 0 * truth, by="rms")) == pytest.approx(1)

    def test_zero_field(self) -> None:
        zero = 0 * _field()
        assert float(metrics.relative_l2(zero, zero)) == 0
        assert float(metrics.relative_l2(zero, zero + 1)) == np.inf

    def test_worst_is_the_largest_snapshot(self, truth: xr.DataArray) -> None:
        forecast = truth.copy(deep=True)
        forecast[4, 7] *= 1.5
        forecast[2, 3] *= 1.2
        assert float(metrics.worst_relative_l2(truth, forecast)) == pytest.approx(0.5)

    def test_vrmse_of_the_spatial_mean_is_one(self, truth: xr.DataArray) -> None:
        space = [dim for dim in truth.dims if dim not in ("trajectory", "time")]
        forecast = truth.mean(space).broadcast_like(truth).transpose(*truth.dims)
        score = metrics.vrmse(truth, forecast, eps=0)
        assert score.dims == ("trajectory", "time")
        np.testing.assert_allclose(score, 1, rtol=1e-12)
        variance = truth.var(space)
        np.testing.assert_allclose(metrics.vrmse(truth, forecast), (variance / (variance + 1e-7)) ** 0.5)

    def test_nrmse_of_the_mean_is_one(self, truth: xr.DataArray) -> None:
        assert float(metrics.nrmse(truth, truth * 0 + truth.mean())) == pytest.approx(1)
        size = float(truth.max() - truth.min())
        assert float(metrics.nrmse(truth, truth + 2, by="range")) == pytest.approx(2 / size)

    def test_float32_is_summed_in_float64(self) -> None:
        u = (_field() + 1e4).astype(np.float32)
        assert float(metrics.rmse(u, u + np.float32(1))) == pytest.approx(1, rel=1e-12)

    @pytest.mark.parametrize("scale", [1e-6, 1e6])
    def test_change_of_units(self, scale: float) -> None:
        u, v = _field(), _field(1)
        assert float(metrics.rmse(scale * u, scale * v)) == pytest.approx(scale * float(metrics.rmse(u, v)))
        for score in (metrics.relative_l2, metrics.worst_relative_l2, metrics.nrmse):
            assert float(score(scale * u, scale * v)) == pytest.approx(float(score(u, v)), rel=1e-12)
        np.testing.assert_allclose(
            metrics.vrmse(scale * u, scale * v, eps=1e-7 * scale**2), metrics.vrmse(u, v), rtol=1e-12
        )


class TestIntervals:
    def test_perfect_intervals_cover_within_binomial_error(self, perfect: Forecast) -> None:
        truth, mean, std = perfect
        for level in (0.68, 0.9, 0.95):
            half = stats.norm.ppf(0.5 + level / 2) * std
            error = 4 * np.sqrt(level * (1 - level) / truth.size)
            assert float(metrics.coverage(truth, mean - half, mean + half)) == pytest.approx(level, abs=error)

    def test_reliability_is_the_diagonal(self, perfect: Forecast) -> None:
        curve = metrics.reliability(*perfect)
        assert curve.sizes == {"level": 19}
        np.testing.assert_allclose(curve, curve.level, atol=4 * 0.5 / np.sqrt(perfect[0].size))

    def test_reliability_takes_scaled_quantiles(self, perfect: Forecast) -> None:
        truth, mean, std = perfect
        curve = metrics.reliability(truth, mean, std / 2, half_width=lambda p: float(2 * stats.norm.ppf(0.5 + p / 2)))
        np.testing.assert_allclose(curve, metrics.reliability(truth, mean, std), atol=1e-12)
        assert float(metrics.reliability(truth, mean, std / 2).sel(level=0.9)) < 0.65

    def test_fifths_have_the_standard_error_over_trajectories(self) -> None:
        truth = _field(trajectories=4, times=12)
        inside = xr.zeros_like(truth).astype(bool)
        inside[:2] = True
        inside[2, :6] = True  # trajectory 3 is never covered
        lower, upper = truth.where(inside, truth + 1) - 0.5, truth.where(inside, truth + 1) + 0.5
        result = metrics.coverage_fifths(truth, lower, upper)
        # 12 times in five parts: 3, 3, 2, 2, 2.
        np.testing.assert_allclose(result.coverage, [0.75, 0.75, 0.5, 0.5, 0.5])
        expected = [np.std(row, ddof=1) / 2 for row in ([1, 1, 1, 0],) * 2 + ([1, 1, 0, 0],) * 3]
        np.testing.assert_allclose(result.standard_error, expected)
        np.testing.assert_allclose(result.last_time, [0.2, 0.5, 0.7, 0.9, 1.1])

    def test_fifths_of_fields_are_averaged_and_short_horizons_refused(self) -> None:
        u = _field()
        truth = xr.Dataset({"u": u, "v": u})
        lower, upper = truth - 1, xr.Dataset({"u": u + 1, "v": u - 0.5})
        np.testing.assert_allclose(metrics.coverage_fifths(truth, lower, upper).coverage, 0.5)
        short = slice(3)
        with pytest.raises(DataError, match="3 times, expected 5 or more"):
            metrics.coverage_fifths(truth.isel(time=short), lower.isel(time=short), upper.isel(time=short))

    def test_interval_score_is_scoringrules(self) -> None:
        u, low = _field(), _field(1)
        high = low + abs(_field(2))
        expected = scoringrules.interval_score(u.values, low.values, high.values, 0.1)
        np.testing.assert_allclose(metrics.interval_score(u, low, high, 0.9, dims=()), expected, rtol=1e-12)
        with pytest.raises(DataError, match="level is 90"):
            metrics.interval_score(u, low, high, 90)

    def test_interval_score_is_least_for_the_true_interval(self, perfect: Forecast) -> None:
        truth, mean, std = perfect
        half = stats.norm.ppf(0.95) * std
        scores = [float(metrics.interval_score(truth, mean - k * half, mean + k * half, 0.9)) for k in (0.7, 1, 1.4)]
        assert scores[1] == min(scores)


class TestPredictive:
    def test_crps_is_its_closed_form_and_scoringrules(self) -> None:
        u, m, s = _field(), _field(1), abs(_field(2)) + 0.1
        z = ((u - m) / s).values
        closed = s.values * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
        score = metrics.gaussian_crps(u, m, s, dims=())
        np.testing.assert_allclose(score, closed, atol=1e-10)
        np.testing.assert_allclose(score, scoringrules.crps_normal(u.values, m.values, s.values), atol=1e-10)

    def test_crps_of_a_perfect_forecast(self, perfect: Forecast) -> None:
        truth, mean, std = perfect
        ratio = metrics.gaussian_crps(truth / std, mean / std, std / std)
        # The CRPS of a standard normal has a standard deviation of 0.53; four standard errors.
        assert float(ratio) == pytest.approx(1 / np.sqrt(np.pi), abs=4 * 0.53 / np.sqrt(truth.size))

    def test_crps_without_spread_is_the_absolute_error(self) -> None:
        u, m = _field(), _field(1)
        assert float(metrics.gaussian_crps(u, m, 0 * u)) == pytest.approx(float(abs(u - m).mean()))

    def test_nll_is_that_of_scipy(self) -> None:
        u, m, s = _field(), _field(1), abs(_field(2)) + 0.1
        expected = -stats.norm.logpdf(u.values, m.values, s.values)
        np.testing.assert_allclose(metrics.gaussian_nll(u, m, s, dims=()), expected, rtol=1e-12)

    def test_spread_skill_of_a_perfect_forecast_is_one(self, perfect: Forecast) -> None:
        truth, mean, std = perfect
        assert float(metrics.spread_skill(truth / std, mean / std, std / std)) == pytest.approx(1, abs=0.013)

    def test_spread_skill_of_a_perfect_ensemble_is_one(self) -> None:
        members = np.random.default_rng(0).normal(size=(8, 6, 200, 16))
        truth, mean = _field(9, times=200), _field(times=200)
        mean, std = mean.copy(data=members.mean(0)), mean.copy(data=members.std(0, ddof=1))
        # 19,200 points: the standard error of the ratio is about 0.6 %. Without the factor it is 0.943.
        assert float(metrics.spread_skill(truth, mean, std, members=8)) == pytest.approx(1, abs=0.025)
        assert float(metrics.spread_skill(truth, mean, std)) == pytest.approx(np.sqrt(8 / 9), abs=0.025)

    def test_pit_is_uniform(self, perfect: Forecast) -> None:
        values = metrics.pit(*perfect)
        assert values.dims == perfect[0].dims
        assert stats.kstest(values.values.ravel(), "uniform").pvalue > 1e-3

    def test_spearman_is_that_of_scipy(self) -> None:
        u, m, s = _field(), _field(1), abs(_field(2)).round(1)
        expected = stats.spearmanr(s.values.ravel(), abs(u - m).values.ravel())[0]
        assert float(metrics.spearman(u, m, s)) == pytest.approx(expected, rel=1e-10)
        per_time = metrics.spearman(u, m, s, ["trajectory", "x"])
        expected = stats.spearmanr(s[:, 3].values.ravel(), abs(u - m)[:, 3].values.ravel())[0]
        assert float(per_time[3]) == pytest.approx(expected, rel=1e-10)

    def test_spearman_knows_good_and_bad_trajectories(self) -> None:
        u = _field()
        size = xr.DataArray(np.arange(1.0, 7), dims="trajectory", coords={"trajectory": u.trajectory})
        m = u + size * 0.1
        s = (size**3).broadcast_like(u)
        assert float(metrics.spearman_over_trajectories(u, m, s)) == pytest.approx(1)
        assert float(metrics.spearman_over_trajectories(u, m, 1 / s)) == pytest.approx(-1)
        assert np.isnan(float(metrics.spearman_over_trajectories(u, m, 0 * s + 1)))

    @pytest.mark.parametrize("scale", [1e-6, 1e6])
    def test_change_of_units(self, scale: float, perfect: Forecast) -> None:
        scaled: Forecast = (scale * perfect[0], scale * perfect[1], scale * perfect[2])
        assert float(metrics.gaussian_crps(*scaled)) == pytest.approx(scale * float(metrics.gaussian_crps(*perfect)))
        shift = float(metrics.gaussian_nll(*scaled)) - float(metrics.gaussian_nll(*perfect))
        assert shift == pytest.approx(np.log(scale), rel=1e-9)
        unitless: list[Callable[..., xr.DataArray]]
        unitless = [metrics.spread_skill, metrics.spearman, metrics.spearman_over_trajectories]
        for score in unitless:
            assert float(score(*scaled)) == pytest.approx(float(score(*perfect)), rel=1e-6)


class TestResampling:
    def test_bootstrap_of_a_mean_is_its_standard_error(self) -> None:
        values = _field(trajectories=200).mean(["time", "x"])
        interval = metrics.bootstrap_over_trajectories(lambda a: a.mean(), values)
        half = stats.norm.ppf(0.95) * float(metrics.standard_error(values))
        assert interval.estimate == pytest.approx(float(values.mean()))
        # Quantiles of 1000 resamples are good to some 5 % of the width.
        assert interval.high - interval.estimate == pytest.approx(half, rel=0.15)
        assert interval.estimate - interval.low == pytest.approx(half, rel=0.15)

    def test_bootstrap_is_seeded_and_resamples_arrays_alike(self) -> None:
        u = _field()
        one = metrics.bootstrap_over_trajectories(metrics.rmse, u, u + 1, resamples=20, seed=3)
        assert one == pytest.approx((1, 1, 1))
        v = _field(1)
        repeated = [metrics.bootstrap_over_trajectories(metrics.rmse, u, v, resamples=20, seed=3) for _ in range(2)]
        assert repeated[0] == repeated[1]
        with pytest.raises(ConfigError, match="level is 90"):
            metrics.bootstrap_over_trajectories(metrics.rmse, u, v, level=90)

    def test_a_single_trajectory_has_no_standard_error(self) -> None:
        assert np.isnan(metrics.standard_error(_field(trajectories=1).mean(["time", "x"])))


PAIRS: list[Callable[..., Any]] = [
    metrics.relative_l2,
    metrics.worst_relative_l2,
    metrics.rmse,
    metrics.nrmse,
    metrics.vrmse,
]
TRIPLES: list[Callable[..., Any]] = [
    metrics.coverage,
    metrics.coverage_fifths,
    metrics.gaussian_crps,
    metrics.gaussian_nll,
    metrics.spread_skill,
    metrics.pit,
    metrics.reliability,
    metrics.spearman,
    metrics.spearman_over_trajectories,
]
CALLS = [*((f, 1) for f in PAIRS), *((f, 2) for f in TRIPLES)]


@pytest.mark.parametrize(("metric", "others"), CALLS, ids=[f.__name__ for f, _ in CALLS])
class TestMatching:
    def test_datasets_are_scored_field_by_field(self, metric: Callable[..., Any], others: int) -> None:
        u = [abs(_field(i)) for i in range(1 + others)]
        w = [abs(_field(10 + i)) for i in range(1 + others)]
        scores = metric(*(xr.Dataset({"w": b, "u": a}) for a, b in zip(u, w, strict=True)))
        if metric is metrics.coverage_fifths:  # the one that averages fields
            xr.testing.assert_allclose(scores.coverage, (metric(*u).coverage + metric(*w).coverage) / 2)
            return
        xr.testing.assert_allclose(scores["u"], metric(*u).rename("u"))
        xr.testing.assert_allclose(scores["w"], metric(*w).rename("w"))

    def test_order_of_dims_does_not_matter(self, metric: Callable[..., Any], others: int) -> None:
        arrays = [abs(_field(i)) for i in range(1 + others)]
        turned = [arrays[0], *(array.transpose("x", "time", "trajectory") for array in arrays[1:])]
        xr.testing.assert_allclose(metric(*turned), metric(*arrays))

    def test_unlike_coordinates_are_refused(self, metric: Callable[..., Any], others: int) -> None:
        truth = _field()
        same = [truth] * (others - 1)
        moved = truth.assign_coords(time=truth.time + np.where(np.arange(10) >= 4, 1e-9, 0))
        with pytest.raises(SchemaError, match=r"time\[4\] is 0.40000000\d+, expected 0.4\. .* nothing is interpolated"):
            metric(truth, *same, moved)
        with pytest.raises(SchemaError, match="x has 15 values, expected 16"):
            metric(truth, *same, truth.isel(x=slice(15)))
        with pytest.raises(SchemaError, match="trajectory has coordinates on one side only"):
            metric(truth, *same, truth.drop_vars("trajectory"))
        with pytest.raises(SchemaError, match=r"dims are \('trajectory', 'x'\)"):
            metric(truth, *same, truth.isel(time=0))
        with pytest.raises(SchemaError, match=r"fields are \['v'\], expected \['u'\]"):
            metric(*[xr.Dataset({"u": truth})] * others, xr.Dataset({"v": truth}))
        with pytest.raises(SchemaError, match="Dataset"):
            metric(*[truth] * others, xr.Dataset({"u": truth}))

    def test_other_coordinates_have_no_say(self, metric: Callable[..., Any], others: int) -> None:
        arrays = [abs(_field(i)) for i in range(1 + others)]
        labelled = [array.assign_coords(c=("trajectory", np.arange(6.0) + i)) for i, array in enumerate(arrays)]
        xr.testing.assert_identical(metric(*labelled), metric(*arrays))

    def test_nan_is_never_skipped(self, metric: Callable[..., Any], others: int) -> None:
        arrays = [abs(_field(i)) for i in range(1 + others)]
        clean = metric(*arrays)
        arrays[1][1, 2, 3] = np.nan
        score = metric(*arrays)
        if metric in (metrics.coverage, metrics.coverage_fifths, metrics.reliability):
            assert not score.identical(clean)  # counts as outside
        else:
            assert bool(score.isnull().any())
