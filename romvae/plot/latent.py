"""The latent space in figures: what each latent carries, how many are needed, where the data lie in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from romvae.errors import ConfigError
from romvae.plot.style import BASELINE_STYLES, GREY, RC, ROM, TRUTH, new_figure, plain, units_text, with_units
from romvae.schema import LATENT, TIME, TRAJECTORY

__all__ = ["activity_bars", "interpolation", "latent_size", "latent_trajectories", "projection", "typicality"]

_NATS = 1.0
_SHOWN = 6


@matplotlib.rc_context(RC)
def activity_bars(table: xr.Dataset) -> Figure:
    """Divergence of each latent from the prior, the largest first, with the active ones filled.

    Arguments:
        table: `kl`, `gain` and `active` on the dim `latent`, from `romvae.latent.activity(...).table`.
    """
    figure, (axes,) = new_figure()
    kl = table["kl"].values
    shown, label = (kl, "KL from prior [nats]") if np.isfinite(kl).all() else (table["gain"].values, "ablation gain")
    order = np.argsort(-shown)
    active = table["active"].values[order].astype(bool)
    names = table[LATENT].values[order] if LATENT in table.coords else order
    places = np.arange(shown.size)
    axes.bar(places[active], shown[order][active], color=ROM, width=0.8, label="active")
    if not active.all():
        axes.bar(places[~active], shown[order][~active], color="white", edgecolor=GREY, width=0.8, label="idle")
    if np.isfinite(kl).all():
        axes.axhline(_NATS, color=GREY, ls="--", lw=1.2)
    every = -(-shown.size // 16)
    axes.set_xticks(places[::every], [f"z{int(i)}" for i in names][::every])
    axes.grid(False, axis="x")
    axes.set(xlabel="latent, sorted", ylabel=label, xlim=(-0.6, shown.size - 0.4))
    axes.set_title(f"{int(active.sum())} of {shown.size} latents are active", loc="left")
    if not active.all():
        axes.legend(loc="upper right")
    return figure


@matplotlib.rc_context(RC)
def latent_size(answer: Mapping[str, Any]) -> Figure:
    """Error on held-out trajectories against the size of the code: POD's curve and the sizes that were trained.

    Arguments:
        answer: `latent`, `lower`, `upper`, `pod` and `tried` as `romvae.latent.LatentSize.to_dict` gives them.
    """
    figure, (axes,) = new_figure()
    pod = np.asarray(answer["pod"], float)
    modes = np.arange(1, pod.size + 1)
    shown = modes <= max(int(answer["upper"]) + 2, 8)
    axes.plot(modes[shown], pod[shown], color=GREY, ls="--", marker="o", ms=3, label="POD")
    tried = sorted((int(size), float(found["error"])) for size, found in answer["tried"].items())
    axes.plot(*zip(*tried, strict=True), color=ROM, marker="s", ms=6, label="trained")
    chosen = int(answer["latent"])
    axes.axvline(chosen, color=ROM, lw=1, ls=":", label="chosen")
    lower = answer.get("lower")
    if lower is not None and np.isfinite(lower):
        axes.axvspan(0, float(lower), color="#eceef1", lw=0, label="below the data's dimension")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlim(0, float(modes[shown][-1]) + 0.5)
    axes.set(xlabel="size of the code", ylabel="error, of the field's deviation")
    axes.set_title(f"{chosen} latents chosen", loc="left")
    axes.legend(loc="upper right")
    return figure


@matplotlib.rc_context(RC)
def interpolation(errors: xr.Dataset) -> Figure:
    """Error of going halfway in the code, at the true states in between, against going halfway in the field.

    Arguments:
        errors: `latent`, `field` and `encoding` on `time` (steps from the first end), from
            `romvae.latent.interpolation_error`.
    """
    figure, (axes,) = new_figure()
    lines = {
        "field": ("between the fields", BASELINE_STYLES[0][0], "--"),
        "latent": ("between the codes", ROM, "-"),
        "encoding": ("code of the true state", TRUTH, ":"),
    }
    for name, (label, colour, dashes) in lines.items():
        axes.plot(errors[TIME], errors[name], color=colour, ls=dashes, marker="o", ms=3, label=label)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set(xlabel="stored steps from the first end", ylabel="relative error")
    figure.legend(loc="outside lower center", ncols=2, handlelength=1.6, columnspacing=1.0)
    return figure


@matplotlib.rc_context(RC)
def projection(codes: xr.Dataset, colour: str = TIME) -> Figure:
    """Codes on their two leading principal axes, one line per trajectory, coloured by a quantity.

    Arguments:
        codes: From `romvae.latent.project`.
        colour: `time`, `error`, or the name of a parameter.

    Raises:
        ConfigError: There is no such quantity.
    """
    figure, (axes,) = new_figure(4.8, 3.6)
    values, label = _colour(codes, colour)
    for i in range(codes.sizes[TRAJECTORY]):
        one = codes.isel({TRAJECTORY: i})
        axes.plot(one["first"], one["second"], color="#d5d9de", lw=0.7, zorder=1)
    many = codes["first"].size
    drawn = axes.scatter(
        codes["first"].values.ravel(),
        codes["second"].values.ravel(),
        c=values.ravel(),
        cmap="viridis",
        s=16 if many < 800 else 6,
        linewidths=0,
        rasterized=many > 400,  # thousands of vector markers would make the page large
        zorder=2,
    )
    bar = figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label(label)
    bar.ax.yaxis.set_major_locator(MaxNLocator(5))
    shares = [*codes.attrs.get("share", []), 0.0, 0.0] if np.ndim(codes.attrs.get("share", [])) else [1.0, 0.0]
    for axis, name, share in ((axes.set_xlabel, "first", shares[0]), (axes.set_ylabel, "second", shares[1])):
        axis(f"{name} principal axis ({100 * float(share):.0f} % of the codes' variance)", fontsize=9)
    return figure


def _colour(codes: xr.Dataset, name: str) -> tuple[np.ndarray, str]:
    """Values on `trajectory, time`, and what to call them."""
    if name not in codes.variables:
        known = [str(n) for n in (*codes.coords, "error") if str(n) != TRAJECTORY]
        raise ConfigError(f"projection: no {name!r} to colour by. Expected one of {', '.join(known)}.")
    array = codes[name]
    values = array.broadcast_like(codes["first"]).transpose(*codes["first"].dims).values
    text = "reconstruction error" if name == "error" else with_units(name, array.attrs.get("units"))
    return np.asarray(values, dtype=float), text


@matplotlib.rc_context(RC)
def latent_trajectories(latent: xr.DataArray) -> Figure:
    """The paths that trajectories take in the code: one panel per latent, one line per trajectory.

    Arguments:
        latent: Codes `(trajectory, time, latent)`; at most six latents, in the order given, are drawn.
    """
    names = latent[LATENT].values if LATENT in latent.coords else np.arange(latent.sizes[LATENT])
    count = min(_SHOWN, latent.sizes[LATENT])
    columns = min(3, count)
    rows = -(-count // columns)
    figure, (first,) = new_figure(4.8, 0.5 + 1.5 * rows)
    first.remove()
    share = None
    for k in range(count):
        axes = figure.add_subplot(rows, columns, k + 1, sharex=share, sharey=share)
        share = axes
        axes.grid(True)
        lines = latent.isel({LATENT: k}).transpose(TIME, TRAJECTORY)
        axes.plot(lines[TIME], lines.values, lw=0.8, alpha=0.7, color=ROM)
        axes.set_title(f"z{int(names[k])}", loc="left", pad=2)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(labelbottom=k + columns >= count, labelleft=k % columns == 0)
        axes.margins(x=0)
    unit = units_text(latent[TIME].attrs.get("units"))
    figure.supxlabel(f"time [{unit}]" if unit else "time", fontsize=10)
    figure.supylabel("latent", fontsize=10)
    return figure


@matplotlib.rc_context(RC)
def typicality(p_values: Mapping[str, xr.DataArray | np.ndarray]) -> Figure:
    """Histogram of conformal p-values: flat for data like the calibration's, near zero for foreign ones.

    Arguments:
        p_values: Name of the data to their p-values, from `romvae.latent.Typicality.p_value`; two or three sets.
    """
    figure, (axes,) = new_figure()
    edges = np.linspace(0, 1, 11)
    colours = (ROM, *(style[0] for style in BASELINE_STYLES))
    for (name, values), colour in zip(p_values.items(), colours, strict=False):
        flat = np.asarray(values, float).ravel()
        heights = np.histogram(flat, edges)[0] / max(1, flat.size)
        axes.stairs(heights, edges, color=colour, lw=1.8, fill=False, label=f"{plain(name)} ({flat.size})")
    axes.axhline(0.1, color=GREY, ls="--", lw=1.2, label="like the calibration")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(xlabel="p-value", ylabel="share of snapshots", xlim=(0, 1), ylim=(0, None))
    figure.legend(loc="outside lower center", ncols=2, handlelength=1.6, columnspacing=1.0)
    return figure
