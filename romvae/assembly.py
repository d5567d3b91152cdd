"""The networks of a ROM from its resolved sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_type_hints

import torch

from romvae.boundary import Boundary
from romvae.canonical import did_you_mean
from romvae.dynamics.base import EnsembleDynamics
from romvae.dynamics.fourier import FourierDynamics
from romvae.dynamics.gp import GpDynamics
from romvae.dynamics.gru import GruDynamics
from romvae.dynamics.linear_ensemble import LinearEnsemble
from romvae.dynamics.network import NetworkDynamics
from romvae.dynamics.ode import OdeDynamics
from romvae.dynamics.residual import ResidualDynamics
from romvae.dynamics.transformer import TransformerDynamics
from romvae.dynamics.transition import GaussianTransition
from romvae.errors import ConfigError
from romvae.kinds import DEFAULTS, MEMORY, Choices
from romvae.nn.decoder import FieldDecoder
from romvae.nn.encoder import Encoder
from romvae.nn.layout import Layout
from romvae.nn.linear import LinearDecoder, LinearEncoder, MeanDecoder
from romvae.nn.observation import (
    BernoulliFields,
    ContinuousBernoulliFields,
    FixedGaussian,
    LocalGaussian,
    LocalStudentT,
    MeanRule,
    Observation,
    SharedGaussian,
)
from romvae.nn.padding import Sides
from romvae.normalise import Normaliser
from romvae.priors import prior_of
from romvae.schema import Schema
from romvae.vae import VAE

__all__ = ["DYNAMICS_SIZES", "LINEAR_COMPRESSION", "dynamics_of", "networks", "require_positive", "resolved_choices"]

LINEAR_LIMIT = 2**25
"""Largest number of weights in the linear path of encoder or decoder; above it there is none."""

LINEAR_COMPRESSION = ("pod", "ppca")
"""Compressions that are known in closed form and need no training."""

DYNAMICS_SIZES = {"residual": (192, 3), "ode": (128, 2), "gru": (128, 1), "transformer": (64, 2), "fourier": (32, 4)}
"""Width and hidden layers of each kind of network for the latent dynamics where nothing was chosen."""

_AFTER = ("global", "student_t", "crps")
"""Rules for the variance that leave the mean alone."""

_RULES: dict[str, MeanRule] = {"joint": "joint", "beta_nll": "beta_nll", "faithful": "faithful"}


def resolved_choices(choices: Mapping[str, Any]) -> dict[str, Any]:
    """All choices, those that were left out at their defaults.

    Raises:
        ConfigError: A name or a kind is unknown, or two choices exclude each other.
    """
    for name, value in choices.items():
        if name not in DEFAULTS:
            raise ConfigError(f"ROM.for_data: unknown argument {name!r}.{did_you_mean(name, list(DEFAULTS))}")
        known = get_args(get_type_hints(Choices)[name])
        if known and value not in known:
            raise ConfigError(f"ROM.for_data: {name} is {value!r}, expected one of {', '.join(known)}.")
    kinds = {**DEFAULTS, **choices}
    if kinds["history"] < 1:
        raise ConfigError(f"ROM.for_data: history is {kinds['history']}, expected 1 or more. Try 4.")
    _check_given(kinds)
    if kinds["transition"] == "gaussian" and kinds["dynamics"] in ("linear", "gp", "auto"):
        raise ConfigError(
            f"ROM.for_data: dynamics {kinds['dynamics']!r} has no gaussian transition, which is trained as a network. "
            "Choose dynamics='residual', 'ode', 'gru', 'transformer' or 'fourier' for it."
        )
    linear = kinds["compression"] in LINEAR_COMPRESSION
    for name in ("variance", "posterior", "prior", "observation"):
        excluded = linear and kinds[name] != DEFAULTS[name] and not (name == "variance" and kinds[name] in _AFTER)
        if excluded:
            raise ConfigError(
                f"ROM.for_data: compression {kinds['compression']!r} is known in closed form and has no {name} "
                f"{kinds[name]!r}. Leave {name} out, or choose compression='vae'."
            )
    return kinds


def _check_given(kinds: Mapping[str, Any]) -> None:
    """Refuses a number of given fields that the dynamics cannot look back on."""
    given, history, kind = kinds["given"], kinds["history"], kinds["dynamics"]
    if given < 1:
        raise ConfigError(f"ROM.for_data: given is {given}, expected 1 or more. Leave it out, or try 3.")
    if given > 1 and kind not in (*MEMORY, "auto"):
        raise ConfigError(
            f"ROM.for_data: given is {given}, but dynamics {kind!r} has no memory and looks at the last field only. "
            "Leave given out, or choose dynamics='gru', 'transformer' or 'auto'."
        )
    if given > history:
        raise ConfigError(
            f"ROM.for_data: given is {given}, but the dynamics looks back on {history} latents (history). Raise "
            "history, or lower given."
        )


def require_positive(sizes: Mapping[str, Any]) -> None:
    """Raises `ConfigError` where a size is given and is not a positive number."""
    for name, value in sizes.items():
        if value is not None and not value > 0:
            raise ConfigError(f"ROM.for_data: {name} is {value}, expected a positive number. Leave it out or raise it.")


def networks(schema: Schema, normaliser: Normaliser, config: dict[str, Any]) -> tuple[VAE, EnsembleDynamics]:
    """Builds the networks; the global random state is left as it was.

    Arguments:
        schema: Fields, grid and boundary conditions.
        normaliser: For the prescribed boundary values.
        config: The resolved sizes, as `ROM.config` gives them.
    """
    sides: tuple[Sides, ...] = tuple((a.lower.kind, a.upper.kind) for a in schema.grid.axes)
    fields, shape, latent = len(schema.fields), schema.grid.shape, config["latent"]
    values = _boundary_values(schema, normaliser)
    skip, dropout = config["skip"], config["dropout"]
    layout = Layout.for_grid(
        fields,
        shape,
        sides,
        latent,
        config["patch"],
        config["channels"],
        config["blocks"],
        values,
        skip,
        dropout,
        config["expand"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(config["seed"])
        vae = _linear(layout, config) if config["compression"] in LINEAR_COMPRESSION else _deep(layout, config)
    return vae, dynamics_of(schema, {**config, "latent": layout.latent})


def dynamics_of(schema: Schema, config: Mapping[str, Any]) -> EnsembleDynamics:
    """Builds the latent dynamics alone; `auto` starts as the default kind.

    Arguments:
        schema: Parameters, controls and time step.
        config: The resolved sizes and kinds, as `ROM.config` gives them.
    """
    kind, controls = config["dynamics"], len(schema.controls)
    conditions = len(schema.parameters) + 2 * controls
    latent, stride, members, seed = config["latent"], config["stride"], config["members"], config["seed"]
    if kind in ("linear", "gp"):
        closed = LinearEnsemble if kind == "linear" else GpDynamics
        stable = config["linear_stable"]
        return closed(latent, conditions, schema.dt, stride, members, seed, controls=controls, stable=stable)
    sizes = (latent, conditions, schema.dt, stride, members, config["hidden"], config["depth"], seed)
    network: NetworkDynamics | ResidualDynamics
    if kind == "ode":
        network = OdeDynamics(*sizes, solver=config["ode_solver"], controls=controls)
    elif kind == "gru":
        network = GruDynamics(*sizes, window=config["history"])
    elif kind == "fourier":
        wraps, fields = [axis.periodic for axis in schema.grid.axes], len(schema.fields)
        network = FourierDynamics(*sizes, fields=fields, shape=schema.grid.shape, periodic=wraps)
    elif kind == "transformer":
        network = TransformerDynamics(*sizes, window=config["history"])
    else:
        network = ResidualDynamics(*sizes)
    return GaussianTransition(network) if config["transition"] == "gaussian" else network


def _deep(layout: Layout, config: dict[str, Any]) -> VAE:
    linear = layout.latent * layout.points <= LINEAR_LIMIT
    decoder = _observation(FieldDecoder(layout, linear), layout, config)
    point = config["compression"] in ("ae", "dae")
    encoder = Encoder(layout, linear, "point" if point else config["posterior"])
    return VAE(encoder, decoder, prior_of(config["prior"], layout.latent))


def _linear(layout: Layout, config: dict[str, Any]) -> VAE:
    return VAE(LinearEncoder(layout), _observation(LinearDecoder(layout), layout, config))


def _observation(mean: MeanDecoder, layout: Layout, config: dict[str, Any]) -> Observation:
    """The observation model around a decoder of the mean."""
    mask = torch.ones(layout.shape, dtype=torch.bool) if config.get("masked") else None  # values come with the weights
    if config["observation"] == "bernoulli":
        return BernoulliFields(mean, mask)
    if config["observation"] == "continuous_bernoulli":
        return ContinuousBernoulliFields(mean, mask)
    variance, floor = config["variance"], config["noise_floor"]
    if variance == "fixed":
        return FixedGaussian(mean, config["noise_std"], mask)
    if variance == "global":
        return SharedGaussian(mean, floor, mask)
    local = _local_head(layout)
    if variance == "student_t":
        return LocalStudentT(mean, local, floor, mask)
    score: Literal["nll", "crps"] = "crps" if variance == "crps" else "nll"
    return LocalGaussian(mean, local, floor, mask, _RULES.get(variance, "profiled"), score)


def _local_head(layout: Layout) -> FieldDecoder:
    """A decoder of half the width, for the local variance."""
    thin, blocks = max(4, layout.channels[0] // 2), min(1, layout.blocks)
    small = Layout.for_grid(
        layout.fields,
        layout.shape,
        layout.sides,
        layout.latent,
        layout.patch,
        thin,
        blocks,
        layout.values,
        expand=layout.expand // 2,
    )
    return FieldDecoder(small, linear=False, smooth=0)


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
