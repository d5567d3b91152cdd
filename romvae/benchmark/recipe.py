"""Recipes: what `romvae benchmark` runs, in a file `benchmark.yaml` beside each case."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from romvae.canonical import did_you_mean
from romvae.errors import ConfigError
from romvae.settings import ModelSettings, Settings, TrainingSettings, validated
from romvae.settings_file import merged, read_settings_file

__all__ = ["FILE", "Bar", "Problem", "Published", "Recipe", "find_problems", "read_problems"]

FILE = "benchmark.yaml"
_WORDS = ("remark", "seeds", "bars", "published")  # what may change without any number becoming another


class PartSizes(Settings):
    """Trajectories per part."""

    train: int = Field(128, ge=2, le=10**6, description="for mean and dynamics, and for the baselines")
    variance: int = Field(48, ge=1, le=10**6, description="for the local variance")
    calibration: int = Field(200, ge=1, le=10**6, description="for scales and intervals")
    test: int = Field(200, ge=1, le=10**6, description="for the comparison")


class StoredTimes(Settings):
    """Equidistant stored times from 0."""

    end: float = Field(gt=0, description="the last one")
    number: int = Field(ge=2, le=10**6, description="how many, the first included")


class LongRun(Settings):
    """A rollout far beyond the training horizon, for its statistics."""

    steps: int = Field(10_000, ge=10, le=10**7, description="stored steps")
    trajectories: int = Field(4, ge=1, le=1000, description="held-out starts")


class Bar(Settings):
    """A figure that is to be reached."""

    metric: str = Field(min_length=1, description="path in the result, such as metrics.rom.relative_l2")
    at_most: float | None = Field(None, description="upper bound")
    at_least: float | None = Field(None, description="lower bound")
    what: str = Field("", description="the figure in words")


class Published(Settings):
    """A figure of another method for this problem, and who says so."""

    who: str = Field(min_length=1, description="method and source")
    value: str = Field(min_length=1, description="the figure, in the words of its source")
    origin: Literal["published", "measured", "recalled"] = Field(
        "published",
        description="read in what its authors published; measured by this project with their code or method; or "
        "recalled, with no source that was read again",
    )
    metric: str = Field("", description="path in the result of the figure that stands beside it")
    what: str = Field("", description="what was measured")
    note: str = Field("", description="how the two set-ups differ, or how far the figure can be trusted")


class Recipe(Settings):
    """How a problem is simulated, trained and compared."""

    about: str = Field("", description="what is special about it, one sentence")
    remark: str = Field("", description="why another method is ahead, where one is; written after a run")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="seeds of data, training and forecast")
    split: PartSizes | None = Field(None, description="trajectories per part; none: the case's own split")
    trajectories: int | None = Field(None, ge=8, le=10**6, description="their number, where the case splits by itself")
    solver: dict[str, Any] = Field({}, description="settings of the solver that differ from the case's")
    parameters: dict[str, float | tuple[float, float]] = Field({}, description="parameters held, or their range")
    times: StoredTimes | None = Field(None, description="stored times that differ from the case's")
    model: ModelSettings = Field(ModelSettings(), description="the networks")
    training: TrainingSettings = Field(TrainingSettings(), description="the optimisation")
    opponents: tuple[str, ...] | None = Field(None, description="baselines; none: all that apply")
    members: int = Field(16, ge=1, le=1000, description="members of the forecast")
    long_run: LongRun | None = Field(None, description="a rollout for its statistics")
    bars: tuple[Bar, ...] = Field((), description="figures to reach")
    published: tuple[Published, ...] = Field((), description="figures of others")

    @property
    def digest(self) -> str:
        """Twelve characters that change with anything that a result depends on.

        What is left at its default does not count, so that a new setting makes no result stale.
        """
        content = self.model_dump(mode="json", exclude={"about", *_WORDS}, exclude_defaults=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Problem:
    """A recipe with its name and its place.

    Arguments:
        case: Name of the case.
        variant: Name of the variant; empty for the case's main recipe.
        recipe: What is done.
        folder: Where the case's recipe lies; results go to `results` in it.
    """

    case: str
    variant: str
    recipe: Recipe
    folder: Path

    @property
    def name(self) -> str:
        """`case`, or `case/variant`."""
        return f"{self.case}/{self.variant}" if self.variant else self.case

    def result(self, seed: int) -> Path:
        """The file of a result."""
        return self.folder / "results" / f"{self.variant or 'main'}_seed{seed}.json"


def read_problems(file: Path, case: str) -> dict[str, Problem]:
    """The main recipe of a file and its variants, which say what differs, by name.

    Raises:
        ConfigError: The file cannot be read, or a setting is unknown or out of range.
    """
    content = read_settings_file(file)
    data = dict(content.data)
    variants = data.pop("variants", {})
    if not isinstance(variants, Mapping) or not all(isinstance(each, Mapping) for each in variants.values()):
        raise ConfigError(f"{file}: variants: expected names with the settings that differ below each.")
    found = [Problem(case, "", validated(Recipe, data, str(file), content.marks), file.parent)]
    for name, changes in variants.items():
        own = {key: value for key, value in data.items() if key not in _WORDS or key == "seeds"}
        marks = {path[2:]: place for path, place in content.marks.items() if path[:2] == ("variants", name)}
        recipe = validated(Recipe, merged(own, changes), f"{file}: variants.{name}", marks)
        found.append(Problem(case, str(name), recipe, file.parent))
    return {problem.name: problem for problem in found}


def find_problems(
    folder: Path, names: Sequence[str] = (), which: Literal["main", "all"] = "main"
) -> dict[str, Problem]:
    """Problems by name, in the order of the cases.

    Arguments:
        folder: With a folder per case, which may hold a recipe.
        names: `case`, `case/variant`, or `case/*` for all of a case; none takes all cases.
        which: Whether no name means all variants too.

    Raises:
        ConfigError: There are no recipes, or a name is unknown.
    """
    from romvae.solvers import CASES

    files = {case: folder / case / FILE for case in CASES if (folder / case / FILE).is_file()}
    if not files:
        raise ConfigError(
            f"{folder}: no recipes ({FILE} in a folder per case). Run this in a checkout of romvae, or give --out."
        )
    known = {name: p for case, file in files.items() for name, p in read_problems(file, case).items()}
    if not names:
        return {name: p for name, p in known.items() if which == "all" or not p.variant}
    chosen: dict[str, Problem] = {}
    for name in names:
        case = name.removesuffix("/*")
        some = {k: p for k, p in known.items() if (p.case == case if name.endswith("/*") else k == name)}
        if not some:
            hint = did_you_mean(name, list(known))
            raise ConfigError(f"benchmark {name!r} is unknown.{hint} Known ones: {', '.join(known)}.")
        chosen |= some
    return chosen
