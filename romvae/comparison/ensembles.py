"""Scores of a ROM's members, which are fields that could be: as an ensemble, and each snapshot as one object.

They score what the networks and the spread of the posterior give, and nothing else: the decoder's own variance is not
in the members, and the calibration does not scale them. Where compression is most of the error, the members lie closer
together than to the truth, and these scores come near to the error of the mean; the Gaussian CRPS is that of the
whole, calibrated forecast.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from romvae import metrics as score
from romvae.baselines.model import BaselineModel
from romvae.errors import FewMembersWarning
from romvae.forecast import Course, Request
from romvae.pieces import MEMBERS
from romvae.schema import MEMBER, TIME, TRAJECTORY
from romvae.start import after_start, start_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from romvae.baselines.model import Model

__all__ = ["ensemble_scores"]

MOST, TRAJECTORIES, LEAST = 16, 64, 4
"""Members and trajectories that are scored at most, and trajectories at least."""
DECODED, AT_ONCE = 2**28, 2**17
"""Decoded values beyond which fewer trajectories are taken, and values of the truth that are scored at once."""


def ensemble_scores(
    model: Model, test: xr.Dataset, members: int, seed: int
) -> tuple[dict[str, Any], xr.Dataset, dict[str, NDArray[np.float64]]]:
    """Energy score, fair CRPS and rank histogram of members, of up to 16 of them and 64 trajectories.

    Trajectories are the first ones, and members the first of those that the comparison's forecasts have. Of large
    fields fewer trajectories are taken. Means over fields, as of the other scores.

    Arguments:
        model: Whose forecasts; a baseline has no members.
        test: Held-out trajectories from their first time on; what a forecast starts from is not scored.
        members: Of the comparison's forecasts.
        seed: Their seed.

    Returns:
        For the metrics: `energy_score` and `ensemble_crps`, in units of the field, and what they are of, `ensemble`
        (`members`, `trajectories`). And over lead time `rom_energy_score` and `rom_ensemble_crps`, beside
        `rank_histogram`, the share of values that have 0, 1, ..., M members below them. And both scores of every
        snapshot, `(field, trajectory, time)`, see `romvae.comparison.sums`. All empty for a baseline, and with fewer
        than two members.
    """
    count = min(members, MOST)
    if isinstance(model, BaselineModel) or count < 2:
        return {}, xr.Dataset(), {}
    names = list(model.schema.field_names)
    whole, test = test, after_start(model, test)
    each = count * len(names) * math.prod(test[names[0]].shape[1:])
    taken = min(test.sizes[TRAJECTORY], TRAJECTORIES, max(LEAST, DECODED // each))
    some = test.isel({TRAJECTORY: slice(0, taken)})
    start = start_of(model, whole.isel({TRAJECTORY: slice(0, taken)}))
    ask = Request(test.sizes[TIME] - 1, count, seed, keep_members=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewMembersWarning)  # said of the comparison's forecasts
        course = Course.of(model, start, ask, some if model.schema.controls else None)
    shape = (len(names), taken, test.sizes[TIME])
    found = {"energy_score": np.empty(shape), "ensemble_crps": np.empty(shape)}
    ranks, values = np.zeros(count + 1), 0
    for (rows, times), truth, ensemble in _portions(course, some):
        space = truth[names[0]].dims[2:]
        own = {
            "energy_score": score.energy_score(truth, ensemble, ()),
            "ensemble_crps": score.ensemble_crps(truth, ensemble, space),
        }
        for name, result in own.items():
            found[name][:, rows, times] = np.stack([result[n].transpose(TRAJECTORY, TIME).values for n in names])
        if times.stop > 1:
            ahead = [ds.isel({TIME: slice(max(0, 1 - times.start), None)}) for ds in (truth, ensemble)]
            size = ahead[0][names[0]].size
            ranks += size * score.over_fields(score.rank_histogram(ahead[0], ahead[1], seed)).values
            values += size
    later = {name: each[:, :, 1:] for name, each in found.items()}
    numbers: dict[str, Any] = {name: float(each.mean()) for name, each in later.items()}
    numbers["ensemble"] = {"members": count, "trajectories": taken}
    curves = {f"rom_{name}": (TIME, each.mean((0, 1))) for name, each in later.items()}
    ahead_of = {TIME: test[TIME].isel({TIME: slice(1, None)}).variable}
    return numbers, xr.Dataset({**curves, "rank_histogram": ("rank", ranks / max(1, values))}, ahead_of), later


def _portions(course: Course, test: xr.Dataset) -> Iterator[tuple[tuple[slice, slice], xr.Dataset, xr.Dataset]]:
    """Which trajectories and times, their truth and their members, points of the domain only; no coordinates."""
    rom, names = course.rom, list(course.rom.schema.field_names)
    grid = rom.schema.grid.names
    dims, size = (TRAJECTORY, TIME, *grid), math.prod(rom.schema.grid.shape) * len(names)
    for rows, piece in course.pieces():
        trajectories, times = piece.values[names[0]].shape[:2]
        length = max(1, AT_ONCE // (size * trajectories))
        for first in range(0, times, length):
            part = slice(first, min(first + length, times))
            at = slice(piece.place + part.start, piece.place + part.stop)
            given = test[names].isel({TRAJECTORY: rows, TIME: at}).transpose(*dims)
            truth = xr.Dataset({name: (dims, given[name].values) for name in names})
            every = (*dims[:2], MEMBER, *grid)
            ensemble = xr.Dataset({name: (every, piece.values[name + MEMBERS][:, part]) for name in names})
            yield (rows, at), score.in_domain(truth, rom.mask), score.in_domain(ensemble, rom.mask)
