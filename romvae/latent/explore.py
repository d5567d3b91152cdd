"""Looking around in the latent space: samples, reconstructions, interpolation, traversals, neighbourhoods, maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from scipy.stats import norm

from romvae.distributions import moments, reparameterise
from romvae.errors import ConfigError
from romvae.schema import LATENT, TIME, TRAJECTORY

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = [
    "interpolate",
    "interpolation_error",
    "manifold",
    "neighbourhood",
    "project",
    "reconstruct",
    "sample_prior",
    "traverse",
]

SAMPLE = "sample"
POSITION = "position"


def _latents(values: torch.Tensor, dims: tuple[str, ...], **coords: Any) -> xr.DataArray:
    return xr.DataArray(values.numpy(), dims=(*dims, LATENT), coords=coords)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def codes_of(rom: ROM, snapshots: xr.Dataset) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalised snapshots `(sample, ...)`, means and standard deviations of their codes."""
    x = rom.normalised(snapshots, spacing=False)[0].flatten(0, 1)
    with torch.no_grad():
        parts = [moments(rom.vae.encoder(part)) for part in x.split(1024)]
    return x, torch.cat([mean for mean, _ in parts]), torch.cat([std for _, std in parts])


def reconstruct(rom: ROM, snapshots: xr.Dataset) -> xr.Dataset:
    """Snapshots after encoding and decoding: each field `u` and its local standard deviation `u_std`.

    Arguments:
        rom: Trained.
        snapshots: Canonical, on the ROM's grid.

    Returns:
        On the snapshots' own dims, so that `snapshots - result` is the error of the encoding.
    """
    shape = tuple(snapshots.sizes.get(dim, 1) for dim in (TRAJECTORY, TIME))
    mean = codes_of(rom, snapshots)[1].reshape(*shape, -1)
    coords = {dim: snapshots[dim] for dim in (TRAJECTORY, TIME) if dim in snapshots.dims and dim in snapshots.coords}
    return rom.decode(_latents(mean, (TRAJECTORY, TIME), **coords))


@torch.no_grad()
def sample_prior(rom: ROM, samples: int = 16, seed: int = 0) -> xr.Dataset:
    """Fields decoded from samples of the prior: means, with the local deviation beside them.

    Independent noise of the decoder is not added: it would be salt and pepper, not a field.

    Arguments:
        rom: Trained.
        samples: Number of samples.
        seed: Seed of the samples.

    Returns:
        Dim `sample`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        z = rom.vae.prior().sample((samples,))
    return rom.decode(_latents(z, (SAMPLE,), **{SAMPLE: np.arange(samples)}))


@torch.no_grad()
def interpolate(rom: ROM, first: xr.Dataset, second: xr.Dataset, steps: int = 9) -> xr.Dataset:
    """Fields on the straight line between the codes of two snapshots.

    Arguments:
        rom: Trained.
        first: One snapshot.
        second: Another.
        steps: Points on the line, both ends included.

    Returns:
        Dim `position` from 0 to 1. Between two times of one trajectory the true states lie between them too:
        `interpolation_error` compares with those.
    """
    if steps < 2:
        raise ConfigError(f"interpolate: steps is {steps}, expected at least 2, the two ends.")
    ends = [codes_of(rom, end)[1] for end in (first, second)]
    if any(len(end) != 1 for end in ends):
        raise ConfigError(
            "interpolate: expected one snapshot at either end. Select one with isel(trajectory=0, time=0)."
        )
    position = torch.linspace(0, 1, steps)
    z = ends[0] + position[:, None] * (ends[1] - ends[0])
    return rom.decode(_latents(z, (POSITION,), **{POSITION: position.numpy()}))


@torch.no_grad()
def interpolation_error(rom: ROM, snapshots: xr.Dataset, gap: int) -> xr.Dataset:
    """Relative error of interpolating between codes `gap` steps apart, at the true states in between.

    Arguments:
        rom: Trained.
        snapshots: Trajectories with at least `gap + 1` times.
        gap: Stored steps between the two ends; at least 2.

    Returns:
        Variables `latent` (interpolated in the code), `field` (interpolated in the fields themselves, the baseline) and
        `encoding` (no interpolation), each with dim `time` in steps from the first end, relative to the size of the
        fields.
    """
    x = rom.normalised(snapshots, spacing=False)[0]
    if gap < 2 or x.shape[1] <= gap:
        raise ConfigError(f"interpolation_error: gap is {gap}, expected 2 to {x.shape[1] - 1}.")
    starts = torch.arange(0, x.shape[1] - gap, gap)
    window = x[:, starts[:, None] + torch.arange(gap + 1)].flatten(0, 1)
    codes = torch.stack([moments(rom.vae.encoder(window[:, k]))[0] for k in range(gap + 1)], 1)
    size = window.square().mean()

    def relative(guess: torch.Tensor, k: int) -> float:
        return float(((guess - window[:, k]).square().mean() / size).sqrt())

    out: dict[str, list[float]] = {"latent": [], "field": [], "encoding": []}
    for k in range(gap + 1):
        w = k / gap
        out["latent"].append(relative(rom.vae.decoder((1 - w) * codes[:, 0] + w * codes[:, -1]).mean, k))
        out["field"].append(relative((1 - w) * window[:, 0] + w * window[:, -1], k))
        out["encoding"].append(relative(rom.vae.decoder(codes[:, k]).mean, k))
    steps = (TIME, np.arange(gap + 1), {"long_name": "stored steps from the first end", "units": "1"})
    return xr.Dataset({name: (TIME, values, {"units": "1"}) for name, values in out.items()}, {TIME: steps})


@torch.no_grad()
def traverse(
    rom: ROM, snapshot: xr.Dataset, latents: list[int] | None = None, reach: float = 2.0, steps: int = 7
) -> xr.Dataset:
    """Fields as one latent at a time moves from `-reach` to `reach` around the code of a snapshot.

    Arguments:
        rom: Trained.
        snapshot: One snapshot, whose code is the centre.
        latents: Which latents; None takes all.
        reach: How far, in standard deviations of a standard normal prior.
        steps: Positions on the way; an odd number has the snapshot's own reconstruction in the middle.

    Returns:
        Dims `latent, position`; the positions are offsets from the snapshot's code.
    """
    _, centre, _ = codes_of(rom, snapshot)
    which = list(range(rom.vae.latent)) if latents is None else latents
    offsets = torch.as_tensor(np.linspace(-reach, reach, steps).round(12), dtype=centre.dtype)  # zero is zero
    z = centre[:1].expand(len(which), steps, -1).clone()
    for row, i in enumerate(which):
        z[row, :, i] += offsets
    fields = rom.decode(_latents(z.flatten(0, 1), (SAMPLE,)))
    shaped = {
        name: (
            (LATENT, POSITION, *array.dims[1:]),
            array.values.reshape(len(which), steps, *array.shape[1:]),
            array.attrs,
        )
        for name, array in fields.items()
    }
    coords = {**rom.space(), LATENT: which, POSITION: offsets.numpy()}
    return xr.Dataset(shaped, coords)


@torch.no_grad()
def neighbourhood(rom: ROM, snapshot: xr.Dataset, samples: int = 16, width: float = 1.0, seed: int = 0) -> xr.Dataset:
    """Fields decoded from samples of the posterior of one snapshot: what the code cannot tell from it.

    Arguments:
        rom: Trained.
        snapshot: One snapshot.
        samples: Number of samples.
        width: Factor on the posterior's own width.
        seed: Seed of the samples.

    Returns:
        Dim `sample`.
    """
    x = rom.normalised(snapshot, spacing=False)[0].flatten(0, 1)[:1]
    q = rom.vae.encoder(x)
    noise = torch.randn(samples, 1, rom.vae.latent, generator=_generator(seed))
    centre = moments(q)[0]
    z = centre + width * (reparameterise(q, noise) - centre)
    return rom.decode(_latents(z[:, 0], (SAMPLE,), **{SAMPLE: np.arange(samples)}))


@torch.no_grad()
def manifold(rom: ROM, snapshots: xr.Dataset, axes: tuple[int, int] | None = None, size: int = 9) -> xr.Dataset:
    """Fields over a square grid of two latents, at equal quantiles of the standard normal; the others at their mean.

    Arguments:
        rom: Trained.
        snapshots: For the mean of the other latents and, if `axes` is None, the two of largest divergence.
        axes: The two latents.
        size: Positions per side.

    Returns:
        Dims `row, column`, with the values of the two latents as coordinates.
    """
    _, mean, std = codes_of(rom, snapshots)
    if axes is None:
        kl = (0.5 * (mean.square() + std.square() - 1) - std.log()).mean(0)
        order = kl.argsort(descending=True).tolist()
        axes = (order[0], order[1 % len(order)])
    quantiles = torch.as_tensor(norm.ppf((np.arange(size) + 0.5) / size), dtype=mean.dtype)
    z = mean.mean(0).expand(size, size, -1).clone()
    z[..., axes[0]], z[..., axes[1]] = quantiles[:, None], quantiles[None, :]
    fields = rom.decode(_latents(z.flatten(0, 1), (SAMPLE,)))
    shaped = {
        name: (("row", "column", *array.dims[1:]), array.values.reshape(size, size, *array.shape[1:]), array.attrs)
        for name, array in fields.items()
    }
    coords = {**rom.space(), "row": quantiles.numpy(), "column": quantiles.numpy()}
    return xr.Dataset(shaped, coords, {"latents": list(axes)})


def project(rom: ROM, snapshots: xr.Dataset) -> xr.Dataset:
    """Codes projected onto their two leading principal axes, to be coloured by time, parameter or error.

    Returns:
        `first`, `second` and `error` (root mean square reconstruction error in units of the fields' own deviation) on
        `trajectory, time`, with the snapshots' parameters as coordinates; `share` holds the variance that each axis
        explains.
    """
    x, mean, _ = codes_of(rom, snapshots)
    shape = tuple(snapshots.sizes.get(d, 1) for d in (TRAJECTORY, TIME))
    centred = (mean - mean.mean(0)).double()
    _, singular, axes = torch.linalg.svd(centred, full_matrices=False)
    share = singular.square() / singular.square().sum()
    flat = centred @ axes[:2].T
    if flat.shape[1] < 2:
        flat = torch.cat([flat, torch.zeros_like(flat)], 1)
    with torch.no_grad():
        again = torch.cat([rom.vae.decoder(part).mean for part in mean.split(512)])
    error = (again - x).square().flatten(1).mean(1).sqrt()
    dims = (TRAJECTORY, TIME)
    coords = {n: c for n, c in snapshots.coords.items() if set(c.dims) <= set(dims)}
    return xr.Dataset(
        {
            "first": (dims, flat[:, 0].reshape(shape).numpy(), {"units": "1"}),
            "second": (dims, flat[:, 1].reshape(shape).numpy(), {"units": "1"}),
            "error": (dims, error.reshape(shape).numpy(), {"long_name": "reconstruction error", "units": "1"}),
        },
        coords,
        {"share": share[:2].tolist()},
    )
