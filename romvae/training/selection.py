"""Which latent dynamics: every kind is tried on the same codes, and the forecasts of held-out trajectories decide."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from romvae.assembly import DYNAMICS_SIZES, dynamics_of
from romvae.dynamics.base import EnsembleDynamics
from romvae.errors import NumericsError
from romvae.kinds import MEMORY
from romvae.ranks import ALONE, Ranks
from romvae.training.batches import StepSeeds
from romvae.training.dynamics import Codes, DynamicsPlan, forecast_score, train_dynamics
from romvae.training.stages import Stage

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["CANDIDATES", "choose_dynamics", "install_dynamics", "put_dynamics", "trial"]

logger = logging.getLogger("romvae.training")

CANDIDATES = ("residual", "linear", "ode", "gru", "transformer", "gp", "fourier")
MANY = 32
"""Codes from which on `fourier` is tried: with 12 of `fisher_1d` it was no better, and its training takes long."""
SHARE = 5
"""A candidate is trained for one step in so many of the whole training."""


def trial(rom: ROM, kind: str) -> EnsembleDynamics:
    """Untrained dynamics of a kind for this ROM, of the size that was asked for or else that the kind takes."""
    given = (rom.dynamics.hidden, rom.dynamics.depth)
    asked = rom.choices["dynamics"] == "auto" and given != DYNAMICS_SIZES["residual"]
    hidden, depth = given if asked else DYNAMICS_SIZES.get(kind, DYNAMICS_SIZES["residual"])
    return dynamics_of(rom.schema, {**rom.config, "dynamics": kind, "hidden": hidden, "depth": depth})


def install_dynamics(rom: ROM, kind: str) -> None:
    """Makes an untrained dynamics of this kind the ROM's own."""
    put_dynamics(rom, trial(rom, kind), kind)


def put_dynamics(rom: ROM, dynamics: EnsembleDynamics, kind: str) -> None:
    """Makes a dynamics of this kind the ROM's own; without a memory, its forecasts start from a single field."""
    rom.dynamics = dynamics
    rom.choices["dynamics"] = kind
    if kind not in MEMORY:
        rom.choices["given"] = 1


def choose_dynamics(
    rom: ROM,
    codes: Codes,
    held: Codes,
    precision: Tensor,
    plan: DynamicsPlan,
    run: Callable[[Stage, StepSeeds], None],
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Trains each candidate for a fifth of the steps, and installs the kind with the best forecasts, untrained.

    The score is the continuous ranked probability score of the members over held-out trajectories, from the last of the
    fields on that forecasts are given; a kind with memory looks back on those before. The result follows from ROM,
    codes and plan alone. A kind that diverges does not win; a linear kind wins only where networks
    are no better, since it has had all the training that it can have.

    Arguments:
        rom: Its dynamics is replaced.
        codes: Of the training trajectories.
        held: Of the trajectories that decide, see `Codes.started`; nothing is trained on them here.
        precision: As in `DynamicsStage`.
        plan: That of the whole training.
        run: Runs a stage without keeping its state.
        ranks: Processes that train; all choose the same.

    Returns:
        Notes: the kind, every candidate's scores, and of those whose training diverged what was said.
    """
    short = replace(plan, steps=max(1, plan.steps // SHARE), patience=0)
    scores, diverged = {}, {}
    for kind in CANDIDATES:
        if (kind == "gp" and not rom.schema.parameters) or (kind == "fourier" and rom.vae.latent < MANY):
            continue
        dynamics = trial(rom, kind)
        try:
            named, given = f"dynamics: {kind}", int(rom.choices["given"])
            train_dynamics(dynamics, codes, precision, short, run, vae=rom.vae, name=named, given=given)
        except NumericsError as failure:
            diverged[kind] = str(failure)
            logger.info("dynamics %s: left out, %s", kind, failure)
            continue
        scores[kind] = forecast_score(dynamics, held, precision, plan.seed, ranks)
        logger.info("dynamics %s: error %.4f, crps %.4f on held-out trajectories", kind, *vars(scores[kind]).values())
    if not scores:
        raise NumericsError(f"dynamics: auto: every kind diverged. {next(iter(diverged.values()))}")
    best = ranks.once(lambda: min(scores, key=lambda kind: scores[kind].crps))
    logger.info("dynamics: %s is used", best)
    install_dynamics(rom, best)
    found = {"kind": best, "scores": {kind: vars(score) for kind, score in scores.items()}, "steps": short.steps}
    return {**found, "diverged": diverged} if diverged else found
