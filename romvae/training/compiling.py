"""`torch.compile` in the first stage: measured before the first step, and used where that says that it pays."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from romvae.distributions import reparameterise
from romvae.errors import ConfigError
from romvae.kinds import Compile
from romvae.nn.compilable import compiled
from romvae.nn.conv import ChannelDropout
from romvae.nn.precision import in_precision
from romvae.training.mean import MeanStage

__all__ = ["Compiling", "decide_compiling", "require_compiled"]

logger = logging.getLogger("romvae.training")

WORTH = 180.0
"""Seconds that the rest of a stage has to take for `auto` to try. By the clock compiling took 26 to 56 s, and the steps
0.6 to 0.93 of their time: what is shorter cannot earn that back."""
BETTER = 0.95
"""Share of the eager pass that a compiled one may take at most."""
_TURNS = 3


@dataclass(frozen=True)
class Compiling:
    """What was decided, for the history; seconds are by the clock, of encoder and decoder forward and backward.

    Arguments:
        asked: The setting.
        used: Whether the networks are compiled.
        why: In words.
        eager_s: A pass as it is.
        compiled_s: A compiled pass.
        compiling_s: What compiling took.
    """

    asked: Compile
    used: bool
    why: str
    eager_s: float | None = None
    compiled_s: float | None = None
    compiling_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def decide_compiling(stage: MeanStage, asked: Compile, snapshots: int, samples: int, accelerator: str) -> Compiling:
    """Measures the stage's networks on random numbers; weights, gradients and random states stay as they are.

    Arguments:
        stage: The stage, of which nothing is done yet.
        asked: `off`, `on`, or `auto`, which compiles where measurement says that it pays.
        snapshots: In a step of this process.
        samples: Of the code of each of them.
        accelerator: Where the stage is going to run; the networks are moved there.

    Raises:
        ConfigError: `on`, and the networks cannot be compiled here.
    """
    if asked == "off":
        return Compiling(asked, False, "not asked for")
    if any(isinstance(part, ChannelDropout) for part in stage.vae.modules()):
        return _impossible(asked, "dropout draws from a generator of its own, which cannot be compiled")
    one_pass = _pass(stage, snapshots, samples, accelerator)
    eager, rest = None, stage.steps - stage.done
    with in_precision(stage.networks(), stage.digits):
        if asked == "auto":
            eager = _seconds(one_pass)
            if rest * eager < WORTH:
                return Compiling(asked, False, f"{rest} steps of {eager:.2g} s are too short to earn it back", eager)
        logger.info("stage %s: compiling the networks; this takes about a minute", stage.name)
        torch._dynamo.reset()  # it gives up without an error on code that was compiled for eight other networks
        with compiled(stage.networks()):
            begin = time.perf_counter()
            reason = _reason(one_pass)
            if reason:
                return _impossible(asked, reason)
            compiling = time.perf_counter() - begin
            seconds = _seconds(one_pass) if eager is not None else None
    if eager is None or seconds is None:
        return Compiling(asked, True, "asked for", compiling_s=compiling)
    used, times = seconds < BETTER * eager, f"{seconds / eager:.2f} times the eager pass"
    return Compiling(asked, used, f"a compiled pass takes {times}", eager, seconds, compiling)


def require_compiled(stage: MeanStage, snapshots: int, samples: int, accelerator: str) -> None:
    """Compiles the stage's networks in this process too, where that was decided in another one.

    Arguments:
        stage: The stage.
        snapshots: In a step of this process.
        samples: Of the code of each of them.
        accelerator: Where the stage is going to run.

    Raises:
        ConfigError: They cannot be compiled here.
    """
    one_pass = _pass(stage, snapshots, samples, accelerator)
    torch._dynamo.reset()
    with in_precision(stage.networks(), stage.digits), compiled(stage.networks()):
        reason = _reason(one_pass)
    if reason:
        _impossible("on", reason)


def _reason(one_pass: Callable[[], None]) -> str:
    """Why a compiled pass is not possible; empty where it is."""
    try:
        one_pass()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever compilers say, it is one refusal
        return " ".join(str(error).split())[:200] or type(error).__name__
    return ""


def _impossible(asked: Compile, reason: str) -> Compiling:
    if asked == "on":
        raise ConfigError(
            f"fit: the networks cannot be compiled: {reason}. Leave compile out, or see that torch.compile works here; "
            "on a CPU it needs a C++ compiler such as g++."
        )
    logger.warning("the networks are not compiled: %s", reason)
    return Compiling(asked, False, reason)


def _pass(stage: MeanStage, snapshots: int, samples: int, accelerator: str) -> Callable[[], None]:
    """Encoder and decoder, forward and backward, on as many random snapshots as a step has."""
    gpu = accelerator == "gpu"
    device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
    vae = stage.vae.to(device)
    generator = torch.Generator().manual_seed(0)
    layout = vae.encoder.layout
    x = torch.randn(snapshots, layout.fields, *layout.shape, generator=generator).to(device)
    noise = torch.randn(samples, snapshots, vae.latent, generator=generator).to(device)

    def one_pass() -> None:
        z = reparameterise(vae.encoder(x), noise)
        with torch.enable_grad():
            vae.decoder.mean(z.flatten(0, 1)).square().mean().backward()
        stage.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return one_pass


def _seconds(one_pass: Callable[[], None]) -> float:
    one_pass()
    times = []
    for _ in range(_TURNS):
        begin = time.perf_counter()
        one_pass()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)
