"""Whether written programs say what the ROM says, measured in units of the fields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from romvae.deployment.parts import step_name
from romvae.deployment.tracing import Runner
from romvae.errors import NumericsError

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["difference", "first_of", "require_equal", "stepwise"]

Arrays = Mapping[str, NDArray[Any]]


def stepwise(rom: ROM, steps: int, runners: Mapping[str, Runner], inputs: Arrays) -> dict[str, NDArray[Any]]:
    """The forecast from the programs of the parts, step by step, as `step_by_step.py` does it."""
    start = {name: inputs[name] for name in ("fields", "noise") if name in inputs}
    window, stride = rom.dynamics.window, rom.dynamics.stride
    anchors = [runners["encoder"](start)["start"]]
    path = [anchors[0]]
    for k in range(math.ceil(steps / stride)):
        given = {"history": np.stack(anchors[-window:], 2)}
        if "parameters" in inputs:
            given["parameters"] = inputs["parameters"]
        if "controls" in inputs:
            given["controls"] = inputs["controls"][:, k : k + 2]
        if "step_noise" in inputs:
            given["step_noise"] = inputs["step_noise"][k]
        after = runners[step_name(window, len(anchors[-window:]))](given)["latents"]
        path.extend(after)
        anchors.append(after[-1])
    given = {"latents": np.stack(path[: steps + 1]), "lead": np.arange(steps + 1)}
    if rom.mask is not None or rom.calibration.graded:
        given["fields"] = inputs["fields"]
    if rom.calibration.graded and "parameters" in inputs:
        given["parameters"] = inputs["parameters"]
    return runners["forecast"](given)


def first_of(arrays: Arrays, one: bool = True) -> dict[str, NDArray[Any]]:
    """The first trajectory of inputs, or with `one` off of outputs."""
    inner = ("noise", "step_noise") if one else ()
    return {name: value[..., :1, :] if name in inner else value[:1] for name, value in arrays.items()}


def difference(rom: ROM, found: Arrays, wanted: Arrays) -> dict[str, float]:
    """Largest difference of each output, of fields in units of their standard deviation over the training data."""
    scale = rom.normaliser.std.numpy().reshape(-1, *[1] * len(rom.schema.grid.shape))
    result = {}
    for name in found:
        off = np.abs(found[name].astype(np.float64) - wanted[name])
        result[name] = float((off if name == "latent" else off / scale).max())
    return result


def require_equal(name: str, differences: Mapping[str, float], tolerance: float) -> None:
    """Raises where a program differs from the ROM by more than rounding.

    Raises:
        NumericsError: The message names the program and the output.
    """
    worst = max(differences, key=lambda each: (not math.isfinite(differences[each]), differences[each]))
    if not differences[worst] <= tolerance:
        raise NumericsError(
            f"export: {name} differs from the ROM in {worst!r} by {differences[worst]:.2g} standard deviations of the "
            f"field, expected at most {tolerance:.2g}; nothing was written. Where a chaotic forecast magnifies "
            "rounding, export fewer --steps, or allow more with --tolerance"
        )
