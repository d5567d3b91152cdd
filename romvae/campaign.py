"""A campaign of simulations: train, ask which to run next, run them, train again; every round is kept on disk.

| in the folder | is |
|---|---|
| `campaign.json` | what was asked for |
| `data/000.h5`, `001.h5`, ... | the first simulations with their split, and those of each round |
| `rounds/000/`, ... | the ROM of each round, `model/`, and what it asked for: `next.yaml`, `next.csv`, `asked.h5` |

The first simulations are drawn at random and divided into the usual parts; what is acquired later belongs to the
training part. The variance and calibration parts stay random samples, which their statements need: simulations that
were taken in are recognised by their content, and never taken in twice.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from romvae.acquisition import DISAGREEMENT, acquire
from romvae.atomic import atomic_file
from romvae.campaign_cases import campaign_case, first_free, simulated_draws, starts_of_draws
from romvae.campaign_plan import PLAN, Plan
from romvae.canonical import TIME, TRAJECTORY, canonical, parameters_of, space_of
from romvae.data import open_snapshots, split, write_snapshots
from romvae.errors import CheckpointError, ConfigError, DataError, OutOfRangeWarning, SchemaError
from romvae.rom import ROM
from romvae.schema import Schema
from romvae.simulated import are_among, fingerprints, joined, starts_of
from romvae.training import fit

__all__ = ["Campaign", "Plan"]

FRACTIONS = (0.5, 0.15, 0.15, 0.2)
ASKED = "asked.h5"
"""File in the folder of a round with the starts that it asked for."""


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
        """The campaign in a folder, or a new one where there is none; nothing is written yet.

        Raises:
            CheckpointError: There is none and no plan was given, or it is damaged.
            ConfigError: The plan differs from the one that it was begun with in more than the budget.
        """
        kept = Plan.read(path)
        if kept is not None:
            plan = kept if plan is None else kept.continued(plan.stated(), path)
        elif plan is None:
            raise CheckpointError(f"{path}: {PLAN} is missing, so this is no campaign. Begin one.")
        return cls(path, plan, progress if progress is not None else (lambda *args: None))

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
        whole = joined([open_snapshots(store).load() for store in self.stores])
        return canonical(whole)

    def _opened(self) -> list[xr.Dataset]:
        """The data of every round; values are read where they are used."""
        return [open_snapshots(store, check=False) for store in self.stores]

    def holds(self, ds: xr.Dataset, source: str = "new data") -> bool:
        """Whether simulations that were made elsewhere were taken in already, as a whole store.

        Raises:
            SchemaError: They are not on the grid and at the times of the others.
            DataError: Some of them were taken in already, but they are not exactly one store.
        """
        if not self.stores:
            return False
        stores = self._opened()
        old = stores[0]
        schema = Schema.of(old)
        _check(schema, ds, source)
        t, expected = ds[TIME].values, old[TIME].values
        if t.shape != expected.shape or np.abs(t - expected).max() > 1e-6 * schema.dt:
            raise SchemaError(
                f"{source}: has {t.size} times from {t[0]:.10g} to {t[-1]:.10g}, expected the {expected.size} from "
                f"{expected[0]:.10g} to {expected[-1]:.10g} of the first simulations. Cut or repeat them."
            )
        new = fingerprints(ds, schema)
        kept = [fingerprints(store, schema) for store in stores]
        if sorted(new) in map(sorted, kept):
            return True
        repeated = sum(one in set().union(*kept) for one in new)
        if repeated:
            raise DataError(
                f"{source}: {repeated} of {len(new)} trajectories were taken in already, expected new ones, or exactly "
                "one store that was taken in. Leave out what is repeated."
            )
        return False

    def unknown(self, starts: xr.Dataset, n: int, new: xr.Dataset | None = None, source: str = "starts") -> xr.Dataset:
        """The starts that were neither simulated nor asked for in an earlier round.

        Arguments:
            starts: Snapshots, of which the first of each trajectory counts.
            n: How many are wanted.
            new: Simulations that are about to be taken in.
            source: What messages call the starts.

        Raises:
            SchemaError: They are not on the grid of the simulations.
            ConfigError: Fewer are left than are wanted.
        """
        found = [*self._opened(), *([] if new is None else [new])]
        schema = Schema.of(found[0])
        _check(schema, starts, source, time=False)
        known = joined([*(starts_of(ds, schema) for ds in found), *self._asked(schema)])
        free = starts.isel({TRAJECTORY: ~are_among(starts_of(starts, schema), known, schema)})
        if free.sizes[TRAJECTORY] < n:
            advice = "Give more starts" if self.plan.case is None else "The case repeats its draws; lower --budget"
            raise ConfigError(
                f"{source}: {free.sizes[TRAJECTORY]} of {starts.sizes[TRAJECTORY]} were neither simulated nor asked "
                f"for yet, expected at least the {n} of a round. {advice}."
            )
        return free

    def _asked(self, schema: Schema) -> list[xr.Dataset]:
        """Starts that earlier rounds asked for."""
        files = [self.round(k) / ASKED for k in range(len(self.stores) - 1)]
        return [starts_of(open_snapshots(file, check=False), schema) for file in files if file.exists()]

    def _known(self, schema: Schema) -> xr.Dataset:
        """What a training knows or is going to know: its part's starts, and those that were asked for but not given."""
        parts = split(self.data())
        simulated, asked = starts_of(parts.whole, schema), self._asked(schema)
        waiting = [ds.isel({TRAJECTORY: ~are_among(ds, simulated, schema)}) for ds in asked]
        return joined([starts_of(parts.train, schema), *waiting])

    # -- what is done

    def run(self) -> ROM:
        """Rounds until the budget is spent, with the case's own solver.

        A round chooses from the first `candidates` draws that were not simulated yet, which follow from what is there
        and the seed: a campaign that was stopped goes on as if it had not been, and so does one that gets a larger
        budget, if the smaller one ended with a whole round.

        Raises:
            ConfigError: The case has an obstacle.
            NumericsError: The solver failed for a pick.
        """
        case = campaign_case(str(self.plan.case))
        self.plan.write(self.path)
        if not self.stores:
            self.begin(simulated_draws(case, np.arange(self.plan.initial), self.plan.seed, self.progress))
        while True:
            rom = self.train()
            spent = self.data().sizes[TRAJECTORY]
            wanted = min(self.plan.batch, self.plan.budget - spent)
            if wanted <= 0:
                return rom
            numbers = first_free(set(self.data()[TRAJECTORY].values.tolist()), self.plan.candidates)
            picks = self.ask(rom, starts_of_draws(case, numbers, self.plan.seed), wanted)
            new = simulated_draws(case, picks[TRAJECTORY].values, self.plan.seed, self.progress)
            self._keep(new.assign_coords(_train(new)))

    def begin(self, ds: xr.Dataset) -> None:
        """Keeps the first simulations, divided into parts where they are not yet."""
        parts = split(ds, seed=self.plan.seed, fractions=None if "split" in ds.coords else FRACTIONS)
        self.plan.write(self.path)
        self._keep(parts.labelled())

    def add(self, ds: xr.Dataset, source: str = "new data") -> bool:
        """Takes in simulations that were made elsewhere: the first ones in parts, later ones into the training part.

        Returns:
            Whether they are new; a store that was taken in already changes nothing.

        Raises:
            SchemaError: They are not on the grid and at the times of the others.
            DataError: Some of them were taken in already.
        """
        ds = canonical(ds)
        if self.holds(ds, source):
            return False
        if not self.stores:
            self.begin(ds)
            return True
        stores = self._opened()
        old, begin = stores[0], int(max(store[TRAJECTORY].values.max() for store in stores)) + 1
        numbers = begin + np.arange(ds.sizes[TRAJECTORY])
        ds = ds.assign_coords({dim: old[dim] for dim in (TIME, *space_of(old))})  # without their roundings
        ds = ds.assign_coords({TRAJECTORY: (TRAJECTORY, numbers, old[TRAJECTORY].attrs)})
        self._keep(ds.assign_coords(_train(ds)))
        return True

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
        """Picks the next simulations and writes them; what was simulated or asked for before is not asked again.

        A round asks for simulations that are made elsewhere once: asked again, it says the same.

        Raises:
            SchemaError: The starts are not on the grid of the simulations.
            ConfigError: Fewer are left than are wanted, or the round asked for others already.
        """
        starts, file = canonical(starts if TIME in starts.dims else starts.expand_dims(TIME)), self.round() / ASKED
        if self.plan.case is None and file.exists():
            picks = self._asked_already(file, starts, rom.schema)
        else:
            picks = acquire(rom, self.unknown(starts, n), n, known=self._known(rom.schema))
            file.parent.mkdir(parents=True, exist_ok=True)
            write_snapshots(picks, file, overwrite=True)
        names = parameters_of(picks)
        rows: list[dict[str, Any]] = [
            {
                TRAJECTORY: int(picks[TRAJECTORY][i]),
                **{name: float(picks[name][i]) for name in names},
                DISAGREEMENT: float(picks[DISAGREEMENT][i]),
            }
            for i in range(picks.sizes[TRAJECTORY])
        ]
        with atomic_file(self.round() / "next.yaml", overwrite=True) as target:
            target.write_text(yaml.safe_dump({"next": rows}, sort_keys=False), encoding="utf-8")
        with atomic_file(self.round() / "next.csv", overwrite=True) as target, target.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return picks

    def _asked_already(self, file: Path, starts: xr.Dataset, schema: Schema) -> xr.Dataset:
        """What this round asked for, if the starts are still those that it was chosen from."""
        picks = open_snapshots(file).load()
        other = ~are_among(starts_of(picks, schema), starts_of(starts, schema), schema)
        if other.any():
            raise ConfigError(
                f"{file}: asks for {picks.sizes[TRAJECTORY]} simulations already, {int(other.sum())} of which are not "
                "among these starts. Run them and give them with --data, or remove this file to choose anew."
            )
        return picks

    def _keep(self, ds: xr.Dataset) -> None:
        """Writes the data of a round; they appear whole or not at all."""
        target = self.path / "data" / f"{len(self.stores):03d}.h5"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_snapshots(ds, target)


def _check(schema: Schema, ds: xr.Dataset, source: str, time: bool = True) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # to go beyond the old range is what they are for
        schema.check(ds, source, time=time)


def _train(ds: xr.Dataset) -> dict[str, Any]:
    return {"split": (TRAJECTORY, np.zeros(ds.sizes[TRAJECTORY], np.int8))}
