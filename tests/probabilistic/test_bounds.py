"""Evidence lower bounds against the evidence: by quadrature, by more samples, with other posteriors and priors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from romvae.distributions import reparameterise
from romvae.nn import Encoder, FieldDecoder, Layout
from romvae.nn.observation import LocalGaussian, SharedGaussian
from romvae.objectives import Beta, Capacity, FreeBits, objective_of
from romvae.priors import prior_of
from romvae.training import MeanStage
from romvae.training.batches import SnapshotBatches, step_generator
from romvae.vae import VAE


def _vae(latent: int = 1, posterior: str = "diagonal", prior: str = "normal", points: int = 12) -> VAE:
    layout = Layout(1, (points,), (("periodic", "periodic"),), latent, 3, (4,), 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder = SharedGaussian(FieldDecoder(layout))
        vae = VAE(Encoder(layout, posterior=posterior), decoder, prior_of(prior, latent)).double()
        with torch.no_grad():
            decoder.log_var_shared.fill_(math.log(0.25))
            vae.encoder.head[-1].bias.zero_()  # a posterior as wide as the prior: a poor one
    return vae


def _evidence(vae: VAE, x: Tensor) -> Tensor:
    """log p(x) by the trapezoid rule over one latent; the integrand has decayed at the ends."""
    nodes = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    with torch.no_grad():
        p = vae.decoder(nodes[:, None])
        prior = vae.prior().log_prob(nodes[:, None])
        joint = torch.stack([Normal(p.mean, p.stddev).log_prob(one).flatten(1).sum(1) + prior for one in x])
    return torch.logsumexp(joint, 1) + math.log(float(nodes[1] - nodes[0]))


def _data(vae: VAE) -> Tensor:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        return vae.decoder(torch.randn(6, 1, dtype=torch.float64)).sample()


@pytest.mark.parametrize("prior", ["normal", "mixture"])
def test_importance_weighted_bound_grows_with_its_samples_and_stays_below_the_evidence(prior):
    vae = _vae(prior=prior)
    x = _data(vae)
    exact = _evidence(vae, x)
    generator = torch.Generator().manual_seed(0)
    previous = None
    with torch.no_grad():
        for samples in (1, 4, 16, 64):
            draws = torch.stack([vae.importance_weighted_bound(x, samples, generator) for _ in range(60)])
            mean, error = draws.mean(0), draws.std(0) / len(draws) ** 0.5
            assert bool((mean <= exact + 3 * error).all())
            if previous is not None:
                assert bool((mean >= previous[0] - 3 * (error + previous[1])).all())
            previous = (mean, error)
    assert bool((exact - previous[0] < 0.5).all())  # close to it with 64 samples in one dimension


@pytest.mark.parametrize("posterior", ["diagonal", "full", "flow"])
@pytest.mark.parametrize("prior", ["normal", "mixture", "flow"])
def test_the_bound_lies_below_the_evidence_for_every_posterior_and_prior(posterior, prior):
    if "flow" in (posterior, prior):
        pytest.importorskip("zuko")
    vae = _vae(posterior=posterior, prior=prior)
    x = _data(vae)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        draws = torch.stack([vae.elbo(x, generator).value for _ in range(200)])
    assert bool((draws.mean(0) <= _evidence(vae, x) + 3 * draws.std(0) / 200**0.5).all())


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_both_estimators_have_the_same_mean(posterior):
    vae = _vae(latent=3, posterior=posterior)
    x = torch.randn(4, 1, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        both = [
            torch.stack([vae.elbo(x, torch.Generator().manual_seed(i), 8, kind).value for i in range(200)])
            for kind in ("analytic", "monte_carlo")
        ]
    error = (both[0] - both[1]).std(0) / 200**0.5
    assert bool(((both[0] - both[1]).mean(0).abs() < 4 * error).all())


def test_more_samples_lower_the_variance_of_the_estimate_and_not_its_mean():
    vae = _vae()
    x = _data(vae)
    with torch.no_grad():
        few, many = (
            torch.stack([vae.elbo(x, torch.Generator().manual_seed(i), n).value for i in range(300)]) for n in (1, 16)
        )
    ratio = few.var(0) / many.var(0)
    assert bool(((ratio > 9) & (ratio < 28)).all())  # 16, known from 300 draws to about a fifth at two sigma
    error = (few.var(0) / 300 + many.var(0) / 300).sqrt()
    assert bool(((few.mean(0) - many.mean(0)).abs() < 4 * error).all())


def test_analytic_is_refused_where_there_is_no_closed_form():
    with pytest.raises(ValueError, match="no closed form"):
        _vae(prior="mixture").elbo(torch.zeros(2, 1, 12, dtype=torch.float64), estimator="analytic")


# -- objectives


KL = torch.tensor([[0.01, 2.0, 0.3], [0.03, 4.0, 0.1]], dtype=torch.float64)


def test_beta_is_a_weight_with_its_schedules():
    assert float(Beta(2.0)(KL, 0.5)) == pytest.approx(2 * float(KL.sum(1).mean()))
    warm, cycle = Beta(2.0, "warmup", share=0.25), Beta(1.0, "cyclic", cycles=2)
    assert [warm.at(t) for t in (0.0, 0.125, 0.25, 1.0)] == pytest.approx([0, 1, 2, 2])
    assert [cycle.at(t) for t in (0.0, 0.125, 0.25, 0.4, 0.5, 0.625, 1.0)] == pytest.approx([0, 0.5, 1, 1, 0, 0.5, 1])


def test_free_bits_cost_nothing_below_the_threshold_and_leave_no_gradient_there():
    kl = KL.clone().requires_grad_()
    value = FreeBits(0.5)(kl, 0.3)
    assert float(value.detach()) == pytest.approx(0.5 + 3.0 + 0.5)
    value.backward()
    assert float(kl.grad[:, [0, 2]].abs().max()) == 0
    torch.testing.assert_close(kl.grad[:, 1], torch.full((2,), 0.5, dtype=torch.float64))


def test_capacity_pulls_to_its_target_from_both_sides():
    objective = Capacity(10.0, weight=3.0)
    assert objective.target(0.25) == 5.0
    assert float(objective(KL, 1.0)) == pytest.approx(3 * abs(float(KL.sum(1).mean()) - 10))
    for scale in (0.1, 10.0):
        kl = (KL * scale).requires_grad_()
        objective(kl, 1.0).backward()
        assert float(kl.grad.sum().sign()) == (1 if float((KL * scale).sum(1).mean()) > 10 else -1)


def test_objectives_are_made_by_name():
    choices = {"beta": 4.0, "beta_schedule": "warmup", "free_bits": 0.2, "capacity": 7.0}
    assert objective_of("elbo", choices) == Beta()
    assert objective_of("beta", choices) == Beta(4.0, "warmup")
    assert objective_of("free_bits", choices) == FreeBits(0.2)
    assert objective_of("capacity", choices) == Capacity(7.0)


def _trained_divergence(objective, steps: int = 400) -> float:
    """Total divergence of codes after a short training without Lightning, on two-parameter waves."""
    g = torch.Generator().manual_seed(0)
    phase, size = 2 * math.pi * torch.rand(512, 1, generator=g), 0.5 + torch.rand(512, 1, generator=g)
    grid = torch.arange(12) / 12
    x = (size * torch.sin(2 * math.pi * grid + phase)).unsqueeze(1) + 0.05 * torch.randn(512, 1, 12, generator=g)
    vae = _vae(latent=4).float()
    vae.decoder.local = torch.tensor(False)
    stage = MeanStage(vae, steps, objective=objective)
    optimiser = torch.optim.Adam(stage.trained(), 5e-3)
    batches = SnapshotBatches(x, 64, steps, 0, noise=(1, 4))
    for step in range(steps):
        stage.offset = step
        optimiser.zero_grad()
        stage.loss(batches.batch(step_generator(0, "snapshots", step), step)).backward()
        optimiser.step()
    with torch.no_grad():
        return float(vae.elbo(x, torch.Generator().manual_seed(0)).kl.mean())


@pytest.mark.slow
def test_capacity_and_free_bits_hold_their_targets_in_training():
    assert _trained_divergence(Capacity(6.0)) == pytest.approx(6.0, abs=0.5)
    # A weight that would collapse the code: free bits keep what they give away, and no more is worth its price.
    collapsed = _trained_divergence(Beta(3000.0))
    assert collapsed < 0.3

    class Held(FreeBits):
        def __call__(self, kl, progress):
            return 3000.0 * super().__call__(kl, progress)

    # Free bits are an allowance: the codes use it, and no latent is worth more than it.
    held = _trained_divergence(Held(0.5))
    assert 1.0 < held < 4 * 0.5 + 0.2


# -- the rules for the variance


def test_the_mean_s_gradient_under_the_faithful_rule_is_that_of_the_profiled_one():
    layout = Layout(1, (12,), (("periodic", "periodic"),), 2, 3, (4,), 1)

    def gradient(rule: str) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            decoder = LocalGaussian(
                FieldDecoder(layout), FieldDecoder(layout, linear=False, smooth=0), rule=rule
            ).double()
        z = torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        x = torch.randn(8, 1, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        decoder.log_likelihood(x, z).backward()
        head = [p.grad for p in decoder.log_var.parameters()]
        assert (rule == "profiled") == all(g is None for g in head)
        return torch.cat([z.grad.flatten(), *(p.grad.flatten() for p in decoder.mean.parameters())])

    torch.testing.assert_close(gradient("faithful"), gradient("profiled"), rtol=1e-12, atol=1e-14)
    assert float((gradient("joint") - gradient("profiled")).abs().max()) > 1e-6


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_gradients_of_the_loss_are_those_of_finite_differences(posterior):
    """Of the whole loss with respect to the head that makes the posterior, with the noise held."""
    vae = _vae(latent=2, posterior=posterior)
    x = torch.randn(3, 1, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    noise = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    features = vae.encoder.head(vae.encoder.trunk(x)).detach()

    def bound(values: Tensor) -> Tensor:
        q = vae.encoder.posterior(values, 0.0)
        z = reparameterise(q, noise)
        return vae.decoder(z).log_prob(x).sum() + vae.prior().log_prob(z).sum() - q.log_prob(z).sum()

    assert torch.autograd.gradcheck(bound, features.requires_grad_())
