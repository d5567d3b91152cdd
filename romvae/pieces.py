"""A forecast as its lead times pass: fields in physical units, a few times at once, however long it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from romvae.distributions import mixture_moments
from romvae.excerpt import Excerpt
from romvae.first_order import linear_moments
from romvae.grading import initial_grades
from romvae.nn.observation import Observation
from romvae.propagation import between_networks, network_parts, network_paths, networks_at
from romvae.quantities import quantity_forecast
from romvae.rollout import (
    Moments,
    calibrated,
    check_finite,
    decoded_means,
    decoded_members,
    forecast_moments,
    latent_parts,
    latents_at,
)
from romvae.schema import LATENT, TIME, TRAJECTORY

if TYPE_CHECKING:
    from romvae.forecast import Inputs, Request
    from romvae.rom import ROM

__all__ = ["LATENT_BYTES", "MEMBERS", "Outside", "Piece", "pieces", "steps_at_once"]

MEMBERS = "_members"
"""What is appended to a field's name for what its members decode to."""

LATENT_BYTES = 2**23
"""What latents of all members at the steps that pass together may take; on their way they take four times that."""


@dataclass(frozen=True)
class Piece:
    """Some neighbouring times of a forecast.

    Arguments:
        place: Position of the first of them among those that are wanted.
        values: By the name of the variable, `(trajectory, time, *space)`, physical units; the codes under `latent`, and
            what members decode to, if it was asked for, `(trajectory, time, member, *space)`.
        numbers: What quantities of interest are, `(trajectory, time)`, as `quantity_forecast` names them.
    """

    place: int
    values: dict[str, NDArray[np.float32]]
    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Outside:
    """Points outside of the mask, and what each trajectory repeats there, `(trajectory, point)` by field."""

    points: NDArray[np.bool_]
    values: Mapping[str, NDArray[np.float64]]

    @classmethod
    def of(cls, start: xr.Dataset, rom: ROM, mask: NDArray[np.bool_], part: Excerpt) -> Outside:
        """What stands there in the initial fields."""
        window = part.window or tuple(slice(None) for _ in rom.schema.grid.names)
        lead = (TRAJECTORY,) if TRAJECTORY in start.dims else ()
        points, values = ~mask[window], {}
        everywhere: tuple[Any, ...] = (..., *window)
        for name in (rom.schema.field_names[k] for k in part.fields):
            given = start[name].isel({TIME: -1}) if TIME in start[name].dims else start[name]
            whole = given.transpose(*lead, *rom.schema.grid.names).values[everywhere]
            values[name] = whole[..., points].reshape(-1, int(points.sum()))
        return cls(points, values)

    def __getitem__(self, rows: slice) -> Outside:
        return Outside(self.points, {name: each[rows] for name, each in self.values.items()})

    def put(self, name: str, kind: str, values: NDArray[np.float32]) -> None:
        """A forecast repeats there what stands in the start, and claims no spread."""
        given, between = self.values[name], [1] * (values.ndim - 1 - self.points.ndim)  # time, and members
        values[..., self.points] = 0.0 if "_std" in kind else given.reshape(len(given), *between, -1)


@torch.no_grad()
def pieces(
    rom: ROM,
    given: Inputs,
    ask: Request,
    part: Excerpt,
    decoder: Observation,
    first: int,
    outside: Outside | None,
) -> Iterator[Piece]:
    """The forecast of a block of trajectories, in the order of time.

    Arguments:
        rom: Trained.
        given: Where the block starts.
        ask: What is wanted; unless it is of members, their number is that of the networks.
        part: Which times, fields and region.
        decoder: Of the ROM, or the window of it that the region needs.
        first: Position of the first trajectory among all.
        outside: Points that do not belong to the domain.

    Raises:
        NumericsError: A latent stopped being finite; where all steps pass together, before the first piece.
    """
    place = 0
    chunks = _normalised if part.stored else _between
    for lead, latents, parts, numbers in chunks(rom, given, ask, torch.tensor(part.leads), decoder, first):
        values = {LATENT: latents.transpose(0, 1).numpy()}
        for k in part.fields:
            name = rom.schema.field_names[k]
            for kind, each in parts.items():
                values[name + kind] = each[:, :, k].transpose(0, 1).numpy()
                if outside is not None:
                    outside.put(name, kind, values[name + kind])
        yield Piece(place, values, numbers)
        place += len(lead)


_Chunks = Iterator[tuple[Tensor, Tensor, dict[str, Tensor], dict[str, NDArray[np.float64]]]]
"""Lead times, latents `(lead, trajectory, latent)`, `(lead, trajectory, channel, *space)` in physical units by what is
appended to a name, `(lead, trajectory, channel, member, *space)` of the members, and quantities."""


def _normalised(rom: ROM, given: Inputs, ask: Request, leads: Tensor, decoder: Observation, first: int) -> _Chunks:
    """Latents of the forecast and what is decoded from them, in parts of time that keep latents small."""
    start = (rom.vae, rom.dynamics, given.x0, given.c, ask.steps)
    along: dict[str, Any] = {"past": given.past, "controls": given.controls}
    grades = None if ask.propagation == "mean" else initial_grades(rom.vae, rom.calibration, given.x0, given.c)
    if ask.propagation == "linear":
        latents = network_paths(*start, **along).mean(1)
        for moments in linear_moments(*start, leads, **along, decoder=decoder):
            yield moments.lead, latents[moments.lead], _physical(rom, moments, ask, grades), {}
        return
    length = steps_at_once(rom, ask, len(given.x0))
    centres = network_parts(*start, length, **along)
    if ask.propagation == "mean":
        codes = None
        for begin, paths in centres:
            latents = paths.mean(1)
            codes = latents[0] if codes is None else codes
            check_finite(latents, ask.steps, begin, codes, first)
            for lead, mean in decoded_means(decoder, latents, _within(leads, begin, paths)):
                yield lead + begin, latents[lead], {"": _unscaled(rom.normaliser.inverse, mean)}, {}
        return
    members = latent_parts(*start, ask.members, ask.seed, first, length, **along)
    for (begin, path), (_, paths) in zip(members, centres, strict=True):
        latents, here = path.mean(1), _within(leads, begin, path)
        every = begin + torch.arange(len(path))
        for lead, parts, numbers in _sampled(rom, path, paths, ask, here, every, decoder, grades):
            yield lead + begin, latents[lead], parts, numbers


def _between(rom: ROM, given: Inputs, ask: Request, leads: Tensor, decoder: Observation, first: int) -> _Chunks:
    """The same where some lead times lie between stored ones: no others are kept, and all pass together."""
    start = (rom.vae, rom.dynamics, given.x0, given.c, leads)
    along: dict[str, Any] = {"past": given.past, "controls": given.controls}
    centres, here = networks_at(*start, **along), torch.arange(len(leads))
    if ask.propagation == "mean":
        latents = centres.mean(1)
        check_finite(latents, ask.steps, first=first, leads=leads)
        for lead, mean in decoded_means(decoder, latents, here):
            yield leads[lead], latents[lead], {"": _unscaled(rom.normaliser.inverse, mean)}, {}
        return
    path = latents_at(*start, ask.members, ask.seed, first, **along)
    latents, grades = path.mean(1), initial_grades(rom.vae, rom.calibration, given.x0, given.c)
    for lead, parts, numbers in _sampled(rom, path, centres, ask, here, leads, decoder, grades):
        yield leads[lead], latents[lead], parts, numbers


def steps_at_once(rom: ROM, ask: Request, trajectories: int) -> int:
    """Steps whose latents pass together: all of them, unless those of a single trajectory take too much memory."""
    if rom.dynamics.stochastic:
        return max(1, ask.steps)
    members = ask.members if ask.propagation == "members" else rom.dynamics.members
    large = LATENT_BYTES // (4 * members * rom.vae.latent * trajectories * rom.dynamics.stride)
    return max(1, large) * rom.dynamics.stride


def _within(leads: Tensor, begin: int, path: Tensor) -> Tensor:
    """The lead times that a part of the steps holds, counted from its first."""
    return leads[(leads >= begin) & (leads < begin + len(path))] - begin


_Sampled = Iterator[tuple[Tensor, dict[str, Tensor], dict[str, NDArray[np.float64]]]]


def _sampled(
    rom: ROM,
    path: Tensor,
    centres: Tensor,
    ask: Request,
    leads: Tensor,
    every: Tensor,
    decoder: Observation,
    grades: Tensor | None,
) -> _Sampled:
    """Moments of the members at some places of `path`, and quantities of each of them where some are asked for.

    `every` holds the lead time of each place.
    """

    def complete(moments: Moments) -> dict[str, Tensor]:
        between = between_networks(rom.vae, centres, moments.lead, ask.members, decoder)
        return _physical(rom, replace(moments, lead=every[moments.lead], ensemble_var=between), ask, grades)

    if not ask.quantities:
        for moments in forecast_moments(rom.vae, path, leads, decoder=decoder, keep_members=ask.keep_members):
            yield moments.lead, complete(moments), {}
        return
    for lead, mean, var in decoded_members(rom.vae, path, leads, decoder=decoder):
        numbers = quantity_forecast(rom, mean, var, ask.quantities)
        members = mean.transpose(1, 2) if ask.keep_members else None
        yield lead, complete(Moments(lead, *mixture_moments(mean, var, dim=1), members=members)), numbers


def _physical(rom: ROM, moments: Moments, ask: Request, grades: Tensor | None) -> dict[str, Tensor]:
    """Mean, standard deviations, members and the ends of the interval, by what is appended to the fields' names."""
    stds = calibrated(moments, rom.calibration, ask.level, ask.interval, ask.share, grades)
    physical = {f"_{name}": _unscaled(rom.normaliser.inverse_std, std) for name, std in stds.items()}
    mean, half = _unscaled(rom.normaliser.inverse, moments.mean), physical.pop("_half_width")
    if moments.members is not None:
        each = rom.normaliser.inverse(moments.members.flatten(0, 2)).reshape(moments.members.shape)
        physical[MEMBERS] = each.transpose(2, 3)
    return {"": mean, **physical, "_lower": mean - half, "_upper": mean + half}


def _unscaled(convert: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    return convert(values.flatten(0, 1)).reshape(values.shape)
