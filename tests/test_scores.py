"""Laws of the further scores: closed forms, other libraries, planted spectra, times and drifts."""

from __future__ import annotations

import numpy as np
import pytest
import scoringrules
import xarray as xr
from scipy import stats

from romvae import metrics
from romvae.errors import ConfigError, DataError, SchemaError
from romvae.solvers.korteweg_de_vries import KortewegDeVries1d


def _field(seed: int = 0, trajectories: int = 3, times: int = 6, ndim: int = 2, points: int = 24) -> xr.DataArray:
    """Smooth random fields on a unit box."""
    shape = (points, points - 4, points - 8)[:ndim][::-1]
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(trajectories, times, *shape))
    for axis in range(2, 2 + ndim):
        values = (values + np.roll(values, 1, axis) + np.roll(values, 2, axis)) / 3**0.5
    dims = ("trajectory", "time", *("z", "y", "x")[-ndim:])
    coords = {"trajectory": np.arange(trajectories), "time": 0.1 * (1 + np.arange(times))}
    coords |= {d: np.arange(n) / n for d, n in zip(dims[2:], shape, strict=True)}
    return xr.DataArray(values, coords, dims)


def _members(count: int, seed: int = 10, **sizes: int) -> xr.DataArray:
    return xr.concat([_field(seed + m, **sizes) for m in range(count)], "member")


class TestEnsembles:
    @pytest.mark.parametrize("estimator", ["fair", "nrg"])
    def test_crps_is_its_definition(self, estimator: str) -> None:
        u, x = _field(ndim=1), _members(5, ndim=1)
        values = x.values
        pairs = np.abs(values[:, None] - values[None]).sum((0, 1))
        weight = 5 * 4 if estimator == "fair" else 25
        expected = np.abs(values - u.values).mean(0) - pairs / (2 * weight)
        np.testing.assert_allclose(metrics.ensemble_crps(u, x, (), estimator), expected, atol=1e-12)

    def test_fair_crps_of_gaussian_members_is_that_of_the_gaussian_whatever_their_number(self) -> None:
        rng = np.random.default_rng(0)
        u = xr.DataArray(rng.normal(size=20_000), dims="x")
        for count in (2, 8):
            x = xr.DataArray(rng.normal(size=(count, 20_000)), dims=("member", "x"))
            # Standard deviation of a single score below 0.9: four standard errors are 0.025.
            assert float(metrics.ensemble_crps(u, x)) == pytest.approx(1 / np.sqrt(np.pi), abs=0.025)
            biased = float(metrics.ensemble_crps(u, x, estimator="nrg"))
            assert biased == pytest.approx((1 + 1 / count) / np.sqrt(np.pi), abs=0.025)

    def test_energy_score_is_that_of_scoringrules_made_fair(self) -> None:
        u, x = _field(), _members(6)
        flat = u.values.reshape(3, 6, -1)
        others = np.moveaxis(x.values.reshape(6, 3, 6, -1), 0, 2)
        size = flat.shape[-1] ** 0.5
        pairs = np.linalg.norm(others[:, :, :, None] - others[:, :, None], axis=-1).sum((2, 3))
        biased = scoringrules.es_ensemble(flat, others)
        fair = biased + pairs / (2 * 36) - pairs / (2 * 30)
        np.testing.assert_allclose(metrics.energy_score(u, x, ()), fair / size, rtol=1e-10)
        assert metrics.energy_score(u, x).dims == ()

    def test_energy_score_sees_wrong_dependence_that_crps_does_not(self) -> None:
        rng = np.random.default_rng(0)
        n, points, count = 200, 16, 12

        def samples(members: int, alike: bool) -> np.ndarray:
            draws = rng.normal(size=(members, n, 1 if alike else points))
            return np.broadcast_to(draws, (members, n, points))

        u = xr.DataArray(samples(1, True)[0], dims=("trajectory", "x"))
        right, wrong = (
            xr.DataArray(samples(count, alike), dims=("member", "trajectory", "x")) for alike in (True, False)
        )
        assert float(metrics.ensemble_crps(u, right)) == pytest.approx(float(metrics.ensemble_crps(u, wrong)), abs=0.1)
        assert float(metrics.energy_score(u, wrong)) > 1.15 * float(metrics.energy_score(u, right))

    def test_ranks_of_exchangeable_members_are_uniform(self) -> None:
        values = np.random.default_rng(0).normal(size=(8, 20_000)).round(1)  # with ties
        x = xr.DataArray(values[1:], dims=("member", "x"))
        shares = metrics.rank_histogram(xr.DataArray(values[0], dims="x"), x)
        assert shares.sizes == {"rank": 8}
        assert stats.chisquare(shares.values * 20_000).pvalue > 1e-3

    def test_members_are_needed(self) -> None:
        u = _field(ndim=1)
        with pytest.raises(SchemaError, match="has no dim 'member'"):
            metrics.ensemble_crps(u, u)
        with pytest.raises(DataError, match="one member, at least two are needed"):
            metrics.energy_score(u, _members(1, ndim=1))


class TestSpectra:
    @pytest.mark.parametrize("ndim", [1, 2, 3])
    def test_power_adds_up_to_the_mean_square(self, ndim: int) -> None:
        u = _field(ndim=ndim) + 0.7
        power = metrics.spectrum(u)
        space = [d for d in u.dims if d in ("z", "y", "x")]
        np.testing.assert_allclose(power.sum("wavenumber"), (u**2).mean(space), rtol=1e-12)
        assert power.dims == ("trajectory", "time", "wavenumber")

    @pytest.mark.parametrize("window", [False, True])
    def test_a_wave_lies_in_its_shell(self, window: bool) -> None:
        x = np.arange(64) / 64 * 2.0
        wave = xr.DataArray(3 * np.cos(2 * np.pi * 10 * x / 2.0), {"x": x}, ["x"])
        power = metrics.spectrum(wave, window=window)
        assert float(power.wavenumber[int(power.values.argmax())]) == pytest.approx(2 * np.pi * 10 / 2.0)
        assert float(power.sum()) == pytest.approx(4.5, rel=1e-6 if not window else 0.05)
        assert float(power.isel(wavenumber=slice(9, 12)).sum() / power.sum()) > 0.999

    def test_in_two_dimensions_shells_are_rings(self) -> None:
        x = np.arange(32) / 32
        values = np.cos(2 * np.pi * (3 * x[None] + 4 * x[:, None]))
        power = metrics.spectrum(xr.DataArray(values, {"y": x, "x": x}, ["y", "x"]))
        assert float(power.isel(wavenumber=5)) == pytest.approx(0.5)

    def test_error_of_a_scaled_field_is_the_logarithm_of_its_power(self) -> None:
        u = _field()
        assert float(metrics.spectral_error(u, u)) == 0
        assert float(metrics.spectral_error(u, 2 * u)) == pytest.approx(np.log10(4), rel=1e-10)
        assert metrics.spectral_error(u, u, "trajectory").dims == ("time",)

    def test_a_shift_is_no_error_of_the_spectrum_and_a_blur_is(self) -> None:
        u = _field()
        assert float(metrics.spectral_error(u, u.roll(x=3))) < 1e-10
        assert float(metrics.spectral_error(u, (u + u.roll(x=1)) / 2)) > 0.1

    def test_uneven_grids_are_refused(self) -> None:
        u = _field(ndim=1)
        with pytest.raises(DataError, match="x has 24 points that are not evenly spaced"):
            metrics.spectrum(u.assign_coords(x=u.x**2))


class TestSimilarity:
    @pytest.mark.parametrize("ndim", [2, 3])
    def test_it_is_that_of_torchmetrics(self, ndim: int) -> None:
        torch = pytest.importorskip("torch")
        image = pytest.importorskip("torchmetrics.functional.image")
        sizes = {"trajectories": 1, "times": 2, "points": 20, "ndim": ndim}
        u, v = _field(**sizes), 0.7 * _field(**sizes) + 0.3 * _field(5, **sizes)
        a, b = (torch.from_numpy(each.values.reshape(2, 1, *each.shape[2:])) for each in (u, v))
        _, full = image.structural_similarity_index_measure(
            b, a, data_range=5.0, reduction="none", return_full_image=True
        )
        inner = full.numpy()[(slice(None), 0, *[slice(5, -5)] * ndim)]  # theirs goes on beyond the edge, mirrored
        expected = inner.reshape(2, -1).mean(1)
        np.testing.assert_allclose(metrics.ssim(u, v, 5.0).values.ravel(), expected, atol=1e-5)

    @pytest.mark.parametrize("ndim", [1, 2, 3])
    def test_one_for_equal_fields_and_less_for_others(self, ndim: int) -> None:
        u = _field(ndim=ndim)
        np.testing.assert_allclose(metrics.ssim(u, u), 1, atol=1e-12)
        assert float(metrics.ssim(u, -u).max()) < 0.95
        assert float(metrics.ssim(u, u + 0.3 * _field(1, ndim=ndim)).max()) < 0.99
        assert metrics.ssim(u, u).dims == ("trajectory", "time")

    def test_around_a_periodic_axis_it_does_not_change_with_a_shift(self) -> None:
        u, v = _field(), _field(1)
        one = metrics.ssim(u, v, periodic=("x",))
        np.testing.assert_allclose(metrics.ssim(u.roll(x=7), v.roll(x=7), periodic=("x",)), one, atol=1e-12)

    def test_what_stands_outside_of_the_domain_has_no_say(self) -> None:
        u, v = _field(points=32), _field(1, points=32)
        mask = np.ones(u.shape[2:], bool)
        mask[:6, :6] = False
        junk = xr.where(xr.DataArray(mask, dims=("y", "x")), v, 1e3).transpose(*v.dims)
        xr.testing.assert_allclose(metrics.ssim(u, junk, mask=mask), metrics.ssim(u, v, mask=mask))
        assert float(abs(metrics.ssim(u, v, mask=mask) - metrics.ssim(u, v, metrics_range(u, mask))).max()) > 1e-6

    def test_short_axes_and_constant_fields_are_refused(self) -> None:
        with pytest.raises(DataError, match="x has 8 points, the window 11"):
            metrics.ssim(_field(ndim=1, points=8), _field(ndim=1, points=8))
        with pytest.raises(DataError, match="The field is constant"):
            metrics.ssim(0 * _field(), _field())


def metrics_range(u: xr.DataArray, mask: np.ndarray) -> float:
    """Range of the values inside the domain."""
    inside = u.values[..., mask]
    return float(inside.max() - inside.min())


class TestHorizon:
    def test_the_time_is_the_last_one_before_the_error_is_too_large(self) -> None:
        u = xr.ones_like(_field(times=10))
        error = xr.DataArray([0.1, 0.2, 0.3, 0.6, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1], {"time": u.time}, ["time"])
        valid = metrics.valid_prediction_time(u, u + error, 0.5, start=0.0)
        np.testing.assert_allclose(valid, 0.3)
        np.testing.assert_allclose(metrics.valid_prediction_time(u, u + error, 0.5, 0.0, lyapunov_time=0.1), 3)
        np.testing.assert_allclose(metrics.valid_prediction_time(u, u, 0.5, 0.0), 1.0)  # never: the whole horizon
        np.testing.assert_allclose(metrics.valid_prediction_time(u, u + 9, 0.5, 0.0), 0.0)
        np.testing.assert_allclose(metrics.valid_prediction_time(u, u * np.nan, 0.5, 0.0), 0.0)

    def test_errors_that_grow_by_e_give_the_lyapunov_time(self) -> None:
        time = 0.01 * np.arange(1, 2001)
        u = xr.DataArray(np.ones((2, 2000, 4)), {"time": time}, ["trajectory", "time", "x"])
        error = xr.DataArray(1e-3 * np.exp(time), {"time": time}, ["time"])
        valid = metrics.valid_prediction_time(u, u + error, 0.5, 0.0)
        np.testing.assert_allclose(valid, np.log(500), atol=0.01)  # to within a time step

    def test_senseless_thresholds_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="threshold is 0"):
            metrics.valid_prediction_time(_field(), _field(), 0)

    def test_drift_is_what_a_forecast_adds_to_a_conserved_quantity(self) -> None:
        solver = KortewegDeVries1d(points=64)
        times = np.linspace(0, 0.2, 5)
        u0 = solver.initial(np.random.default_rng(0))
        u = solver.solve(u0, times)[None, :, 0]
        x = np.asarray(solver.grid.axes[0].coordinates)
        truth = xr.Dataset({"u": (("trajectory", "time", "x"), u)}, {"time": times, "x": x})
        wrong = truth + 0.1 * truth.time
        found = metrics.conservation(solver.conserved, truth, wrong, ["u"])
        length = solver.length
        np.testing.assert_allclose(found["mass_drift"], 0.1 * length * times, atol=1e-9)
        assert float(found["momentum_truth"].max()) < 1e-6 * float(found["momentum_size"])
        assert float(found["momentum_drift"][-1]) > 100 * float(found["momentum_truth"].max())

    def test_long_runs_of_one_process_look_alike_and_others_do_not(self) -> None:
        u, v = _field(0, trajectories=40, ndim=1), _field(1, trajectories=60, ndim=1)
        alike = metrics.long_run(u, v)
        # 40 trajectories times 6 times of 24 points, correlated over 3: some 2,000 values, 0.02 of the deviation.
        assert abs(alike["mean"]) < 0.1
        assert abs(alike["std"]) < 0.1
        assert alike["distribution"] < 0.1
        assert alike["spectrum"] < 0.15
        moved = metrics.long_run(u, u + 2 * float(u.std()))
        assert moved["mean"] == pytest.approx(2)
        assert moved["distribution"] == pytest.approx(2)
        grown = metrics.long_run(u, 3 * u)
        assert grown["std"] == pytest.approx(2)
        assert grown["largest"] == pytest.approx(3)
        assert grown["spectrum"] == pytest.approx(np.log10(9))
        with pytest.raises(DataError, match="on different grids"):
            metrics.long_run(u, v.isel(x=slice(12)))


class TestSharpness:
    def test_a_standard_deviation_that_is_the_error_is_perfect_and_a_random_one_is_worthless(self) -> None:
        u, m = _field(), _field(1)
        assert float(metrics.ause(u, m, abs(u - m))) == pytest.approx(0, abs=1e-12)
        assert float(metrics.ause(u, m, abs(_field(7)))) == pytest.approx(1, abs=0.1)
        assert float(metrics.ause(u, m, 1 / (abs(u - m) + 1e-3))) > 1.2
        curve = metrics.sparsification(u, m, abs(u - m))
        np.testing.assert_allclose(curve.sel(order="std"), curve.sel(order="error"))
        assert float(curve.sel(fraction=0, order="std")) == pytest.approx(1)

    def test_sparsification_of_two_groups_is_known(self) -> None:
        error = np.repeat([1.0, 3.0], 50)
        u = xr.DataArray(0 * error, dims="x")
        curve = metrics.sparsification(u, u + error, u + error, [0, 0.5])
        np.testing.assert_allclose(curve.sel(order="std"), [1, 1 / np.sqrt(5)])

    def test_histogram_of_the_transform_is_flat_for_a_right_forecast(self) -> None:
        rng = np.random.default_rng(0)
        m, s = rng.normal(size=(2, 40_000))
        mean, std = xr.DataArray(m, dims="x"), xr.DataArray(np.exp(s), dims="x")
        truth = mean + std * rng.normal(size=40_000)
        flat = metrics.pit_histogram(truth, mean, std)
        np.testing.assert_allclose(flat, 1, atol=4 * np.sqrt(0.9 / 4000))
        narrow = metrics.pit_histogram(truth, mean, std / 3)
        assert float(narrow[0]) > 2
        assert float(narrow[5]) < 0.7

    def test_points_outside_of_the_domain_are_taken_out_of_every_score(self) -> None:
        u, v = _field(), _field(1)
        mask = np.ones(u.shape[2:], bool)
        mask[3:9, 4:] = False
        junk = xr.where(xr.DataArray(mask, dims=("y", "x")), v, np.nan).transpose(*v.dims)
        a, b = (metrics.in_domain(each, mask) for each in (u, junk))
        assert a.sizes == {"trajectory": 3, "time": 6, "x": int(mask.sum())}
        error = ((u - v).values[..., mask] ** 2).sum() / (u.values[..., mask] ** 2).sum()
        assert float(metrics.relative_l2(a, b)) == pytest.approx(np.sqrt(error))
        assert metrics.vrmse(a, b).dims == ("trajectory", "time")
        both = metrics.in_domain(xr.Dataset({"u": u, "mask": (("y", "x"), mask)}).transpose(..., "y", "x"), mask)
        xr.testing.assert_equal(both["u"], a)
        assert metrics.in_domain(u, None) is u
