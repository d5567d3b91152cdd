"""Encoder and decoder: any grid, the POD start, symmetry, gradients."""

from __future__ import annotations

import pytest
import torch

from romvae.nn import Encoder, FieldDecoder, Layout
from romvae.nn.decoder import patches_to_grid
from romvae.nn.observation import LocalGaussian
from romvae.tensors import pod

GRIDS = [
    ((64,), (("periodic", "periodic"),)),
    ((101,), (("wall", "open"),)),
    ((24, 30), (("periodic", "periodic"), ("wall", "wall"))),
    ((17, 23), (("reflecting", "open"), ("value", "wall"))),
    ((8, 10, 13), (("periodic", "periodic"), ("wall", "wall"), ("open", "reflecting"))),
]


def _layout(shape, sides, fields=2, latent=5, **kwargs) -> Layout:
    return Layout.for_grid(fields, shape, sides, latent, channels=4, blocks=1, **kwargs)


@pytest.mark.parametrize(("shape", "sides"), GRIDS)
@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize(("patch", "expand"), [(None, None), (3, 0), (3, 6)])
def test_any_grid_and_boundary_gives_distributions_of_the_right_shape(shape, sides, linear, patch, expand):
    layout = _layout(shape, sides, patch=patch, expand=expand)
    encoder, mean = Encoder(layout, linear), FieldDecoder(layout, linear)
    decoder = LocalGaussian(mean, FieldDecoder(layout, linear=False, smooth=0))
    x = torch.randn(3, 2, *shape)
    q = encoder(x)
    assert q.batch_shape == (3,)
    assert q.event_shape == (5,)
    p = decoder(q.rsample())
    assert p.event_shape == (2, *shape)
    (-p.log_prob(x).mean()).backward()
    missing = [name for name, w in [*encoder.named_parameters(), *mean.named_parameters()] if w.grad is None]
    assert missing == []


@pytest.mark.parametrize(("shape", "sides"), GRIDS)
@pytest.mark.parametrize("expand", [0, 6])
def test_encoder_and_decoder_start_as_pod(shape, sides, expand):
    layout = _layout(shape, sides, expand=expand)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 2, *shape, generator=generator) + 1.0
    mean, modes, std = pod(x, 5)
    encoder, decoder = Encoder(layout), FieldDecoder(layout)
    encoder.start_from_pod(mean, modes, std)
    decoder.start_from_pod(mean, modes, std)
    z = encoder(x).mean
    torch.testing.assert_close(z.square().mean(0), torch.ones(5), rtol=1e-3, atol=1e-3)
    flat = x.flatten(1) - mean
    expected = mean + (flat @ modes.T) @ modes
    torch.testing.assert_close(decoder(z).flatten(1), expected, rtol=1e-4, atol=1e-4)


def test_pod_modes_are_orthonormal_and_agree_with_the_svd():
    x = torch.randn(30, 1, 50, generator=torch.Generator().manual_seed(0))
    for samples in (x, x[:, :, :12]):  # fewer and more samples than points
        mean, modes, std = pod(samples, 6)
        torch.testing.assert_close(modes @ modes.T, torch.eye(6), atol=1e-5, rtol=0)
        flat = (samples.flatten(1) - mean).double()
        singular = torch.linalg.svdvals(flat)[:6] / len(flat) ** 0.5
        torch.testing.assert_close(std.double(), singular, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(64,), (32, 48)])
def test_periodic_trunk_commutes_with_shifts_by_its_stride(shape):
    layout = Layout(1, shape, (("periodic", "periodic"),) * len(shape), 4, 4, (3, 5), 1)
    trunk = Encoder(layout).double().trunk
    torch.nn.init.normal_(trunk[1].second.conv.weight)
    x = torch.randn(2, 1, *shape, dtype=torch.float64)
    stride = 8
    for axis in range(len(shape)):
        moved = trunk(x.roll(stride, 2 + axis))
        torch.testing.assert_close(moved, trunk(x).roll(1, 2 + axis), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(10,), (6, 9), (4, 5, 6)])
def test_patches_to_grid_inverts_cutting_into_patches(shape):
    patch, ndim = 3, len(shape)
    full = [-(-n // patch) * patch for n in shape]
    u = torch.randn(2, 1, *full)
    cut = u
    for axis in range(ndim):
        cut = cut.unfold(2 + axis, patch, patch)
    order = [0, 1, *range(2 + ndim, 2 + 2 * ndim), *range(2, 2 + ndim)]
    channels = cut.permute(order).reshape(2, patch**ndim, *[n // patch for n in full])
    expected = u[(..., *[slice(0, n) for n in shape])]
    assert torch.equal(patches_to_grid(channels, patch, shape), expected)


def test_local_variance_stays_between_floor_and_ceiling_and_starts_shared():
    layout = _layout((32,), (("periodic", "periodic"),), fields=1)
    decoder = LocalGaussian(FieldDecoder(layout), FieldDecoder(layout, linear=False, smooth=0), floor=1e-2)
    decoder.log_var_shared.fill_(-3.0)
    z = torch.randn(7, 5)
    shared = decoder(z).variance
    decoder.local.fill_(True)
    torch.testing.assert_close(decoder(z).variance, shared, rtol=0.02, atol=0)
    torch.nn.init.normal_(decoder.log_var.head.conv.weight, std=100.0)
    std = decoder(z).stddev.detach()
    assert float(std.min()) >= 1e-2 * (1 - 1e-6)
    assert float(std.max()) <= 2.0 * (1 + 2e-5)  # softplus leaves exp(low - high) at the top


@pytest.mark.parametrize("expand", [0, 6])
def test_the_features_are_linear_in_the_code_without_fully_connected_layers_and_not_with_them(expand):
    dense = FieldDecoder(_layout((24, 30), GRIDS[2][1], expand=expand)).double().dense
    z = torch.randn(9, 5, generator=torch.Generator().manual_seed(0)).double()
    curvature = (dense(2 * z) - 2 * dense(z) + dense(torch.zeros_like(z))).abs().max()
    assert (float(curvature) < 1e-12) == (expand == 0)


def test_small_planes_have_one_level_of_coarse_patches():
    sides = (("periodic", "periodic"), ("wall", "wall"))
    for shape, patch, levels in (((32, 32), 4, 1), ((64, 64), 8, 1), ((48, 64), 4, 2), ((256, 256), 8, 3)):
        layout = Layout.for_grid(1, shape, sides, 4, expand=None)
        assert (layout.patch, len(layout.channels)) == (patch, levels)
        assert layout.expand == 8 * layout.channels[0]
        assert layout.channels[0] == (64 if levels == 1 else 32)


def test_layout_prefers_patches_that_divide_the_grid():
    assert Layout.for_grid(1, (256,), (("periodic", "periodic"),), 4).patch == 8
    assert 1001 % Layout.for_grid(1, (1001,), (("periodic", "periodic"),), 4).patch == 0
