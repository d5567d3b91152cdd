"""Frames of truth, forecast mean, error and predicted spread for the page's player.

Each panel is drawn once with matplotlib; per frame only the moving artists are drawn onto the saved
background. All frames of a field share their limits, so that a change of colour is a change of value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from romvae.plot.fields import PANEL, TITLES, FieldScale, draw_panel, plane, quantities
from romvae.plot.style import RC, ROM, TRUTH, encode_webp, new_figure, plain, release, with_units

__all__ = ["Panel", "animate", "frame_steps"]

_DPI, _QUALITY = 150.0, 72


@dataclass(frozen=True)
class Panel:
    """One of the pictures that play together: its heading, what it shows, one WebP picture per frame."""

    title: str
    alt: str
    frames: tuple[bytes, ...]


def frame_steps(times: int, most: int) -> np.ndarray:
    """Indices of at most `most` evenly spread times, the first and the last among them.

    >>> frame_steps(101, 5)
    array([  0,  25,  50,  75, 100])
    """
    return np.unique(np.linspace(0, times - 1, min(times, most)).round().astype(int))


@matplotlib.rc_context(RC)
def animate(example: xr.Dataset, field: str, steps: Sequence[int] | np.ndarray) -> list[Panel]:
    """Four panels of one trajectory.

    Arguments:
        example: `truth_`, `mean_`, `std_`, `lower_` and `upper_<field>` of one trajectory.
        field: Name of the field.
        steps: Time index of each frame.

    Returns:
        Truth, forecast mean, error and predicted standard deviation: lines over x for a 1-D field, maps for a
        2-D field and for the middle plane of a 3-D one.
    """
    draw = _lines if example[f"truth_{field}"].ndim == 2 else _maps
    return draw(example, field, np.asarray(steps))


def _maps(example: xr.Dataset, field: str, steps: np.ndarray) -> list[Panel]:
    scale = FieldScale.of(example, field)
    panels = []
    for quantity, values in quantities(example, field).items():
        figure, (axes,) = new_figure(*PANEL)
        image = draw_panel(figure, axes, plane(values, int(steps[0])), quantity, scale)

        def update(step: int, values: xr.DataArray = values, image: AxesImage = image) -> None:
            image.set_data(plane(values, step).values)

        title = TITLES[quantity]
        panels.append(Panel(title, f"Map of {plain(field)}, {title.lower()}", _record(figure, [image], update, steps)))
    return panels


def _lines(example: xr.Dataset, field: str, steps: np.ndarray) -> list[Panel]:
    truth, mean = (example[f"{name}_{field}"].values for name in ("truth", "mean"))
    lower, upper, std = (example[f"{name}_{field}"].values for name in ("lower", "upper", "std"))
    array = example[f"truth_{field}"]
    x_name = str(array.dims[-1])
    x, units = array[x_name].values, array.attrs.get("units")
    scale = FieldScale.of(example, field)
    span = scale.high - scale.low
    value_limits = (scale.low - 0.08 * span, scale.high + 0.08 * span)
    error = mean - truth
    widest = np.abs(np.stack([error, mean - upper, mean - lower]))
    reach = 1.1 * max(scale.deviation, float(np.nanquantile(widest, 0.998)))
    level = f"{100 * float(example.attrs.get('level', 0.9)):.0f} %"

    def panel(
        title: str,
        alt: str,
        limits: tuple[float, float],
        label: str,
        curves: Sequence[tuple[np.ndarray, str, str]],
        band: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Panel:
        figure, (axes,) = new_figure(*PANEL)
        figure.set_layout_engine("none")
        axes.set_position((0.28, 0.19, 0.67, 0.78))
        artists: list[Artist] = []
        shade = None
        if band is not None:
            shade = axes.fill_between(x, band[0][0], band[1][0], color=ROM, alpha=0.25, lw=0)
            artists.append(shade)
        drawn = [axes.plot(x, curve[0], dashes, color=colour, lw=1.6)[0] for curve, colour, dashes in curves]
        artists += drawn
        axes.set(ylim=limits, xlim=(x[0], x[-1]))
        axes.set_xlabel(with_units(x_name, array[x_name].attrs.get("units")), labelpad=1)
        axes.set_ylabel(with_units(label, units), labelpad=1)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_locator(MaxNLocator(5))

        def update(step: int) -> None:
            for line, (curve, _, _) in zip(drawn, curves, strict=True):
                line.set_ydata(curve[step])
            if shade is not None and band is not None:
                shade.set_data(x, band[0][step], band[1][step])

        return Panel(title, alt, _record(figure, artists, update, steps))

    return [
        panel(
            "Truth",
            f"Line of the true {field} over {x_name}",
            value_limits,
            field,
            [(truth, TRUTH, "-")],
        ),
        panel(
            f"Forecast mean and {level} interval",
            f"Line of the forecast {field} over {x_name} with its interval shaded",
            value_limits,
            field,
            [(mean, ROM, "-")],
            (lower, upper),
        ),
        panel(
            f"Error and {level} interval",
            f"Line of forecast minus truth over {x_name}, with the predicted interval shaded",
            (-reach, reach),
            "error",
            [(error, TRUTH, "-")],
            (mean - upper, mean - lower),
        ),
        panel(
            "Predicted std",
            f"Line of the predicted standard deviation of {field} over {x_name}",
            (0.0, 1.1 * scale.deviation),
            "std",
            [(std, ROM, "-")],
        ),
    ]


def _record(
    figure: Figure, moving: Sequence[Artist], update: Callable[[int], None], steps: np.ndarray
) -> tuple[bytes, ...]:
    """Draw the still parts once and the moving ones per frame."""
    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # settles the layout with the first frame in place
    figure.set_layout_engine("none")
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    frames = []
    for step in steps:
        canvas.restore_region(background)
        update(int(step))
        for artist in moving:
            figure.draw_artist(artist)
        frames.append(encode_webp(np.asarray(canvas.buffer_rgba()), _QUALITY))
    release(figure)
    return tuple(frames)
