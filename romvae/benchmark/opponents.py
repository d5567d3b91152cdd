"""The baselines of a benchmark: all that apply, fitted under the ROM's own budget and kept beside its model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from romvae.baselines import Baseline, PODLinear, PODNetwork, registered
from romvae.baselines.fitted import Fitted
from romvae.benchmark.recipe import Recipe
from romvae.benchmark.result import WITHOUT
from romvae.canonical import did_you_mean
from romvae.data import Parts
from romvae.errors import ConfigError, RomvaeError, TrainingStoppedError
from romvae.progress import Progress

__all__ = ["Fitted", "Opponents", "dynamics_as_trained", "fit_opponents"]


@dataclass
class Opponents:
    """Fitted baselines, what each fit took and chose, and why others are left out.

    Arguments:
        fitted: For `romvae.compare`.
        fits: Process seconds and choice by name.
        left_out: Reason by name.
    """

    fitted: list[Fitted] = field(default_factory=list)
    fits: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def dynamics_as_trained(recipe: Recipe, trained: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's settings of the networks; the kind of dynamics is the one that was chosen, where the data chose.

    Arguments:
        recipe: What was run.
        trained: The record of its training.
    """
    model = recipe.model.chosen()
    if model.get("dynamics") == "auto":
        model["dynamics"] = trained["history"]["notes"]["dynamics"]["kind"]
    return model


def fit_opponents(
    names: Sequence[str] | None,
    parts: Parts,
    latent: int,
    budget: float,
    seed: int,
    folder: Path,
    progress: Progress,
    without: Sequence[str] = (),
    *,
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> Opponents:
    """Fits baselines, or takes those that were fitted before.

    POD with linear and with network dynamics get the latent size of the ROM, the others choose theirs. The network
    dynamics has the ROM's settings too, and as many steps as the budget allows. Settings are chosen on the trajectories
    that the ROM learns its variance from; none sees those of calibration and test.

    Arguments:
        names: Of baselines; None takes all.
        parts: The data.
        latent: Latent dimension of the ROM.
        budget: Process seconds that a fit may take: those of the ROM's training.
        seed: Of what is random.
        folder: Where fitted baselines are kept.
        progress: Called as `progress(stage, done, total, note)`.
        without: Names of those that are left out for now, and listed as such.
        model: Settings of the ROM, arguments of `ROM.for_data`.
        training: Settings of its training, arguments of `romvae.fit`.

    Raises:
        ConfigError: A name is unknown.
    """
    known, result = registered(), Opponents()
    chosen = list(known) if names is None else list(names)
    for name in (*chosen, *without):
        if name not in known:
            raise ConfigError(f"benchmark: baseline {name!r} is unknown.{did_you_mean(name, list(known))}")
    for k, name in enumerate(chosen):
        progress("opponents", k, len(chosen), name)
        kind, kept = known[name], folder / name
        reason = WITHOUT if name in without else kind.reason_against(parts.train)
        if reason:
            result.left_out[name] = reason
            continue
        try:
            if kept.exists():
                baseline = Baseline.load(kept)
                seconds = float(baseline.choice["process_seconds"])
            else:
                if issubclass(kind, PODNetwork):
                    baseline = kind(latent, model=model, training=training)
                else:
                    baseline = kind(latent) if issubclass(kind, PODLinear) else kind()
                begin = time.process_time()
                baseline.fit(parts.train, validation=parts.variance, seed=seed, budget=budget, progress=progress)
                seconds = time.process_time() - begin
                baseline.choice = {**baseline.choice, "process_seconds": seconds}
                baseline.save(kept)
        except TrainingStoppedError:
            raise
        except RomvaeError as error:  # an extra that is not installed, or no candidate that stays finite
            result.left_out[name] = str(error)
            continue
        result.fitted.append(Fitted(baseline))
        result.fits[name] = {**baseline.choice, "process_seconds": seconds}
    progress("opponents", len(chosen), len(chosen))
    return result
