"""Comparison of a ROM with held-out reference solutions, simple baselines and the reference solver's cost."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from romvae import metrics as score
from romvae.atomic import atomic_folder
from romvae.baselines import Baseline, default_baselines
from romvae.cost import solver_seconds
from romvae.errors import CheckpointError, DataError, OutOfRangeWarning
from romvae.latent.summary import latent_summary
from romvae.ragged import even_part, even_snapshots, existing, ragged_lengths
from romvae.schema import TIME, TRAJECTORY, canonical
from romvae.scorecard import band_scores, conserved_scores, further_scores, further_series, quantity_scores
from romvae.solvers.base import Case, Solver

if TYPE_CHECKING:
    from romvae.rom import ROM

__all__ = ["Comparison", "compare"]

Report = Callable[..., None]
LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))
EXAMPLES = 4


@dataclass
class Comparison:
    """What was measured, enough to render the report again.

    Arguments:
        metrics: Numbers by name, JSON types only; see README.
        series: Scores over lead time, reliability over nominal levels, KL per latent dimension.
        examples: Truth, mean, standard deviations and interval of a few held-out trajectories.
        info: Configuration, environment, training curves.
        latent: What `romvae.latent.latent_summary` says of the code; empty in comparisons of earlier versions.
    """

    metrics: dict[str, Any]
    series: xr.Dataset
    examples: xr.Dataset
    info: dict[str, Any] = field(default_factory=dict)
    latent: xr.Dataset = field(default_factory=xr.Dataset)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Writes `metrics.json`, `info.json`, `series.nc`, `examples.nc` and `latent.nc`, whole or not at all."""
        with atomic_folder(folder, overwrite) as target:
            for name, content in (("metrics", self.metrics), ("info", self.info)):
                (target / f"{name}.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
            self.series.to_netcdf(target / "series.nc", engine="h5netcdf")
            self.examples.to_netcdf(target / "examples.nc", engine="h5netcdf")
            self.latent.to_netcdf(target / "latent.nc", engine="h5netcdf")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Comparison:
        """Reads what `save` wrote.

        Raises:
            CheckpointError: A part is missing or cannot be read.
        """
        folder = Path(folder)
        try:
            texts = [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("metrics", "info")]
            series = xr.load_dataset(folder / "series.nc", engine="h5netcdf")
            examples = xr.load_dataset(folder / "examples.nc", engine="h5netcdf")
            kept = folder / "latent.nc"
            latent = xr.load_dataset(kept, engine="h5netcdf") if kept.exists() else xr.Dataset()
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder}: no readable comparison: {error}. Run `romvae compare` again.") from error
        return cls(texts[0], series, examples, texts[1], latent)


def compare(
    rom: ROM,
    test: xr.Dataset,
    *,
    train: xr.Dataset | None = None,
    reference: Case | Solver | None = None,
    baselines: Sequence[Baseline] | None = None,
    seconds: Mapping[str, float] | None = None,
    info: Mapping[str, Any] | None = None,
    split: Mapping[str, int] | None = None,
    members: int = 32,
    seed: int = 0,
    progress: Report | None = None,
) -> Comparison:
    """Forecasts held-out trajectories from their first field and scores the forecast.

    All scores leave out the initial time: it is input, not forecast. Relative errors of several fields are combined
    by their root mean square, coverages by their mean.

    Where test trajectories differ in length, the scores are those of the part in which all have one
    (`romvae.ragged.even_part`; `data.ragged` says what it leaves out), and `relative_l2_all_times` is the error over
    every truth that there is. Baselines that need whole trajectories are then named in `baselines_left_out`.

    Arguments:
        rom: A trained ROM.
        test: Trajectories that no part of the training has seen.
        train: Trajectories to fit the baselines to, the ROM's own training part; None leaves the baselines out.
        reference: Solver or case whose wall-clock is to stand beside the ROM's.
        baselines: Baselines to fit; None takes those that apply to the data.
        seconds: Wall-clock of earlier stages, carried over into the metrics.
        info: Configuration, environment and training curves for the report.
        split: Trajectories per part, for the record.
        members: Members of the forecast ensemble.
        seed: Seed of the forecast.
        progress: Called as `progress(stage, done, total, note)`.

    Raises:
        SchemaError: The data are not on the ROM's grid.
        DataError: The trajectories hold a single time.
    """
    report: Report = progress if progress is not None else (lambda *args: None)
    test = canonical(test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)  # counted in the data card instead
        return _compare(rom, test, train, reference, baselines, seconds, info, split, members, seed, report)


def _compare(
    rom: ROM,
    test: xr.Dataset,
    train: xr.Dataset | None,
    reference: Case | Solver | None,
    baselines: Sequence[Baseline] | None,
    seconds: Mapping[str, float] | None,
    info: Mapping[str, Any] | None,
    split: Mapping[str, int] | None,
    members: int,
    seed: int,
    report: Report,
) -> Comparison:
    rom.schema.check(test, source="test trajectories")
    if test.sizes[TIME] < 2:
        raise DataError("test trajectories: hold one time, at least two are needed to score a forecast.")
    names = list(rom.schema.field_names)
    clock = dict(seconds or {})
    begin = time.perf_counter()
    report("rollout", 0, 1)
    driven = test if rom.schema.controls else None
    forecast = rom.rollout(
        test.isel({TIME: 0}), steps=test.sizes[TIME] - 1, members=members, seed=seed, controls=driven
    )
    forecast = forecast.assign_coords({TIME: test[TIME]})
    clock["rollout"] = (time.perf_counter() - begin) / test.sizes[TRAJECTORY]
    report("rollout", 1, 1)
    whole_test, whole_forecast, lengths = test, forecast, ragged_lengths(test)
    if lengths is not None:
        rows, times = even_part(lengths)
        test, forecast = even_snapshots(test), forecast.isel({TRAJECTORY: rows, TIME: slice(0, times)})
        if times < 2:
            raise DataError("test trajectories: hold one time each, at least two are needed to score a forecast.")
    on_grid = (test[names].isel({TIME: slice(1, None)}), forecast.isel({TIME: slice(1, None)}))
    truth, ahead = (score.in_domain(each, rom.mask) for each in on_grid)
    measured = _rom_scores(rom, truth, ahead)
    if lengths is not None:
        all_truth, all_ahead = (score.in_domain(each[names], rom.mask) for each in (whole_test, whole_forecast))
        measured["relative_l2_all_times"] = _existing_error(all_truth, all_ahead, lengths)
    measured["compression_relative_l2"] = _compression(rom, test[names], test)
    measured |= further_scores(rom, *on_grid, start=float(test[TIME][0]))
    measured["bands"] = band_scores(rom, *on_grid)
    measured["quantities"] = quantity_scores(rom, test, seed)
    measured["conserved"] = conserved_scores(reference, test, forecast)
    series = _rom_series(rom, truth, ahead).merge(further_series(rom, *on_grid))
    series["kl_per_dimension"] = ("latent", _kl(rom, test))
    scores: dict[str, Any] = {}
    if train is not None:
        chosen = default_baselines(train, rom.vae.latent) if baselines is None else list(baselines)
        for k, baseline in enumerate(chosen):
            report("baselines", k, len(chosen), baseline.name)
            begin = time.perf_counter()
            guess = baseline.fit(train).rollout(test.isel({TIME: 0}), test[TIME].values)
            clock[f"baseline_{baseline.name}"] = time.perf_counter() - begin
            guess = guess[names].assign_coords({TIME: test[TIME]}).isel({TIME: slice(1, None)})
            guess = score.in_domain(guess, rom.mask)
            scores[baseline.name] = _errors(truth, guess)
            series[f"baseline_{baseline.name}_relative_l2"] = _over_time(truth, guess)
        report("baselines", len(chosen), len(chosen))
    if reference is not None:
        report("solver", 0, 1)
        clock["solver"] = solver_seconds(reference, test)
        report("solver", 1, 1)
    card = _data_card(rom, test, split)
    result = {
        "case": str(test.attrs.get("case", "")),
        "rom": measured,
        "baselines": scores,
        "seconds": clock,
        "data": card,
    }
    if lengths is not None:
        counts = (len(lengths) - test.sizes[TRAJECTORY], whole_test.sizes[TIME] - test.sizes[TIME])
        share = float(test.sizes[TRAJECTORY] * test.sizes[TIME] / lengths.sum())
        left = {"trajectories_left_out": counts[0], "times_left_out": counts[1], "share_of_snapshots_scored": share}
        card["ragged"] = left
    if train is not None and baselines is None and ragged_lengths(train) is not None:
        result["baselines_left_out"] = {"pod_rbf": "needs training trajectories of one length"}
    extra = {"model": rom.config, **(info or {})}
    return Comparison(result, series, _examples(rom, test, forecast), extra, latent_summary(rom, test))


def _existing_error(truth: xr.Dataset, guess: xr.Dataset, lengths: np.ndarray) -> float:
    """Relative L2 error over all times ahead that each trajectory has."""
    kept = existing(lengths, truth.sizes[TIME])
    kept[:, 0] = False
    squares = []
    for name in truth.data_vars:
        u, v = (np.asarray(each[name].transpose(TRAJECTORY, TIME, ...).values[kept], float) for each in (truth, guess))
        squares.append(((v - u) ** 2).sum() / max((u**2).sum(), np.finfo(float).tiny))
    return float(np.sqrt(np.mean(squares)))


def _pooled(result: xr.Dataset) -> float:
    return float(score.over_fields(result, root_mean_square=True))


def _errors(truth: xr.Dataset, guess: xr.Dataset) -> dict[str, float]:
    return {
        "relative_l2": _pooled(score.relative_l2(truth, guess)),
        "worst_relative_l2": float(score.over_fields(score.worst_relative_l2(truth, guess)).max()),
        "worst_nrmse": float(score.over_fields(_snapshot_nrmse(truth, guess), root_mean_square=True).max()),
        "vrmse": float(score.over_fields(score.vrmse(truth, guess)).mean()),
    }


def _snapshot_nrmse(truth: xr.Dataset, guess: xr.Dataset) -> xr.Dataset:
    """Root mean square error of each snapshot over the root mean square of all held-out values.

    Where fields may be close to zero, a relative error of a single snapshot says nothing; this one does.
    """
    space = [d for d in truth.dims if d not in (TRAJECTORY, TIME)]
    return score.rmse(truth, guess, space) / score.rmse(truth, truth * 0)


def _over_time(truth: xr.Dataset, guess: xr.Dataset) -> xr.DataArray:
    dims = [d for d in truth.dims if d != TIME]
    return score.over_fields(score.relative_l2(truth, guess, dims), root_mean_square=True)


def _part(forecast: xr.Dataset, names: Sequence[str], suffix: str) -> xr.Dataset:
    return forecast[[n + suffix for n in names]].rename({n + suffix: n for n in names if suffix})


def _rom_scores(rom: ROM, truth: xr.Dataset, forecast: xr.Dataset) -> dict[str, Any]:
    names = list(rom.schema.field_names)
    mean, std = _part(forecast, names, ""), _part(forecast, names, "_std")
    lower, upper = _part(forecast, names, "_lower"), _part(forecast, names, "_upper")
    space = [d for d in truth.dims if d != TRAJECTORY]
    each = score.over_fields(score.coverage(truth, lower, upper, space))
    fifths = score.coverage_fifths(truth, lower, upper, min(5, truth.sizes[TIME]))
    error = {n: abs(truth[n] - mean[n]).mean() for n in names}
    return {
        **_errors(truth, mean),
        "coverage_90": float(each.mean()),
        "coverage_90_se": float(score.standard_error(each)),
        "coverage_90_fifths": fifths["coverage"].values.tolist(),
        "coverage_90_fifths_se": fifths["standard_error"].values.tolist(),
        "crps": float(score.over_fields(score.gaussian_crps(truth, mean, std)).mean()),
        "mean_absolute_error": float(np.mean([float(v) for v in error.values()])),
        "spread_skill": float(score.over_fields(score.spread_skill(truth, mean, std)).mean()),
        "spearman_trajectories": float(score.over_fields(score.spearman_over_trajectories(truth, mean, std)).mean()),
    }


def _rom_series(rom: ROM, truth: xr.Dataset, forecast: xr.Dataset) -> xr.Dataset:
    names = list(rom.schema.field_names)
    mean, std = _part(forecast, names, ""), _part(forecast, names, "_std")
    decoder, dynamics = _part(forecast, names, "_std_decoder"), _part(forecast, names, "_std_dynamics")
    space = [d for d in truth.dims if d not in (TRAJECTORY, TIME)]
    others = [TRAJECTORY, *space]
    each = score.over_fields(score.relative_l2(truth, mean, space), root_mean_square=True)
    inside = score.coverage(truth, _part(forecast, names, "_lower"), _part(forecast, names, "_upper"), others)

    def spread(part: xr.Dataset) -> xr.DataArray:
        return score.over_fields((part.astype(np.float64) ** 2).mean(others), False) ** 0.5

    series = xr.Dataset(
        {
            "rom_relative_l2": _over_time(truth, mean),
            "rom_relative_l2_low": each.quantile(0.1, TRAJECTORY).drop_vars("quantile"),
            "rom_relative_l2_high": each.quantile(0.9, TRAJECTORY).drop_vars("quantile"),
            "rom_coverage_90": score.over_fields(inside),
            "rom_crps": score.over_fields(score.gaussian_crps(truth, mean, std, others)),
            "rom_rmse": score.over_fields(score.rmse(truth, mean, others), root_mean_square=True),
            "rom_std": spread(std),
            "rom_std_decoder": spread(decoder),
            "rom_std_dynamics": spread(dynamics),
        }
    )
    series["coverage"] = ("level", _reliability(rom, truth, mean, std))
    return series.assign_coords(level=("level", np.array(LEVELS)))


def _reliability(rom: ROM, truth: xr.Dataset, mean: xr.Dataset, std: xr.Dataset) -> np.ndarray:
    """Empirical coverage of the calibrated intervals at each nominal level, mean over fields."""
    leads = torch.arange(1, truth.sizes[TIME] + 1)
    dims = (TRAJECTORY, TIME, ...)
    ratios = [(abs(truth[n] - mean[n]) / std[n]).transpose(*dims).values for n in rom.schema.field_names]
    result = np.empty(len(LEVELS))
    for k, level in enumerate(LEVELS):
        _, width = rom.calibration.at(leads, level)
        shape = (1, -1, *[1] * (ratios[0].ndim - 2))
        result[k] = np.mean([np.mean(r <= width[:, f].numpy().reshape(shape)) for f, r in enumerate(ratios)])
    return result


def _compression(rom: ROM, truth: xr.Dataset, test: xr.Dataset) -> float:
    restored = rom.decode(rom.encode(test)["latent_mean"])[list(rom.schema.field_names)]
    restored = restored.assign_coords({d: truth[d] for d in truth.dims})
    return _pooled(score.relative_l2(score.in_domain(truth, rom.mask), score.in_domain(restored, rom.mask)))


def _kl(rom: ROM, test: xr.Dataset) -> np.ndarray:
    x, _ = rom.normalised(test)
    flat = x.flatten(0, 1)
    return rom.vae.kl_per_dimension(flat[:: max(1, len(flat) // 1000)]).sort(descending=True).values.numpy()


def _data_card(rom: ROM, test: xr.Dataset, split: Mapping[str, int] | None) -> dict[str, Any]:
    schema = rom.schema
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
        "noise_floor": {
            f.name: rom.vae.decoder.floor * float(s) for f, s in zip(schema.fields, rom.normaliser.std, strict=True)
        },
    }


def _examples(rom: ROM, test: xr.Dataset, forecast: xr.Dataset) -> xr.Dataset:
    """Held-out trajectories from the best to the worst forecast, evenly by rank."""
    names = list(rom.schema.field_names)
    inside = (score.in_domain(each[names], rom.mask) for each in (test, forecast))
    each = score.over_fields(_snapshot_nrmse(*inside), root_mean_square=True)
    error = ((each**2).mean(TIME) ** 0.5).values
    order = np.argsort(error)
    rows = order[np.unique(np.linspace(0, len(order) - 1, min(EXAMPLES, len(order))).round().astype(int))]
    truth, guess = test.isel({TRAJECTORY: rows}), forecast.isel({TRAJECTORY: rows})
    kinds = {
        "mean": "",
        "std": "_std",
        "std_decoder": "_std_decoder",
        "std_dynamics": "_std_dynamics",
        "std_posterior": "_std_posterior",
        "std_ensemble": "_std_ensemble",
        "lower": "_lower",
        "upper": "_upper",
    }
    data = {f"truth_{n}": truth[n] for n in names}
    data |= {f"{kind}_{n}": guess[n + suffix] for n in names for kind, suffix in kinds.items()}
    examples = xr.Dataset(data).drop_vars("split", errors="ignore")
    examples["nrmse"] = (TRAJECTORY, error[rows])
    examples.attrs = {"level": 0.9, "boundary_conditions": test.attrs.get("boundary_conditions", "{}")}
    return examples
