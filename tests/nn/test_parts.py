"""Large batches pass some snapshots at a time: the same losses and gradients, and less at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from romvae.distributions import divergence, reparameterise
from romvae.nn import parts
from romvae.nn.conv import Conv
from romvae.rom import ROM
from romvae.testing import mock_snapshots
from romvae.vae import VAE

BATCH, AT_ONCE = 7, 3


def network(ndim: int) -> tuple[VAE, Tensor]:
    data = mock_snapshots(ndim, ("u", "v"), trajectories=4, times=4)
    vae = ROM.for_data(data, latent=3, channels=4, hidden=8).vae.double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in vae.parameters():
            each.add_(0.1 * torch.randn(each.shape, generator=generator))
    return vae, torch.randn(BATCH, 2, *vae.encoder.layout.shape, generator=generator, dtype=torch.float64)


def step(vae: VAE, x: Tensor) -> tuple[float, list[Tensor]]:
    vae.zero_grad()
    q = vae.encoder(x)
    z = reparameterise(q, torch.ones(BATCH, 3, dtype=torch.float64))
    loss = divergence(q, vae.prior()).sum(-1).mean() - vae.decoder.log_likelihood(x, z)
    loss.backward()
    return float(loss), [p.grad.clone() for p in vae.parameters() if p.grad is not None]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_losses_and_gradients_are_those_of_the_whole_batch(ndim, monkeypatch):
    """To rounding of float64; weights get their gradient in another order of the sum."""
    vae, x = network(ndim)
    whole, expected = step(vae, x)
    monkeypatch.setattr(parts, "_POINTS", AT_ONCE * x[0, 0].numel())
    loss, found = step(vae, x)
    assert loss == pytest.approx(whole, rel=1e-12)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_no_convolution_sees_more_than_a_part_and_small_batches_stay_whole(monkeypatch):
    vae, x = network(2)
    seen: list[int] = []
    for module in vae.modules():
        if isinstance(module, Conv):
            module.register_forward_hook(lambda module, given, found: seen.append(len(given[0])))
    step(vae, x)
    assert set(seen) == {BATCH}
    monkeypatch.setattr(parts, "_POINTS", AT_ONCE * x[0, 0].numel())
    seen.clear()
    step(vae, x)
    assert set(seen) == {AT_ONCE, BATCH % AT_ONCE}
    seen.clear()
    with torch.no_grad():  # callers that need no gradient have their own bounds
        vae.decoder.mean(torch.zeros(BATCH, 3, dtype=torch.float64))
    assert set(seen) == {BATCH}


def test_a_snapshot_larger_than_a_part_passes_alone(monkeypatch):
    monkeypatch.setattr(parts, "_POINTS", 1)
    layer = nn.Linear(2, 2)
    x = torch.randn(3, 2)
    torch.testing.assert_close(parts.in_parts(layer, x, 100), layer(x))
