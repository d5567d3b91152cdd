"""Whether a forecast's distribution has the right shape, points at the errors, and keeps the right scales."""

from __future__ import annotations

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from romvae.plot.fields import short
from romvae.plot.style import (
    BASELINE_STYLES,
    DECODER,
    GREY,
    INK,
    RC,
    ROM,
    baseline_title,
    new_figure,
    plain,
    with_units,
)

__all__ = ["pit_histogram", "sparsification", "spectra"]

_PARTS = {2: "half", 3: "third", 4: "quarter", 5: "fifth"}


@matplotlib.rc_context(RC)
def pit_histogram(density: xr.DataArray, parts: xr.DataArray | None = None) -> Figure:
    """Where the truth falls in the forecast's distribution.

    Arguments:
        density: Density of the probability integral transform, shape (bin,), with the bins' centres between 0 and 1 as
            coordinate; 1 is flat.
        parts: The same of parts of the horizon, shape (part, bin); the first and the last are drawn as lines.
    """
    figure, (axes,) = new_figure(height=3.2)
    centres, values = density["bin"].values, density.values
    width = 1 / len(centres)
    axes.bar(centres, values, width=0.92 * width, color=ROM, alpha=0.85, label="held-out values")
    axes.axhline(1, color=GREY, ls="--", lw=1.6, label="as meant")
    if parts is not None and parts.sizes["part"] > 1:
        edges = np.append(centres - width / 2, 1.0)
        for row, (style, when) in zip((0, -1), (("-", "first"), (":", "last")), strict=True):
            label = f"{when} {_PARTS.get(parts.sizes['part'], 'part')} of the horizon"
            axes.stairs(parts.values[row], edges, baseline=None, color=INK, ls=style, lw=1.8, label=label)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set(xlim=(0, 1), xlabel="forecast probability of a smaller value", ylabel="share, 1 is even")
    axes.grid(False, axis="x")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@matplotlib.rc_context(RC)
def sparsification(curves: xr.DataArray) -> Figure:
    """Error of what is left when the values that the forecast is least sure of are taken out.

    Arguments:
        curves: As `romvae.metrics.sparsification` gives it, dims (order, fraction).
    """
    figure, (axes,) = new_figure(height=3.4)
    share = curves["fraction"].values
    known, best = (curves.sel(order=order).values for order in ("std", "error"))
    axes.fill_between(share, best, known, color=DECODER, alpha=0.14, lw=0)
    axes.axhline(1, color=GREY, ls="--", lw=1.6, label="at random")
    axes.plot(share, known, color=ROM, lw=2.4, label="least sure first")
    axes.plot(share, best, color=INK, ls=":", lw=1.8, label="worst first (best possible)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set(xlim=(0, share[-1]), xlabel="values taken out", ylabel="error of the rest")
    axes.set_ylim(0, max(1.1, 1.05 * float(np.nanmax(known))))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@matplotlib.rc_context(RC)
def spectra(series: xr.Dataset, field: str, units: str | None = None, model: str = "ROM") -> Figure:
    """Power over the wavenumber of truth and forecast at a few times.

    Arguments:
        series: `spectrum_truth_<field>` and `spectrum_rom_<field>`, dims (spectrum_time, wavenumber), and optionally
            `spectrum_baseline_<field>` of the baseline that the attribute `best_baseline` names.
        field: Name of the field.
        units: Of the wavenumber.
        model: What the model is called.
    """
    figure, (axes,) = new_figure(height=3.8)
    truth, rom = series[f"spectrum_truth_{field}"], series[f"spectrum_rom_{field}"]
    wave = truth["wavenumber"].values
    shown = wave > 0
    colours = [style[0] for style in BASELINE_STYLES]
    largest = float(truth.max())
    drawn = [(truth, "-", 0.55, "truth"), (rom, "--", 1.0, model)]
    if f"spectrum_baseline_{field}" in series:
        title = baseline_title(str(series.attrs.get("best_baseline", "best baseline")))
        drawn.append((series[f"spectrum_baseline_{field}"], ":", 1.0, title))
    moments = [f"t = {float(moment):.3g}" for moment in truth["spectrum_time"].values]
    for k in range(len(moments)):
        for array, dashes, alpha, _ in drawn:
            values = np.where(array.values[k] > 1e-14 * largest, array.values[k], np.nan)
            width = 3.2 if dashes == "-" else 1.6
            axes.plot(wave[shown], values[shown], dashes, color=colours[k % len(colours)], alpha=alpha, lw=width)
    axes.set(yscale="log", xlabel=with_units("wavenumber", units), ylabel=f"power of {plain(field)}")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    if wave[shown].size > 12:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(
        bottom=max(1e-12 * largest, 0.3 * float(np.nanmin(np.where(truth.values > 1e-12 * largest, truth, np.nan))))
    )
    by_what = [Line2D([], [], ls=dashes, color="0.35", alpha=alpha, label=what) for _, dashes, alpha, what in drawn]
    by_time = [Line2D([], [], lw=4, color=colours[k % len(colours)], label=text) for k, text in enumerate(moments)]
    figure.legend(handles=[*by_what, *by_time], loc="outside lower center", ncols=2)
    return figure
