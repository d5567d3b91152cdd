"""One look for all figures: colours that colour-blind readers can tell apart, fonts, and how to save."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

__all__ = [
    "BASELINE_STYLES",
    "DECODER",
    "DYNAMICS",
    "GREY",
    "INK",
    "RC",
    "ROM",
    "TRUTH",
    "baseline_title",
    "encode_webp",
    "new_figure",
    "plain",
    "release",
    "svg",
    "units_text",
    "webp",
    "with_units",
]

# The palette of Okabe and Ito (2008), which readers with any common colour blindness can tell apart.
INK: Final = "#1d2530"
GREY: Final = "#6b7480"
TRUTH: Final = "#1d2530"
ROM: Final = "#0072b2"
DECODER: Final = "#e69f00"
DYNAMICS: Final = "#56b4e9"
# A baseline is told apart by colour, by line style and by marker: any one of them is enough.
BASELINE_STYLES: Final[tuple[tuple[str, str, str], ...]] = (
    ("#d55e00", "--", "o"),
    ("#009e73", "-.", "s"),
    ("#cc79a7", ":", "^"),
    ("#8a6d00", "--", "D"),
    ("#6b7480", "-.", "v"),
    ("#5e3c99", ":", "P"),
    ("#a50026", "--", "X"),
    ("#1b7837", "-.", "<"),
    ("#b35806", ":", ">"),
    ("#35978f", "--", "*"),
)

# Matplotlib settings inside which every function of this package works; the user's own are left alone.
RC: Final[dict[Any, Any]] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 10.0,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "text.color": INK,
    "text.parse_math": False,
    "text.usetex": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # the reader's machine need not have our font
    "svg.hashsalt": "romvae",  # the same figure gives the same bytes
    "path.simplify": True,
}

_BASELINE_TITLES: Final[Mapping[str, str]] = {
    "vae": "Autoencoder ROM",
    "persistence": "Persistence",
    "climatology": "Climatology",
    "pod_linear": "POD + linear dynamics",
    "pod_linear_free": "POD + linear, any rank",
    "pod_rbf": "POD + radial basis functions",
    "pod_interpolation": "POD + interpolation",  # its name in comparisons of earlier versions
    "pod_gp": "POD + Gaussian processes",
    "pod_network": "POD + network dynamics",
    "dmd": "DMD",
    "opinf": "Operator inference",
    "fno": "Fourier neural operator",
}


_SUPERSCRIPT: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def plain(text: object, length: int = 40) -> str:
    r"""Text from a file as one short printable line, fit for a figure.

    Arguments:
        text: Anything; names of fields and parameters come from files and cannot be trusted.
        length: Longest result, in characters; the rest is cut and marked with an ellipsis.

    >>> plain("velocity\nin x")
    'velocity in x'
    """
    line = "".join(letter if letter.isprintable() else " " for letter in str(text)).strip()
    return line if len(line) <= length else line[: length - 1] + "…"


def with_units(name: object, units: object) -> str:
    """Axis label: `name [units]`, or the name alone where the quantity has no unit.

    >>> with_units("x", "m"), with_units("u", "1")
    ('x [m]', 'u')
    """
    shown = units_text(units)
    return f"{plain(name)} [{shown}]" if shown else plain(name)


def units_text(units: object) -> str:
    """A unit for readers; empty for a dimensionless quantity.

    >>> units_text("m2 s-1"), units_text("1")
    ('m² s⁻¹', '')
    """
    shown = "" if units is None else plain(units, 24)
    if shown == "1":
        return ""
    return re.sub(r"(?<=[A-Za-z])-?\d+\b", lambda power: power[0].translate(_SUPERSCRIPT), shown)


def baseline_title(name: str) -> str:
    """Name of a baseline for readers.

    >>> baseline_title("pod_linear"), baseline_title("my_model")
    ('POD + linear dynamics', 'my model')
    """
    return _BASELINE_TITLES.get(name, plain(name.replace("_", " ")))


def new_figure(width: float = 4.6, height: float = 3.2, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure with its own Agg canvas.

    Arguments:
        width: Of the figure, in inches. The default keeps 10 pt text readable on a phone, where the page
            shrinks the figure to about 330 pixels.
        height: Of the figure, in inches.
        columns: Number of axes side by side.

    Returns:
        The figure and its axes.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
    for each in axes:
        each.grid(True)
    return figure, axes


def release(figure: Figure) -> None:
    """Free what a figure holds. Figures made here are in no global list, so this is all there is to close."""
    figure.clear()


def svg(figure: Figure) -> bytes:
    """The figure as SVG with text as outlines: sharp at any size, the same bytes each time."""
    with matplotlib.rc_context(RC), io.BytesIO() as buffer:
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return buffer.getvalue()


def webp(figure: Figure, dpi: float = 200.0, quality: int = 90) -> bytes:
    """The figure as a WebP picture, for maps with many points, which are too large as SVG."""
    with matplotlib.rc_context(RC):
        figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return encode_webp(np.asarray(canvas.buffer_rgba()), quality)


def encode_webp(pixels: np.ndarray, quality: int) -> bytes:
    """Pixels of shape (height, width, 4), drawn on white, as a WebP picture without transparency."""
    with io.BytesIO() as buffer:
        Image.fromarray(pixels[..., :3]).save(buffer, format="WEBP", quality=quality, method=4)
        return buffer.getvalue()
