"""Tables of variance rules and observation models on data with a known truth and on solutions of Burgers' equation.

    python -m tests.probabilistic.tables planted --out tables.json     # rules on data with a planted sigma(z, x)
    python -m tests.probabilistic.tables burgers --out tables.json     # rules on viscous Burgers, new trajectories
    python -m tests.probabilistic.tables models  --out tables.json     # observation models, Burgers in 1-D and 2-D
    python -m tests.probabilistic.tables seeds   --out tables.json     # ten seeds of the default on small cases
    python -m tests.probabilistic.tables effects --out tables.json     # options of model and objective, Burgers
    python -m tests.probabilistic.tables latent_auto --out tables.json # sizes of the code, and what `auto` answers
    python -m tests.probabilistic.tables show    --out tables.json     # as Markdown

A row that is in the file already is not computed again, so that a table can be gone on with.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import scoringrules
import torch
import xarray as xr
from scipy.stats import norm, spearmanr
from torch import Tensor

from romvae.canonical import fields_of
from romvae.data import split
from romvae.data.split import Parts
from romvae.distributions import mixture_moments, moments, reparameterise
from romvae.latent import held_out_bound
from romvae.rom import ROM
from romvae.schema import snapshots
from romvae.solvers import CASES, simulate
from romvae.symmetry import Symmetry
from romvae.tensors import field_tensor
from romvae.training.compression import fit_compression
from romvae.training.runner import run_stage
from romvae.training.session import Session
from romvae.training.variance import fit_variance
from tests.long_tables import tabulate
from tests.probabilistic.effects import EFFECTS, codes_of_burgers, effect, latent_answer

RULES = ("staged", "global", "faithful", "joint", "beta_nll", "student_t", "crps", "fixed")
SEEDS = (0, 1, 2)
SPACE, LATENT = 32, 2
TABLES = ("planted", "burgers", "models", "seeds", "effects", "latent_auto")
UNSEEDED = ("models", "latent_auto")
QUANTILE = float(norm.ppf(0.95))


def planted(seed: int) -> tuple[Parts, Callable[[xr.Dataset], tuple[np.ndarray, np.ndarray]]]:
    """Fields mu(z) + sigma(z, x) e with two latents and sigma between 0.05 and 0.20; their truth by name.

    mu = z_1 sin(2 pi x) + z_2 cos(2 pi x) + 0.3 z_1 z_2 sin(4 pi x) + 0.6 sin(2.3 z_1) sin(6 pi x),
    sigma = 0.1 exp(0.45 sin(2 pi x + z_1) + 0.24 tanh(z_2)).

    The last term of mu is hard to learn: a likelihood of mean and variance together explains it away as noise first.
    """
    rng = np.random.default_rng(seed)
    n, times = 700, 12
    x = np.arange(SPACE) / SPACE
    z = rng.standard_normal((n, times, LATENT))
    mean, std = _truth(z, x)
    u = mean + std * rng.standard_normal(mean.shape)
    ds = snapshots(
        fields={"u": u.astype(np.float32)},
        axes={"x": x},
        times=np.arange(times, dtype=float),
        parameters={},
        boundaries={"x": ("periodic", "periodic")},
    )
    ds = ds.assign_coords(z1=(("trajectory", "time"), z[..., 0]), z2=(("trajectory", "time"), z[..., 1]))
    parts = split(ds, seed=seed, fractions={"train": 0.6, "variance": 0.2, "calibration": 0.05, "test": 0.15})
    return parts, lambda part: _truth(np.stack([part["z1"].values, part["z2"].values], -1), x)


def noisy_burgers(seed: int) -> tuple[Parts, Callable[[xr.Dataset], tuple[np.ndarray, np.ndarray]]]:
    """Solutions of viscous Burgers with Gaussian noise that is larger where the field is; their truth as in `planted`.

    sigma = s (0.04 + 0.16 / (1 + exp(-3 u / s))) with the standard deviation s of the solutions: 4 to 20 % of it.
    """
    ds = simulate("burgers_1d", 400, seed=seed).isel(x=slice(None, None, 4), time=slice(20, None, 8))
    clean = ds["u"].values.astype(np.float64)
    scale = clean.std()
    std = scale * (0.04 + 0.16 / (1 + np.exp(-3 * clean / scale)))
    dims = ds["u"].dims
    noisy = clean + std * np.random.default_rng(seed).standard_normal(clean.shape)
    ds = ds.assign(u=ds["u"].copy(data=noisy.astype(np.float32)))
    ds = ds.assign_coords(clean=(dims, clean), std=(dims, std))
    parts = split(ds, seed=seed, fractions={"train": 0.6, "variance": 0.2, "calibration": 0.05, "test": 0.15})
    return parts, lambda part: (part["clean"].values, part["std"].values)


def _truth(z: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, two, phase = z[..., :1], z[..., 1:], 2 * np.pi * x
    mean = one * np.sin(phase) + two * np.cos(phase) + 0.3 * one * two * np.sin(2 * phase)
    mean = mean + 0.6 * np.sin(2.3 * one) * np.sin(3 * phase)
    return mean, 0.1 * np.exp(0.45 * np.sin(phase + one) + 0.24 * np.tanh(two))


def trained(
    parts: Parts,
    seed: int,
    steps: int,
    latent: int,
    rate: float = 2e-3,
    training: Mapping[str, Any] | None = None,
    **choices: Any,
) -> tuple[ROM, float]:
    """Encoder, mean and variance of a ROM, and seconds per pass over the training part."""
    small = {"channels": 16, "hidden": 8, "members": 1}
    rom = ROM.for_data(parts.train, latent=latent, seed=seed, **{**small, **choices})
    begin = time.process_time()
    told = {"vae_steps": steps, "batch_size": 128, "learning_rate": rate, **(training or {})}
    fit_compression(rom, parts.train, seed, told)
    count = parts.train.sizes["trajectory"] * parts.train.sizes["time"]
    epoch = (time.process_time() - begin) / steps * count / 128

    def run(stage: Any, batches: Any) -> None:
        run_stage(stage, batches, rom, Session(None, {}), "cpu", lambda *args: None)

    new = field_tensor(parts.variance, rom.schema, rom.normaliser)
    fit_variance(rom.vae, new, Symmetry(), max(200, steps // 3), 2 * rate, seed, run)
    return rom.eval(), epoch


@torch.no_grad()
def predicted(rom: ROM, part: xr.Dataset, samples: int = 8) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Snapshots, their mean and total variance over posterior samples, the decoder's deviation; normalised.

    Where the domain has a mask, its points follow each other in one axis.
    """
    x = field_tensor(part, rom.schema, rom.normaliser).flatten(0, 1)
    q = rom.vae.encoder(x)
    generator = torch.Generator().manual_seed(0)
    draws = [reparameterise(q, torch.randn(len(x), rom.vae.latent, generator=generator)) for _ in range(samples)]
    if not rom.vae.variational:
        draws = [moments(q)[0]]
    ps = [rom.vae.decoder(z) for z in draws]
    _, noise, spread = mixture_moments(torch.stack([p.mean for p in ps]), torch.stack([p.variance for p in ps]), 0)
    centre = rom.vae.decoder(moments(q)[0])
    found = x, centre.mean, noise + spread, centre.variance.sqrt()
    return found if rom.mask is None else tuple(each[..., torch.from_numpy(rom.mask)] for each in found)


def recovery(rom: ROM, parts: Parts, truth: Callable[[xr.Dataset], tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """How well the planted mean and deviation are found on new trajectories."""
    mean, std = (torch.from_numpy(a).flatten(0, 1)[:, None] for a in truth(parts.test))
    _, centre, total, local = predicted(rom, parts.test)
    scale, offset = float(rom.normaliser.std[0]), float(rom.normaliser.mean[0])
    found, local = centre * scale + offset, local * scale
    difference = local.log() - std.log()
    replicate = mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(1), dtype=mean.dtype)
    inside = (replicate - found).abs() <= QUANTILE * total.sqrt() * scale
    return {
        "log_sigma_rmse": float(difference.square().mean().sqrt()),
        "log_sigma_bias": float(difference.mean()),
        "coverage": float(inside.double().mean()),
        "mean_error": float((found - mean).square().mean().sqrt() / mean.std()),
    }


def skill(rom: ROM, part: xr.Dataset) -> dict[str, float]:
    """Accuracy and calibration of the reconstruction on new trajectories, before any calibration."""
    x, centre, total, _ = predicted(rom, part)
    std, error = total.sqrt(), (x - centre).abs()
    times = part.sizes["time"]
    scale, offset = (v.float().reshape(-1, *[1] * (x.ndim - 2)) for v in (rom.normaliser.std, rom.normaliser.mean))
    by_trajectory = [a.square().unflatten(0, (-1, times)).flatten(1).mean(1).sqrt() for a in (error, std)]
    crps = scoringrules.crps_normal(x.numpy(), centre.numpy(), std.numpy())
    flat = torch.randperm(error.numel(), generator=torch.Generator().manual_seed(0))[:200_000]
    return {
        "relative_l2": float((error * scale).norm() / (x * scale + offset).norm()),
        "nll_per_point": float((-torch.distributions.Normal(centre, std).log_prob(x)).mean()),
        "coverage": float((error <= QUANTILE * std).double().mean()),
        "crps": float((torch.from_numpy(np.asarray(crps)) * scale).mean()),
        "rank_points": float(spearmanr(error.flatten()[flat], std.flatten()[flat]).statistic),
        "rank_trajectories": float(spearmanr(*by_trajectory).statistic),
    }


def burgers(seed: int, dims: int = 1, unit: bool = False) -> Parts:
    """A small data set of viscous Burgers: every second point and fourth time of the case's own; `unit`: in [0, 1]."""
    if dims == 1:
        ds = simulate("burgers_1d", 240, seed=seed).isel(x=slice(None, None, 2), time=slice(None, None, 4))
    else:
        ds = simulate("burgers_2d", 100, seed=seed).isel(
            x=slice(None, None, 2), y=slice(None, None, 2), time=slice(None, None, 5)
        )
    if unit:
        for name in fields_of(ds):
            low, high = float(ds[name].min()) - 1e-3, float(ds[name].max()) + 1e-3
            ds[name] = ((ds[name] - low) / (high - low)).assign_attrs(ds[name].attrs)
    return split(ds, seed=seed, fractions={"train": 0.5, "variance": 0.2, "calibration": 0.05, "test": 0.25})


MODELS: dict[str, dict[str, Any]] = {
    "Gaussian, variance given (0.05)": {"variance": "fixed"},
    "Gaussian, one variance per field": {"variance": "global"},
    "Gaussian, local variance (default)": {"variance": "staged"},
    "Gaussian, local, fitted by CRPS": {"variance": "crps"},
    "Gaussian, local, learned with the mean (beta-NLL)": {"variance": "beta_nll"},
    "Student-t, local": {"variance": "student_t"},
    "continuous Bernoulli": {"observation": "continuous_bernoulli"},
    "Bernoulli": {"observation": "bernoulli"},
}


def bound(rom: ROM, part: xr.Dataset) -> float:
    """ELBO per value of the field itself, nats: the normalisation's Jacobian is in it.

    Models whose variance is fitted after the mean have the best shared one, as in `held_out_bound`: their local
    variance is that of mean codes, and the spread of the codes comes on top of it in a forecast.
    """
    x = field_tensor(part, rom.schema, rom.normaliser).flatten(0, 1)
    return held_out_bound(rom.vae, x).value / x[0].numel() - float(rom.normaliser.std.log().mean())


def rows(table: str, quick: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every row of a table: its name, and what computes it."""
    steps = 60 if quick else 2500
    if table == "planted":
        for rule in RULES:
            for seed in SEEDS:
                yield f"planted/{rule}/{seed}", lambda rule=rule, seed=seed: _planted_row(rule, seed, steps)
    elif table == "burgers":
        for rule in RULES:
            for seed in SEEDS:
                yield f"burgers/{rule}/{seed}", lambda rule=rule, seed=seed: _burgers_row(rule, seed, steps // 2)
    elif table == "models":
        for dims in (1, 2):
            for name, choices in MODELS.items():
                yield f"models/burgers_{dims}d/{name}", lambda d=dims, c=choices: _model_row(d, c, steps // 3)
    elif table == "seeds":
        for case in CASES:
            for seed in range(10):
                yield f"seeds/{case}/{seed}", lambda case=case, seed=seed: _seed_row(case, seed, max(40, steps // 15))
    elif table == "effects":
        for seed in SEEDS:  # the first seed of all options before the others of the two that matter most
            for name in EFFECTS if seed == 0 else ("default", "consistency 0.1", "consistency 1"):
                yield f"effects/{name}/{seed}", lambda name=name, seed=seed: effect(name, seed, steps // 5)
    elif table == "latent_auto":
        for latent in (8, 16, 32):
            yield f"latent_auto/burgers_1d, {latent} latents", lambda d=latent: codes_of_burgers(d, steps // 5)
        for case in ("burgers_1d", "heat_1d", "burgers_2d"):
            yield f"latent_auto/{case}, auto", lambda case=case: latent_answer(_few(case), steps // 5, {"channels": 16})


def _few(case: str) -> Parts:
    """A reduced data set of a case: every second point along each axis, about 26 times."""
    ds = simulate(case, 240 if len(CASES[case].solver().grid.shape) == 1 else 100, seed=0)
    every = {name: slice(None, None, 2) for name in ("x", "y") if name in ds.dims}
    ds = ds.isel(time=slice(None, None, max(1, (ds.sizes["time"] - 1) // 25)), **every)
    return split(ds, seed=0, fractions={"train": 0.6, "variance": 0.3, "calibration": 0.05, "test": 0.05})


def _planted_row(rule: str, seed: int, steps: int) -> dict[str, Any]:
    parts, truth = planted(seed)
    rom, _ = trained(parts, seed, steps, LATENT, variance=rule, noise_std=0.15)
    return recovery(rom, parts, truth)


def _burgers_row(rule: str, seed: int, steps: int) -> dict[str, Any]:
    parts = burgers(seed)
    rom, _ = trained(parts, seed, steps, 8, variance=rule)
    return skill(rom, parts.test)


def _model_row(dims: int, choices: dict[str, Any], steps: int) -> dict[str, Any]:
    parts = burgers(0, dims, unit=True)
    rom, epoch = trained(parts, 0, steps, 8 if dims == 1 else 16, **choices)
    return {"elbo": bound(rom, parts.test), **skill(rom, parts.test), "seconds_per_epoch": epoch}


@functools.lru_cache(maxsize=1)
def _sixteen(case: str) -> xr.Dataset:
    """A few trajectories of a case at about twelve times; beyond one dimension at six, and at every second point."""
    grid = CASES[case].solver().grid
    every = {"time": slice(None, None, max(1, len(CASES[case].times) // (12 if grid.ndim == 1 else 6)))}
    if grid.ndim > 1:
        every |= {axis: slice(None, None, 2) for axis in grid.names}
    ds = simulate(case, 16, seed=0).isel(every).drop_vars("split", errors="ignore")
    ds.attrs.pop("symmetries", None)  # every second point may not be the same seen from the other end
    return ds


def _seed_row(case: str, seed: int, steps: int) -> dict[str, Any]:
    """A few trajectories and a short training: does anything collapse or explode?

    `active` counts latents whose divergence exceeds one nat; `spread` is the root mean square of the predicted
    deviation over that of the error.
    """
    parts = split(_sixteen(case), seed=seed)
    rom, _ = trained(parts, seed, steps, 8)
    x, centre, total, _ = predicted(rom, parts.test)
    kl = rom.vae.kl_per_dimension(field_tensor(parts.train, rom.schema, rom.normaliser).flatten(0, 1))
    return {
        **skill(rom, parts.test),
        "active": int((kl > 1).sum()),
        "spread": float((total.mean() / (x - centre).square().mean()).sqrt()),
    }


def main(arguments: list[str] | None = None) -> int:
    """Computes what is missing of a table, or shows the file."""

    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--quick", action="store_true", help="a few steps: to see that it runs")

    return tabulate(__doc__, TABLES, lambda told: rows(told.table, told.quick), arguments, more, UNSEEDED)


if __name__ == "__main__":
    raise SystemExit(main())
