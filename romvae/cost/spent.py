"""What a training cost in process seconds, as far as its clocks tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from romvae.kinds import STAGES

__all__ = ["TRAINING", "training_seconds"]

TRAINING = (*STAGES, "training")
"""Stages that a model's own training is made of; `training` is that of a baseline, as a whole."""


def training_seconds(
    seconds: Mapping[str, float],
    process: Mapping[str, float],
    threads: int,
    stages: Sequence[str] = TRAINING,
) -> float | None:
    """Process seconds of a training; None where nothing of it is known.

    A stage whose process seconds were not counted is taken as if all threads had worked throughout: that is too much
    where some of them waited, or where the training had fewer.

    Arguments:
        seconds: Wall-clock by stage; other entries are passed over.
        process: Process seconds by stage, as far as they were counted.
        threads: Those of the training, or, where that is not known, of the present process.
        stages: Which ones count.
    """
    walls = {stage: threads * seconds[stage] for stage in stages if seconds.get(stage) is not None}
    counted = {stage: process[stage] for stage in stages if process.get(stage) is not None}
    known = {**walls, **counted}
    return float(sum(known.values())) if known else None
