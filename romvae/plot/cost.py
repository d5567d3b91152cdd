"""What accuracy costs: error against seconds for a solver, a ROM and baselines; and how runs differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from romvae.plot.style import BASELINE_STYLES, GREY, INK, RC, ROM, baseline_title, new_figure, plain

__all__ = ["Point", "cost_accuracy", "differences"]

Point = tuple[float, float]
"""Seconds per trajectory, and relative L2 error."""

_BELOW = 100.0  # how far below the most accurate model the axis goes on


@matplotlib.rc_context(RC)
def cost_accuracy(
    solver: Sequence[Point],
    rom: Mapping[str, Point],
    baselines: Mapping[str, Point],
    floor: float | None = None,
) -> Figure:
    """Relative L2 error over seconds per trajectory, both logarithmic: further left and further down is better.

    Arguments:
        solver: The runs of the solver that were tried.
        rom: Forecasts of the model by what they are called.
        baselines: Baselines by name.
        floor: Error of the reference itself: below it nothing can be told.
    """
    figure, (axes,) = new_figure(height=4.6)
    runs = np.array([each for each in solver if np.isfinite(each).all() and min(each) > 0], float).reshape(-1, 2)
    if len(runs):
        axes.plot(runs[:, 0], runs[:, 1], "o", color=GREY, ms=5, alpha=0.75, label="solver, other settings")
        front = _front(runs)
        axes.step(front[:, 0], front[:, 1], where="post", color=INK, lw=1.6, label="best the solver can do")
    for (name, (seconds, error)), marker in zip(rom.items(), ("*", "P", "X", "d"), strict=False):
        axes.plot(seconds, error, marker, color=ROM, ms=13 if marker == "*" else 9, mec="white", label=name)
    for k, (name, (seconds, error)) in enumerate(baselines.items()):
        colour, _, marker = BASELINE_STYLES[k % len(BASELINE_STYLES)]
        if min(seconds, error) > 0 and np.isfinite([seconds, error]).all():
            axes.plot(seconds, error, marker, color=colour, ms=7, mec="white", label=baseline_title(name))
    axes.set(xscale="log", yscale="log", xlabel="seconds per trajectory", ylabel="relative L2 error")
    axes.margins(0.08)
    shown = [error for _, error in (*rom.values(), *baselines.values()) if error > 0 and np.isfinite(error)]
    least = min(shown, default=0.0) / _BELOW
    if axes.get_ylim()[0] < least:  # a reference near round-off would leave no room for what is compared
        axes.set_ylim(bottom=least)
    if floor is not None and floor > 0 and axes.get_ylim()[0] < floor:
        axes.axhspan(axes.get_ylim()[0], floor, color=GREY, alpha=0.15, lw=0, label="below the reference's own error")
    _log_ticks(axes.yaxis, axes.get_ylim(), lambda value, _: f"{100 * value:g} %")
    _log_ticks(axes.xaxis, axes.get_xlim(), lambda value, _: f"{value:g}")
    figure.legend(loc="outside lower center", ncols=1 if rom else 2)
    return figure


@matplotlib.rc_context(RC)
def differences(rows: Mapping[str, tuple[float, float, float]], best: str) -> Figure:
    """Difference of each run's error to that of the best run, with its interval.

    Arguments:
        rows: Difference, lower and upper bound by name.
        best: Name of the best run, which the zero line stands for.
    """
    figure, (axes,) = new_figure(height=max(2.2, 1.2 + 0.42 * len(rows)))
    for k, (middle, low, high) in enumerate(rows.values()):
        spread = [[middle - low], [high - middle]] if np.isfinite([low, high]).all() else None
        axes.errorbar(middle, k, xerr=spread, fmt="o", color=ROM, ms=6, capsize=4, lw=1.6)
    axes.axvline(0, color=INK, lw=1.6)
    axes.set_yticks(range(len(rows)), [plain(name, 24) for name in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(f"error more than that of {plain(best, 24)}")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
    return figure


def _front(runs: np.ndarray) -> np.ndarray:
    """The runs that none other beats in both, cheapest first."""
    ordered = runs[np.lexsort((runs[:, 1], runs[:, 0]))]
    least = np.minimum.accumulate(ordered[:, 1])
    kept = np.r_[True, least[1:] < least[:-1]]
    return np.asarray(ordered[kept])


def _log_ticks(axis: Axis, limits: tuple[float, float], text: Callable[[float, float], str]) -> None:
    """Decades, and 2 and 5 between them where there are few."""
    few = limits[1] < 100 * limits[0]
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=8))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(text))
