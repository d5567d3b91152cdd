"""The linear VAE is probabilistic PCA: optimum, gap, collapse threshold, and the closed-form relatives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from romvae.distributions import kl_standard_normal
from romvae.linear_start import modes_of, refined, start_from_linear
from romvae.nn import Layout
from romvae.nn.linear import LinearDecoder, LinearEncoder
from romvae.nn.observation import SharedGaussian
from romvae.vae import VAE

SPECTRUM = torch.tensor([4.0, 2.5, 1.5, 0.6, 0.3, 0.2, 0.1, 0.05], dtype=torch.float64)


def _snapshots(count: int = 400, seed: int = 0) -> Tensor:
    """Snapshots whose sample covariance has exactly the given eigenvalues."""
    g = torch.Generator().manual_seed(seed)
    d = len(SPECTRUM)
    raw = torch.randn(count, d, generator=g, dtype=torch.float64)
    raw = raw - raw.mean(0)
    white = raw @ torch.linalg.inv(torch.linalg.cholesky(raw.T @ raw / count)).T
    basis = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64))[0]
    return (white * SPECTRUM.sqrt()) @ basis.T + 0.3


def _exact_log_likelihood(latent: int) -> float:
    """Mean log-likelihood of probabilistic PCA at its optimum (Tipping and Bishop, 1999)."""
    d = len(SPECTRUM)
    noise = float(SPECTRUM[latent:].mean())
    logs = float(SPECTRUM[:latent].log().sum()) + (d - latent) * math.log(noise)
    return -0.5 * (d * math.log(2 * math.pi) + logs + d)


def _vae(latent: int, points: int = len(SPECTRUM)) -> VAE:
    layout = Layout(1, (points,), (("periodic", "periodic"),), latent, 4, (4,), 0)
    return VAE(LinearEncoder(layout), SharedGaussian(LinearDecoder(layout), floor=1e-12)).double()


@pytest.fixture(autouse=True)
def _double() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("latent", [1, 3, 5])
def test_closed_form_ppca_is_the_exact_optimum_and_its_bound_is_tight(latent):
    x = _snapshots().reshape(-1, 1, len(SPECTRUM))
    vae = _vae(latent)
    start_from_linear(vae, x, modes_of(x, latent), "ppca")
    noise = float(SPECTRUM[latent:].mean())
    assert float(vae.decoder.log_var_shared.exp()) == pytest.approx(noise, rel=1e-6)  # POD modes are kept in float32
    w = vae.decoder.mean.linear.weight
    marginal = MultivariateNormal(vae.decoder.mean.linear.bias, w @ w.T + noise * torch.eye(len(SPECTRUM)))
    assert float(marginal.log_prob(x[:, 0]).mean()) == pytest.approx(_exact_log_likelihood(latent), abs=1e-5)
    # With the true posterior every importance weight is the evidence itself, whatever the sample.
    bound = vae.importance_weighted_bound(x[:50], 1, torch.Generator().manual_seed(3))
    torch.testing.assert_close(bound, marginal.log_prob(x[:50, 0]), atol=1e-4, rtol=0)


def test_training_the_linear_vae_reaches_the_likelihood_of_ppca():
    """L-BFGS on the analytic bound in double precision; Adam stays short, rotations are slow for it."""
    x = _snapshots()
    d, latent = x.shape[1], 3
    for seed in range(2):
        g = torch.Generator().manual_seed(seed)
        w = torch.randn(d, latent, generator=g).mul(0.5).requires_grad_()
        v = torch.randn(latent, d, generator=g).mul(0.1).requires_grad_()
        mean = torch.zeros(d, requires_grad=True)
        log_std, log_var = torch.zeros(latent, requires_grad=True), torch.zeros((), requires_grad=True)
        parameters = [w, v, mean, log_std, log_var]

        def bound() -> Tensor:
            code = (x - mean) @ v.T  # noqa: B023 (called within the loop)
            residual = (x - mean - code @ w.T).square().sum(1).mean() + (w.square() * (2 * log_std).exp()).sum()  # noqa: B023
            likelihood = -0.5 * (residual * (-log_var).exp() + d * (log_var + math.log(2 * math.pi)))  # noqa: B023
            return likelihood - kl_standard_normal(code, log_std.exp().expand_as(code)).sum(1).mean()  # noqa: B023

        optimiser = torch.optim.LBFGS(
            parameters, max_iter=3000, tolerance_grad=1e-13, tolerance_change=1e-16, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimiser.zero_grad()  # noqa: B023
            loss = -bound()
            loss.backward()
            return loss

        optimiser.step(closure)
        assert float(bound().detach()) == pytest.approx(_exact_log_likelihood(latent), abs=1e-8)
        assert float(log_var.detach().exp()) == pytest.approx(float(SPECTRUM[latent:].mean()), rel=1e-5)
        gram = (w.T @ w).detach()
        assert float((gram - gram.diag().diag()).abs().max()) < 1e-3  # aligned with the principal axes


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_stochastic_bound_comes_near_the_likelihood_of_ppca(seed):
    """Adam on sampled codes and batches, with the variance profiled per batch: not far short of the optimum."""
    x, latent = _snapshots(), 3
    d = x.shape[1]
    layout = Layout(1, (d,), (("periodic", "periodic"),), latent, 4, (4,), 0)
    encoder, decoder = LinearEncoder(layout).double(), SharedGaussian(LinearDecoder(layout), floor=1e-9).double()
    log_std = torch.zeros(latent, requires_grad=True)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in (*encoder.parameters(), *decoder.parameters()):
            each.copy_(0.3 * torch.randn(each.shape, generator=g))
    weights = [*encoder.parameters(), *decoder.parameters(), log_std]
    optimiser = torch.optim.Adam(weights, lr=1e-2)
    steps = 4000
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        batch = x[torch.randint(len(x), (128,), generator=g)]
        mean = encoder(batch[:, None]).mean
        z = mean + log_std.exp() * torch.randn(mean.shape, generator=g)
        divergence = kl_standard_normal(mean, log_std.exp().expand_as(mean)).sum(-1).mean()
        loss = divergence - decoder.log_likelihood(batch[:, None], z)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        mean = encoder(x[:, None]).mean
        w = decoder.mean.linear.weight
        residual = (x - decoder.mean(mean)[:, 0]).square().sum(1).mean() + (w.square() * (2 * log_std).exp()).sum()
        likelihood = -0.5 * d * (math.log(2 * math.pi) + torch.log(residual / d) + 1)
        bound = likelihood - kl_standard_normal(mean, log_std.exp().expand_as(mean)).sum(-1).mean()
    assert _exact_log_likelihood(latent) - 0.2 <= float(bound) <= _exact_log_likelihood(latent) + 1e-9


@pytest.mark.parametrize("noise", [0.11, 0.45, 1.0, 3.0, 5.0])
def test_with_a_fixed_variance_the_active_latents_are_the_eigenvalues_above_it(noise):
    """The optimal W is U (Lambda - s^2)^(1/2) with negative entries cut: the others collapse exactly."""
    x = _snapshots().reshape(-1, 1, len(SPECTRUM))
    latent = 6
    vae = _vae(latent)
    modes = modes_of(x, latent)
    vae.encoder.start_from_ppca(modes.mean, modes.modes, modes.std, noise)
    vae.decoder.mean.start_from_pod(modes.mean, modes.modes, modes.std, noise)
    vae.encoder.log_var.clamp_(max=0.0)
    active = int((vae.decoder.mean.linear.weight.norm(dim=0) > 1e-8).sum())
    assert active == int((SPECTRUM[:latent] > noise).sum())
    kl = vae.kl_per_dimension(x)
    assert int((kl > 1e-6).sum()) == active


def _rotated(latent: int, x: Tensor) -> VAE:
    """The optimum seen in other coordinates of the code, with the best diagonal posterior there."""
    vae = _vae(latent)
    start_from_linear(vae, x, modes_of(x, latent), "ppca")
    noise = vae.decoder.log_var_shared.exp()
    turn = torch.linalg.qr(torch.randn(latent, latent, generator=torch.Generator().manual_seed(4)))[0]
    w = vae.decoder.mean.linear.weight @ turn
    m = w.T @ w + noise * torch.eye(latent)
    rows = torch.linalg.solve(m, w.T)
    vae.requires_grad_(False)
    vae.decoder.mean.linear.weight.copy_(w)
    vae.encoder.linear.weight.copy_(rows)
    vae.encoder.linear.bias.copy_(-rows @ vae.decoder.mean.linear.bias)
    vae.encoder.log_var.copy_(torch.log(noise / m.diag()))
    return vae


def _log_marginal(vae: VAE, x: Tensor) -> Tensor:
    w, noise = vae.decoder.mean.linear.weight, vae.decoder.log_var_shared.exp()
    return MultivariateNormal(vae.decoder.mean.linear.bias, w @ w.T + noise * torch.eye(w.shape[0])).log_prob(x[:, 0])


@pytest.mark.parametrize("latent", [2, 4])
def test_in_turned_coordinates_a_diagonal_posterior_costs_what_hadamard_says(latent):
    """log p - ELBO = (sum_i log M_ii - log det M) / 2 with M = W'W + s^2 I: tight only where M is diagonal.

    The likelihood is quadratic in the code, so its mean over the 2d points m +- sqrt(d) s_i e_i is exact.
    """
    x = _snapshots(60).reshape(-1, 1, len(SPECTRUM))
    vae = _rotated(latent, x)
    q = vae.encoder(x)
    offsets = latent**0.5 * torch.cat([torch.eye(latent), -torch.eye(latent)])
    likelihood = torch.stack([vae.decoder(q.mean + q.stddev * offset).log_prob(x) for offset in offsets]).mean(0)
    bound = likelihood - vae.elbo(x, torch.Generator().manual_seed(0)).kl
    w = vae.decoder.mean.linear.weight
    m = w.T @ w + vae.decoder.log_var_shared.exp() * torch.eye(latent)
    gap = 0.5 * (m.diag().log().sum() - torch.logdet(m))
    assert float(gap) > 1e-3  # otherwise nothing is tested
    torch.testing.assert_close(_log_marginal(vae, x) - bound, gap.expand(len(x)), atol=1e-10, rtol=0)


def test_the_evidence_by_quadrature_over_two_latents_is_the_exact_one():
    """The trapezoid rule on [-6, 6]^2 converges faster than any power for a Gaussian; 201 nodes are enough here."""
    x = _snapshots(60).reshape(-1, 1, len(SPECTRUM))
    vae = _rotated(2, x)
    axis = torch.linspace(-6, 6, 201)
    z = torch.cartesian_prod(axis, axis)
    p, prior = vae.decoder(z), vae.prior().log_prob(z)
    some = x[x[:, 0].sub(vae.decoder.mean.linear.bias).square().sum(1) < 8][:4]
    found = torch.stack([torch.logsumexp(p.log_prob(one.expand(len(z), -1, -1)) + prior, 0) for one in some])
    found = found + 2 * torch.log(axis[1] - axis[0])
    torch.testing.assert_close(found, _log_marginal(vae, some), atol=1e-6, rtol=0)


def test_pod_reconstructs_what_lies_in_its_subspace():
    basis = torch.linalg.qr(torch.randn(12, 3, generator=torch.Generator().manual_seed(0)))[0]
    x = (torch.randn(60, 3, generator=torch.Generator().manual_seed(1)) @ basis.T + 1.0).reshape(60, 1, 12)
    vae = _vae(3, points=12)
    start_from_linear(vae, x, modes_of(x, 3), "pod")
    with torch.no_grad():
        again = vae.decoder(vae.encoder(x).mean).mean
    torch.testing.assert_close(again, x, atol=2e-5, rtol=0)  # the modes are kept in single precision


def test_refined_modes_are_those_of_all_snapshots():
    """A singular value decomposition of all of them is the truth; a part of them has other modes."""
    g = torch.Generator().manual_seed(0)
    scales = 0.9 ** torch.arange(60, dtype=torch.float64)
    x = (torch.randn(6000, 60, generator=g, dtype=torch.float64) * scales) @ torch.linalg.qr(
        torch.randn(60, 60, generator=g, dtype=torch.float64)
    )[0]
    x = (x + torch.randn(60, generator=g, dtype=torch.float64)).float()[:, None]
    some = modes_of(x, 12)
    found, flat = refined(some, x), x.flatten(1).double()
    _, values, vectors = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    torch.testing.assert_close(found.std.double(), values[:12] / len(x) ** 0.5, rtol=1e-5, atol=0)
    torch.testing.assert_close((found.modes.double() @ vectors[:12].T).abs(), torch.eye(12).double(), rtol=0, atol=1e-3)
    torch.testing.assert_close(found.mean, x.mean((0, 1)), rtol=0, atol=1e-5)
    assert found.total == pytest.approx(float(flat.var(0, correction=0).sum()), rel=1e-6)
    assert float((some.modes.double() @ vectors[:12].T).abs().diagonal().min()) < 0.99
    few = x[:100]
    assert refined(modes_of(few, 12), few).modes.equal(modes_of(few, 12).modes)
    flat_only = refined(modes_of(x[:, :, :1].expand(-1, -1, 60), 12), x[:, :, :1].expand(-1, -1, 60))
    assert len(flat_only.modes) == 1  # no more than there are
