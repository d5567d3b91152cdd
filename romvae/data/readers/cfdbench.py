"""CFDBench: a folder per case with `u.npy`, `v.npy` of (time, y, x) and the settings in `case.json`.

Cases are of different length: the shorter ones are NaN beyond their end, and `n_steps` counts. Obstacles are derived
from the settings: a cylinder around the origin, a barrier from x = 0.5 on.

Limitations: the time step of 0.1 s is the data set's convention and stands in no file; state another one in a mapping.
Coordinates are centres of cells of a box of the stated size. Cases of different size do not share a grid and cannot
be opened together.

References:
    Luo et al. (2023), CFDBench: a large-scale benchmark for machine learning methods in fluid dynamics,
    arXiv:2310.05963.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from romvae.canonical import TIME
from romvae.data.mapping import Mapping
from romvae.data.readers.arrays import npy_array
from romvae.data.readers.axes import cell_centres, vector_attrs
from romvae.data.readers.files import Files, json_file
from romvae.data.readers.part import About, Part
from romvae.data.readers.piece import Piece
from romvae.errors import DataError

__all__ = ["read", "recognises"]

_STEP = 0.1
_BARRIER = 0.5
_GEOMETRY = ("case_no", "dx", "dy", "x_min", "x_max", "y_min", "y_max", "height", "width")


def recognises(files: Files) -> bool:
    """A file `case.json` beside `u.npy` and `v.npy`."""
    return any((path.parent / "u.npy").is_file() and (path.parent / "v.npy").is_file() for path in _cases(files))


def read(files: Files, mapping: Mapping) -> tuple[list[Part], About]:
    """Reads all cases below a folder, in natural order."""
    parts = [_part(path.parent, str(path.parent)) for path in _cases(files)]
    if not parts:
        raise DataError(f"{files.source}: has no case.json, expected one beside u.npy and v.npy. Check the path")
    units = {TIME: "s", "x": "m", "y": "m", "u": "m s-1", "v": "m s-1", "density": "kg m-3", "viscosity": "Pa s"}
    units |= dict.fromkeys(("vel_top", "vel_in", "velocity"), "m s-1")
    units |= dict.fromkeys(("radius", "barrier_height", "barrier_width"), "m")
    attrs = {"u": vector_attrs("velocity", "x", "x"), "v": vector_attrs("velocity", "y", "y")}
    return parts, About("cfdbench", "time, y, x", units, attrs)


def _cases(files: Files) -> list[Path]:
    listed = [path for path in files.paths if path.name == "case.json"]
    return listed or [p / "case.json" for p in files.paths if (p / "case.json").is_file()]


def _part(folder: Path, where: str) -> Part:
    stated = json_file(folder / "case.json", f"{where}/case.json")
    case = {name: _number(name, value, where) for name, value in stated.items()}
    arrays = {name: npy_array(folder / f"{name}.npy", f"{where}/{name}.npy") for name in ("u", "v")}
    shape = arrays["u"].shape
    if len(shape) != 3 or arrays["v"].shape != shape:
        raise DataError(
            f"{where}: u.npy has shape {shape} and v.npy {arrays['v'].shape}, expected (time, y, x) for both. "
            "Copy the case again"
        )
    axes = {"x": _centres(case, "x", "width", shape[2], where), "y": _centres(case, "y", "height", shape[1], where)}
    fields = {name: [Piece(array, (TIME, "y", "x"))] for name, array in arrays.items()}
    parameters = {name: value for name, value in case.items() if name not in _GEOMETRY}
    times = _STEP * np.arange(shape[0])
    return Part(where, fields, times, axes, 1, parameters, inside=_inside(case, axes))


def _number(name: str, value: Any, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"{where}/case.json: {name} is {value!r}, expected a number. Correct the file") from None


def _centres(case: dict[str, float], axis: str, extent: str, size: int, where: str) -> np.ndarray:
    if f"{axis}_min" in case and f"{axis}_max" in case:
        return cell_centres(size, case[f"{axis}_min"], case[f"{axis}_max"])
    if extent in case:
        return cell_centres(size, 0.0, case[extent])
    if f"d{axis}" in case:
        return case[f"d{axis}"] * (np.arange(size) + 0.5)
    raise DataError(
        f"{where}/case.json: has none of {axis}_min, {extent}, d{axis}, expected one. State it in a mapping"
    )


def _inside(case: dict[str, float], axes: dict[str, np.ndarray]) -> np.ndarray | None:
    y, x = np.meshgrid(axes["y"], axes["x"], indexing="ij")
    if "radius" in case:
        return x**2 + y**2 > case["radius"] ** 2
    if "barrier_height" in case and "barrier_width" in case:
        behind = (x >= _BARRIER) & (x < _BARRIER + case["barrier_width"])
        return ~(behind & (y < case["barrier_height"]))
    return None
