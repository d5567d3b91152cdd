"""Closed forms against torch, Monte Carlo and the law of total variance."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from romvae.distributions import gaussian, kl_standard_normal, mixture_moments, soft_clamp


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_kl_agrees_with_the_library():
    mean = torch.randn(50, 4, dtype=torch.float64, generator=_generator())
    std = torch.rand(50, 4, dtype=torch.float64, generator=_generator(1)) + 0.1
    expected = kl_divergence(Normal(mean, std), Normal(torch.zeros_like(mean), torch.ones_like(std)))
    torch.testing.assert_close(kl_standard_normal(mean, std), expected, rtol=1e-12, atol=1e-12)


def test_kl_agrees_with_monte_carlo_within_four_standard_errors():
    mean, std = torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    z = mean + std * torch.randn(400_000, dtype=torch.float64, generator=_generator(2))
    ratio = Normal(mean, std).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    assert abs(float(ratio.mean() - kl_standard_normal(mean, std))) < 4 * float(ratio.std()) / len(ratio) ** 0.5


def test_kl_has_its_minimum_zero_at_the_prior():
    mean = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    std = torch.ones(1, dtype=torch.float64, requires_grad=True)
    kl = kl_standard_normal(mean, std).sum()
    kl.backward()
    assert float(kl) == 0.0
    assert mean.grad is not None
    assert std.grad is not None
    assert float(mean.grad.abs() + std.grad.abs()) == 0.0


@pytest.mark.parametrize("members", [1, 2, 16])
def test_total_variance_of_a_mixture_is_that_of_its_samples(members):
    mean = torch.randn(members, 3, dtype=torch.float64, generator=_generator(3))
    var = torch.rand(members, 3, dtype=torch.float64, generator=_generator(4)) + 0.2
    centre, within, between = mixture_moments(mean, var)
    # The population value of "between" has divisor M, the unbiased estimate M - 1.
    population = between * (members - 1) / members
    draws = mean[:, None] + var.sqrt()[:, None] * torch.randn(
        members, 200_000, 3, dtype=torch.float64, generator=_generator(5)
    )
    flat = draws.flatten(0, 1)
    torch.testing.assert_close(flat.mean(0), centre, atol=0.01, rtol=0)
    torch.testing.assert_close(flat.var(0), within + population, rtol=0.02, atol=0)


def test_soft_clamp_bounds_and_leaves_the_middle_alone():
    s = torch.tensor([-1000.0, -40.0, -7.0, -6.0, 30.0, 1000.0], dtype=torch.float64, requires_grad=True)
    y = soft_clamp(s, -14.0, 2.0)
    assert float(y.min()) >= -14.0
    assert float(y.max()) <= 2.0 + 1e-6
    torch.testing.assert_close(y[2:4], s[2:4], atol=2e-3, rtol=0)


def test_gaussian_integrates_to_one():
    p = gaussian(torch.tensor([0.3], dtype=torch.float64), torch.tensor([-1.2], dtype=torch.float64), 1)
    x = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    density = p.log_prob(x[:, None]).exp()
    assert float(torch.trapezoid(density, x)) == pytest.approx(1.0, abs=1e-10)
