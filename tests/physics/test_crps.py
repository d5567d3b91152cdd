"""The almost-fair score: closed form against brute force, other libraries, and its two limits."""

from __future__ import annotations

import math

import pytest
import scoringrules
import torch

from romvae.distributions.crps import ensemble_crps


@pytest.fixture
def members():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(6, 40, generator=generator, dtype=torch.float64)
    std = 0.1 + torch.rand(6, 40, generator=generator, dtype=torch.float64)
    return mean, std, torch.randn(40, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.95, 1.0])
def test_it_is_the_double_sum_of_the_definition(members, alpha):
    mean, _, truth = members
    m = len(mean)
    weight = (1 - (1 - alpha) / m) / (2 * m * (m - 1))
    direct = (mean - truth).abs().mean(0) - weight * (mean[:, None] - mean[None]).abs().sum((0, 1))
    torch.testing.assert_close(ensemble_crps(mean, truth, alpha=alpha), direct, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("alpha", "estimator"), [(0.0, "nrg"), (1.0, "fair")])
def test_its_limits_are_the_plain_and_the_fair_score_of_scoringrules(members, alpha, estimator):
    mean, _, truth = members
    theirs = scoringrules.crps_ensemble(truth.numpy(), mean.T.numpy(), estimator=estimator)
    torch.testing.assert_close(ensemble_crps(mean, truth, alpha=alpha), torch.from_numpy(theirs))


def test_gaussian_members_without_fairness_are_a_mixture(members):
    mean, std, truth = members
    theirs = scoringrules.crps_mixnorm(truth.numpy(), mean.T.numpy(), std.T.numpy())
    torch.testing.assert_close(ensemble_crps(mean, truth, std, 0.0), torch.as_tensor(theirs), rtol=1e-6, atol=1e-8)


def test_one_gaussian_has_the_closed_score_of_a_gaussian(members):
    mean, std, truth = members
    theirs = scoringrules.crps_normal(truth.numpy(), mean[0].numpy(), std[0].numpy())
    torch.testing.assert_close(ensemble_crps(mean[:1], truth, std[:1]), torch.as_tensor(theirs))


def test_narrow_gaussians_are_numbers(members):
    mean, _, truth = members
    narrow = ensemble_crps(mean, truth, torch.full_like(mean, 1e-12), 0.95)
    torch.testing.assert_close(narrow, ensemble_crps(mean, truth, alpha=0.95), rtol=1e-9, atol=1e-9)


def test_the_fair_score_does_not_depend_on_the_number_of_members():
    # E of the score of a perfect Gaussian ensemble is 1 / sqrt(pi), whatever M; the plain one is larger by 1 + 1 / M.
    generator = torch.Generator().manual_seed(1)
    expected = 1 / math.sqrt(math.pi)
    for members in (2, 8):
        draws = torch.randn(members, 200_000, generator=generator, dtype=torch.float64)
        truth = torch.randn(200_000, generator=generator, dtype=torch.float64)
        # the standard error of the mean of 200,000 scores is below 0.0015
        assert float(ensemble_crps(draws, truth, alpha=1.0).mean()) == pytest.approx(expected, abs=0.006)
        assert float(ensemble_crps(draws, truth, alpha=0.0).mean()) == pytest.approx(
            expected * (1 + 1 / members), abs=0.006
        )


def test_it_has_gradients_where_members_coincide():
    mean = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    std = torch.full((4, 3), 0.1, dtype=torch.float64, requires_grad=True)
    ensemble_crps(mean, torch.ones(3, dtype=torch.float64), std).sum().backward()
    for leaf in (mean, std):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
    assert (mean.grad < 0).all()  # towards the truth
