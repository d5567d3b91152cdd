"""Whether snapshots that can be read can be trained on: the checks of a training, without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import xarray as xr

from romvae.canonical import LATENT, TIME, fields_of
from romvae.data.split import split
from romvae.errors import DataError, SchemaError
from romvae.schema import Schema
from romvae.statistics import FieldStatistics, require_scale

__all__ = ["KINDS", "forecast_of", "obstacles", "require_names"]

KINDS = ("", "_std", "_std_decoder", "_std_dynamics", "_std_posterior", "_std_ensemble", "_lower", "_upper")
"""What is appended to a field's name: mean, total standard deviation, its parts by decoder and dynamics, the latter's
parts by the posterior of the initial code and by the disagreement of the networks, ends of the interval."""


def require_names(fields: Sequence[str]) -> None:
    """Refuses fields whose names are those of another field's uncertainty: one would replace the other.

    Raises:
        SchemaError: The message names the field.
    """
    names = [f + kind for f in fields for kind in KINDS] + [LATENT]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaError(
            f"field {twice[0]!r} has the name of a variable of the forecast ({', '.join(KINDS[1:])} are "
            "appended to the fields' names). Rename the field in the data."
        )


def obstacles(ds: xr.Dataset, statistics: Mapping[str, FieldStatistics]) -> list[str]:
    """Why a training would refuse snapshots that are canonical and finite; empty where it would not.

    A field that varies in other parts than the training one passes here.

    Arguments:
        ds: Canonical snapshots.
        statistics: Of every field, over all snapshots.
    """
    checks: list[Callable[[], object]] = [
        lambda: split(ds),
        lambda: require_names(fields_of(ds)),
        lambda: require_scale(statistics),
        lambda: Schema.of(ds),
    ]
    found = []
    for check in checks:
        try:
            check()
        except DataError as error:
            found.append(str(error))
    return found


def forecast_of(ds: xr.Dataset) -> list[str]:
    """The fields that a forecast of romvae is of; none for other snapshots."""
    if not {"level", "calibration", "calibration_trajectories"} <= set(ds.attrs) or TIME not in ds.dims:
        return []
    names = fields_of(ds)
    spread = {f + kind for f in names for kind in KINDS[1:]}
    return [name for name in names if name not in spread]
