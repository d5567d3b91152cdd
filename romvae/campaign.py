"""A campaign of simulations: train, ask which to run next, run them, train again; every round is kept on disk.

| in the folder | is |
|---|---|
| `campaign.json` | what was asked for |
| `data/000.h5`, `001.h5`, ... | the first simulations with their split, and those of each round |
| `rounds/000/`, ... | the ROM of each round, `model/`, and what it asked for, `next.yaml` and `next.csv` |

The first simulations are drawn at random and divided into the usual parts; what is acquired later belongs to the
training part. The variance and calibration parts stay random samples, which their statements need.
"""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import yaml

from romvae.acquisition import DISAGREEMENT, acquire
from romvae.atomic import atomic_file
from romvae.canonical import TRAJECTORY, canonical, parameters_of
from romvae.data import open_snapshots, split, write_snapshots
from romvae.errors import CheckpointError, ConfigError, DataError, OutOfRangeWarning
from romvae.rom import ROM
from romvae.schema import Schema, snapshots
from romvae.solvers import get_case
from romvae.training import fit

if TYPE_CHECKING:
    from romvae.solvers.base import Case

__all__ = ["Campaign", "Plan"]

FRACTIONS = (0.5, 0.15, 0.15, 0.2)
TOGETHER = 16
"""Trajectories that the solver advances at once."""


@dataclass(frozen=True)
class Plan:
    """What a campaign is asked for.

    Arguments:
        case: Name of the case whose solver is called; None where simulations are made elsewhere.
        budget: Simulations in all, those for variance, calibration and test included.
        initial: Simulations to begin with, at least 8.
        batch: Simulations per round.
        candidates: Starts to choose from, beside the first simulations.
        seed: Seed of simulations, split, weights and training.
        model: Arguments of `ROM.for_data`.
        training: Arguments of `romvae.fit`.
    """

    case: str | None
    budget: int
    initial: int = 16
    batch: int = 4
    candidates: int = 256
    seed: int = 0
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.initial < 8 or self.batch < 1 or self.budget < self.initial or self.candidates < self.batch:
            raise ConfigError(
                f"acquire: initial {self.initial}, batch {self.batch}, budget {self.budget}, candidates "
                f"{self.candidates}; expected initial of 8 or more, batch of 1 or more, a budget of at least initial "
                "and candidates of at least batch. Correct them."
            )


@dataclass
class Campaign:
    """A campaign in its folder; every method goes on from what is there.

    Arguments:
        path: The folder.
        plan: What was asked for.
        progress: Called as `progress(stage, done, total, note)`.
    """

    path: Path
    plan: Plan
    progress: Callable[..., None] = field(default=lambda *args: None)

    @classmethod
    def open(cls, path: Path, plan: Plan | None = None, progress: Callable[..., None] | None = None) -> Campaign:
        """The campaign in a folder, begun where there is none.

        Raises:
            CheckpointError: There is none and no plan was given, or it is damaged.
            ConfigError: The plan differs from the one that it was begun with in more than the budget.
        """
        report = progress if progress is not None else (lambda *args: None)
        file = path / "campaign.json"
        if file.exists():
            try:
                kept = Plan(**json.loads(file.read_text(encoding="utf-8")))
            except (OSError, TypeError, ValueError) as error:
                raise CheckpointError(f"{file}: cannot be read ({error}). Begin the campaign again.") from None
            if plan is not None and replace(plan, budget=kept.budget) != kept:
                raise ConfigError(
                    f"{path}: holds a campaign with other settings than these. Leave them out to go on with it (only "
                    "the budget may change), or choose another --out."
                )
            plan = kept if plan is None else plan
        elif plan is None:
            raise CheckpointError(f"{path}: campaign.json is missing, so this is no campaign. Begin one.")
        path.mkdir(parents=True, exist_ok=True)
        with atomic_file(file, overwrite=True) as temporary:
            temporary.write_text(json.dumps(asdict(plan), indent=1), encoding="utf-8")
        return cls(path, plan, report)

    # -- what is there

    @property
    def stores(self) -> list[Path]:
        """The data of every round so far."""
        return sorted((self.path / "data").glob("[0-9][0-9][0-9].h5"))

    def round(self, number: int | None = None) -> Path:
        """Folder of a round; None is the latest."""
        return self.path / "rounds" / f"{len(self.stores) - 1 if number is None else number:03d}"

    @property
    def model(self) -> Path:
        """The latest ROM that was trained."""
        done = sorted((self.path / "rounds").glob("*/model"))
        if not done:
            raise CheckpointError(f"{self.path}: no round is finished yet. Run romvae acquire.")
        return done[-1]

    def data(self) -> xr.Dataset:
        """All simulations so far, with their part as the coordinate `split`."""
        pieces = [open_snapshots(store).load() for store in self.stores]
        whole: xr.Dataset = xr.concat(
            pieces,
            TRAJECTORY,
            join="exact",
            data_vars="minimal",
            coords="minimal",
            compat="override",
            combine_attrs="override",
        )
        return canonical(whole)

    # -- what is done

    def run(self) -> ROM:
        """Rounds until the budget is spent, with the case's own solver.

        Raises:
            NumericsError: The solver failed for a pick.
        """
        case = _random(get_case(str(self.plan.case)))
        if not self.stores:
            first = self._simulated(case, np.arange(self.plan.initial))
            self.begin(first)
        while True:
            rom = self.train()
            spent = self.data().sizes[TRAJECTORY]
            wanted = min(self.plan.batch, self.plan.budget - spent)
            if wanted <= 0:
                return rom
            picks = self.ask(rom, self._starts(case), wanted)
            self._keep(self._simulated(case, picks[TRAJECTORY].values).assign_coords(_train(picks)))

    def begin(self, ds: xr.Dataset) -> None:
        """Keeps the first simulations, divided into parts where they are not yet."""
        parts = split(ds, seed=self.plan.seed, fractions=None if "split" in ds.coords else FRACTIONS)
        self._keep(parts.labelled())

    def add(self, ds: xr.Dataset) -> None:
        """Takes in simulations that were made elsewhere, into the training part.

        Raises:
            SchemaError: They are not on the grid of the others.
        """
        ds = canonical(ds)
        old = open_snapshots(self.stores[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutOfRangeWarning)  # to go beyond the old range is what they are for
            Schema.of(old).check(ds, source="new data")
        begin = int(max(open_snapshots(store)[TRAJECTORY].values.max() for store in self.stores)) + 1
        numbers = begin + np.arange(ds.sizes[TRAJECTORY])
        ds = ds.assign_coords({TRAJECTORY: (TRAJECTORY, numbers, old[TRAJECTORY].attrs)})
        self._keep(ds.assign_coords(_train(ds)))

    def train(self) -> ROM:
        """The ROM of the latest round: loaded, or trained on everything there is; a stopped training goes on."""
        folder = self.round()
        if (folder / "model").is_dir():
            return ROM.load(folder / "model")
        parts = split(self.data())
        rom = ROM.for_data(parts.train, seed=self.plan.seed, **self.plan.model)
        folder.mkdir(parents=True, exist_ok=True)
        state = folder / "training.state"
        fit(rom, parts, seed=self.plan.seed, checkpoint=state, progress=self.progress, **self.plan.training)
        rom.save(folder / "model")
        for file in (state, state.with_name(state.name + ".previous")):
            file.unlink(missing_ok=True)
        return rom

    def ask(self, rom: ROM, starts: xr.Dataset, n: int) -> xr.Dataset:
        """Picks the next simulations and writes `next.yaml` and `next.csv`."""
        picks = acquire(rom, starts, n)
        names = parameters_of(starts)
        rows: list[dict[str, Any]] = [
            {
                TRAJECTORY: int(picks[TRAJECTORY][i]),
                **{name: float(picks[name][i]) for name in names},
                DISAGREEMENT: float(picks[DISAGREEMENT][i]),
            }
            for i in range(n)
        ]
        self.round().mkdir(parents=True, exist_ok=True)
        with atomic_file(self.round() / "next.yaml", overwrite=True) as file:
            file.write_text(yaml.safe_dump({"next": rows}, sort_keys=False), encoding="utf-8")
        with atomic_file(self.round() / "next.csv", overwrite=True) as file, file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return picks

    def _keep(self, ds: xr.Dataset) -> None:
        """Writes the data of a round; they appear whole or not at all."""
        target = self.path / "data" / f"{len(self.stores):03d}.h5"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_snapshots(ds, target)

    def _starts(self, case: Case) -> xr.Dataset:
        """Initial fields of the candidates that were not simulated yet."""
        taken = set(self.data()[TRAJECTORY].values.tolist())
        numbers = [i for i in range(self.plan.initial + self.plan.candidates) if i not in taken]
        draws = [case.draw(i, self.plan.seed) for i in numbers]
        return _as_dataset(case, draws, np.array(numbers), np.stack([d.u0 for d in draws])[:, None], case.times[:1])

    def _simulated(self, case: Case, numbers: np.ndarray) -> xr.Dataset:
        draws = [case.draw(int(i), self.plan.seed) for i in numbers]
        kind, pieces = type(draws[0].solver), []
        for k in range(0, len(draws), TOGETHER):
            self.progress("simulate", k, len(draws), "")
            some = draws[k : k + TOGETHER]
            pieces.append(kind.solve_many([d.solver for d in some], np.stack([d.u0 for d in some]), case.times))
        self.progress("simulate", len(draws), len(draws), "")
        return _as_dataset(case, draws, numbers, np.concatenate(pieces), case.times)


def _random(case: Case) -> Case:
    """The case with parameters at random: a grid of its own for training is what a campaign replaces."""
    return replace(case, plan=None)


def _train(ds: xr.Dataset) -> dict[str, Any]:
    return {"split": (TRAJECTORY, np.zeros(ds.sizes[TRAJECTORY], np.int8))}


def _as_dataset(case: Case, draws: list[Any], numbers: np.ndarray, u: np.ndarray, times: Any) -> xr.Dataset:
    """Fields `(trajectory, time, field, *space)` of draws as a canonical Dataset."""
    solver = draws[0].solver
    if solver.mask is not None:
        raise DataError(f"acquire: case {case.name} has an obstacle, which campaigns do not know. Use romvae simulate.")
    rows = [{**draw.solver.parameters, **draw.parameters} for draw in draws]
    ds = snapshots(
        {f.name: u[:, :, k] for k, f in enumerate(solver.fields)},
        {axis.name: np.array(axis.coordinates) for axis in solver.grid.axes},
        times,
        {name: np.array([row[name] for row in rows]) for name in rows[0]},
        {axis.name: (axis.lower, axis.upper) for axis in solver.grid.axes},
        {**solver.units, **{f.name: f.units for f in solver.fields}},
        {"case": case.name, "solver": solver.name, "equation": solver.equation},
    )
    return ds.assign_coords({TRAJECTORY: (TRAJECTORY, np.asarray(numbers, np.int64), ds[TRAJECTORY].attrs)})
