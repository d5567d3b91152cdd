"""The model of SCALING.md: its constants are fitted to every second grid, and it is asked about the others.

Time of a network per snapshot: multiply-adds / F + numbers moved / B. A training step of a batch adds what every step
costs and what every weight costs. Peak memory of training: what autograd keeps of a batch and three copies of the
weights, both counted, and work areas, which are fitted: fields of the snapshots that pass at once, and a constant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

__all__ = [
    "CHECKED",
    "FITTED",
    "MEMORY_FITTED",
    "Fit",
    "fits",
    "found",
    "memory_fit",
    "memory_predictions",
    "predictions",
]

FILE = Path(__file__).with_name("tables.json")
FITTED = ("1-D 128", "1-D 512", "1-D 2048", "2-D 48", "2-D 96", "2-D 192", "2-D 384", "3-D 16", "3-D 32")
CHECKED = ("1-D 256", "1-D 1024", "2-D 32", "2-D 64", "2-D 128", "2-D 256", "2-D 512", "3-D 24")
MEMORY_FITTED = ("1-D 1024, batch 128", "2-D 32, batch 32", "2-D 128, batch 16", "3-D 16, batch 32")
AT_ONCE = 2**20  # points of `romvae.nn.parts`
WORKS = ("encode", "decode", "mean", "step")


@dataclass(frozen=True)
class Fit:
    """Non-negative constants of a sum of terms, by least squares of relative errors.

    Arguments:
        names: What they are, with units.
        constants: In the order of the terms.
    """

    names: tuple[str, ...]
    constants: tuple[float, ...]

    @classmethod
    def of(cls, names: tuple[str, ...], terms: Sequence[Sequence[float]], measured: Sequence[float]) -> Fit:
        """Fits `measured = terms @ constants`, each row weighted by the inverse of its value."""
        rows, values = np.asarray(terms, float), np.asarray(measured, float)
        scale = np.abs(rows).max(0)
        constants, _ = nnls(rows / scale / values[:, None], np.ones(len(values)))
        return cls(names, tuple(constants / scale))

    def at(self, terms: Sequence[float]) -> float:
        """The value that the constants give."""
        return float(np.dot(self.constants, terms))


def found() -> dict[str, dict[str, Any]]:
    """All rows that were measured."""
    rows: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return rows


def terms(work: str, row: Mapping[str, Any]) -> list[float]:
    """What the constants of a work multiply; per snapshot, and per step of a batch for `step`."""
    if work != "step":
        return [row[f"{work}_macs"], row[f"{work}_moved"]]
    macs, moved = (row[f"encode_{what}"] + row[f"mean_{what}"] for what in ("macs", "moved"))
    return [3 * macs * row["batch"], 3 * moved * row["batch"], row["weights"], 1.0]


def measured(work: str, row: Mapping[str, Any]) -> float:
    """Microseconds per snapshot, or of a step."""
    return float(1e3 * row["step_ms"] if work == "step" else row[f"{work}_us"])


def fits(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Fit]:
    """The constants of every work."""
    several = ("multiply-add", "number moved", "weight", "step")
    return {
        work: Fit.of(
            several if work == "step" else several[:2],
            [terms(work, rows[f"networks/{name}"]) for name in FITTED],
            [measured(work, rows[f"networks/{name}"]) for name in FITTED],
        )
        for work in WORKS
    }


def predictions(rows: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, float, float]]:
    """Work, grid, predicted and measured microseconds, on grids that the fit has not seen."""
    constants = fits(rows)
    checked = [(work, name, rows[f"networks/{name}"]) for work in WORKS for name in CHECKED]
    return [(work, name, constants[work].at(terms(work, row)), measured(work, row)) for work, name, row in checked]


def memory_fit(rows: Mapping[str, Mapping[str, Any]]) -> Fit:
    """Work areas of a training step: fields of the snapshots that pass at once, and MiB that are always there."""
    some = [row for name, row in _training(rows) if name in MEMORY_FITTED]
    return Fit.of(("field", "MiB"), [_at_once(r) for r in some], [r["peak_mib"] - _counted(r) for r in some])


def memory_predictions(rows: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, float, float, float]]:
    """Grid and batch, what is counted, predicted and measured peak in MiB, on rows that the fit has not seen."""
    fit = memory_fit(rows)
    checked = [(name, row) for name, row in _training(rows) if name not in MEMORY_FITTED]
    return [(name, _counted(r), _counted(r) + fit.at(_at_once(r)), r["peak_mib"]) for name, r in checked]


def _training(rows: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    prefix = "memory/training, "
    return [(key.removeprefix(prefix), row) for key, row in rows.items() if key.startswith(prefix)]


def _counted(row: Mapping[str, Any]) -> float:
    """Of one field: what autograd keeps, then gradient and the two moments of every weight, which stood before."""
    return float(row["batch"] * row["kept_mib"] + 3 * row["weights_mib"])


def _at_once(row: Mapping[str, Any]) -> list[float]:
    passing = min(row["batch"], max(1, AT_ONCE // row["points"]))
    return [4 * passing * row["points"] / 2**20, 1.0]
