"""Names of axes and components: how the names of a layout become x, y and z."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from romvae.canonical import SPACE
from romvae.errors import AssumptionWarning, SchemaError

__all__ = ["canonical_axes", "cell_centres", "counted", "vector_attrs"]


def canonical_axes(stored: Sequence[str], where: str) -> dict[str, str]:
    """The canonical axis of every axis of a file.

    One to three axes become x, then y, then z. Cartesian ones keep their order (of x and z, z becomes y); others, such
    as `theta, phi`, are taken as they are stored, the fastest as x.

    Arguments:
        stored: Names in the order of the file, slowest first.
        where: What the messages call the file.

    Raises:
        SchemaError: There are none, or more than three.
    """
    if not 1 <= len(stored) <= len(SPACE):
        raise SchemaError(f"{where}: has {len(stored)} spatial axes ({', '.join(stored)}), expected one to three")
    ordered = sorted(stored, key=SPACE.index) if set(stored) <= set(SPACE) else list(stored)
    return dict(zip(ordered, SPACE[-len(stored) :], strict=True))


def vector_attrs(vector: str, component: str, axis: str) -> dict[str, Any]:
    """Attributes of a vector's component along a canonical axis."""
    return {"long_name": f"{vector} {component}", "vector_name": vector, "vector_component": axis}


def cell_centres(size: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Centres of `size` equal cells between two ends."""
    return low + (high - low) * (np.arange(size) + 0.5) / size


def counted(size: int, name: str, where: str) -> np.ndarray:
    """Coordinates where the file has none: 0, 1, 2 and so on, with a warning that says so."""
    warnings.warn(
        f"{where}: has no coordinate {name!r}: counted in steps of one. State it in a mapping file under coordinates",
        AssumptionWarning,
        stacklevel=3,
    )
    return np.arange(size, dtype=np.float64)
