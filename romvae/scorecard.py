"""What a comparison says of the uncertainty: bands, quantities, calibration, spectra and conserved quantities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from scipy import stats

from romvae import metrics as score
from romvae.baselines.model import BaselineModel
from romvae.calibration import Interval, rank_of, trajectories_needed
from romvae.errors import DataError
from romvae.quantities import standard
from romvae.schema import TIME, TRAJECTORY
from romvae.solvers.base import Case, Solver

if TYPE_CHECKING:
    from romvae.baselines.model import Model

__all__ = [
    "band_scores",
    "conserved_scores",
    "further_scores",
    "further_series",
    "quantity_scores",
    "spectra_of",
    "spread_parts",
]

LEVEL, SHARE = 0.9, 0.9
QUANTITY_TRAJECTORIES, MEMBERS = 64, 16
SPECTRUM_TIMES = 3
PARTS = ("std_decoder", "std_dynamics", "std_posterior", "std_ensemble")


def spread_parts(forecast: xr.Dataset, names: Sequence[str]) -> list[str]:
    """Parts of the standard deviation that a forecast tells for all its fields, as `std_decoder`; none of a baseline's.

    Arguments:
        forecast: As `rollout` of a ROM or of a baseline returns it.
        names: Of the fields.
    """
    return [kind for kind in PARTS if all(f"{name}_{kind}" in forecast for name in names)]


def further_scores(rom: Model, truth: xr.Dataset, forecast: xr.Dataset, start: float) -> dict[str, Any]:
    """Numbers of the mean and of its standard deviation, over all trajectories and times ahead.

    Arguments:
        rom: Whose forecast it is.
        truth: Reference fields on the whole grid, without the initial time.
        forecast: As `ROM.rollout` returns it, at the same times.
        start: The initial time.
    """
    mask, names = rom.mask, list(rom.schema.field_names)
    u, mean, std = (score.in_domain(each, mask) for each in (truth, *_parts(forecast, names, "", "_std")))
    valid = score.over_fields(score.valid_prediction_time(u, mean, start=start))
    length = float(truth[TIME][-1]) - start
    absolute = {n: float(abs(u[n] - mean[n]).mean()) for n in names}
    crps = score.gaussian_crps(u, mean, std)
    result = {
        "nrmse": float(score.over_fields(score.nrmse(u, mean), root_mean_square=True)),
        "nll": float(score.over_fields(score.gaussian_nll(u, mean, std))),
        "crps_over_mae": float(np.mean([float(crps[n]) / max(absolute[n], 1e-300) for n in names])),
        "interval_score_90": float(score.over_fields(_interval_score(forecast, u, names, mask))),
        "ause": float(score.over_fields(score.ause(u, mean, std))),
        "spearman_points": float(score.over_fields(score.spearman(u, mean, std))),
        "valid_prediction_time": {
            "threshold": 0.5,
            "mean": float(valid.mean()),
            "standard_error": float(score.standard_error(valid)),
            "whole_horizon": float((valid >= length * (1 - 1e-9)).mean()),
        },
        "calibration": rom.calibration.statement(LEVEL, SHARE),
    }
    similarity = _similarity(rom, truth, forecast, names)
    return result if similarity is None else {**result, "ssim": float(similarity.mean())}


def further_series(rom: Model, truth: xr.Dataset, forecast: xr.Dataset) -> xr.Dataset:
    """Scores over lead time, and curves over the transform, the share taken out and the wavenumber; means over fields.

    Arguments: as for `further_scores`.
    """
    mask, names = rom.mask, list(rom.schema.field_names)
    mean, std = _parts(forecast, names, "", "_std")
    u, m, s = (score.in_domain(each, mask) for each in (truth, mean, std))
    others = [d for d in u.dims if d != TIME]
    series = xr.Dataset(
        {
            "rom_nll": score.over_fields(score.gaussian_nll(u, m, s, others)),
            "rom_spread_skill": score.over_fields(score.spread_skill(u, m, s, others)),
            "rom_vrmse": score.over_fields(score.vrmse(u, m)).mean(TRAJECTORY),
            "pit": score.over_fields(score.pit_histogram(u, m, s)),
            "sparsification": score.over_fields(score.sparsification(u, m, s)),
        }
    )
    similarity = _similarity(rom, truth, forecast, names)
    if similarity is not None:
        series["rom_ssim"] = similarity.mean(TRAJECTORY)
    spectra = _spectra(rom, truth, mean, names)
    return series if spectra is None else series.merge(spectra)


def band_scores(rom: Model, truth: xr.Dataset, forecast: xr.Dataset) -> dict[str, Any]:
    """Share of the runs that bands of the level 0.9 hold, with the finite-sample interval of what was promised.

    Arguments: as for `further_scores`; `forecast` has its times one stored step apart.
    """
    if rom.calibration.bands.trajectories == 0:
        return {}
    names = list(rom.schema.field_names)
    u, m, s = (score.in_domain(each, rom.mask) for each in (truth, *_parts(forecast, names, "", "_std")))
    space = [d for d in u.dims if d not in (TRAJECTORY, TIME)]
    lead = torch.arange(1, truth.sizes[TIME] + 1)
    kinds: dict[str, tuple[Interval, float]] = {
        "risk_band": ("run", SHARE),
        "risk_band_at_each_time": ("field", SHARE),
        "whole_field_at_each_time": ("field", 1.0),
        "whole_run": ("run", 1.0),
    }
    n = rom.calibration.bands.trajectories
    low, high = _expected(n, truth.sizes[TRAJECTORY])
    result: dict[str, Any] = {}
    for name, (interval, share) in kinds.items():
        width = rom.calibration.width(lead, LEVEL, interval, share).numpy()
        over = [*space, TIME] if interval == "run" else space
        held, wide = [], []
        for k, field in enumerate(names):
            bound = xr.DataArray(width[:, k].astype(np.float64), dims=TIME, coords={TIME: truth[TIME]})
            inside = (abs(u[field] - m[field]) <= bound * s[field]).mean(over) >= share - 1e-9
            held.append(float(inside.mean()))
            wide.append(float(np.mean(width[:, k])))
        result[name] = {
            "level": LEVEL,
            "share_of_points": share,
            "runs_held": float(np.mean(held)) if np.isfinite(wide).all() else None,
            "expected_low": low,
            "expected_high": high,
            "half_width_in_std": float(np.mean(wide)) if np.isfinite(wide).all() else None,
            "promised": rom.calibration.guarantee(LEVEL, interval, share).attained,
        }
    return result


def quantity_scores(rom: Model, test: xr.Dataset, seed: int) -> dict[str, Any]:
    """For each calibrated standard quantity: coverage of its 90 % interval and error, over at most 64 trajectories.

    A baseline has none.
    """
    if isinstance(rom, BaselineModel):
        return {}
    scalars = rom.calibration.quantities
    needed = trajectories_needed(LEVEL)
    known = {name for name in scalars.names if scalars.trajectories(name) >= needed}
    watched = [quantity for quantity in standard(rom.schema) if quantity.name in known]
    if not watched:
        return {}
    some = test.isel({TRAJECTORY: slice(0, QUANTITY_TRAJECTORIES)})
    steps = test.sizes[TIME] - 1
    driven = some if rom.schema.controls else None
    forecast = rom.rollout(some.isel({TIME: 0}), steps, MEMBERS, seed, LEVEL, quantities=watched, controls=driven)
    inside = None if rom.mask is None else xr.DataArray(rom.mask, dims=rom.schema.grid.names)
    result = {}
    for quantity in watched:
        field = some[quantity.field].astype(np.float64)
        truth = quantity.of(field if inside is None else field.where(inside))[:, 1:]
        centre, low, high = (forecast[quantity.name + k].values[:, 1:] for k in ("", "_lower", "_upper"))
        held = ((low <= truth) & (truth <= high)).mean(1)
        result[quantity.name] = {
            "coverage_90": float(held.mean()),
            "coverage_90_se": float(held.std(ddof=1) / len(held) ** 0.5) if len(held) > 1 else float("nan"),
            "rmse": float(np.sqrt(((centre - truth) ** 2).mean())),
            "size": float(np.sqrt((truth**2).mean())),
        }
    return result


def conserved_scores(reference: Case | Solver | None, test: xr.Dataset, forecast: xr.Dataset) -> dict[str, Any]:
    """Drift of what the equation conserves, at the last time, of forecast and truth; empty where nothing is.

    Arguments:
        reference: Case or solver; a case's solver is made for the parameters of each trajectory.
        test: Reference fields with the initial time.
        forecast: Forecast at the same times.
    """
    solvers = _solvers(reference, test)
    if not solvers or not solvers[0].conserved(_stacked(test, solvers[0], 0)[:1]):
        return {}
    fields = [f.name for f in solvers[0].fields]

    def conserved(u: np.ndarray) -> Mapping[str, np.ndarray]:
        each = [solver.conserved(values) for solver, values in zip(solvers, u, strict=True)]
        return {name: np.stack([values[name] for values in each]) for name in each[0]}

    found = score.conservation(conserved, test, forecast, fields)
    names = [str(name).removesuffix("_drift") for name in found if str(name).endswith("_drift")]
    return {
        name: {
            "drift": float(found[f"{name}_drift"][-1]),
            "drift_of_solver": float(found[f"{name}_truth"][-1]),
            "size": float(found[f"{name}_size"]),
        }
        for name in names
    }


def _expected(n: int, runs: int) -> tuple[float, float]:
    """Central 90 % of the share of `runs` new trajectories that a band holds: their number is beta-binomial."""
    k = rank_of(n, LEVEL)
    if k > n:
        return 1.0, 1.0
    low, high = stats.betabinom.ppf([0.05, 0.95], runs, k, n + 1 - k) / runs
    return float(low), float(high)


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


def _parts(forecast: xr.Dataset, names: Sequence[str], *suffixes: str) -> list[xr.Dataset]:
    return [xr.Dataset({n: forecast[n + suffix] for n in names}) for suffix in suffixes]


def _interval_score(forecast: xr.Dataset, u: xr.Dataset, names: Sequence[str], mask: np.ndarray | None) -> xr.Dataset:
    low, high = (score.in_domain(each, mask) for each in _parts(forecast, names, "_lower", "_upper"))
    return score.interval_score(u, low, high, LEVEL)


def _similarity(rom: Model, truth: xr.Dataset, forecast: xr.Dataset, names: Sequence[str]) -> xr.DataArray | None:
    """Structural similarity per trajectory and time; None where the grid is too small or a field is constant."""
    around = [axis.name for axis in rom.schema.grid.axes if axis.periodic]
    mean = _parts(forecast, names, "")[0]
    try:
        return score.over_fields(score.ssim(truth, mean, mask=rom.mask, periodic=around))
    except DataError:
        return None


def _spectra(rom: Model, truth: xr.Dataset, mean: xr.Dataset, names: Sequence[str]) -> xr.Dataset | None:
    """Spectra at a few times and their error over time; None where the grid is uneven or has holes."""
    axes = rom.schema.grid.axes
    if rom.mask is not None or not all(axis.uniform for axis in axes):
        return None
    window = not all(axis.periodic for axis in axes)
    out: dict[str, xr.DataArray] = {
        "rom_spectral_error": score.over_fields(
            score.spectral_error(truth, mean, TRAJECTORY, window), root_mean_square=True
        )
    }
    times = np.unique(np.linspace(0, truth.sizes[TIME] - 1, SPECTRUM_TIMES).round().astype(int))
    both = [
        spectra_of(rom, ds[list(names)].isel({TIME: times}), kind) for kind, ds in (("truth", truth), ("rom", mean))
    ]
    return xr.merge([xr.Dataset(out), *both])


def spectra_of(rom: Model, fields: xr.Dataset, kind: str) -> xr.Dataset:
    """Power over the wavenumber, mean over trajectories, as `spectrum_<kind>_<field>` over `spectrum_time`.

    Arguments:
        rom: Which knows the grid; it has to be uniform.
        fields: The times that are wanted.
        kind: Whose spectra they are.
    """
    window = not all(axis.periodic for axis in rom.schema.grid.axes)
    out = {}
    for name in rom.schema.field_names:
        power = score.spectrum(fields[name].astype(np.float64), window).mean(TRAJECTORY)
        out[f"spectrum_{kind}_{name}"] = power.rename({TIME: "spectrum_time"})
    return xr.Dataset(out)
