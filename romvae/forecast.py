"""A forecast as an xarray Dataset on the snapshots' own dims, in physical units."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from romvae.agreement import chosen, sampled
from romvae.calibration import Interval, calibrated_steps
from romvae.canonical import MASK, MASK_ATTRS
from romvae.data.trainable import KINDS, require_names
from romvae.errors import ConfigError, DataError, DivergedError, FewMembersWarning, SchemaError, caller_level
from romvae.excerpt import Excerpt, excerpt_of
from romvae.memory import require_memory
from romvae.nn.observation import Observation
from romvae.nn.window import windowed
from romvae.pieces import MEMBERS, Outside, Piece, pieces
from romvae.quantities import Quantity, quantity_variables
from romvae.schema import LATENT, MEMBER, TIME, TRAJECTORY, Schema
from romvae.start import check_history, check_start, controls_for, history_of, start_time

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = [
    "KINDS",
    "Course",
    "Inputs",
    "Propagation",
    "Request",
    "check_names",
    "checked_inputs",
    "forecast",
    "naming_outside",
    "together",
]

Propagation = Literal["members", "linear", "mean", "auto"]
"""How spread reaches the field: by members, each followed on its own, to first order (`linear_moments`), or not at all:
`mean` averages the codes that the networks reach from the posterior's mean and decodes them once. `auto` becomes
`linear` or `members` before a forecast begins, see `romvae.agreement`."""

FEW_MEMBERS = 8
"""With fewer members than this a forecast warns that its spread is not to be trusted."""
BLOCK, BLOCK_BYTES = 16, 2**25
"""Trajectories rolled out at once; fewer where their latents, or their fields at one time, would take more bytes."""
_PATHS = 4
"""What latents take on their way, in units of themselves: steps, all times, members in their order, checks."""
_MEMBERS_ARE = "mean that each member decodes to; the decoder's own spread is not in it"


@dataclass(frozen=True)
class Request:
    """What a forecast is asked for; see `ROM.rollout`.

    `first` is the position of the first trajectory among all, `choice` what `auto` became and why.
    """

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
    choice: str = ""
    keep_members: bool = False

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

    def __getitem__(self, rows: slice | list[int]) -> Inputs:
        past, controls = (None if each is None else each[rows] for each in (self.past, self.controls))
        return Inputs(self.x0[rows], self.c[rows], past, controls)


def together(rom: ROM, ask: Request) -> int:
    """Trajectories that are rolled out at once: it follows from the sizes alone, as bits depend on it.

    Fewer than `BLOCK` where their latents at all times, or their fields at one of them, members among them where they
    are kept, would take too much memory.
    """
    members = ask.members
    if ask.propagation != "members":
        members = rom.dynamics.members * (1 + rom.vae.latent if ask.propagation == "linear" else 1)
    kept = 2 * members if ask.keep_members else 0  # decoded, and in physical units
    latents = _PATHS * 4 * (ask.steps + 1) * members * rom.vae.latent
    fields = 4 * math.prod(rom.schema.grid.shape) * len(rom.schema.fields) * (len(KINDS) + kept)
    return max(1, min(BLOCK, 2 ** int(math.log2(max(1, BLOCK_BYTES // max(latents, fields))))))


def checked_inputs(rom: ROM, start: xr.Dataset, ask: Request, controls: xr.Dataset | None = None) -> Inputs:
    """Checks everything that a forecast is given and asked for; arguments and errors as in `ROM.rollout`."""
    _check(start, ask.steps, ask.members, ask.level)
    check_history(rom, start)
    _check_kinds(rom, ask)
    x, c = rom.normalised(start)
    _finite(x, rom.schema)
    return Inputs(x[:, -1], c, history_of(rom, x), controls_for(rom, start, controls, ask.steps))


@dataclass(frozen=True)
class Course:
    """A forecast that has been checked and not yet computed.

    Arguments:
        rom: Trained.
        given: Where it starts.
        ask: What is wanted, with the number of members that there will be.
        part: Which times, fields and region that means.
        decoder: Of the ROM, or a window of it.
        outside: Points outside of the domain, if there are any.
        start: As it was given, with the parameters in their units.
    """

    rom: ROM
    given: Inputs
    ask: Request
    part: Excerpt
    decoder: Observation
    outside: Outside | None
    start: xr.Dataset

    @classmethod
    def of(cls, rom: ROM, start: xr.Dataset, ask: Request, controls: xr.Dataset | None = None) -> Course:
        """Arguments and errors as in `ROM.rollout`."""
        given = checked_inputs(rom, start, ask, controls)
        given_times = (start_time(start), ask.steps, ask.times)
        part = excerpt_of(rom.schema, *given_times, ask.fields, ask.region, between=rom.dynamics.continuous)
        if not part.stored:
            ask = _between(ask)
        decoder = rom.vae.decoder if part.window is None else windowed(rom.vae.decoder, part.window)
        if ask.propagation == "auto":
            kind, why = chosen(rom, given[sampled(len(given.x0))], ask, [int(lead) for lead in part.leads], decoder)
            ask = replace(ask, propagation=kind, choice=f"{kind}: {why}")
        if ask.propagation != "members":
            ask = replace(ask, members=rom.dynamics.members)
        mask = rom.mask
        outside = None if mask is None else Outside.of(start, rom, mask, part)
        return cls(rom, given, ask, part, decoder, outside, start)

    @property
    def trajectories(self) -> int:
        """Their number."""
        return len(self.given.x0)

    def pieces(self) -> Iterator[tuple[slice, Piece]]:
        """Which trajectories, and some of their times: block after block, each in the order of time."""
        size = together(self.rom, self.ask)
        for first in range(0, self.trajectories, size):
            rows = slice(first, min(first + size, self.trajectories))
            outside = None if self.outside is None else self.outside[rows]
            block = (self.given[rows], self.ask, self.part, self.decoder, self.ask.first + first, outside)
            for piece in self._passing(block):
                yield rows, piece

    def _passing(self, block: tuple[Any, ...]) -> Iterator[Piece]:
        with naming_outside(self.rom.schema, self.start, self.ask.first):
            yield from pieces(self.rom, *block)


@contextmanager
def naming_outside(schema: Schema, start: xr.Dataset, first: int) -> Iterator[None]:
    """A forecast that diverges within says which parameters of its trajectories lie outside of the trained range.

    Arguments:
        schema: Of the ROM.
        start: What is forecast, with its parameters.
        first: Position of its first trajectory among all.
    """
    try:
        yield
    except DivergedError as error:
        outside = {first + row: words for row, words in schema.outside(start).items()}
        raise DivergedError(error.steps, error.of, error.how, outside) from None


@torch.no_grad()
def forecast(rom: ROM, start: xr.Dataset, ask: Request, controls: xr.Dataset | None = None) -> xr.Dataset:
    """Forecasts every trajectory of `start`, block by block; see `ROM.rollout` for arguments, result and errors."""
    course = Course.of(rom, start, ask, controls)
    ask, part, schema = course.ask, course.part, rom.schema
    single = TRAJECTORY not in start.dims
    _require_room(course)
    whole: dict[str, np.ndarray] = {}
    numbers: dict[str, np.ndarray] = {}
    for rows, piece in course.pieces():
        for found, values in ((whole, piece.values), (numbers, piece.numbers)):
            for name, each in values.items():
                if name not in found:
                    found[name] = np.empty((course.trajectories, len(part.leads), *each.shape[2:]), each.dtype)
                found[name][rows, piece.place : piece.place + each.shape[1]] = each
    dims = (TRAJECTORY, TIME, *schema.grid.names)
    out: dict[str, Any] = {LATENT: ((TRAJECTORY, TIME, LATENT), whole.pop(LATENT))}
    for field in (schema.fields[k] for k in part.fields):
        for kind in ask.kinds:
            out[field.name + kind] = (dims, whole.pop(field.name + kind), {"units": field.units})
        if ask.keep_members:
            about = {"units": field.units, "long_name": _MEMBERS_ARE}
            out[field.name + MEMBERS] = ((MEMBER, *dims), np.moveaxis(whole.pop(field.name + MEMBERS), 2, 0), about)
    if course.outside is not None:
        out[MASK] = (schema.grid.names, (~course.outside.points).astype(np.int8), MASK_ATTRS)
    times = start_time(start) + schema.dt * np.asarray(part.leads)
    coords: dict[str, Any] = {**_space(rom, part), TIME: (TIME, times, {"units": schema.time_units})}
    if TRAJECTORY in start.coords:
        coords[TRAJECTORY] = start[TRAJECTORY].variable if not single else (TRAJECTORY, [int(start[TRAJECTORY])])
    for name in schema.parameter_names:
        coords[name] = (TRAJECTORY, np.asarray(start[name].values).reshape(-1), start[name].attrs)
    for quantity in ask.quantities:
        for name, variable in quantity_variables(rom, quantity, [numbers], ask.level, part.leads).items():
            if name in out:
                raise ConfigError(f"rollout: the quantity {name!r} has the name of a variable. Rename the quantity.")
            out[name] = variable
    result = xr.Dataset(out, coords, _attributes(rom, start, ask))
    return result.isel({TRAJECTORY: 0}) if single else result


def _attributes(rom: ROM, start: xr.Dataset, ask: Request) -> dict[str, Any]:
    """What a forecast says of itself."""
    attrs: dict[str, Any] = {
        "Conventions": "CF-1.11 romvae-1",
        "level": ask.level,
        "members": ask.members,
        "seed": ask.seed,
        "interval": ask.interval,
        "propagation": ask.propagation,
        **({"propagation_choice": ask.choice} if ask.choice else {}),
        "calibration_trajectories": int(rom.calibration.trajectories),
        "calibrated_steps": calibrated_steps(rom.calibration),
        "calibration": rom.calibration.statement(ask.level),
    }
    if rom.calibration.fitted:
        attrs["guarantee"] = str(rom.calibration.guarantee(ask.level, ask.interval, ask.share))
    if ask.interval != "point":
        attrs["share"] = ask.share
    if "boundary_conditions" in start.attrs:
        attrs["boundary_conditions"] = start.attrs["boundary_conditions"]
    return attrs


def _space(rom: ROM, part: Excerpt) -> dict[str, Any]:
    """Coordinates of the grid, or of the window of it."""
    space = rom.space()
    if part.window is None:
        return space
    cut = zip(rom.schema.grid.names, part.window, strict=True)
    return {name: (space[name][0], space[name][1][window], space[name][2]) for name, window in cut}


def _check(start: xr.Dataset, steps: int, members: int, level: float) -> None:
    check_start(start, steps=steps, members=members)
    if not 0 < level < 1:
        raise ConfigError(f"rollout: level is {level}, expected between 0 and 1. Choose 0.9, for example.")
    if members < FEW_MEMBERS:
        warnings.warn(
            f"rollout: {members} members say little about the spread of a forecast, and its interval was "
            "calibrated with 16. Use 16 or more for the uncertainty; the mean is fine.",
            FewMembersWarning,
            stacklevel=caller_level(),
        )


def _between(ask: Request) -> Request:
    """Refuses what is not known of times between stored ones."""
    if ask.propagation == "linear":
        raise ConfigError(
            "rollout: propagation='linear' knows stored times only. Choose among them, or use propagation='members'."
        )
    if ask.propagation == "auto":
        return replace(ask, propagation="members", choice="members: some times lie between stored ones")
    return ask


def _check_kinds(rom: ROM, ask: Request) -> None:
    """Refuses what this ROM's calibration cannot promise, and what does not go together."""
    if ask.propagation not in get_args(Propagation):
        expected = "expected members, linear, mean or auto"
        raise ConfigError(f"rollout: propagation is {ask.propagation!r}, {expected}. Choose one.")
    if ask.quantities and ask.region is not None:
        raise ConfigError("rollout: quantities are computed from the whole field. Ask for them without a region.")
    if ask.quantities and ask.propagation not in ("members", "auto"):
        raise ConfigError("rollout: quantities are computed from members. Use propagation='members' for them.")
    if ask.keep_members:
        _check_kept(rom, ask)
    rom.calibration.width(torch.zeros(1), ask.level, ask.interval, ask.share)
    promise = rom.calibration.guarantee(ask.level, ask.interval, ask.share)
    if ask.interval != "point" and not promise.attained:
        raise DataError(f"rollout: {promise} Lower the level, or calibrate on more trajectories.")
    for quantity in ask.quantities:
        quantity.check(rom.schema)
        rom.calibration.quantities.at(quantity.name, torch.zeros(1), ask.level)


def _check_kept(rom: ROM, ask: Request) -> None:
    """Refuses members where none are followed, or where their name is that of a field."""
    if ask.propagation != "members":
        raise ConfigError(
            f"rollout: propagation={ask.propagation!r} follows no members that could be kept. Use "
            "propagation='members', or leave keep_members out."
        )
    for name in rom.schema.field_names:
        if name + MEMBERS in rom.schema.field_names:
            raise SchemaError(
                f"rollout: the members of {name!r} would have the name of the field {name + MEMBERS!r}. Leave "
                "keep_members out, or rename the field in the data and train again."
            )


def _require_room(course: Course) -> None:
    """Refuses members that do not fit into memory, before the first is computed."""
    if course.ask.keep_members:
        points = math.prod(course.part.shape(course.rom.schema.grid.shape)) * len(course.part.fields)
        values = course.trajectories * len(course.part.leads) * course.ask.members * points
        require_memory(
            f"rollout: {course.ask.members} members of {course.trajectories} forecasts",
            4 * values,
            "Ask for fewer times, fields or members, or write to a store a few times at once: romvae.rollout_to, "
            "romvae rollout --workers",
        )


def check_names(schema: Schema) -> None:
    """Refuses fields whose names are those of another field's uncertainty: one would replace the other."""
    require_names(schema.field_names)


def _finite(x: Tensor, schema: Schema) -> None:
    bad = (~x.isfinite()).nonzero()
    if len(bad):
        trajectory, _, channel, *space = (int(i) for i in bad[0])
        place = ", ".join(f"{d}={i}" for d, i in zip(schema.grid.names, space, strict=True))
        raise DataError(
            f"rollout: start field {schema.field_names[channel]!r} is not finite at trajectory={trajectory}, {place}. "
            "Repair the initial field."
        )
