"""A comparison made up from smooth random fields: all that a report needs, without training anything."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

LEVELS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
_NORMAL_90 = 1.6449


@dataclass
class FakeComparison:
    """The attributes that a report reads."""

    metrics: dict[str, Any]
    series: xr.Dataset
    examples: xr.Dataset
    info: dict[str, Any] = field(default_factory=dict)


def _smooth(rng: np.random.Generator, shape: tuple[int, ...], times: np.ndarray) -> np.ndarray:
    """Periodic waves that travel and decay, shape (time, *shape)."""
    grids = np.meshgrid(*(np.arange(size) / size for size in shape), indexing="ij")
    out = np.zeros((times.size, *shape))
    for _ in range(5):
        wave = rng.integers(1, 4, size=len(shape))
        phase = 2 * np.pi * sum(int(k) * grid for k, grid in zip(wave, grids, strict=True))
        speed, amplitude, shift = rng.normal(0, 2), rng.normal(0, 0.5), rng.uniform(0, 6.3)
        for index, t in enumerate(times):
            out[index] += amplitude * np.exp(-0.8 * t) * np.sin(phase - speed * t + shift)
    return out


def fake_comparison(
    shape: tuple[int, ...] = (64,),
    times: int = 41,
    examples: int = 4,
    fields: tuple[str, ...] = ("u",),
    loses: bool = False,
    seed: int = 0,
) -> FakeComparison:
    """A comparison on a grid of `shape` with `times` stored times.

    Its error is a smooth random field of known spread, so its intervals are about right.
    """
    rng = np.random.default_rng(seed)
    time = np.linspace(0.0, 1.0, times)
    names = ("z", "y", "x")[-len(shape) :]
    dims = ("trajectory", "time", *names)
    data: dict[str, Any] = {}
    for name in fields:
        truth = np.stack([_smooth(rng, shape, time) for _ in range(examples)])
        spread = (0.01 + 0.05 * time).reshape(1, -1, *(1,) * len(shape)) * (0.4 + np.abs(truth))
        noise = np.stack([_smooth(rng, shape, np.zeros(times)) for _ in range(examples)])
        mean = truth + spread * 1.4 * noise * rng.uniform(0.6, 1.6, (examples, *(1,) * (truth.ndim - 1)))
        decoder = np.minimum(spread, 0.012)
        data |= {
            f"truth_{name}": (dims, truth, {"units": "m s-1", "long_name": "velocity"}),
            f"mean_{name}": (dims, mean),
            f"std_{name}": (dims, spread),
            f"std_decoder_{name}": (dims, decoder),
            f"std_dynamics_{name}": (dims, np.sqrt(np.maximum(spread**2 - decoder**2, 0))),
            f"std_posterior_{name}": (dims, np.sqrt(0.7 * np.maximum(spread**2 - decoder**2, 0))),
            f"std_ensemble_{name}": (dims, np.sqrt(0.3 * np.maximum(spread**2 - decoder**2, 0))),
            f"lower_{name}": (dims, mean - _NORMAL_90 * spread),
            f"upper_{name}": (dims, mean + _NORMAL_90 * spread),
        }
    axes = {name: (name, np.arange(size) / size, {"units": "m"}) for name, size in zip(names, shape, strict=True)}
    dataset = xr.Dataset(
        data,
        coords={
            "trajectory": np.arange(100, 100 + examples),
            "time": ("time", time, {"units": "s"}),
            "viscosity": ("trajectory", rng.uniform(0.005, 0.05, examples), {"units": "m2 s-1"}),
            **axes,
        },
        attrs={
            "level": 0.9,
            "boundary_conditions": json.dumps({name: ["periodic", "periodic"] for name in names}),
        },
    )
    series = _series(rng, time, loses)
    metrics = _metrics(shape, names, loses)
    fifths = np.array_split(series["rom_coverage_90"].values, 5)
    metrics["rom"]["coverage_90_fifths"] = [float(each.mean()) for each in fifths if each.size]
    metrics["rom"]["coverage_90"] = float(series["rom_coverage_90"].mean())
    return FakeComparison(metrics, series, dataset, _info(rng))


def _series(rng: np.random.Generator, time: np.ndarray, loses: bool) -> xr.Dataset:
    rom = 0.006 + 0.045 * time**1.3
    curves = {
        "rom_relative_l2": rom,
        "rom_relative_l2_low": 0.5 * rom,
        "rom_relative_l2_high": 1.8 * rom,
        "rom_coverage_90": 0.9 + 0.03 * np.sin(5 * time) + rng.normal(0, 0.006, time.size),
        "rom_crps": 0.5 * rom,
        "rom_std": 0.5 * rom * (1.1 - 0.2 * time),
        "rom_rmse": 0.5 * rom,
        "baseline_persistence_relative_l2": 1.4 * time**0.6,
        "baseline_pod_linear_relative_l2": 0.05 + 0.22 * time**0.8,
    }
    if loses:
        curves["baseline_pod_interpolation_relative_l2"] = 0.001 + 0.0005 * time
    for name in [each for each in curves if each.endswith("_relative_l2")]:
        curves |= {f"{name}_ci_low": 0.9 * curves[name], f"{name}_ci_high": 1.1 * curves[name]}
    series = xr.Dataset({name: ("time", values) for name, values in curves.items()})
    series = series.assign_coords(time=("time", time, {"units": "s"}), level=("level", LEVELS))
    series["coverage"] = ("level", np.clip(LEVELS + 0.06 * LEVELS * (1 - LEVELS), 0, 1))
    series["kl_per_dimension"] = ("latent", np.sort(rng.gamma(2.0, 1.6, 16)) * (np.arange(16) > 2))
    return series


def _metrics(shape: tuple[int, ...], names: tuple[str, ...], loses: bool) -> dict[str, Any]:
    baselines = {
        "persistence": {"relative_l2": 0.83, "worst_relative_l2": 1.61, "worst_nrmse": 1.61, "vrmse": 0.84},
        "pod_linear": {"relative_l2": 0.172, "worst_relative_l2": 0.47, "worst_nrmse": 0.47, "vrmse": 0.176},
    }
    if loses:
        baselines["pod_interpolation"] = {
            "relative_l2": 0.0012,
            "worst_relative_l2": 0.0031,
            "worst_nrmse": 0.0031,
            "vrmse": 0.0013,
        }
    best = "pod_interpolation" if loses else "pod_linear"
    for scores in baselines.values():
        scores["intervals"] = {name: [0.9 * scores[name], 1.2 * scores[name]] for name in ("relative_l2", "vrmse")}
        scores |= {"rollout_seconds": 0.002, "fit_seconds": 1.5}
    return {
        "significance": {
            "best": best,
            "difference": baselines[best]["relative_l2"] - 0.0321,
            "p_value": 0.0004,
            "better_on": 1 if loses else 31,
            "trajectories": 32,
        },
        "cost": _cost(loses),
        "rom": {
            "intervals": {"relative_l2": [0.028, 0.037], "vrmse": [0.029, 0.038], "coverage_90": [0.87, 0.92]},
            "confidence": 0.95,
            "reference_error": 2e-4,
            "relative_l2": 0.0321,
            "worst_relative_l2": 0.124,
            "worst_nrmse": 0.124,
            "vrmse": 0.033,
            "crps": 0.0071,
            "compression_relative_l2": 0.0061,
            "coverage_90_se": 0.012,
            "trust": {
                "level": 0.9,
                "calibration_runs": 32,
                "tolerances": [
                    {
                        "tolerance": tolerance,
                        "kept": kept,
                        "expected_low": 0.78,
                        "expected_high": 1.0,
                        "trusted_to_the_end": end,
                        "median_horizon": median,
                        "median_possible": possible,
                    }
                    for tolerance, kept, end, median, possible in (
                        (0.05, 0.91, 0.0, 0.21, 0.33),
                        (0.1, 0.94, 0.25, 0.62, 0.8),
                        (0.2, 0.97, 0.8, 1.0, 1.0),
                    )
                ],
            },
            "coverage_90_fifths_se": [0.009, 0.011, 0.013, 0.016, 0.02],
        },
        "baselines": baselines,
        "seconds": {
            "simulate": 14.2,
            "vae": 96.0,
            "variance": 11.0,
            "dynamics": 71.5,
            "calibration": 2.3,
            "rollout": 0.052,
            "solver": 0.21,
            "report": 6.0,
            "total": 203.0,
        },
        "data": {
            "split": {"train": 160, "variance": 32, "calibration": 32, "test": 32},
            "parameters": {"viscosity": {"low": 0.005, "high": 0.05, "units": "m2 s-1"}},
            "horizon": 1.0,
            "time_units": "s",
            "shape": dict(zip(names, shape, strict=True)),
        },
    }


def _cost(loses: bool) -> dict[str, Any]:
    """A ROM that is faster than the solver at equal accuracy, or slower."""
    factor = 0.4 if loses else 1.0
    tried = (
        ({}, 1, 3e-8, 0.21),
        ({"resolution": 32}, 1, 0.19, 0.01),
        ({"resolution": 64}, 1, 0.02, 0.05),
        ({"resolution": 64, "step": 0.02}, 2, 0.03, 0.03),
        ({"resolution": 64, "step": 0.04}, 4, None, None),
    )
    names = ("settings", "every", "error", "seconds", "seconds_batch")
    sweep = [dict(zip(names, (*run, run[-1]), strict=True)) for run in tried]
    rom = {
        kind: {
            "relative_l2": 0.0321,
            "members": members,
            "batch": 64,
            "seconds": 0.02 * members**0.5,
            "seconds_batch": 0.002 * members,
            "over_decoder": 1.7,
            "solver": sweep[3],
            "solver_batch": sweep[3],
            "speed_up": factor * 1.5 / members**0.5,
            "speed_up_batch": factor * 15 / members,
        }
        for kind, members in (("mean", 1), ("ensemble", 32))
    }
    paid = {"training_seconds": 180.0, "data_seconds": 54.0, "simulated": 256, "break_even_mean_batch": 8400}
    return {
        "threads": 1,
        "batch": 64,
        "members": 32,
        "rom": rom,
        "solver": {"complete": True, "reproduces_data_to": 3e-8, "sweep": sweep},
        "pay_off": paid,
    }


def _info(rng: np.random.Generator) -> dict[str, Any]:
    step = np.arange(0, 3000, 25)
    loss = 4.0 * np.exp(-step / 400) - 3.2 + 0.08 * rng.normal(size=step.size)
    return {
        "title": "Burgers 1-D: reduced-order model against solver and baselines",
        "case": "Viscous Burgers equation on a periodic interval, random initial fields.",
        "configuration": {
            "seed": 0,
            "vae": {"latent": 16, "width": 48},
            "dynamics": {"kind": "residual", "members": 4},
        },
        "environment": {"romvae": "0.1.0", "python": "3.11.2", "torch": "2.13.0+cpu", "threads": 2},
        "history": {
            "vae": {"step": step.tolist(), "loss": loss.tolist()},
            "dynamics": {"step": step.tolist(), "loss": (0.9 * np.exp(-step / 700) + 0.003).tolist()},
        },
    }


def fake_ranking(name: str = "small") -> FakeComparison:
    """Three runs, the second not clearly worse than the first; one of them is called `name`."""
    time = np.linspace(0.1, 1.0, 10)
    runs = [
        {
            "name": each,
            "relative_l2": error,
            "interval": [0.9 * error, 1.1 * error],
            "vrmse": 1.02 * error,
            "coverage_90": 0.9,
            "latent": 8,
            "seconds_batch": seconds,
            "speed_up_batch": 0.05 / seconds,
            "training_seconds": 90.0,
        }
        for each, error, seconds in (("large", 0.02, 0.02), ("middle", 0.021, 0.01), (name, 0.05, 0.002))
    ]
    for run, low, p in zip(runs[1:], (-0.001, 0.02), (0.3, 0.001), strict=True):
        gap = run["relative_l2"] - 0.02
        run["against_best"] = {"difference": gap, "low": low, "high": 1.6 * gap, "p_value": p, "words": f"p = {p}"}
    errors = np.stack([run["relative_l2"] * (0.5 + time) for run in runs])
    series = xr.Dataset(
        {"relative_l2": (("run", "time"), errors), "low": (("run", "time"), 0.9 * errors)},
        coords={"run": [run["name"] for run in runs], "time": ("time", time, {"units": "s"})},
    )
    series["high"] = 1.1 * series["relative_l2"]
    metrics = {
        "case": "burgers_1d",
        "runs": runs,
        "baseline": {"name": "pod_linear", "relative_l2": 0.2},
        "trajectories": 32,
        "confidence": 0.95,
    }
    info = {run["name"]: {"model": {"latent": 8, "channels": 16 + k}} for k, run in enumerate(runs)}
    return FakeComparison(metrics, series, xr.Dataset(), info)
