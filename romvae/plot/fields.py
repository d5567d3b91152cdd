"""Fields: maps of truth, forecast, error and spread on shared scales, and lines with their interval."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator

from romvae.plot.style import RC, ROM, TRUTH, new_figure, with_units
from romvae.schema import SPACE, TIME

__all__ = [
    "FieldScale",
    "PANEL",
    "TITLES",
    "Quantity",
    "draw_map",
    "draw_panel",
    "forecast_maps",
    "interval_lines",
    "map_panel",
    "plane",
    "quantities",
    "spread_parts",
]

# Width and height in inches of a panel: small, so that its text stays readable two in a row on a phone.
PANEL = (2.3, 2.6)
_STEPS = [1, 2, 5, 10]  # of ticks: 0, 0.2, 0.4, never 0, 0.3, 0.6

Quantity = Literal["truth", "mean", "error", "std", "std_decoder", "std_posterior", "std_ensemble"]
TITLES: dict[Quantity, str] = {
    "truth": "Truth",
    "mean": "Forecast mean",
    "error": "Error (forecast − truth)",
    "std": "Predicted std",
    "std_decoder": "Decoder: code too small",
    "std_posterior": "Posterior: initial field unsure",
    "std_ensemble": "Ensemble: networks disagree",
}


@dataclass(frozen=True)
class FieldScale:
    """Limits shared by all pictures of one field, so that equal colours mean equal values.

    Truth and mean share `low` to `high`; error and standard deviation share `deviation`, so that a spread of
    the right size looks as strong as the error.
    """

    low: float
    high: float
    deviation: float

    @classmethod
    def of(cls, example: xr.Dataset, field: str) -> Self:
        """Limits of one field over all times and points of `example`.

        The deviation's limit is the 99.8 % quantile: a few points at a shock would otherwise hide the rest.
        """
        values = np.stack([example[f"truth_{field}"].values, example[f"mean_{field}"].values])
        deviations = np.concatenate([np.abs(values[1] - values[0]).ravel(), example[f"std_{field}"].values.ravel()])
        # The truth sets the scale: a forecast that runs away must not squeeze it into one colour.
        low, high = _range(values[0])
        if low < 0 < high and min(-low, high) > 0.1 * max(-low, high):
            low, high = -max(-low, high), max(-low, high)
        finite = deviations[np.isfinite(deviations)]
        limit = float(np.quantile(finite, 0.998)) if finite.size else 1.0
        return cls(low, high, limit if limit > 0 else 1.0)

    @classmethod
    def of_spread(cls, example: xr.Dataset, field: str) -> Self:
        """The same with the largest predicted standard deviation, over all times, as the limit of the deviation."""
        scale = cls.of(example, field)
        std = example[f"std_{field}"].values
        finite = std[np.isfinite(std)]
        limit = float(np.quantile(finite, 0.998)) if finite.size else 1.0
        return replace(scale, deviation=limit if limit > 0 else 1.0)

    @property
    def signed(self) -> bool:
        """Whether zero is the middle of the field's scale."""
        return self.low == -self.high

    def colours(self, quantity: Quantity) -> tuple[str, Normalize]:
        """Name of the perceptually uniform or diverging colour map of a quantity, and its limits."""
        if quantity == "error":
            return "PuOr_r", Normalize(-self.deviation, self.deviation)
        if quantity.startswith("std"):
            return "magma", Normalize(0.0, self.deviation)
        return ("RdBu_r" if self.signed else "viridis"), Normalize(self.low, self.high)


@matplotlib.rc_context(RC)
def map_panel(values: xr.DataArray, quantity: Quantity, scale: FieldScale) -> Figure:
    """One map with its colour bar, small enough to stand four in a row.

    Arguments:
        values: Two dimensions; the first goes up, the second to the right. For a 1-D field these are time
            and x (a space-time map).
        quantity: What is shown; it decides the colours.
        scale: Limits.
    """
    figure, (axes,) = new_figure(*PANEL)
    draw_panel(figure, axes, values, quantity, scale)
    return figure


@matplotlib.rc_context(RC)
def forecast_maps(example: xr.Dataset, field: str, step: int = -1) -> Figure:
    """Truth, forecast mean, error and predicted standard deviation side by side.

    Arguments:
        example: One trajectory with `truth_<field>`, `mean_<field>` and `std_<field>`.
        field: Name of the field.
        step: Time index, for 2-D and 3-D fields (a 3-D field shows its middle plane); a 1-D field is shown
            for all times at once.
    """
    figure, panels = new_figure(10.0, 2.9, columns=4)
    scale = FieldScale.of(example, field)
    for axes, (quantity, values) in zip(panels, quantities(example, field).items(), strict=True):
        image = draw_map(axes, plane(values, step), quantity, scale)
        axes.set_title(TITLES[quantity])
        colour_bar(figure, axes, image, values, scale, quantity)
    return figure


@matplotlib.rc_context(RC)
def interval_lines(example: xr.Dataset, field: str, step: int) -> Figure:
    """Truth, forecast mean and interval at one lead time, along x through the middle of the other axes.

    Arguments:
        example: One trajectory with `truth_`, `mean_`, `lower_` and `upper_<field>`; attribute `level` is the
            interval's nominal coverage (0.9 where absent).
        field: Name of the field.
        step: Time index.
    """
    figure, (axes,) = new_figure(3.6, 2.9)
    names = ("truth", "mean", "lower", "upper")
    line = {name: _line(example[f"{name}_{field}"]) for name in names}
    x_name = str(line["truth"].dims[-1])
    x = line["truth"][x_name]
    level = float(example.attrs.get("level", 0.9))
    lower, upper = line["lower"].isel({TIME: step}), line["upper"].isel({TIME: step})
    axes.fill_between(x, lower, upper, color=ROM, alpha=0.25, lw=0, label=f"{100 * level:.0f} % interval")
    axes.plot(x, line["truth"].isel({TIME: step}), color=TRUTH, lw=1.6, label="truth")
    axes.plot(x, line["mean"].isel({TIME: step}), color=ROM, ls="--", label="forecast mean")
    low, high = _range(np.stack([line["truth"].values, line["mean"].values]))
    edges = np.stack([line["lower"].values, line["upper"].values])
    if np.isfinite(edges).all():  # where the field hardly moves, the interval is what there is to see
        low, high = min(low, float(np.quantile(edges, 0.1))), max(high, float(np.quantile(edges, 0.9)))
    margin = 0.12 * (high - low)
    axes.set(
        ylim=(low - margin, high + margin),
        xlabel=with_units(x_name, x.attrs.get("units")),
        ylabel=with_units(field, example[f"truth_{field}"].attrs.get("units")),
    )
    axes.margins(x=0)
    figure.legend(loc="outside lower center", ncols=3, handlelength=1.4, columnspacing=1.0)
    return figure


def draw_panel(figure: Figure, axes: Axes, values: xr.DataArray, quantity: Quantity, scale: FieldScale) -> AxesImage:
    """Draw a map and its colour bar at fixed places, so that panels beside each other line up."""
    figure.set_layout_engine("none")
    axes.set_position((0.21, 0.33, 0.74, 0.64))
    image = draw_map(axes, values, quantity, scale)
    colour_bar(figure, axes, image, values, scale, quantity, place=(0.21, 0.13, 0.74, 0.035))
    return image


def quantities(example: xr.Dataset, field: str) -> dict[Quantity, xr.DataArray]:
    """Truth, mean, error (forecast minus truth) and standard deviation of a field, with the field's units."""
    truth, mean = example[f"truth_{field}"], example[f"mean_{field}"]
    std = example[f"std_{field}"]
    found: dict[Quantity, xr.DataArray] = {"truth": truth, "mean": mean, "error": mean - truth, "std": std}
    return {name: values.assign_attrs(truth.attrs) for name, values in found.items()}


def spread_parts(example: xr.Dataset, field: str) -> dict[Quantity, xr.DataArray]:
    """The three parts of the standard deviation and the total, in squares their sum; empty where a part is missing."""
    kinds: tuple[Quantity, ...] = ("std_decoder", "std_posterior", "std_ensemble", "std")
    if not all(f"{kind}_{field}" in example for kind in kinds):
        return {}
    attrs = example[f"truth_{field}"].attrs
    return {kind: example[f"{kind}_{field}"].assign_attrs(attrs) for kind in kinds}


def plane(values: xr.DataArray, step: int = -1) -> xr.DataArray:
    """What a map shows: time and x in 1-D; y and x at one time in 2-D; the middle z at one time in 3-D.

    Arguments:
        values: Dimensions (time, [z,] [y,] x).
        step: Time index, unused in 1-D.

    Returns:
        The two dimensions that go up and to the right.
    """
    if values.ndim == 2:
        return values
    values = values.isel({TIME: step})
    middle = {name: values.sizes[name] // 2 for name in values.dims[:-2]}
    return values.isel(middle)


def draw_map(axes: Axes, values: xr.DataArray, quantity: Quantity, scale: FieldScale) -> AxesImage:
    """Draw a map of `values` (two dimensions, the first goes up) into `axes`.

    Points of a non-uniform grid are drawn at the nearest pixel.
    """
    up, right = (str(name) for name in values.dims)
    rows, columns = _uniform(values[up].values), _uniform(values[right].values)
    colours, limits = scale.colours(quantity)
    image = axes.imshow(
        values.values[np.ix_(rows.index, columns.index)],
        origin="lower",
        extent=(columns.low, columns.high, rows.low, rows.high),
        cmap=colours,
        norm=limits,
        interpolation="nearest",
        aspect=_aspect(values, rows, columns),
    )
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(True)
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=_STEPS))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    axes.set_xlabel(with_units(right, values[right].attrs.get("units")), labelpad=1)
    axes.set_ylabel(with_units(up, values[up].attrs.get("units")), labelpad=1)
    return image


@dataclass(frozen=True)
class _Pixels:
    """Edges of a row of equal pixels, and the grid point that each one shows."""

    index: np.ndarray
    low: float
    high: float


def _uniform(points: np.ndarray) -> _Pixels:
    points = np.asarray(points, dtype=float)
    if points.size == 1:
        return _Pixels(np.zeros(1, int), points[0] - 0.5, points[0] + 0.5)
    half = 0.5 * (points[-1] - points[0]) / (points.size - 1)
    wanted = np.linspace(points[0], points[-1], points.size)
    nearest = np.searchsorted(0.5 * (points[1:] + points[:-1]), wanted)
    return _Pixels(nearest, float(points[0] - half), float(points[-1] + half))


def _aspect(values: xr.DataArray, rows: _Pixels, columns: _Pixels) -> Literal["equal", "auto"]:
    """True shape for maps over space, unless that would be a thin strip."""
    if any(name not in SPACE for name in values.dims):
        return "auto"
    ratio = (rows.high - rows.low) / (columns.high - columns.low)
    return "equal" if 0.4 < ratio < 2.5 else "auto"


def colour_bar(
    figure: Figure,
    axes: Axes,
    image: AxesImage,
    values: xr.DataArray,
    scale: FieldScale,
    quantity: Quantity,
    place: tuple[float, float, float, float] | None = None,
) -> None:
    """Horizontal bar under the map, pointed at the end where values are cut off.

    Arguments:
        figure: Gets the bar.
        axes: Holds the map.
        image: The map.
        values: What is shown at any time; decides which end of the bar is pointed.
        scale: Limits.
        quantity: What is shown.
        place: Left, bottom, width and height as shares of the figure; by default the layout finds room.
    """
    finite = values.values[np.isfinite(values.values)]
    low, high = scale.colours(quantity)[1].vmin, scale.colours(quantity)[1].vmax
    below = bool(finite.size) and low is not None and bool(finite.min() < low - 1e-9)
    above = bool(finite.size) and high is not None and bool(finite.max() > high + 1e-9)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    if place is None:
        bar = figure.colorbar(
            image, ax=axes, location="bottom", extend=extend[below, above], fraction=0.06, pad=0.02, aspect=18
        )
    else:
        bar = figure.colorbar(image, cax=figure.add_axes(place), orientation="horizontal", extend=extend[below, above])
    long_labels = abs(image.get_clim()[1] or 0.0) < 1e-2
    bar.ax.xaxis.set_major_locator(MaxNLocator(2 if long_labels else 3, steps=_STEPS))
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    bar.ax.tick_params(labelsize=8, pad=2)
    bar.set_label(with_units("", values.attrs.get("units")).strip(), fontsize=8, labelpad=1)


def _line(values: xr.DataArray) -> xr.DataArray:
    """Dimensions (time, x): the other axes at their middle."""
    return values.isel({name: values.sizes[name] // 2 for name in values.dims[1:-1]})


def _range(values: np.ndarray) -> tuple[float, float]:
    """Smallest and largest finite value, never equal."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def short(value: float) -> str:
    """A number that fits below a small colour bar: 0.25, 300, but 4e−4 in place of 0.0004.

    >>> short(0.25), short(-4e-4), short(0.0)
    ('0.25', '−4e−4', '0')
    """
    if value == 0 or 1e-2 <= abs(value) < 1e4:
        return f"{value:.4g}".replace("-", "−")
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}".replace("-", "−")
