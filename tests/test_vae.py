"""The evidence lower bound: the profiled variance, its gradient, and a bound that is one."""

from __future__ import annotations

import math

import torch
from torch.distributions import Normal

from romvae.nn import Encoder, FieldDecoder, Layout
from romvae.nn.observation import LocalGaussian
from romvae.vae import VAE, profiled_log_likelihood


def _vae(latent: int = 2, points: int = 12) -> VAE:
    layout = Layout(1, (points,), (("periodic", "periodic"),), latent, 3, (4,), 1)
    decoder = LocalGaussian(FieldDecoder(layout), FieldDecoder(layout, linear=False, smooth=0))
    return VAE(Encoder(layout), decoder)


def test_profiled_likelihood_is_the_gaussian_one_at_the_mean_square():
    residual = torch.randn(20, 2, 15, dtype=torch.float64) * torch.tensor([[[0.1], [3.0]]], dtype=torch.float64)
    value, var = profiled_log_likelihood(residual, 0.0)
    torch.testing.assert_close(var, residual.square().mean((0, 2)))
    direct = Normal(0.0, var.sqrt()[None, :, None]).log_prob(residual).sum((1, 2)).mean()
    torch.testing.assert_close(value, direct, rtol=1e-12, atol=0)


def test_profile_identity_of_the_gradient():
    """d/dmu of (D/2) log mean r^2 is that of sum r^2 / (2 var) with var held: the envelope theorem."""
    x = torch.randn(20, 1, 15, dtype=torch.float64)
    mu = torch.randn(20, 1, 15, dtype=torch.float64, requires_grad=True)
    value, var = profiled_log_likelihood(x - mu, 0.0)
    (-value).backward()
    assert mu.grad is not None
    held = ((x - mu) / var.detach()[:, None]).neg() / len(x)
    torch.testing.assert_close(mu.grad, held.detach(), rtol=1e-10, atol=1e-14)


def test_elbo_is_below_the_evidence_by_quadrature():
    torch.manual_seed(0)
    vae = _vae(latent=1).double()
    with torch.no_grad():
        vae.decoder.log_var_shared.fill_(math.log(0.25))
        z = torch.randn(4, 1, dtype=torch.float64)
        x = vae.decoder(z).rsample()
        bound = torch.stack([vae.elbo(x).value for _ in range(200)])
        nodes = torch.linspace(-8, 8, 4001, dtype=torch.float64)
        p = vae.decoder(nodes[:, None]).base_dist
        joint = torch.stack(
            [Normal(p.mean, p.stddev).log_prob(one).sum((1, 2)) + Normal(0.0, 1.0).log_prob(nodes) for one in x]
        )
        evidence = torch.logsumexp(joint, 1) + math.log(float(nodes[1] - nodes[0]))
    error = bound.std(0) / 200**0.5
    assert bool((bound.mean(0) <= evidence + 3 * error).all())


def test_elbo_parts_and_kl_per_dimension_agree():
    vae = _vae()
    x = torch.randn(6, 1, 12)
    elbo = vae.elbo(x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(elbo.value, elbo.log_likelihood - elbo.kl)
    torch.testing.assert_close(vae.kl_per_dimension(x).sum(), elbo.kl.mean())
    again = vae.elbo(x, torch.Generator().manual_seed(0))
    assert torch.equal(again.value, elbo.value)
