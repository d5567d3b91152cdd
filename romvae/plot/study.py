"""A parameter study: quantities of interest against each parameter, with their intervals."""

from __future__ import annotations

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from romvae.canonical import parameters_of
from romvae.plot.style import BASELINE_STYLES, GREY, RC, ROM, with_units

__all__ = ["study_figure"]

_ROWS, _COLUMNS = 4, 3
_RASTER = 300


@matplotlib.rc_context(RC)
def study_figure(found: xr.Dataset) -> Figure:
    """Each quantity against each parameter that varies, with its interval; shaded where the model was trained.

    Four quantities and three parameters at most, the first ones; a study without parameters that vary is shown over
    its rollouts.

    Arguments:
        found: A study at one time: for each quantity `q` the variables `q`, `q_lower` and `q_upper` `(trajectory,)`,
            `out_of_range(trajectory)`, and parameters as coordinates with the attributes `trained_low` and
            `trained_high`.
    """
    names = [str(name)[: -len("_upper")] for name in found.data_vars if str(name).endswith("_upper")][:_ROWS]
    varying = [name for name in parameters_of(found) if np.ptp(found[name].values) > 0][:_COLUMNS]
    across = varying or ["trajectory"]
    figure = Figure(figsize=(1.2 + 3.4 * len(across), 0.9 + 2.3 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(names), len(across), squeeze=False, sharex="col", sharey="row")
    for row, name in zip(grid, names, strict=True):
        for axes, parameter in zip(row, across, strict=True):
            _panel(axes, found, name, parameter)
        row[0].set_ylabel(with_units(name.replace("_", " "), found[name].attrs.get("units")))
    for axes, parameter in zip(grid[-1], across, strict=True):
        axes.set_xlabel(with_units(parameter.replace("_", " "), found[parameter].attrs.get("units")))
    time = found["time"]
    title = f"at {with_units(f'time {float(time):.4g}', time.attrs.get('units'))}"
    level = f"{100 * float(found.attrs.get('level', 0.9)):g} %"
    figure.suptitle(f"Forecast and {level} interval {title}", fontsize=10)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _panel(axes: Axes, found: xr.Dataset, name: str, parameter: str) -> None:
    axes.grid(True)
    x, y = found[parameter].values.astype(float), found[name].values.astype(float)
    low, high = (found[f"{name}_{end}"].values.astype(float) for end in ("lower", "upper"))
    about = found[parameter].attrs
    if "trained_low" in about and about["trained_high"] > about["trained_low"]:
        axes.axvspan(about["trained_low"], about["trained_high"], color=GREY, alpha=0.10, lw=0, label="trained range")
    beyond = found["out_of_range"].values.astype(bool)
    many = len(x) > _RASTER  # thousands of bars as outlines would make a file of many megabytes
    for chosen, colour, marker, label in (
        (~beyond, ROM, "o", "rollout with interval"),
        (beyond, BASELINE_STYLES[0][0], "s", "outside of the trained range"),
    ):
        if not chosen.any():
            continue
        ends = np.stack([y - low, high - y])[:, chosen]
        ends = np.where(np.isfinite(ends), np.maximum(ends, 0), 0)  # an interval without end is no bar
        axes.errorbar(
            x[chosen],
            y[chosen],
            yerr=ends,
            fmt=marker,
            ms=2.0 if many else 3.5,
            lw=0.6 if many else 1.0,
            alpha=0.5 if many else 0.9,
            color=colour,
            label=label,
            rasterized=many,
        )
    if parameter != "trajectory" and x.min() > 0 and x.max() > 30 * x.min():
        axes.set_xscale("log")
