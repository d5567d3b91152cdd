"""Networks on regular grids in one to three dimensions, aware of the boundary conditions. Torch only."""

from romvae.nn.conv import Conv, ResidualBlock
from romvae.nn.decoder import FieldDecoder
from romvae.nn.encoder import Encoder
from romvae.nn.layout import Layout
from romvae.nn.padding import BoundaryPad, pad_axis

__all__ = ["BoundaryPad", "Conv", "Encoder", "FieldDecoder", "Layout", "ResidualBlock", "pad_axis"]
