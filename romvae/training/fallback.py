"""Back to what is known in closed form, where held-out trajectories say that training did not improve on it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from romvae.dynamics.base import EnsembleDynamics
from romvae.errors import NumericsError
from romvae.kinds import UNTRAINED
from romvae.latent.activity import reconstruction_error
from romvae.linear_start import Modes
from romvae.nn.decoder import FieldDecoder
from romvae.nn.encoder import Encoder
from romvae.ranks import ALONE, Ranks
from romvae.training.batches import StepSeeds
from romvae.training.dynamics import (
    Codes,
    DynamicsPlan,
    forecast_path,
    forecast_score,
    record_step_error,
    train_dynamics,
)
from romvae.training.selection import SHARE, put_dynamics, trial
from romvae.training.stages import Stage
from romvae.vae import VAE

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = [
    "best_dynamics",
    "decisions",
    "first_forecast_error",
    "forecast_error",
    "keep_better_compression",
    "may_be_linear",
    "may_be_pod",
]

logger = logging.getLogger("romvae.training")

ENOUGH = 4
"""With fewer held-out trajectories nothing is decided, and what was trained stays."""
SNAPSHOTS = 512
NEAR = 2.0
"""How much more of new fields POD may miss, if its codes move so much more simply that forecasts gain by it."""
SETTLED = 1.5
"""Linear dynamics whose forecasts are so close to the reconstruction leaves a network nothing to gain."""
_PROFILED = ("staged", "global", "student_t", "crps")
"""Rules for the variance under which the mean can be exchanged on its own."""


def may_be_pod(rom: ROM, terms: Mapping[str, Any], held: int) -> bool:
    """Whether POD may take the place of the trained autoencoder: where training asked for no more than a good mean.

    Arguments:
        rom: Its kinds of parts.
        terms: All of `LossChoices`.
        held: Held-out trajectories.
    """
    told = rom.choices
    plain = told["observation"] == "gaussian" and told["variance"] in _PROFILED and told["prior"] == "normal"
    plain = plain and isinstance(rom.vae.encoder, Encoder) and rom.vae.encoder.linear is not None
    asked = terms["objective"] == "elbo" and not terms["consistency"]
    return terms["fallback"] == "auto" and plain and asked and held >= ENOUGH


def may_be_linear(rom: ROM, terms: Mapping[str, Any], held: int) -> bool:
    """Whether linear dynamics may take the place of the trained one: where nothing is trained on its weights later.

    Arguments:
        rom: Its kinds of parts.
        terms: All of `LossChoices`.
        held: Held-out trajectories.
    """
    own = rom.choices["transition"] == "deterministic" and not rom.dynamics.closed_form
    asked = terms["finetune"] == "none" and terms["physics"] == "none" and not terms["latent_consistency"]
    return terms["fallback"] == "auto" and own and asked and held >= ENOUGH


def decisions(notes: Mapping[str, Any]) -> dict[str, Any]:
    """What the notes of a history say of it, for a report: under `compression` and `dynamics`, where it was decided."""
    names = {"compression": "compression", "dynamics": "dynamics_kept"}
    return {part: dict(notes[name]) for part, name in names.items() if name in notes}


@torch.no_grad()
def keep_better_compression(
    vae: VAE, modes: Modes, held: Tensor, ranks: Ranks = ALONE, forecast: Callable[[bool], float] | None = None
) -> dict[str, Any]:
    """Puts POD in place where it reconstructs held-out snapshots better than what was trained.

    Where it is not much worse (`NEAR`), forecasts decide: a linear equation is linear in the codes of a projection, and
    in those of a network it is not, and other equations may be simpler there too. Its code is known exactly: what POD
    leaves out lies beside its modes.

    Arguments:
        vae: Trained, with linear paths.
        modes: POD of the training snapshots, as many modes as there are latents, or fewer.
        held: Normalised snapshots that it was not trained on, `(sample, channel, *space)`.
        ranks: Processes that train; all do the same.
        forecast: Error of forecasts of held-out trajectories with the codes of `vae` as it is then, per normalised
            value, called with whether they are those of POD; None leaves the reconstruction to decide.

    Returns:
        Notes: which was kept, and the root mean square error of both per normalised value; with those of the forecasts
        where they decided.
    """
    encoder, mean = vae.encoder, vae.decoder.mean
    if not isinstance(encoder, Encoder) or not isinstance(mean, FieldDecoder):
        return {}
    order = torch.randperm(len(held), generator=torch.Generator().manual_seed(0))
    some = held[order[:SNAPSHOTS]].to(next(vae.parameters()).device)
    trained = [{name: v.detach().clone() for name, v in part.state_dict().items()} for part in (encoder, mean)]
    error = reconstruction_error(vae, some)
    basis = tuple(part.to(some) for part in (modes.mean, modes.modes, modes.std))

    def project() -> None:
        encoder.become_pod(*basis)
        mean.become_pod(*basis)

    def restore() -> None:
        encoder.load_state_dict(trained[0])
        mean.load_state_dict(trained[1])

    project()
    linear = reconstruction_error(vae, some)
    found = {"error": error, "pod_error": linear}
    better = ranks.once(lambda: linear < error)
    if better:
        logger.warning(
            "new snapshots: the trained autoencoder is %.3g of the fields' deviations off, POD with %d modes %.3g; "
            "POD is kept",
            error,
            vae.latent,
            linear,
        )
    elif forecast is not None and ranks.once(lambda: linear <= NEAR * error):
        found["pod_forecast"] = forecast(True)
        restore()
        found["forecast"] = forecast(False)
        better = ranks.once(lambda: found["pod_forecast"] < found["forecast"])
        if better:
            project()
            logger.warning(
                "new trajectories: with the codes of the trained autoencoder first forecasts have an error of %.3g of "
                "the fields' deviations, with those of POD of %.3g; POD is kept, though it reconstructs %.3g and the "
                "autoencoder %.3g",
                found["forecast"],
                found["pod_forecast"],
                linear,
                error,
            )
    else:
        restore()
    return {"kept": "pod" if better else "network", **found}


@torch.no_grad()
def first_forecast_error(
    rom: ROM,
    codes: Codes,
    held: Codes,
    fields: Tensor,
    precision: Tensor,
    plan: DynamicsPlan,
    run: Callable[[Stage, StepSeeds], None],
    ranks: Ranks = ALONE,
) -> float:
    """How far off forecasts of held-out trajectories are, with the codes that the ROM's autoencoder has now.

    By linear dynamics, and where that is not nearly as good as the reconstruction by the ROM's own kind too, trained
    for one step in `SHARE` of the whole training; the better of the two counts. The ROM's dynamics stays as it is.

    Arguments:
        rom: Whose encoder made the codes.
        codes: Of the training trajectories.
        held: Of others.
        fields: Their normalised fields `(trajectory, time, channel, *space)`.
        precision: As in `DynamicsStage`.
        plan: That of the whole training.
        run: Runs a stage without keeping its state.
        ranks: Processes that train; all do the same.

    Returns:
        Root mean square error per normalised value, from the first code on.
    """
    linear = trial(rom, "linear").to(rom.dynamics.dt.device)
    codes.start(linear)
    error = forecast_error(rom, linear, held, fields)
    flat = fields.flatten(0, 1)
    some = flat[:: max(1, len(flat) // SNAPSHOTS)].to(next(rom.vae.parameters()).device)
    if rom.dynamics.closed_form or ranks.once(lambda: error <= SETTLED * reconstruction_error(rom.vae, some)):
        return error
    kind = "residual" if rom.choices["dynamics"] == "auto" else str(rom.choices["dynamics"])
    network = trial(rom, kind).to(rom.dynamics.dt.device)
    short = replace(plan, steps=max(1, plan.steps // SHARE), patience=0)
    try:
        with torch.enable_grad():
            named, given = "dynamics: first forecasts", int(rom.choices["given"])
            train_dynamics(network, codes, precision, short, run, vae=rom.vae, name=named, given=given)
    except NumericsError as failure:
        logger.info("dynamics %s: its short training ended, %s", kind, failure)
        return error
    return min(error, forecast_error(rom, network, held, fields))


@torch.no_grad()
def forecast_error(rom: ROM, dynamics: EnsembleDynamics, held: Codes, fields: Tensor) -> float:
    """Root mean square error, per normalised value, of decoded forecasts from the first code of held-out trajectories.

    Arguments:
        rom: Whose autoencoder made the codes.
        dynamics: Of any kind; of its networks the mean of what they decode to.
        held: Codes of the trajectories, see `Codes.started`.
        fields: Their normalised fields `(trajectory, time, channel, *space)`, of the given times too.

    Returns:
        Infinity where a forecast diverges.
    """
    fields = fields[:, fields.shape[1] - held.mean.shape[2] :]
    path = forecast_path(dynamics, held, fields.shape[1] - 1).permute(2, 1, 0, 3)
    total, device = 0.0, next(rom.vae.parameters()).device
    for ahead, truth in zip(path, fields, strict=True):
        decoded = torch.stack([rom.vae.decoder(each.to(device)).mean for each in ahead]).mean(0)
        total += float((decoded - truth.to(device)).square().mean())
    return math.sqrt(total / len(fields)) if math.isfinite(total) else math.inf


def best_dynamics(
    rom: ROM, codes: Codes, held: Codes, precision: Tensor, plan: DynamicsPlan, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Installs what is known in closed form where its forecasts of held-out trajectories are better than the trained.

    That is linear dynamics, by least squares on the same codes, and what the trained dynamics started from, where
    that was more than linear (`EnsembleDynamics.known`). The score is that of `choose_dynamics`.

    Arguments:
        rom: With trained dynamics.
        codes: Of the training trajectories.
        held: Of others.
        precision: As in `DynamicsStage`.
        plan: Of the training.
        ranks: Processes that train; all do the same.

    Returns:
        Notes: which kind was kept, whether as it was trained, and the scores of all; empty where too few trajectories
        are left to decide.
    """
    if held.mean.shape[1] < ENOUGH:  # of ragged trajectories, those that are long enough
        return {}
    kind, linear, known = str(rom.choices["dynamics"]), trial(rom, "linear"), rom.dynamics.known()
    train_dynamics(linear, codes, precision, plan, lambda *_: None)
    found = {kind: rom.dynamics, "linear": linear}
    if known is not None:
        record_step_error(known, codes)
        found[UNTRAINED] = known
    scores = {name: forecast_score(each, held, precision, plan.seed, ranks) for name, each in found.items()}
    best = ranks.once(lambda: min(scores, key=lambda name: scores[name].crps))
    if best != kind:
        put_dynamics(rom, found[best], "linear" if best == "linear" else kind)
        logger.warning(
            "forecasts of new trajectories: the crps of %s dynamics is %.3g, that of %s dynamics %.3g, which is kept",
            kind,
            scores[kind].crps,
            "linear" if best == "linear" else "the untrained",
            scores[best].crps,
        )
    told = {name: vars(score) for name, score in scores.items()}
    return {"kept": rom.choices["dynamics"], "trained": best == kind, "scores": told}
