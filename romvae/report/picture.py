"""A figure as the page holds it: a data address with the texts that explain it."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from matplotlib.figure import Figure

from romvae.plot.style import release, svg, webp

__all__ = ["Maps", "Picture", "as_picture", "data_address"]

# A map of a rough field that would be larger than this many bytes is drawn coarser.
_MAP_BYTES = 45_000


@dataclass(frozen=True)
class Picture:
    """A figure as a data address, with its texts."""

    source: str
    alt: str
    title: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Maps:
    """Pictures that stand side by side under one title and caption."""

    title: str
    pictures: tuple[Picture, ...]
    caption: str = ""


def as_picture(figure: Figure, title: str, caption: str, alt: str, *, as_map: bool = False) -> Picture:
    """Save a figure and release it.

    Arguments:
        figure: What to save; it is empty afterwards.
        title: Heading.
        caption: How to read it.
        alt: What a reader who cannot see it should know.
        as_map: As WebP rather than as SVG, which would be large for a map.
    """
    if as_map:
        content, kind = webp(figure), "image/webp"
        if len(content) > _MAP_BYTES:
            content = webp(figure, dpi=130.0, quality=70)
    else:
        content, kind = svg(figure), "image/svg+xml"
    release(figure)
    return Picture(data_address(content, kind), alt, title, caption)


def data_address(content: bytes, kind: str) -> str:
    """A `data:` address, so that the page needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
