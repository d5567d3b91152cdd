"""Which programs a ROM is exported as, and which ROMs cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from romvae.deployment.programs import Decoding, Encoding, Plan, Stepping, frozen
from romvae.deployment.tracing import Format, Program
from romvae.deployment.whole import OUTPUTS, Rolling
from romvae.dynamics.affine import AffineDynamics
from romvae.dynamics.ode import OdeDynamics
from romvae.dynamics.transition import GaussianTransition
from romvae.errors import ConfigError

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["programs_of", "require_exportable", "step_name"]

_BATCH, _LEAD = "batch", "lead"
_SHAPE = "(batch, time, field, *space)"


def require_exportable(rom: ROM, kind: Format) -> None:
    """Raises for the few ROMs whose computation is no fixed graph.

    Raises:
        ConfigError: The message says why, and what to do.
    """
    dynamics = rom.dynamics
    inner = dynamics.mean_model if isinstance(dynamics, GaussianTransition) else dynamics
    if isinstance(inner, OdeDynamics) and inner.solver == "adaptive":
        raise ConfigError(
            "export: ode_solver is 'adaptive', which chooses its steps from the values that it meets, and a graph "
            "has a fixed number of them. Train with --model.ode-solver rk4"
        )
    settled = frozen(rom).dynamics
    if kind == "onnx" and isinstance(settled, AffineDynamics) and settled.stable:
        raise ConfigError(
            f"export: dynamics {rom.choices['dynamics']!r} keeps a matrix that depends on the parameters stable by its "
            "eigenvalues, which ONNX cannot compute. Use --format torch, or train with --model.dynamics residual"
        )


def step_name(window: int, times: int) -> str:
    """Name of the program of one step from so many times; one without memory has a single such program."""
    return "dynamics" if window == 1 else f"dynamics_{times}"


def programs_of(
    rom: ROM, plan: Plan, inputs: Mapping[str, NDArray[Any]], earlier: NDArray[Any] | None
) -> list[Program]:
    """All programs with inputs to trace them with.

    Arguments:
        rom: The model.
        plan: What the forecast is fixed to.
        inputs: Of the whole rollout, see `Example.inputs`.
        earlier: Fields before the initial ones, for dynamics with memory.
    """
    rom = frozen(rom)
    window, latent = rom.dynamics.window, rom.vae.latent
    n, rows = len(inputs["fields"]), (plan.rounds(rom.dynamics.members) + 1) * rom.dynamics.members
    z = np.zeros((4, rows, n, latent), np.float32)
    start = {name: inputs[name] for name in ("fields", "noise") if name in inputs}
    rolling = Rolling(rom, plan)
    found = [
        Program(
            "encoder",
            "fields to the code's mean and std, and to the start of every row of the forecast",
            Encoding(rom, plan),
            start,
            _free(start),
            {"mean": "(batch, latent)", "std": "(batch, latent)", "start": "(row, batch, latent)"},
        )
    ]
    for times in range(1, window + 1):
        given = {"history": np.zeros((rows, n, times, latent), np.float32), **_beside(inputs)}
        summary = f"one large step of {rom.dynamics.stride} stored ones from {times} latents, a large step apart"
        shape = {"latents": "(stored step, row, batch, latent)"}
        found.append(Program(step_name(window, times), summary, Stepping(rom, plan), given, _free(given), shape))
    shape = dict.fromkeys(("mean", "std"), "(batch, field, *space)")
    code = {"latents": np.zeros((n, latent), np.float32)}
    words = "codes to fields: the decoder's mean and its own std, before calibration"
    found.append(Program("decoder", words, Decoding(rom), code, {"latents": {0: _BATCH}}, shape))
    given = {"latents": z, "lead": np.arange(4)}
    free = {"latents": {0: _LEAD, 2: _BATCH}, "lead": {0: _LEAD}, "fields": {0: _BATCH}}
    if rolling.forecast.starts:
        given["fields"] = inputs["fields"]
    if rolling.forecast.graded and "parameters" in inputs:
        given["parameters"] = inputs["parameters"]
        free["parameters"] = {0: _BATCH}
    words = "rows at some lead times (in stored steps) to mean, calibrated spread and interval"
    found.append(Program("forecast", words, rolling.forecast, given, free, dict.fromkeys(OUTPUTS, _SHAPE)))
    out = {**dict.fromkeys(OUTPUTS, _SHAPE), "latent": "(batch, time, latent)"}
    words = f"the whole forecast: {plan.steps} stored steps, {plan.members} members"
    found.append(Program("rollout", words, rolling, inputs, _free(inputs), out))
    if earlier is not None:
        given = {**inputs, "earlier": earlier}
        words += f", from {window} fields, a large step apart, of which `earlier` are those before `fields`"
        found.append(Program("rollout_history", words, rolling, given, _free(given), out))
    return found


def _beside(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What one step takes beside the latents."""
    found = {"parameters": inputs["parameters"]} if "parameters" in inputs else {}
    if "controls" in inputs:
        found["controls"] = np.ascontiguousarray(inputs["controls"][:, :2])
    if "step_noise" in inputs:
        found["step_noise"] = np.ascontiguousarray(inputs["step_noise"][0])
    return found


def _free(inputs: Mapping[str, NDArray[Any]]) -> dict[str, dict[int, str]]:
    """The axis of each input that counts trajectories."""
    axis = {"noise": 1, "history": 1, "step_noise": inputs["step_noise"].ndim - 2 if "step_noise" in inputs else 0}
    return {name: {axis.get(name, 0): _BATCH} for name in inputs}
