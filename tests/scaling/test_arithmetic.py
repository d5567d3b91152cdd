"""What is counted on paper is what torch counts while the networks run."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from romvae.cost.arithmetic import Work, arithmetic_of, decoder_work, encoder_work
from romvae.nn.decoder import FieldDecoder
from romvae.nn.encoder import Encoder
from romvae.nn.layout import Layout
from romvae.rom import ROM
from romvae.testing import mock_snapshots

PERIODIC, VALUE, WALL = ("periodic", "periodic"), ("value", "wall"), ("wall", "open")

LAYOUTS = {
    "1-D": Layout.for_grid(2, (50,), (PERIODIC,), 5),
    "1-D with values": Layout.for_grid(1, (64,), (VALUE,), 3, values=(((0.5,), (0.5,)),)),
    "2-D of odd sizes": Layout.for_grid(1, (37, 50), (WALL, PERIODIC), 4),
    "2-D with learned values and skips": Layout.for_grid(
        3, (32, 48), (VALUE, PERIODIC), 6, channels=8, skip=True, expand=20
    ),
    "3-D": Layout.for_grid(1, (12, 16, 20), (WALL, WALL, PERIODIC), 4, channels=6, blocks=1),
}


def multiply_adds(work) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() // 2


def moved(network, x) -> int:
    """Numbers into and out of every convolution, before its padding, and of every dense layer."""
    found = []

    def note(layer, given, out):
        found.append(given[0].numel() + out.numel())

    for layer in network.modules():
        if isinstance(layer, nn.Linear) or hasattr(layer, "pad"):
            layer.register_forward_hook(note)
    network(x)
    return sum(found)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("linear", [True, False])
def test_paper_and_counter_agree_to_the_last_multiplication(name, linear):
    layout = LAYOUTS[name]
    encoder, decoder = Encoder(layout, linear), FieldDecoder(layout, linear)
    x, z = torch.randn(1, layout.fields, *layout.shape), torch.randn(1, layout.latent)
    for work, network, given in (
        (encoder_work(layout, linear=linear), encoder, x),
        (decoder_work(layout, linear), decoder, z),
    ):
        assert work.multiply_adds == multiply_adds(lambda network=network, given=given: network(given))
        assert work.weights == sum(p.numel() for p in network.parameters())
        assert work.moved == moved(network, given)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_whole_model_is_the_sum_of_its_networks(ndim):
    rom = ROM.for_data(mock_snapshots(ndim, ("u", "v"), shape=(18, 20, 24)[-ndim:]), latent=3, channels=8)
    vae, found = rom.vae, arithmetic_of(rom.vae)
    x, z = torch.randn(2, 2, *rom.schema.grid.shape), torch.randn(2, 3)
    assert 2 * found.encoder.multiply_adds == multiply_adds(lambda: vae.encoder(x))
    assert 2 * found.mean.multiply_adds == multiply_adds(lambda: vae.decoder.mean_of(z))
    vae.decoder.local.fill_(True)
    assert 2 * found.decoder.multiply_adds == multiply_adds(lambda: vae.decoder.moments_of(z))
    assert found.encoder.weights == sum(p.numel() for p in vae.encoder.parameters())
    assert found.decoder.weights == sum(p.numel() for p in vae.decoder.parameters())


@pytest.mark.parametrize("compression", ["pod", "ppca"])
def test_linear_models_are_two_matrices(compression):
    rom = ROM.for_data(mock_snapshots(2), latent=3, compression=compression)
    points = 8 * 12
    found = arithmetic_of(rom.vae)
    assert found.encoder == Work(3 * points, points + 3, 3 * points + 3)
    assert found.mean.multiply_adds == 3 * points
    assert found.mean.weights == 3 * points + points


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_training_step_is_three_times_a_pass_less_what_nobody_needs(ndim):
    """The gradient with respect to the data is not computed: the first layer and the linear path save a third."""
    layout = Layout.for_grid(2, (24, 18, 20)[-ndim:], (WALL, WALL, PERIODIC)[-ndim:], 4, channels=8)
    encoder, decoder = Encoder(layout), FieldDecoder(layout)
    x = torch.randn(1, 2, *layout.shape)
    counted = multiply_adds(lambda: decoder(encoder(x).mean).square().sum().backward())
    positions, first = encoder.trunk[0](x)[0, 0].numel(), encoder.trunk[0].conv.weight.numel()
    spared = positions * first + layout.points * layout.latent
    passes = encoder_work(layout).multiply_adds + decoder_work(layout).multiply_adds
    assert counted == 3 * passes - spared
