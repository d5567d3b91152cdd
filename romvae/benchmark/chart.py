"""The picture of the benchmark's page: error against cost, a panel per problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from romvae.benchmark.ahead import OWN
from romvae.benchmark.result import Result, value_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from romvae.benchmark.page import Group

__all__ = ["accuracy_cost", "points_of", "solver_front", "solver_points"]

COLUMNS, WIDTH, HEIGHT, DPI = 4, 2.9, 2.4, 100
GREY = "#555555"
_BELOW = 0.3
"""How far below the best method, as a factor, the line of the solver goes on."""
MEAN = f"{OWN}, mean alone"
# Okabe and Ito (2008): told apart with any colour vision; the mark tells them apart in print too.
_LOOK = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"), ("#e69f00", "v"), ("#56b4e9", "P"))
_MORE = (("#000000", "X"), ("#999999", "<"), ("#8c6d31", ">"), ("#5e3c99", "*"), ("#a50026", "h"), ("#1b7837", "d"))


@dataclass(frozen=True)
class Look:
    """How the points of a method are drawn.

    Arguments:
        colour: As matplotlib takes it.
        mark: Likewise.
        hollow: Whether the mark is drawn as an outline.
    """

    colour: str
    mark: str
    hollow: bool = False

    @property
    def style(self) -> dict[str, Any]:
        """Arguments of `Axes.plot`."""
        return {
            "marker": self.mark,
            "color": self.colour,
            "markerfacecolor": "none" if self.hollow else self.colour,
        }


def points_of(results: Sequence[Result]) -> dict[str, tuple[float, float]]:
    """Process seconds of a rollout per trajectory and its relative L2 error by method, geometric means over seeds.

    Errors are over all test trajectories. That of romvae is of the mean over members, so that its seconds are those of
    all of them, where they were measured; beside it stands the rollout of the mean code, which has no spread, with its
    own error over those trajectories on which the costs were measured.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for result in results:
        timed = value_at(result.content, "metrics.cost.rom") or {}
        mean = timed.get("mean") or {}
        own = timed.get("ensemble") or mean
        pairs = {OWN: (own.get("seconds_batch"), value_at(result.content, "metrics.rom.relative_l2"))}
        if own is not mean:
            pairs[MEAN] = (mean.get("seconds_batch"), mean.get("relative_l2"))
        for name, each in result.content["metrics"]["baselines"].items():
            pairs[name] = (each.get("rollout_seconds"), each.get("relative_l2"))
        for name, (seconds, error) in pairs.items():
            if seconds and error:
                found.setdefault(name, []).append((seconds, error))
    return {name: tuple(np.exp(np.log(np.array(each)).mean(0)).tolist()) for name, each in found.items()}


def solver_points(results: Sequence[Result]) -> list[tuple[float, float]]:
    """The same of the settings of the solver that were timed so, from the cheapest; no reference is exact.

    Where a solver computes a batch together, those that are less accurate than romvae were not: earlier results give
    them the time of one run.
    """
    pairs = []
    for solver in (value_at(result.content, "metrics.cost.solver") or {} for result in results):
        for run in solver.get("sweep") or []:
            timed = not solver.get("batched") or run["seconds_batch"] != run.get("seconds")
            if timed and run["seconds_batch"] and run["error"]:
                pairs.append((run["seconds_batch"], run["error"]))
    return sorted(pairs)


def solver_front(results: Sequence[Result], least: float) -> list[tuple[float, float]]:
    """Of `solver_points` those that no other one beats, from the cheapest, with errors of at least `least`."""
    front: list[tuple[float, float]] = []
    for seconds, error in solver_points(results):
        if error >= least and (not front or error < front[-1][1]):
            front.append((seconds, error))
    return front


def accuracy_cost(groups: Sequence[Group], path: Path) -> None:
    """Draws the panels into a PNG file.

    Arguments:
        groups: Problems with their results.
        path: The file.
    """
    points = [(problem.name, points_of(results), results) for problem, results in groups]
    names = [name for name in dict.fromkeys(name for _, each, _ in points for name in each) if name != MEAN]
    looks = {name: Look(*(*_LOOK, *_MORE)[k % 12]) for k, name in enumerate(names)}
    if OWN in looks:
        looks = {OWN: looks[OWN], MEAN: replace(looks[OWN], hollow=True)} | looks
    rows = -(-len(points) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * WIDTH, rows * HEIGHT + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, (title, each, results) in zip(panels, points, strict=False):
        _panel(axes, title, each, results, looks)
    for axes in panels[len(points) :]:
        axes.set_axis_off()
    handles = [
        figure.axes[0].plot([], [], linestyle="none", label=name.replace("_", " "), **look.style)[0]
        for name, look in looks.items()
    ]
    handles.append(figure.axes[0].plot([], [], "x-", color=GREY, linewidth=0.8, label="settings of the solver")[0])
    figure.legend(handles=handles, loc="outside upper center", ncols=min(6, len(handles)), fontsize=8, frameon=False)
    figure.supxlabel("process seconds per trajectory", fontsize=9)
    figure.supylabel("relative L2 error", fontsize=9)
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _panel(
    axes: Axes,
    title: str,
    points: dict[str, tuple[float, float]],
    results: Sequence[Result],
    looks: dict[str, Look],
) -> None:
    for name, (seconds, error) in points.items():
        axes.plot([seconds], [error], markersize=7 if name in (OWN, MEAN) else 5, **looks[name].style)
    least = _BELOW * min((error for _, error in points.values()), default=0.0)
    solver = solver_front(results, least)
    if solver:
        axes.plot(*zip(*solver, strict=True), "x-", color=GREY, markersize=4, linewidth=0.8, zorder=1)
    axes.set(xscale="log", yscale="log")
    axes.set_title(title, fontsize=8)
    axes.tick_params(labelsize=7)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=4))
        axis.set_minor_formatter(NullFormatter())
    for low, high, widen in ((*axes.get_xlim(), axes.set_xlim), (*axes.get_ylim(), axes.set_ylim)):
        middle = np.sqrt(low * high)  # at least one and a half decades, so that there are labels
        widen(min(low, middle / 6), max(high, middle * 6))
    axes.grid(alpha=0.25)
