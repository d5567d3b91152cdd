"""Multiply-adds, numbers moved and weights of the networks, counted from their sizes before anything runs.

A convolution that puts out P positions with a kernel of k^d takes P k^d C_in C_out multiply-adds, a dense layer N_in
N_out. Paddings, activations, sums and repetitions multiply nothing: they move numbers, for which `Work.moved` stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from romvae.nn.decoder import FieldDecoder
from romvae.nn.encoder import Encoder
from romvae.nn.layout import Layout
from romvae.nn.linear import AnyEncoder, LinearDecoder, MeanDecoder
from romvae.vae import VAE

__all__ = ["Arithmetic", "Work", "arithmetic_of", "decoder_work", "encoder_work"]


@dataclass(frozen=True)
class Work:
    """What a network does for one snapshot.

    Arguments:
        multiply_adds: Of all convolutions and dense layers; each is two floating-point operations.
        moved: Numbers that go into those layers and come out of them.
        weights: Trained numbers, biases included; those of a posterior that is a flow are left out.
    """

    multiply_adds: int = 0
    moved: int = 0
    weights: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.multiply_adds + other.multiply_adds, self.moved + other.moved, self.weights + other.weights)


@dataclass(frozen=True)
class Arithmetic:
    """What a VAE does for one snapshot: to encode it, to decode its mean, and to decode its local variance."""

    encoder: Work
    mean: Work
    variance: Work

    @property
    def training(self) -> int:
        """Multiply-adds of a training step for each snapshot: forward once, backward twice that."""
        return 3 * (self.encoder.multiply_adds + self.mean.multiply_adds)

    @property
    def decoder(self) -> Work:
        """Mean and variance together."""
        return self.mean + self.variance


def arithmetic_of(vae: VAE) -> Arithmetic:
    """Counts the networks of a VAE as they are; without a local variance that part is zero."""
    local = getattr(vae.decoder, "log_var", None)
    return Arithmetic(
        _encoder(vae.encoder),
        _decoder(vae.decoder.mean),
        _decoder(local) if isinstance(local, FieldDecoder) else Work(),
    )


def encoder_work(layout: Layout, numbers: int | None = None, linear: bool = True) -> Work:
    """What an encoder does for one snapshot.

    Arguments:
        layout: Its sizes.
        numbers: Values that the posterior takes; None are those of a diagonal Gaussian, two per latent.
        linear: Whether there is a linear path.
    """
    return _sum(_encoder_layers(layout, 2 * layout.latent if numbers is None else numbers, linear))


def decoder_work(layout: Layout, linear: bool = True, smooth: int = 4) -> Work:
    """What a field decoder does for one snapshot; arguments as for `FieldDecoder`."""
    return _sum(_decoder_layers(layout, linear, smooth))


def _encoder(encoder: AnyEncoder) -> Work:
    if isinstance(encoder, Encoder):
        return encoder_work(encoder.layout, encoder.posterior.numbers, encoder.linear is not None)
    return _dense(encoder.layout.points, encoder.layout.latent)


def _decoder(decoder: MeanDecoder) -> Work:
    if isinstance(decoder, LinearDecoder):
        return _dense(decoder.layout.latent, decoder.layout.points)
    first = None if decoder.smooth is None else decoder.smooth[0].conv
    smooth = first.out_channels if isinstance(first, nn.Conv1d | nn.Conv2d | nn.Conv3d) else 0
    return decoder_work(decoder.layout, decoder.linear is not None, smooth)


def _encoder_layers(layout: Layout, numbers: int, linear: bool) -> Iterator[Work]:
    yield _conv(
        layout, layout.shape, layout.sizes[0], layout.patch, layout.fields, layout.channels[0], not layout.values
    )
    for level, (size, width) in enumerate(zip(layout.sizes, layout.channels, strict=True)):
        if level:
            yield _conv(layout, layout.sizes[level - 1], size, 3, layout.channels[level - 1], width)
        yield from _blocks(layout, size, width)
    yield _dense(layout.flat, numbers)
    if linear:
        yield _dense(layout.points, layout.latent)


def _decoder_layers(layout: Layout, linear: bool, smooth: int) -> Iterator[Work]:
    widths = [layout.latent, *[layout.expand] * (2 if layout.expand else 0), layout.flat]
    yield from (_dense(before, after) for before, after in pairwise(widths))
    for level in reversed(range(len(layout.channels))):
        size, width = layout.sizes[level], layout.channels[level]
        if layout.skip:
            yield _dense(layout.latent, width, bias=False)
        yield from _blocks(layout, size, width)
        if level:
            yield _conv(layout, size, size, 1, width, layout.channels[level - 1])
    patches = layout.fields * layout.patch**layout.ndim
    yield _conv(layout, layout.sizes[0], layout.sizes[0], 1, layout.channels[0], patches)
    if linear:
        yield _dense(layout.latent, layout.points)
    if smooth:
        kernel = 5 if layout.ndim == 1 else 3
        yield _conv(layout, layout.shape, layout.shape, kernel, layout.fields, smooth, not layout.values)
        yield _conv(layout, layout.shape, layout.shape, kernel, smooth, layout.fields)


def _blocks(layout: Layout, size: tuple[int, ...], width: int) -> Iterator[Work]:
    for _ in range(2 * layout.blocks):
        yield _conv(layout, size, size, 3, width, width)


def _conv(
    layout: Layout,
    before: tuple[int, ...],
    after: tuple[int, ...],
    kernel: int,
    channels_in: int,
    channels_out: int,
    learned: bool = True,
) -> Work:
    """A convolution; inside a network (`learned`), what stands beyond sides that hold a value is trained too."""
    positions, volume = math.prod(after), kernel**layout.ndim
    weights = volume * channels_in * channels_out + channels_out
    if learned and _meets_values(layout, kernel, same=before == after):
        weights += 2 * layout.ndim * channels_in
    moved = math.prod(before) * channels_in + positions * channels_out
    return Work(positions * volume * channels_in * channels_out, moved, weights)


def _meets_values(layout: Layout, kernel: int, same: bool) -> bool:
    """Whether ghosts of a convolution lie beyond a side of kind `value`; with a stride they are on upper sides only."""
    sides = [pair if same else pair[1:] for pair in layout.sides]
    return kernel > 1 and any("value" in pair for pair in sides)


def _dense(inputs: int, outputs: int, bias: bool = True) -> Work:
    return Work(inputs * outputs, inputs + outputs, inputs * outputs + (outputs if bias else 0))


def _sum(layers: Iterator[Work]) -> Work:
    return sum(layers, Work())
