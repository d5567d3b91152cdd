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
from romvae.nn.observation import Observation
from romvae.propagation import between_networks, network_paths
from romvae.quantities import quantity_forecast
from romvae.rollout import (
    Moments,
    calibrated,
    check_finite,
    decoded_means,
    decoded_members,
    forecast_moments,
    latent_members,
)
from romvae.schema import LATENT, TIME, TRAJECTORY

if TYPE_CHECKING:
    from romvae.forecast import Inputs, Request
    from romvae.rom import ROM

__all__ = ["Outside", "Piece", "pieces"]


@dataclass(frozen=True)
class Piece:
    """Some neighbouring times of a forecast.

    Arguments:
        place: Position of the first of them among those that are wanted.
        values: By the name of the variable, `(trajectory, time, *space)`, physical units; the codes under `latent`.
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
        values[..., self.points] = 0.0 if "_std" in kind else self.values[name][:, None]


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
        NumericsError: A latent stopped being finite; before the first piece.
    """
    place = 0
    latents, chunks = _normalised(rom, given, ask, torch.tensor(part.leads), decoder, first)
    for lead, parts, numbers in chunks:
        values = {LATENT: latents[lead].transpose(0, 1).numpy()}
        for k in part.fields:
            name = rom.schema.field_names[k]
            for kind, each in parts.items():
                values[name + kind] = each[:, :, k].transpose(0, 1).numpy()
                if outside is not None:
                    outside.put(name, kind, values[name + kind])
        yield Piece(place, values, numbers)
        place += len(lead)


_Chunks = Iterator[tuple[Tensor, dict[str, Tensor], dict[str, NDArray[np.float64]]]]
"""Lead times, `(lead, trajectory, channel, *space)` in physical units by what is appended to a name, and quantities."""


def _normalised(
    rom: ROM, given: Inputs, ask: Request, leads: Tensor, decoder: Observation, first: int
) -> tuple[Tensor, _Chunks]:
    """Latents `(time, trajectory, latent)` of the forecast, and what is decoded from them."""
    x0, c = given.x0, given.c
    along: dict[str, Any] = {"past": given.past, "controls": given.controls}
    centres = network_paths(rom.vae, rom.dynamics, x0, c, ask.steps, **along)
    if ask.propagation == "members":
        path = latent_members(rom.vae, rom.dynamics, x0, c, ask.steps, ask.members, ask.seed, first, **along)
        return path.mean(1), _sampled(rom, path, centres, ask, leads, decoder)
    latents = centres.mean(1)
    if ask.propagation == "linear":
        found = linear_moments(rom.vae, rom.dynamics, x0, c, ask.steps, leads, **along, decoder=decoder)
        return latents, ((moments.lead, _physical(rom, moments, ask), {}) for moments in found)
    check_finite(latents, ask.steps)
    means = decoded_means(decoder, latents, leads)
    return latents, ((lead, {"": _unscaled(rom.normaliser.inverse, mean)}, {}) for lead, mean in means)


def _sampled(rom: ROM, path: Tensor, centres: Tensor, ask: Request, leads: Tensor, decoder: Observation) -> _Chunks:
    """Moments of the members, and quantities of each of them where some are asked for."""

    def complete(moments: Moments) -> dict[str, Tensor]:
        between = between_networks(rom.vae, centres, moments.lead, ask.members, decoder)
        return _physical(rom, replace(moments, ensemble_var=between), ask)

    if not ask.quantities:
        for moments in forecast_moments(rom.vae, path, leads, decoder=decoder):
            yield moments.lead, complete(moments), {}
        return
    for lead, mean, var in decoded_members(rom.vae, path, leads, decoder=decoder):
        numbers = quantity_forecast(rom, mean, var, ask.quantities)
        yield lead, complete(Moments(lead, *mixture_moments(mean, var, dim=1))), numbers


def _physical(rom: ROM, moments: Moments, ask: Request) -> dict[str, Tensor]:
    """Mean, standard deviations and the ends of the interval, by what is appended to the fields' names."""
    stds = calibrated(moments, rom.calibration, ask.level, ask.interval, ask.share)
    physical = {f"_{name}": _unscaled(rom.normaliser.inverse_std, std) for name, std in stds.items()}
    mean, half = _unscaled(rom.normaliser.inverse, moments.mean), physical.pop("_half_width")
    return {"": mean, **physical, "_lower": mean - half, "_upper": mean + half}


def _unscaled(convert: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    return convert(values.flatten(0, 1)).reshape(values.shape)
