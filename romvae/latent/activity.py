"""Which latents carry information, which have collapsed, and what to change if the divergence is out of balance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr
from torch import Tensor

from romvae.distributions import moments
from romvae.memory import snapshots_at_once
from romvae.priors import StandardNormalPrior
from romvae.schema import LATENT

if TYPE_CHECKING:
    from romvae.rom import ROM
    from romvae.vae import VAE

__all__ = ["Activity", "activity", "activity_of", "advice_of", "reconstruction_error", "warnings_of"]

LOST = 0.2
"""Error of compression, in units of the fields' deviation, from which on a code whose latents are all used is small."""
NATS = 1.0
"""A latent is active if its divergence exceeds this: the posterior is then narrower than 0.37 prior deviations."""
GAIN = 0.02
"""... and if the reconstruction error grows by more than this share when it is set to its mean."""
WORSE = 1.25
"""A model whose error on training snapshots is larger by this factor than POD's, as which it started, and which was
told to weigh the divergence more than the bound does, has been held back by it."""
TOO_STRONG = 3.0
"""Weight of the divergence from which on that is said; the evidence lower bound has one."""
MUCH_WORSE, LARGE = 1.5, 0.05
"""Without such a weight the error has to be this much larger than POD's, and this large, with half of the latents
collapsed: a short training on easy data may well end a little above POD."""
SNAPSHOTS = 2000


@dataclass(frozen=True)
class Activity:
    """What each latent carries.

    Arguments:
        table: Variables on the dim `latent`: `kl` (nats; from the Gaussian with the codes' own moments if the prior is
            learned, NaN if codes are points), `gain` (relative growth of the reconstruction error if the latent is
            replaced by its mean), `mean_std` (spread of the codes), `posterior_std` (root mean square), and `active`.
        relative_error: Root mean square reconstruction error in units of the fields' own deviation, from the mean code.
        sampled_error: The same from one sample of each code: what the decoder's variance has to account for.
    """

    table: xr.Dataset
    relative_error: float
    sampled_error: float

    @property
    def active(self) -> int:
        """Number of active latents."""
        return int(self.table["active"].sum())

    @property
    def latent(self) -> int:
        """Number of latents."""
        return int(self.table.sizes[LATENT])

    @property
    def quiet(self) -> int:
        """Number of latents with a divergence of less than a nat."""
        return int((self.table["kl"] < NATS).sum())


def activity(rom: ROM, snapshots: xr.Dataset) -> Activity:
    """Divergence and ablation gain of each latent on given snapshots, best held-out ones.

    The usual count, latents whose codes vary by more than 0.01, is not used: with a well-fitted variance it counts
    every latent there is.

    Arguments:
        rom: Trained.
        snapshots: Canonical Dataset on the ROM's grid; at most 2000 snapshots, evenly spaced, are used.
    """
    x = rom.normalised(snapshots, spacing=False)[0].flatten(0, 1)
    return activity_of(rom.vae, x[:: -(-len(x) // SNAPSHOTS)])


@torch.no_grad()
def activity_of(vae: VAE, x: Tensor, ablation: bool = True) -> Activity:
    """The same for a VAE and normalised snapshots `(sample, channel, *space)`.

    Arguments:
        vae: The model.
        x: Snapshots, on the model's device.
        ablation: Whether to set one latent after the other to its mean; without, `gain` is NaN and a latent is active
            by its divergence alone: cheap enough to be looked at during a training.
    """
    codes = [moments(vae.encoder(part)) for part in x.split(_at_once(x))]
    mean, std = torch.cat([m for m, _ in codes]), torch.cat([s for _, s in codes])
    error = _mean_square(vae, x, mean)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0), dtype=mean.dtype).to(mean.device)
    sampled = _mean_square(vae, x, mean + std * noise)
    gains = [] if ablation else [float("nan")] * mean.shape[1]
    for i in range(mean.shape[1] if ablation else 0):
        without = mean.clone()
        without[:, i] = mean[:, i].mean()
        gains.append((_mean_square(vae, x, without) / error) ** 0.5 - 1 if error > 0 else 0.0)
    gain = torch.tensor(gains, dtype=torch.float64)
    names = {
        "kl": (_divergence(vae, mean, std), "mean divergence from the prior", "nat"),
        "gain": (gain, "growth of the reconstruction error without the latent", "1"),
        "mean_std": (mean.std(0, correction=0).double(), "standard deviation of the codes", "1"),
        "posterior_std": (std.square().mean(0).sqrt().double(), "root mean square posterior deviation", "1"),
    }
    table = xr.Dataset({n: (LATENT, v.cpu().numpy(), {"long_name": t, "units": u}) for n, (v, t, u) in names.items()})
    informed = table["kl"] > NATS if vae.variational else xr.ones_like(table["kl"], bool)
    table["active"] = informed & (table["gain"] > GAIN) if ablation else informed
    table["active"].attrs["long_name"] = f"divergence above {NATS:g} nat and gain above {GAIN:.0%}"
    return Activity(table.assign_coords({LATENT: range(mean.shape[1])}), error**0.5, sampled**0.5)


@torch.no_grad()
def reconstruction_error(vae: VAE, x: Tensor) -> float:
    """Root mean square error of encoding and decoding normalised snapshots, per value inside the domain."""
    mean = torch.cat([moments(vae.encoder(part))[0] for part in x.split(_at_once(x))])
    return _mean_square(vae, x, mean) ** 0.5


def _at_once(x: Tensor) -> int:
    return snapshots_at_once(math.prod(x.shape[2:]))


def _mean_square(vae: VAE, x: Tensor, z: Tensor) -> float:
    """Mean squared error per value inside the domain."""
    parts = zip(x.split(_at_once(x)), z.split(_at_once(x)), strict=True)
    total = sum(float((vae.decoder(code).mean - fields).double().square().sum()) for fields, code in parts)
    return total / (len(x) * x.shape[1] * vae.decoder.points)


def _divergence(vae: VAE, mean: Tensor, std: Tensor) -> Tensor:
    if not vae.variational:
        return torch.full((mean.shape[1],), float("nan"), dtype=torch.float64)
    if isinstance(vae.prior, StandardNormalPrior):
        return (0.5 * (mean.square() + std.square() - 1) - std.log()).double().mean(0)
    # A learned prior is what the codes make it: the Gaussian with their moments stands for it, latent by latent.
    return 0.5 * (mean.var(0, correction=0) + std.square().mean(0)).log().double() - std.log().double().mean(0)


def warnings_of(
    found: Activity, linear_error: float | None = None, choices: Mapping[str, Any] | None = None
) -> list[str]:
    """What is wrong with the balance of likelihood and divergence, and what to change; empty if nothing is.

    Latents that carry nothing are no fault in themselves: a model that needs fewer prunes the rest. It is one where
    none carries anything, or where the reconstruction is worse than that of the linear model that the training began
    with.

    Arguments:
        found: From training snapshots: an overfitted model is no collapsed one.
        linear_error: Error of the linear model with as many modes on the same snapshots, like `relative_error`; None
            leaves out what needs it.
        choices: What the training was told, for advice that fits: `objective`, `beta`, `free_bits`, `capacity`,
            `variance`, `noise_std`.
    """
    told = dict(choices or {})
    if found.latent and found.quiet == found.latent:
        return [
            f"posterior collapse: none of {found.latent} latents carries as much as {NATS:g} nat, so the decoder "
            f"ignores the code. {_remedy(told)}"
        ]
    if linear_error is None:
        return []
    compared = (
        f"the reconstruction of training snapshots is {found.relative_error:.2%} off, POD with {found.latent} modes "
        f"{linear_error:.2%}. {_remedy(told)}"
    )
    weight = _weight(found, told)
    if weight >= TOO_STRONG and found.relative_error > WORSE * linear_error:
        return [
            f"over-regularised: the divergence of the codes weighs {weight:.2g} times what the evidence lower bound "
            f"gives it, and {compared}"
        ]
    if 2 * found.quiet >= found.latent and found.relative_error > max(LARGE, MUCH_WORSE * linear_error):
        return [f"{found.quiet} of {found.latent} latents have collapsed (under {NATS:g} nat each), and {compared}"]
    return []


def _weight(found: Activity, told: Mapping[str, Any]) -> float:
    """Weight of the divergence relative to that of the bound with the best variance; a fixed variance is a weight."""
    weight = float(told.get("beta", 1.0)) if told.get("objective", "elbo") == "beta" else 1.0
    if told.get("variance") == "fixed" and told.get("observation", "gaussian") == "gaussian":
        weight *= float(told.get("noise_std", 0.0)) ** 2 / max(found.sampled_error**2, 1e-300)
    return weight


def _remedy(told: Mapping[str, Any]) -> str:
    """What to change, judged by what was chosen."""
    objective = told.get("objective", "elbo")
    if objective == "beta" and told.get("beta", 1.0) > 1:
        return f"Lower --training.beta (it is {told['beta']:g}) to 1, or leave --training.objective at elbo."
    if objective == "capacity":
        capacity = told.get("capacity", 0)
        return f"Raise --training.capacity (it is {capacity:g} nat), or leave --training.objective at elbo."
    if told.get("variance") == "fixed":
        return (
            f"Lower --model.noise-std (it is {told.get('noise_std', 0):g} of each field's deviation), or let the "
            "variance be learned: --model.variance staged."
        )
    if told.get("variance") in ("joint", "beta_nll"):
        return "Use --model.variance staged: the profiled variance keeps the mean from being explained away as noise."
    if objective == "free_bits":
        return f"Raise --training.free-bits (it is {told.get('free_bits', 0):g} nat per latent), or train longer."
    return "Train longer (--training.vae-steps), or hold the codes open with --training.objective free_bits."


def advice_of(found: Activity) -> str:
    """Whether the size of the code fits, in a sentence.

    Arguments:
        found: From held-out snapshots.
    """
    idle = found.latent - found.active
    if found.active == 0:
        return f"None of {found.latent} latents is active."
    if idle > 1:
        return (
            f"{found.active} of {found.latent} latents are active: a code of {found.active + 1} would very likely do. "
            f"Try --model.latent {found.active + 1}, or --model.latent auto."
        )
    least = float(found.table["gain"].min())
    if idle == 0 and least > 0.5:
        return (
            f"All {found.latent} latents are active, and leaving out the least costs {least:.0%} more error: a larger "
            f"code may compress better. Try --model.latent {2 * found.latent}, or --model.latent auto."
        )
    if found.relative_error > LOST:
        return (
            f"{found.active} of {found.latent} latents are active, and compression alone is {found.relative_error:.0%} "
            f"of the fields' deviation off: a larger code would hold more. Try --model.latent {2 * found.latent}, or "
            "--model.latent auto."
        )
    return f"{found.active} of {found.latent} latents are active: the size fits."
