"""Results as small JSON files: what was measured, on which machine, with which settings and command."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from romvae.atomic import atomic_file
from romvae.benchmark.recipe import FILE, Problem
from romvae.environment import show_versions
from romvae.errors import NOT_INSTALLED, DataError
from romvae.version import __version__

__all__ = [
    "LONG_TRAINING",
    "PROTOCOL",
    "WITHOUT",
    "Result",
    "is_made",
    "machine",
    "missing_baselines",
    "read_result",
    "read_results",
    "small",
    "thinned",
    "value_at",
    "write_result",
]

LONGEST_LIST, LONGEST_TEXT, DIGITS = 40, 600, 5
PROTOCOL = 2
"""Rules of a comparison. With the second ones baselines search further for their number of modes and use their whole
budget, POD with network dynamics has the ROM's settings, and more settings of the solver are tried."""
LONG_TRAINING = 1200.0
"""Seconds of process time of a training beyond which one seed is enough."""
WITHOUT = "left out by --without"
"""Reason of a baseline that somebody did not want to wait for."""


@dataclass(frozen=True)
class Result:
    """A file of results.

    Arguments:
        path: Where it lies: `FOLDER/CASE/results/NAME.json`.
        content: What it holds.
    """

    path: Path
    content: dict[str, Any]

    @property
    def name(self) -> str:
        """`case` or `case/variant`."""
        return str(self.content["name"])

    @property
    def earlier(self) -> bool:
        """Whether it was compared by earlier rules."""
        return bool(self.content.get("protocol", 1) < PROTOCOL)

    @property
    def seed(self) -> int:
        """Seed of data, training and forecast."""
        return int(self.content["seed"])


def missing_baselines(problem: Problem, seed: int, without: Sequence[str] = ()) -> list[str]:
    """Names of baselines that are asked for and that a result says nothing of.

    What it notes as diverged or as not applicable is not missing. What was left out by `--without` is; so is what was
    not installed then and is installed now.
    """
    from romvae.baselines import registered

    content, known = read_result(problem.result(seed)).content, registered()
    found = content["metrics"].get("baselines", {})
    left_out = content.get("baselines", {}).get("left_out", {})

    def is_settled(name: str) -> bool:
        reason = left_out.get(name)
        if name in found or reason is None:
            return name in found
        if NOT_INSTALLED in reason:
            return name in known and bool(known[name].reason_not_installed())
        return bool(reason != WITHOUT)

    asked = known if problem.recipe.opponents is None else problem.recipe.opponents
    return [name for name in asked if name not in without and not is_settled(name)]


def is_made(problem: Problem, seed: int) -> bool:
    """Whether the result is there, made by this recipe, this version and these rules, whichever baselines it has."""
    path = problem.result(seed)
    if not path.is_file():
        return False
    content = read_result(path).content
    made_by = (content["recipe"], content["versions"]["romvae"], content.get("protocol", 1))
    return bool(made_by == (problem.recipe.digest, __version__, PROTOCOL))


def write_result(problem: Problem, seed: int, content: Mapping[str, Any]) -> Path:
    """Writes a result, whole or not at all; an earlier one of the same name is replaced."""
    path = problem.result(seed)
    head = {"name": problem.name, "case": problem.case, "variant": problem.variant, "seed": seed}
    head |= {"recipe": problem.recipe.digest, "protocol": PROTOCOL}
    text = json.dumps({**head, **small(content)}, indent=1, allow_nan=False)
    with atomic_file(path, overwrite=True) as target:
        target.write_text(text + "\n", encoding="utf-8")
    return path


def read_result(path: Path) -> Result:
    """The result in a file.

    Raises:
        DataError: It cannot be read or is no result.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no readable result ({error}). Remove it, or run the benchmark with --redo.") from None
    missing = list(_missing(content))
    if missing:
        raise DataError(
            f"{path}: is no result of romvae benchmark, it has no {', '.join(missing)}. Move it out of the folder "
            f"results, which holds what {FILE} of the case gives."
        )
    return Result(path, content)


def read_results(folder: Path) -> list[Result]:
    """All results below `folder`, by case, name and seed.

    Raises:
        DataError: A file cannot be read or is no result.
    """
    found = [read_result(path) for path in sorted(folder.glob("*/results/*.json"))]
    return sorted(found, key=lambda result: (result.name, result.seed))


def value_at(content: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path such as `metrics.rom.relative_l2`; the number is that in a list. None if nothing."""
    here: Any = content
    for key in path.split("."):
        if isinstance(here, Mapping) and key in here:
            here = here[key]
        elif isinstance(here, list) and key.isdigit() and int(key) < len(here):
            here = here[int(key)]
        else:
            return None
    return here


def machine() -> tuple[dict[str, Any], dict[str, str]]:
    """The machine and the versions, without anything that names this computer or its user."""
    found = show_versions()
    here = {
        "processor": found["processor"],
        "cpus": found["cpus"],
        "threads": found["threads"],
        "gpu": found["gpu"],
        "system": found["system"].partition("-")[0],
    }
    versions = {"romvae": __version__, "commit": found["commit"], "python": found["python"].partition(" ")[0]}
    return here, {**versions, **{k: v for k, v in found["packages"].items() if v != "not installed"}}


def small(content: Any) -> Any:
    """JSON types with five digits; what is not finite is null, long lists and texts are left out."""
    match content:
        case Mapping():
            pairs = ((str(key), value, small(value)) for key, value in content.items())
            return {key: cut for key, value, cut in pairs if cut is not None or value is None or _is_number(value)}
        case np.ndarray():
            return small(content.tolist())
        case list() | tuple():
            return [small(each) for each in content] if len(content) <= LONGEST_LIST else None
        case str():
            return content if len(content) <= LONGEST_TEXT else None
        case bool() | np.bool_():
            return bool(content)
        case int() | np.integer():
            return int(content)
        case float() | np.floating():
            return float(f"{content:.{DIGITS}g}") if math.isfinite(content) else None
        case None:
            return None
    return str(content)


def thinned(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The runs of a solver's sweep that a result has room for: the reference, and those that no other one beats.

    A run is beaten by one that is at least as accurate and at least as cheap, alone and in batches. Of more than
    there is room for, those are kept that are spread evenly over the errors.
    """
    if len(runs) <= LONGEST_LIST:
        return list(runs)

    def figures(run: Mapping[str, Any]) -> tuple[float, ...]:
        return tuple(math.inf if run[name] is None else run[name] for name in ("error", "seconds", "seconds_batch"))

    def beats(other: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
        pairs = list(zip(figures(other), figures(run), strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    front = [run for run in runs[1:] if not any(beats(other, run) for other in runs[1:])]
    front.sort(key=lambda run: figures(run)[0])
    if len(front) >= LONGEST_LIST:
        places = np.linspace(0, len(front) - 1, LONGEST_LIST - 1).round().astype(int)
        front = [front[place] for place in np.unique(places)]
    return [runs[0], *front]


def _is_number(value: Any) -> bool:
    return isinstance(value, (float, np.floating))


def _missing(content: Any) -> Iterator[str]:
    wanted = {"name": str, "seed": int, "recipe": str, "versions": dict, "machine": dict, "metrics": dict, "cost": dict}
    for key, kind in wanted.items():
        if not isinstance(content, Mapping) or not isinstance(content.get(key), kind):
            yield key
