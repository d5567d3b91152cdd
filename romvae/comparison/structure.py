"""Whether a forecast has the right structure: similarity, spectra, and what the equation conserves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from romvae import metrics as score
from romvae.comparison.passing import portions
from romvae.comparison.significance import CONFIDENCE
from romvae.errors import DataError
from romvae.metrics import bootstrap_rows
from romvae.metrics.spectra import error_of_spectra
from romvae.schema import TIME, TRAJECTORY
from romvae.solvers.base import Case, Solver

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = [
    "conserved_drift",
    "conserved_scores",
    "powers",
    "ranges_of",
    "similarity_sums",
    "spectra_at",
    "spectra_series",
    "spectrum_times",
]

SPECTRUM_TIMES, LEAST = 3, 4


def ranges_of(test: xr.Dataset, names: Sequence[str], mask: NDArray[np.bool_] | None) -> dict[str, float]:
    """Largest minus smallest value of each field after the initial time, inside the domain."""
    low, high = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    for rows in portions(test, names):
        some = score.in_domain(test[list(names)].isel({TRAJECTORY: rows, TIME: slice(1, None)}), mask)
        for name in names:
            low[name] = min(low[name], float(some[name].min()))
            high[name] = max(high[name], float(some[name].max()))
    return {name: high[name] - low[name] for name in names}


def similarity_sums(
    model: Model, truth: xr.Dataset, mean: xr.Dataset, ranges: Mapping[str, float]
) -> dict[str, NDArray[np.float64]]:
    """Structural similarity `ssim` of every snapshot, `(field, trajectory, time)`.

    Nothing where the grid is too small or a field is constant.
    """
    around = [axis.name for axis in model.schema.grid.axes if axis.periodic]
    try:
        each = [
            score.ssim(truth[name], mean[name], ranges[name], mask=model.mask, periodic=around)
            for name in model.schema.field_names
        ]
    except DataError:
        return {}
    return {"ssim": np.stack([found.transpose(TRAJECTORY, TIME).values for found in each])}


def powers(model: Model, fields: xr.Dataset, kind: str) -> xr.Dataset:
    """Power over the wavenumber, mean over trajectories, `<kind>_<field>`.

    Nothing where the grid is uneven, has holes, or has an axis of fewer than four points.

    Arguments:
        model: Which knows the grid.
        fields: On the whole grid.
        kind: Whose spectra they are.
    """
    axes = model.schema.grid.axes
    if model.mask is not None or not all(axis.uniform and axis.size >= LEAST for axis in axes):
        return xr.Dataset()
    window = not all(axis.periodic for axis in axes)
    names = model.schema.field_names
    return xr.Dataset(
        {f"{kind}_{n}": score.spectrum(fields[n].astype(np.float64), window).mean(TRAJECTORY) for n in names}
    )


def spectra_series(model: Model, power: xr.Dataset) -> xr.Dataset:
    """Error of the spectra over time, and the spectra themselves at a few times, `spectrum_<kind>_<field>`.

    Arguments:
        model: Which knows the grid.
        power: From `powers` of truth and forecast, over all trajectories.
    """
    names = model.schema.field_names
    if f"truth_{names[0]}" not in power:
        return xr.Dataset()
    limit = min(np.pi / abs(axis.coordinates[1] - axis.coordinates[0]) for axis in model.schema.grid.axes)
    errors = xr.Dataset({n: error_of_spectra(power[f"truth_{n}"], power[f"rom_{n}"], limit) for n in names})
    found = xr.Dataset({"rom_spectral_error": score.over_fields(errors, root_mean_square=True)})
    return xr.merge([found, spectra_at(power.isel({TIME: spectrum_times(power.sizes[TIME])}))])


def spectrum_times(times: int) -> NDArray[np.intp]:
    """Numbers of the times at which spectra are kept."""
    return np.unique(np.linspace(0, times - 1, SPECTRUM_TIMES).round().astype(int))


def spectra_at(power: xr.Dataset) -> xr.Dataset:
    """Spectra as they are kept: over `spectrum_time`."""
    return power.rename({TIME: "spectrum_time", **{name: f"spectrum_{name}" for name in power.data_vars}})


def conserved_drift(reference: Case | Solver | None, truth: xr.Dataset, forecast: xr.Dataset) -> xr.Dataset:
    """Squares of the drift of what the equation conserves, of each trajectory; nothing where nothing is conserved.

    Arguments:
        reference: Case or solver; a case's solver is made for the parameters of each trajectory.
        truth: Reference fields with the initial time.
        forecast: Forecast at the same times.
    """
    solvers = _solvers(reference, truth)
    if not solvers or not solvers[0].conserved(_stacked(truth, solvers[0], 0)[:1]):
        return xr.Dataset()
    fields = [f.name for f in solvers[0].fields]

    def conserved(u: np.ndarray) -> Mapping[str, np.ndarray]:
        each = [solver.conserved(values) for solver, values in zip(solvers, u, strict=True)]
        return {name: np.stack([values[name] for values in each]) for name in each[0]}

    return score.conservation(conserved, truth, forecast, fields, each=True).drop_vars(TIME) ** 2


def conserved_scores(drift: xr.Dataset, seed: int = 0) -> dict[str, Any]:
    """Drift at the last time of forecast, with its interval over trajectories, and of truth.

    Arguments:
        drift: From `conserved_drift`, of all trajectories.
        seed: Of the resampling.
    """
    names = [str(name).removesuffix("_drift") for name in drift if str(name).endswith("_drift")]
    scores = {}
    for name in names:
        late = drift[f"{name}_drift"].isel({TIME: -1}).values
        found = bootstrap_rows(partial(_root_mean, late), len(late), CONFIDENCE, seed=seed)
        scores[name] = {
            "drift": found.estimate,
            "interval": [found.low, found.high],
            "drift_of_solver": float(drift[f"{name}_truth"].isel({TIME: -1}).mean() ** 0.5),
            "size": float(drift[f"{name}_size"].mean() ** 0.5),
        }
    return scores


def _root_mean(squares: NDArray[np.float64], chosen: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.sqrt(squares[chosen].mean(-1))


def _solvers(reference: Case | Solver | None, test: xr.Dataset) -> list[Solver]:
    count = test.sizes[TRAJECTORY]
    if reference is None:
        return []
    if isinstance(reference, Solver):
        return [reference] * count
    names = [r.name for r in reference.ranges if not r.of_initial]
    if any(name not in test.coords for name in names):
        return []
    return [reference.solver(**{name: float(test[name][i]) for name in names}) for i in range(count)]


def _stacked(test: xr.Dataset, solver: Solver, trajectory: int) -> np.ndarray:
    one = test.isel({TRAJECTORY: trajectory})
    return np.stack([np.asarray(one[f.name].values, dtype=np.float64) for f in solver.fields], axis=1)
