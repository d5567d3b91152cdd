"""Quantities of interest: one number per trajectory and time, such as a maximum or a probe, with its own interval.

    watched = [maximum("u"), probe("u", x=0.3), Quantity("kinetic", "u", lambda u: (u**2).mean(space_of(u)) / 2)]
    calibrate(rom, parts.calibration, watched)
    rom.rollout(start, quantities=watched)["u_maximum_upper"]

The points of a field err together in ways that their standard deviations do not tell, so that the interval of a mean
or a maximum cannot be computed from theirs. It is measured: the quantity of every member gives a forecast and a
spread, and calibration trajectories tell how many spreads the truth is away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from romvae.canonical import SPACE, TIME, TRAJECTORY, canonical
from romvae.errors import ConfigError, DataError, SchemaError
from romvae.ragged import even_snapshots
from romvae.rollout import decoded_members, latent_members
from romvae.schema import Schema
from romvae.start import require_ahead, split_start
from romvae.tensors import control_tensor

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = [
    "Quantity",
    "calibrate",
    "keep_scores",
    "l2",
    "maximum",
    "mean",
    "minimum",
    "probe",
    "quantity_forecast",
    "quantity_scores",
    "quantity_variables",
    "standard",
]

LEADS, BLOCK = 24, 16
"""Lead times at which quantities are calibrated, and trajectories rolled out at once."""


@dataclass(frozen=True)
class Quantity:
    """A number that is computed from a field.

    Arguments:
        name: Of the variables in the forecast (`name`, `name_std`, `name_lower`, `name_upper`): letters, digits and
            single underscores; the field's own name in front of it may be any.
        field: Name of the field it is computed from.
        function: Takes the field in physical units as a DataArray, with NaN outside of the domain, and reduces the
            spatial dims; all other dims stay.
        units: Its units; None takes those of the field.
    """

    name: str
    field: str
    function: Callable[[xr.DataArray], xr.DataArray]
    units: str | None = None

    def __post_init__(self) -> None:
        own = f"{self.field}_"  # the name of a field is the data's business
        chosen = f"u_{self.name.removeprefix(own)}" if self.name.startswith(own) else self.name
        if not chosen.isidentifier() or "__" in chosen:
            raise ConfigError(
                f"quantity: the name {self.name!r} is no variable name (letters, digits, single underscores). "
                "Choose another one."
            )

    def check(self, schema: Schema) -> None:
        """Refuses a quantity of a field that the ROM does not have."""
        if self.field not in schema.field_names:
            fields = ", ".join(schema.field_names)
            raise SchemaError(f"quantity {self.name!r}: there is no field {self.field!r}, only {fields}. Correct it.")

    def of(self, field: xr.DataArray) -> np.ndarray:
        """Its values, in the field's order of the dims that are not spatial.

        Raises:
            DataError: The function does not reduce exactly the spatial dims.
        """
        kept = [d for d in field.dims if d not in SPACE]
        values = self.function(field)
        if set(values.dims) != set(kept):
            raise DataError(
                f"quantity {self.name!r}: its function returns dims {values.dims}, expected {tuple(kept)}. "
                "Reduce the spatial dims and no other."
            )
        return np.asarray(values.transpose(*kept).values, dtype=np.float64)


def _space(u: xr.DataArray) -> list[str]:
    return [d for d in SPACE if d in u.dims]


def _weights(u: xr.DataArray) -> xr.DataArray:
    """Share of each point in the domain: equal on a uniform grid, by the distance of the neighbours elsewhere."""
    weights = xr.DataArray(1.0)
    for dim in _space(u):
        x = np.asarray(u[dim].values, dtype=np.float64)
        step = np.abs(np.diff(x))
        if len(x) > 2 and step.max() > step.min() * (1 + 1e-6):
            weights = weights * xr.DataArray(np.abs(np.gradient(x)), dims=dim, coords={dim: u[dim]})
    return weights


def mean(field: str) -> Quantity:
    """Mean over the domain, `<field>_mean`."""
    return Quantity(f"{field}_mean", field, _mean)


def l2(field: str) -> Quantity:
    """Root of the mean square over the domain, `<field>_l2`: the L2 norm over the root of the domain's volume."""
    return Quantity(f"{field}_l2", field, _l2)


def maximum(field: str) -> Quantity:
    """Largest value on the grid, `<field>_maximum`."""
    return Quantity(f"{field}_maximum", field, _maximum)


def minimum(field: str) -> Quantity:
    """Smallest value on the grid, `<field>_minimum`."""
    return Quantity(f"{field}_minimum", field, _minimum)


def probe(field: str, name: str | None = None, **place: float) -> Quantity:
    """Value at the grid point nearest to a place, `probe("u", x=0.3)`.

    Arguments:
        field: Name of the field.
        name: Of the quantity; None is `<field>_probe`, which does for a single one.
        place: A coordinate for every spatial dim.
    """
    return Quantity(name or f"{field}_probe", field, partial(_at, place=place))


# At the top of the module, so that they can be sent to other processes.


def _mean(u: xr.DataArray) -> xr.DataArray:
    return u.weighted(_broadcast(u)).mean(_space(u))


def _l2(u: xr.DataArray) -> xr.DataArray:
    root: xr.DataArray = (u**2).weighted(_broadcast(u)).mean(_space(u)) ** 0.5
    return root


def _maximum(u: xr.DataArray) -> xr.DataArray:
    return u.max(_space(u))


def _minimum(u: xr.DataArray) -> xr.DataArray:
    return u.min(_space(u))


def _at(u: xr.DataArray, place: Mapping[str, float]) -> xr.DataArray:
    if set(place) != set(_space(u)):
        raise ConfigError(f"probe: the place has {sorted(place)}, expected {sorted(_space(u))}. Give one of each.")
    return u.sel(place, method="nearest", drop=True)


def standard(schema: Schema) -> tuple[Quantity, ...]:
    """Mean, L2, maximum and minimum of every field."""
    return tuple(kind(field) for field in schema.field_names for kind in (mean, l2, maximum, minimum))


@torch.no_grad()
def calibrate(
    rom: ROM, data: xr.Dataset, quantities: Sequence[Quantity], members: int = 16, seed: int = 0
) -> dict[str, int]:
    """Calibrates quantities on trajectories of their own; kept in the ROM under their names and saved with it.

    A function cannot be saved: after loading, pass the same quantity to `rom.rollout` again.

    Arguments:
        rom: Trained.
        data: Trajectories that nothing else was fitted on, the calibration part. Of those that differ in length, the
            ones of `romvae.ragged.even_part`, cut to one length.
        quantities: What to calibrate.
        members: Members of the forecasts.
        seed: Seed of the members.

    Returns:
        Number of trajectories behind each quantity.

    Raises:
        SchemaError: The data are not on the ROM's grid, or a field is unknown.
    """
    for quantity in quantities:
        quantity.check(rom.schema)
    data = even_snapshots(canonical(data), rom.start_times)
    controls = control_tensor(data, rom.schema, rom.control_scaling)
    require_ahead(rom, data.sizes[TIME], "quantities")
    steps = data.sizes[TIME] - rom.start_times
    leads = torch.linspace(0, steps, min(LEADS, steps + 1)).round().long().unique()
    scores: dict[str, list[np.ndarray]] = {quantity.name: [] for quantity in quantities}
    for first in range(0, data.sizes[TRAJECTORY], BLOCK):
        rows = slice(first, first + BLOCK)
        block, c = rom.normalised(data.isel({TRAJECTORY: rows}))
        driven = None if controls is None else controls[rows, rom.start_times - 1 :]
        past, block = split_start(rom, block)
        start = (rom.vae, rom.dynamics, block[:, 0], c)
        path = latent_members(*start, steps, members, seed, first, past=past, controls=driven)
        parts: dict[str, list[np.ndarray]] = {quantity.name: [] for quantity in quantities}
        for lead, mean, var in decoded_members(rom.vae, path, leads):
            for name, score in quantity_scores(rom, block[:, lead], mean, var, quantities).items():
                parts[name].append(score)
        for name, chunks in parts.items():
            scores[name].append(np.concatenate(chunks, 1))
    return keep_scores(rom, leads, scores)


def keep_scores(rom: ROM, leads: Tensor, scores: Mapping[str, Sequence[np.ndarray]]) -> dict[str, int]:
    """Hands scores `(trajectory, lead)` of blocks of trajectories to the calibration."""
    for name, blocks in scores.items():
        rom.calibration.quantities.keep(name, leads, torch.from_numpy(np.concatenate(blocks).T.copy()))
    return {name: rom.calibration.quantities.trajectories(name) for name in scores}


def quantity_scores(
    rom: ROM, truth: Tensor, mean: Tensor, var: Tensor, quantities: Sequence[Quantity]
) -> dict[str, np.ndarray]:
    """|forecast - truth| in units of the raw spread, `(trajectory, lead)` by name.

    Arguments:
        rom: Whose grid and units they have.
        truth: Normalised fields `(trajectory, lead, channel, *space)`.
        mean: Means of the decoded members `(lead, member, trajectory, channel, *space)`.
        var: Their variances.
        quantities: What to score.
    """
    found = quantity_forecast(rom, mean, var, quantities)
    true_fields = _physical(rom, truth.transpose(0, 1).unsqueeze(1))
    result = {}
    for quantity in quantities:
        exact = quantity.of(true_fields[quantity.field])[:, 0].T
        spread = found[f"{quantity.name}:spread"]
        result[quantity.name] = np.abs(found[f"{quantity.name}:centre"] - exact) / spread
    return result


def quantity_forecast(rom: ROM, mean: Tensor, var: Tensor, quantities: Sequence[Quantity]) -> dict[str, np.ndarray]:
    r"""Forecast and raw spread of each quantity, `(trajectory, lead)`, as `<name>:centre` and `<name>:spread`.

    The forecast is the mean over members of the quantity of their decoded means. The spread squared is its variance
    over members plus what the decoder's uncertainty could do to it: the mean of its squared changes when the field
    is raised everywhere by the decoder's standard deviation, and when it is stretched by it away from zero. That is a
    scale, not a distribution; the calibration says how large an interval has to be in units of it.
    """
    if not quantities:
        return {}
    fields, stds = _physical(rom, mean), _physical(rom, var.sqrt(), std=True)
    result = {}
    for quantity in quantities:
        u, s = fields[quantity.field], stds[quantity.field]
        values = quantity.of(u)
        raised, stretched = (quantity.of(each) for each in (u + s, u + s * np.sign(u)))
        response = 0.5 * ((raised - values) ** 2 + (stretched - values) ** 2)
        between = values.var(1, ddof=1) if values.shape[1] > 1 else 0.0
        spread = np.sqrt(between + response.mean(1))
        least = 1e-6 * np.abs(values).mean(1) + np.finfo(np.float64).tiny
        result[f"{quantity.name}:centre"] = values.mean(1).T
        result[f"{quantity.name}:spread"] = np.maximum(spread, least).T
    return result


def quantity_variables(
    rom: ROM, quantity: Quantity, pieces: Sequence[Mapping[str, np.ndarray]], level: float, leads: Sequence[float]
) -> dict[str, Any]:
    """Variables of a forecast with dims `(trajectory, time)`: the quantity, `_std`, `_lower` and `_upper`.

    Arguments:
        rom: Calibrated for the quantity.
        quantity: Which one.
        pieces: What `quantity_forecast` gives, of blocks of trajectories.
        level: Nominal coverage.
        leads: Which lead times the pieces hold, in stored steps.
    """
    centre, spread = (np.concatenate([p[f"{quantity.name}:{k}"] for p in pieces]) for k in ("centre", "spread"))
    scale, width = rom.calibration.quantities.at(quantity.name, torch.tensor(leads), level)
    half = width.numpy() * spread
    fields = {field.name: field.units for field in rom.schema.fields}
    attrs = {
        "units": fields[quantity.field] if quantity.units is None else quantity.units,
        "calibration_trajectories": rom.calibration.quantities.trajectories(quantity.name),
        "guarantee": str(rom.calibration.quantities.guarantee(quantity.name, level)),
    }
    parts = {"": centre, "_std": scale.numpy() * spread, "_lower": centre - half, "_upper": centre + half}
    return {quantity.name + kind: ((TRAJECTORY, TIME), values, attrs) for kind, values in parts.items()}


def _physical(rom: ROM, x: Tensor, std: bool = False) -> dict[str, xr.DataArray]:
    """Normalised `(lead, member, trajectory, channel, *space)` as a DataArray per field, NaN outside of the domain."""
    convert = rom.normaliser.inverse_std if std else rom.normaliser.inverse
    u = convert(x.flatten(0, 2)).reshape(x.shape).numpy()
    grid = rom.schema.grid.names
    dims = (TIME, "member", TRAJECTORY, *grid)
    coords = {a.name: np.asarray(a.coordinates) for a in rom.schema.grid.axes}
    if rom.mask is not None:
        u = np.where(rom.mask, u, np.nan)
    return {name: xr.DataArray(u[:, :, :, k], coords, dims) for k, name in enumerate(rom.schema.field_names)}


def _broadcast(u: xr.DataArray) -> xr.DataArray:
    """The weights on the whole grid."""
    one = u.isel({d: 0 for d in u.dims if d not in SPACE}, drop=True)
    return xr.ones_like(one, dtype=np.float64) * _weights(u)
