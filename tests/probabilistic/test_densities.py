"""Densities integrate to one, moments are those of the density, samples follow it; divergences are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from romvae.distributions import (
    ContinuousBernoulli,
    Fields,
    FlowCode,
    analytic,
    divergence,
    kl_standard_normal,
    moments,
    reparameterise,
)
from romvae.distributions.continuous_bernoulli import log_normaliser, logit_of_mean
from romvae.nn import FieldDecoder, Layout
from romvae.nn.observation import (
    BernoulliFields,
    ContinuousBernoulliFields,
    FixedGaussian,
    LocalGaussian,
    LocalStudentT,
    SharedGaussian,
)
from romvae.nn.posterior import POSTERIORS
from romvae.priors import PRIORS, StandardNormalPrior

LOGITS = [-100.0, -17.0, -2.0, -0.31, -0.29, -1e-3, 0.0, 1e-6, 0.05, 0.3, 1.0, 30.0, 100.0]


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- continuous Bernoulli


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_integrates_to_one_and_has_its_moments(logit):
    p = ContinuousBernoulli(torch.tensor(logit, dtype=torch.float64))

    def density(x: float, power: int = 0) -> float:
        return x**power * math.exp(float(p.log_prob(torch.tensor(x, dtype=torch.float64))))

    # The mass sits within a few 1/|logit| of one end: tell the quadrature where.
    split = [min(0.5, 20 / max(abs(logit), 1)), 1 - min(0.5, 20 / max(abs(logit), 1))]
    total, mean, square = (
        scipy.integrate.quad(density, 0, 1, args=(k,), points=split, epsabs=1e-14, epsrel=1e-13)[0] for k in range(3)
    )
    assert total == pytest.approx(1, abs=1e-12)
    assert float(p.mean) == pytest.approx(mean, abs=1e-12)
    assert float(p.variance) == pytest.approx(square - mean**2, abs=1e-11)


def test_continuous_bernoulli_at_one_half_has_normaliser_log_two():
    """In the parametrisation by lambda = sigmoid(eta): C(1/2) = 2, that is A(0) = 0 with (1 - lambda) split off."""
    assert float(log_normaliser(torch.zeros((), dtype=torch.float64))) == 0.0
    p = ContinuousBernoulli(torch.zeros((), dtype=torch.float64))
    library = torch.distributions.ContinuousBernoulli(logits=torch.zeros((), dtype=torch.float64))
    x = torch.tensor(0.3, dtype=torch.float64)
    assert float(p.log_prob(x)) == pytest.approx(float(library.log_prob(x)), abs=1e-6)


def test_continuous_bernoulli_is_accurate_in_single_precision_where_the_library_is_not():
    logits = torch.tensor([17.0, 30.0, 60.0, 100.0, -45.0])
    x = torch.tensor(0.4)
    exact = ContinuousBernoulli(logits.double()).log_prob(x.double())
    error = (ContinuousBernoulli(logits).log_prob(x).double() - exact).abs() / exact.abs()
    assert float(error.max()) < 1e-6
    library = torch.distributions.ContinuousBernoulli(logits=logits[:1]).log_prob(x).double()
    assert abs(float(library - exact[0])) > 0.05  # why there is a form of our own


def test_continuous_bernoulli_is_smooth_where_its_two_forms_meet():
    logits = torch.tensor([-0.3, -0.1, 0.2999999, 0.3000001, 2.0, -9.0], dtype=torch.float64, requires_grad=True)
    x = torch.rand(6, dtype=torch.float64, generator=_generator())
    assert torch.autograd.gradcheck(lambda t: ContinuousBernoulli(t).log_prob(x), logits)
    assert torch.autograd.gradgradcheck(log_normaliser, logits)
    slope = torch.autograd.grad(log_normaliser(logits).sum(), logits)[0]
    torch.testing.assert_close(slope, ContinuousBernoulli(logits.detach()).mean, rtol=1e-11, atol=1e-12)


def test_samples_of_the_continuous_bernoulli_follow_its_distribution():
    p = ContinuousBernoulli(torch.tensor([-6.0, -1e-5, 0.0, 2.0], dtype=torch.float64))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = p.rsample((100_000,))
    assert bool(((x >= 0) & (x <= 1)).all())
    error = (x.mean(0) - p.mean).abs() / (p.variance / 1e5).sqrt()
    assert float(error.max()) < 4  # standard errors
    u = torch.rand(50, 4, dtype=torch.float64, generator=_generator())
    torch.testing.assert_close(p.cdf(p.icdf(u)), u, atol=1e-9, rtol=0)


def test_logit_of_mean_inverts_the_mean():
    mean = torch.tensor([0.005, 0.1, 0.29, 0.31, 0.5, 0.6, 0.71, 0.995], dtype=torch.float64)
    torch.testing.assert_close(ContinuousBernoulli(logit_of_mean(mean)).mean, mean, rtol=1e-10, atol=0)


# -- observation models


def _decoders(latent: int = 2) -> tuple[FieldDecoder, FieldDecoder]:
    layout = Layout(2, (9,), (("periodic", "periodic"),), latent, 3, (4,), 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mean, head = FieldDecoder(layout), FieldDecoder(layout, linear=False, smooth=0)
        torch.nn.init.normal_(head.head.conv.weight, std=0.3)
    return mean.double(), head.double()


def _observations(mask: torch.Tensor | None = None) -> dict[str, torch.nn.Module]:
    models: dict[str, torch.nn.Module] = {
        "fixed": FixedGaussian(_decoders()[0], [0.1, 0.3], mask),
        "shared": SharedGaussian(_decoders()[0], mask=mask),
        "local": LocalGaussian(*_decoders(), mask=mask),
        "student_t": LocalStudentT(*_decoders(), mask=mask),
        "bernoulli": BernoulliFields(_decoders()[0], mask),
        "continuous_bernoulli": ContinuousBernoulliFields(_decoders()[0], mask),
    }
    for name in ("local", "student_t"):
        models[name].local.fill_(True)
    return {name: model.double() for name, model in models.items()}


NAMES = list(_observations())
SUPPORT = {"bernoulli": None, "continuous_bernoulli": (0.0, 1.0)}


@pytest.mark.parametrize("name", NAMES)
def test_every_observation_model_is_a_density_with_the_moments_it_states(name):
    """Of each value by quadrature; the joint density is the product."""
    p = _observations()[name](torch.randn(1, 2, dtype=torch.float64, generator=_generator(1)))
    assert isinstance(p, Fields)
    mean, var = float(p.mean[0, 1, 4]), float(p.variance[0, 1, 4])

    def one(x: float) -> float:
        return math.exp(float(p.base_dist.log_prob(torch.full_like(p.mean, x))[0, 1, 4]))

    if name == "bernoulli":
        assert one(0.0) + one(1.0) == pytest.approx(1, abs=1e-12)
        assert one(1.0) == pytest.approx(mean, abs=1e-12)
        assert mean * (1 - mean) == pytest.approx(var, abs=1e-12)
        return
    low, high = SUPPORT.get(name) or (mean - np.inf, mean + np.inf)
    integrals = [
        scipy.integrate.quad(lambda x, k=k: (x - mean) ** k * one(x), low, high, epsabs=1e-12, limit=200)[0]
        for k in range(3)
    ]
    assert integrals[0] == pytest.approx(1, abs=1e-8)
    assert integrals[1] == pytest.approx(0, abs=1e-8)
    assert integrals[2] == pytest.approx(var, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_stated_moments(name):
    p = _observations()[name](torch.randn(1, 2, dtype=torch.float64, generator=_generator(1)))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        x = p.sample((40_000,))
    error = (x.mean(0) - p.mean).abs() / (p.variance / len(x)).sqrt()
    assert float(error.max()) < 4.5  # standard errors, the largest of 18
    torch.testing.assert_close(x.var(0), p.variance, rtol=0.15, atol=1e-6)  # heavy tails of the Student-t


@pytest.mark.parametrize("name", NAMES)
def test_points_outside_the_domain_carry_no_likelihood_and_no_variance(name):
    mask = torch.ones(9, dtype=torch.bool)
    mask[3:5] = False
    z = torch.randn(4, 2, dtype=torch.float64, generator=_generator(2))
    model = _observations(mask)[name]
    x = torch.rand(4, 2, 9, dtype=torch.float64, generator=_generator(3)).round(decimals=0)
    other = x.clone()
    other[..., 3:5] = 1 - other[..., 3:5]
    p = model(z)
    assert torch.equal(p.log_prob(x), p.log_prob(other))
    assert float(p.variance[..., 3:5].abs().max()) == 0
    everywhere = _observations()[name](z)
    inside = torch.where(mask, everywhere.base_dist.log_prob(x), torch.zeros(())).sum((1, 2))
    torch.testing.assert_close(p.log_prob(x), inside, rtol=1e-12, atol=1e-12)
    trained = model.log_likelihood(model.inside(x), z)
    again = model.log_likelihood(model.inside(other), z)
    torch.testing.assert_close(trained, again, rtol=1e-12, atol=1e-12)


def test_the_profiled_likelihood_with_a_mask_is_that_of_the_points_inside():
    mask = torch.tensor([True, True, False, True, False, True, True, True, True])
    model = SharedGaussian(_decoders()[0], mask=mask).double()
    residual = torch.randn(5, 2, 9, dtype=torch.float64, generator=_generator())
    value = model.profiled(model.inside(residual))
    var = residual[..., mask].square().mean((0, 2)) + model.floor**2
    direct = -0.5 * 7 * (var.log() + math.log(2 * math.pi) + 1).sum()
    torch.testing.assert_close(value, direct, rtol=1e-12, atol=0)


# -- posteriors, priors and the divergence between them


@pytest.mark.parametrize("kind", list(POSTERIORS))
def test_posterior_density_and_samples_agree(kind):
    """E_q of importance weights of a wide Gaussian is one: the density belongs to the samples."""
    if kind == "flow":
        pytest.importorskip("zuko")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = POSTERIORS[kind](2).double()
        values = 0.3 * torch.randn(1, head.numbers, dtype=torch.float64)
    q = head(values, torch.tensor([[0.2, -0.5]], dtype=torch.float64))
    noise = torch.randn(200_000, 1, 2, dtype=torch.float64, generator=_generator())
    with torch.no_grad():
        z = reparameterise(q, noise)
        mean, std = moments(q)
        reference = Independent(Normal(z.mean(0), 0.8 * z.std(0)), 1)
        weight = (reference.log_prob(z) - q.log_prob(z.clone())).exp()
    assert abs(float(weight.mean()) - 1) < 5 * float(weight.std()) / len(weight) ** 0.5
    torch.testing.assert_close(mean, z.mean(0), atol=0.05 * float(std.max()), rtol=0)
    torch.testing.assert_close(std, z.std(0), rtol=0.05, atol=0)


def test_change_of_variables_of_a_flow_by_quadrature():
    pytest.importorskip("zuko")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = POSTERIORS["flow"](2).double()
        values = 0.5 * torch.randn(1, head.numbers, dtype=torch.float64)
    q = head(values, torch.zeros(1, 2, dtype=torch.float64))
    assert isinstance(q, FlowCode)
    axis = torch.linspace(-12, 12, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis).unsqueeze(1)
    with torch.no_grad():
        density = q.log_prob(grid).exp().reshape(401, 401)
    assert float(torch.trapezoid(torch.trapezoid(density, axis), axis)) == pytest.approx(1, abs=1e-4)
    drawn = q.at(torch.randn(7, 1, 2, dtype=torch.float64, generator=_generator()))
    torch.testing.assert_close(q.log_prob(drawn), q.log_prob(drawn.clone()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", list(PRIORS))
def test_priors_are_densities(kind):
    if kind == "flow":
        pytest.importorskip("zuko")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        p = PRIORS[kind](2).double()()
    axis = torch.linspace(-12, 12, 601, dtype=torch.float64)
    with torch.no_grad():
        density = p.log_prob(torch.cartesian_prod(axis, axis)).exp().reshape(601, 601)
    assert float(torch.trapezoid(torch.trapezoid(density, axis), axis)) == pytest.approx(1, abs=1e-3)


def test_divergence_of_a_full_covariance_is_the_library_s():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = POSTERIORS["full"](3).double()
        q = head(torch.randn(5, head.numbers, dtype=torch.float64), 0.0)
    p = StandardNormalPrior(3).double()()
    assert analytic(q, p)
    standard = MultivariateNormal(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(divergence(q, p).sum(-1), kl_divergence(q, standard), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_divergence_in_closed_form_is_the_mean_of_its_estimates(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = POSTERIORS[kind](3).double()
        q = head(torch.randn(1, head.numbers, dtype=torch.float64), 0.0)
    p = StandardNormalPrior(3).double()()
    z = reparameterise(q, torch.randn(100_000, 1, 3, dtype=torch.float64, generator=_generator()))
    estimates = divergence(q, p, z).detach()
    error = float(estimates.std()) / len(z) ** 0.5
    assert abs(float(estimates.mean()) - float(divergence(q, p).detach().sum())) < 4 * error


def test_known_slips_are_not_the_divergence():
    """Three formulas in circulation: one has its minimum at std = 1/sqrt(2), one fourth powers, one no square."""
    mean, std = torch.tensor(0.4, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    right = float(kl_standard_normal(mean, std))
    assert right == pytest.approx(float(kl_divergence(Normal(mean, std), Normal(0.0, 1.0))), rel=1e-12)
    var = std**2
    assert abs(float(var + mean**2 - std.log() - 0.5) - right) > 0.1
    assert abs(float(0.5 * (var**2 + mean**2 - 1 - var.log())) - right) > 0.01
    # Reparameterised with the variance in place of the standard deviation, the samples are too narrow.
    noise = torch.randn(100_000, dtype=torch.float64, generator=_generator())
    q = Independent(Normal(mean.reshape(1, 1), std.reshape(1, 1)), 1)
    z = reparameterise(q, noise.reshape(-1, 1, 1)).flatten()
    assert float(z.std()) == pytest.approx(float(std), rel=0.01)
    assert float((mean + var * noise).std()) < 0.5 * float(std)


def test_no_closed_form_is_said():
    p = PRIORS["mixture"](2)()
    q = Independent(Normal(torch.zeros(1, 2), torch.ones(1, 2)), 1)
    with pytest.raises(ValueError, match="no closed form"):
        divergence(q, p)
