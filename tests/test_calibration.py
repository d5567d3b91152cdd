"""Calibration: exact on a toy with known noise, the conformal law, interpolation over lead times."""

from __future__ import annotations

import math

import pytest
import torch

from romvae.calibration import Calibration, conformal_quantile, frontier, scaled
from romvae.errors import DataError


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_variance_factor_is_the_exact_minimiser_of_the_likelihood():
    ratio = 3.0 * _noise(2, 1, 10, 50).abs()
    calibration = Calibration(1).fit(torch.tensor([0, 1]), ratio)
    factor, _ = calibration.at(torch.tensor([0, 1]), 0.9)
    torch.testing.assert_close(factor[:, 0].double() ** 2, ratio.square().mean((1, 2, 3)), rtol=1e-5, atol=0)

    def likelihood(s: torch.Tensor) -> torch.Tensor:
        return 0.5 * (2 * s.log() + (ratio[0] / s).square()).mean()

    best = factor[0, 0].double()
    assert likelihood(best) <= likelihood(best * 1.05)
    assert likelihood(best) <= likelihood(best * 0.95)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_intervals_cover_new_data_though_the_spread_was_wrong_and_the_errors_have_heavy_tails(level):
    """A forecast that claims a third of the true spread, growing with lead time, Laplace errors."""
    scale = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]).reshape(-1, 1, 1, 1)

    def errors(seed: int) -> torch.Tensor:
        normal = _noise(5, 1, 200, 300, seed=seed)
        return 3 * scale * normal * _noise(5, 1, 200, 300, seed=seed + 1).abs()

    leads = torch.arange(5)
    calibration = Calibration(1).fit(leads, errors(1).abs() / scale)
    factor, width = calibration.at(leads, level)
    inside = errors(7).abs() <= (factor * width).reshape(5, 1, 1, 1) * scale
    # 60,000 independent values a lead time; the moving average over lead times costs nothing: the ratio is constant.
    for covered in inside.double().mean((1, 2, 3)).tolist():
        assert covered == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 60_000) + 0.006)


def test_split_conformal_coverage_follows_its_beta_law():
    n, level, repeats = 50, 0.9, 4000
    quantile = conformal_quantile(_noise(repeats, n).abs(), level, n)
    coverage = torch.erf(quantile / math.sqrt(2))
    k = math.ceil((n + 1) * level)
    mean, var = k / (n + 1), k * (n + 1 - k) / ((n + 1) ** 2 * (n + 2))
    assert float(coverage.mean()) == pytest.approx(mean, abs=4 * math.sqrt(var / repeats))
    assert float(coverage.var()) == pytest.approx(var, rel=0.15)


def test_between_stored_lead_times_the_factor_is_interpolated_and_held_beyond_the_last():
    calibration = Calibration(1)
    ratio = torch.stack([torch.full((1, 4, 9), value) for value in (1.0, 4.0)])
    calibration.fit(torch.tensor([0, 10]), ratio)
    factor, _ = calibration.at(torch.tensor([0, 5, 10, 40]), 0.9)
    torch.testing.assert_close(factor[:, 0], torch.tensor([1.0, 2.0, 4.0, 4.0]))


def test_an_unfitted_calibration_is_the_normal_one():
    factor, width = Calibration(2).at(torch.tensor([0, 3]), 0.9)
    torch.testing.assert_close(factor, torch.ones(2, 2))
    torch.testing.assert_close(width, torch.full((2, 2), 1.6448536), rtol=1e-6, atol=0)


def test_widths_grow_with_the_level():
    calibration = Calibration(1).fit(torch.arange(3), _noise(3, 1, 30, 40).abs())
    widths = [float(calibration.at(torch.tensor([1]), level)[1]) for level in (0.1, 0.5, 0.6, 0.8, 0.9, 0.97)]
    assert widths == sorted(widths)


def test_only_levels_with_a_quantile_of_their_own_are_guaranteed():
    calibration = Calibration(1).fit(torch.arange(3), _noise(3, 1, 60, 40).abs())
    assert all(calibration.guarantee(level).attained for level in (0.5, 0.8, 0.9, 0.95))
    assert not any(calibration.guarantee(level).attained for level in (0.3, 0.85, 0.97))
    assert "No 97 % guarantee" in str(calibration.guarantee(0.97))
    assert "Ask for one of 50 %, 80 %, 90 %, 95 %" in str(calibration.guarantee(0.97))
    assert calibration.guarantee(0.85, "run").attained  # its scores are all kept


def test_fitted_factors_survive_saving_though_their_number_differs():
    calibration = Calibration(2).fit(torch.arange(6), _noise(6, 2, 8, 20).abs())
    other = Calibration(2)
    other.load_state_dict(calibration.state_dict())
    for a, b in zip(calibration.at(torch.arange(9), 0.8), other.at(torch.arange(9), 0.8), strict=True):
        assert torch.equal(a, b)
    assert other.fitted


def test_no_trajectory_is_refused():
    with pytest.raises(DataError, match="no trajectory to calibrate on"):
        Calibration(1).fit(torch.arange(2), torch.zeros(2, 1, 0, 5))


def test_intervals_of_higher_levels_hold_those_of_lower_ones_even_where_trajectories_are_too_few():
    """18 are enough for 90 %, not for 95 %; where errors are this rare, a Gaussian at 95 % is the narrower one."""
    ratio = (torch.rand(3, 1, 18, 200) < 0.08).float()
    calibration = Calibration(1).fit(torch.arange(3), ratio)
    widths = torch.stack([calibration.at(torch.arange(3), level)[1] for level in (0.5, 0.8, 0.9, 0.95)])
    assert bool((widths.diff(dim=0) >= 0).all())
    assert not calibration.guarantee(0.95).attained


def _uneven(power: float, n: int = 60, seed: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors whose deviation is the claimed one to a power, growing with the lead time; errors and claims."""
    claimed = (0.7 * _noise(4, 2, n, 400, seed=seed)).exp()
    growth = torch.tensor([1.0, 2.0, 3.0, 5.0]).reshape(-1, 1, 1, 1)
    return growth * claimed**power * _noise(4, 2, n, 400, seed=seed + 1), claimed


@pytest.mark.parametrize("power", [0.5, 1.0, 1.3])
def test_a_spread_that_is_too_uneven_or_too_even_is_put_right(power):
    """With 60 trajectories of 400 independent points the exponent is known to a few thousandths."""
    errors, claimed = _uneven(power)
    leads = torch.arange(4)
    calibration = Calibration(2).fit(leads, errors.abs() / claimed, std=claimed)
    torch.testing.assert_close(1 + calibration.shape[:, 0], torch.full((2,), power))
    factor, width = calibration.at(leads, 0.9)
    torch.testing.assert_close(factor, torch.tensor([1.0, 2.0, 3.0, 5.0])[:, None].expand(-1, 2), rtol=0.03, atol=0)
    fresh, given = _uneven(power, seed=50)
    shape = (4, 2, 1, 1)
    std = scaled(factor.reshape(shape), given, calibration.spread, 1) * given
    # Spread over error is 1, and every part of the range of spreads is covered alike.
    assert float((std.square().mean() / fresh.square().mean()).sqrt()) == pytest.approx(1, abs=0.03)
    inside = (fresh.abs() <= width.reshape(shape) * std).double()
    for part in (given < given.median(), given >= given.median()):
        assert float(inside[part].mean()) == pytest.approx(0.9 * 61 / 60, abs=0.01)  # (n + 1) / n of the level


def test_few_trajectories_leave_the_exponent_alone():
    errors, claimed = _uneven(0.5, n=19)
    calibration = Calibration(2).fit(torch.arange(4), errors.abs() / claimed, std=claimed)
    assert calibration.spread is None


@pytest.mark.parametrize("amount", [1.0, 3.0])
def test_a_spread_that_is_wrong_where_it_is_largest_is_put_right_there(amount):
    """No power of the spread is right for this: the errors exceed it by a factor at the top tenth of its range only."""

    def draw(seed):
        claimed = (0.7 * _noise(4, 1, 60, 400, seed=seed)).exp()
        true = claimed * torch.where(claimed > 2.5, amount, 1.0)
        return true * _noise(4, 1, 60, 400, seed=seed + 1), claimed, true

    errors, claimed, _ = draw(5)
    leads = torch.arange(4)
    calibration = Calibration(1).fit(leads, errors.abs() / claimed, std=claimed)
    fresh, given, true = draw(50)
    factor = calibration.at(leads, 0.9)[0].reshape(4, 1, 1, 1)
    std = scaled(factor, given, calibration.spread, 1) * given
    assert float((std.square().mean() / fresh.square().mean()).sqrt()) == pytest.approx(1, abs=0.05)
    away = (given < 2.2) | (given > 2.8)  # the step itself is spread over a bin
    assert float((std / true)[away].log().square().mean().sqrt()) < 0.06


@pytest.mark.parametrize(("n", "unlike"), [(30, 0.7), (60, 0.3)])
def test_bands_hold_for_new_trajectories_whose_levels_of_spread_and_error_differ(n, unlike):
    """A function that knew the errors of the trajectories it is scored on would be too sure of new ones."""
    leads, repeats, fresh = torch.arange(3), 12, 200
    held = []
    for seed in range(repeats):
        level = _noise(1, 1, n + fresh, 1, seed=3 * seed).exp()
        claimed = level * (0.1 * _noise(3, 1, n + fresh, 60, seed=3 * seed + 1)).exp()
        errors = claimed * (unlike * _noise(1, 1, n + fresh, 1, seed=100 + seed)).exp()
        errors = errors * _noise(3, 1, n + fresh, 60, seed=3 * seed + 2)
        ratio = errors.abs() / claimed
        calibration = Calibration(1).fit(leads, ratio[:, :, :n], std=claimed[:, :, :n])
        factor = calibration.at(leads, 0.9)[0].reshape(3, 1, 1, 1)
        std = (scaled(factor, claimed, calibration.spread, 1) * claimed)[:, :, n:]
        score = errors[:, :, n:].abs() / std
        whole = (score <= calibration.width(leads, 0.9, "run", 0.9).reshape(3, 1, 1, 1)).double().mean((0, 1, 3))
        field = score.amax(-1) <= calibration.width(leads, 0.9, "field", 1.0).reshape(3, 1, 1)
        point = score <= calibration.width(leads, 0.9).reshape(3, 1, 1, 1)
        held.append([float(each.double().mean()) for each in (whole >= 0.9, field, point)])
    # Twelve draws from the law of a split-conformal coverage of n trajectories deviate by this in the mean, or less.
    tolerance = 3 * (0.9 * 0.1 * (1 / (n + 2) + 1 / fresh) / repeats) ** 0.5
    for share in torch.tensor(held).mean(0).tolist():
        assert share == pytest.approx(0.9 + 0.05 / n, abs=tolerance + 0.5 / n)


@pytest.mark.parametrize("most", [8, 256])
def test_the_largest_ratio_is_among_the_candidates_whatever_the_growing_function_is(most):
    generator = torch.Generator().manual_seed(0)
    std = torch.rand(5, 3, 1000, generator=generator).mul(6).exp()
    error = std.sqrt() * torch.randn(5, 3, 1000, generator=generator).abs()
    error[0], std[1] = 0.0, 1.0
    ratio, narrow = frontier(error, std, most)
    for h in (torch.sqrt, torch.ones_like, lambda v: v, lambda v: v**3, lambda v: 1 + (v > 20.0).float()):
        found, exact = (ratio * narrow / h(narrow)).amax(-1), (error / h(std)).amax(-1)
        assert bool((found >= exact * (1 - 1e-5)).all())
        if most == 256:
            torch.testing.assert_close(found, exact, rtol=1e-5, atol=0)


def test_what_is_no_number_stays_so_and_what_is_infinite_stays_large():
    errors, claimed = _uneven(0.5)
    calibration = Calibration(2).fit(torch.arange(4), errors.abs() / claimed, std=claimed)
    given = torch.tensor([[0.0, 1.0, torch.inf, torch.nan]]).expand(2, 4)
    found = scaled(torch.ones(()), given, calibration.spread, 0) * given
    assert found[:, 0].tolist() == [0.0, 0.0]
    assert bool(found[:, 1].isfinite().all())
    assert bool(found[:, 2].isinf().all())
    assert bool(found[:, 3].isnan().all())


def test_points_without_any_error_do_not_decide_for_the_others():
    errors, claimed = _uneven(1.0)
    errors[..., :30], claimed[..., :30] = 0.0, 1e-4
    calibration = Calibration(2).fit(torch.arange(4), errors.abs() / claimed, std=claimed)
    factor = calibration.at(torch.arange(4), 0.9)[0].reshape(4, 2, 1, 1)
    std = scaled(factor, claimed, calibration.spread, 1) * claimed
    # A factor below 1 goes with the points that have no error; what stands for the others is that of all fields alike.
    for part in (claimed > 1, (claimed <= 1) & (claimed > 1e-3)):
        spread, error = std[part].square().mean().sqrt(), errors[part].square().mean().sqrt()
        assert float(spread / error) == pytest.approx((370 / 400) ** 0.5, abs=0.06)


def test_bands_hold_all_points_though_a_sample_of_them_was_looked_at():
    errors, claimed = _uneven(0.5)
    some = slice(0, 40)
    leads = torch.arange(4)
    ratio = (errors.abs() / claimed)[..., some]
    calibration = Calibration(2).fit(leads, ratio, frontier(errors.abs(), claimed), std=claimed[..., some])
    factor = calibration.at(leads, 0.9)[0].reshape(4, 2, 1, 1)
    std = scaled(factor, claimed, calibration.spread, 1) * claimed
    largest = (errors.abs() / std).amax(-1)
    width = calibration.width(leads, 0.9, "field", 1.0)[..., None]
    share = (largest <= width).double().mean(-1)
    # The k-th smallest of 60 scores, k = ceil(0.9 * 61) = 55, where all of them are those of all points; scores of
    # others' functions differ by a little.
    torch.testing.assert_close(share, torch.full_like(share, 55 / 60), rtol=0, atol=0.04)
    of_sample = Calibration(2).fit(leads, ratio, std=claimed[..., some]).width(leads, 0.9, "field", 1.0)
    assert bool((of_sample < width[..., 0]).all())


def test_a_calibration_without_exponents_loads_as_it_was():
    calibration = Calibration(2).fit(torch.arange(6), _noise(6, 2, 8, 20).abs())
    weights = calibration.state_dict()
    del weights["shape"]
    other = Calibration(2)
    other.load_state_dict(dict(weights))
    assert other.spread is None
    other.load_state_dict({**weights, "exponent": torch.tensor([0.5, 1.2])})
    given = torch.logspace(-6, 6, 50).reshape(1, 1, -1).expand(1, 2, -1)
    powers = torch.tensor([0.5, 1.2]).reshape(2, 1)
    torch.testing.assert_close(scaled(torch.ones(()), given, other.spread, 1) * given, given**powers, rtol=1e-4, atol=0)


def test_a_field_whose_spread_vanishes_somewhere_leaves_the_other_its_exponent():
    errors, claimed = _uneven(0.5)
    claimed[:, 1, 0, 0] = 0.0
    ratio = errors.abs() / claimed.clamp_min(1e-6)
    found = Calibration(2).fit(torch.arange(4), ratio, std=claimed).shape
    assert (1 + found[:, 0]).tolist() == [0.5, 1.0]
    assert not found[1, 3:].any()
