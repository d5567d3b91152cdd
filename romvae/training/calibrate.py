"""Rolls out the calibration trajectories and fits the factors on variance and intervals, then the trust horizon."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from romvae.calibration import frontier, trajectories_needed
from romvae.canonical import canonical
from romvae.distributions import mixture_moments
from romvae.errors import DataError, NumericsError, OutOfRangeWarning
from romvae.grading import initial_grades
from romvae.memory import release_freed
from romvae.quantities import keep_scores, quantity_scores, standard
from romvae.ragged import even_snapshots
from romvae.ranks import ALONE, Ranks
from romvae.rollout import decoded_members, latent_members
from romvae.rom import ROM
from romvae.schema import TRAJECTORY
from romvae.start import require_ahead, split_start
from romvae.streamed import Trajectories
from romvae.tensors import control_tensor, existing_tensor
from romvae.training.batches import step_generator
from romvae.training.weighing import BLOCK, MEMBERS, weigh_parts
from romvae.trust import calibrate_trust

__all__ = ["calibrate", "calibrate_horizon", "recalibrate"]

logger = logging.getLogger("romvae.training")

POINTS = 4096
"""Grid points used, at random beyond that many."""
TRUSTED = 64
"""Trajectories at most that stand behind the trust horizon."""
VALUES = 2**24
"""Values of decoded members held at once."""
_COPIES = 128
"""Bytes that a decoded value takes in all, with what is computed from it; for data on disk the budget bounds them."""


@torch.no_grad()
def calibrate(
    rom: ROM,
    x: Tensor | Trajectories,
    c: Tensor,
    seed: int,
    report: Callable[..., None],
    controls: Tensor | None = None,
    kept: Tensor | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Fits `rom.calibration` to forecasts of trajectories that nothing else was fitted on.

    Besides variances and intervals of fields: mean, L2, maximum and minimum of each (`romvae.quantities`). Forecasts
    start from the first fields of a trajectory, as many as the ROM is given.

    Where trajectories end early, a lead time rests on those that reach it. The last calibrated one is the last that as
    many reach as a 90 % interval needs (all of them, where there are fewer); beyond it everything is held constant.

    Arguments:
        rom: Trained; its calibration is replaced.
        x: Normalised trajectories `(trajectory, time, channel, *space)`.
        c: Normalised parameters `(trajectory, parameter)`.
        seed: Seed of the members and of the choice of points.
        report: Progress callable.
        controls: Normalised controls `(trajectory, time, control)`.
        kept: Which snapshots there are, boolean `(trajectory, time)`; None for all.
        ranks: Processes among which the trajectories are divided; all get the result of all.

    Raises:
        DataError: Too few trajectories have a second time, or one has none after its start.
    """
    begin = rom.start_times - 1
    require_ahead(rom, x.shape[1] if kept is None else int(kept.sum(1).min()), "calibration")
    controls, kept = (None if each is None else each[:, begin:] for each in (controls, kept))
    steps = x.shape[1] - 1 - begin if kept is None else _reached_by_enough(kept)
    leads = _lead_grid(steps, rom.dynamics.stride)
    without = weigh_parts(rom, x, c, seed, steps, report, controls, kept, ranks)
    points = math.prod(x.shape[3:])
    pick = torch.randperm(points, generator=step_generator(seed, "calibration points", 0))
    if rom.vae.decoder.mask is not None:
        pick = pick[rom.vae.decoder.mask.flatten()[pick]]
    inside, pick = pick.sort().values, pick[: _points(x, len(leads))].sort().values
    most = min(VALUES, x.budget // _COPIES) if isinstance(x, Trajectories) else VALUES
    frames = min(1024, max(1, most // (points * x.shape[2])))
    watched = standard(rom.schema)
    scores: dict[str, list[np.ndarray]] = {quantity.name: [] for quantity in watched}
    ratios, largest, stds, starts = [], [], [], []
    reached = None if kept is None else kept[:, leads].T
    size = min(x.block if isinstance(x, Trajectories) else BLOCK, -(-len(x) // ranks.size))
    blocks = range(0, len(x), size)
    for first in (blocks[k] for k in ranks.part(len(blocks))):
        report("calibration", first, len(x))
        if isinstance(x, Trajectories):
            release_freed()
        past, block = split_start(rom, x[first : first + size])
        driven = None if controls is None else controls[first : first + size]
        start = (rom.vae, rom.dynamics, block[:, 0], c[first : first + size])
        path = latent_members(*start, steps, MEMBERS, seed, first, past=past, controls=driven)
        rows = slice(first, first + len(block))
        grades = initial_grades(
            rom.vae, rom.calibration, block[:, 0], c[rows], None if without is None else without[rows]
        )
        parts, tops, chunks, widths = [], [], [], []
        for lead, mean, var in decoded_members(rom.vae, path, leads, frames):
            centre, decoder_var, dynamics_var = mixture_moments(mean, var, dim=1)
            truth = block[:, lead]
            error = (truth.transpose(0, 1) - centre).abs().flatten(3)
            if int(lead[0]) == 0:
                own = decoder_var[0].flatten(2).sqrt()
                starts.append(torch.stack([error[0], own])[..., pick].transpose(1, 2))
            decoder_var, dynamics_var = rom.calibration.parts.weighted(decoder_var, dynamics_var, grades)
            std = (decoder_var + dynamics_var).sqrt().flatten(3)
            widths.append(std[..., pick])
            parts.append(error[..., pick] / widths[-1])
            if len(pick) < len(inside):
                tops.append(torch.stack(frontier(error[..., inside], std[..., inside])))
            chunks.append(quantity_scores(rom, truth, mean, var, watched))
        ratios.append(torch.cat(parts).transpose(1, 2))
        stds.append(torch.cat(widths).transpose(1, 2))
        if tops:
            largest.append(torch.cat(tops, 1).transpose(2, 3))
        for name, found in scores.items():
            found.append(np.concatenate([chunk[name] for chunk in chunks], 1))
    every = ranks.gathered((ratios, largest, stds, starts, scores))
    ratios, largest = [part for its, *_ in every for part in its], [part for _, its, *_ in every for part in its]
    stds, starts = [part for its in every for part in its[2]], [part for its in every for part in its[3]]
    scores = {name: [part for *_, its in every for part in its[name]] for name in scores}
    candidates = None
    if largest:
        candidate_ratios, candidate_stds = torch.cat(largest, 3)
        candidates = (candidate_ratios, candidate_stds)
    rom.calibration.fit(leads, torch.cat(ratios, 2), candidates, reached, torch.cat(stds, 2))
    error, own = torch.cat(starts, 2)
    rom.calibration.fit_representation(error, own)
    if reached is not None:  # quantities rest on the trajectories that reach the last lead time
        to_the_end = reached.all(0).numpy()
        scores = {name: [np.concatenate(found)[to_the_end]] for name, found in scores.items()}
    keep_scores(rom, leads, scores)
    report("calibration", len(x), len(x))


def calibrate_horizon(rom: ROM, data: xr.Dataset, seed: int, report: Callable[..., None], ranks: Ranks = ALONE) -> None:
    """Fits `rom.trust` on up to 64 of the calibration trajectories, evenly chosen; after `calibrate`.

    It costs as much as rolling these out with 32 members: every time is decoded, where `calibrate` decodes a few of
    them. Where a forecast diverges, the ROM has no trust horizon, and the log says why.

    Arguments:
        rom: Its calibration is fitted; the predicted errors depend on it.
        data: The calibration part.
        seed: Seed of the members.
        report: Progress callable.
        ranks: Processes among which the trajectories are divided.
    """
    data = even_snapshots(canonical(data), rom.start_times)
    count = data.sizes[TRAJECTORY]
    if count > TRUSTED:
        data = data.isel({TRAJECTORY: np.linspace(0, count - 1, TRUSTED).round().astype(int)})
    count = min(count, TRUSTED)

    def told(first: int) -> None:
        report("calibration", first, count, "trust horizon")

    rom.trust.forget()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # said of the part as a whole
        try:
            calibrate_trust(rom, data, seed=seed, ranks=ranks, report=told)
        except NumericsError as error:
            logger.warning("no trust horizon: %s", error)
            return
    report("calibration", count, count)


def recalibrate(rom: ROM, data: xr.Dataset, *, seed: int = 0, progress: Callable[..., None] | None = None) -> ROM:
    """Calibrates a trained ROM again: on more trajectories, or because an older version made it.

    Arguments:
        rom: Trained; its calibration is replaced, that of quantities and of the trust horizon too.
        data: Trajectories that neither training nor variance has seen, from the distribution that forecasts are for.
        seed: Seed of the members.
        progress: Called as `progress(stage, done, total)`.

    Returns:
        The same ROM.

    Raises:
        SchemaError: The data are not on the ROM's grid.
    """
    data = canonical(data)
    rom.schema.check_controls(data)
    controls = control_tensor(data, rom.schema, rom.control_scaling)
    report = progress or (lambda *_: None)
    calibrate(rom, *rom.normalised(data), seed, report, controls, existing_tensor(data))
    calibrate_horizon(rom, data, seed, report)
    return rom


def _points(x: Tensor | Trajectories, leads: int) -> int:
    """Grid points whose ratios are kept; those of data on disk take a sixteenth of the budget."""
    if isinstance(x, Trajectories):
        return max(64, min(POINTS, x.budget // (64 * leads * len(x) * x.shape[2])))
    return POINTS


def _reached_by_enough(kept: Tensor) -> int:
    """The last lead time, in stored steps, that enough trajectories reach for an interval of 90 %."""
    lengths = kept.sum(1).sort(descending=True).values
    enough = min(len(lengths), trajectories_needed(0.9))
    steps = int(lengths[enough - 1]) - 1
    if steps < 1:
        raise DataError(
            f"calibration: {int((lengths > 1).sum())} of {len(lengths)} trajectories have a second time, expected at "
            f"least {enough}. Leave trajectories of one time out (romvae pack --min-steps 2)."
        )
    return steps


def _lead_grid(steps: int, stride: int, count: int = 24) -> Tensor:
    """Lead times at which to calibrate: every one in the first large steps, where the error changes fast, then even."""
    even = torch.linspace(0, steps, count).round().long()
    return torch.cat([even, torch.arange(min(steps, 4 * stride) + 1)]).unique()
