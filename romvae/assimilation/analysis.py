"""`assimilate`: from observations and a start to the analysed fields with their uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.distributions import Independent, MixtureSameFamily, Normal

from romvae.assimilation.filters import etkf, exact_sample, inflated, perturbed_observations
from romvae.assimilation.sensors import SENSOR, Sensors, checked_values
from romvae.assimilation.system import LatentSystem
from romvae.assimilation.variational import Variational
from romvae.canonical import TIME, TRAJECTORY, canonical
from romvae.distributions import moments
from romvae.errors import ConfigError, DataError, SchemaError
from romvae.first_order import posterior_factor
from romvae.rollout import forecast_moments
from romvae.start import start_time
from romvae.tensors import parameter_tensor

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["Method", "assimilate"]

Method = Literal["etkf", "enkf", "4dvar"]
"""Ensemble transform Kalman filter, ensemble Kalman filter with perturbed observations, strong-constraint 4D-Var."""

METHODS = ("etkf", "enkf", "4dvar")


@dataclass(frozen=True)
class _Task:
    """Readings at stored steps: `y` and `var` are `(time, trajectory, sensor)`, float64."""

    y: Tensor
    var: Tensor
    at: list[int]
    steps: int


def assimilate(
    rom: ROM,
    start: xr.Dataset | None,
    observations: xr.Dataset,
    *,
    method: Method = "etkf",
    steps: int | None = None,
    members: int = 64,
    seed: int = 0,
    level: float = 0.9,
    inflation: float = 1.0,
    model_error: float | None = None,
    background: float = 1.0,
    window: int | None = None,
) -> xr.Dataset:
    """Takes sparse noisy observations into the latent state of a ROM.

    The error of a reading is the noise of its sensor plus what the code cannot represent there: the decoder's local
    variance, calibrated as in a forecast at its start, and counted as independent between grid points (errors of
    neighbouring points that move together are taken too lightly).

    Arguments:
        rom: Trained, with dynamics without memory and controls. Stochastic dynamics draw their noise at every step.
        start: One snapshot or one per trajectory from which the model would start without observations; None knows
            nothing but the parameters, which the observations then carry, and starts at the time of the first
            observation from the prior of the codes.
        observations: Places or weights of the sensors, values and noise: see `romvae.assimilation.sensors`. Times are
            those of stored steps after the start.
        method: `etkf` and `enkf` are filters: every time knows of the observations up to it. `4dvar` is a smoother: the
            trajectory through a window knows of all observations in it, and it takes more computation.
        steps: Stored steps from the start to the end of the result; None ends with the last observation. Beyond it the
            result is a forecast.
        members: Members of the ensemble, a multiple of the networks (rounded up); several times the latents.
        seed: Seed of members and noise.
        level: Nominal coverage of the interval `u_lower` to `u_upper`, of a Gaussian: no calibration speaks of it.
        inflation: Factor on the deviations of the members before each analysis; 1 to 1.1. For filters.
        model_error: Noise added between observations, in units of the one-step error of the dynamics on its training
            data, as if errors of steps were independent; 0 trusts the model. None is 1, and 0 for stochastic dynamics,
            whose own noise is that error. For filters.
        background: Factor on the spread of the initial code.
        window: Stored steps of a 4D-Var window; None takes all observations at once. The analysis at the end of a
            window is the background of the next.

    Returns:
        For each field `u`: mean, `u_std`, `u_std_decoder`, `u_std_dynamics`, `u_lower`, `u_upper`, on the dims of a
        forecast; `latent` and `latent_std`, mean and spread of the members.

    Raises:
        ConfigError: An argument is out of range, the ROM's dynamics has memory or controls, or is stochastic, which
            4D-Var has no place for.
        SchemaError: Start or observations do not fit the ROM.
        DataError: An observation is not at a stored step after the start, or a noise is not positive.
        NumericsError: A latent diverged.

    References:
        Evensen (1994), Sequential data assimilation with a nonlinear quasi-geostrophic model using Monte Carlo methods,
        J. Geophys. Res. 99, 10143; and at the methods.
    """
    _check(rom, method, members, level, inflation, model_error, background, window)
    x, c, begin = _begin(rom, start, observations)
    task = _task(rom, observations, len(c), begin, steps)
    sensors = Sensors.of(observations, rom.schema, rom.mask)
    sensors = sensors.normalised(rom.normaliser.mean, rom.normaliser.std, rom.schema.grid.points)
    generator = torch.Generator().manual_seed(seed)
    system = LatentSystem(rom, sensors, c, generator)
    if model_error is None:
        model_error = 0.0 if rom.dynamics.stochastic else 1.0
    mean, factor = _initial(rom, x, len(c), background)
    rounds = max(-(-members // rom.dynamics.members), 2 if method == "4dvar" else 1)  # one draw would have no spread
    count = rounds * rom.dynamics.members
    with torch.no_grad():
        if method == "4dvar":
            path = _smoothed(system, task, mean, factor, count, generator, window)
        else:
            z = exact_sample(mean, factor, count, generator)
            path = _filtered(system, task, z, method, inflation, model_error, generator)
        result = _dataset(rom, path, level)
    return _labelled(rom, result, start, observations, begin, {"method": method, "members": count, "seed": seed})


def _filtered(
    system: LatentSystem,
    task: _Task,
    z: Tensor,
    method: Method,
    inflation: float,
    model_error: float,
    generator: torch.Generator,
) -> Tensor:
    """Members through time, `(time, member, trajectory, latent)`; at observations after the analysis."""
    path, now = [z], 0
    for k, step in enumerate([*task.at, task.steps]):
        if step > now:
            segment = system.advance(path[-1], step - now)
            path += list(segment[1:])
            if model_error and k < len(task.at):
                std = model_error * math.sqrt(step - now) * system.step_std
                path[-1] = path[-1] + std * torch.randn(z.shape, generator=generator, dtype=z.dtype)
            now = step
        if k == len(task.at):
            break
        ahead = inflated(path[-1], inflation)
        predicted, rho = system.readings(ahead)
        var = task.var[k] + rho.mean(0)
        if method == "etkf":
            path[-1] = etkf(ahead, predicted, task.y[k], var)
        else:
            path[-1] = perturbed_observations(ahead, predicted, task.y[k], var, generator)
    return torch.stack(path)


def _smoothed(
    system: LatentSystem,
    task: _Task,
    mean: Tensor,
    factor: Tensor,
    members: int,
    generator: torch.Generator,
    window: int | None,
) -> Tensor:
    """Members through time, each window from its own analysis."""
    networks, now, pieces = system.networks, 0, []
    ends = [task.steps] if window is None else [*range(window, task.steps, window), task.steps]
    for end in ends:
        inside = [k for k, step in enumerate(task.at) if now < step <= end or (step == now == 0)]
        z, spread = mean.expand(networks, *mean.shape), factor.expand(networks, *factor.shape)
        if inside:
            leads = [task.at[k] - now for k in inside]
            z, spread = Variational().analysis(
                lambda z0: system.readings_along(z0, leads),  # noqa: B023
                z,
                factor,
                task.y[inside],
                task.var[inside],
            )
        rounds = members // networks
        freedom = (members - 1) / networks  # the members of all networks share one mean
        drawn = exact_sample(z.flatten(0, 1), spread.flatten(0, 1), rounds, generator, freedom)
        path = system.advance(drawn.reshape(members, *mean.shape), end - now)
        pieces.append(path if end == task.steps else path[:-1])
        last = path[-1]
        deviations = (last - last.mean(0)).transpose(0, 1)
        covariance = deviations.mT @ deviations / max(1, members - 1)
        scale = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
        ridge = 1e-10 * scale * torch.eye(covariance.shape[-1], dtype=covariance.dtype)
        mean, factor, now = last.mean(0), torch.linalg.cholesky(covariance + ridge), end
    return torch.cat(pieces)


def _check(
    rom: ROM,
    method: str,
    members: int,
    level: float,
    inflation: float,
    model_error: float | None,
    background: float,
    window: int | None,
) -> None:
    if method not in METHODS:
        raise ConfigError(f"assimilate: method is {method!r}, expected one of {', '.join(METHODS)}. Choose one.")
    if members < 2 or not 0 < level < 1:
        raise ConfigError(
            f"assimilate: members is {members} and level {level}, expected 2 or more and a number between 0 and 1. "
            "Choose 64 and 0.9, for example."
        )
    for name, value in (("inflation", inflation), ("background", background), ("window", window)):
        if value is not None and not value > 0:
            raise ConfigError(f"assimilate: {name} is {value}, expected a positive number. Leave it out.")
    if model_error is not None and not model_error >= 0:
        raise ConfigError(f"assimilate: model_error is {model_error}, expected 0 or more. Leave it out.")
    if rom.dynamics.window > 1 or rom.schema.controls:
        what = "controls" if rom.schema.controls else f"a memory of {rom.dynamics.window} latents"
        raise ConfigError(
            f"assimilate: this ROM's dynamics has {what}, expected neither memory nor controls: the latent alone has "
            "to be the state. Use a ROM with residual, ode or linear dynamics."
        )
    if method == "4dvar" and rom.dynamics.stochastic:
        raise ConfigError(
            "assimilate: 4dvar takes the dynamics of a window for exact, and this ROM's draws noise at every step. Use "
            "method='etkf' or 'enkf'."
        )


def _begin(rom: ROM, start: xr.Dataset | None, observations: xr.Dataset) -> tuple[Tensor | None, Tensor, float]:
    """Normalised initial fields `(trajectory, field, *space)` or None, parameters, and the time of the start."""
    dtype = next(rom.vae.parameters()).dtype
    if start is not None:
        if start.sizes.get(TIME, 1) != 1:
            raise DataError(
                f"assimilate: start holds {start.sizes[TIME]} times, expected one. Select it, start.isel(time=0)."
            )
        x, c = rom.normalised(start)
        return x[:, 0].to(dtype), c.to(dtype), start_time(start)
    missing = [name for name in rom.schema.parameter_names if name not in observations.coords]
    if missing:
        raise SchemaError(
            f"assimilate: without a start the observations have to carry the parameters, and {missing[0]!r} is "
            "missing. Give it as a coordinate on trajectory."
        )
    if TRAJECTORY not in observations.dims:
        observations = observations.expand_dims(TRAJECTORY)
    c = parameter_tensor(observations, rom.schema, rom.scaling)
    return None, c.to(dtype), float(observations[TIME].values[0])


def _initial(rom: ROM, x: Tensor | None, n: int, background: float) -> tuple[Tensor, Tensor]:
    """Mean of the initial codes `(trajectory, latent)` and a factor L of their covariance L L^T, float64."""
    with torch.no_grad():
        if x is not None:
            mean, factor = posterior_factor(rom.vae, x)
        else:
            p = rom.vae.prior()
            known = isinstance(p, Independent | MixtureSameFamily)
            mean, std = (p.mean, p.stddev) if known else moments(p)
            mean, factor = mean.expand(n, -1), torch.diag_embed(std.expand(n, -1))
    return mean.double(), background * factor.double()


def _task(rom: ROM, observations: xr.Dataset, n: int, begin: float, steps: int | None) -> _Task:
    y, var = checked_values(observations, n)
    times = np.asarray(observations[TIME].values, dtype=np.float64).reshape(-1)
    exact = (times - begin) / rom.schema.dt
    at = np.round(exact).astype(int)
    off = (np.abs(exact - at) > 1e-4) | (at < 0) | (np.diff(at, prepend=-1) <= 0)
    if off.any() or not len(at):
        found = f"time {times[off][0]:.10g}" if len(at) else "no time at all"
        raise DataError(
            f"assimilate: observations have {found}, expected increasing times from {begin:.10g} on in steps of "
            f"{rom.schema.dt:g}. Move them to stored steps, or leave them out."
        )
    last = int(at[-1]) if steps is None else steps
    if last < at[-1] or last < 1:
        raise ConfigError(
            f"assimilate: steps is {last}, expected at least 1 and the {int(at[-1])} up to the last observation. "
            "Raise it, or leave observations out."
        )
    order = [torch.from_numpy(np.ascontiguousarray(a.swapaxes(0, 1))) for a in (y, var)]
    return _Task(order[0], order[1], at.tolist(), last)


def _dataset(rom: ROM, path: Tensor, level: float) -> dict[str, Any]:
    """Variables of the result from members `(time, member, trajectory, latent)`."""
    dims = (TRAJECTORY, TIME, *rom.schema.grid.names)
    width = float(Normal(0.0, 1.0).icdf(torch.tensor(0.5 + level / 2)))
    dtype = next(rom.vae.parameters()).dtype
    rows = []
    for part in forecast_moments(rom.vae, path.to(dtype), torch.arange(len(path))):
        decoder = rom.calibration.decoder_std(part.decoder_var.sqrt(), 2).square()
        stds = [s.sqrt() for s in (decoder + part.dynamics_var, decoder, part.dynamics_var)]
        physical = [rom.normaliser.inverse(part.mean.flatten(0, 1)).reshape(part.mean.shape)]
        physical += [rom.normaliser.inverse_std(s.flatten(0, 1)).reshape(s.shape) for s in stds]
        rows.append(torch.stack(physical))
    mean, std, decoder_std, dynamics_std = torch.cat(rows, 1).transpose(1, 2).numpy()
    kinds = {"": mean, "_std": std, "_std_decoder": decoder_std, "_std_dynamics": dynamics_std}
    kinds |= {"_lower": mean - width * std, "_upper": mean + width * std}
    out: dict[str, Any] = {
        field.name + kind: (dims, values[:, :, k], {"units": field.units})
        for k, field in enumerate(rom.schema.fields)
        for kind, values in kinds.items()
    }
    z = {"latent": path.mean(1), "latent_std": path.std(1)}
    return out | {name: ((TRAJECTORY, TIME, "latent"), v.transpose(0, 1).numpy()) for name, v in z.items()}


def _labelled(
    rom: ROM,
    variables: dict[str, Any],
    start: xr.Dataset | None,
    observations: xr.Dataset,
    begin: float,
    attrs: dict[str, Any],
) -> xr.Dataset:
    source = observations if start is None else canonical(start)
    count = variables["latent"][1].shape[1]
    times = begin + rom.schema.dt * np.arange(count)
    coords: dict[str, Any] = {**rom.space(), TIME: (TIME, times, {"units": rom.schema.time_units})}
    for name in (TRAJECTORY, *rom.schema.parameter_names):
        if name in source.coords:
            coords[name] = (TRAJECTORY, np.atleast_1d(source[name].values), source[name].attrs)
    knows = "those in its window" if attrs["method"] == "4dvar" else "those up to it"
    about = {
        "Conventions": "CF-1.11 romvae-1",
        "boundary_conditions": rom.schema.boundary_conditions,
        **attrs,
        "sensors": observations.sizes[SENSOR],
        "knows": f"the state at a time uses the observations that belong to {knows}",
    }
    result = xr.Dataset(variables, coords, about)
    return result.isel({TRAJECTORY: 0}) if TRAJECTORY not in source.dims else result
