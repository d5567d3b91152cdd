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
from romvae.alarm_signal import SignalKind
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
HYBRID = ("burgers_1d", "korteweg_de_vries_1d", "wave_1d", "fisher_1d")
PHYSICS = ("burgers_1d", "allen_cahn_1d")
CONSERVED = ("burgers_1d",)
SIGNALS: tuple[SignalKind, ...] = ("variance", "ranks")
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


def hybrid(name: str, seed: int, folder: Path, quantile: float, signal: SignalKind) -> dict[str, Any]:
    """A tolerance that a share `quantile` of the ROM's own rollouts keeps, and what keeping it in 95 % takes."""
    rom, parts, case = of_benchmark(name, seed, folder)
    data, test = parts.calibration, parts.test

    def worst(part: xr.Dataset, run: xr.Dataset) -> np.ndarray:
        return np.asarray(true_error(rom, part, run).max("time").values)

    def alone(part: xr.Dataset) -> xr.Dataset:
        return rom.rollout(part.isel(time=0), part.sizes["time"] - 1, propagation="mean")

    tolerance = float(np.quantile(worst(data, alone(data)), quantile))
    alarm = calibrate_alarm(rom, case, data, tolerance, signal=signal, learning=parts.variance)
    run = hybrid_rollout(rom, case, test.isel(time=0), alarm, test.sizes["time"] - 1)
    return {
        "tolerance": tolerance,
        "rom_keeps": float((worst(test, alone(test)) <= tolerance).mean()),
        "hybrid_keeps": float((worst(test, run) <= tolerance).mean()),
        "work": float(run["work"].mean()),
        "hand_overs": float(run["hand_overs"].mean()),
        "back": alarm.back,
    }


def acquisition(seed: int, first: int = 4, largest: int = 24, draws: int = 3) -> dict[str, Any]:
    """Worst error over 128 held-out runs as simulations are added one by one where networks disagree, or at random.

    POD with 8 modes and four small networks, which are trained in seconds; the same random simulations to begin with,
    200 candidates, and the same trajectories for variance and calibration. Of each way the least error so far counts.
    `TARGET_needs` are numbers of simulations, those of random ones a mean over draws; a way that does not get there
    counts as one more than the most that were tried. The targets were chosen before the runs.
    """
    case = replace(get_case("burgers_1d_parametric"), plan=None)  # random parameters instead of its own grid
    whole = romvae.simulate(case, 368, seed=seed).isel(x=slice(None, None, 4), time=slice(None, None, 4))
    own, pool, held = (whole.isel(trajectory=slice(*ends)) for ends in ((0, 40), (40, 240), (240, 368)))
    labels = pool["trajectory"].values.tolist()

    def trained(chosen: list[int]) -> tuple[ROM, float]:
        train = pool.isel(trajectory=chosen)
        parts = Parts(train, own.isel(trajectory=slice(0, 16)), own.isel(trajectory=slice(16, 40)), held, whole)
        rom = ROM.for_data(parts.train, latent=8, hidden=64, compression="pod", seed=seed)
        romvae.fit(rom, parts, seed=seed, variance_steps=2, dynamics_steps=300, threads=torch.get_num_threads())
        run = rom.rollout(held.isel(time=0), held.sizes["time"] - 1, propagation="mean")
        return rom, float(score.worst_relative_l2(held[["u"]], run[["u"]])["u"])

    def curve(rng: np.random.Generator | None) -> list[float]:
        chosen, found = list(range(first)), []
        while True:
            rom, error = trained(chosen)
            found.append(error)
            if len(chosen) == largest:
                return found
            left = [k for k in range(len(labels)) if k not in chosen]
            if rng is None:
                starts = pool.isel(time=0)
                known = starts.isel(trajectory=chosen)
                pick = romvae.acquire(rom, starts.isel(trajectory=left), 1, known=known)["trajectory"].values[0]
                chosen.append(labels.index(int(pick)))
            else:
                chosen.append(int(rng.choice(left)))

    curves = {"acquired": [curve(None)]}
    curves["random"] = [curve(np.random.default_rng([seed, k])) for k in range(draws)]
    result: dict[str, Any] = {}
    for target in (0.01, 0.005):
        needs = {way: float(np.mean([_needs(one, target, first) for one in each])) for way, each in curves.items()}
        result |= {f"{100 * target:g} %: {way}": n for way, n in needs.items()}
        result[f"{100 * target:g} %: ratio"] = needs["acquired"] / needs["random"]
    return result | {way: [[round(e, 5) for e in one] for one in each] for way, each in curves.items()}


def _needs(curve: list[float], target: float, first: int) -> int:
    """Simulations until the error is at most the target; one more than there are, where it never is."""
    below = np.flatnonzero(np.array(curve) <= target)
    return first + (int(below[0]) if below.size else len(curve))


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
    }
    if name in CONSERVED:
        ways["conserved"] = {"finetune": "crps", "physics": "conserved"}
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
                for q in (0.75, 0.5, 0.25):
                    for kind in SIGNALS:
                        row = f"hybrid/{name}, {q:g}, {kind}/{seed}"
                        yield row, lambda n=name, s=seed, q=q, k=kind: hybrid(n, s, folder, q, k)
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
