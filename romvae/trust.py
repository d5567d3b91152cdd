"""How long a forecast can be trusted: the first lead time at which its predicted error exceeds a tolerance.

    rom.rollout(start, tolerance=0.05)["trust_horizon"]

Errors count in the field's standard deviation over the training data: 0.05 is five per cent of it. The error at a time
is the root mean square over the points of the domain, the largest of all fields.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from romvae.calibration import coverage_law, trajectories_needed
from romvae.canonical import SPACE, TIME, TRAJECTORY, canonical
from romvae.errors import ConfigError, DataError, NumericsError
from romvae.forecast import Course, Propagation, Request, together
from romvae.ragged import even_snapshots
from romvae.ranks import ALONE, Ranks
from romvae.start import after_start, require_ahead, start_of

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = [
    "TrustScores",
    "calibrate_trust",
    "cut",
    "horizon_of",
    "predicted_error",
    "promise",
    "require_whole",
    "true_error",
    "trust_horizon",
]

HORIZON = "trust_horizon"
_ROUND = 1e-9
_ALIKE = 0.01
"""Relative difference of predicted errors that says nothing: forecasts with 8 members say 0.2 % less than with 32."""


class TrustScores(nn.Module):
    r"""True and predicted errors of calibration trajectories over lead time.

    A forecast is trusted as long as its predicted error has stayed below a threshold. For a tolerance, the score of a
    trajectory is the largest predicted error up to the first time at which its true error exceeds the tolerance
    (infinite where it never does): thresholds above the score trust that forecast too long. With n trajectories and
    the threshold at the k-th smallest score, :math:`k = \lfloor (n + 1)(1 - level) \rfloor`, a new trajectory from the
    same distribution is trusted too long with a probability of at most :math:`1 - level`, whatever the predicted error
    is worth; a good one makes long horizons. Predicted errors within a per cent of the threshold count as equal to it:
    a decoder that says the same of every forecast would else have some trusted by round-off or by fewer members.

    The statement is about the lead times that were calibrated, and holds for one tolerance at a time.

    References:
        Angelopoulos, Bates, Fisch, Lei and Schuster (2024), Conformal risk control, arXiv:2208.02814.
    """

    @property
    def trajectories(self) -> int:
        """Calibration trajectories; 0 before `keep`."""
        return int(self._buffers["true"].shape[0]) if self._buffers else 0  # type: ignore[union-attr]

    @property
    def last_lead(self) -> float:
        """Last calibrated lead time, stored steps."""
        return float(self.get_buffer("lead")[-1])

    def keep(self, lead: Tensor, true: Tensor, predicted: Tensor) -> None:
        """Keeps errors, replacing earlier ones.

        Arguments:
            lead: Lead times in stored steps, increasing, `(lead,)`.
            true: Error of the forecast, `(trajectory, lead)`, in the field's standard deviations.
            predicted: What the forecast says of it, likewise.
        """
        self.register_buffer("lead", lead.double())
        self.register_buffer("true", true.float())
        self.register_buffer("predicted", predicted.float())

    def forget(self) -> None:
        """Nothing is kept any more."""
        for name in list(self._buffers):
            delattr(self, name)

    def threshold(self, tolerance: float, level: float) -> float:
        """Predicted error below which a forecast is trusted; infinite where no calibration run asks for a bound.

        Arguments:
            tolerance: Largest true error that is accepted.
            level: Share of new trajectories that are not to exceed it while they are trusted.

        Raises:
            ConfigError: An argument is out of range.
            DataError: The ROM has no such calibration, or too few trajectories for the level.
        """
        _positive("tolerance", tolerance)
        if not 0 < level < 1:
            raise ConfigError(f"trust horizon: level is {level}, expected between 0 and 1. Choose 0.9, for example.")
        n = self.trajectories
        if n == 0:
            raise DataError(
                "trust horizon: this ROM has no calibrated errors. Call romvae.calibrate_trust(rom, parts.calibration)."
            )
        rank = math.floor((n + 1) * (1 - level) + _ROUND)
        if rank < 1:
            raise DataError(
                f"trust horizon: level {level:g} takes at least {trajectories_needed(level)} calibration trajectories, "
                f"and there are {n}. Lower the level, or calibrate on more."
            )
        late = self.get_buffer("true") > tolerance
        first = late.int().argmax(1, keepdim=True)
        score = self.get_buffer("predicted").cummax(1).values.gather(1, first)[:, 0]
        score = torch.where(late.any(1), score, torch.full_like(score, math.inf))
        return (1 - _ALIKE) * float(score.sort().values[rank - 1])

    def statement(self, tolerance: float, level: float) -> str:
        """What the horizon promises, with the finite-sample interval of the true share, in a sentence."""
        return promise(f"the error stays below {tolerance:g} up to the trust horizon", level, self.trajectories)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):  # type: ignore[no-untyped-def]
        self.forget()
        lead, true = state_dict.get(prefix + "lead"), state_dict.get(prefix + "true")
        if lead is not None and true is not None:  # how many trajectories and lead times is free, the rest must fit
            errors = torch.empty(len(true) if true.ndim else 0, lead.numel())
            self.keep(torch.empty(lead.numel()), errors, torch.empty_like(errors))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def promise(what: str, level: float, trajectories: int) -> str:
    """A sentence on a share of new runs, and what the finite number of calibration trajectories leaves open of it."""
    low, high = coverage_law(trajectories, level)
    return (
        f"In at least {100 * level:.3g} % of new runs {what} (given these {trajectories} calibration runs: "
        f"{100 * low:.3g} % to {100 * high:.3g} %, 90 % confidence); for runs from the same distribution."
    )


def predicted_error(rom: ROM, forecast: xr.Dataset) -> xr.DataArray:
    """Error that a forecast expects of itself at every time: the root mean square of its `u_std` over the domain.

    Returns:
        Dims of the forecast without space, in the field's standard deviations over the training data.
    """
    stds = {name: forecast[f"{name}_std"] for name in rom.schema.field_names}
    return _largest(rom, stds)


def true_error(rom: ROM, truth: xr.Dataset, forecast: xr.Dataset) -> xr.DataArray:
    """Root mean square error of a forecast at every time, in the same units as `predicted_error`.

    Arguments:
        rom: Gives the fields and their scales.
        truth: Reference on the same grid and times.
        forecast: Any Dataset with the ROM's fields.
    """
    return _largest(rom, {name: forecast[name] - truth[name] for name in rom.schema.field_names})


def calibrate_trust(
    rom: ROM,
    data: xr.Dataset,
    members: int = 32,
    seed: int = 0,
    *,
    ranks: Ranks = ALONE,
    report: Callable[[int], None] | None = None,
) -> TrustScores:
    """Compares forecasts with trajectories that nothing else was fitted on; kept in `rom.trust` and saved with it.

    `romvae.fit` does so for up to 64 calibration trajectories. The factors of the forecast's variance may come from the
    same trajectories: with n of them that flatters the predicted errors by a share of the order 1/n. Of trajectories of
    different length, the part in which all have one is taken (`romvae.ragged.even_part`).

    Arguments:
        rom: Trained.
        data: The calibration part, whole trajectories; fields that lie on disk are read a few times at once.
        members: Members of the forecasts.
        seed: Seed of the members.
        ranks: Processes among which the trajectories are divided; all get the result of all.
        report: Called with the number of the first trajectory of every block.

    Raises:
        SchemaError: The data are not on the ROM's grid.
        NumericsError: A forecast diverged.
    """
    data = even_snapshots(canonical(data), rom.start_times)
    require_ahead(rom, data.sizes[TIME], "trust horizon")
    ask = Request(steps=data.sizes[TIME] - rom.start_times, members=members, seed=seed)
    size = together(rom, ask)
    blocks = range(0, data.sizes[TRAJECTORY], size)  # those of a rollout of all, with the same bits
    errors: list[tuple[Tensor, Tensor]] = []
    diverged = ""
    for first in (blocks[k] for k in ranks.part(len(blocks))):
        if report is not None:
            report(first)
        try:
            errors.append(_errors(rom, data.isel({TRAJECTORY: slice(first, first + size)}), replace(ask, first=first)))
        except NumericsError as error:  # said after the other processes have been met
            diverged = str(error)
            break
    every = ranks.gathered((errors, diverged))
    for _, message in every:
        if message:
            raise NumericsError(message)
    found = [block for its, _ in every for block in its]
    rom.trust.keep(torch.arange(ask.steps + 1), *(torch.cat(each) for each in zip(*found, strict=True)))
    return rom.trust


def trust_horizon(rom: ROM, forecast: xr.Dataset, tolerance: float, level: float = 0.9) -> xr.DataArray:
    """First lead time at which the predicted error of each trajectory reaches the calibrated threshold.

    Arguments:
        rom: Its `trust` is calibrated, see `calibrate_trust`.
        forecast: From `rom.rollout`.
        tolerance: Largest error that is accepted, in the field's standard deviations over the training data.
        level: Share of new trajectories whose error is to stay below the tolerance before the horizon.

    Returns:
        `(trajectory,)`, time after the start; infinite where the forecast ends before. Beyond the lead times that
        were calibrated nothing is promised: no horizon is longer than the first lead time after them. The attributes
        hold tolerance, level, threshold and, as a sentence, the guarantee.

    Raises:
        ConfigError: Tolerance or level is out of range.
        DataError: The ROM has no such calibration, or too few trajectories for the level.
    """
    return horizon_of(rom, predicted_error(rom, forecast), tolerance, level)


def horizon_of(rom: ROM, error: xr.DataArray, tolerance: float, level: float = 0.9) -> xr.DataArray:
    """The trust horizon of forecasts of which only the predicted error is known; see `trust_horizon`.

    Where some stored times were left out, the error may have grown between two of them: the horizon is then the step
    after the last one at which it was seen to be small.

    Arguments:
        rom: As in `trust_horizon`.
        error: From `predicted_error`, with times that begin at the start.
        tolerance: As in `trust_horizon`.
        level: As in `trust_horizon`.
    """
    threshold = rom.trust.threshold(tolerance, level)
    times = np.asarray(error[TIME].values, dtype=np.float64)
    lead = times - times[0]
    known = xr.DataArray(lead / rom.schema.dt <= rom.trust.last_lead + 1e-6, dims=TIME)
    over = (error >= threshold) | ~known
    gap = np.diff(lead, prepend=lead[0])
    ends = np.where(gap > rom.schema.dt * (1 + 1e-6), lead - gap + rom.schema.dt, lead)
    value = xr.where(over.any(TIME), xr.DataArray(ends, dims=TIME)[over.argmax(TIME)], np.inf)
    attrs: dict[str, Any] = {
        "long_name": "first lead time at which the predicted error exceeds the tolerance",
        "units": rom.schema.time_units,
        "tolerance": tolerance,
        "level": level,
        "threshold": threshold,
        "guarantee": rom.trust.statement(tolerance, level),
    }
    return value.drop_vars([n for n in value.coords if n == TIME]).assign_attrs(attrs).rename(HORIZON)


def require_whole(
    propagation: Propagation,
    times: Sequence[float] | None,
    fields: Sequence[str] | None,
    region: Mapping[str, Any] | None,
) -> None:
    """Refuses a trust horizon of a forecast of which only a part is decoded; arguments as in `ROM.rollout`."""
    if propagation == "mean" or any(each is not None for each in (times, fields, region)):
        raise ConfigError(
            "rollout: a trust horizon follows from the predicted error of all fields at all points and times. "
            "Leave out times, fields, region and propagation='mean', or the tolerance."
        )


def cut(forecast: xr.Dataset, least: int = 0) -> xr.Dataset:
    """The forecast up to its trust horizon: NaN at the horizon and after it.

    The times at which no trajectory is trusted any more are dropped; the start always stays.

    Arguments:
        forecast: With `trust_horizon`.
        least: Times that stay as they are whatever the horizon.
    """
    times = forecast[TIME]
    early = xr.DataArray(np.arange(len(times)) < least, dims=TIME)
    trusted = ((times - times[0]) < forecast[HORIZON]) | early
    kept = int(trusted.any([d for d in trusted.dims if d != TIME]).sum())
    out = forecast.copy()
    for name, variable in forecast.data_vars.items():
        if TIME in variable.dims:
            out[name] = variable.where(trusted).transpose(*variable.dims).assign_attrs(variable.attrs)
    return out.isel({TIME: slice(0, max(1, kept))})


def _errors(rom: ROM, block: xr.Dataset, ask: Request) -> tuple[Tensor, Tensor]:
    """True and predicted errors of a block of trajectories, `(trajectory, time)` each; fields pass by in time."""
    course = Course.of(rom, start_of(rom, block), ask, block if rom.schema.controls else None)
    block = after_start(rom, block)
    names, dims = list(rom.schema.field_names), (TRAJECTORY, TIME, *rom.schema.grid.names)
    true: list[Tensor] = []
    predicted: list[Tensor] = []
    for _, piece in course.pieces():
        made = xr.Dataset({name + kind: (dims, piece.values[name + kind]) for name in names for kind in ("", "_std")})
        part = slice(piece.place, piece.place + made.sizes[TIME])
        for found, error in (
            (true, true_error(rom, block[names].isel({TIME: part}), made)),
            (predicted, predicted_error(rom, made)),
        ):
            found.append(torch.from_numpy(error.transpose(TRAJECTORY, TIME).values.copy()))
    return torch.cat(true, 1), torch.cat(predicted, 1)


def _largest(rom: ROM, values: dict[str, xr.DataArray]) -> xr.DataArray:
    """Root mean square over the domain in units of each field's scale, the largest of all fields."""
    scale = dict(zip(rom.schema.field_names, rom.normaliser.std.tolist(), strict=True))
    space = [d for d in SPACE if d in rom.schema.grid.names]
    inside = None if rom.mask is None else xr.DataArray(rom.mask, dims=rom.schema.grid.names)
    errors = []
    for name, value in values.items():
        square = (value / scale[name]) ** 2
        errors.append((square if inside is None else square.where(inside)).mean(space) ** 0.5)
    stacked: xr.DataArray = xr.concat(errors, "field", coords="minimal", compat="override").max("field")
    return stacked


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"trust horizon: {name} is {value}, expected a positive number. Choose 0.05, for example.")
