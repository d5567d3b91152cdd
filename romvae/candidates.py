"""Several models trained on the same data, ranked by their forecasts of trajectories that none was fitted to."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from romvae import metrics as score
from romvae.atomic import atomic_file
from romvae.baselines import Baseline, Persistence, registered
from romvae.baselines.model import BaselineModel, load_model
from romvae.budget import LEAST, Costs, affordable, fit_within
from romvae.canonical import canonical, mask_of
from romvae.errors import ConfigError, FewMembersWarning, NumericsError, OutOfRangeWarning
from romvae.kinds import ModelName
from romvae.progress import Progress, silent
from romvae.ragged import even_snapshots
from romvae.rom import ROM
from romvae.schema import TIME, Schema
from romvae.start import after_start, start_of

if TYPE_CHECKING:
    from romvae.data import Parts

__all__ = ["HISTORY", "Entry", "Ranking", "fit_model", "forecast_error"]

logger = logging.getLogger("romvae.candidates")

ROMS: tuple[ModelName, ...] = ("vae", "pod_network")
ORDER: tuple[ModelName, ...] = (
    "vae",
    "pod_network",
    "fno",
    "opinf",
    "dmd",
    "pod_gp",
    "pod_rbf",
    "pod_linear",
    "climatology",
    "persistence",
)
"""Those of `auto`; the ROM is first, for what it costs is the budget of the others."""
POD_NETWORK = {"compression": "pod", "variance": "global"}
"""What a ROM with POD in place of the autoencoder is made of."""
MEMBERS = 8
SLACK = 1.2
"""By how much a candidate may exceed the budget before it is left out: fits end with the trial or step that they are
in, and how long calibrations take is known afterwards."""
HISTORY = "history.json"
"""File in the folder of a finished ROM: losses and seconds of its training."""


@dataclass
class Entry:
    """One candidate.

    Attributes:
        name: Its name.
        relative_l2: Error of its forecasts of the held-out trajectories, root mean square over fields; None where there
            is no such forecast.
        seconds: Process time that it took until it could forecast: trial runs, training and calibration.
        wall_seconds: The same by the clock on the wall; of a model that was continued, since then.
        cost: The process time in its parts, `trial runs`, `training` and `calibration`, and that of the `forecasts`
            that it is ranked by, which count for nobody.
        reason: Why it was left out, in words; empty where it was not.
        choice: What it chose for itself.
    """

    name: str
    relative_l2: float | None = None
    seconds: float = 0.0
    wall_seconds: float = 0.0
    reason: str = ""
    cost: dict[str, float] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=dict)


@dataclass
class Ranking:
    """Candidates from the best to the worst, those that were left out last.

    Attributes:
        chosen: Name of the one that was kept.
        budget: Seconds of process time that each had; None where it was not limited.
        trajectories: Held-out trajectories that they were ranked on.
        entries: The candidates.
    """

    chosen: str
    budget: float | None
    trajectories: int
    entries: list[Entry]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        about = "relative L2 error of forecasts of the part `variance`, which no mean was fitted to"
        return {"score": about, **asdict(self)}


def fit_model(
    parts: Parts,
    name: ModelName = "auto",
    *,
    seed: int = 0,
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    budget: float | None = None,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[ROM | BaselineModel, Ranking]:
    """Trains a model of any kind, or with `auto` all that apply, and returns the best.

    Candidates are fitted to `parts.train` and ranked by their forecasts of `parts.variance`. No mean was fitted there,
    but all look at it: a ROM fits its local variance there, and weighs POD and linear dynamics against what it has
    trained, and baselines choose their settings there. The test part is not looked at. Baselines get a spread from
    `parts.calibration`.

    Arguments:
        parts: From `romvae.split`.
        name: What to train.
        seed: Of all randomness.
        model: Settings of the networks, arguments of `ROM.for_data`.
        training: Settings of the optimisation, arguments of `romvae.fit`.
        budget: Seconds of process time that each candidate may take, with trial runs and calibration; steps of networks
            are cut to fit. Of several candidates those that do not fit are left out. None lets the ROM take what it
            needs, and gives the others as much.
        folder: Where finished candidates and states of training are kept; what is found there is not trained again.
        progress: Called as `progress(stage, done, total, note)`.

    Returns:
        The best model, and the ranking.

    Raises:
        DataError: The model that was asked for does not apply to the data.
        NumericsError: No candidate has a finite forecast.
    """
    if name != "auto" and name not in ORDER:
        raise ConfigError(f"fit_model: name is {name!r}, expected auto or one of {', '.join(ORDER)}.")
    work = _Work(parts, seed, dict(model or {}), dict(training or {}), budget, progress or silent)
    work.folder = None if folder is None else Path(folder)
    return work.best(ORDER if name == "auto" else (name,))


def forecast_error(
    model: ROM | BaselineModel | Baseline,
    data: xr.Dataset,
    start_times: int | None = None,
    names: Sequence[str] | None = None,
) -> float:
    """Relative L2 error of forecasts of whole trajectories, root mean square over fields; the start does not count.

    Arguments:
        model: What forecasts.
        data: Trajectories.
        start_times: The last of these first times is where forecasts begin; None is the model's own. With the same
            number, models that are given different numbers of fields are scored on the same times.
        names: Fields that count; None takes those of the model's schema, which a bare baseline has not.

    Raises:
        NumericsError: A forecast diverged.
    """
    own = 1 if isinstance(model, Baseline) else model.start_times
    first = own if start_times is None else start_times
    data = even_snapshots(canonical(data), first).isel({TIME: slice(first - own, None)})
    fields = list(names if names is not None else model.schema.field_names)  # type: ignore[union-attr]
    if isinstance(model, Baseline):
        ahead, forecast = data, model.rollout(data.isel({TIME: 0}), data[TIME].values)
    else:
        driven = data if model.schema.controls else None
        ahead = after_start(model, data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutOfRangeWarning)
            warnings.simplefilter("ignore", FewMembersWarning)
            forecast = model.rollout(start_of(model, data), ahead.sizes[TIME] - 1, MEMBERS, 0, controls=driven)
    forecast = forecast[fields].assign_coords({TIME: ahead[TIME]})
    later = (each[fields].isel({TIME: slice(1, None)}) for each in (ahead, forecast))
    truth, ahead = (score.in_domain(each, mask_of(data)) for each in later)
    return float(score.over_fields(score.relative_l2(truth, ahead), root_mean_square=True))


@dataclass
class _Work:
    """What all candidates share."""

    parts: Parts
    seed: int
    model: dict[str, Any]
    training: dict[str, Any]
    budget: float | None
    progress: Progress
    folder: Path | None = None
    _reserve: float | None = None
    _first: int | None = None

    def best(self, names: tuple[ModelName, ...]) -> tuple[ROM | BaselineModel, Ranking]:
        """Trains them all, keeps the one of the least error."""
        entries, models = [], {}
        for k, name in enumerate(names):
            self.progress("models", k, len(names), name)
            entry, model = self._candidate(name, alone=len(names) == 1)
            entries.append(entry)
            if model is not None:
                models[name] = model
            if name == "vae" and self.budget is None:
                self.budget = entry.seconds
        self.progress("models", len(names), len(names))
        entries.sort(key=lambda entry: np.inf if entry.relative_l2 is None else entry.relative_l2)
        if entries[0].relative_l2 is None:
            reasons = "; ".join(f"{entry.name}: {entry.reason}" for entry in entries)
            raise NumericsError(f"no candidate has a finite forecast of the held-out trajectories ({reasons}).")
        chosen = entries[0].name
        logger.info("models by forecast error: %s", ", ".join(f"{e.name} {e.relative_l2}" for e in entries))
        count = self.parts.variance.sizes["trajectory"]
        return models[chosen], Ranking(chosen, self.budget, count, entries)  # type: ignore[index]

    def _candidate(self, name: ModelName, alone: bool) -> tuple[Entry, ROM | BaselineModel | None]:
        place = None if self.folder is None else self.folder / name
        if place is not None and (place / "entry.json").is_file():
            entry = Entry(**json.loads((place / "entry.json").read_text(encoding="utf-8")))
            return entry, None if entry.reason else load_model(place / "model")
        entry, model = Entry(name), None
        costs, wall = Costs(None if place is None else place / "cost.json"), time.perf_counter()
        entry.cost = costs.seconds
        try:
            made = self._rom if name in ROMS else self._baseline
            model = made(name, entry, costs, alone)
            entry.seconds, entry.wall_seconds = costs.total, time.perf_counter() - wall
            if model is not None and not alone and self.budget is not None and entry.seconds > SLACK * self.budget:
                entry.reason, model = f"it took {entry.seconds:.3g} s, the budget is {self.budget:.3g} s", None
            if model is not None:
                entry.choice = {k: v for k, v in model.config.items() if isinstance(v, (str, int, float, bool, list))}
                with costs.of("forecasts"):
                    error = forecast_error(model, self.parts.variance, self._start_times())
                entry.relative_l2 = error if np.isfinite(error) else None
                entry.reason = "" if np.isfinite(error) else "its forecasts are not finite"
        except (NumericsError, ConfigError) as error:
            if alone:
                raise
            entry.reason, model = str(error), None
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
            if model is not None and not entry.reason:
                model.save(place / "model", overwrite=True)
            with atomic_file(place / "entry.json", overwrite=True) as temporary:
                temporary.write_text(json.dumps(asdict(entry), indent=1), encoding="utf-8")
        return entry, None if entry.reason else model

    def _start_times(self) -> int:
        """First times at the last of which forecasts of all candidates begin: those that a ROM is given."""
        if self._first is None:
            several = int(self.model.get("given") or 1) > 1
            memory = self.training.get("memory_budget")
            asked = {**self.model, **POD_NETWORK, "memory_budget": memory}  # what they share, at the least cost
            self._first = ROM.for_data(self.parts.train, seed=self.seed, **asked).start_times if several else 1
        return self._first

    def _baseline(self, name: str, entry: Entry, costs: Costs, alone: bool) -> BaselineModel | None:
        kind = registered()[name]
        reason = kind.reason_against(self.parts.train)
        if reason and not alone:
            entry.reason = reason
            return None
        left = self._to_fit()
        with costs.of("training"):
            parts = self.parts
            baseline = kind().fit(
                parts.train, validation=parts.variance, seed=self.seed, budget=left, progress=self.progress
            )
        with costs.of("calibration"):
            return self._calibrated(baseline)

    def _calibrated(self, baseline: Baseline) -> BaselineModel:
        schema, steps = Schema.of(self.parts.train), self.parts.train.sizes[TIME] - 1
        return BaselineModel.calibrated(baseline, schema, self.parts.calibration, steps)

    def _to_fit(self) -> float | None:
        """What of the budget is left for a baseline's fit: less what a calibration costs, measured on the cheapest."""
        if self.budget is None:
            return None
        if self._reserve is None:
            cheapest = Persistence().fit(self.parts.train)
            began = time.process_time()
            self._calibrated(cheapest)
            self._reserve = time.process_time() - began
        return max(LEAST * self.budget, self.budget - self._reserve)

    def _rom(self, name: str, entry: Entry, costs: Costs, alone: bool) -> ROM | None:
        """A ROM, its training continued where it was stopped; its steps are cut to the budget."""
        place = costs.path and costs.path.parent
        own = POD_NETWORK if name == "pod_network" else {}
        memory = self.training.get("memory_budget")
        with costs.of("training"):
            rom = ROM.for_data(self.parts.train, seed=self.seed, memory_budget=memory, **{**self.model, **own})
        training: dict[str, Any] = dict(self.training)
        state = None
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
            state = place / "training.state"
        if self.budget is not None:
            steps = self._cut(rom, place, entry, costs, alone)
            if steps is None:
                return None
            training |= steps
        history = fit_within(rom, self.parts, costs, self.progress, seed=self.seed, checkpoint=state, **training)
        if place is not None and state is not None:
            with atomic_file(place / HISTORY, overwrite=True) as temporary:
                temporary.write_text(json.dumps(history.to_dict()), encoding="utf-8")
            for file in (state, state.with_name(state.name + ".previous")):
                file.unlink(missing_ok=True)
        return rom

    def _cut(self, rom: ROM, place: Path | None, entry: Entry, costs: Costs, alone: bool) -> dict[str, int] | None:
        """Steps of all stages that fit into the budget; kept in a file, so that a training can be continued.

        None where none fit. A model that is the only one asked for is trained all the same, for a hundredth of them.
        """
        kept = None if place is None else place / "steps.json"
        if kept is not None and kept.is_file():
            return dict(json.loads(kept.read_text(encoding="utf-8")))
        usual = {"vae_steps": 2000, "variance_steps": 400, "dynamics_steps": 2500}
        wanted = {stage: int(self.training.get(stage) or count) for stage, count in usual.items()}
        budget = float(self.budget or 0)
        with costs.of("trial runs"):
            fitting = affordable(rom, self.parts, wanted, budget, self.seed, self.training)
        if fitting.share == 0 and not alone:
            entry.reason = (
                f"its trial runs took {fitting.spent:.3g} s and the shortest training and its calibration would take "
                f"{fitting.least:.3g} s more, the budget is {budget:.3g} s"
            )
            return None
        steps = {stage: max(1, round(max(LEAST, fitting.share) * count)) for stage, count in wanted.items()}
        if kept is not None:
            with atomic_file(kept, overwrite=True) as temporary:
                temporary.write_text(json.dumps(steps), encoding="utf-8")
        return steps
