"""Charts over lead time and of the model's inside, each with a caption that says how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr

from romvae import plot
from romvae.plot.style import plain, units_text
from romvae.report.chosen import is_baseline, model_title, subject
from romvae.report.forecasts import field_names
from romvae.report.picture import Picture, as_picture
from romvae.report.reading import lookup, number, percent
from romvae.schema import TIME

__all__ = ["error_charts", "model_charts", "uncertainty_charts"]

# Seconds that are no stage of their own: two are per trajectory, one is the sum.
_NO_STAGE: Final = ("rollout", "solver", "total")
_PARTS: Final = (
    "The two parts add as variances: decoder noise is what the latent code cannot represent, dynamics spread is what "
    "the forecast of the code does not know: what the initial field leaves open, and where the networks disagree. "
)
_SPREAD_SERIES: Final = {
    "rmse": "rom_rmse",
    "std": "rom_std",
    "std_decoder": "rom_std_decoder",
    "std_dynamics": "rom_std_dynamics",
    "std_posterior": "rom_std_posterior",
    "std_ensemble": "rom_std_ensemble",
}


def error_charts(metrics: Mapping[str, Any], series: xr.Dataset) -> list[Picture]:
    """Error over lead time; nothing where it was not measured."""
    if "rom_relative_l2" not in series:
        return []
    values, name, who = series["rom_relative_l2"].values, model_title(metrics), subject(metrics)
    start = "" if is_baseline(metrics) else " At the start the ROM pays for little more than compression."
    return [
        as_picture(
            plot.error_over_time(series, name),
            f"{name} against the baselines",
            f"Thick blue line: {who} over all held-out trajectories. The wide pale band holds the middle 80 "
            "% of them, the narrow bands are 95 % confidence intervals of the lines: where two of those overlap "
            "widely, other trajectories might turn the order round. Lower is better. A baseline below the blue line "
            f"does better than {who} at that lead time.{start}",
            f"Line chart of relative L2 error over lead time for {who} and the baselines. Its "
            f"error goes from {percent(float(values[0]))} to {percent(float(values[-1]))}.",
        )
    ]


def uncertainty_charts(metrics: Mapping[str, Any], series: xr.Dataset, examples: xr.Dataset) -> list[Picture]:
    """Spread against error, coverage and reliability; a part that was not measured is left out."""
    pictures = [_spread_chart(metrics, series, examples, field) for field in field_names(examples)]
    rom = lookup(metrics, "rom")
    if "rom_coverage_90" in series:
        fifths, errors = (_numbers(rom.get(key)) for key in ("coverage_90_fifths", "coverage_90_fifths_se"))
        pictures.append(
            as_picture(
                plot.coverage_over_time(series, fifths, errors),
                "Do the 90 % intervals hold what they promise?",
                "The line should stay near the dashed 90 %. Below it the intervals are too narrow, above too "
                "wide. Bars are means over fifths of the horizon; whiskers are one standard error over "
                "trajectories, so a distance of one or two whiskers may be chance.",
                "Coverage of the 90 % interval over lead time; fifths: "
                f"{', '.join(percent(each) for each in fifths) or 'not given'}.",
            )
        )
    if "coverage" in series and "level" in series.coords:
        pictures.append(
            as_picture(
                plot.reliability(series["coverage"], model_title(metrics)),
                "Are intervals of every size right?",
                "For each interval size (across) the share of held-out values that really fell inside "
                "(up). A calibrated model follows the dashed diagonal.",
                "Reliability curve: nominal against empirical coverage.",
            )
        )
    return pictures + _score_charts(series, examples) + _shape_charts(metrics, series, examples)


def _score_charts(series: xr.Dataset, examples: xr.Dataset) -> list[Picture]:
    """Scores of the members beside that of the whole forecast; nothing where there are no members, as of a baseline."""
    if not {"rom_crps", "rom_ensemble_crps", "rom_energy_score"} <= set(series.data_vars):
        return []
    fields = field_names(examples)
    units = examples[f"truth_{fields[0]}"].attrs.get("units") if len(fields) == 1 else None
    return [
        as_picture(
            plot.scores_over_time(series, units),
            "What the members are worth alone",
            "Lower is better. Members are fields that could be, as far as the initial field and the networks leave "
            "them open; the decoder's own spread is not in them, and is in the blue line. Where the dashed line is "
            "higher, that spread is needed to say how wrong the forecast may be. The energy score takes each field "
            "as one object, so that wrong dependence between its points counts too."
            + ("" if len(fields) == 1 else " Means over the fields."),
            "Line chart over lead time of the CRPS of the forecast, and of CRPS and energy score of its members.",
        )
    ]


def _shape_charts(metrics: Mapping[str, Any], series: xr.Dataset, examples: xr.Dataset) -> list[Picture]:
    """Shape of the distribution, what the standard deviation points at, and spectra, where they were measured."""
    pictures = []
    if "pit" in series:
        parts = series.get("pit_parts")
        told = "" if parts is None or len(parts) < 2 else " Lines: the beginning and the end of the horizon."
        pictures.append(
            as_picture(
                plot.pit_histogram(series["pit"], parts),
                "Has the forecast's distribution the right shape?",
                "For each held-out value, the probability that the forecast gave to smaller ones. Even bars are "
                "right; tall outer bars: too narrow; a hump in the middle: too wide; a slope: a bias. Errors of "
                "simulations have a sharper peak and longer tails than a Gaussian: intervals are corrected for that."
                + told,
                "Histogram of the probability integral transform over ten bins: "
                + ", ".join(f"{number(each):.2f}" for each in series["pit"].values),
            )
        )
    if "sparsification" in series:
        area = number(metrics, "rom", "ause")
        told = f" Area between the curves, with random as 1: {area:.2f}." if np.isfinite(area) else ""
        pictures.append(
            as_picture(
                plot.sparsification(series["sparsification"]),
                "Does it know where it is wrong?",
                "Error of the rest when values are taken out, those first that "
                f"{subject(metrics)} is least sure of. The "
                "faster the blue line falls, the better its standard deviation points at the errors; the dotted line "
                "takes out the largest errors themselves." + told,
                "Line chart of the error that is left over the share of values taken out.",
            )
        )
    for field in field_names(examples):
        if f"spectrum_truth_{field}" in series:
            axis = next((d for d in ("x", "y", "z") if d in examples.coords), None)
            length = units_text(examples[axis].attrs.get("units")) if axis else ""
            pictures.append(
                as_picture(
                    plot.spectra(series, field, f"1/{length}" if length else None, model_title(metrics)),
                    f"Has {plain(field)} the right scales?",
                    "Power over the wavenumber, mean over the held-out trajectories: solid the truth, dashed the "
                    f"mean of {subject(metrics)}, dotted the best baseline, one colour for each time. A line that "
                    "falls below the solid one on the right has lost the small scales.",
                    f"Power spectra of {plain(field)}, truth and forecast mean, at a few times.",
                )
            )
    return pictures


def _spread_chart(metrics: Mapping[str, Any], series: xr.Dataset, examples: xr.Dataset, field: str) -> Picture:
    who = subject(metrics)
    parts = _spread_parts(series, examples, field)
    split = "std_decoder" in parts  # a baseline's spread has no parts
    return as_picture(
        plot.spread_skill(parts),
        f"Where the uncertainty of {plain(field)} comes from",
        f"The blue line (how large {who} says its error will be) should lie on the black one (the error "
        f"it made): above it, {who} is too cautious; below, overconfident. {_PARTS if split else ''}Root mean square "
        f"over the points of {parts.attrs['scope']}.",
        f"Line chart over lead time of the predicted standard deviation of {plain(field)}, "
        f"{'its two parts, ' if split else ''}and the error made.",
    )


def model_charts(metrics: Mapping[str, Any], series: xr.Dataset, info: Mapping[str, Any]) -> list[Picture]:
    """Figures of the page's section `inside the model`."""
    pictures = []
    if "kl_per_dimension" in series and np.isfinite(series["kl_per_dimension"].values).any():
        kl = series["kl_per_dimension"]
        pictures.append(
            as_picture(
                plot.kl_per_dimension(kl),
                "What the latent dimensions carry",
                "Information per latent dimension. Grey bars carry next to nothing: with many of them a "
                "smaller code would do; with none, a larger one may compress better.",
                f"Bar chart of the KL divergence of {kl.size} latent dimensions.",
            )
        )
    history = {
        name: curves
        for name, curves in lookup(info, "history").items()
        if isinstance(curves, Mapping) and any(len(_numbers(each)) > 1 for each in curves.values())
    }
    if history:
        pictures.append(
            as_picture(
                plot.training_curves(history),
                "Training",
                "Loss of each training stage; the losses mean different things and cannot be compared "
                "with each other. A curve still falling at its end would gain from more steps.",
                f"Training loss over optimiser steps of {', '.join(plain(name) for name in history)}.",
            )
        )
    stages = {
        name: float(value)
        for name, value in lookup(metrics, "seconds").items()
        if name not in _NO_STAGE and np.isfinite(number(value))
    }
    if stages:
        pictures.append(
            as_picture(
                plot.stage_seconds(stages),
                "Where the time went",
                "Wall-clock time per stage on the machine named at the end of this page.",
                "Bar chart of seconds per stage: " + ", ".join(f"{plain(k)} {v:.3g} s" for k, v in stages.items()),
            )
        )
    return pictures


def _spread_parts(series: xr.Dataset, examples: xr.Dataset, field: str) -> xr.Dataset:
    """Root mean squares over lead time: over all held-out trajectories or the examples.

    The series are means over fields, which say little about one field of several: then the examples serve.
    """
    truth = examples[f"truth_{field}"]
    units = {"units": truth.attrs.get("units", "1")}
    known = {name: series[key] for name, key in _SPREAD_SERIES.items() if key in series}
    if len(field_names(examples)) == 1 and {"rmse", "std"} <= known.keys():
        parts, scope = xr.Dataset(known), "all held-out trajectories"
    else:
        arrays = {
            "rmse": examples[f"mean_{field}"] - truth,
            "std": examples[f"std_{field}"],
            "std_decoder": examples.get(f"std_decoder_{field}"),
            "std_dynamics": examples.get(f"std_dynamics_{field}"),
            "std_posterior": examples.get(f"std_posterior_{field}"),
            "std_ensemble": examples.get(f"std_ensemble_{field}"),
        }
        others = [name for name in truth.dims if name != TIME]
        present = {name: array.astype(float) for name, array in arrays.items() if array is not None}
        parts = xr.Dataset({name: np.sqrt((array**2).mean(others)) for name, array in present.items()})
        scope = "the example trajectories"
    parts["rmse"] = parts["rmse"].assign_attrs(units)
    return parts.assign_attrs(scope=scope)


def _numbers(values: Any) -> list[float]:
    return [] if values is None else [number(each) for each in values]
