"""A forecast as an xarray Dataset on the snapshots' own dims, in physical units."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from romvae.calibration import Interval
from romvae.canonical import MASK, MASK_ATTRS
from romvae.distributions import mixture_moments
from romvae.errors import ConfigError, DataError, FewMembersWarning, SchemaError, caller_level
from romvae.excerpt import Excerpt, excerpt_of
from romvae.nn.observation import Observation
from romvae.nn.window import windowed
from romvae.propagation import between_networks, linear_moments, network_paths
from romvae.quantities import Quantity, quantity_forecast, quantity_variables
from romvae.rollout import (
    Moments,
    calibrated,
    check_finite,
    decoded_means,
    decoded_members,
    forecast_moments,
    latent_members,
)
from romvae.schema import LATENT, TIME, TRAJECTORY, Schema
from romvae.start import check_history, controls_for, history_of, start_time

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["KINDS", "Inputs", "Propagation", "Request", "check_names", "checked_inputs", "forecast", "together"]

Propagation = Literal["members", "linear", "mean"]
"""How spread reaches the field: by members, each followed on its own, to first order (`linear_moments`), or not at all:
`mean` averages the codes that the networks reach from the posterior's mean and decodes them once."""

FEW_MEMBERS = 8
"""With fewer members than this a forecast warns that its spread is not to be trusted."""
BLOCK, BLOCK_BYTES = 16, 2**29
"""Trajectories rolled out at once, fewer where their forecast would take more than that; bounds the memory."""
KINDS = ("", "_std", "_std_decoder", "_std_dynamics", "_std_posterior", "_std_ensemble", "_lower", "_upper")
"""What is appended to a field's name: mean, total standard deviation, its parts by decoder and dynamics, the latter's
parts by the posterior of the initial code and by the disagreement of the networks, ends of the interval."""


@dataclass(frozen=True)
class Request:
    """What a forecast is asked for; see `ROM.rollout`. `first` is the position of the first trajectory among all."""

    steps: int
    members: int = 32
    seed: int = 0
    level: float = 0.9
    interval: Interval = "point"
    share: float = 0.9
    propagation: Propagation = "members"
    quantities: tuple[Quantity, ...] = ()
    times: Sequence[float] | None = None
    fields: Sequence[str] | None = None
    region: Mapping[str, Any] | None = None
    first: int = 0

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is appended to the names of the fields."""
        return KINDS[:1] if self.propagation == "mean" else KINDS


@dataclass(frozen=True)
class Inputs:
    """What a forecast starts from in normalised units: fields, parameters, earlier fields and controls, if any."""

    x0: Tensor
    c: Tensor
    past: Tensor | None
    controls: Tensor | None

    def __getitem__(self, rows: slice) -> Inputs:
        past, controls = (None if each is None else each[rows] for each in (self.past, self.controls))
        return Inputs(self.x0[rows], self.c[rows], past, controls)


def together(rom: ROM, steps: int) -> int:
    """Trajectories that are rolled out at once: it follows from the sizes alone, as bits depend on it."""
    schema = rom.schema
    one = 4 * (steps + 1) * math.prod(schema.grid.shape) * len(schema.fields) * len(KINDS)
    return max(1, min(BLOCK, 2 ** int(math.log2(max(1, BLOCK_BYTES // one)))))


def checked_inputs(rom: ROM, start: xr.Dataset, ask: Request, controls: xr.Dataset | None = None) -> Inputs:
    """Checks everything that a forecast is given and asked for; arguments and errors as in `ROM.rollout`."""
    _check(start, ask.steps, ask.members, ask.level)
    check_history(rom, start)
    _check_kinds(rom, ask)
    x, c = rom.normalised(start)
    _finite(x, rom.schema)
    return Inputs(x[:, -1], c, history_of(rom, x), controls_for(rom, start, controls, ask.steps))


@torch.no_grad()
def forecast(rom: ROM, start: xr.Dataset, ask: Request, controls: xr.Dataset | None = None) -> xr.Dataset:
    """Forecasts every trajectory of `start`, block by block; see `ROM.rollout` for arguments, result and errors."""
    given = checked_inputs(rom, start, ask, controls)
    if ask.propagation != "members":
        ask = replace(ask, members=rom.dynamics.members)
    steps, schema = ask.steps, rom.schema
    t0 = start_time(start)
    part = excerpt_of(schema, t0, steps, ask.times, ask.fields, ask.region)
    decoder = rom.vae.decoder if part.window is None else windowed(rom.vae.decoder, part.window)
    single = TRAJECTORY not in start.dims
    size = together(rom, steps)
    pieces = [
        _block(rom, given[i : i + size], ask, part, decoder, ask.first + i) for i in range(0, len(given.x0), size)
    ]
    dims = (TRAJECTORY, TIME, *schema.grid.names)
    out: dict[str, Any] = {LATENT: ((TRAJECTORY, TIME, LATENT), np.concatenate([p[LATENT] for p in pieces]))}
    for field in (schema.fields[k] for k in part.fields):
        for kind in ask.kinds:
            values = np.concatenate([piece.pop(field.name + kind) for piece in pieces])
            out[field.name + kind] = (dims, values, {"units": field.units})
    if rom.mask is not None:
        _repeat_outside(out, start, rom, rom.mask, part, ask.kinds)
    times = t0 + schema.dt * np.asarray(part.leads)
    coords: dict[str, Any] = {**_space(rom, part), TIME: (TIME, times, {"units": schema.time_units})}
    if TRAJECTORY in start.coords:
        coords[TRAJECTORY] = start[TRAJECTORY].variable if not single else (TRAJECTORY, [int(start[TRAJECTORY])])
    for name in schema.parameter_names:
        coords[name] = (TRAJECTORY, np.asarray(start[name].values).reshape(-1), start[name].attrs)
    attrs: dict[str, Any] = {
        "Conventions": "CF-1.11 romvae-1",
        "level": ask.level,
        "members": ask.members,
        "seed": ask.seed,
        "interval": ask.interval,
        "propagation": ask.propagation,
        "calibration_trajectories": int(rom.calibration.trajectories),
        "calibration": rom.calibration.statement(ask.level),
    }
    if rom.calibration.fitted:
        attrs["guarantee"] = str(rom.calibration.guarantee(ask.level, ask.interval, ask.share))
    if ask.interval != "point":
        attrs["share"] = ask.share
    if "boundary_conditions" in start.attrs:
        attrs["boundary_conditions"] = start.attrs["boundary_conditions"]
    for quantity in ask.quantities:
        for name, variable in quantity_variables(rom, quantity, pieces, ask.level, part.leads).items():
            if name in out:
                raise ConfigError(f"rollout: the quantity {name!r} has the name of a variable. Rename the quantity.")
            out[name] = variable
    result = xr.Dataset(out, coords, attrs)
    return result.isel({TRAJECTORY: 0}) if single else result


def _space(rom: ROM, part: Excerpt) -> dict[str, Any]:
    """Coordinates of the grid, or of the window of it."""
    space = rom.space()
    if part.window is None:
        return space
    cut = zip(rom.schema.grid.names, part.window, strict=True)
    return {name: (space[name][0], space[name][1][window], space[name][2]) for name, window in cut}


def _block(
    rom: ROM, given: Inputs, ask: Request, part: Excerpt, decoder: Observation, first: int
) -> dict[str, np.ndarray]:
    """Forecast of a block of trajectories as arrays `(trajectory, time, *space)`, by the name of the variable."""
    x0, c, past, controls = given.x0, given.c, given.past, given.controls
    shape = (len(part.leads), len(x0), *part.shape(rom.schema.grid.shape))
    names = [rom.schema.field_names[k] for k in part.fields]
    out = {f + kind: np.empty(shape, np.float32) for f in names for kind in ask.kinds}
    leads = torch.tensor(part.leads)
    centres = network_paths(rom.vae, rom.dynamics, x0, c, ask.steps, past=past, controls=controls)
    scalars: dict[str, list[np.ndarray]] = {}
    if ask.propagation == "members":
        path = latent_members(
            rom.vae, rom.dynamics, x0, c, ask.steps, ask.members, ask.seed, first, past=past, controls=controls
        )
        latents = path.mean(1)
        chunks = _sampled(rom, path, centres, ask, leads, decoder, scalars)
    else:
        latents = centres.mean(1)
        chunks = iter(())
        if ask.propagation == "linear":
            chunks = linear_moments(
                rom.vae, rom.dynamics, x0, c, ask.steps, leads, past=past, controls=controls, decoder=decoder
            )
        else:
            check_finite(latents, ask.steps)
            for lead, mean in decoded_means(decoder, latents, leads):
                _put(rom, lead, {"": rom.normaliser.inverse(mean.flatten(0, 1)).reshape(mean.shape)}, part, out)
    for moments in chunks:
        _fill(rom, moments, ask, part, out)
    result = {name: np.swapaxes(values, 0, 1) for name, values in out.items()}
    result |= {name: np.concatenate(values, 1) for name, values in scalars.items()}
    result[LATENT] = latents[leads].transpose(0, 1).numpy()
    return result


def _sampled(
    rom: ROM,
    path: Tensor,
    centres: Tensor,
    ask: Request,
    leads: Tensor,
    decoder: Observation,
    scalars: dict[str, list[np.ndarray]],
) -> Iterator[Moments]:
    """Moments of the members; what the quantities are goes into `scalars`, arrays `(trajectory, lead)` by name."""

    def disagreement(lead: Tensor) -> Tensor:
        return between_networks(rom.vae, centres, lead, ask.members, decoder)

    if not ask.quantities:
        for moments in forecast_moments(rom.vae, path, leads, decoder=decoder):
            yield replace(moments, ensemble_var=disagreement(moments.lead))
        return
    for lead, mean, var in decoded_members(rom.vae, path, leads, decoder=decoder):
        for name, values in quantity_forecast(rom, mean, var, ask.quantities).items():
            scalars.setdefault(name, []).append(values)
        yield Moments(lead, *mixture_moments(mean, var, dim=1), disagreement(lead))


def _fill(rom: ROM, moments: Moments, ask: Request, part: Excerpt, out: dict[str, np.ndarray]) -> None:
    """Writes the moments of some lead times into the arrays `(time, trajectory, *space)`, in physical units."""
    stds = calibrated(moments, rom.calibration, ask.level, ask.interval, ask.share)
    physical = {name: rom.normaliser.inverse_std(s.flatten(0, 1)).reshape(s.shape) for name, s in stds.items()}
    mean = rom.normaliser.inverse(moments.mean.flatten(0, 1)).reshape(moments.mean.shape)
    half = physical.pop("half_width")
    parts = {"": mean, "_lower": mean - half, "_upper": mean + half}
    parts |= {f"_{name}": std for name, std in physical.items()}
    _put(rom, moments.lead, parts, part, out)


def _put(rom: ROM, lead: Tensor, values: dict[str, Tensor], part: Excerpt, out: dict[str, np.ndarray]) -> None:
    """Writes `(lead, trajectory, channel, *space)` of each kind into its array."""
    rows = np.searchsorted(part.leads, lead.numpy())
    for k in part.fields:
        for kind, each in values.items():
            out[rom.schema.field_names[k] + kind][rows] = each[:, :, k].numpy()


def _repeat_outside(
    out: dict[str, Any], start: xr.Dataset, rom: ROM, mask: np.ndarray, part: Excerpt, kinds: Sequence[str]
) -> None:
    """Outside of the mask a forecast repeats what stands in the start, and claims no spread."""
    window: tuple[Any, ...] = part.window or tuple(slice(None) for _ in rom.schema.grid.names)
    mask = mask[window]
    outside = ~mask
    lead = (TRAJECTORY,) if TRAJECTORY in start.dims else ()
    out[MASK] = (rom.schema.grid.names, mask.astype(np.int8), MASK_ATTRS)
    for name in (rom.schema.field_names[k] for k in part.fields):
        given = start[name].isel({TIME: -1}) if TIME in start[name].dims else start[name]
        values = given.transpose(*lead, *rom.schema.grid.names).values[(..., *window)][..., outside]
        for kind in kinds:
            kept = np.zeros_like(values) if "_std" in kind else values
            out[name + kind][1][..., outside] = kept.reshape(-1, 1, kept.shape[-1])


def _check(start: xr.Dataset, steps: int, members: int, level: float) -> None:
    for name, value in (("steps", steps), ("members", members)):
        if value < 1:
            raise ConfigError(f"rollout: {name} is {value}, expected 1 or more. Choose a positive number.")
    if not 0 < level < 1:
        raise ConfigError(f"rollout: level is {level}, expected between 0 and 1. Choose 0.9, for example.")
    if members < FEW_MEMBERS:
        warnings.warn(
            f"rollout: {members} members say little about the spread of a forecast, and its interval was "
            "calibrated with 16. Use 16 or more for the uncertainty; the mean is fine.",
            FewMembersWarning,
            stacklevel=caller_level(),
        )


def _check_kinds(rom: ROM, ask: Request) -> None:
    """Refuses what this ROM's calibration cannot promise, and what does not go together."""
    if ask.propagation not in get_args(Propagation):
        raise ConfigError(f"rollout: propagation is {ask.propagation!r}, expected members, linear or mean. Choose one.")
    if ask.quantities and ask.region is not None:
        raise ConfigError("rollout: quantities are computed from the whole field. Ask for them without a region.")
    if ask.quantities and ask.propagation != "members":
        raise ConfigError("rollout: quantities are computed from members. Use propagation='members' for them.")
    rom.calibration.width(torch.zeros(1), ask.level, ask.interval, ask.share)
    promise = rom.calibration.guarantee(ask.level, ask.interval, ask.share)
    if ask.interval != "point" and not promise.attained:
        raise DataError(f"rollout: {promise} Lower the level, or calibrate on more trajectories.")
    for quantity in ask.quantities:
        quantity.check(rom.schema)
        rom.calibration.quantities.at(quantity.name, torch.zeros(1), ask.level)


def check_names(schema: Schema) -> None:
    """Refuses fields whose names are those of another field's uncertainty: one would replace the other."""
    names = [f + kind for f in schema.field_names for kind in KINDS] + [LATENT]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaError(
            f"field {twice[0]!r} has the name of a variable of the forecast ({', '.join(KINDS[1:])} are "
            "appended to the fields' names). Rename the field in the data."
        )


def _finite(x: Tensor, schema: Schema) -> None:
    bad = (~x.isfinite()).nonzero()
    if len(bad):
        trajectory, _, channel, *space = (int(i) for i in bad[0])
        place = ", ".join(f"{d}={i}" for d, i in zip(schema.grid.names, space, strict=True))
        raise DataError(
            f"rollout: start field {schema.field_names[channel]!r} is not finite at trajectory={trajectory}, {place}. "
            "Repair the initial field."
        )
