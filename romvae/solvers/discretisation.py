"""How far the numbers of an ensemble are from the solution of its equation: a few trajectories, solved finer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from romvae.errors import DataError, NumericsError
from romvae.solvers.base import Array, Case
from romvae.solvers.blocks import Ensemble

__all__ = ["Difference", "Doubt", "compared", "doubts", "merged_error", "reference_error", "unknown_error"]

_FEWEST, _MOST = 3, 5
_VANISHED = 1e-12  # of a field's largest mean square: below it there is no field left to be wrong about


def reference_error(ds: xr.Dataset) -> dict[str, Any] | None:
    """The estimate of its own discretisation error that a data set of `romvae simulate` carries.

    Keys:
        `exact`: the solver's only errors are those of round-off and of sampling the initial field.
        `fields`: name to `relative_l2` (pooled over times and trajectories), `worst_trajectory` (the largest
        of one trajectory, pooled over times) and `worst_time` (the largest of one stored time); empty where
        nothing is known.
        `trajectories`: the ones that were compared with a finer run.
        `settings`, `refined_settings`: of the solver and of the finer run.
        `reason`: why nothing is known, or what the estimate leaves out; None otherwise.

    The finer run has an error of its own, and the stored values are rounded to float32 (6e-8 of each value).

    Arguments:
        ds: Snapshots.

    Returns:
        The estimate; None where the data carry none.

    Raises:
        DataError: The attribute cannot be read.
    """
    text = ds.attrs.get("reference_error")
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("fields"), dict):
        raise DataError(f"attribute reference_error is {str(text)[:60]!r}, expected JSON as romvae simulate writes it")
    return found


@dataclass(frozen=True)
class Doubt:
    """A trajectory that is to be compared with a finer run of itself."""

    case: Case
    seed: int
    index: int
    values: Mapping[str, float] | None


@dataclass(frozen=True)
class Difference:
    """Squares per field and time, `(field, time)`, summed over space: of the difference, and of the finer run."""

    index: int
    wrong: Array
    size: Array
    failed: str | None = None


def unknown_error(ensemble: Ensemble) -> dict[str, Any] | None:
    """The estimate where no finer run is needed or possible: the solver is exact, or has nothing to refine."""
    solver = ensemble.draw(0).solver
    blank = {"exact": solver.exact, "fields": {}, "trajectories": [], "settings": solver.settings}
    if solver.exact:
        return {**blank, "refined_settings": None, "reason": "exact up to round-off and the sampling of u0"}
    if solver.refined() is None:
        return {**blank, "refined_settings": None, "reason": f"{solver.name} has no finer version of itself"}
    return None


def doubts(ensemble: Ensemble, indices: Sequence[int], parameters: Sequence[Mapping[str, float]]) -> tuple[Doubt, ...]:
    """Three to five trajectories, those with the smallest and largest parameters first."""
    picked: list[int] = []
    for name in parameters[0]:
        column = np.array([row[name] for row in parameters])
        if np.ptp(column) > 0:
            picked += [int(column.argmin()), int(column.argmax())]
    picked = list(dict.fromkeys(picked))[:_MOST]
    for place in np.linspace(0, len(indices) - 1, _MOST).round().astype(int).tolist():
        if len(picked) < min(_FEWEST, len(indices)) and place not in picked:
            picked.append(place)
    chosen = sorted(indices[place] for place in picked)
    values = ensemble.values
    return tuple(Doubt(ensemble.case, ensemble.seed, i, None if values is None else values[i]) for i in chosen)


def compared(doubt: Doubt) -> Difference:
    """Solves a trajectory as it is and finer; points outside of the solver's mask do not count."""
    draw = doubt.case.draw(doubt.index, doubt.seed, values=doubt.values)
    finer = draw.solver.refined()
    none = np.zeros((len(draw.solver.fields), len(doubt.case.times)))
    if finer is None:
        return Difference(doubt.index, none, none, "no finer version")
    try:
        reference = finer.solve(draw.u0, doubt.case.times)
    except NumericsError as error:
        return Difference(doubt.index, none, none, str(error))
    u = draw.solver.solve(draw.u0, doubt.case.times)
    space = tuple(range(2, u.ndim))
    inside = np.ones(draw.solver.grid.shape) if draw.solver.mask is None else draw.solver.mask.astype(np.float64)
    wrong = (np.square(u - reference) * inside).sum(axis=space).T
    return Difference(doubt.index, wrong, (np.square(reference) * inside).sum(axis=space).T)


def merged_error(ensemble: Ensemble, differences: Sequence[Difference]) -> dict[str, Any]:
    """The estimate, from all comparisons."""
    solver = ensemble.draw(differences[0].index).solver
    finer = solver.refined()
    good = sorted((d for d in differences if d.failed is None), key=lambda d: d.index)
    failed = [f"trajectory {d.index}: {d.failed}" for d in differences if d.failed is not None]
    fields = {}
    for i, field in enumerate(solver.fields if good else ()):
        wrong = np.array([d.wrong[i] for d in good])
        size = np.array([d.size[i] for d in good])
        floor = max(_VANISHED * float(size.max()), np.finfo(float).tiny)
        fields[field.name] = {
            "relative_l2": _root(wrong.sum(), max(size.sum(), floor)),
            "worst_trajectory": max(_root(w.sum(), max(s.sum(), floor)) for w, s in zip(wrong, size, strict=True)),
            "worst_time": _root(float((wrong / np.maximum(size, floor)).max()), 1.0),
        }
    return {
        "exact": False,
        "fields": fields,
        "trajectories": [d.index for d in good],
        "settings": solver.settings,
        "refined_settings": None if finer is None else finer.settings,
        "reason": "the finer run failed: " + "; ".join(failed) if failed else None,
    }


def _root(wrong: float, size: float) -> float:
    """Rounded, so that a last bit does not make two data sets differ."""
    return float(f"{np.sqrt(wrong / size):.3g}")
