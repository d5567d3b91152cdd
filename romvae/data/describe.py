"""What snapshots hold, whether they can be used, and what is missing: a plain dict, and a text for people."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from romvae.boundary import boundaries_of
from romvae.canonical import (
    MASK,
    TIME,
    TRAJECTORY,
    canonical,
    fields_of,
    lengths_of,
    mask_of,
    parameters_of,
    space_of,
    statics_of,
    undeclared_of,
)
from romvae.check import check_snapshots
from romvae.data.manifest import Checksums, Manifest
from romvae.data.readers import foreign, layout_name
from romvae.data.split import MINIMUM, PARTS, split
from romvae.data.store import format_of, manifest_of, open_snapshots
from romvae.data.trainable import forecast_of, obstacles
from romvae.environment import available_cpus
from romvae.errors import DataError
from romvae.grid import Axis
from romvae.statistics import FieldStatistics, field_statistics

__all__ = ["describe", "summary"]

_MOST = 12
"""Arrays that are not used, as many as are listed."""
_KNOWN_ATTRS = {"Conventions", "boundary_conditions"}


def describe(data: xr.Dataset | Path | str) -> dict[str, Any]:
    """Reads all values once and says what they are.

    Arguments:
        data: Snapshots, or the path of a store.

    Returns:
        A dict that JSON can hold, with the keys `source`, `format`, `bytes`, `trajectories`, `times`,
        `axes`, `fields`, `static`, `inside` (share of the points within the mask), `shortest` (times of the shortest
        trajectory, where they differ), `parameters`, `split`, `attributes`, `problems` (what makes the data unusable),
        `missing` (what a model would have to assume or cannot do), `forecast_of` (fields that a forecast is of),
        `usable` (no problems: it can be read, and start a rollout), `obstacles` (why a training would refuse it) and
        `trainable`.

    Raises:
        DataError: The path is no store of snapshots, is incomplete, damaged or has other dims.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what they say is in `missing`
        if isinstance(data, xr.Dataset):
            check_snapshots(data, values=False)
            return _described(canonical(data), "", "memory", None)
        with open_snapshots(data, check=False) as ds:
            if foreign(data):
                return _described(ds, str(data), layout_name(data), None)
            return _described(ds, str(data), format_of(data), manifest_of(data))


def summary(description: dict[str, Any]) -> str:
    """A description as text, a line per fact.

    Arguments:
        description: What `describe` returned.
    """
    d = description
    times = d["times"]
    step = "" if times["step"] is None else f", every {times['step']:.6g}"
    lines = [
        f"{d['source'] or 'snapshots'} ({d['format']}, {d['bytes'] / 1e6:.4g} MB of values)",
        f"  trajectories  {d['trajectories']}",
        f"  times         {times['count']}, {times['start']:.6g} to {times['end']:.6g}{step} [{times['units']}]",
    ]
    for axis in d["axes"]:
        spacing = "not uniform" if axis["spacing"] is None else f"every {axis['spacing']:.6g}"
        sides = " | ".join(map(str, axis["boundary"])) if axis["boundary"] else "boundary not stated"
        lines.append(
            f"  axis {axis['name']:<8} {axis['size']} points, {axis['lower']:.6g} to {axis['upper']:.6g}, "
            f"{spacing} [{axis['units']}], {sides}"
        )
    for field in d["fields"]:
        lines.append(
            f"  field {field['name']:<7} {_number(field['min'])} to {_number(field['max'])}, "
            f"mean {_number(field['mean'])}, std {_number(field['std'])} [{field['units']}], {field['dtype']}"
        )
    if d["inside"] is not None:
        lines.append(f"  mask          {100 * d['inside']:.4g} % of the points are inside")
    if d["static"]:
        lines.append(f"  static        {', '.join(d['static'])}")
    for p in d["parameters"]:
        lines.append(f"  parameter {p['name']}: {p['low']:.6g} to {p['high']:.6g} [{p['units']}]")
    if d["split"]:
        lines.append("  split         " + ", ".join(f"{part} {n}" for part, n in d["split"].items()))
    lines += [f"  {key}: {value}" for key, value in d["attributes"].items()]
    lines += [f"  made up: {text}" for text in d.get("made_up", ())]
    if d.get("unused"):
        lines.append(f"  not used: {', '.join(d['unused'][:_MOST])}{', ...' if len(d['unused']) > _MOST else ''}")
    lines += [f"  problem: {text}" for text in d["problems"]]
    lines += [f"  missing: {text}" for text in d["missing"]]
    if d["forecast_of"]:
        lines.append(f"  this is a forecast of {', '.join(d['forecast_of'])}, not data to train on")
    lines.append(f"  usable: {'yes' if d['usable'] else 'no'}")
    if d["usable"] and not d["trainable"]:
        lines += [f"  cannot be trained on: {text}" for text in d["obstacles"]]
    return "\n".join(lines)


def _described(ds: xr.Dataset, source: str, kind: str, manifest: Manifest | None) -> dict[str, Any]:
    problems, missing = [], []
    sums = Checksums().for_dims_of(ds)
    watch = sums if manifest is not None else None
    found = field_statistics(ds, fields_of(ds), source, workers=available_cpus(), strict=False, watch=watch)
    if manifest is not None:
        problems += [finding.text(source) for finding in manifest.values(sums)]
    fields = [_statistics(ds, name, s) for name, s in found.items()]
    if any(field["not_finite"] for field in fields):
        problems.append(_first_problem(ds, source))
    for field in fields:
        if field["min"] is not None and field["min"] == field["max"]:
            missing.append(f"field {field['name']!r} is {field['min']:.6g} everywhere: there is nothing to learn")
    times = ds[TIME].values
    if times.size < 2:
        missing.append("a second time: the time step is unknown, so no dynamics can be trained")
    n = ds.sizes[TRAJECTORY]
    parts = _split_counts(ds, problems)
    if parts is None and n < MINIMUM:
        missing.append(f"{MINIMUM - n} more trajectories: training needs at least {MINIMUM}")
    missing += _unstated(ds, source)
    why_not = [] if problems else obstacles(ds, found)
    mask, lengths = mask_of(ds), lengths_of(ds)
    if lengths is not None and (lengths < times.size).any():
        missing.append(
            f"times of {np.count_nonzero(lengths < times.size)} trajectories that end early: training needs one "
            "length, see romvae pack --trim and --min-steps"
        )
    return {
        "source": source,
        "format": kind,
        "bytes": int(ds.nbytes),
        "trajectories": n,
        "times": {
            "count": int(times.size),
            "start": float(times[0]),
            "end": float(times[-1]),
            "step": float(times[-1] - times[0]) / (times.size - 1) if times.size > 1 else None,
            "units": _units(ds[TIME]),
        },
        "axes": [_axis(ds, name, source) for name in space_of(ds)],
        "fields": fields,
        "static": [name for name in statics_of(ds) if name != MASK],
        "inside": None if mask is None else float(mask.mean()),
        "shortest": None if lengths is None else int(lengths.min()),
        "parameters": [
            {"name": p, "units": _units(ds[p]), "low": float(ds[p].min()), "high": float(ds[p].max())}
            for p in parameters_of(ds)
        ],
        "split": parts,
        "attributes": {str(k): _plain(v) for k, v in ds.attrs.items() if k not in _KNOWN_ATTRS},
        "problems": problems,
        "missing": missing,
        "forecast_of": forecast_of(ds),
        "usable": not problems,
        "obstacles": why_not,
        "trainable": not problems and not why_not,
    }


def _statistics(ds: xr.Dataset, name: str, found: FieldStatistics) -> dict[str, Any]:
    """Of the finite values, those outside of the mask and beyond the end of a trajectory left out."""
    return {
        "name": name,
        "units": _units(ds[name]),
        "dtype": str(ds[name].dtype),
        "min": found.low if found.count else None,
        "max": found.high if found.count else None,
        "mean": found.mean if found.count else None,
        "std": found.std if found.count else None,
        "not_finite": found.bad,
    }


def _first_problem(ds: xr.Dataset, source: str) -> str:
    try:
        check_snapshots(ds, source)
    except DataError as error:
        return str(error)
    return "values are not finite"


def _split_counts(ds: xr.Dataset, problems: list[str]) -> dict[str, int] | None:
    if "split" not in ds.coords:
        return None
    try:
        parts = split(ds)
    except DataError as error:
        problems.append(str(error))
        return None
    return {part: int(getattr(parts, part).sizes[TRAJECTORY]) for part in PARTS}


def _unstated(ds: xr.Dataset, source: str) -> list[str]:
    names = (*fields_of(ds), TIME, *space_of(ds), *parameters_of(ds))
    unitless = [repr(name) for name in names if "units" not in ds[name].attrs]
    missing = [f"units of {', '.join(unitless)}: taken as dimensionless"] if unitless else []
    declared = boundaries_of(ds, source)
    missing += [f"boundary condition of {a!r}: taken as open" for a in space_of(ds) if a not in declared]
    return missing + [
        f"role of {name!r}: set its attribute romvae_role='parameter' if the dynamics depend on it"
        for name in undeclared_of(ds)
    ]


def _axis(ds: xr.Dataset, name: str, source: str) -> dict[str, Any]:
    axis = Axis(name, tuple(ds[name].values.astype(float).tolist()), _units(ds[name]))
    sides = boundaries_of(ds, source).get(name)
    return {
        "name": name,
        "size": axis.size,
        "lower": axis.coordinates[0],
        "upper": axis.coordinates[-1],
        "spacing": axis.spacing if axis.uniform else None,
        "units": axis.units,
        "boundary": [side.entry for side in sides] if sides else None,
    }


def _units(array: xr.DataArray) -> str:
    return str(array.attrs.get("units", "1"))


def _number(value: float | None) -> str:
    return "no value" if value is None else f"{value:.6g}"


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
