"""`latent: auto`: the size of the code from a few trainings, before the training itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from romvae.latent.dimension import LatentSize, search
from romvae.ragged import even_snapshots
from romvae.rom import ROM
from romvae.training.compression import fit_compression

if TYPE_CHECKING:
    from romvae.data import Parts

__all__ = ["suggest_latent"]


def suggest_latent(
    parts: Parts,
    *,
    seed: int = 0,
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    sweep: bool = False,
    progress: Callable[..., None] | None = None,
) -> LatentSize:
    """How many latents the data need, with reasons: `print(romvae.suggest_latent(parts).sentence())`.

    Bounds from the data, one training of encoder and decoder at the upper one, a count of the active latents, a second
    training with one more than those, and a third where that is clearly worse (`romvae.latent.search`). It costs two
    or three times the first stage of `romvae.fit`. Seeds differ: a second one may well answer with one latent more or
    less.

    Arguments:
        parts: From `romvae.split`; the training part is trained on, and the `variance` part judges. Where trajectories
            differ in length, of each the part in which all have one.
        seed: Seed of weights and training.
        model: Arguments of `ROM.for_data`; `latent` has no effect.
        training: Arguments of `romvae.fit`: answers hold for the training that they were found with.
        sweep: Whether to double the size from 2 to the upper bound instead: slower, and thorough.
        progress: Called as `progress(stage, done, total, note)`.
    """
    parts = replace(parts, train=even_snapshots(parts.train), variance=even_snapshots(parts.variance))
    told = {name: value for name, value in (model or {}).items() if name not in ("latent", "seed")}
    told_training = dict(training or {})
    budget = told_training.get("memory_budget")

    def train(size: int) -> ROM:
        rom = ROM.for_data(parts.train, latent=size, seed=seed, memory_budget=budget, **told)

        def report(stage: str, done: int, total: int, note: str = "") -> None:
            if progress is not None:
                progress(f"{size} latents", done, total, note)

        return fit_compression(rom, parts.train, seed, told_training, report)

    return search(parts, train, sweep=sweep)
