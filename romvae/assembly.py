"""The networks of a ROM from its resolved sizes."""

from __future__ import annotations

from typing import Any

import torch

from romvae.boundary import Boundary
from romvae.dynamics.residual import ResidualDynamics
from romvae.nn.decoder import FieldDecoder
from romvae.nn.encoder import Encoder
from romvae.nn.layout import Layout
from romvae.nn.observation import LocalGaussian
from romvae.nn.padding import Sides
from romvae.normalise import Normaliser
from romvae.schema import Schema
from romvae.vae import VAE

__all__ = ["networks"]

LINEAR_LIMIT = 2**25
"""Largest number of weights in the linear path of encoder or decoder; above it there is none."""


def networks(schema: Schema, normaliser: Normaliser, config: dict[str, Any]) -> tuple[VAE, ResidualDynamics]:
    """Builds the networks; the global random state is left as it was.

    Arguments:
        schema: Fields, grid and boundary conditions.
        normaliser: For the prescribed boundary values.
        config: The resolved sizes, as `ROM.config` gives them.
    """
    sides: tuple[Sides, ...] = tuple((a.lower.kind, a.upper.kind) for a in schema.grid.axes)
    fields, shape, latent = len(schema.fields), schema.grid.shape, config["latent"]
    values = _boundary_values(schema, normaliser)
    layout = Layout.for_grid(
        fields, shape, sides, latent, config["patch"], config["channels"], config["blocks"], values
    )
    thin, blocks = max(4, layout.channels[0] // 2), min(1, layout.blocks)
    small = Layout.for_grid(fields, shape, sides, latent, layout.patch, thin, blocks, values)
    linear = layout.latent * layout.points <= LINEAR_LIMIT
    with torch.random.fork_rng():
        torch.manual_seed(config["seed"])
        decoder = LocalGaussian(
            FieldDecoder(layout, linear), FieldDecoder(small, linear=False, smooth=0), config["noise_floor"]
        )
        vae = VAE(Encoder(layout, linear), decoder)
    dynamics = ResidualDynamics(
        layout.latent,
        len(schema.parameters),
        schema.dt,
        config["stride"],
        config["members"],
        config["hidden"],
        config["depth"],
        config["seed"],
    )
    return vae, dynamics


def _boundary_values(schema: Schema, normaliser: Normaliser) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
    """Prescribed boundary values of each field in normalised units, by axis and side; empty where there are none."""
    sides = [(axis.lower, axis.upper) for axis in schema.grid.axes]
    if not any(side.kind == "value" for pair in sides for side in pair):
        return ()
    scale = list(zip(schema.field_names, normaliser.mean.tolist(), normaliser.std.tolist(), strict=True))

    def normalised(side: Boundary) -> tuple[float, ...]:
        given = dict(side.value)
        return tuple((given.get(name, 0.0) - mean) / std for name, mean, std in scale)

    return tuple((normalised(lower), normalised(upper)) for lower, upper in sides)
