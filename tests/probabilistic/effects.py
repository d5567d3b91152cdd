"""What each option of encoder, decoder, prior and objective does on viscous Burgers; rows for `tables`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from romvae.data.split import Parts
from romvae.distributions import moments
from romvae.invariance import symmetry_of
from romvae.latent.activity import activity_of
from romvae.latent.bound import held_out_bound
from romvae.latent.dimension import pod_curve
from romvae.rom import ROM
from romvae.symmetry import Symmetry
from romvae.tensors import field_tensor, parameter_tensor
from romvae.training import suggest_latent
from romvae.training.dynamics import Codes, DynamicsPlan, train_dynamics
from romvae.training.encoding import encoded_copies
from romvae.training.runner import run_stage
from romvae.training.session import Session

__all__ = ["EFFECTS", "codes_of_burgers", "effect", "forecast_errors", "latent_answer", "roughness"]

EFFECTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "consistency 0.1": ({}, {"consistency": 0.1}),
    "consistency 1": ({}, {"consistency": 1.0}),
    "skip connections": ({"skip": True}, {}),
    "channel dropout 0.1": ({"dropout": 0.1}, {}),
    "no symmetric copies": ({}, {"augment": "none"}),
    "free bits 0.5": ({}, {"objective": "free_bits", "free_bits": 0.5}),
    "capacity 25": ({}, {"objective": "capacity", "capacity": 25.0}),
    "cyclic beta": ({}, {"objective": "beta", "beta_schedule": "cyclic"}),
    "learned prior": ({"prior": "mixture"}, {}),
    "full covariance": ({"posterior": "full"}, {}),
    "flow posterior": ({"posterior": "flow"}, {}),
}
"""Name, choices of the model and of the training; everything else is the same."""
DYNAMICS = {"hidden": 64, "members": 2}


@torch.no_grad()
def roughness(rom: ROM, part: Any) -> dict[str, float]:
    r"""Mean squared second difference over time of the mean codes, in two units.

    Over the mean posterior variance of each latent (`roughness`), and over its variance among all codes
    (`bend`): a posterior that is made wider looks smoother in the first unit, and not in the second.
    """
    x = field_tensor(part, rom.schema, rom.normaliser)
    mean, std = (value.reshape(*x.shape[:2], -1) for value in moments(rom.vae.encoder(x.flatten(0, 1))))
    second = (mean[:, 2:] - 2 * mean[:, 1:-1] + mean[:, :-2]).square().mean((0, 1))
    return {
        "roughness": float((second / std.square().mean((0, 1))).mean()),
        "bend": float(second.sum() / mean.flatten(0, 1).var(0).sum()),
    }


def forecast_errors(rom: ROM, parts: Parts, seed: int, steps: int, rate: float, copies: bool) -> dict[str, float]:
    """Trains the dynamics as `romvae.fit` does, and forecasts new trajectories from their first field.

    Arguments:
        rom: Encoder and decoder are trained.
        parts: Training part for the codes, test part for the forecasts.
        seed: Seed of windows and members.
        steps: Training steps.
        rate: Peak rate of the first stage.
        copies: Whether moved copies are encoded too.
    """
    x = field_tensor(parts.train, rom.schema, rom.normaliser)
    symmetry = symmetry_of(x, rom.schema, rom.normaliser, rom.mask) if copies else Symmetry()
    mean, std = encoded_copies(rom.vae, x, symmetry.copies(16), symmetry, seed, lambda *args: None)
    codes = Codes(mean, std, parameter_tensor(parts.train, rom.schema, rom.scaling))
    plan = DynamicsPlan(steps, 2 * rate, 128, 6, seed)

    def run(stage: Any, batches: Any) -> None:
        run_stage(stage, batches, rom, Session(None, {}), "cpu", lambda *args: None)

    precision = 1 / std.square().mean((0, 1, 2))
    train_dynamics(rom.dynamics, codes, precision, plan, run, held=None, vae=rom.vae, started=False)
    rom.eval()
    found = rom.rollout(parts.test.isel(time=0), members=8, seed=0)["u"]
    truth = parts.test["u"].transpose(*found.dims)
    times = min(found.sizes["time"], truth.sizes["time"])
    found, truth = found.isel(time=slice(1, times)), truth.isel(time=slice(1, times))
    off = np.square(found.values - truth.values), np.square(truth.values)
    axis = found.dims.index("time")
    first = [float(np.take(value, 0, axis).sum()) for value in off]
    return {
        "one_step": (first[0] / first[1]) ** 0.5,
        "rollout": float((off[0].sum() / off[1].sum()) ** 0.5),
    }


def effect(name: str, seed: int, steps: int) -> dict[str, Any]:
    """One row: bound, error, smoothness, forecasts and cost with one option changed."""
    from tests.probabilistic.tables import burgers, skill, trained

    parts = burgers(seed)
    model, training = EFFECTS[name]
    rom, epoch = trained(parts, seed, steps, 8, training=training, **DYNAMICS, **model)
    copies = training.get("augment", "auto") == "auto"
    x = field_tensor(parts.test, rom.schema, rom.normaliser).flatten(0, 1)
    # At the variance that is best there, as during training: the fitted local one is for mean codes, not for samples.
    held = held_out_bound(rom.vae, x).value / x[0].numel() - float(rom.normaliser.std.log().mean())
    return {
        "elbo": held,
        "relative_l2": skill(rom, parts.test)["relative_l2"],
        **roughness(rom, parts.test),
        **forecast_errors(rom, parts, seed, steps, 2e-3, copies),
        "seconds_per_epoch": epoch,
    }


def codes_of_burgers(latent: int, steps: int) -> dict[str, Any]:
    """Divergence per latent, active latents and error for one size of the code, POD's error beside it."""
    from tests.probabilistic.tables import burgers, trained

    parts = burgers(0)
    rom, _ = trained(parts, 0, steps, latent)
    train, new = (field_tensor(part, rom.schema, rom.normaliser).flatten(0, 1) for part in (parts.train, parts.test))
    found = activity_of(rom.vae, new)
    return {
        "kl": sorted((round(float(v), 2) for v in found.table["kl"].values), reverse=True),
        "active": found.active,
        "error": found.relative_error,
        "pod_error": float(pod_curve(train, new, latent)[-1]),
    }


def latent_answer(parts: Parts, steps: int, model: Mapping[str, Any]) -> dict[str, Any]:
    """What `latent: auto` answers, and how long it took in process time."""
    begin = time.process_time()
    found = suggest_latent(parts, seed=0, model=model, training={"vae_steps": steps})
    kept = found.to_dict()
    return {
        "latent": found.latent,
        "lower": kept["lower"],
        "upper": found.upper,
        "kl": [round(v, 2) for v in kept["kl"]],
        "tried": {size: {name: round(v, 4) for name, v in one.items()} for size, one in kept["tried"].items()},
        "pod": [round(v, 4) for v in kept["pod"][: found.upper]],
        "seconds": round(time.process_time() - begin, 1),
        "answer": found.sentence(),
    }
