"""What the uncertainty is worth in use, measured: assimilation, hybrid rollouts, acquisition, physics in the loss.

    python -m tests.use.measures assimilation --out use.json --data FOLDER  # 16 sensors on Kuramoto-Sivashinsky
    python -m tests.use.measures hybrid       --out use.json --data FOLDER  # tolerances, and the solver's share
    python -m tests.use.measures acquisition  --out use.json                # against simulations at random places
    python -m tests.use.measures physics      --out use.json                # few trajectories, with and without it
    python -m tests.use.measures show         --out use.json                # as Markdown

A row that is in the file already is not computed again. With `--data`, models that `romvae benchmark --data FOLDER` has
trained are taken from there, and others are trained and kept there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

import romvae
from romvae import metrics as score
from romvae.assimilation import assimilate, observe
from romvae.benchmark import find_problems
from romvae.benchmark.ensemble import changed_case, ensemble, parts_of
from romvae.benchmark.run import trained_rom
from romvae.data import Parts
from romvae.hybrid import calibrate_alarm, hybrid_rollout
from romvae.progress import silent
from romvae.rom import ROM
from romvae.solvers import get_case
from romvae.solvers.base import Case
from romvae.trust import true_error
from tests.long_tables import tabulate

SEEDS = (0, 1, 2)
HYBRID = ("burgers_1d", "wave_1d", "fisher_1d", "kuramoto_sivashinsky_1d")
PHYSICS = ("burgers_1d", "allen_cahn_1d")
CASES = Path("simulations")


def of_benchmark(name: str, seed: int, folder: Path) -> tuple[ROM, Parts, Case]:
    """The ROM, the data and the case of a benchmark problem."""
    problem = find_problems(CASES, [name])[name]
    parts = parts_of(problem, ensemble(problem, seed, folder, torch.get_num_threads(), silent))
    return trained_rom(problem, parts, seed, folder, silent), parts, changed_case(problem)


def assimilation(seed: int, folder: Path, every: int) -> dict[str, float]:
    """Error of runs that start from a wrong field, with 16 noisy sensors and without, over the second half.

    The noise is a tenth of the field's standard deviation. `wrong` is the error of another run's field.
    """
    rom, parts, _ = of_benchmark("kuramoto_sivashinsky_1d", seed, folder)
    truth = parts.test.isel(trajectory=slice(0, 32))
    start = truth.isel(time=0)
    other = start.assign(u=start["u"].roll(trajectory=1, roll_coords=False))
    x = truth["x"].values
    length = len(x) * (x[1] - x[0])
    seen = observe(truth, {"x": (np.arange(16) + 0.5) * length / 16}, 0.1 * float(truth["u"].std()), every=every)
    steps = truth.sizes["time"] - 1
    codes = rom.encode(parts.train.isel(trajectory=slice(0, 64)))
    over = ["trajectory", "time"]
    width = (codes["latent_std"] ** 2).mean(over) ** 0.5
    background = float((codes["latent_mean"].std(over) / width).mean())
    late = {"time": slice(steps // 2, None)}

    def error(run: xr.Dataset) -> float:
        return float(((run["u"] - truth["u"]) ** 2).isel(late).mean() ** 0.5)

    found = {"every": every, "wrong": error(other[["u"]]), "free": error(rom.rollout(other, steps, 16, seed))}
    for method, told in (("etkf", {"inflation": 1.02}), ("enkf", {"inflation": 1.02}), ("4dvar", {"window": 40})):
        run = assimilate(rom, other, seen, method=method, steps=steps, background=background, seed=seed, **told)
        found[method] = error(run)
        found[f"{method}_over_free"] = found[method] / found["free"]
        found[f"{method}_claims"] = float((run["u_std"] ** 2).isel(late).mean() ** 0.5) / found[method]
    return found


def hybrid(name: str, seed: int, folder: Path, quantile: float) -> dict[str, float]:
    """A tolerance that a share `quantile` of the ROM's own rollouts keeps, and what keeping it in 95 % takes."""
    rom, parts, case = of_benchmark(name, seed, folder)
    data, test = parts.calibration, parts.test

    def worst(part: xr.Dataset, run: xr.Dataset) -> np.ndarray:
        return np.asarray(true_error(rom, part, run).max("time").values)

    def alone(part: xr.Dataset) -> xr.Dataset:
        return rom.rollout(part.isel(time=0), part.sizes["time"] - 1, propagation="mean")

    tolerance = float(np.quantile(worst(data, alone(data)), quantile))
    alarm = calibrate_alarm(rom, case, data, tolerance)
    run = hybrid_rollout(rom, case, test.isel(time=0), alarm, test.sizes["time"] - 1)
    return {
        "tolerance": tolerance,
        "rom_keeps": float((worst(test, alone(test)) <= tolerance).mean()),
        "hybrid_keeps": float((worst(test, run) <= tolerance).mean()),
        "work": float(run["work"].mean()),
        "hand_overs": float(run["hand_overs"].mean()),
    }


def acquisition(seed: int, largest: int = 40, batch: int = 2) -> dict[str, Any]:
    """Worst error over 128 held-out runs as simulations are added where networks disagree, or at random.

    POD and Gaussian-process dynamics, which are trained in seconds; 8 random simulations to begin with, and the same
    trajectories for variance and calibration. `ratio` compares the numbers of simulations at which both have reached
    the error that random ones end with.
    """
    case = replace(get_case("burgers_1d_parametric"), plan=None)  # random parameters instead of its own grid
    whole = romvae.simulate(case, 256, seed=seed).isel(x=slice(None, None, 4), time=slice(None, None, 4))
    held = whole.isel(trajectory=slice(128, 256))
    rest = whole.isel(trajectory=slice(40, 128))
    own = whole.isel(trajectory=slice(0, 40))
    curves: dict[str, list[float]] = {}
    for way in ("acquired", "random"):
        rng = np.random.default_rng(seed)
        chosen = list(range(8))
        curves[way] = []
        while len(chosen) <= largest:
            train = rest.isel(trajectory=chosen)
            parts = Parts(train, own.isel(trajectory=slice(0, 16)), own.isel(trajectory=slice(16, 40)), held, whole)
            rom = ROM.for_data(parts.train, latent=12, members=8, compression="pod", dynamics="gp", seed=seed)
            romvae.fit(rom, parts, seed=seed, variance_steps=2, threads=torch.get_num_threads())
            run = rom.rollout(held.isel(time=0), held.sizes["time"] - 1, propagation="mean")
            each = score.relative_l2(held[["u"]], run[["u"]]).max()
            curves[way].append(float(each["u"]))
            left = [k for k in range(rest.sizes["trajectory"]) if k not in chosen]
            if way == "random":
                chosen += rng.choice(left, batch, replace=False).tolist()
            else:
                starts = rest.isel(trajectory=left, time=0)
                picks = romvae.acquire(rom, starts, batch)["trajectory"].values
                labels = rest["trajectory"].values.tolist()
                chosen += [labels.index(int(p)) for p in picks]
    sizes = 8 + batch * np.arange(len(curves["random"]))
    best = {way: np.minimum.accumulate(curve) for way, curve in curves.items()}
    target = best["random"][-1]
    reached = {
        way: int(sizes[np.argmax(curve <= target)]) if (curve <= target).any() else None for way, curve in best.items()
    }
    ratio = None if reached["acquired"] is None else reached["acquired"] / reached["random"]
    return {"target": float(target), **{f"{w}_needs": n for w, n in reached.items()}, "ratio": ratio, **curves}


def physics(name: str, seed: int, trajectories: int) -> dict[str, float]:
    """Error of forecasts after few trajectories: as it is, fine-tuned, and fine-tuned with physics in the loss."""
    ds = romvae.simulate(name, trajectories + 8 + 40 + 60, seed=seed).isel(time=slice(None, None, 2))
    names = ("train", "variance", "calibration", "test")
    parts = romvae.split(ds, seed=seed, fractions=dict(zip(names, (trajectories, 8, 40, 60), strict=True)))
    found = {}
    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "crps": {"finetune": "crps"},
        "residual": {"finetune": "crps", "physics": "residual"},
        "residual 1": {"finetune": "crps", "physics": "residual", "physics_weight": 1.0},
        "conserved": {"finetune": "crps", "physics": "conserved"},
    }
    for way, told in ways.items():
        rom = ROM.for_data(parts.train, latent=12, seed=seed)
        steps = {"vae_steps": 800, "variance_steps": 100, "dynamics_steps": 1000, "finetune_steps": 200}
        romvae.fit(rom, parts, seed=seed, threads=torch.get_num_threads(), **steps, **told)
        run = rom.rollout(parts.test.isel(time=0), parts.test.sizes["time"] - 1, 16, seed)
        truth, guess = (each[["u"]].isel(time=slice(1, None)) for each in (parts.test, run))
        found[way] = float(score.over_fields(score.relative_l2(truth, guess), root_mean_square=True))
    return found


def rows(table: str, folder: Path) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every row of a table: its name, and what computes it."""
    if table == "assimilation":
        for seed in SEEDS:
            for every in (4, 16):
                yield f"assimilation/every {every}/{seed}", lambda s=seed, e=every: assimilation(s, folder, e)
    elif table == "hybrid":
        for seed in SEEDS:
            for name in HYBRID:
                for q in (0.5, 0.25):
                    yield f"hybrid/{name}, {q:g}/{seed}", lambda n=name, s=seed, q=q: hybrid(n, s, folder, q)
    elif table == "acquisition":
        for seed in SEEDS:
            yield f"acquisition/burgers_1d_parametric/{seed}", lambda s=seed: acquisition(s)
    elif table == "physics":
        for seed in SEEDS:
            for name in PHYSICS:
                for n in (12, 24):
                    yield f"physics/{name}, {n} trajectories/{seed}", lambda n=n, c=name, s=seed: physics(c, s, n)


def main(arguments: list[str] | None = None) -> int:
    """Computes what is missing of a table, or shows the file."""

    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--data", type=Path, default=Path("benchmark"), help="folder for benchmark data and models")

    tables = ("assimilation", "hybrid", "acquisition", "physics")
    return tabulate(__doc__, tables, lambda told: rows(told.table, told.data), arguments, more)


if __name__ == "__main__":
    raise SystemExit(main())
