"""What a comparison says of its data, and the example trajectories that it keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from romvae.comparison.scores import snapshot_nrmse
from romvae.comparison.sums import Sums
from romvae.comparison.tally import spread_parts
from romvae.errors import DataError
from romvae.schema import TIME, TRAJECTORY
from romvae.solvers.discretisation import reference_error

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = ["data_card", "data_fingerprint", "doubtful_digits", "examples"]

EXAMPLES = 4


def data_fingerprint(test: xr.Dataset, names: list[str]) -> str:
    """SHA-256 of the held-out values and their coordinates: equal where two comparisons are of the same data."""
    digest = hashlib.sha256()
    for name in names:
        array = test[name].transpose(TRAJECTORY, TIME, ...)
        digest.update(f"{name} {array.shape}".encode())
        for row in range(array.sizes[TRAJECTORY]):
            digest.update(np.ascontiguousarray(array.isel({TRAJECTORY: row}).values, dtype=np.float32).tobytes())
    digest.update(np.ascontiguousarray(test[TIME].values, dtype=np.float64).tobytes())
    return digest.hexdigest()


def doubtful_digits(test: xr.Dataset, names: list[str]) -> float | None:
    """Relative L2 error of the reference itself, as its data say, root mean square over fields; None if unknown."""
    try:
        known = reference_error(test)
    except DataError:
        return None
    if known is None or not all(name in known["fields"] for name in names):
        return None
    each = [float(known["fields"][name]["relative_l2"]) for name in names]
    return float(np.sqrt(np.mean(np.square(each))))


def data_card(model: Model, test: xr.Dataset, split: Mapping[str, int] | None) -> dict[str, Any]:
    """Grid, fields, parameters and times that the model knows, and how many trajectories lie outside of them."""
    schema = model.schema
    outside = np.zeros(test.sizes[TRAJECTORY], dtype=bool)
    for p in schema.parameters:
        outside |= (test[p.name].values < p.low) | (test[p.name].values > p.high)
    return {
        "outside_training_range": int(outside.sum()),
        "split": dict(split) if split else {"test": test.sizes[TRAJECTORY]},
        "parameters": {p.name: {"low": p.low, "high": p.high, "units": p.units} for p in schema.parameters},
        "grid": {
            a.name: {"points": a.size, "units": a.units, "lower": a.lower.kind, "upper": a.upper.kind}
            for a in schema.grid.axes
        },
        "fields": {f.name: {"units": f.units, "long_name": f.long_name} for f in schema.fields},
        "times": test.sizes[TIME],
        "dt": schema.dt,
        "horizon": schema.dt * (test.sizes[TIME] - 1),
        "time_units": schema.time_units,
    }


def examples(
    model: Model, test: xr.Dataset, sums: Sums, forecasts: Callable[[Sequence[int]], xr.Dataset]
) -> xr.Dataset:
    """Held-out trajectories from the best to the worst forecast, evenly by rank.

    Arguments:
        model: Whose forecasts they are.
        test: Trajectories with their initial time.
        sums: Of all of them.
        forecasts: From the numbers of some trajectories to their forecasts.
    """
    names = list(model.schema.field_names)
    error = np.sqrt((snapshot_nrmse(sums) ** 2).mean((0, 2)))
    order = np.argsort(error)
    rows = order[np.unique(np.linspace(0, len(order) - 1, min(EXAMPLES, len(order))).round().astype(int))]
    truth, guess = test.isel({TRAJECTORY: rows}), forecasts(rows.tolist())
    kinds = {kind: f"_{kind}" for kind in ("std", *spread_parts(guess, names), "lower", "upper")}
    data = {f"truth_{n}": truth[n] for n in names}
    data |= {f"{kind}_{n}": guess[n + suffix] for n in names for kind, suffix in {"mean": "", **kinds}.items()}
    kept = xr.Dataset(data).drop_vars("split", errors="ignore")
    kept["nrmse"] = (TRAJECTORY, error[rows])
    kept.attrs = {"level": 0.9, "boundary_conditions": test.attrs.get("boundary_conditions", "{}")}
    return kept
