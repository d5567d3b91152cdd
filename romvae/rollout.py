"""Forecast: latent members, decoded in bounded memory, their moments by the law of total variance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from romvae.calibration import Calibration, Interval, scaled
from romvae.distributions import mixture_moments, moments, reparameterise
from romvae.dynamics.base import EnsembleDynamics
from romvae.errors import DivergedError
from romvae.held_back import warn_held_back
from romvae.memory import snapshots_at_once
from romvae.nn.observation import Observation
from romvae.vae import VAE

__all__ = [
    "Moments",
    "calibrated",
    "check_finite",
    "decoded_means",
    "decoded_members",
    "forecast_moments",
    "initial_noise",
    "latent_members",
    "latent_parts",
    "latents_at",
    "posterior_means",
    "step_noise",
]

GROWN = 1e4
"""Growth of the latents from which on a forecast has diverged, though it is finite."""
_VALUES = 2**19
"""Values of a moment, or of all members' means, that are in memory at once; those of one lead time always are."""


@dataclass(frozen=True)
class Moments:
    """Moments of the forecast at some lead times, normalised units, before calibration.

    Shapes: `mean`, `decoder_var`, `dynamics_var` are `(lead, trajectory, channel, *space)`; `lead` holds step numbers.
    `ensemble_var` is the part of `dynamics_var` in which the networks disagree, and `members` what each member decodes
    to, `(lead, trajectory, member, channel, *space)`, where they were asked for.
    """

    lead: Tensor
    mean: Tensor
    decoder_var: Tensor
    dynamics_var: Tensor
    ensemble_var: Tensor | None = None
    members: Tensor | None = None


@torch.no_grad()
def latent_members(
    vae: VAE,
    dynamics: EnsembleDynamics,
    x0: Tensor,
    c: Tensor,
    steps: int,
    members: int,
    seed: int,
    first: int = 0,
    *,
    past: Tensor | None = None,
    controls: Tensor | None = None,
) -> Tensor:
    """Latent trajectories of an ensemble.

    Every member starts from its own sample of the encoder's posterior (a single member from its mean) and follows one
    network of the dynamics ensemble, in turn.

    Arguments:
        vae: The trained encoder and decoder.
        dynamics: The trained time evolution.
        x0: Normalised initial fields `(trajectory, channel, *space)`.
        c: Normalised parameters `(trajectory, parameter)`.
        steps: Stored steps to roll out.
        members: Members of the forecast, 1 or more.
        seed: Seed; the members of a trajectory depend on it and on the trajectory's position only.
        first: Position of the first trajectory, where a forecast is computed in blocks.
        past: Normalised fields before the initial ones, a large step apart, `(trajectory, earlier, channel, *space)`,
            for dynamics with memory.
        controls: Normalised controls `(trajectory, steps + 1, control)`.

    Returns:
        Latents `(steps + 1, member, trajectory, latent)`.

    Raises:
        DivergedError: A latent diverged, with the trajectory and the first such step.
    """
    return next(
        latent_parts(vae, dynamics, x0, c, steps, members, seed, first, max(1, steps), past=past, controls=controls)
    )[1]


@torch.no_grad()
def latent_parts(
    vae: VAE,
    dynamics: EnsembleDynamics,
    x0: Tensor,
    c: Tensor,
    steps: int,
    members: int,
    seed: int,
    first: int,
    length: int,
    *,
    past: Tensor | None = None,
    controls: Tensor | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """The same `length` steps at once, a multiple of the stride: the first step of each part, and its latents.

    Dynamics that draw noise are rolled out in one part. Other arguments and errors are those of `latent_members`; what
    diverges late is found late.
    """
    centre, rounds, z0 = _member_starts(vae, dynamics, x0, members, seed, first)
    (n, latent), networks = centre.shape, dynamics.members
    conditions = c.repeat(rounds, 1)
    along = _repeated(vae, rounds, past, controls)
    if dynamics.stochastic and members > 1:
        noise = step_noise(dynamics, steps, rounds, n, seed, first)
        path = dynamics.rollout(z0, conditions, float(dynamics.dt), steps, **along, noise=noise)
        parts: Iterable[tuple[int, Tensor]] = [(0, path)]
    else:
        parts = dynamics.passing(z0, conditions, steps, length, **along)
    for begin, path in parts:
        path = path.reshape(len(path), networks, rounds, n, latent).transpose(1, 2).flatten(1, 2)[:, :members]
        check_finite(path, steps, begin, centre, first)
        warn_held_back(path, dynamics, steps, begin, first)
        yield begin, path


@torch.no_grad()
def latents_at(
    vae: VAE,
    dynamics: EnsembleDynamics,
    x0: Tensor,
    c: Tensor,
    leads: Tensor,
    members: int,
    seed: int,
    first: int = 0,
    *,
    past: Tensor | None = None,
    controls: Tensor | None = None,
) -> Tensor:
    """The members of `latent_members` at any times, `(lead, member, trajectory, latent)`; other arguments are its own.

    The lead times are stored steps, whole numbers unless the dynamics is `continuous`.
    """
    centre, rounds, z0 = _member_starts(vae, dynamics, x0, members, seed, first)
    times = leads.double() * float(dynamics.dt)
    path = dynamics.at_times(z0, c.repeat(rounds, 1), times, **_repeated(vae, rounds, past, controls))
    path = path.reshape(len(leads), dynamics.members, rounds, *centre.shape)
    path = path.transpose(1, 2).flatten(1, 2)[:, :members]
    last = math.ceil(float(leads.max()))
    check_finite(path, last, 0, centre, first, leads)
    warn_held_back(path, dynamics, last, 0, first, leads)
    return path


def _member_starts(
    vae: VAE, dynamics: EnsembleDynamics, x0: Tensor, members: int, seed: int, first: int
) -> tuple[Tensor, int, Tensor]:
    """Codes `(trajectory, latent)`, members of a network, and all members `(network, round * trajectory, latent)`."""
    q = vae.encoder(x0)
    centre = moments(q)[0]
    n, latent = centre.shape
    networks = dynamics.members
    rounds = -(-members // networks)
    offsets = centre.new_zeros(rounds, networks, n, latent)
    if members > 1:
        offsets = initial_noise(dynamics, rounds, n, seed, first).to(centre)
    z0 = reparameterise(q, offsets) if members > 1 else centre.expand_as(offsets)
    return centre, rounds, z0.transpose(0, 1).reshape(networks, rounds * n, latent)


def _repeated(vae: VAE, rounds: int, past: Tensor | None, controls: Tensor | None) -> dict[str, Tensor | None]:
    """Earlier codes and controls of all members of a network."""
    return {
        "past": None if past is None else posterior_means(vae, past).repeat(rounds, 1, 1),
        "controls": None if controls is None else controls.repeat(rounds, 1, 1),
    }


def check_finite(
    path: Tensor,
    steps: int,
    begin: int = 0,
    start: Tensor | None = None,
    first: int = 0,
    leads: Tensor | None = None,
) -> None:
    """Refuses latents `(time, ..., trajectory, latent)` from step `begin` on that diverge.

    They do where they are not finite any more, or `GROWN` times too large.

    Arguments:
        path: The latents.
        steps: Of the whole forecast.
        begin: First step of `path`.
        start: Codes of the initial fields; growth counts from the largest of them, and from 1 at least.
        first: Position of the first trajectory among all.
        leads: Stored steps of `path` where these are not consecutive.

    Raises:
        DivergedError: With the first such step of every trajectory of `path`.
    """
    good = path.isfinite()
    if start is not None:
        good &= path.abs() <= GROWN * max(1.0, float(start.abs().max()) if start.numel() else 1.0)
    if bool(good.all()):
        return
    bad = ~good.movedim(-2, 1).flatten(2).all(2)  # (time, trajectory)
    early = int(bad.any(1).nonzero()[0])
    how = f"has grown more than {GROWN:g} times" if path[early].isfinite().all() else "stopped being finite"
    rows = bad.any(0).nonzero()[:, 0].tolist()
    at = {first + row: int(bad[:, row].nonzero()[0]) for row in rows}
    raise DivergedError({row: begin + k if leads is None else float(leads[k]) for row, k in at.items()}, steps, how)


def posterior_means(vae: VAE, x: Tensor) -> Tensor:
    """Posterior means of fields `(trajectory, time, channel, *space)`."""
    return moments(vae.encoder(x.flatten(0, 1)))[0].unflatten(0, x.shape[:2])


def initial_noise(dynamics: EnsembleDynamics, rounds: int, n: int, seed: int, first: int) -> Tensor:
    """Noise of the members' initial codes, `(round, network, trajectory, latent)`.

    Every second round is the one before with the other sign (antithetic variates): the mean of the members then has no
    sampling noise to first order, where independent ones leave a fraction of the posterior's spread in it.

    A trajectory has its own numbers, whatever is forecast beside it; more members leave those of the first as they are.

    References:
        Hammersley and Morton (1956), A new Monte Carlo technique: antithetic variates.
    """
    networks, latent = dynamics.members, dynamics.latent
    out = torch.empty(rounds, networks, n, latent)
    for i in range(n):
        generator = torch.Generator().manual_seed((seed * 1_000_003 + first + i) % (1 << 63))
        for k in range(rounds):
            out[k, :, i] = -out[k - 1, :, i] if k % 2 else torch.randn(networks, latent, generator=generator)
    return out


def step_noise(dynamics: EnsembleDynamics, steps: int, rounds: int, n: int, seed: int, first: int) -> Tensor:
    """Noise of every large step, `(step, network, round * trajectory, latent)`; whose it is as in `initial_noise`."""
    large, shape = steps // dynamics.stride, (dynamics.members, dynamics.latent)
    out = torch.empty(large, dynamics.members, rounds, n, dynamics.latent)
    for i in range(n):
        for k in range(rounds):
            key = ((seed * 1_000_003 + first + i) * 1009 + k + 1) % (1 << 62) + (1 << 62)
            generator = torch.Generator().manual_seed(key)
            for step in range(large):
                out[step, :, k, i] = torch.randn(*shape, generator=generator)
    return out.flatten(2, 3)


@torch.no_grad()
def forecast_moments(
    vae: VAE,
    path: Tensor,
    leads: Tensor,
    frames: int = 1024,
    decoder: Observation | None = None,
    keep_members: bool = False,
) -> Iterator[Moments]:
    """Decodes latent members and yields their moments in chunks of lead times; arguments as in `decoded_members`.

    Members are added up where they are decoded, a few trajectories at a time, so that they stay in the cache and the
    memory does not grow with their number; unless `keep_members`, which yields the means of all of them too, of fewer
    lead times at once.
    """
    _, members, n, latent = path.shape
    decoder = vae.decoder if decoder is None else decoder
    shape = (decoder.mean.layout.fields, *decoder.mean.layout.shape)
    at_once = min(frames, snapshots_at_once(math.prod(shape[1:])))
    held = n * math.prod(shape) * (members if keep_members else 1)
    for lead in leads.split(max(1, min(frames // (members * n), _VALUES // held))):
        codes = path[lead].transpose(1, 2).reshape(-1, members, latent)
        kept: list[Tensor] | None = [] if keep_members else None
        parts = [_pooled(decoder, group, at_once, kept) for group in codes.split(max(1, at_once // members))]
        mean, within, between = (torch.cat(each).reshape(len(lead), n, *shape) for each in zip(*parts, strict=True))
        each = None if kept is None else torch.cat(kept).reshape(len(lead), n, members, *shape)
        yield Moments(lead, mean, within, between, members=each)


def _pooled(
    decoder: Observation, codes: Tensor, at_once: int, kept: list[Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`mixture_moments` of codes `(forecast, member, latent)`, each `(forecast, channel, *space)`.

    The members' means `(forecast, member, channel, *space)` are put into `kept`, if there is such a list. Members that
    are too many to be decoded at once are decoded in turn; their squares are added up about the mean so far (Chan,
    Golub and LeVeque, 1979, Updating formulae and a pairwise algorithm for computing sample variances).
    """
    forecasts, members, _ = codes.shape
    if forecasts * members <= at_once:
        mean, var = (each.unflatten(0, codes.shape[:2]) for each in decoder.moments_of(codes.flatten(0, 1)))
        if kept is not None:
            kept.append(mean)
        return mixture_moments(mean, var, dim=1)
    done, parts = 0, []
    centre = within = squares = torch.zeros(())
    for part in codes.split(max(1, at_once // forecasts), dim=1):
        mean, var = (each.unflatten(0, part.shape[:2]) for each in decoder.moments_of(part.flatten(0, 1)))
        count = part.shape[1]
        own, step = mean.mean(1), count / (done + count)
        shift = own - centre
        squares = squares + (mean - own[:, None]).square().sum(1) + shift.square() * (done * step)
        centre, within, done = centre + shift * step, within + (var.mean(1) - within) * step, done + count
        parts += [] if kept is None else [mean]
    if kept is not None:
        kept.append(torch.cat(parts, 1))
    return centre, within, squares / (members - 1)


@torch.no_grad()
def decoded_means(
    decoder: Observation, codes: Tensor, leads: Tensor, frames: int = 1024
) -> Iterator[tuple[Tensor, Tensor]]:
    """Decodes one code per trajectory and lead time to its mean and nothing else.

    Arguments:
        decoder: Of the VAE, or a window of it.
        codes: Latents `(time, trajectory, latent)`.
        leads: Which times to decode, shape `(lead,)`.
        frames: Snapshots decoded at once; bounds the memory.

    Yields:
        Lead times of the chunk, and means `(lead, trajectory, channel, *space)`.
    """
    layout = decoder.mean.layout
    at_once = min(frames, snapshots_at_once(math.prod(layout.shape)))
    n = codes.shape[1]
    for lead in leads.split(max(1, at_once // n)):
        parts = [decoder.mean_of(part) for part in codes[lead].reshape(-1, codes.shape[-1]).split(at_once)]
        yield lead, torch.cat(parts).reshape(len(lead), n, layout.fields, *layout.shape)


@torch.no_grad()
def decoded_members(
    vae: VAE, path: Tensor, leads: Tensor, frames: int = 1024, decoder: Observation | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Decodes latent members in chunks of lead times.

    Arguments:
        vae: The trained VAE.
        path: Latents `(time, member, trajectory, latent)`.
        leads: Which times of `path` to decode, shape `(lead,)`.
        frames: Snapshots decoded at once; bounds the memory.
        decoder: What decodes instead of the VAE's own, such as a window of it.

    Yields:
        Lead times of the chunk, and the decoder's means and variances `(lead, member, trajectory, channel, *space)`.
    """
    _, members, n, latent = path.shape
    decoder = vae.decoder if decoder is None else decoder
    shape = (decoder.mean.layout.fields, *decoder.mean.layout.shape)
    at_once = min(frames, snapshots_at_once(math.prod(shape[1:])))
    for lead in leads.split(max(1, min(frames, _VALUES // math.prod(shape)) // (members * n))):
        z = path[lead].reshape(-1, latent)
        means, variances = [], []
        for part in z.split(at_once):
            p = decoder(part)
            means.append(p.mean)
            variances.append(p.variance)
        mean = torch.cat(means).reshape(len(lead), members, n, *shape)
        var = torch.cat(variances).reshape(len(lead), members, n, *shape)
        yield lead, mean, var


def calibrated(
    moments: Moments,
    calibration: Calibration,
    level: float,
    interval: Interval = "point",
    share: float = 0.9,
    grades: Tensor | None = None,
) -> dict[str, Tensor]:
    """Standard deviations after calibration and the interval's half-width, normalised units.

    Arguments:
        moments: From `forecast_moments`.
        calibration: Of the ROM.
        level: Nominal coverage.
        interval: What the interval is to hold, see `Calibration.width`.
        share: What share of it.
        grades: Of the initial fields, from `romvae.grading.initial_grades`; None counts each as usual.

    Returns:
        `std` in all, its parts `std_decoder` and `std_dynamics`, the latter's parts `std_posterior` and
        `std_ensemble` where the disagreement of the networks is known, and `half_width`; each like `moments.mean`.
        Their squares add up: beside the weights of decoder and dynamics (`romvae.calibration.PartWeights`), all are
        scaled alike at every point.
    """
    factor, _ = calibration.at(moments.lead, level)
    width = calibration.width(moments.lead, level, interval, share)
    trailing = [1] * (moments.mean.ndim - 3)
    factor = factor.to(moments.mean).reshape(len(moments.lead), 1, -1, *trailing)
    width = width.to(moments.mean).reshape(factor.shape)
    within, between = calibration.parts.weighted(moments.decoder_var, moments.dynamics_var, grades)
    given = (within + between).sqrt()
    factor = scaled(factor, given, calibration.spread, 2)
    total = factor * given
    result = {
        "std": total,
        "std_decoder": factor * within.sqrt(),
        "std_dynamics": factor * between.sqrt(),
        "half_width": torch.where(total > 0, width * total, torch.zeros_like(total)),
    }
    if moments.ensemble_var is not None:
        ensemble = torch.minimum(calibration.parts.weighted(within, moments.ensemble_var, grades)[1], between)
        result["std_ensemble"] = factor * ensemble.sqrt()
        result["std_posterior"] = factor * (between - ensemble).sqrt()
    return result
