"""Calibration: exact on a toy with known noise, the conformal law, interpolation over lead times."""

from __future__ import annotations

import math

import pytest
import torch

from romvae.calibration import Calibration, conformal_quantile
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
