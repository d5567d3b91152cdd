"""What a training is given, checked before it begins."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from romvae.canonical import did_you_mean
from romvae.errors import ConfigError, DataError, OutOfRangeWarning
from romvae.kinds import LOSS_DEFAULTS
from romvae.ragged import ragged_lengths
from romvae.start import require_ahead

if TYPE_CHECKING:
    from romvae.data import Parts
    from romvae.rom import ROM

__all__ = ["accelerator_of", "check_parts", "loss_terms", "positive"]


def check_parts(rom: ROM, parts: Parts) -> None:
    """Raises where a part is empty, too short for a step, or not of the ROM's schema."""
    for name in ("train", "variance", "calibration"):
        part = getattr(parts, name)
        if part.sizes.get("trajectory", 0) < 1:
            raise DataError(f"part {name!r} has no trajectory, at least 1 is needed. Split the data again.")
        with warnings.catch_warnings():
            # Held-out trajectories of the same data may well have a parameter just beyond those of the training part.
            warnings.simplefilter("ignore", OutOfRangeWarning)
            rom.schema.check(part, source=f"part {name!r}")
            rom.schema.check_controls(part, f"part {name!r}: ")
        lengths = ragged_lengths(part)
        times = part.sizes["time"] if lengths is None else int(lengths.max())
        if times <= rom.dynamics.stride:
            raise DataError(
                f"part {name!r}: {times} times, this ROM takes steps of {rom.dynamics.stride} of them. "
                "Give longer trajectories, or build the ROM for these."
            )
        if name == "calibration" and lengths is not None:  # forecasts of each of them are looked at
            times = int(lengths.min())
        require_ahead(rom, times, f"part {name!r}")


def positive(name: str, value: float | None, default: float) -> float:
    """The value, or the default where it was left out."""
    if value is None:
        return default
    if not value > 0:
        raise ConfigError(f"fit: {name} is {value}, expected a positive number. Leave it out for {default:g}.")
    return value


def loss_terms(rom: ROM, given: Mapping[str, Any]) -> dict[str, Any]:
    """All choices of the first and the third stage, those that were left out at their defaults."""
    for name in given:
        if name not in LOSS_DEFAULTS:
            raise ConfigError(f"fit: unknown argument {name!r}.{did_you_mean(name, list(LOSS_DEFAULTS))}")
    terms = {**LOSS_DEFAULTS, **given}
    if terms["fallback"] not in ("auto", "never"):
        raise ConfigError(f"fit: fallback is {terms['fallback']!r}, expected auto or never. Choose one of them.")
    if terms["consistency"] and rom.choices["posterior"] == "flow":
        raise ConfigError(
            "fit: consistency needs the divergence between two posteriors, which has no closed form for flows. "
            "Choose posterior='diagonal' or 'full', or leave consistency out."
        )
    return terms


def accelerator_of(device: str) -> str:
    """Lightning's name of it; `auto` and `cuda` take a GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        reason = "this torch is built for the CPU" if torch.version.cuda is None else "no CUDA device was found"
        raise ConfigError(f"device 'cuda': {reason}. Use --training.device cpu, or install a CUDA build of torch.")
    return "gpu" if device != "cpu" and torch.cuda.is_available() else "cpu"
