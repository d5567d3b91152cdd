"""What is compared: a ROM, or a fitted baseline, which has no code and no networks around it.

This is the one place that tells them apart; everything else of a comparison works with forecasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from romvae.baselines import Baseline
from romvae.baselines.model import BaselineModel
from romvae.baselines.pod_network import OF_THE_DYNAMICS
from romvae.baselines.selection import COSTLY, NOT_ASKED_FOR, baseline_names, selected
from romvae.comparison.code import compression_error, kl_per_dimension
from romvae.latent.summary import latent_summary

if TYPE_CHECKING:
    from romvae.baselines.model import Model
    from romvae.rom import ROM

__all__ = [
    "NOT_OF_A_BASELINE",
    "called",
    "code_scores",
    "code_series",
    "code_summary",
    "named",
    "noise_floor",
    "opponents",
    "own_dynamics",
]

NOT_OF_A_BASELINE = {
    "compression error": "it has no encoder and decoder that could be measured without a forecast",
    "information per latent, and the section on the latent space": "it has no latent distribution",
    "noise floor": "it has no decoder that learns a variance",
    "trust horizon": "what it predicts of its error is the same for every trajectory",
    "parts of the spread": "its spread is one number per field and lead time, fitted to its own errors",
    "cost over the bare decoder": "it has no decoder network",
}
"""What a comparison leaves out of a baseline, and why."""


def called(model: Model) -> str:
    """The model in a sentence."""
    return model.name if isinstance(model, BaselineModel) else "the ROM"


def named(model: Model) -> dict[str, Any]:
    """For the metrics: which baseline the model is and what it therefore lacks; empty for a ROM."""
    if not isinstance(model, BaselineModel):
        return {}
    return {"model": {"name": model.name, "not_measured": dict(NOT_OF_A_BASELINE)}}


def code_scores(model: Model, test: xr.Dataset) -> dict[str, float]:
    """The error of compression; empty where nothing is compressed."""
    if isinstance(model, BaselineModel):
        return {}
    return {"compression_relative_l2": compression_error(model, test)}


def code_series(model: Model, test: xr.Dataset) -> xr.Dataset:
    """The divergence of each latent; empty where there is none."""
    if isinstance(model, BaselineModel):
        return xr.Dataset()
    return xr.Dataset({"kl_per_dimension": ("latent", kl_per_dimension(model, test))})


def code_summary(model: Model, test: xr.Dataset) -> xr.Dataset:
    """What `romvae.latent.latent_summary` says; empty where there is no latent space."""
    return xr.Dataset() if isinstance(model, BaselineModel) else latent_summary(model, test)


def noise_floor(model: Model) -> dict[str, float]:
    """The smallest standard deviation that the decoder may claim, by field; empty where there is no decoder."""
    if isinstance(model, BaselineModel):
        return {}
    scales = zip(model.schema.fields, model.normaliser.std, strict=True)
    return {field.name: model.vae.decoder.floor * float(std) for field, std in scales}


def opponents(
    model: Model,
    train: xr.Dataset,
    asked: Sequence[Baseline | str] | None = None,
    settings: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> tuple[list[Baseline], dict[str, str]]:
    """The baselines that a model is compared with, and why some of them are left out, by name.

    POD with linear and with network dynamics get as many modes as a ROM has latents, and the latter the settings of its
    dynamics; `pod_linear_free` chooses. A baseline is not compared with itself. The costly ones are always spoken of.

    Arguments:
        model: A ROM or a fitted baseline.
        train: Trajectories to fit to.
        asked: Baselines, their names, or `cheap` or `all`; None is `cheap`.
        settings: Those of the ROM, arguments of `ROM.for_data`; None takes what it knows of its dynamics.
        training: Those of its training, arguments of `romvae.fit`.

    Raises:
        ConfigError: A name is unknown, or the library of a baseline that is asked for by its name is not installed.
    """
    asked = ("cheap",) if asked is None else asked
    given = [each for each in asked if isinstance(each, Baseline)]
    names = baseline_names(each for each in asked if isinstance(each, str))
    names = [name for name in names if name not in {each.name for each in given}]
    left_out = {name: NOT_ASKED_FOR for name in COSTLY if name not in {*names, *(each.name for each in given)}}
    latent = None
    if not isinstance(model, BaselineModel):
        latent = model.vae.latent
        settings = own_dynamics(model) if settings is None else settings
    elif model.name in {*names, *COSTLY}:
        names = [name for name in names if name != model.name]
        left_out[model.name] = "it is the model itself"
    chosen, others = selected(names, train, latent, settings, training)
    return [*chosen, *given], {**others, **left_out}


def own_dynamics(rom: ROM) -> dict[str, Any]:
    """Settings of a ROM's dynamics, arguments of `ROM.for_data`; empty where linear or other closed forms move it."""
    return {} if rom.dynamics.closed_form else {name: rom.config[name] for name in OF_THE_DYNAMICS}
