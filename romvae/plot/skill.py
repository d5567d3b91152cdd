"""How wrong and how sure a forecast is: error, coverage, reliability and spread over lead time."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

from romvae.plot.style import (
    BASELINE_STYLES,
    DECODER,
    DYNAMICS,
    GREY,
    INK,
    RC,
    ROM,
    baseline_title,
    new_figure,
    plain,
    with_units,
)
from romvae.schema import TIME

__all__ = ["coverage_over_time", "error_of_runs", "error_over_time", "reliability", "scores_over_time", "spread_skill"]

_PREFIX, _SUFFIX = "baseline_", "_relative_l2"
_LEGEND = 54
"""Letters side by side that two columns of a legend have room for."""


@matplotlib.rc_context(RC)
def error_over_time(series: xr.Dataset, model: str = "ROM") -> Figure:
    """Relative L2 error of the model and of every baseline over lead time.

    The axis is logarithmic where the errors span more than a factor of twenty; an error of exactly zero
    (persistence at the start) is then left out.

    Arguments:
        series: `rom_relative_l2(time)`, optionally `rom_relative_l2_low` and `_high` (a band over
            trajectories), and one `baseline_<name>_relative_l2(time)` per baseline; each optionally with the
            bounds of its confidence interval, `..._ci_low` and `..._ci_high`.
        model: What the model is called.
    """
    figure, (axes,) = new_figure(height=3.6)
    time = _lead(series)
    curves = {
        baseline_title(str(name)[len(_PREFIX) : -len(_SUFFIX)]): series[name].values
        for name in series.data_vars
        if str(name).startswith(_PREFIX) and str(name).endswith(_SUFFIX)
    }
    keys = [str(name) for name in series.data_vars if str(name).startswith(_PREFIX) and str(name).endswith(_SUFFIX)]
    for key, (title, values), (colour, dashes, marker) in zip(keys, curves.items(), _styles(len(curves)), strict=True):
        _band(axes, series, f"{key}_ci", colour, 0.15)
        axes.plot(
            time,
            _positive(values),
            dashes,
            color=colour,
            marker=marker,
            markevery=_every(time),
            ms=4,
            label=title,
        )
    rom = series["rom_relative_l2"].values
    whose = "ROM," if model == "ROM" else "its"  # longer names would not fit beside the others
    if "rom_relative_l2_low" in series and "rom_relative_l2_high" in series:
        low, high = series["rom_relative_l2_low"].values, series["rom_relative_l2_high"].values
        axes.fill_between(
            time,
            _positive(low),
            _positive(high),
            color=ROM,
            alpha=0.14,
            lw=0,
            label=f"{whose} 10 to 90 % of trajectories",
        )
    _band(axes, series, "rom_relative_l2_ci", ROM, 0.35, f"{whose} 95 % confidence")
    axes.plot(time, _positive(rom), color=ROM, lw=2.6, label=model)
    everything = np.concatenate([_positive(each) for each in (rom, *curves.values())])
    _error_axis(axes, everything)
    axes.set(xlabel=_lead_label(series), ylabel="relative L2 error")
    axes.margins(x=0)
    # The last curve drawn is the model's: it belongs at the head of the legend.
    handles, labels = axes.get_legend_handles_labels()
    half = -(-len(labels) // 2)  # a legend fills the first column first
    wide = sum(max(map(len, part), default=0) for part in (labels[::-1][:half], labels[::-1][half:]))
    columns = 2 if wide <= _LEGEND else 1
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=columns)
    return figure


@matplotlib.rc_context(RC)
def error_of_runs(series: xr.Dataset) -> Figure:
    """Relative L2 error of several runs over lead time.

    Arguments:
        series: `relative_l2(run, time)` and its bounds `low` and `high`, with the runs' names as coordinate.
    """
    figure, (axes,) = new_figure(height=3.6)
    time = _lead(series)
    styles = [(ROM, "-", ""), *_styles(series.sizes["run"] - 1)]
    for (colour, dashes, marker), name in zip(styles, series["run"].values, strict=True):
        one = series.sel(run=name)
        _band(axes, one, "", colour, 0.18)
        curve = _positive(one["relative_l2"].values)
        axes.plot(time, curve, dashes, color=colour, marker=marker, markevery=_every(time), ms=4, label=plain(name, 28))
    _error_axis(axes, np.concatenate([_positive(row) for row in series["relative_l2"].values]))
    axes.set(xlabel=_lead_label(series), ylabel="relative L2 error")
    axes.margins(x=0)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@matplotlib.rc_context(RC)
def coverage_over_time(
    series: xr.Dataset, fifths: Sequence[float] = (), errors: Sequence[float] = (), level: float = 0.9
) -> Figure:
    """Share of held-out values inside the interval over lead time, with the line it should follow.

    Arguments:
        series: `rom_coverage_90(time)`.
        fifths: Coverage in each fifth of the horizon.
        errors: Standard error over trajectories of each of them.
        level: Nominal coverage.
    """
    figure, (axes,) = new_figure()
    time, coverage = _lead(series), series["rom_coverage_90"].values
    axes.plot(time, coverage, color=ROM, lw=1.4, label="every lead time")
    lowest = coverage
    if len(fifths):
        edges = np.linspace(time[0], time[-1], len(fifths) + 1)
        centres, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * np.diff(edges)
        spread = np.asarray(errors, float) if len(errors) == len(fifths) else np.zeros(len(fifths))
        axes.hlines(fifths, centres - half, centres + half, color=INK, lw=2.2)
        axes.errorbar(centres, fifths, yerr=spread, fmt="o", color=INK, ms=5, capsize=4, label="fifth ± standard error")
        lowest = np.concatenate([coverage, np.asarray(fifths) - spread])
    axes.axhline(level, color=GREY, ls="--", lw=1.6, label=f"meant: {level:.0%}".replace("%", " %"))
    finite = lowest[np.isfinite(lowest)]
    axes.set_ylim(max(0.0, min(0.7, float(finite.min()) - 0.05)) if finite.size else 0.0, 1.01)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set(xlabel=_lead_label(series), ylabel="values inside the interval")
    axes.margins(x=0.01)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@matplotlib.rc_context(RC)
def reliability(coverage: xr.DataArray, model: str = "ROM") -> Figure:
    """Nominal against empirical coverage, for intervals of every level.

    Arguments:
        coverage: Share of held-out values inside the central interval, shape (level,), with the nominal
            level between 0 and 1 as coordinate.
        model: What the model is called.
    """
    figure, (axes,) = new_figure(height=4.0)
    level, found = coverage["level"].values, coverage.values
    axes.fill_between([0, 1], [0, 1], [0, 0], color=DECODER, alpha=0.12, lw=0)
    axes.fill_between([0, 1], [0, 1], [1, 1], color=DYNAMICS, alpha=0.14, lw=0)
    axes.plot([0, 1], [0, 1], ls="--", color=GREY, lw=1.6, label="as meant")
    axes.plot(level, found, color=ROM, marker="o", ms=5, label=model)
    axes.text(0.96, 0.05, "intervals too narrow\n(overconfident)", ha="right", va="bottom", fontsize=9)
    axes.text(0.04, 0.95, "intervals too wide\n(cautious)", ha="left", va="top", fontsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
        xlabel="interval is meant to hold",
        ylabel="interval really holds",
    )
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@matplotlib.rc_context(RC)
def spread_skill(parts: xr.Dataset) -> Figure:
    """Forecast spread, split into its two parts, beside the error actually made.

    Arguments:
        parts: Root mean squares over trajectories and points, each of shape (time,): `rmse` of the mean
            forecast, `std` of the forecast, and optionally its parts `std_decoder` and `std_dynamics` and the latter's
            parts `std_posterior` and `std_ensemble`.
            Attribute `units` of `rmse` names the unit.
    """
    figure, (axes,) = new_figure(height=3.6)
    time = _lead(parts)
    if "std_decoder" in parts:
        axes.plot(time, parts["std_decoder"], color=DECODER, ls="-.", label="decoder noise (code too small)")
    if "std_dynamics" in parts:
        axes.plot(time, parts["std_dynamics"], color=DYNAMICS, ls="--", label="dynamics spread (forecast unsure)")
    if "std_posterior" in parts:
        axes.plot(time, parts["std_posterior"], color="#009e73", ls=":", label="dynamics: initial field unsure")
    if "std_ensemble" in parts:
        axes.plot(time, parts["std_ensemble"], color="#cc79a7", ls=":", lw=2.2, label="dynamics: networks disagree")
    axes.plot(time, parts["std"], color=ROM, lw=2.4, label="total predicted std")
    axes.plot(
        time,
        parts["rmse"],
        color=INK,
        lw=1.8,
        marker="o",
        ms=4,
        markevery=_every(time),
        label="error actually made",
    )
    axes.set(xlabel=_lead_label(parts), ylabel=with_units("RMS over points", parts["rmse"].attrs.get("units")))
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=1)
    return figure


@matplotlib.rc_context(RC)
def scores_over_time(series: xr.Dataset, units: str | None = None) -> Figure:
    """CRPS of the whole forecast, and the scores of its members alone, over lead time.

    Arguments:
        series: `rom_crps`, `rom_ensemble_crps` and `rom_energy_score`, each `(time,)`.
        units: Of the field; None where several fields are averaged.
    """
    figure, (axes,) = new_figure(height=3.6)
    time = _lead(series)
    for name, colour, dashes, label in (
        ("rom_energy_score", DYNAMICS, "-.", "members: energy score of whole fields"),
        ("rom_ensemble_crps", DECODER, "--", "members: CRPS"),
        ("rom_crps", ROM, "-", "whole forecast: CRPS of a Gaussian"),
    ):
        axes.plot(time, series[name], dashes, color=colour, label=label)
    axes.set(xlabel=_lead_label(series), ylabel=with_units("score", units))
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=1)
    return figure


def _band(axes: Axes, series: xr.Dataset, name: str, colour: str, alpha: float, label: str | None = None) -> None:
    """Shades between `<name>_low` and `<name>_high`, where both are known."""
    ends = [f"{name}_{end}".removeprefix("_") for end in ("low", "high")]
    if not all(end in series for end in ends):
        return
    low, high = (_positive(series[end].values) for end in ends)
    if np.isfinite(low).any() and np.isfinite(high).any():
        axes.fill_between(_lead(series), low, high, color=colour, alpha=alpha, lw=0, label=label)


def _lead(series: xr.Dataset) -> np.ndarray:
    """Lead time, from the coordinate where there is one."""
    return np.asarray(series[TIME].values if TIME in series.coords else np.arange(series.sizes[TIME]), float)


def _lead_label(series: xr.Dataset) -> str:
    units = series[TIME].attrs.get("units") if TIME in series.coords else "step"
    return with_units("lead time", units)


def _positive(values: np.ndarray) -> np.ndarray:
    """The values as float64, with NaN in place of what a logarithmic axis cannot show."""
    values = np.asarray(values, dtype=float)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _styles(count: int) -> list[tuple[str, str, str]]:
    return [BASELINE_STYLES[index % len(BASELINE_STYLES)] for index in range(count)]


def _every(time: np.ndarray) -> int:
    """Markers at about ten places along a curve."""
    return max(1, time.size // 10)


def _error_axis(axes: Axes, values: np.ndarray) -> None:
    """Logarithmic where the values span more than a factor of twenty; labels in per cent."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.max() > 20 * finite.min():
        axes.set_yscale("log")
        decades = np.log10(finite.max() / finite.min())
        subs = (1.0,) if decades > 3 else (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
