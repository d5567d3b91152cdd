"""Which baselines a comparison has: those that cost seconds by default, those that cost a training on request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import xarray as xr

from romvae.baselines.base import Baseline, registered
from romvae.baselines.pod_linear import PODLinear
from romvae.baselines.pod_linear_free import PODLinearFree
from romvae.baselines.pod_network import PODNetwork
from romvae.canonical import did_you_mean
from romvae.errors import ConfigError

__all__ = ["CHEAP", "COSTLY", "GROUPS", "NOT_ASKED_FOR", "baseline_names", "default_baselines", "selected"]

CHEAP = ("persistence", "climatology", "pod_linear", "pod_linear_free", "pod_rbf", "pod_gp", "dmd", "opinf")
"""Baselines of every comparison, as far as they apply and are installed: together a small part of a ROM's training."""
COSTLY = ("pod_network", "fno")
"""Baselines that are trained about as long as a ROM."""
GROUPS = ("cheap", "all")
NOT_ASKED_FOR = "it costs about as much as the training and was not asked for: --baselines all fits it too"
"""Why a costly baseline stands in no comparison by default."""


def baseline_names(words: Iterable[str]) -> list[str]:
    """Names of baselines from names and the groups `cheap` and `all`, each once.

    Raises:
        ConfigError: A word is unknown, or a baseline is asked for by its name and its library is not installed.
    """
    known = dict.fromkeys((*CHEAP, *COSTLY, *registered()))
    names: list[str] = []
    for word in words:
        if word in GROUPS:
            names += CHEAP if word == "cheap" else known
        elif word not in known:
            hint = did_you_mean(word, [*known, *GROUPS])
            raise ConfigError(
                f"baseline {word!r} is unknown.{hint} Expected cheap, all, or some of {', '.join(known)}."
            )
        elif missing := _kind(word).reason_not_installed():
            raise ConfigError(f"{missing}.")
        else:
            names.append(word)
    return list(dict.fromkeys(names))


def selected(
    names: Sequence[str],
    train: xr.Dataset,
    latent: int | None = None,
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> tuple[list[Baseline], dict[str, str]]:
    """Baselines by name that apply to these trajectories and are installed, not fitted yet; and why others are not.

    Arguments:
        names: From `baseline_names`.
        train: Training trajectories, dims `(trajectory, time, *space)`.
        latent: Number of modes of POD with linear and with network dynamics, the latent size of a ROM. None lets them
            choose, so that `pod_linear_free` would be `pod_linear` once more and is left out.
        model: Settings of the ROM, arguments of `ROM.for_data`, which the network dynamics gets too.
        training: Settings of its training, arguments of `romvae.fit`, likewise.
    """
    chosen: list[Baseline] = []
    left_out: dict[str, str] = {}
    for name in names:
        kind = _kind(name)
        reason = kind.reason_against(train) or kind.reason_not_installed()
        if name == PODLinearFree.name and latent is None:
            continue
        if reason:
            left_out[name] = reason
        elif issubclass(kind, PODNetwork):
            chosen.append(kind(latent, model=model, training=training))
        elif issubclass(kind, PODLinear):
            chosen.append(kind(latent))
        else:
            chosen.append(kind())
    return chosen, left_out


def default_baselines(train: xr.Dataset, latent: int | None = None) -> list[Baseline]:
    """The baselines of every comparison that apply to these training trajectories, not fitted yet.

    Arguments:
        train: Training trajectories, dims `(trajectory, time, *space)`.
        latent: Latent size of the ROM, see `selected`.

    Returns:
        Persistence, climatology, POD with linear dynamics (of the ROM's size and of any), where they are installed DMD
        and operator inference, and, where initial fields follow from the parameters alone, POD with interpolation.
    """
    return selected(CHEAP, train, latent)[0]


def _kind(name: str) -> type[Baseline]:
    return PODLinearFree if name == PODLinearFree.name else registered()[name]
