"""Inside the model: what the latent dimensions carry, how training went, what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from romvae.plot.style import GREY, RC, ROM, new_figure, plain

__all__ = ["kl_per_dimension", "stage_seconds", "training_curves"]

# Below this a latent dimension tells the decoder nothing that the prior did not say already.
_UNUSED_NATS = 0.1


@matplotlib.rc_context(RC)
def kl_per_dimension(kl: xr.DataArray | np.ndarray) -> Figure:
    """KL divergence from the prior per latent dimension, in nats, the most informative first.

    Arguments:
        kl: Mean over snapshots, shape (latent,).
    """
    figure, (axes,) = new_figure()
    values = np.sort(np.asarray(kl, dtype=float))[::-1]
    used = values > _UNUSED_NATS
    axes.bar(np.arange(1, values.size + 1), values, color=np.where(used, ROM, GREY), width=0.8)
    axes.axhline(_UNUSED_NATS, color=GREY, ls="--", lw=1.2)
    axes.grid(False, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlim(0.4, values.size + 0.6)
    axes.set(xlabel="latent dimension, sorted", ylabel="KL from prior [nats]")
    axes.set_title(f"{int(used.sum())} of {values.size} dimensions in use", loc="left")
    return figure


@matplotlib.rc_context(RC)
def training_curves(history: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Loss over optimiser steps, one small axes per stage, since the stages' losses are not comparable.

    Arguments:
        history: Per stage one or more curves of the same length (`loss`, `validation`, ...), and `step`,
            the step of each value (1, 2, ... where absent). Long curves are shown as means over a few steps.
    """
    stages = {name: curves for name, curves in history.items() if any(len(each) > 1 for each in curves.values())}
    figure, panels = new_figure(4.6, 0.6 + 1.35 * max(1, len(stages)), columns=1)
    panels[0].remove()
    for row, (name, curves) in enumerate(stages.items()):
        axes = figure.add_subplot(len(stages), 1, row + 1)
        axes.grid(True)
        lines = {key: _thin(np.asarray(values, float)) for key, values in curves.items() if key != "step"}
        length = max(len(values) for values in curves.values())
        step = _thin(np.asarray(curves.get("step", np.arange(1, length + 1)), dtype=float))
        for (key, values), dashes in zip(lines.items(), ("-", "--", ":", "-.") * len(lines), strict=False):
            if values.shape == step.shape:
                axes.plot(step, values, dashes, color=ROM if dashes == "-" else GREY, lw=1.4, label=plain(key))
        finite = np.concatenate([values[np.isfinite(values)] for values in lines.values()] or [np.zeros(0)])
        if finite.size and finite.min() > 0 and finite.max() > 20 * finite.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        elif finite.size:
            # A first step far off the rest would flatten the curve: show the middle 98 %.
            low, high = np.quantile(finite, [0.0, 0.98])
            axes.set_ylim(low - 0.05 * (high - low + 1e-12), high + 0.05 * (high - low + 1e-12))
        axes.set_title(plain(name), loc="left")
        axes.margins(x=0)
        if len(lines) > 1:
            axes.legend(loc="upper right")
        if row == len(stages) - 1:
            axes.set_xlabel("optimiser step")
    return figure


def _thin(values: np.ndarray) -> np.ndarray:
    """Means over equal blocks, so that at most 400 points remain: more cannot be seen and cost space."""
    block = -(-values.size // 400)
    if block <= 1:
        return values
    return np.array([part.mean() for part in np.split(values, np.arange(block, values.size, block))])


@matplotlib.rc_context(RC)
def stage_seconds(seconds: Mapping[str, float]) -> Figure:
    """Wall-clock seconds per stage as bars.

    Arguments:
        seconds: Stage name to seconds, in the order of the stages.
    """
    figure, (axes,) = new_figure(4.6, 0.8 + 0.36 * max(1, len(seconds)))
    names, values = (
        [plain(name.replace("_", " ")) for name in seconds],
        [float(each) for each in seconds.values()],
    )
    bars = axes.barh(np.arange(len(names)), values, color=ROM, height=0.66)
    axes.bar_label(bars, labels=[f"{value:.3g} s" for value in values], padding=3, fontsize=9)
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("wall clock [s]")
    axes.margins(x=0.16)
    return figure
