"""The table of a study: a row for every rollout and every time that is reported, as CSV and as JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from romvae.canonical import TIME, TRAJECTORY, parameters_of
from romvae.errors import ConfigError

__all__ = ["INTERVAL", "columns", "quantities_of", "reported", "rows", "write_csv", "write_json"]

INTERVAL = ("", "_std", "_lower", "_upper")


def quantities_of(study: xr.Dataset) -> list[str]:
    """The quantities of interest, in their order."""
    return [str(name)[: -len("_upper")] for name in study.data_vars if str(name).endswith("_upper")]


def reported(study: xr.Dataset, at: Sequence[float] | None) -> list[int]:
    """Which of the times are reported: those nearest to `at`, or the last one.

    Raises:
        ConfigError: A time is not among those of the study.
    """
    times = np.asarray(study[TIME].values, dtype=np.float64)
    if not at:
        return [len(times) - 1]
    found = []
    for time in at:
        nearest = int(np.abs(times - time).argmin())
        if abs(times[nearest] - time) > 1e-6 * max(1.0, abs(times[-1] - times[0])):
            raise ConfigError(
                f"study: time {time:g} is not looked at, the nearest one is {times[nearest]:.6g} (of {times[0]:g} to "
                f"{times[-1]:g}). Choose that one, or look at more times."
            )
        found.append(nearest)
    return sorted(set(found))


def columns(study: xr.Dataset) -> dict[str, dict[str, str]]:
    """What each column is, with its units."""
    level = study.attrs["level"]
    found = {
        TRAJECTORY: {"is": "number of the rollout"},
        "initial_field": {"is": "trajectory that the initial field was taken from"},
    }
    found |= {name: {"is": "parameter", "units": _units(study[name])} for name in parameters_of(study)}
    found[TIME] = {"is": "time of the forecast", "units": _units(study[TIME])}
    words = (
        "forecast",
        "standard deviation",
        f"lower end of the {level:g} interval",
        f"upper end of the {level:g} interval",
    )
    for quantity in quantities_of(study):
        for kind, what in zip(INTERVAL, words, strict=True):
            found[quantity + kind] = {"is": f"{quantity}: {what}", "units": _units(study[quantity])}
    if "trust_horizon" in study:
        found["trust_horizon"] = {
            "is": "first lead time at which the forecast is not trusted any more; infinite: none of those looked at",
            "units": _units(study["trust_horizon"]),
        }
        found["trusted"] = {"is": "1 where the lead time is below the trust horizon"}
    found["out_of_range"] = {"is": "1 where a parameter lies outside of the trained range"}
    return found


def rows(study: xr.Dataset, times: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The rows, rollout by rollout."""
    names = parameters_of(study)
    kept = [quantity + kind for quantity in quantities_of(study) for kind in INTERVAL]
    values = {name: study[name].transpose(TRAJECTORY, TIME).values for name in kept}
    horizon = study["trust_horizon"].values if "trust_horizon" in study else None
    clock = np.asarray(study[TIME].values, dtype=np.float64)
    origins = study["initial_field"].values
    for i, label in enumerate(study[TRAJECTORY].values.tolist()):
        for k in times:
            row: dict[str, Any] = {TRAJECTORY: label, "initial_field": int(origins[i])}
            row |= {name: float(study[name].values[i]) for name in names}
            row[TIME] = float(clock[k])
            row |= {name: float(each[i, k]) for name, each in values.items()}
            if horizon is not None:
                row["trust_horizon"] = float(horizon[i])
                row["trusted"] = int(clock[k] - clock[0] < horizon[i])
            row["out_of_range"] = int(study["out_of_range"].values[i])
            yield row


def write_csv(study: xr.Dataset, times: Sequence[int], path: Path) -> None:
    """One line per row, numbers with all their digits."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(columns(study)))
        writer.writeheader()
        writer.writerows(rows(study, times))


def write_json(study: xr.Dataset, times: Sequence[int], path: Path, work: dict[str, Any]) -> None:
    """The same rows with what the columns are and what was done; a number that is infinite is null.

    Arguments:
        study: The study.
        times: Which times are reported.
        path: File to write.
        work: Everything that the values follow from.
    """
    kept = ("level", "members", "seed", "tolerance", "guarantee", "calibration", "design", "failed_trajectories")
    promises = {name: study[name].attrs.get("calibration_trajectories") for name in quantities_of(study)}
    content = {
        "study": {name: study.attrs[name] for name in kept if name in study.attrs},
        "calibration_trajectories": {name: None if n is None else int(n) for name, n in promises.items()},
        "columns": columns(study),
        "rows": [{name: _finite(value) for name, value in row.items()} for row in rows(study, times)],
        "work": work,
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _units(array: xr.DataArray) -> str:
    return str(array.attrs.get("units", "1"))
