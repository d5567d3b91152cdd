"""The optional stage after the dynamics: made ready, run, and kept where held-out forecasts agree."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from romvae.errors import ConfigError, NumericsError
from romvae.physics.penalty import Penalty, PhysicsFunction
from romvae.physics.residual import Conserved, Residual, conserved_of, residual_of
from romvae.ragged import even_snapshots
from romvae.ranks import ALONE, Ranks
from romvae.schema import TIME, TRAJECTORY
from romvae.start import split_start
from romvae.streamed import Trajectories
from romvae.symmetry import Symmetry
from romvae.tensors import field_tensor
from romvae.training.batches import StepSeeds, step_generator
from romvae.training.finetune import FieldWindows, FinetuneStage, Score, field_score, forecast_members
from romvae.training.stages import Stage

if TYPE_CHECKING:
    from romvae.data import Parts
    from romvae.rom import ROM

__all__ = ["FinetunePlan", "fine_tune", "finetune_plan", "physics_name", "require_physics"]

logger = logging.getLogger("romvae.training")

Physics = str | PhysicsFunction
Tensors = Callable[[xr.Dataset], tuple[Tensor | Trajectories, Tensor, Tensor | None]]
"""Normalised snapshots, normalised parameters and controls of a part."""

HELD = 16
"""Held-out trajectories whose forecasts decide."""
SCALES = 4
"""Batches from which the size of a penalty at the start is taken."""
WORSE = 1.02
"""Where physics was asked for, forecasts may become worse by so much before the result is put back."""


@dataclass(frozen=True)
class FinetunePlan:
    """How the stage runs: see `romvae.fit`.

    Arguments:
        score: What decoded rollouts are scored by.
        steps: Training steps.
        rate: Peak learning rate.
        batch_size: Windows per step.
        horizon: Large steps in the longest window.
        members: Members of the forecast.
        decoder: Whether the mean decoder is trained too.
        physics: `none`, `residual`, `conserved`, or a function.
        weight: Of the penalty.
        seed: Seed of the windows.
    """

    score: Score
    steps: int
    rate: float
    batch_size: int
    horizon: int
    members: int
    decoder: bool
    physics: Physics
    weight: float
    seed: int


def finetune_plan(
    rom: ROM, terms: Mapping[str, Any], rate: float, batch_size: int, horizon: int, seed: int
) -> FinetunePlan | None:
    """The plan that the settings ask for; None where they ask for none.

    Raises:
        ConfigError: There is nothing to train, or the physics is unknown.
    """
    score, physics = terms["finetune"], terms["physics"]
    if isinstance(physics, str) and physics not in ("none", "residual", "conserved"):
        raise ConfigError(
            f"fit: physics is {physics!r}, expected none, residual, conserved or a function "
            "residual(fields, grid, parameters, dt). Choose one."
        )
    if score == "none" and physics == "none":
        return None
    if score not in ("none", "crps", "likelihood", "mse"):
        raise ConfigError(f"fit: finetune is {score!r}, expected none, crps, likelihood or mse. Choose one.")
    if rom.choices["dynamics"] in ("linear", "gp") and not terms["finetune_decoder"]:
        raise ConfigError(
            f"fit: dynamics {rom.choices['dynamics']!r} is known in closed form and has no weights to fine-tune. "
            "Choose dynamics='residual', or finetune_decoder=True."
        )
    for name in ("finetune_steps", "finetune_members"):
        if not terms[name] >= 1:
            raise ConfigError(f"fit: {name} is {terms[name]}, expected 1 or more. Choose a positive number.")
    if not terms["physics_weight"] > 0:
        raise ConfigError(
            f"fit: physics_weight is {terms['physics_weight']}, expected a positive number. Leave physics out for none."
        )
    return FinetunePlan(
        "mse" if score == "none" else score,
        int(terms["finetune_steps"]),
        rate,
        batch_size,
        horizon,
        int(terms["finetune_members"]),
        bool(terms["finetune_decoder"]),
        physics,
        float(terms["physics_weight"]),
        seed,
    )


def require_physics(rom: ROM, plan: FinetunePlan | None, train: xr.Dataset) -> None:
    """Tries the penalty on the first times of a trajectory, before anything is trained.

    Raises:
        ConfigError: The equation is not known, conserves nothing where it is to, or the function gives no residual, or
            one that is not finite.
    """
    penalty = None if plan is None else _penalty(rom, plan, train)
    if penalty is not None:
        few = even_snapshots(train).isel({TRAJECTORY: [0], TIME: slice(0, 3)})
        found = penalty.squares(field_tensor(few, rom.schema, rom.normaliser), _physical(rom, few))
        if not bool(found.isfinite().all()):
            raise ConfigError(
                f"physics: the mean square of the residual of the first training fields is {found.tolist()}, expected "
                "finite numbers. Correct what the function returns."
            )


def physics_name(physics: Physics) -> str:
    """What a run records of it."""
    if isinstance(physics, str):
        return physics
    return f"{getattr(physics, '__module__', '')}.{getattr(physics, '__qualname__', type(physics).__name__)}"


def fine_tune(
    rom: ROM,
    parts: Parts,
    plan: FinetunePlan,
    tensors: Tensors,
    symmetry: Symmetry,
    run: Callable[[Stage, StepSeeds], None],
    notes: dict[str, Any],
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Fine-tunes dynamics, and on request the decoder; the result is kept where held-out forecasts do not suffer.

    Of trajectories that differ in length, those of `romvae.ragged.even_part` are used, cut to one length that holds a
    large step. Copies moved by symmetries are used unless physics is asked for whose residual knows the place.

    Arguments:
        rom: Trained up to its dynamics; changed in place.
        parts: `train` is trained on, `variance` decides.
        plan: From `finetune_plan`.
        tensors: Gives the tensors of a part.
        symmetry: What windows are moved by.
        run: Runs the stage.
        notes: Those of the run; what the start was is kept there for a continuation.
        ranks: Processes that train; the first one scores, and all go by it.

    Returns:
        Notes: forecast scores before and after, the penalty's size, and whether the result was kept.
    """
    train = even_snapshots(parts.train, max(rom.dynamics.stride, rom.start_times))
    x, c, controls = tensors(train)
    parameters = _physical(rom, train)
    penalty = _penalty(rom, plan, train)
    if penalty is not None and not penalty.homogeneous:
        symmetry = Symmetry()
    batches = FieldWindows(
        x,
        c,
        parameters,
        rom.dynamics.members,
        plan.members,
        rom.vae.latent,
        plan.batch_size,
        rom.dynamics.stride,
        plan.horizon,
        plan.steps,
        plan.seed,
        symmetry=symmetry,
        triples=penalty is not None and not penalty.drift,
        controls=controls,
        stochastic=rom.dynamics.stochastic,
        given=int(rom.choices["given"]),
    )
    held = _held(rom, parts, tensors, plan.seed)
    begun = dict(notes.get("finetune", {}))
    if "before" not in begun:
        begun["before"] = ranks.once(held)
        if penalty is not None:
            begun["physics_scale"] = ranks.once(partial(_started, rom, plan, batches, penalty))
        notes["finetune"] = begun
    if penalty is not None:
        penalty = replace(penalty, scale=[scale or math.inf for scale in begun["physics_scale"]])
    stage = FinetuneStage(
        rom.vae,
        rom.dynamics,
        plan.score,
        plan.steps,
        plan.rate,
        decoder=plan.decoder,
        penalty=penalty,
        weight=plan.weight,
    )
    run(stage, batches)
    after = ranks.once(held)
    slack = 1.0 if penalty is None else WORSE
    kept = after["crps"] <= slack * begun["before"]["crps"]
    if penalty is not None:
        begun["physics_after"] = ranks.once(partial(_squares, rom, plan, batches, penalty))
    if not kept:
        stage.undo()
        logger.warning("fine-tuning made forecasts of new trajectories worse; the weights before it are kept")
    return {"finetune": {**begun, "after": after, "kept": kept, "physics": physics_name(plan.physics)}}


def _penalty(rom: ROM, plan: FinetunePlan, train: xr.Dataset) -> Penalty | None:
    if plan.physics == "none":
        return None
    function: Residual | Conserved | PhysicsFunction
    if isinstance(plan.physics, str):
        function = residual_of(train) if plan.physics == "residual" else conserved_of(train)
    else:
        function = plan.physics
    return Penalty(function, rom.schema, rom.normaliser)


def _physical(rom: ROM, ds: xr.Dataset) -> Tensor:
    names = rom.schema.parameter_names
    columns = [np.asarray(ds[name].values, dtype=np.float64).reshape(-1) for name in names]
    values = np.stack(columns, 1) if columns else np.zeros((ds.sizes[TRAJECTORY], 0))
    return torch.from_numpy(values).to(torch.get_default_dtype())


def _held(rom: ROM, parts: Parts, tensors: Tensors, seed: int) -> Callable[[], dict[str, float]]:
    some = even_snapshots(parts.variance, rom.start_times)
    some = some.isel({TRAJECTORY: slice(0, HELD)})
    x, c, controls = tensors(some)
    past, ahead = split_start(rom, x if isinstance(x, Tensor) else x[0 : len(x)])
    controls = None if controls is None else controls[:, rom.start_times - 1 :]

    def score() -> dict[str, float]:
        return field_score(rom.vae, rom.dynamics, ahead, c, seed, controls, past=past)

    return score


def _started(rom: ROM, plan: FinetunePlan, batches: FieldWindows, penalty: Penalty) -> list[float]:
    """Mean squares of the penalty's equations before fine-tuning; one that is zero already has nothing to teach.

    Raises:
        NumericsError: One is not finite.
    """
    found = _squares(rom, plan, batches, penalty)
    if not np.isfinite(found).all():
        raise NumericsError(
            f"physics: the mean squares of the equations in decoded forecasts of the training data are {found}, "
            "expected finite ones. Where forecasts diverge, train the dynamics for longer, or lower horizon; else "
            "correct what the function returns."
        )
    for k in np.flatnonzero(np.array(found) == 0):
        logger.warning("physics: decoded forecasts fulfil equation %d exactly, and the penalty leaves it out", k + 1)
    return found


@torch.no_grad()
def _squares(rom: ROM, plan: FinetunePlan, batches: FieldWindows, penalty: Penalty) -> list[float]:
    """Mean squares of the penalty's equations in forecasts over the longest windows."""
    stage = FinetuneStage(rom.vae, rom.dynamics, plan.score, 1, penalty=None)
    single = replace(penalty, scale=())
    rows = []
    for k in range(SCALES):
        batch = batches.batch(step_generator(plan.seed, "physics scale", k), batches.steps)
        mean, _ = forecast_members(rom.vae, rom.dynamics, batch)
        rows.append(stage.squares_of(single, mean, batch))
    return [float(value) for value in torch.stack(rows).mean(0)]
