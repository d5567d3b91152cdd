"""Many small fields side by side, on one colour scale: samples, traversals, interpolations, the latent plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from romvae.plot.style import INK, RC, new_figure, plain, with_units
from romvae.schema import SPACE

__all__ = ["gallery", "manifold", "traversal"]

_GAP = 0.08
"""Empty share of a cell, so that neighbours do not touch."""


@matplotlib.rc_context(RC)
def gallery(rows: Mapping[str, xr.DataArray], across: str | None = None) -> Figure:
    """Fields in rows: a name for each row, a column for each entry of the first dim, one scale for all.

    Fields of one space dim are lines, of two dims maps; of three, their middle planes are shown.

    Arguments:
        rows: Name of the row to fields `(column, [z,] [y,] x)`, all on one grid. The row's first field decides the
            label of the scale.
        across: What the columns are, as the axis label; None takes the name of the dim.
    """
    first = next(iter(rows.values()))
    dim = str(first.dims[0])
    cells = np.stack([_flat(field).values for field in rows.values()])
    columns = first[dim].values if dim in first.coords else np.arange(first.shape[0])
    return _drawn(cells, first, list(rows), [_label(v) for v in columns], across or plain(dim), "")


@matplotlib.rc_context(RC)
def traversal(fields: xr.Dataset, field: str) -> Figure:
    """What each latent does: one row per latent, moved away from a snapshot's code from left to right.

    Arguments:
        fields: From `romvae.latent.traverse`.
        field: Name of the field.
    """
    values = _flat(fields[field], lead=2)
    rows = [f"z{int(i)}" for i in fields["latent"].values]
    columns = [_label(v) for v in fields["position"].values]
    return _drawn(values.values, fields[field], rows, columns, "offset from the snapshot's code", "latent")


@matplotlib.rc_context(RC)
def manifold(fields: xr.Dataset, field: str) -> Figure:
    """Fields over a plane of two latents, at equal quantiles of the standard normal.

    Arguments:
        fields: From `romvae.latent.manifold`.
        field: Name of the field.
    """
    first, second = fields.attrs.get("latents", (0, 1))
    values = _flat(fields[field], lead=2).values[::-1]  # the first latent grows upwards
    rows = [_label(v) for v in fields["row"].values[::-1]]
    columns = [_label(v) for v in fields["column"].values]
    return _drawn(values, fields[field], rows, columns, f"latent z{int(second)}", f"latent z{int(first)}")


def _flat(field: xr.DataArray, lead: int = 1) -> xr.DataArray:
    """At most two space dims: the middle of the others."""
    space = field.dims[lead:]
    return field.isel({name: field.sizes[name] // 2 for name in space[:-2]})


def _drawn(
    cells: np.ndarray, field: xr.DataArray, rows: Sequence[str], columns: Sequence[str], across: str, up: str
) -> Figure:
    """The figure around the cells `(row, column, [y,] x)`."""
    high, wide = len(rows), len(columns)
    flat = cells.ndim == 3
    tall = 1.0 if flat else _tallness(field, cells)
    width = min(7.2, 1.1 + 0.95 * wide)
    figure, (axes,) = new_figure(width, max(1.6, 0.9 + (width - 1.0) / wide * tall * high))
    finite = cells[np.isfinite(cells)]
    low, top = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if not top > low:
        low, top = low - 0.5, top + 0.5
    unit = with_units(field.name if field.name is not None else "field", field.attrs.get("units"))
    if flat:
        _lines(axes, cells, low, top)
        axes.set_title(f"{unit}: each line from {low:.3g} to {top:.3g}", loc="left")
    else:
        signed = low < 0 < top
        limit = max(-low, top)
        image = _maps(axes, cells, ("RdBu_r", -limit, limit) if signed else ("viridis", low, top))
        bar = figure.colorbar(image, ax=axes, location="right", fraction=0.03, pad=0.02)
        bar.ax.yaxis.set_major_locator(MaxNLocator(5))
        bar.set_label(unit)
    axes.grid(False)
    every = max(1, wide // 9)
    axes.set_xticks((np.arange(wide) + 0.5)[::every], list(columns)[::every])
    axes.set_yticks(np.arange(high) + 0.5, [plain(row, 18) for row in rows])
    axes.set(xlim=(0, wide), ylim=(high, 0), xlabel=across, ylabel=up)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def _tallness(field: xr.DataArray, cells: np.ndarray) -> float:
    """Height over width of a cell: the true shape of the domain, unless that is a strip."""
    names = [str(name) for name in field.dims[-2:]]
    ratio = cells.shape[2] / cells.shape[3]
    if all(name in SPACE and name in field.coords and field.sizes[name] > 1 for name in names):
        spans = [float(np.ptp(field[name].values)) for name in names]
        ratio = spans[0] / spans[1] if min(spans) > 0 else ratio
    return float(np.clip(ratio, 0.4, 2.5))


def _lines(axes: Axes, cells: np.ndarray, low: float, top: float) -> None:
    """A line per cell, with the level of zero where the values cross it."""
    high, wide, points = cells.shape
    x = np.linspace(_GAP, 1 - _GAP, points)
    scaled = 1 - _GAP - (1 - 2 * _GAP) * (cells - low) / (top - low)  # the axis points downwards
    at = [np.column_stack([x + k, scaled[i, k] + i]) for i in range(high) for k in range(wide)]
    if low < 0 < top:
        zero = 1 - _GAP + (1 - 2 * _GAP) * low / (top - low)
        axes.hlines(np.arange(high) + zero, 0, wide, color="#d5d9de", lw=0.7)
    axes.vlines(np.arange(1, wide), 0, high, color="#eceef1", lw=0.7)
    axes.add_collection(LineCollection(at, colors=INK, linewidths=1.1))


def _maps(axes: Axes, cells: np.ndarray, colours: tuple[str, float, float]) -> matplotlib.image.AxesImage:
    """All cells as one picture with gaps."""
    high, wide, ny, nx = cells.shape
    py, px = max(1, round(_GAP * ny)), max(1, round(_GAP * nx))
    whole = np.full((high * (ny + py), wide * (nx + px)), np.nan)
    for i in range(high):
        for k in range(wide):
            top, left = i * (ny + py) + py // 2, k * (nx + px) + px // 2
            whole[top : top + ny, left : left + nx] = cells[i, k, ::-1]
    name, low, top_value = colours
    return axes.imshow(
        whole, cmap=name, vmin=low, vmax=top_value, extent=(0, wide, high, 0), aspect="auto", interpolation="nearest"
    )


def _label(value: object) -> str:
    """A coordinate in a few characters."""
    if isinstance(value, (float, np.floating)):
        return f"{value:.2g}".replace("-", "−")
    return plain(value, 10)
